"""Place recognition in reports: stored tables, recall and costs, figures, pictures, the section of the page."""

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
from benchmarks import datasets
from benchmarks.datasets.places import PlaceDataset, along
from neurons.errors import DataError
from step.api import place_of
from step.cli import app
from step.learners import learners
from step.learners.places.templates import Templates
from step.places import place_results
from step.report import build_page, place_pictures, places
from step.report.collect import collect
from step.report.pieces import Plates
from step.report.place_figures import hyperactive, over_places, precision_recall, route, similarity
from step.report.style import lines_of
from step.results import Results
from step.runner import _dataset
from step.suite import load_suite

SUITE = """
title: A hall
base:
  dataset: {name: synthetic-hall-of-tests}
  encoder: {name: view, T: 1}
  learner: templates
  protocol: {name: place-recognition, lengths: [1, 4], tolerances: [0, 1], recall_at: [1, 5], bootstrap: 50, timed: 3}
  measure: {samples: 4, batch: 4}
grid:
  dataset.places: [12, 24]
  learner:
    - {label: ridge, value: {name: ridge}}
    - {label: counted, value: {name: counted-templates-of-tests}}
  seed: [0, 1]
"""
MISSING = []


@datasets.register("synthetic-hall-of-tests")
def hall(places: int = 12, root=None) -> PlaceDataset:
    """Noise for every place, seen again through other noise; the last query shows none of them."""
    if MISSING:
        raise DataError("the hall is closed; open it")
    generator = torch.Generator().manual_seed(places)
    seen = torch.randint(0, 256, (places, 1, 6, 6), generator=generator)
    again = (seen.float() + 110 * torch.randn(seen.shape, generator=generator)).clamp(0, 255)
    queries = torch.cat([again, torch.randint(0, 256, (1, 1, 6, 6), generator=generator).float()]).to(torch.uint8)
    truth = torch.cat([torch.eye(places, dtype=torch.bool), torch.zeros(places, 1, dtype=torch.bool)], dim=1)
    splits = along([seen.to(torch.uint8)], queries, truth)
    return PlaceDataset(
        name="synthetic-hall-of-tests", classes=places, channels=1, image_size=6, **splits, source="tests", note="",
        licence="none", truth=truth, synthetic=True,
    )  # fmt: skip


