"""The continual protocol, driven with a learner whose every answer is known beforehand."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import datasets, protocols
from benchmarks.datasets import Split
from benchmarks.datasets.stream import Task, TaskStream
from benchmarks.protocols import Continual, Setting, continual_metrics, intransigence
from encoders import Direct
from neurons.errors import DataError, OptionError, ShapeError

SAMPLES = 10
SCALE = 16.0
# After 0 to 3 tasks, how many of the ten test samples of each task are answered rightly.
PLAN = np.array([[1, 2, 0], [9, 4, 3], [6, 8, 5], [7, 5, 10]])


def split(task: int, classes: int) -> Split:
    """Images whose first three pixels say, in sixteenths, the label, the task and the number of the sample."""
    number = torch.arange(SAMPLES)
    labels = number % classes if classes == 2 else 2 * task + number % 2
    pixels = torch.stack([labels, torch.full_like(number, task), number, torch.zeros_like(number)], 1)
    return Split(pixels.float().reshape(SAMPLES, 1, 2, 2), labels, full_scale=SCALE)


def stream(scenario: str) -> TaskStream:
    classes = 2 if scenario == "domain" else 6
    tasks = [
        Task(f"t{j}", split(j, classes), split(j, classes), None if scenario == "domain" else (2 * j, 2 * j + 2))
        for j in range(3)
    ]
    facts = {"channels": 1, "image_size": 2, "source": "here", "licence": "none", "note": ""}
    return TaskStream.of(tasks, scenario, name="toy", classes=classes, **facts)


def setting(data=None, seed: int = 0) -> Setting:
    return Setting(data or stream("domain"), Direct(), 2, seed)


class Scripted:
    """Answers as ``PLAN`` says; keeps what it was asked and given."""

    batch = 4
    joint = False
    device = torch.device("cpu")

    def __init__(self, classes: int = 2, state: str | None = None) -> None:
        self.network = nn.Sequential(nn.Flatten(2), nn.Linear(4, classes))
        self.classes = classes
        self.done, self.notes = (0, {}) if state is None else json.loads(state)
        self.now = self.done
        self.seen, self.asked, self.fail_at, self.state = [], [], None, state

    def learn(self, number, train, outputs):
        if number == self.fail_at:
            raise KeyboardInterrupt
        x = [(x, labels) for x, labels in train.epoch(0)]
        self.seen.append((number, outputs, torch.cat([labels for _, labels in x]), torch.cat([x for x, _ in x], 1)))
        self.now = 3 if self.joint else number + 1

    def scores(self, x, outputs):
        self.asked.append((self.now, int(SCALE * x[0, 0, 0, 0, 1]), outputs))
        label, task, number = ((SCALE * x[0, :, 0]).flatten(1)[:, place].long() for place in range(3))
        right = number < torch.as_tensor(PLAN)[self.now, task]
        low, high = outputs
        answer = torch.where(right, label, low + (label - low + 1) % (high - low))
        return torch.nn.functional.one_hot(answer, self.classes).float().log()

    def answering(self, outputs):
        return nullcontext()

    def finish(self):
        self.done += 1
        self.state = json.dumps([self.done, self.notes])

    def report(self):
        return [{"layer": "1", "rank": self.now, "capacity": 4, "warnings": ["a", "b"]}] if not self.joint else []


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_the_matrix_is_what_the_learner_answered_and_every_task_is_asked_among_its_outputs(scenario):
    data = stream(scenario)
    learner = Scripted(data.classes)
    outcome = Continual().run(learner, setting(data))
    table = outcome.tables["matrix"]
    assert np.allclose(protocols.matrix_of(table), PLAN / SAMPLES)
    assert [(n, o) for n, o, _, _ in learner.seen] == [(n, data.open_outputs(n, n + 1)) for n in range(3)]
    for learned, task, outputs in learner.asked:
        assert outputs == data.open_outputs(task, max(learned, task + 1))
    assert outcome.metrics["test_accuracy"] == pytest.approx(PLAN[-1].mean() / 10)
    ranks = outcome.tables["ranks"]
    assert list(ranks["rank"]) == [1, 2, 3] == list(ranks["task"])
    assert ranks["warnings"][0] == "a; b"
    tasks = outcome.tables["tasks"]
    assert list(tasks["learning_accuracy"]) == [0.9, 0.8, 1.0]
    assert list(tasks["final_accuracy"]) == [0.7, 0.5, 1.0]
    # four inputs of real numbers at one of two equal time steps or at both, times the outputs
    assert (tasks["macs_final"] == 2 * 4 * data.classes).all()
    assert (tasks["energy_pJ_learned"] > 0).all()


def test_metrics_by_hand():
    found = continual_metrics(PLAN / 10)
    assert found["bwt"] == pytest.approx(((7 - 9) + (5 - 8)) / 2 / 10)
    assert found["forgetting"] == pytest.approx(((9 - 7) + (8 - 5)) / 2 / 10)
    assert found["learning_accuracy"] == pytest.approx((9 + 8 + 10) / 30)
    assert found["forward_transfer"] == pytest.approx(((4 - 2) + (5 - 0)) / 2 / 10)
    assert intransigence(np.array([1.0, 0.9, 0.8]), PLAN / 10) == pytest.approx((0.1 + 0.1 - 0.2) / 3)
    # what was forgotten and learned again was not forgotten in the end
    better = np.array([[0, 0], [0.5, 0.0], [0.9, 0.9]])
    assert continual_metrics(better)["forgetting"] == 0
    assert continual_metrics(better)["bwt"] == pytest.approx(0.4)
    with pytest.raises(ShapeError, match="its last row"):
        continual_metrics(PLAN[:3] / 10)


def test_an_interrupted_run_goes_on_with_the_next_task_and_ends_in_the_same_numbers():
    whole = Continual().run(Scripted(), setting())
    broken = Scripted()
    broken.fail_at = 2
    with pytest.raises(KeyboardInterrupt):
        Continual().run(broken, setting())
    resumed = Scripted(state=broken.state)
    outcome = Continual().run(resumed, setting())
    assert [number for number, *_ in resumed.seen] == [2]
    assert outcome.metrics == whole.metrics
    for name in ("matrix", "ranks"):
        assert outcome.tables[name].equals(whole.tables[name])
    with pytest.raises(DataError, match="delete it to start anew"):
        Continual().run(Scripted(state=json.dumps([2, {}])), setting())


def test_a_joint_learner_gets_the_union_once_and_has_no_more_than_its_last_row():
    learner = Scripted()
    learner.joint = True
    outcome = Continual().run(learner, setting())
    ((number, outputs, labels, x),) = learner.seen
    assert (number, outputs) == (0, (0, 2))
    assert len(labels) == 3 * SAMPLES
    assert x[0, :, 0, 0, 1].unique(return_counts=True)[1].tolist() == [SAMPLES] * 3
    assert set(outcome.metrics) == {"test_accuracy", "test_samples"}
    assert set(outcome.tables["matrix"]["learned"]) == {0, 3}
    assert outcome.tables["tasks"]["learning_accuracy"].isna().all()
    assert "ranks" not in outcome.tables


def test_tasks_are_shuffled_apart_and_few_samples_are_a_choice_of_the_seed():
    """Streams of permuted pixels hold the same images in every task: they must not come in the same order."""

    def order(seed, samples=None):
        learner = Scripted()
        Continual(train_samples=samples).run(learner, setting(seed=seed))
        return [(SCALE * x[0, :, 0, 1, 0]).long().tolist() for *_, x in learner.seen]

    first, second, third = order(0)
    assert sorted(first) == sorted(second) == list(range(SAMPLES))
    assert first != second != third != first
    assert order(0) == [first, second, third]
    few = order(0, 4)
    assert all(len(set(task)) == 4 for task in few)
    assert {tuple(sorted(task)) for task in few} != {tuple(sorted(task)) for task in order(1, 4)}


def test_what_does_not_fit_is_refused_in_one_line():
    digits = datasets.load("digits")
    with pytest.raises(OptionError, match="digits is one task"):
        Continual().check(setting(digits), 4)
    with pytest.raises(OptionError, match="a batch of 16 is larger than the 10 training samples of t0"):
        Continual().check(setting(), 16)
    with pytest.raises(OptionError, match="larger than the 3 training samples"):
        Continual(train_samples=3).check(setting(), 4)
    with pytest.raises(OptionError, match="does not learn one task after another"):
        Continual().run(object(), setting())
    for wrong in ({"train_samples": 1}, {"measured": 0}):
        with pytest.raises(OptionError, match=f"{next(iter(wrong))} must be at least"):
            Continual(**wrong)
    Continual().check(setting(), 10)
