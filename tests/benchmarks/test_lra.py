"""The tasks of Long Range Arena: made here, and read from miniatures of the published files."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from benchmarks import datasets
from benchmarks.datasets import cifar, listops
from benchmarks.datasets.base import Dataset, Split
from benchmarks.datasets.drawing import random_state
from benchmarks.datasets.listops import CODE, SYMBOLS, evaluate, expressions
from benchmarks.datasets.pathfinder_drawing import Style, draw, scenes
from benchmarks.datasets.pixels import PixelSplit
from neurons.errors import DataError, OptionError, ShapeError

# ListOps


def python_value(codes: bytes) -> int:
    """Evaluate an expression by turning it into a call of Python functions."""
    words = [SYMBOLS[code] for code in codes]
    text = ",".join(words).replace("[,", "[").replace(",]", "]")
    for name in ("MAX", "MIN", "MED", "SM"):
        text = text.replace(f"[{name},", f"{name}([")
    text = text.replace("]", "])")
    functions = {
        "MAX": lambda v: sorted(v)[-1],
        "MIN": lambda v: sorted(v)[0],
        "MED": lambda v: int(np.median(v)),
        "SM": lambda v: int(str(sum(v))[-1]),
    }
    return int(eval(text, {"__builtins__": {}}, functions))


def coded(text: str) -> bytes:
    return bytes(CODE[word] for word in text.split())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7), ("[MAX 2 9 4 ]", 9), ("[MIN 2 9 4 ]", 2), ("[MED 1 8 ]", 4), ("[MED 9 1 5 ]", 5), ("[SM 9 9 5 ]", 3),
        ("[MAX 2 9 [MIN 4 7 ] 0 ]", 9), ("[SM [MED 0 1 ] [SM 8 9 ] [MAX 1 ] ]", 8),
    ],
)  # fmt: skip
def test_values(text: str, value: int) -> None:
    assert evaluate(coded(text)) == value


@pytest.mark.parametrize("text", ["", "1 2", "[MAX 1 2", "1 ]", "[MAX ]", "[MAX 1 ] ]"])
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(DataError):
        evaluate(coded(text))


def test_evaluation_against_another_evaluator() -> None:
    made = expressions(random.Random(3), 30, 200)
    samples = [next(made) for _ in range(150)]
    assert all(30 < len(sample) < 200 for sample in samples)
    assert [evaluate(sample) for sample in samples] == [python_value(sample) for sample in samples]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(2, 6))
def test_depth_and_arguments(seed: int, depth: int, arguments: int) -> None:
    sample = next(expressions(random.Random(seed), 3, 60, depth, arguments))
    counts: list[int] = []
    for code in sample:
        if SYMBOLS[code] == "]":
            assert 2 <= counts.pop() <= arguments
            continue
        if counts:
            counts[-1] += 1
        if code > 9:
            counts.append(0)
        assert len(counts) < depth
    assert not counts


def test_chances_of_the_grammar() -> None:
    """Of short expressions all chances are known: [O d d ] has 1/4 * 1/9 * 1/4 * (3/4)^2 / 100 for each of them."""
    made = expressions(random.Random(0), 2, 6, max_depth=10, max_arguments=10)
    counts = np.bincount([len(next(made)) for _ in range(4000)], minlength=6)
    # Lengths 4 and 5: two digits, or three; each as likely as the other but for the third digit.
    assert counts[:4].sum() == 0
    assert counts[5] / counts[4] == pytest.approx(0.75, abs=0.06)


def test_listops() -> None:
    data = datasets.load("listops", train=60, validation=20, test=30, min_length=20, max_length=64)
    splits = data.splits
    seen = [bytes(split.tokens(i).astype(np.uint8)) for split in splits.values() for i in range(len(split))]
    assert len(set(seen)) == len(seen) == 110
    x, labels = data.train.batch(torch.tensor([5, 2]))
    assert x.shape == (2, 63, 15)
    for row, index in enumerate((5, 2)):
        length = int(data.train.lengths[index])
        assert 20 < length < 64
        assert torch.equal(x[row, :length].argmax(-1), torch.from_numpy(data.train.tokens(index)))
        assert x[row, :length].sum() == length
        assert not x[row, length:].any()
        assert labels[row] == python_value(bytes(data.train.tokens(index).astype(np.uint8)))
    again = datasets.load("listops", train=60, validation=20, test=30, min_length=20, max_length=64)
    other = datasets.load("listops", train=60, validation=20, test=30, min_length=20, max_length=64, seed=1)
    assert torch.equal(again.train.batch(slice(None))[0], data.train.batch(slice(None))[0])
    assert not torch.equal(other.train.labels, data.train.labels)
    index = replace(data.train, coding="index").batch(torch.tensor([5]))[0]
    assert torch.equal(index[0, :, 0] * 15, x[0].argmax(-1) + x[0].sum(-1))
    part = data.train.subset(torch.tensor([7, 5]))
    assert torch.equal(part.batch(slice(1, 2))[0], x[:1])
    assert part.lengths.tolist() == data.train.lengths[[7, 5]].tolist()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"train": 0}, "train"), ({"max_depth": 1}, "max_depth"), ({"max_length": 65}, "min_length"),
        ({"coding": "bits"}, "coding"), ({"min_length": 2, "max_length": 5}, "different"),
        ({"max_depth": 2, "min_length": 50, "max_length": 60}, "hardly any"),
    ],
)  # fmt: skip
def test_listops_options(options: dict[str, Any], names: str) -> None:
    with pytest.raises(OptionError, match=names):
        datasets.load("listops", **options)


LINES = ["( ( ( [MAX 3 ) ( ( ( [MED 4 ) 8 ) ] ) ) ] )\t6", "( ( ( ( [SM 5 ) 7 ) 1 ) ] )\t3", "9\t9"]


def lra_listops(folder: Path, lines: list[str] = LINES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "val", "test"):
        (folder / f"basic_{part}.tsv").write_text("\r\n".join(["Source\tTarget", *lines]) + "\r\n", newline="")
    return folder


def test_lra_listops(tmp_path: Path, empty_machine: Path) -> None:
    lra_listops(tmp_path / "lra_release" / "listops-1000")
    data = datasets.load("lra-listops", root=tmp_path)
    assert data.train.labels.tolist() == [6, 3, 9]
    assert [evaluate(data.test.tokens(i)) for i in range(3)] == [6, 3, 9]
    assert " ".join(SYMBOLS[t] for t in data.train.tokens(0)) == "[MAX 3 [MED 4 8 ] ]"
    assert data.shape == (7, 15)
    assert data.validation is not None
    assert data.validation.lengths.tolist() == [7, 5, 1]
    given = datasets.load("lra-listops", path=str(tmp_path / "lra_release" / "listops-1000"))
    assert torch.equal(given.test.labels, data.test.labels)
    with pytest.raises(DataError, match="get lra_release"):
        datasets.load("lra-listops")


@pytest.mark.parametrize(
    ("line", "says"), [("[MAX 3 4 ]", "line 5"), ("[FIRST 3 ]\t3", r"'\[FIRST'"), ("\t3", "no exp"), ("3\t12", "'12'")]
)
def test_damaged_lra_listops(tmp_path: Path, line: str, says: str) -> None:
    folder = lra_listops(tmp_path, [*LINES, line])
    with pytest.raises(DataError, match=says):
        list(listops.read_lines(folder / "basic_val.tsv"))


# Texts


def reviews(folder: Path) -> Path:
    for split in ("train", "test"):
        for sentiment, text in (("neg", b"bad film"), ("pos", "g\xf6\xf6d".encode())):
            (folder / split / sentiment).mkdir(parents=True)
            for number in range(2):
                (folder / split / sentiment / f"{number}_7.txt").write_bytes(text + bytes([48 + number]))
        (folder / split / "unsup").mkdir()
    return folder


def test_text(tmp_path: Path, empty_machine: Path) -> None:
    reviews(tmp_path / "aclImdb")
    data = datasets.load("lra-text", root=tmp_path, max_length=8)
    x, labels = data.train.batch(slice(None))
    assert x.shape == (4, 8, 256)
    assert labels.tolist() == [0, 0, 1, 1]
    assert data.train.lengths.tolist() == [8, 8, 7, 7]
    assert bytes(x[1].argmax(-1).tolist()) == b"bad film"
    assert bytes(x[3, :7].argmax(-1).tolist()) == "g\xf6\xf6d1".encode()
    assert not x[3, 7].any()
    assert len({row.tobytes() for row in x.numpy()}) == 3
    (tmp_path / "aclImdb" / "test" / "pos" / "0_7.txt").write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        datasets.load("lra-text", root=tmp_path)


def test_retrieval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.datasets.lra_text.BLOCK", 7)  # fields and lines over the edges of blocks
    lines = [b"1.0\tP05-1\tC9\tfirst text\tsecond", b'0.0\tW1\tW2\t"quoted\tt\xc3\xb6xt, with commas']
    for part in ("train", "eval", "test"):
        end = b"\r\n" if part == "eval" else b"\n"
        (tmp_path / f"new_aan_pairs.{part}.tsv").write_bytes(end.join(lines) + (b"" if part == "test" else end))
    data = datasets.load("lra-retrieval", path=str(tmp_path), max_length=8)
    for split in data.splits.values():
        x, labels = split.batch(torch.tensor([1, 0]))
        assert x.shape == (2, 17, 257)
        assert labels.tolist() == [0, 1]
        tokens = x.argmax(-1)
        assert tokens[1, :15].tolist() == [*b"first te", 256, *b"second"]
        assert tokens[0].tolist() == [*b'"quoted', 256, *b"t\xc3\xb6xt, w", 0]
        assert split.lengths.tolist() == [15, 16]
    assert isinstance(data.train.content, np.memmap)
    (tmp_path / "new_aan_pairs.eval.tsv").write_bytes(b"\n".join([*lines, b"1.0\ta\tb\tonly"]))
    with pytest.raises(DataError, match=r"eval.tsv, line 3: .*found 4 fields"):
        datasets.load("lra-retrieval", path=str(tmp_path))


def test_symbols_are_checked() -> None:
    data = datasets.load("listops", train=4, validation=1, test=1, min_length=3, max_length=12)
    with pytest.raises(ShapeError, match="must lie in"):
        replace(data.train, content=data.train.content[:5])
    with pytest.raises(ShapeError, match="1 to 2 symbols"):
        replace(data.train, steps=2)
    with pytest.raises(ShapeError, match="separator"):
        replace(data.train, parts=data.train.parts.repeat(1, 2, 1))


# Pictures


def test_image(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.arange(6))
    colour = Dataset("cifar10", split, split, 10, 3, 32, "", "", "official split")
    monkeypatch.setattr(cifar, "load_cifar10", lambda root: colour)
    data = datasets.load("lra-image")
    x, labels = data.test.batch(torch.tensor([4]))
    assert x.shape == (1, 1024, 1)
    r, g, b = images[4].double()
    assert torch.allclose(x[0].double().view(32, 32), (0.2989 * r + 0.587 * g + 0.114 * b) / 255, atol=0.51 / 255)
    assert labels.tolist() == [4]
    code = datasets.load("lra-image", thermometer=8).test.batch(torch.tensor([4]))[0]
    assert torch.equal(code.sum(-1, keepdim=True), (x * 8).round())
    assert torch.equal(code, code.sort(-1, descending=True).values)


def test_thermometer_by_hand() -> None:
    split = PixelSplit(torch.tensor([[[0, 31, 33, 255]]], dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), 4)
    assert split.batch([0])[0][0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("dashes", [4, 9])
def test_marks_are_connected_or_not(dashes: int) -> None:
    """Fill from one mark along curves without gaps, where nothing blurs, and see whether the other is reached."""
    style = replace(Style(), marker=Style().thickness)
    found = scenes(random_state(7, dashes), 61, dashes, 5, style)
    assert sorted((found.labels == 0).sum() - [30, 31]) in ([0, 1], [-1, 0])
    side = 256
    for number in range(len(found)):
        regions, _ = ndimage.label(draw(found, number, side, style, dashed=False) > 0, np.ones((3, 3)))
        first, second = (regions[int(y * side), int(x * side)] for x, y in found.marks[number])
        assert first
        assert second
        assert (first == second) == found.labels[number]
        _, pieces = ndimage.label(draw(found, number, side, style) > 0, np.ones((3, 3)))
        assert pieces >= 2 * dashes - 2  # marks may join the dash beside them
    assert ((found.curves >= 0.06 - 1e-9) | np.isnan(found.curves)).all()
    assert (~np.isnan(found.curves[:, 2:, 0, 0])).sum() > 61


def test_pathfinder() -> None:
    data = datasets.load("pathfinder", side=16, train=30, validation=4, test=6)
    assert data.shape == (256, 1)
    assert data.train.labels.bincount().tolist() == [15, 15]
    x = data.train.batch(slice(None))[0]
    assert x.max() == 1
    assert 0 < (x > 0).float().mean() < 0.5
    assert ((x > 0) & (x < 1)).any()  # smooth lines
    again = datasets.load("pathfinder", side=16, train=30, validation=4, test=6)
    other = datasets.load("pathfinder", side=16, train=30, validation=4, test=6, seed=1)
    assert torch.equal(x, again.train.batch(slice(None))[0])
    assert not torch.equal(x, other.train.batch(slice(None))[0])
    pictures = [row.numpy().tobytes() for split in data.splits.values() for row in split.batch(slice(None))[0]]
    assert len(set(pictures)) == 40


def test_the_distance_of_the_marks_tells_little() -> None:
    found = scenes(random_state(1), 400, 6, 0, Style())
    apart = np.linalg.norm(found.marks[:, 0] - found.marks[:, 1], axis=1)
    joined, parted = apart[found.labels == 1], apart[found.labels == 0]
    assert abs(joined.mean() - parted.mean()) < 0.5 * apart.std()


@pytest.mark.parametrize("options", [{"side": 8}, {"dashes": 1}, {"dashes": 20}, {"bend": 3.0}, {"thermometer": -1}])
def test_pathfinder_options(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"dataset.{next(iter(options))}"):
        datasets.load("pathfinder", **options)