@learners.register("counted-templates-of-tests")
class Counted(Templates):
    """Templates that say what neurons an ensemble of their size would have."""

    def details(self):
        count = 40
        images = np.arange(count) % 10
        neurons = {"member": 0, "module": np.arange(count) // 20, "neuron": np.arange(count) % 20, "places": 1}
        return {"neurons": pd.DataFrame({**neurons, "images": images.astype(float), "hyperactive": images > 7})}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    path = tmp_path_factory.mktemp("places") / "hall.yaml"
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


@pytest.fixture(scope="module")
def found(results):
    return results.places


@pytest.fixture(scope="module")
def data(results):
    return collect(results)


def test_frames_are_those_that_were_stored(results, found):
    assert found.networks == list(results.networks)
    assert (found.headline, found.lengths, found.tolerances) == ((1, 0), [1, 4], [0, 1])
    assert found.scores.query("metric == 'recall_at_1'").groupby("run").size().eq(4).all()
    assert found.costs["places"].tolist() == [12.0] * 4 + [24.0] * 4
    assert set(found.costs["line"]) == {"ridge", "counted"}
    assert set(found.data.values()) == {f"synthetic-hall-of-tests, places={n}" for n in (12, 24)}
    assert all(found.synthetic.values())
    # what is long is of one run of each network
    assert found.scores["run"].nunique() == 8
    for frame in (found.matches, found.pr, found.similarity):
        assert set(frame["seed"]) == {0}
        assert frame["network"].nunique() == 4
    assert found.neurons.groupby("network").size().tolist() == [40, 40]
    shown = found.matches.query("length == 1")
    stored = results.store.frames(shown["run"].iloc[0], "outcome.")["matches"]
    assert shown[shown["run"] == shown["run"].iloc[0]]["score"].tolist() == stored.query("L == 1")["score"].tolist()


def test_suites_without_places_have_none(results):
    specs = {
        run: spec.model_copy(update={"protocol": {"name": "classification"}}) for run, spec in results.specs.items()
    }
    assert place_results(specs, results.suite.labels, results.suite.cells, results.store) is None


def test_recall_is_mean_and_spread_over_seeds_or_an_interval(found):
    network = found.networks[0]
    scores = found.scores.copy()
    chosen = (scores["network"] == network) & (scores["length"] == 4) & (scores["metric"] == "recall_at_1")
    chosen &= scores["tolerance"] == 1
    assert chosen.sum() == 2
    scores.loc[chosen, "value"] = [0.5, 0.6]
    table = places.table(replace(found, scores=scores)).set_index("network")
    assert list(table.columns) == ["L1 exact", "L1 ±1", "L4 exact", "L4 ±1"]
    assert table.at[network, "L4 ±1"] == f"55.0 ± {100 * 0.1 / 2**0.5:.1f}"
    scores.loc[chosen, ["low", "high"]] = [[0.4, 0.7], [0.4, 0.7]]
    alone = replace(found, scores=scores[scores["seed"] == 0], costs=found.costs[found.costs["seed"] == 0])
    assert places.table(alone).set_index("network").at[network, "L4 ±1"] == "50.0 [40.0, 70.0]"
    interval = "In brackets: 95 % interval of a bootstrap over blocks of neighbouring queries."
    spread = "Mean ± s.d. over seeds."
    assert (interval in places.sentences(alone), spread in places.sentences(alone)) == (True, False)
    assert (interval in places.sentences(found), spread in places.sentences(found)) == (False, True)
    assert any(line.startswith("Synthetic images, made by a program") for line in places.sentences(found))


def test_all_measures_have_names_that_are_used(found):
    table = places.measures(found)
    assert list(table.columns[:4]) == ["network", "L", "tolerance", "R@1"]
    assert {"R@5", "P@100R", "R@100P", "PR AUC", "rejection AUROC", "chance"} <= set(table.columns)
    assert len(table) == 4 * 4
    leading = places.measures(found, (1, 0))
    same = table.query("L == '1' and tolerance == 'exact'").drop(columns=["L", "tolerance"])
    pd.testing.assert_frame_equal(leading, same.reset_index(drop=True))
    row = table.iloc[0]
    own = found.scores[(found.scores["network"] == row["network"]) & (found.scores["length"] == 1)]
    own = own[(own["tolerance"] == 0) & (own["metric"] == "precision_at_100_recall")]
    assert row["P@100R"].startswith(f"{100 * own['value'].mean():.1f}")


def test_costs_are_those_of_the_runs(results, found, data):
    table = places.costs(found, data.summary).set_index("network")
    for network, runs in results.runs.groupby("network"):
        latency, unit = table.at[network, "latency"].split(" ")
        size = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit]
        assert float(latency.replace(",", "")) * size == pytest.approx(runs["latency_seconds"].mean(), rel=0.01)
        assert table.at[network, "memory"].endswith("B")
    energies = data.summary.set_index("network")["energy, op-count"]
    assert table["energy, op-count"].to_dict() == energies.to_dict()
    timed = replace(found, costs=found.costs.assign(map_seconds=9.9999e-4, latency_seconds=75.0))
    assert set(places.costs(timed)["mapping"]) == {"1.00 ms"}
    assert set(places.costs(timed)["latency"]) == {"75.0 s"}
    bare = replace(found, costs=found.costs.assign(latency_seconds=np.nan))
    assert set(places.costs(bare)["latency"]) == {"–"}


def test_growing_maps_are_a_line_for_each_learner(found):
    table = places.scale_table(found)
    assert list(zip(table["network"], table["places"], strict=True)) == [
        (line, count) for line in ("ridge", "counted") for count in ("12", "24")
    ]
    assert {"R@1, L = 1", "R@1, L = 4", "mapping", "latency"} <= set(table.columns)
    small = found.costs["places"] == 12
    alone = replace(found, costs=found.costs[small])
    assert places.scale_table(alone).empty
    values = pd.DataFrame({"line": "a", "places": [10, 10, 200], "value": [0.2, 0.4, 0.1]})
    figure = over_places(values, "R@1 (%)", lines_of(["a"]), percent=True)
    (line,) = figure["data"]
    assert (line["x"], line["y"]) == ([10, 200], pytest.approx([30, 10]))
    assert line["error_y"]["array"] == pytest.approx([100 * 0.2 / 2**0.5, 0])
    assert figure["layout"]["xaxis"]["type"] == "log"


def test_matrix_is_shown_from_its_smallest_to_its_largest_value():
    matrix = pd.DataFrame(
        {"place_first": [0, 0, 3, 3], "query_first": [0, 5, 0, 5], "similarity": [-2.0, 2.0, np.nan, 0.0]}
    )
    (heat,) = similarity(matrix)["data"]
    assert (heat["x"], heat["y"]) == ([0, 5], [0, 3])
    assert heat["z"] == [[0, 100], [None, 50]]
    even = similarity(matrix.assign(similarity=1.0))["data"][0]["z"]
    assert even == [[0, 0], [0, 0]]


def test_curves_step_down_from_the_surest_answer():
    curves = pd.DataFrame(
        {"network": "a", "threshold": [0.1, 0.9, 0.5], "precision": [0.5, 1.0, 0.6], "recall": [0.6, 0.2, 0.4]}
    )
    (line,) = precision_recall(curves, lines_of(["a", "b"]))["data"]
    assert line["x"] == pytest.approx([20, 40, 60])
    assert line["y"] == pytest.approx([100, 60, 50])
    # the area under the steps is the average precision
    steps = np.diff(line["x"], prepend=0) @ np.array(line["y"]) / 1e4
    assert line["line"]["shape"] == "vh"
    assert steps == pytest.approx(0.2 * (1.0 + 0.6 + 0.5))


