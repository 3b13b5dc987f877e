"""Suites run end to end: results, resume, processes that die, plugins."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

import step
from energy import measure, price
from neurons.errors import StepError
from step.api import place_of, plan
from step.learners import checkpoint
from step.plugins import load_plugin
from step.results import Results
from step.runner import build, check, execute
from step.spec import Spec
from step.suite import load_suite

PLUGIN = '''
import neurons

@neurons.register("my-neuron")
class Mine(neurons.SpikingNeuron):
    """A leak that is subtracted."""

    state = {"v": 0.0}

    def __init__(self, leak=0.05, **options):
        super().__init__(**options)
        self.leak = leak

    def step(self, x, v):
        h = v + x - self.leak
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)
'''


def results(suite, folder):
    return Results(load_suite(suite), place_of(folder))


def test_a_suite_gives_everything_for_every_run(tiny_suite, finished):
    found = results(tiny_suite, finished)
    runs = found.runs
    assert len(runs) == 6
    assert runs["test_accuracy"].between(0, 1).all()
    assert (runs["parameters"] > 0).all()
    spiking = runs[runs["kind"] == "spiking"]
    assert set(spiking["network"]) == {"lif"}
    assert (spiking["spikes"] > 0).all()
    assert (spiking["operations.ac"] > 0).all()
    twins = runs[runs["kind"] == "twin"]
    assert (twins["operations.ac"] == 0).all()
    assert (twins["T"] == 1).all()
    assert (twins.loc[twins["network"] == "relu", "operations.mac_quantised"] == 0).all()
    assert (twins.loc[twins["network"] != "relu", "operations.mac_quantised"] > 0).all()
    for model in ("op-count", "typed-horowitz", "step"):
        assert (runs[f"energy_pJ.{model}"] > 0).all()
    assert set(found.curves["name"]) == {"train_loss", "validation_accuracy", "lr", "seconds"}
    assert found.layers["rate"].between(0, 1).all()
    assert found.missing == 0


def test_stored_weights_and_record_reproduce_the_stored_numbers(tiny_suite, finished):
    """What is in the store is what the saved network does: nothing is carried over by hand."""
    from benchmarks import datasets, protocols
    from benchmarks.protocols import Setting
    from encoders import Direct

    found = results(tiny_suite, finished)
    run, spec = next(iter(found.specs.items()))
    digits = datasets.load("digits")
    network = build(spec, digits).eval()
    weights, _ = checkpoint.read(finished / "runs" / run / "weights.safetensors")
    network.load_state_dict(weights)
    with torch.no_grad():
        images, labels = digits.test.batch(slice(None))
        answers = network(Direct()(images, spec.T)).mean(0).argmax(-1)
    row = found.runs.set_index("run").loc[run]
    assert (answers == labels).double().mean().item() == pytest.approx(row["test_accuracy"], abs=3 / len(labels))
    probe = protocols.create("classification").probe(Setting(digits, Direct(), spec.T, 0), 16, 8)
    again = measure(network, (x for x, _ in probe.epoch()))
    assert again.spikes == pytest.approx(row["spikes"], rel=0.02)
    assert price(again)["total"].sum() == pytest.approx(row["energy_pJ.op-count"], rel=0.02)


def test_finished_runs_are_not_done_again(tiny_suite, finished):
    before = results(tiny_suite, finished).stored()["finished"].tolist()
    events = []
    step.run(tiny_suite, folder=finished, report=lambda run, event: events.append(event))
    assert events == []
    assert results(tiny_suite, finished).stored()["finished"].tolist() == before


def test_the_same_spec_gives_the_same_numbers(tiny_suite, tmp_path):
    suite = load_suite(tiny_suite, {"neuron": "plif", "encoder.name": "rate", "seed": 3})
    rows = []
    for attempt in ("first", "second"):
        torch.manual_seed(hash(attempt) % 1000)  # what happened before must not matter
        execute(suite.specs[0], "tiny", place_of(tmp_path / attempt))
        rows.append(Results(suite, place_of(tmp_path / attempt)).runs.drop(columns=["seconds", "train_seconds"]))
    pd.testing.assert_frame_equal(*rows)


def test_a_killed_run_keeps_what_is_finished_and_goes_on_from_its_last_epoch(tiny_suite, tmp_path):
    """kill -9 in the middle of the second run: the first stays, the second resumes."""
    options = ["--set", "neuron=lif", "--set", "learner.epochs=12", "--folder", str(tmp_path)]
    command = [sys.executable, "-m", "step.cli", "run", str(tiny_suite), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    suite = load_suite(tiny_suite, {"neuron": "lif", "learner.epochs": 12})
    first, second = (tmp_path / "runs" / spec.id / "checkpoint.safetensors" for spec in suite.specs)
    deadline = time.monotonic() + 240
    while not second.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert second.exists()
    assert not first.exists()
    _, facts = checkpoint.read(second)
    done = len(facts["history"])
    assert 1 <= done < 12
    planned = plan(suite, place_of(tmp_path))
    assert [job.spec.id for job in planned.todo] == [suite.specs[1].id]
    epochs = []
    step.run(
        tiny_suite, folder=tmp_path, overrides={"neuron": "lif", "learner.epochs": 12},
        report=lambda run, event: epochs.append(event["epoch"]) if "train_loss" in event else None,
    )  # fmt: skip
    assert epochs == list(range(done + 1, 13))
    assert Results(suite, place_of(tmp_path)).missing == 0
    assert not second.exists()


def test_a_run_that_another_process_is_doing_is_left_to_it(tiny_suite, tmp_path):
    from filelock import FileLock

    spec = load_suite(tiny_suite).specs[0]
    place = place_of(tmp_path)
    folder = place.run_folder(spec.id)
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        assert execute(spec, "tiny", place) == "busy"


def test_one_failing_run_does_not_stop_the_others(tiny_suite, tmp_path):
    overrides = {"neuron": "relu", "learner.lr": [1e-2, 1e30], "learner.clip": None, "learner.warmup": 0.0, "seed": 0}
    with pytest.raises(StepError, match=r"1 of 2 runs failed.*became (nan|inf)"):
        step.run(tiny_suite, folder=tmp_path, overrides=overrides)
    suite = load_suite(tiny_suite, overrides)
    found = Results(suite, place_of(tmp_path))
    assert found.missing == 1
    assert sorted(found.store.runs()["status"]) == ["failed", "finished"]


def test_a_worker_that_dies_is_reported(tiny_suite, tmp_path):
    def murder(run, event):
        if event.get("share"):
            for child in multiprocessing.active_children():
                child.kill()

    with pytest.raises(StepError, match=r"runs failed.*(ended with code|ended before)"):
        step.run(
            tiny_suite, folder=tmp_path, workers=2, overrides={"neuron": "lif", "learner.epochs": 300}, report=murder
        )


def test_a_plugin_neuron_runs_beside_the_others(tiny_suite, tmp_path):
    plugin = tmp_path / "my_neuron.py"
    plugin.write_text(PLUGIN)
    assert len([line for line in PLUGIN.splitlines() if line.strip()]) < 15
    runs = step.run(
        tiny_suite, folder=tmp_path, plugins=[plugin], workers=2,
        overrides={"neuron": ["my-neuron", "relu"], "seed": 0},
    )  # fmt: skip
    mine = runs[runs["network"] == "my-neuron"].iloc[0]
    assert mine["kind"] == "spiking"
    assert mine["energy_pJ.typed-horowitz"] > 0
    spec = load_suite(tiny_suite, {"neuron": "my-neuron", "seed": 0}).specs[0]
    assert set(spec.code) == {"neuron"}  # a changed plugin is another run


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"learner.batch": 5000}, "larger than the .* training samples of digits"),
        ({"model.image_size": 32}, "model.image_size is 32, but digits has 8; leave it out"),
        ({"dataset": "fashion-mnist"}, "step fetch fashion-mnist"),
    ],
)
def test_what_cannot_work_is_found_before_anything_is_written(tiny_suite, tmp_path, monkeypatch, overrides, words):
    monkeypatch.setattr("benchmarks.datasets.roots.search_roots", lambda root=None: [tmp_path / "nowhere"])
    with pytest.raises(StepError, match=words):
        step.run(tiny_suite, folder=tmp_path / "out", overrides=overrides)
    assert not (tmp_path / "out").exists()


def test_every_packaged_suite_on_digits_can_run():
    for spec in load_suite("quick").specs:
        check(spec, None)


def test_the_trace_holds_the_potential_that_met_the_threshold(tiny_suite, finished):
    found = results(tiny_suite, finished)
    run = next(run for run in found.specs if found.suite.labels[run] == "lif")
    tensors, told = checkpoint.read(finished / "runs" / run / "trace.safetensors")
    assert tensors["spikes"].shape == tensors["potential"].shape
    assert torch.equal(tensors["spikes"], (tensors["potential"] >= told["threshold"]).float())
    twin = next(run for run in found.specs if found.suite.labels[run] == "relu")
    assert not (finished / "runs" / twin / "trace.safetensors").exists()


def test_run_returns_a_table(tiny_suite, finished):
    table = step.run(tiny_suite, folder=finished)
    assert isinstance(table, pd.DataFrame)
    assert Path(finished / "results.sqlite").exists()


def test_a_total_without_the_price_of_some_layers_is_marked(tiny_suite, tmp_path):
    from step.report.summary import energy_table, notes, summary

    changes = {"neuron": ["eif", "lif"], "seed": [0], "learner.epochs": 1}
    step.run(tiny_suite, folder=tmp_path, overrides=changes)
    found = Results(load_suite(tiny_suite, changes), place_of(tmp_path))
    table = summary(found).set_index("per inference")
    assert table.loc["energy, typed-horowitz", "eif"].startswith(">")  # no price for an exponential
    assert not table.loc["energy, typed-horowitz", "lif"].startswith(">")
    assert not table.loc["energy, op-count", "eif"].startswith(">")
    by_model = energy_table(found, "model").set_index("model")
    assert by_model.loc["typed-horowitz", "eif"].startswith(">")
    assert any(line.startswith("> before an energy") for line in notes(found))


BROKEN = '''
import neurons

@neurons.register("breaks")
class Breaks(neurons.LIF):
    """Fails as soon as it runs."""

    def run(self, x, state=None):
        raise ZeroDivisionError("nobody expects this")
'''


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_fails_unexpectedly_does_not_stop_the_others(workers, tiny_suite, tmp_path):
    plugin = tmp_path / "breaks.py"
    plugin.write_text(BROKEN)
    changes = {"neuron": ["breaks", "lif"], "seed": [0], "learner.epochs": 1}
    options = {"folder": tmp_path / "results", "overrides": changes, "plugins": [plugin], "workers": workers}
    with pytest.raises(StepError, match=r"1 of 2 runs failed.*ZeroDivisionError: nobody expects this"):
        step.run(tiny_suite, **options)
    assert next((tmp_path / "results").rglob("error.txt")).read_text().startswith("Traceback")
    found = Results(load_suite(tiny_suite, changes), place_of(tmp_path / "results")).runs
    assert found["network"].tolist() == ["lif"]


def test_neurons_that_learn_their_threshold_or_hold_others_leave_a_trace(tiny_suite, tmp_path):
    changes = {"neuron": ["glif", "hd-lif"], "seed": [0], "learner.epochs": 1}
    step.run(tiny_suite, folder=tmp_path, overrides=changes)
    assert len(list(tmp_path.rglob("trace.safetensors"))) == 2


def test_a_changed_attention_of_a_plugin_is_another_run(tmp_path):
    text = """
