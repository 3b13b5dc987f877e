"""Data sets: what they hold, where they are looked for, and what is said of files that are not right."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import datasets
from benchmarks.datasets import Dataset, Split, fashion_mnist
from benchmarks.datasets.digits import every_fifth_of_each_class
from benchmarks.datasets.idx import read_idx
from benchmarks.datasets.roots import SYSTEM_ROOTS, find, search_roots
from neurons.errors import DataError, ShapeError, UnknownNameError


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# Splits and data sets


def test_a_split_keeps_bytes_and_delivers_scaled_floats() -> None:
    raw = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).view(4, 1, 1, 1)
    split = Split(raw, torch.tensor([3, 1, 0, 2]))
    assert len(split) == 4
    assert split.images.dtype == torch.uint8
    for indices in (torch.tensor([3, 1]), [3, 1]):
        images, labels = split.batch(indices)
        assert images.dtype == torch.float32
        assert images.shape == (2, 1, 1, 1)
        assert images.flatten().tolist() == [1.0, pytest.approx(0.2)]
        assert labels.tolist() == [2, 1]
    part = split.subset(slice(2, 4))
    assert part.labels.tolist() == [0, 2]
    assert torch.equal(part.batch(slice(None))[0], split.batch([2, 3])[0])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 8, 8), torch.zeros(2, dtype=torch.int64), "images must be"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.int32), torch.zeros(2, dtype=torch.int64), "images must be"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(3, dtype=torch.int64), r"labels must be an int64 tensor \[2\]"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), "labels must be an int64"),
    ],
)
def test_a_split_refuses_other_shapes(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Split(images, labels)


def made(labels: list[int], size: int = 2, classes: int = 3) -> Dataset:
    split = Split(torch.zeros(len(labels), 1, size, size), torch.tensor(labels, dtype=torch.int64), 1.0)
    return Dataset("made", split, split, classes, 1, 2, "here", "none", "")


def test_a_data_set_checks_its_splits() -> None:
    assert made([0, 2]).classes == 3
    with pytest.raises(DataError, match="labels must be 0 to 2, found 0 to 3"):
        made([0, 3])
    with pytest.raises(DataError, match=r"samples must have the shape \[1, 2, 2\], not \[1, 5, 5\]"):
        made([0], size=5)
    with pytest.raises(DataError, match="the train split is empty"):
        made([])


def test_names() -> None:
    assert {"digits", "fashion-mnist"} <= set(datasets.names())
    assert datasets.describe("digits").startswith("Digits: 1,797")
    for verb in (datasets.load, datasets.fetch):
        with pytest.raises(UnknownNameError, match="unknown dataset 'fashion-minst'; did you mean 'fashion-mnist'"):
            verb("fashion-minst")


# Digits


def test_digits_counts_range_and_balance() -> None:
    digits = datasets.load("digits")
    assert (len(digits.train), len(digits.test)) == (1442, 355)
    assert (digits.classes, digits.channels, digits.image_size) == (10, 1, 8)
    for split in (digits.train, digits.test):
        images, labels = split.batch(slice(None))
        assert images.shape == (len(split), 1, 8, 8)
        assert (images.min(), images.max()) == (0.0, 1.0)
        assert (images * 16 == (images * 16).round()).all()
        counts = labels.bincount(minlength=10)
        assert counts.max() - counts.min() <= 8
    totals = digits.train.labels.bincount() + digits.test.labels.bincount()
    assert totals.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # scikit-learn's documentation
    assert (digits.test.labels.bincount() == totals // 5).all()
    assert "no official split" in digits.note
    assert "writers" in digits.note


def test_digits_are_split_without_overlap_and_always_alike() -> None:
    from sklearn.datasets import load_digits

    digits, again = datasets.load("digits"), datasets.load("digits")
    assert torch.equal(digits.test.images, again.test.images)
    assert torch.equal(digits.train.labels, again.train.labels)
    # Together they are the whole set, each picture as often as there; no picture is in both.
    train, test, whole = (
        sorted(bytes(image.flatten().to(torch.uint8).tolist()) for image in images)
        for images in (digits.train.images, digits.test.images, torch.from_numpy(load_digits().images))
    )
    assert sorted(train + test) == whole
    assert not set(train) & set(test)


def test_every_fifth_of_each_class() -> None:
    labels = torch.tensor([0, 1] * 5 + [0] * 5 + [1] * 4)
    assert every_fifth_of_each_class(labels).nonzero().flatten().tolist() == [8, 9, 14]


# The IDX reader


def idx(shape: tuple[int, ...], payload: bytes, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + payload


def gz(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0))
    return path


def test_idx_reads_what_was_written(tmp_path: Path) -> None:
    content = idx((2, 3, 2), bytes(range(12)))
    values = read_idx(gz(tmp_path / "a.gz", content), hashlib.sha256(content).hexdigest())
    assert values.dtype == torch.uint8
    assert values.tolist() == [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]
    values[0, 0, 0] = 7  # memory of its own


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (idx((2, 3), bytes(5)), "is truncated: its header promises 2 x 3 = 6 bytes of data, found 5"),
        (idx((2, 3), bytes(7)), "has bytes left over: its header promises 2 x 3 = 6 bytes of data, found 7"),
        (idx((2, 3), bytes(6))[:9], "is truncated: its header ends after 9 of 12 bytes"),
        (idx((2, 3), bytes(6), kind=13), "is not an IDX file of unsigned bytes: it starts with 00 00 0d 02"),
        (b"\x89PNG....", "is not an IDX file of unsigned bytes: it starts with 89 50 4e 47"),
        (b"", "is not an IDX file of unsigned bytes: it starts with nothing"),
    ],
)
def test_idx_refuses_wrong_content(tmp_path: Path, content: bytes, problem: str) -> None:
    path = gz(tmp_path / "bad.gz", content)
    with pytest.raises(DataError) as error:
        read_idx(path)
    assert one_line(error) == f"{path} {problem}"


def test_idx_refuses_altered_content(tmp_path: Path) -> None:
    good, altered = idx((4,), b"\1\2\3\4"), idx((4,), b"\1\2\3\5")
    path = gz(tmp_path / "bad.gz", altered)
    assert read_idx(path).tolist() == [1, 2, 3, 5]
    with pytest.raises(DataError, match=r"bad\.gz is not the published file: the sha256 of its content is"):
        read_idx(path, hashlib.sha256(good).hexdigest())


def flip_last_data_byte(packed: bytes) -> bytes:
    return packed[:-5] + bytes([packed[-5] ^ 1]) + packed[-4:]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda packed: packed[: len(packed) // 2], "is truncated"),
        (lambda packed: b"<html>not found</html>", "is not a gzip file"),
        (lambda packed: b"", "starts with nothing"),
        (flip_last_data_byte, "fails its checksum"),
        (lambda packed: packed[:10] + b"\xff" * 20 + packed[30:], "is damaged: it cannot be decompressed"),
    ],
)
def test_idx_refuses_damaged_files(tmp_path: Path, damage: Callable[[bytes], bytes], problem: str) -> None:
    path = gz(tmp_path / "bad.gz", idx((400,), bytes(range(200)) * 2))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as error:
        read_idx(path)
    assert str(path) in one_line(error)
    assert problem in one_line(error)


def test_idx_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.gz does not exist"):
        read_idx(tmp_path / "none.gz")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_idx(tmp_path)


# Roots


def test_roots_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    cache = platformdirs.user_cache_path("step-snn", appauthor=False) / "data"
    monkeypatch.setenv("STEP_DATA", str(tmp_path / "env"))
    assert search_roots(tmp_path / "here") == [tmp_path / "here", tmp_path / "env", cache, *SYSTEM_ROOTS]
    assert search_roots(str(tmp_path / "env")) == [tmp_path / "env", cache, *SYSTEM_ROOTS]
    monkeypatch.setenv("STEP_DATA", "")
    assert search_roots() == [cache, *SYSTEM_ROOTS]
    assert search_roots("~/data")[0] == Path.home() / "data"


def test_the_first_complete_folder_is_taken(
    tmp_path: Path, empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_DATA", str(tmp_path / "env"))
    places = [tmp_path / "system", empty_machine, tmp_path / "env", tmp_path / "here"]
    for place in places:  # from the last in the order to the first
        gz(place / "things" / "a.gz", b"")
        if place != places[0]:  # half of the files: passed over
            assert find("things", ["a.gz", "b.gz"], tmp_path / "here") != place / "things"
        gz(place / "things" / "b.gz", b"")
        assert find("things", ["a.gz", "b.gz"], tmp_path / "here") == place / "things"


def test_missing_data_name_the_places_and_the_command(tmp_path: Path, empty_machine: Path) -> None:
    (tmp_path / "here" / "fashion-mnist").mkdir(parents=True)
    for file in list(fashion_mnist.FILES)[:3]:
        (tmp_path / "here" / "fashion-mnist" / file).touch()
    with pytest.raises(DataError) as error:
        datasets.load("fashion-mnist", tmp_path / "here")
    assert one_line(error) == (
        f"data set 'fashion-mnist' not found in {tmp_path}/here/fashion-mnist (lacks t10k-labels-idx1-ubyte.gz), "
        f"{empty_machine}/fashion-mnist, {tmp_path}/system/fashion-mnist; run: step fetch fashion-mnist"
    )


# Fashion-MNIST


def test_fashion_mnist_refuses_files_that_are_not_the_published_ones(tmp_path: Path) -> None:
    for file in fashion_mnist.FILES:
        gz(tmp_path / "fashion-mnist" / file, idx((1, 28, 28), bytes(784)) if "images" in file else idx((1,), b"\0"))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is not the published file"):
        datasets.load("fashion-mnist", tmp_path)


def test_fashion_mnist_is_the_published_set() -> None:
    try:
        find("fashion-mnist", fashion_mnist.FILES)
    except DataError as error:
        pytest.skip(str(error))
    data = datasets.load("fashion-mnist")
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.train.labels.bincount().tolist() == [6_000] * 10
    assert data.test.labels.bincount().tolist() == [1_000] * 10
    assert data.train.images.dtype == torch.uint8
    images = data.train.batch(slice(None))[0]
    assert images.shape == (60_000, 1, 28, 28)
    # Published mean and standard deviation of the training pixels.
    assert images.mean().item() == pytest.approx(0.28604, abs=5e-6)
    assert images.std().item() == pytest.approx(0.35302, abs=1e-5)
