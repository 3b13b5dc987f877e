"""Sequence data sets: spoken digits in bins, adding tasks, images as sequences, memory tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import datasets
from benchmarks.datasets import SequenceDataset, Split
from benchmarks.datasets.pixel_sequence import sequences
from benchmarks.datasets.synthetic_adding import SPEAKERS
from benchmarks.datasets.synthetic_speech import Speech
from neurons.errors import DataError, OptionError

SMALL_PAIRS: dict[str, Any] = {"train_pairs": 60, "validation_pairs": 40, "test_pairs": 50}
SMALL_SAMPLES: dict[str, Any] = {"train_samples": 60, "validation_samples": 40, "test_samples": 50}
GENERATED: list[tuple[str, dict[str, Any]]] = [
    ("synthetic-shd-adding", {"takes": 2, "words": 3, **SMALL_PAIRS}),
    ("digits-adding", SMALL_PAIRS),
    ("copy-memory", {"T": 7, **SMALL_SAMPLES}),
    ("adding-problem", {"T": 11, **SMALL_SAMPLES}),
    ("delayed-xor", {"delay": 6, "cue": 4, **SMALL_SAMPLES}),
]


def load(name: str, root: Path | None = None, **options: Any) -> SequenceDataset:
    dataset = datasets.load(name, root, **options)
    assert isinstance(dataset, SequenceDataset)
    return dataset


def whole(split: Any) -> tuple[Tensor, Tensor]:
    return split.batch(slice(None))


# What holds for all that is generated


@pytest.mark.parametrize(("name", "options"), GENERATED)
def test_training_is_new_in_every_epoch_and_evaluation_always_the_same(name: str, options: dict[str, Any]) -> None:
    data, again, other = load(name, **options), load(name, **options), load(name, **options, seed=1)
    assert data.validation is not None
    assert [len(split) for split in data.splits.values()] == [60, 40, 50]
    for split, same in zip(data.splits.values(), again.splits.values(), strict=True):
        values, labels = whole(split)
        assert values.dtype == torch.float32
        assert values.shape == (len(split), data.steps, data.channels)
        assert values.isfinite().all()
        assert torch.equal(labels, split.labels)
        assert all(torch.equal(a, b) for a, b in zip(whole(same), (values, labels), strict=True))
    assert not torch.equal(whole(data.validation)[0], whole(data.test)[0][:40])
    assert not torch.equal(whole(data.test)[0], whole(other.test)[0])
    assert data.test.training(3, 5) is data.test

    epochs = [data.train.training(*key) for key in ((0, 0), (0, 1), (1, 0), (1, 1))]
    drawn = [whole(epoch)[0] for epoch in epochs] + [whole(data.train)[0]]
    for number, values in enumerate(drawn):
        assert not any(torch.equal(values, later) for later in drawn[number + 1 :])
    assert torch.equal(whole(again.train.training(0, 1))[0], drawn[1])

    places = torch.tensor([41, 3, 17])
    part = data.train.subset([0, 41, 3, 17]).subset(slice(1, None))
    for whole_split, subset in ((data.train, part), (epochs[1], part.training(0, 1))):
        expected = whole_split.batch(places)
        for found in (whole(subset), next(iter(whole_split.batches([places])))):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(part.labels, data.train.labels[places])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("synthetic-shd-adding", {"bin": 7}, "dataset.bin must divide the 600 ms of a recording"),
        ("synthetic-shd-adding", {"bin": 0}, "dataset.bin must divide"),
        ("synthetic-shd-adding", {"length": 70_000}, "dataset.length must be at most 65535 ms, not 70000"),
        ("synthetic-shd-adding", {"words": 1}, "dataset.words must be at least 2, not 1"),
        ("synthetic-shd-adding", {"takes": 0}, "dataset.takes must be at least 1, not 0"),
        ("synthetic-shd-adding", {"takes": 1, "test_pairs": 0}, "dataset.test_pairs must be at least 1, not 0"),
        ("synthetic-shd-adding", {"seed": -1}, "dataset.seed must be from 0 to"),
        ("digits-adding", {"by": "column"}, "dataset.by is pixel or row, not 'column'"),
        ("copy-memory", {"T": 0}, "dataset.T must be at least 1, not 0"),
        ("adding-problem", {"T": 1}, "dataset.T must be at least 2, not 1"),
        ("adding-problem", {"seed": -1}, "dataset.seed must be from 0 to"),
        ("delayed-xor", {"channels": 3}, "dataset.channels must be an even number of at least 2, not 3"),
        ("delayed-xor", {"noise": 0.6}, "dataset.noise and dataset.rate must be 0 <= noise < rate <= 1, not 0.6 and"),
        ("delayed-xor", {"train_samples": 0}, "dataset.train_samples must be at least 1, not 0"),
        ("pixel-sequence", {"of": "pixel-sequence"}, "dataset.of: pixel-sequence cannot be made of itself"),
        ("pixel-sequence", {"of": "image-folder"}, "dataset.of: image-folder is not a set of images in memory"),
        ("pixel-sequence", {"of": "copy-memory"}, "dataset.of: copy-memory is not a set of images in memory"),
    ],
)
def test_options_outside_their_domain(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as error:
        datasets.load(name, **options)
    assert "\n" not in str(error.value)


# Spiking Heidelberg Digits

Recording = tuple[list[float], list[int], int]
HAND: Recording = (
    # In half precision: bin edges at 0, 125, 250 and 500 ms exactly, the last time below a second, and 1 s and later.
    [0.0, 0.0078125, 0.125, 0.25, 0.25, 0.25, 0.5, 0.99951171875, 1.0, 1.25],
    [3, 699, 0, 5, 5, 6, 5, 699, 5, 5],
    13,
)


def write(path: Path, recordings: list[Recording], kind: str = "float16") -> None:
    """Write a file in the format of the Heidelberg Spiking Datasets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = (len(recordings),)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", count, h5py.vlen_dtype(np.dtype(kind)))
        units = file.create_dataset("spikes/units", count, h5py.vlen_dtype(np.dtype("uint16")))
        for number, (when, which, _) in enumerate(recordings):
            times[number], units[number] = np.array(when, kind), np.array(which, "uint16")
        file["labels"] = np.array([label for *_, label in recordings], np.uint16)
        file["extra/speaker"] = np.zeros(count, np.uint16)
        file["extra/keys"] = [b"zero", b"one"]


