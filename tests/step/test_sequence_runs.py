"""Suites on sequences, from the file to the page."""

from __future__ import annotations

import math

import pytest

import step
from neurons.errors import OptionError
from step.api import place_of
from step.report.collect import collect
from step.report.page import build_page
from step.report.plots import table
from step.results import Results
from step.runner import check
from step.spec import Spec, SpecError
from step.suite import SuiteError, load_suite

SUITE = """
title: Small networks on small sequences
base:
  dataset: {name: digits-adding, train_pairs: 256, validation_pairs: 64, test_pairs: 64}
  encoder: sequence
  model: {name: elm, memory: 8}
  learner: {name: surrogate-gradient, optimiser: adamax, epochs: 2, batch: 32, lr: 1e-2}
  protocol: {name: classification, readout: last}
  measure: {samples: 8, batch: 8}
grid:
  - model.memory: [4, 8]
    seed: [0, 1]
  - model:
      - {label: LSTM, value: {name: lstm, hidden: 8}}
  - model: [{label: LSNN, value: {name: recurrent-snn, hidden: 8}}]
    neuron: [alif]
plots:
  - {title: Memory, x: model.memory, log: true}
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences")
    path = folder / "tiny.yaml"
    path.write_text(SUITE)
    step.run(path, folder=folder)
    return Results(load_suite(path), place_of(folder))


def test_networks_without_a_neuron_are_no_twins(found):
    kinds = found.networks
    assert kinds["memory=4"] == "other"
    assert kinds["LSNN, alif"] == "spiking"
    assert kinds["LSTM"] == "other"
    runs = found.runs.set_index("network")
    assert set(found.runs["T"]) == {16}
    assert runs.loc["LSNN, alif", "spikes"] > 0
    assert math.isnan(runs["spikes"]["memory=4"].iloc[0])
    assert (found.runs["energy_pJ.op-count"] > 0).all()


def test_a_plot_has_a_point_for_every_run_that_varies_its_field(found):
    ((plot, points),) = found.plots
    assert points[["seed", "x"]].values.tolist() == [[0, 4], [1, 4], [0, 8], [1, 8]]
    by_hand = found.runs.query("network == 'memory=4'")["test_accuracy"].mean()
    assert points.query("x == 4")["y"].mean() == by_hand
    shown = table(plot, points)
    assert list(shown["model.memory"]) == ["4", "8"]
    assert shown["all"][0].startswith(f"{100 * by_hand:.1f} ± ")


def test_the_page_shows_plots_and_names_its_metric(found):
    page = build_page(collect(found))
    assert "Memory" in page
    assert "Test accuracy (%)" in page


def spec(**changes):
    base = {
        "dataset": {"name": "adding-problem", "T": 10, "train_samples": 64, "test_samples": 32},
        "encoder": "sequence", "model": {"name": "elm", "memory": 4}, "protocol": "regression",
    }  # fmt: skip
    return Spec.parse({**base, **changes})


def test_regression_keeps_the_epoch_with_the_lowest_error(tmp_path):
    path = tmp_path / "regression.yaml"
    path.write_text(
        "base:\n  dataset: {name: adding-problem, T: 10}\n  encoder: sequence\n  model: {name: elm, memory: 4}\n"
        "  protocol: {name: regression, train_samples: 256}\n  measure: {samples: 4, batch: 4}\n"
        "  learner: {name: surrogate-gradient, epochs: 4, batch: 32, lr: 5e-2}\n"
    )
    step.run(path, folder=tmp_path)
    results = Results(load_suite(path), place_of(tmp_path))
    curve = results.curves.query("name == 'validation_mse'").set_index("epoch")["value"]
    assert results.runs["best_epoch"].iloc[0] == curve.idxmin()
    assert results.metric == "test_r2"
    assert list(results.networks) == ["elm"]


def test_a_network_without_a_neuron_refuses_one():
    assert spec().neuron == {"name": "identity"}
    with pytest.raises(SpecError, match="neuron: elm has no place for a neuron such as plif; leave it out"):
        spec(neuron="plif")


def test_encoders_and_data_that_do_not_go_together_are_refused(tmp_path):
    with pytest.raises(OptionError, match=r"encoder: the samples of .* are sequences: set encoder: sequence"):
        check(spec(encoder={"name": "direct", "T": 4}), None)
    with pytest.raises(OptionError, match=r"the samples of digits are no sequences: set another encoder"):
        check(spec(dataset="digits", protocol="classification"), None)
    with pytest.raises(SpecError, match=r"has no option 'T'"):
        spec(encoder={"name": "sequence", "T": 4})


@pytest.mark.parametrize(
    ("plots", "message"),
    [
        ("{title: a, x: model.memory}", "plots: a list of plots"),
        ("[{title: a}]", "a plot needs a title and x"),
        ("[{title: a, x: model.memori}]", "did you mean 'model.memory'"),
        ("[{title: a, x: model.memory, line: model}]", "no such key; did you mean 'lines'"),
        ("[{title: a, x: model.memory, log: 3}]", "true or false"),
    ],
)
def test_plots_that_cannot_be_drawn_are_refused(tmp_path, plots, message):
    path = tmp_path / "bad.yaml"
    head = SUITE[: SUITE.index("  - model:\n")]
    path.write_text(f"{head}plots: {plots}\n")
    with pytest.raises(SuiteError, match=message):
        load_suite(path)
