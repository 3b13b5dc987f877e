"""Continual learning end to end: runs, their measures, costs of training, tables and the section of the page."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from typer.testing import CliRunner

import step
from neurons.errors import StepError
from step import models
from step.api import place_of
from step.cli import app
from step.continual import METRICS
from step.learners.continual import rules, subspaces
from step.learners.continual.operations import OTHER, count_step, counted, price_of_mac, subspace_at
from step.report import build_page, continual, continual_figures
from step.report.collect import collect
from step.report.style import lines_of
from step.results import Results
from step.runner import check, execute
from step.store import Store
from step.suite import load_suite

SUITE = """
title: Two tasks, one after the other
base:
  dataset: {name: permuted-tasks, of: digits, tasks: 2}
  encoder: {name: direct, T: 2}
  model: {name: mlp, hidden: [24]}
  neuron: {name: lif, threshold: 0.3}
  learner: {name: continual, epochs: 3, batch: 32, lr: 0.3}
  protocol: {name: continual, train_samples: 160, measured: 4}
  measure: {samples: 8, batch: 8}
grid:
  learner.method: [sequential, joint, {name: hlop, rows: [16, 8], more: [12, 6]}]
"""
HLOP = "hlop rows=[16, 8] more=[12, 6]"
LAYERS = {"layers.1.linear": (64, 24), "layers.3": (24, 10)}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    path = tmp_path_factory.mktemp("continual") / "tasks.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def folder(suite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    step.run(suite, folder=folder)
    return folder


@pytest.fixture(scope="module")
def results(suite, folder):
    return Results(load_suite(suite), place_of(folder))


def run_of(results, name):
    return next(run for run, label in results.suite.labels.items() if name in label)


def test_measures_follow_from_the_stored_matrix(results):
    found = results.continual
    matrix = found.matrix[found.matrix["network"] == HLOP].pivot(index="learned", columns="task", values="accuracy")
    assert list(matrix.index) == [0, 1, 2]
    metrics = found.metrics.set_index("network")
    assert metrics.at[HLOP, "test_accuracy"] == pytest.approx(matrix.loc[2].mean())
    assert metrics.at[HLOP, "bwt"] == pytest.approx(matrix.loc[2, 1] - matrix.loc[1, 1])
    assert metrics.at[HLOP, "forward_transfer"] == pytest.approx(matrix.loc[1, 2] - matrix.loc[0, 2])
    joint = found.matrix[(found.matrix["network"].str.contains("joint")) & (found.matrix["learned"] == 2)]
    own = np.array([matrix.loc[1, 1], matrix.loc[2, 2]])
    assert metrics.at[HLOP, "intransigence"] == pytest.approx((joint["accuracy"].to_numpy() - own).mean())
    assert results.runs.set_index("network")["intransigence"].notna().sum() == 2
    assert metrics.loc["method=joint", list(METRICS[1:])].isna().all()
    assert len(results.curves.query("name == 'train_loss'")) == 3 * 2 + 3 * 2 + 3


def test_layers_that_are_full_or_unprotected_are_named_once_for_all_seeds(results):
    found = results.continual
    assert continual.warnings(found) == []
    ranks = pd.concat([found.ranks, found.ranks.assign(run="other", seed=1)])
    last = ranks["layer"].eq("layers.3")
    ranks.loc[last, "warnings"] = ranks.loc[last, "task"].map({1: "early", 2: "little is left"})
    assert continual.warnings(replace(found, ranks=ranks)) == [f"{HLOP}, layers.3: little is left."]
    many = pd.concat([ranks.assign(layer=str(n), warnings="full") for n in range(12)])
    said = continual.sentences(replace(found, ranks=many))
    assert said[-1] == "5 more such warnings."
    assert said[-continual.MOST] == f"{HLOP}, 0: full."


def test_inference_is_that_of_the_network_without_lateral_connections(results):
    """Same layers and same dense operations; only the spikes are those of other weights."""
    plain, lateral = (results.records[run_of(results, name)] for name in ("sequential", "hlop"))
    for frame, columns in (
        ("layers", ["layer", "order", "kind", "inputs", "outputs", "weights", "updates"]),
        ("operations", ["layer", "op", "dense", "dense_nominal"]),
    ):
        pd.testing.assert_frame_equal(getattr(plain, frame)[columns], getattr(lateral, frame)[columns])


def test_training_pays_for_lateral_connections_from_the_rows_of_each_task(results):
    training = results.continual.training.set_index(["network", "task", "layer"])
    products = training.xs(HLOP)["product_macs"]
    batch, T = 32, 2
    # the static image goes through the first layer once, and needs no error behind it
    assert products.loc[1].to_dict() == {"layers.1.linear": 2 * batch * 64 * 24, "layers.3": 3 * T * batch * 24 * 10}
    plain = training.xs("method=sequential")
    assert (plain["product_macs"] == products).all()
    assert not plain[["projection_macs", "subspace_macs", "lateral_words"]].any(axis=None)
    lateral = training.xs(HLOP)
    for place, (layer, (n, outputs)) in enumerate(LAYERS.items()):
        first, second = lateral.loc[(1, layer)], lateral.loc[(2, layer)]
        assert (first["frozen"], first["new"], first["projection_macs"]) == (0, (16, 8)[place], 0)
        assert (second["frozen"], second["new"]) == (first["new"], (12, 6)[place])
        frozen = second["frozen"]
        assert second["projection_macs"] == outputs * n * min(2 * frozen, n, 2 * (n - frozen))
        assert second["lateral_words"] == (frozen + second["new"]) * n
        assert second["subspace_macs"] > 0
        assert second["ratio"] == pytest.approx(
            (second["projection_macs"] + second["subspace_macs"]) / second["product_macs"]
        )
        assert second["projection_pJ"] == pytest.approx(4.6 * second["projection_macs"])
    ranks = results.continual.ranks.query("network == @HLOP").pivot(index="task", columns="layer", values="rank")
    assert ranks.loc[1].to_dict() == {"layers.1.linear": 16, "layers.3": 8}
    assert (ranks.loc[2] - ranks.loc[1]).to_dict() == {"layers.1.linear": 12, "layers.3": 6}


@pytest.mark.parametrize("form", ["residual", "rows", "moment"])
def test_hebbian_updates_are_counted_in_the_form_that_runs(form):
    """Against the products of the rule, by hand."""
    n, R, F, K, loops = 16, 5, 3, 4, 5
    learner = subspaces.create("hebbian", n, generator=torch.Generator().manual_seed(0), form=form, iterations=loops)
    for rows in (F, K):
        learner.grow(rows)
        learner.update(torch.rand(20, n))
        learner.merge()
    then = subspace_at(learner, 1)
    assert (then.rank, learner.rank) == (F, F + K)
    by_hand = {
        "residual": 2 * R * n * F + loops * 3 * R * n * K,
        "rows": loops * (2 * R * n * K + R * K * K + 2 * K * n * F + K * K * n),
        "moment": R * n * n + loops * (K * n * n + 2 * K * n * F + 2 * K * K * n),
    }
    assert counted(lambda: then.update(torch.rand(R, n))) == by_hand[form]
    # five passes over all rows, old ones too, as the rule is written
    assert by_hand["residual"] < loops * 3 * R * n * (F + K)


@pytest.mark.parametrize("name", sorted(subspaces.names()))
def test_a_subspace_is_put_back_to_any_of_its_tasks(name):
    learner = subspaces.create(name, 12, generator=torch.Generator().manual_seed(0))
    for seed in range(3):
        learner.grow(2)
        for _ in range(3):
            learner.update(torch.rand(9, 12, generator=torch.Generator().manual_seed(seed)))
        learner.merge()
    kept = {key: value.clone() for key, value in learner.state_dict().items()}
    for task in range(3):
        then = subspace_at(learner, task)
        assert then.rank == sum(learner.partition[:task])
        assert torch.equal(then.frozen, learner.frozen[: then.rank])
        then.update(torch.rand(9, 12))
    assert all(torch.equal(value, kept[key]) for key, value in learner.state_dict().items())


def test_products_of_a_step_are_those_of_every_layer_and_the_network_stays_as_it_is():
    network = models.create("cnn", image_size=8, channels=1, classes=3, neuron="lif", seed=0).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.rand(2, 3, 1, 8, 8)
    found = count_step(network, rules.create("bptt", network, rules.synapses(network)), x)
    for place, (path, layer) in enumerate(rules.synapses(network).items()):
        assert found.macs[path] == (2 if place == 0 else 3) * found.rows[path] * layer.weight.numel()
        assert found.taps[path] == found.rows[path]
    assert found.macs[OTHER] == 0
    assert network.training
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert price_of_mac() == pytest.approx(3.7 + 0.9)


def test_a_run_that_is_interrupted_in_its_second_task_ends_in_the_same_numbers(suite, results, tmp_path):
    spec = results.specs[run_of(results, "hlop")]
    place = place_of(tmp_path)

    def stop(event):
        if event.get("task") == 2 and event["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(spec, "tasks", place, stop)
    learned = []
    execute(spec, "tasks", place, lambda event: learned.append(event.get("task")))
    assert set(learned) - {None} == {2}
    store = Store(place.store)
    timed = ["train_seconds"]
    again, first = (s.metrics([spec.id]).drop(columns=timed) for s in (store, results.store))
    pd.testing.assert_frame_equal(again, first)
    for name in ("matrix", "tasks", "ranks", "training"):
        frames = (s.frames(spec.id, "outcome.")[name] for s in (store, results.store))
        pd.testing.assert_frame_equal(*frames)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "classification"}, "continual does not learn as protocol classification asks; set protocol: "),
        ({"learner": "surrogate-gradient"}, "surrogate-gradient does not learn as protocol continual asks"),
        ({"dataset": "digits"}, "digits is one task"),
        ({"learner.batch": 200}, "larger than the 160 training samples"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(suite, changes, message):
    base = load_suite(suite, {"learner.method": "sequential"}).specs[0].model_dump(exclude={"code"})
    for key, value in changes.items():
        field, _, option = key.partition(".")
        base[field] = {**base[field], option: value} if option else value
    with pytest.raises(StepError, match=re.escape(message)) as error:
        check(step.spec.Spec.parse(base), None)
    assert "\n" not in str(error.value)


def test_show_prints_and_the_page_draws(suite, folder, results, monkeypatch):
    shown = CliRunner().invoke(app, ["show", str(suite), "--folder", str(folder)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    for words in ("BWT, points", "forgetting, points", "Costs of continual learning", "+ projection"):
        assert words in shown.output
    monkeypatch.setattr("step.report.collect._verdicts", lambda results: [])  # they take long and are not looked at
    page = build_page(collect(results))
    section = page[page.index('<section id="continual">') : page.index('<section id="accuracy-energy">')]
    assert section.count("<table") == 2
    figures = json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)[1])
    drawn = [figures[name] for name in re.findall(r'id="(figure-\d+)"', section)]
    # two figures of lines, a matrix for every network, ranks of the one method that has them
    assert [len(figure["data"]) for figure in drawn] == [3, 3, 1, 1, 1, 2]
    for figure in drawn:
        go.Figure(json.loads(re.sub(r"var\(--[a-z-]+\)", "#123456", json.dumps(figure))))
    matrix = results.continual.matrix.query("network == @HLOP and learned > 0")
    assert np.allclose(drawn[4]["data"][0]["z"], 100 * matrix["accuracy"].to_numpy().reshape(2, 2), atol=1e-4)
    bars = drawn[5]["data"]
    assert [bar["x"][0] for bar in bars] == pytest.approx([100 * 16 / 64, 100 * 12 / 64], rel=1e-6)


def test_tables_give_mean_and_spread_and_leave_out_what_no_run_has(results):
    found = results.continual
    metrics = pd.concat([found.metrics, found.metrics.assign(seed=1, bwt=found.metrics["bwt"] - 0.02)])
    table = continual.table(replace(found, metrics=metrics)).set_index("network")
    bwt = 100 * found.metrics.set_index("network").at[HLOP, "bwt"]
    assert table.at[HLOP, "BWT, points"] == f"{bwt - 1:+.2f} ± {2 / 2**0.5:.2f}".replace("-", "−")
    assert table.at["method=joint", "BWT, points"] == "–"
    alone = continual.table(replace(found, metrics=found.metrics.assign(intransigence=np.nan)))
    assert "intransigence, points" not in alone
    dropped = pd.DataFrame(
        {"task": [1, 1, 2], "layer": ["a", "head", "a"], "rank": [2, 3, 6], "capacity": [8, 9, 8]}
    )  # a read-out whose tasks turn out to have heads of their own
    bars = continual_figures.ranks(dropped)
    assert [bar["x"] for bar in bars["data"]] == [[25.0], [50.0]]
    values = pd.DataFrame({"network": "a", "seed": [0, 1], "learned": 1, "accuracy": [0.5, 0.7]})
    (line,) = continual_figures.over_tasks(values, "Accuracy", lines_of(["a"]))["data"]
    assert (line["y"], line["error_y"]["array"]) == ([pytest.approx(60)], [pytest.approx(200**0.5)])
