"""The classification protocol: splits, batches, scores."""

import pytest
import torch

import encoders
from benchmarks import datasets, protocols
from benchmarks.protocols import Batches, Setting
from neurons.errors import OptionError


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def setting(data, encoder="direct", T=2, seed=0):
    return Setting(data, encoders.create(encoder), T, seed)


def test_validation_is_carved_from_training_by_class_and_follows_the_seed(digits):
    protocol = protocols.create("classification", validation=0.2)
    train, validation = protocol.parts(digits.train, 0)
    assert sorted(torch.cat([train, validation]).tolist()) == list(range(len(digits.train)))
    for label in range(10):
        members = int((digits.train.labels == label).sum())
        assert int((digits.train.labels[validation] == label).sum()) == round(members * 0.2)
    assert torch.equal(protocol.parts(digits.train, 0)[0], train)
    assert not torch.equal(protocol.parts(digits.train, 1)[1], validation)


@pytest.mark.parametrize("encoder", ["direct", "rate"])
def test_an_epoch_depends_on_its_number_alone(digits, encoder):
    def batches():
        return Batches(digits.train, torch.arange(100), encoders.create(encoder), 3, 32, True, seed=5)

    fresh, used = batches(), batches()
    list(used.epoch(0))
    for (x, y), (x_again, y_again) in zip(fresh.epoch(1), used.epoch(1), strict=True):
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)
    first, second = next(fresh.epoch(1)), next(fresh.epoch(2))
    assert not torch.equal(first[1], second[1])


def test_batches_cover_every_sample_but_a_lone_last_one(digits):
    def sizes(count, shuffle):
        batches = Batches(digits.train, torch.arange(count), encoders.create("direct"), 1, 32, shuffle, 0)
        found = [len(y) for _, y in batches.epoch()]
        assert len(found) == len(batches)
        return found

    assert sizes(65, shuffle=True) == [32, 32]  # batch norm cannot normalise one sample
    assert sizes(65, shuffle=False) == [32, 32, 1]
    assert sizes(70, shuffle=True) == [32, 32, 6]


class Oracle:
    """A learner that reads the class off a pixel that the test planted there."""

    batch = 50

    def __init__(self, wrong=()):
        self.wrong, self.fitted = wrong, None

    def fit(self, train, validation, objective):
        self.fitted = (train.samples, validation.samples)

    def predict(self, x, *, last=False, lengths=None):
        classes = (x[0, :, 0, 0, 0] * 16).round().long()
        classes = torch.where(torch.isin(classes, torch.tensor(list(self.wrong), dtype=torch.long)), 0, classes)
        return torch.nn.functional.one_hot(classes, 10).float().expand(len(x), -1, -1)


def planted(data):
    from dataclasses import replace

    def plant(split):
        images = split.images.clone()
        images[:, 0, 0, 0] = split.labels.to(images.dtype)
        return replace(split, images=images)

    return replace(data, train=plant(data.train), test=plant(data.test))


def test_scores_and_confusion_are_those_of_the_answers(digits):
    data = planted(digits)
    protocol = protocols.create("classification")
    perfect = protocol.run(Oracle(), setting(data))
    assert perfect.metrics["test_accuracy"] == 1.0
    assert perfect.metrics["test_samples"] == len(data.test)
    flawed = protocol.run(Oracle(wrong=[3]), setting(data))
    threes = int((data.test.labels == 3).sum())
    assert flawed.metrics["test_accuracy"] == pytest.approx(1 - threes / len(data.test))
    assert flawed.metrics["test_balanced_accuracy"] == pytest.approx(0.9)
    table = flawed.tables["confusion"].set_index(["label", "predicted"])["samples"]
    assert table[3, 0] == threes
    assert table[3, 3] == 0
    assert table.sum() == len(data.test)


def test_the_probe_samples_every_class_of_the_test_split(digits):
    probe = protocols.create("classification").probe(setting(digits), samples=64, batch=16)
    labels = torch.cat([y for _, y in probe.epoch()])
    assert len(labels) == 64
    assert len(labels.unique()) == 10
    assert probe.split is digits.test


def test_what_cannot_work_is_refused_before_anything_runs(digits):
    protocol = protocols.create("classification")
    with pytest.raises(OptionError, match="larger than the 1299 training samples of digits"):
        protocol.check(setting(digits), batch=5000)
    with pytest.raises(OptionError, match="between 0 and 1"):
        protocols.create("classification", validation=1.5)
    from dataclasses import replace

    bright = replace(digits, train=replace(digits.train, full_scale=8.0))
    with pytest.raises(OptionError, match=r"\[0, 1\]"):
        protocol.check(setting(bright), batch=64)


def test_train_samples_limits_training_only(digits):
    protocol = protocols.create("classification", train_samples=200)
    train, validation = protocol.parts(digits.train, 0)
    full, same = protocols.create("classification").parts(digits.train, 0)
    assert len(train) == 200
    assert torch.equal(validation, same)
    assert set(train.tolist()) <= set(full.tolist())