from step.models.transformer.attention import SpikingSelfAttention, attentions

@attentions.register("mine-{number}")
class Mine(SpikingSelfAttention):
    factor = {factor}
"""
    ids = []
    for factor in (1, 2):
        plugin = tmp_path / f"mine{factor}.py"
        plugin.write_text(text.format(number=factor, factor=factor))
        load_plugin(plugin)
        spec = Spec.parse({"dataset": "digits", "model": {"name": "spikformer", "attention": f"mine-{factor}"}})
        assert set(spec.code) == {"model.attention"}
        ids.append(spec.code["model.attention"])
    assert ids[0] != ids[1]


def test_a_changed_method_rule_or_subspace_of_a_plugin_is_another_run(tmp_path):
    text = """
from step.learners.continual import methods, rules, subspaces

@methods.register("mine-{number}")
class Method(methods.HLOP):
    pass

@rules.register("mine-{number}")
class Rule(rules.BPTT):
    pass

@subspaces.register("mine-{number}")
class Subspace(subspaces.SVD):
    number = {number}
"""
    data, digests = {"dataset": "permuted-tasks", "model": "mlp"}, []
    for number in (1, 2):
        plugin = tmp_path / f"mine{number}.py"
        plugin.write_text(text.format(number=number))
        load_plugin(plugin)
        name = f"mine-{number}"

        parts = ({"method": name}, {"rule": name}, {"method": {"name": "gpm", "subspace": name}})
        found = [Spec.parse({**data, "learner": {"name": "continual", **part}}).code for part in parts]
        assert [set(each) for each in found] == [{"learner.method"}, {"learner.rule"}, {"learner.method.subspace"}]
        digests += {digest for each in found for digest in each.values()}
    assert len(digests) == len(set(digests)) == 2
    assert Spec.parse({**data, "learner": "continual"}).code == {}
