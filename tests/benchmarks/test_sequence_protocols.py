"""Sequences: data, lengths, and the protocols that read them."""

from __future__ import annotations

import pytest
import torch

import encoders
from benchmarks.datasets import SequenceDataset, SequenceSplit
from benchmarks.protocols import Batches, Classification, Labelling, Regression, Setting
from neurons.errors import DataError, OptionError, ShapeError
from neurons.lengths import at_last_step

T, C, CLASSES = 7, 3, 4


def split(count=40, task="classification", lengths=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, T, C, generator=generator)
    classes = torch.arange(count) % CLASSES
    labels = {
        "classification": classes,
        "labelling": torch.where(torch.arange(T) < T - 2, -100, classes[:, None].expand(count, T)),
        "regression": classes[:, None].float(),
    }[task]
    # the answer stands in the first channel, at the step where it is asked for
    at = torch.full((count,), T) if lengths is None else lengths
    values[torch.arange(count), at - 1, 0] = classes.float()
    values[:, -2, 0] = classes.float() if task == "labelling" else values[:, -2, 0]
    return SequenceSplit(values, labels, lengths=lengths)


def dataset(task="classification", lengths=None, **more):
    parts = {"train": split(task=task, lengths=lengths), "test": split(task=task, lengths=lengths, seed=1), **more}
    return SequenceDataset(
        name="made", classes=1 if task == "regression" else CLASSES, channels=C, image_size=1, source="", licence="",
        note="", steps=T, task=task, **parts,
    )  # fmt: skip


def setting(data):
    return Setting(data, encoders.create("sequence"), data.steps, 0)


class Reader:
    """Knows where the answer stands; ``shift`` spoils it."""

    batch = 8

    def __init__(self, task, shift=0):
        self.task, self.shift, self.lengths = task, shift, []

    def fit(self, train, validation, objective):
        self.parts = (train.samples, validation.samples)
        self.last = objective.last

    def predict(self, x, *, last=False, lengths=None):
        self.lengths.append((len(x), lengths))
        said = x[..., 0] + self.shift
        outputs = said[..., None] if self.task == "regression" else -(said[..., None] - torch.arange(CLASSES)).abs()
        return at_last_step(outputs, lengths) if last else outputs


def test_the_last_step_is_that_of_every_sample():
    lengths = torch.arange(40) % T + 1
    protocol = Classification(readout="last")
    reader = Reader("classification")
    where = setting(dataset(lengths=lengths))
    protocol.check(where, 8)
    assert protocol.run(reader, where).metrics["test_accuracy"] == 1.0
    assert reader.last
    # inputs end with the longest sequence of their batch
    assert all(steps == int(found.max()) for steps, found in reader.lengths)
    assert protocol.run(Reader("classification", shift=1), where).metrics["test_accuracy"] == 0.25


def test_a_mean_over_padding_is_refused():
    with pytest.raises(OptionError, match=r"differ in length.*readout: last"):
        Classification().check(setting(dataset(lengths=torch.full((40,), T))), 8)


def test_labelling_scores_only_what_is_asked():
    found = Labelling().run(Reader("labelling"), setting(dataset("labelling"))).metrics
    assert (found["test_accuracy"], found["test_whole_accuracy"]) == (1.0, 1.0)
    objective = Labelling().objective
    labels = torch.tensor([[-100, 1, 2], [-100, -100, 0]])
    outputs = torch.zeros(3, 2, 3)
    outputs[1, 0, 1] = outputs[2, 0, 0] = outputs[2, 1, 0] = 5.0
    assert objective.judge(outputs, labels).tolist() == [0.5, 1.0]
    by_hand = -torch.log_softmax(outputs, -1)[[1, 2, 2], [0, 0, 1], [1, 2, 0]].mean()
    torch.testing.assert_close(objective.loss(outputs, labels), by_hand)


def test_regression_reads_the_last_step():
    exact = Regression().run(Reader("regression"), setting(dataset("regression"))).metrics
    shifted = Regression().run(Reader("regression", shift=0.5), setting(dataset("regression"))).metrics
    assert exact["test_mse"] == 0
    assert exact["test_r2"] == 1
    assert shifted["test_mse"] == pytest.approx(0.25)
    assert shifted["test_mae"] == pytest.approx(0.5)


def test_data_bring_their_own_validation_split():
    reader = Reader("classification")
    Classification(readout="last").run(reader, setting(dataset(validation=split(12, seed=2))))
    assert reader.parts == (40, 12)
    Classification(readout="last").run(reader, setting(dataset()))
    assert reader.parts == (36, 4)


def test_a_protocol_refuses_data_for_another():
    with pytest.raises(OptionError, match="made is for labelling, which classification does not ask"):
        Classification().check(setting(dataset("labelling")), 8)
    with pytest.raises(OptionError, match="which regression does not ask"):
        Regression().check(setting(dataset()), 8)


@pytest.mark.parametrize("bad", [[0] * 40, [T + 1] * 40, [1] * 39, [1.0] * 40])
def test_lengths_that_do_not_fit_are_refused(bad):
    with pytest.raises(ShapeError, match=r"lengths must be 40 whole numbers from 1 to 7"):
        split(lengths=torch.full((40,), T)).__class__(torch.zeros(40, T, C), torch.zeros(40), lengths=torch.tensor(bad))


def test_data_that_do_not_fit_their_task_are_refused():
    with pytest.raises(DataError, match=r"train labels must be 0 to 3, found 0 to 9"):
        dataset(train=SequenceSplit(torch.zeros(10, T, C), torch.arange(10)))
    with pytest.raises(DataError, match="floating-point numbers of 2 dimensions"):
        dataset("regression", test=SequenceSplit(torch.zeros(10, T, C), torch.arange(10)))
    with pytest.raises(DataError, match=r"shape \[7, 3\], not \[7, 2\]"):
        dataset(test=SequenceSplit(torch.zeros(4, T, 2), torch.zeros(4, dtype=torch.long)))
    with pytest.raises(ShapeError, match="with N labels"):
        SequenceSplit(torch.zeros(4, T, 2), torch.zeros(5))


def test_lengths_follow_their_samples_through_shuffling():
    lengths = torch.arange(40) % T + 1
    data = split(lengths=lengths)
    data.values[:, :, 1] = torch.arange(40)[:, None].float()
    batches = Batches(data, torch.arange(5, 40), encoders.create("sequence"), T, 8, True, 3)
    for epoch in range(2):
        seen = []
        for x, labels, found in batches.items(epoch):
            number = x[0, :, 1].long()
            assert torch.equal(found, lengths[number])
            assert torch.equal(labels, data.labels[number])
            seen += number.tolist()
        assert len(set(seen)) == len(seen) >= 32
