"""Training with surrogate gradients: it learns, resumes exactly, and stops at nonsense."""

import pytest
import torch

import encoders
from benchmarks import datasets, protocols
from benchmarks.protocols import Setting
from neurons.errors import DataError
from step import models
from step.learners import SurrogateGradient, TrainingError

TINY = {"image_size": 8, "channels": 1, "dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 1.0}


class Stop(Exception):
    """Stands for a process that is killed."""


def train(tmp_path, *, name="c", neuron="plif", epochs=3, stop_after=None, encoder="rate", **options):
    def progress(event):
        if "train_loss" in event and event["epoch"] == stop_after:
            raise Stop

    network = models.create("spikformer", neuron=neuron, seed=0, **TINY)
    config = SurrogateGradient.Config(epochs=epochs, batch=32, **options)
    learner = SurrogateGradient(
        network, config, seed=0, checkpoint_file=tmp_path / f"{name}.safetensors", progress=progress
    )
    setting = Setting(datasets.load("digits"), encoders.create(encoder), 2, 0)
    outcome = protocols.create("classification", train_samples=160).run(learner, setting)
    return learner, outcome


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(tmp_path):
    whole, outcome = train(tmp_path, name="whole")
    with pytest.raises(Stop):
        train(tmp_path, name="cut", stop_after=2)
    resumed, again = train(tmp_path, name="cut")
    assert again.metrics == outcome.metrics
    weights, expected = resumed.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    drop = {"seconds"}
    assert [{k: v for k, v in e.items() if k not in drop} for e in resumed.history] == [
        {k: v for k, v in e.items() if k not in drop} for e in whole.history
    ]
    assert [e["seconds"] for e in resumed.history[:2]] != [e["seconds"] for e in whole.history[:2]]


def test_the_best_validation_epoch_is_kept(tmp_path):
    learner, _ = train(tmp_path, epochs=4, lr=1e-2)
    accuracies = [epoch["validation_accuracy"] for epoch in learner.history]
    setting = Setting(datasets.load("digits"), encoders.create("rate"), 2, 0)
    protocol = protocols.create("classification", train_samples=160)
    _, held_out = protocol.parts(setting.dataset.train, 0)
    validation = protocol._batches(setting, setting.dataset.train, held_out, 32)
    assert learner._accuracy(validation, protocol.scores) == max(accuracies)


def test_training_lowers_the_loss(tmp_path):
    learner, _ = train(tmp_path, epochs=6, lr=1e-2, neuron="relu", encoder="direct")
    assert learner.history[-1]["train_loss"] < 0.8 * learner.history[0]["train_loss"]


def test_a_loss_that_is_no_number_stops_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda *a, **k: torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match=r"became nan in epoch 1, batch 1.*lower learner.lr"):
        train(tmp_path)


def test_a_broken_checkpoint_is_named(tmp_path):
    (tmp_path / "c.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="not a readable checkpoint"):
        train(tmp_path)


def test_learning_rate_warms_up_and_follows_a_cosine():
    learner = SurrogateGradient(
        models.create("spikformer", **TINY), SurrogateGradient.Config(epochs=10, warmup=2, lr=1.0, min_lr=0.1)
    )
    assert learner.learning_rate(1) == 0.5
    assert learner.learning_rate(2) == 1.0
    assert learner.learning_rate(6) == pytest.approx(0.55)
    assert learner.learning_rate(10) == pytest.approx(0.1)


def test_norms_biases_and_neurons_do_not_decay():
    network = models.create("spikformer", neuron="plif", **TINY)
    learner = SurrogateGradient(network, SurrogateGradient.Config(weight_decay=0.1))
    decayed, free = learner._optimiser().param_groups
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert all(p.dim() >= 2 for p in decayed["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(network.parameters()))


def test_bfloat16_training_works(tmp_path):
    learner, _ = train(tmp_path, epochs=2, precision="bfloat16")
    assert all(torch.isfinite(p).all() for p in learner.network.parameters())


def test_weights_are_saved_and_loaded(tmp_path):
    learner, _ = train(tmp_path, epochs=1)
    learner.save(tmp_path / "w.safetensors")
    other = SurrogateGradient(models.create("spikformer", neuron="plif", seed=9, **TINY), learner.config)
    other.load(tmp_path / "w.safetensors")
    x = torch.rand(2, 3, 1, 8, 8)
    assert torch.equal(other.predict(x), learner.predict(x))
