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


EVERYTHING = {
    "crop_padding": 1, "flip": 0.5, "auto_augment": "randaugment", "randaugment_std": 0.5, "erase": 0.3,
    "mixup": 0.5, "cutmix": 1.0, "mixup_off_epoch": 2, "ema": 0.9, "layer_decay": 0.7, "loss": "tet",
    "accumulate": 2, "checkpoint": True, "precision": "float16", "cooldown": 1, "warmup_lr": 1e-4, "optimiser": "lamb",
}  # fmt: skip


def test_a_resumed_run_is_exact_with_every_option_on(tmp_path):
    whole, outcome = train(tmp_path, name="whole", **EVERYTHING)
    assert len(whole.history) == 4
    for cut in (1, 3):
        with pytest.raises(Stop):
            train(tmp_path, name=f"cut{cut}", stop_after=cut, **EVERYTHING)
        resumed, again = train(tmp_path, name=f"cut{cut}", **EVERYTHING)
        assert again.metrics == outcome.metrics
        for ours, theirs in (
            (resumed.network.state_dict(), whole.network.state_dict()),
            (resumed.average.tensors, whole.average.tensors),
        ):
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        assert resumed.scaler.state_dict() == whole.scaler.state_dict()


def test_the_best_validation_epoch_is_kept(tmp_path):
    learner, _ = train(tmp_path, epochs=4, lr=1e-2)
    accuracies = [epoch["validation_accuracy"] for epoch in learner.history]
    setting = Setting(datasets.load("digits"), encoders.create("rate"), 2, 0)
    protocol = protocols.create("classification", train_samples=160)
    _, held_out = protocol.parts(setting.dataset.train, 0)
    validation = protocol._batches(setting, setting.dataset.train, held_out, 32)
    assert learner._value(validation, protocol.objective) == max(accuracies)


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


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_training_stays_near_float32(tmp_path, precision):
    exact, _ = train(tmp_path, name="float32", epochs=2, neuron="relu", precision="float32")
    learner, _ = train(tmp_path, epochs=2, neuron="relu", precision=precision)
    loss, expected = learner.history[-1]["train_loss"], exact.history[-1]["train_loss"]
    assert loss == pytest.approx(expected, rel=0.02)
    assert loss != expected  # the products were not those of float32


def test_weights_are_saved_and_loaded(tmp_path):
    learner, _ = train(tmp_path, epochs=1)
    learner.save(tmp_path / "w.safetensors")
    other = SurrogateGradient(models.create("spikformer", neuron="plif", seed=9, **TINY), learner.config)
    other.load(tmp_path / "w.safetensors")
    x = torch.rand(2, 3, 1, 8, 8)
    assert torch.equal(other.predict(x), learner.predict(x))