def made(count: int, seed: int) -> list[Recording]:
    random = np.random.default_rng(seed)
    sizes = [0, *random.integers(5, 60, count - 1)]  # one of them is silent
    return [
        ((random.random(size) * 1.3).tolist(), random.integers(0, 700, size).tolist(), int(random.integers(0, 20)))
        for size in sizes
    ]


@pytest.fixture
def shd_root(tmp_path: Path) -> Path:
    write(tmp_path / "shd" / "shd_train.h5", made(40, 0))
    write(tmp_path / "shd" / "shd_test.h5", [HAND, *made(12, 1)])
    return tmp_path


def counted(recording: Recording, bin: int) -> Tensor:
    """Count the spikes of a recording one by one, in whole numbers: half precision is a number of 2**-24 seconds."""
    counts = torch.zeros(1000 // bin, 700)
    for time, unit in zip(np.array(recording[0], np.float16).tolist(), recording[1], strict=True):
        step = int(time * 2**24) * 1000 // (bin * 2**24)
        if step < len(counts):
            counts[step, unit] += 1
    return counts


def test_shd_by_hand(shd_root: Path) -> None:
    data = load("shd", shd_root, bin=125)
    assert (data.steps, data.channels, data.classes, data.dt, data.task) == (8, 700, 20, 125.0, "classification")
    values, label = data.test.batch([0])
    assert label.tolist() == [13]
    spikes = {tuple(place): values[0][tuple(place)].item() for place in values[0].nonzero().tolist()}
    assert spikes == {(0, 3): 1, (0, 699): 1, (1, 0): 1, (2, 5): 2, (2, 6): 1, (4, 5): 1, (7, 699): 1}
    fine = load("shd", shd_root, bin=1).test.batch([0])[0][0]
    assert [step for step, _ in fine.nonzero().tolist()] == [0, 7, 125, 250, 250, 500, 999]
    assert load("shd", shd_root, bin=1000).test.batch([0])[0].sum() == 8
    for name in ("Cramer", "zenkelab.org"):
        assert name in data.source
    assert "40 training and 13 test recordings (the published files hold 8,156 and 2,264)" in data.note


@pytest.mark.parametrize("bin", [1, 4, 10, 500])
def test_shd_counts_every_spike(shd_root: Path, bin: int) -> None:
    data, written = load("shd", shd_root, bin=bin), {"train": made(40, 0), "test": [HAND, *made(12, 1)]}
    held_out = np.random.default_rng(0).binomial(1, 0.2, 40).astype(bool)  # as the released code of the ELM paper
    assert data.validation is not None
    for split, recordings in (
        (data.train, [r for r, out in zip(written["train"], held_out, strict=True) if not out]),
        (data.validation, [r for r, out in zip(written["train"], held_out, strict=True) if out]),
        (data.test, written["test"]),
    ):
        values, labels = whole(split)
        assert labels.tolist() == [label for *_, label in recordings]
        assert torch.equal(values, torch.stack([counted(recording, bin) for recording in recordings]))


def test_shd_times_in_single_precision(shd_root: Path) -> None:
    # 0.01 lies below ten milliseconds in single precision, 0.03 too; 0.02 lies above twenty.
    write(shd_root / "shd" / "shd_test.h5", [([0.01, 0.02, 0.03], [0, 1, 2], 0)], "float32")
    spikes = load("shd", shd_root, bin=10).test.batch([0])[0][0].nonzero().tolist()
    assert [float(np.float32(time)) < time for time in (0.01, 0.02, 0.03)] == [True, True, True]
    assert spikes == [[0, 0], [1, 1], [2, 2]]


def test_shd_adding(shd_root: Path) -> None:
    options: dict[str, Any] = {"bin": 100, "train_pairs": 30, "validation_pairs": 20, "test_pairs": 40}
    data, again = load("shd-adding", shd_root, **options), load("shd-adding", shd_root, **options)
    assert (data.steps, data.channels, data.classes, data.dt) == (20, 700, 19, 100.0)
    assert data.validation is not None
    items = load("shd", shd_root, bin=100).splits
    for name, split in (("validation", data.validation), ("test", data.test), ("train", data.train.training(0, 0))):
        values, labels = whole(split)
        pool, classes = whole(items[name])
        parts = []
        for half in values.split(10, dim=1):
            same = (half[:, None] == pool[None]).flatten(2).all(-1)
            assert (same.sum(1) == 1).all()  # both halves are recordings of that split
            parts.append(classes[same.int().argmax(1)] % 10)
        assert torch.equal(labels, parts[0] + parts[1])
    assert torch.equal(whole(data.test)[0], whole(again.test)[0])
    assert not torch.equal(data.train.training(0, 0).labels, data.train.training(0, 1).labels)
    assert torch.equal(data.train.training(0, 1).labels, again.train.training(0, 1).labels)
    assert "always the same ones" in data.note


def test_default_sizes_are_those_of_the_paper() -> None:
    parameters = datasets.datasets.options("shd-adding")
    assert [parameters[f"{split}_pairs"].default // 8 for split in ("train", "validation", "test")] == [2000, 500, 2000]


@pytest.mark.parametrize("name", ["shd", "shd-adding"])
@pytest.mark.parametrize("bin", [3, 0, -10, 1001])
def test_shd_bins_must_fill_the_second(name: str, bin: int) -> None:
    with pytest.raises(OptionError, match=f"dataset.bin must divide the 1000 ms .* {bin} does not"):
        datasets.load(name, bin=bin)


def test_shd_is_brought_by_hand(empty_machine: Path) -> None:
    for name in ("shd", "shd-adding"):
        with pytest.raises(DataError, match=r"https://zenkelab\.org/datasets"):
            datasets.load(name)
        with pytest.raises(DataError, match=r"cannot be fetched: get shd_train\.h5\.gz and shd_test\.h5\.gz"):
            datasets.fetch(name)
    write(empty_machine / "SHD" / "shd_train.h5", made(40, 0))
    with pytest.raises(DataError, match=r"lacks shd_test\.h5"):
        datasets.load("shd")
    write(empty_machine / "SHD" / "shd_test.h5", made(3, 1))
    assert datasets.where("shd-adding") == empty_machine / "SHD"
    assert len(load("shd").test) == 3


def broken(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def write_broken(path: Path) -> None:
        write(path, made(3, 1))
        with h5py.File(path, "a") as file:
            change(file)

    return write_broken


def without_labels(file: h5py.File) -> None:
    del file["labels"]


def fewer_labels(file: h5py.File) -> None:
    del file["labels"]
    file["labels"] = np.zeros(2, np.uint16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "cannot be read as a file of the Heidelberg"),
        (broken(without_labels), "cannot be read as a file of the Heidelberg Spiking Datasets: .*labels"),
        (broken(fewer_labels), "has 2 labels for 3 lists of times and 3 of units"),
        (lambda path: write(path, []), "holds no recordings"),
        (lambda path: write(path, [([0.5], [700], 0)]), "has spikes of unit 700, but there are 700"),
        (lambda path: write(path, [([0.5], [1, 2], 0)]), "has a recording with 1 times for 2 units"),
        (lambda path: write(path, [([float("nan")], [1], 0)]), "has spike times below 0 or that are not numbers"),
        (lambda path: write(path, [([-0.1], [1], 0)]), "has spike times below 0"),
        (lambda path: write(path, [([0.1], [1], 20)]), "labels must be 0 to 19, found 20 to 20"),
    ],
)
def test_files_that_are_not_right(shd_root: Path, change: Callable[[Path], None], message: str) -> None:
    change(shd_root / "shd" / "shd_test.h5")
    with pytest.raises(DataError, match=message) as error:
        datasets.load("shd", shd_root)
    assert "\n" not in str(error.value)


# Synthetic SHD-Adding


def test_synthetic_labels_are_the_sums_of_the_words() -> None:
    data = load("synthetic-shd-adding", words=3, languages=2, takes=2, **SMALL_PAIRS)
    assert (data.steps, data.channels, data.classes, data.dt) == (120, 64, 5, 10.0)
    for name, split in data.splits.items():
        values, labels = whole(split)
        pool, words = whole(Speech().recordings(6, SPEAKERS[name], 2, 10))
        assert words.tolist() == sorted(words.tolist())
        numbers = []
        for half in values.split(60, dim=1):
            same = (half[:, None] == pool[None]).flatten(2).all(-1)
            assert (same.sum(1) == 1).all()
            numbers.append(words[same.int().argmax(1)])
        assert {int(number) for number in torch.cat(numbers)} == set(range(6))
        assert torch.equal(labels, numbers[0] % 3 + numbers[1] % 3)
    for said in ("not the Spiking Heidelberg Digits", "10 speakers in training, 2 others in validation and 2 others"):
        assert said in data.note


def test_no_speaker_is_in_two_splits() -> None:
    everyone = [speaker for speakers in SPEAKERS.values() for speaker in speakers]
    assert len(everyone) == len(set(everyone)) == 14
    said = [Speech().rates(0, speaker) for speaker in everyone]
    assert len({rates.tobytes() for rates in said}) == 14


def test_the_same_recordings_are_seen_at_every_bin() -> None:
    fine = load("synthetic-shd-adding", words=2, takes=1, bin=1, **SMALL_PAIRS).test
    values, labels = whole(fine)
    assert values.max() > 1  # spikes of a bin add up, at a millisecond already
    for bin in (2, 10, 600):
        coarse = load("synthetic-shd-adding", words=2, takes=1, bin=bin, **SMALL_PAIRS).test
        assert torch.equal(coarse.labels, labels)
        assert torch.equal(whole(coarse)[0], values.unflatten(1, (-1, bin)).sum(2))


def test_recordings_do_not_depend_on_how_many_there_are() -> None:
    few, many = Speech(3).recordings(2, [4], 2, 10), Speech(3).recordings(4, [0, 4], 5, 10)
    places = [(word * 2 + 1) * 5 + take for word in range(2) for take in range(2)]
    assert torch.equal(whole(few)[0], many.batch(places)[0])


def test_spikes_are_poisson_with_the_rates_of_the_word() -> None:
    speech, takes = Speech(1), 400
    counts, _ = whole(speech.recordings(1, [2], takes, 100))
    expected = torch.from_numpy(speech.rates(0, 2)).unflatten(0, (6, 100)).sum(1) / 1000
    z = (counts.double().mean(0) - expected) / (expected / takes).sqrt()
    assert z.abs().max() < 5
    assert z.square().mean() == pytest.approx(1, abs=0.3)
    assert (counts.var(0) / counts.mean(0)).mean() == pytest.approx(1, abs=0.05)
    assert expected.min() >= 0.1 - 1e-9  # the background: 1 Hz for 100 ms
    # A single track of amplitude 1 reaches 60 Hz; three of them can add up.
    assert 20 < speech.rates(0, 2).max() < 181


# Images as sequences


def test_digits_adding() -> None:
    from sklearn.datasets import load_digits

    pictures, targets = load_digits(return_X_y=True)
    known = {picture.astype(np.uint8).tobytes(): int(label) for picture, label in zip(pictures, targets, strict=True)}
    seen = {}
    rows, pixels = (load("digits-adding", by=by, **SMALL_PAIRS) for by in ("row", "pixel"))
    assert (rows.steps, rows.channels, pixels.steps, pixels.channels) == (16, 8, 128, 1)
    for name, split in rows.splits.items():
        values, labels = whole(split)
        pictures = (values * 16).round().to(torch.uint8).view(-1, 2, 64).numpy()
        assert labels.tolist() == [known[a.tobytes()] + known[b.tobytes()] for a, b in pictures]
        seen[name] = {picture.tobytes() for pair in pictures for picture in pair}
        assert torch.equal(whole(pixels.splits[name])[0].flatten(1), values.flatten(1))
    assert not seen["train"] & (seen["validation"] | seen["test"])
    assert not seen["validation"] & seen["test"]


def test_pixel_sequence() -> None:
    images = datasets.load("digits")
    for permuted in (False, True):
        shown = images.test.batch([7])[0].flatten()
        if permuted:
            shown = shown[torch.from_numpy(np.random.RandomState(92916).permutation(64))]
        pixels, rows = (load("pixel-sequence", of="digits", by=by, permuted=permuted) for by in ("pixel", "row"))
        assert (pixels.steps, pixels.channels, rows.steps, rows.channels) == (64, 1, 8, 8)
        for data in (pixels, rows):
            values, labels = data.test.batch([7])
            assert torch.equal(values.flatten(), shown)
            assert torch.equal(labels, images.test.labels[[7]])
            assert len(data.train) == 1442
            assert images.note in data.note


def test_colour_pixels_keep_their_channels() -> None:
    raw = torch.arange(2 * 3 * 2 * 2, dtype=torch.uint8).view(2, 3, 2, 2)  # [N, C, H, W]
    split = Split(raw, torch.tensor([0, 1]))
    pixels, rows = sequences(split, "pixel", "x"), sequences(split, "row", "x")
    assert pixels.values[0].tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]
    assert rows.values[0].tolist() == [[0, 4, 8, 1, 5, 9], [2, 6, 10, 3, 7, 11]]
    assert pixels.batch([1])[0].max() == 23 / 255