def test_route_tells_right_from_wrong_and_leaves_out_what_was_not_answered():
    matches = pd.DataFrame(
        {"query": [0, 1, 2, 3], "place": [0, 5, -1, 2], "true_place": [0, 1, 2, -1], "correct_t0": [1.0, 0.0, 0.0, 0.0]}
    )
    true, right, wrong = route(matches, "correct_t0")["data"]
    assert (true["x"], true["y"]) == ([0, 1, 2], [0, 1, 2])
    assert (right["x"], right["y"]) == ([0], [0])
    assert (wrong["x"], wrong["y"], wrong["customdata"]) == ([1, 3], [5, 2], [1, "none"])


def test_hyperactive_neurons_are_counted_apart():
    neurons = pd.DataFrame({"images": [0.0, 0.0, 3.0, 90.0], "hyperactive": [False, False, False, True]})
    kept, removed = hyperactive(neurons)["data"]
    assert (sum(kept["y"]), sum(removed["y"])) == (3, 1)
    assert kept["y"][0] == 2
    assert removed["customdata"][int(np.argmax(removed["y"]))] == "90 to 92"


def test_pictures_are_of_queries_on_which_networks_agree_and_differ():
    right = {0: (1, 1), 1: (1, 1), 2: (1, 1), 3: (1, 0), 4: (0, 0), 5: (0, 0), 6: (0, 0)}
    rows = [
        {"query": q, "length": 1, "place": q if hit else 9, "true_place": q, "network": name, "correct_t0": float(hit)}
        for q, hits in right.items()
        for name, hit in zip("ab", hits, strict=True)
    ]
    rows.append({**rows[0], "query": 7, "true_place": -1})
    pairs = place_pictures.choose(pd.DataFrame(rows), (1, 0), 5)
    assert [pair.query for pair in pairs] == [0, 2, 3, 4, 6]
    assert [[match.right for match in pair.matches] for pair in pairs[1:4]] == [[1, 1], [1, 0], [0, 0]]
    assert place_pictures.choose(pd.DataFrame(rows[-1:]), (1, 0)) == []


def test_pictures_show_the_images_of_the_data_set(data, found):
    sights, own = data.sights, hall(places=12)
    assert [each.data for each in sights] == list(dict.fromkeys(found.data.values()))
    shown = sights[0]
    assert len(shown.pairs) == place_pictures.QUERIES
    for pair in shown.pairs:
        assert np.array_equal(shown.queries[pair.query], own.test.batch([pair.query])[0][0])
        assert np.array_equal(shown.places[pair.true], own.train.batch([pair.true])[0][0])
        assert [match.network for match in pair.matches] == ["ridge", "counted"]
        for match in pair.matches:
            assert match.right == (match.place == pair.true)
    drawn = place_pictures.figures(Plates(), sights, dict.fromkeys(found.synthetic, "Synthetic."))
    assert drawn.count("<figcaption") == 2
    assert drawn.count("as the networks see it</div>") == 2 * place_pictures.QUERIES


def test_without_data_a_line_says_so(results, found, monkeypatch):
    _dataset.cache_clear()
    monkeypatch.setattr("test_place_report.MISSING", [True])
    sights = place_pictures.sights_of(results, found)
    drawn = place_pictures.figures(Plates(), sights, dict.fromkeys(found.synthetic, ""))
    assert "No pictures of synthetic-hall-of-tests, places=12: the hall is closed; open it" in drawn
    assert "<img" not in drawn
    assert "<figure" not in drawn


def test_show_prints_and_the_page_draws(suite, folder, data):
    shown = CliRunner().invoke(app, ["show", str(suite), "--folder", str(folder)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    for words in ("L1 exact", "L4 ±1", "Costs of place recognition", "Synthetic images", "latency", "Growing maps"):
        assert words in shown.output
    page = build_page(data)
    section = re.search(r'<section id="places">.*?</section>', page, re.S)[0]
    captions = re.findall(r"<figcaption>.*?</figcaption>", section, re.S)
    # curves, growing maps, matrices, routes, two data sets of pictures, neurons
    assert len(captions) == 7
    assert all("ynthetic" in caption for caption in captions)
    figures = json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)[1])
    drawn = [figures[name] for name in re.findall(r'id="(figure-\d+)"', section)]
    # two data sets at two lengths, five quantities of growing maps, four matrices, four routes, two histograms
    assert len(drawn) == 4 + 5 + 4 + 4 + 2
    for figure in drawn:
        go.Figure(json.loads(re.sub(r"var\(--[a-z-]+\)", "#123456", json.dumps(figure))))
    heat = drawn[9]["data"][0]
    assert np.array(heat["z"], float).shape == (12, 13)