# Memory tasks


def test_copy_memory() -> None:
    data = load("copy-memory", T=7, **SMALL_SAMPLES)
    assert (data.steps, data.channels, data.classes, data.task) == (27, 10, 8, "labelling")
    values, labels = whole(data.train.training(0, 3))
    assert torch.equal(values.sum(-1), torch.ones(60, 27))
    for shown, asked in zip(values.argmax(-1).tolist(), labels.tolist(), strict=True):
        assert max(shown[:10]) < 8
        assert shown[10:] == [8] * 6 + [9] + [8] * 10
        assert asked == [-100] * 17 + shown[:10]
    assert set(labels.unique().tolist()) == {-100, *range(8)}


@pytest.mark.parametrize("T", [2, 11])
def test_adding_problem(T: int) -> None:
    data = load("adding-problem", T=T, **SMALL_SAMPLES)
    assert (data.steps, data.channels, data.classes, data.task) == (T, 2, 1, "regression")
    values, labels = whole(data.test)
    assert 0 <= values[..., 0].min() <= values[..., 0].max() < 1
    assert (values[:, : T // 2, 1].sum(1) == 1).all()
    assert (values[:, T // 2 :, 1].sum(1) == 1).all()
    assert torch.allclose(labels, values.prod(-1).sum(1, keepdim=True))
    assert (values[..., 1].sum(0) > 0).all()  # every step is marked in some sample


def test_delayed_xor() -> None:
    data = load("delayed-xor", delay=30, cue=8, rate=0.6, noise=0.1, **{**SMALL_SAMPLES, "test_samples": 1_000})
    assert (data.steps, data.channels, data.classes) == (46, 20, 2)
    values, labels = whole(data.test)
    assert set(values.unique().tolist()) == {0.0, 1.0}
    bits = [
        (part[..., 10:].sum((1, 2)) > part[..., :10].sum((1, 2))).long() for part in (values[:, :8], values[:, 38:])
    ]
    assert torch.equal(bits[0] ^ bits[1], labels)
    for a in (0, 1):
        for b in (0, 1):
            assert 200 < ((bits[0] == a) & (bits[1] == b)).sum() < 300  # neither bit tells the label
    assert values[:, 8:38].mean() == pytest.approx(0.1, abs=0.005)
    shown = torch.cat([values[bits[0] == 1, :8, 10:].flatten(), values[bits[1] == 0, 38:, :10].flatten()])
    silent = torch.cat([values[bits[0] == 1, :8, :10].flatten(), values[bits[1] == 0, 38:, 10:].flatten()])
    assert shown.mean() == pytest.approx(0.6, abs=0.01)
    assert silent.mean() == pytest.approx(0.1, abs=0.01)
