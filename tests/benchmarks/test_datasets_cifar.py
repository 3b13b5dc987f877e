"""CIFAR in miniature, in the true formats: pickles as Python 2 wrote them, binary records, archives of both."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import datasets
from benchmarks.datasets import cifar
from benchmarks.datasets.cifar import Cifar, Form
from benchmarks.datasets.plain_pickle import read_plain_pickle
from neurons.errors import DataError


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# The format of the authors: protocol 2, written by Python 2, where text is bytes


def python2(value: Any) -> bytes:
    return b"\x80\x02" + _emit(value) + b"."


def _emit(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_emit(part) for pair in value.items() for part in pair) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_emit, value)) + b"e"
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    assert isinstance(value, np.ndarray)
    kind = b"cnumpy\ndtype\nU\x02" + value.dtype.str[1:].encode() + b"K\x00K\x01\x87R"
    kind += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"".join(map(_emit, value.shape)) + b"\x86"
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return start + b"(K\x01" + shape + kind + b"\x89" + _emit(value.tobytes()) + b"tb"


# Miniatures: the images of the sample in place i of a split say which it is


def images(count: int, offset: int) -> np.ndarray:
    found = np.random.default_rng(offset).integers(0, 256, (count, 3072), dtype=np.uint8)
    found[:, 0] = np.arange(count)
    return found


def fine(count: int, classes: int) -> list[int]:
    return [(7 * place) % classes for place in range(count)]


CONTENT10 = {f"data_batch_{n}": (images(4, n), fine(20, 10)[4 * n - 4 : 4 * n]) for n in range(1, 6)}
CONTENT10["test_batch"] = (images(10, 9), fine(10, 10))
CONTENT100 = {"train": (images(200, 1), fine(200, 100)), "test": (images(100, 2), fine(100, 100))}


def pickled(data: np.ndarray, labels: list[int], form: Form) -> bytes:
    kinds = [labels] if len(form.labels) == 1 else [[label % 20 for label in labels], labels]
    values = dict(zip(form.labels, kinds, strict=True))
    rest = {b"batch_label": b"training batch 1 of 5", b"filenames": [b"picture_%d.png" % n for n in range(len(data))]}
    return python2({**rest, **{key.encode(): value for key, value in values.items()}, b"data": data})


def binary(data: np.ndarray, labels: list[int], form: Form) -> bytes:
    head = (lambda x: bytes([x])) if len(form.labels) == 1 else (lambda x: bytes([x % 20, x]))
    return b"".join(head(label) + row.tobytes() for row, label in zip(data, labels, strict=True))


def files_of(form: Form, content: dict[str, tuple[np.ndarray, list[int]]]) -> dict[str, bytes]:
    write = binary if form.binary else pickled
    return {file: write(*content[file.removesuffix(".bin")], form) for file in form.files}


def tar(path: Path, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def miniature(which: Cifar, content: dict[str, tuple[np.ndarray, list[int]]], train: int, test: int) -> Cifar:
    """Return the data set with the checksums of the miniature files."""

    def md5(form: Form, files: dict[str, str]) -> dict[str, str]:
        mine = files_of(form, content)
        return {file: old and hashlib.md5(mine[file]).hexdigest() for file, old in files.items()}

    forms = tuple(replace(form, train=md5(form, form.train), test=md5(form, form.test)) for form in which.forms)
    return replace(which, train=train, test=test, forms=forms)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, empty_machine: Path) -> None:
    for name, content, train, test in (("CIFAR10", CONTENT10, 20, 10), ("CIFAR100", CONTENT100, 200, 100)):
        mine = miniature(getattr(cifar, name), content, train, test)
        monkeypatch.setattr(cifar, name, mine)
        monkeypatch.setitem(datasets.remotes, mine.name, replace(datasets.remotes[mine.name], find=mine.find))


def put(which: Cifar, number: int, folder: Path, packed: bool, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a data set in one of its forms; return what was written."""
    form = which.forms[number]
    files = files_of(form, CONTENT10 if which.name == "cifar10" else CONTENT100)
    if not packed:
        for file, content in files.items():
            (folder / form.folder).mkdir(parents=True, exist_ok=True)
            (folder / form.folder / file).write_bytes(content)
        return folder / form.folder
    content = tar(folder / form.archive, {f"{form.folder}/{file}": content for file, content in files.items()})
    forms = list(which.forms)
    forms[number] = replace(form, archive_md5=hashlib.md5(content).hexdigest())
    monkeypatch.setattr(cifar, which.name.upper(), replace(which, forms=tuple(forms)))
    return folder / form.archive


@pytest.mark.parametrize("inside", ["cifar10", "."])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_cifar10_from_every_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, packed: bool, inside: str
) -> None:
    put(cifar.CIFAR10, number, tmp_path / inside, packed, monkeypatch)
    data = datasets.load("cifar10", tmp_path)
    assert (data.classes, data.channels, data.image_size) == (10, 3, 32)
    assert data.train.labels.tolist() == fine(20, 10)
    assert data.test.labels.tolist() == fine(10, 10)
    want = torch.from_numpy(np.concatenate([CONTENT10[f"data_batch_{n}"][0] for n in range(1, 6)]))
    got, labels = data.train.batch(slice(None))
    assert torch.equal((got * 255).round().to(torch.uint8), want.view(20, 3, 32, 32))  # red, green, blue; row by row
    assert labels.dtype == torch.int64
    blue = torch.from_numpy(CONTENT10["test_batch"][0][3, 2048 + 5 * 32 : 2048 + 6 * 32])
    assert torch.equal((data.test.batch([3])[0] * 255).round()[0, 2, 5], blue.float())
    assert ("no checksum" in data.note) == (number == 1 and not packed)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_cifar100_fine_and_coarse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, packed: bool) -> None:
    put(cifar.CIFAR100, number, tmp_path, packed, monkeypatch)
    data, coarse = datasets.load("cifar100", tmp_path), datasets.load("cifar100", tmp_path, labels="coarse")
    assert (data.classes, coarse.classes) == (100, 20)
    assert data.train.labels.tolist() == fine(200, 100)
    assert coarse.test.labels.tolist() == [label % 20 for label in fine(100, 100)]
    assert torch.equal(data.train.batch([7])[0], coarse.train.batch([7])[0])
    assert "superclasses" in coarse.note


def test_the_folder_of_the_batches_may_itself_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(cifar.CIFAR10, 0, tmp_path, False, monkeypatch)
    assert len(datasets.load("cifar10", folder).train) == 20
    assert datasets.where("cifar10", folder) == folder
    binary = put(cifar.CIFAR100, 1, tmp_path, False, monkeypatch)
    assert len(datasets.load("cifar100", binary).train) == 200


def test_missing_files_are_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(cifar.CIFAR10, 0, tmp_path, False, monkeypatch)
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"cifar-10-batches-py \(lacks data_batch_3\)") as error:
        datasets.load("cifar10", tmp_path)
    assert one_line(error).endswith("; run: step fetch cifar10")
    with pytest.raises(
        DataError, match=r"none of cifar-100-python, cifar-100-binary, cifar-100-python.tar.gz"
    ) as error:
        datasets.load("cifar100", tmp_path)
    assert one_line(error).endswith("; run: step fetch cifar100")
    put(cifar.CIFAR10, 1, tmp_path, True, monkeypatch)  # a complete form is read, though another is not complete
    assert len(datasets.load("cifar10", tmp_path).train) == 20


@pytest.mark.parametrize("packed", [False, True])
def test_altered_pickles_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    form = cifar.CIFAR10.forms[0]
    files = files_of(form, CONTENT10) | {"test_batch": pickle.dumps(Evil())}
    if packed:
        tar(tmp_path / form.archive, {f"{form.folder}/{file}": content for file, content in files.items()})
    else:
        for file, content in files.items():
            (tmp_path / form.folder).mkdir(exist_ok=True)
            (tmp_path / form.folder / file).write_bytes(content)
    with pytest.raises(DataError, match="test_batch is not the published file: its MD5 is not") as error:
        datasets.load("cifar10", tmp_path)
    one_line(error)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_truncated_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, share: float) -> None:
    path = put(cifar.CIFAR10, number, tmp_path, True, monkeypatch)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match="truncated") as error:
        datasets.load("cifar10", tmp_path)
    assert str(path) in one_line(error)


def test_an_archive_that_is_something_else(tmp_path: Path) -> None:
    form = cifar.CIFAR10.forms[0]
    (tmp_path / form.archive).write_text("<html>sign in</html>")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz is truncated or damaged"):
        datasets.load("cifar10", tmp_path)
    tar(tmp_path / form.archive, {"elsewhere/data_batch_1": b""})
    with pytest.raises(DataError, match=r"tar\.gz lacks cifar-10-batches-py/data_batch_1, "):
        datasets.load("cifar10", tmp_path)


def test_members_are_taken_by_name_and_kind_only(tmp_path: Path) -> None:
    """A link in the place of a file is not followed, and nothing is written."""
    form = cifar.CIFAR10.forms[0]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for file, content in files_of(form, CONTENT10).items():
            member = tarfile.TarInfo(f"./{form.folder}/{file}")
            if file == "test_batch":
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
            member.size = len(content) if member.isfile() else 0
            archive.addfile(member, io.BytesIO(content))
    (tmp_path / form.archive).write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="lacks cifar-10-batches-py/test_batch"):
        datasets.load("cifar10", tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [form.archive]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: content[:-1], r"data_batch_2\.bin is truncated or no CIFAR file: its 12,291 bytes"),
        (lambda content: b"", r"data_batch_2\.bin is truncated or no CIFAR file: its 0 bytes"),
        (lambda content: content[:3073], "must have 2 images of each of 10 classes .labels., found 17 images"),
        (lambda content: b"\x03" + content[1:], "found 20 images, 1 to 3 of each of 10 classes"),
        (lambda content: b"\xc8" + content[1:], "of each of 201 classes"),
    ],
)
def test_binary_files_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes], problem: str
) -> None:
    folder = put(cifar.CIFAR10, 1, tmp_path, False, monkeypatch)
    file = folder / "data_batch_2.bin"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DataError, match=problem) as error:
        datasets.load("cifar10", tmp_path)
    one_line(error)


def unchecked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, test_batch: bytes) -> None:
    """Write CIFAR-10 with another test file, of which no checksum is known."""
    put(cifar.CIFAR10, 0, tmp_path, False, monkeypatch)
    form = replace(cifar.CIFAR10.forms[0], test={"test_batch": ""})
    monkeypatch.setattr(cifar, "CIFAR10", replace(cifar.CIFAR10, forms=(form,)))
    (tmp_path / form.folder / "test_batch").write_bytes(test_batch)


DATA, LABELS = CONTENT10["test_batch"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({b"data": DATA}, "lacks labels"),
        ([DATA], "lacks data, labels"),
        ({b"data": DATA[:, :3000], b"labels": LABELS}, r"its data must be an array of bytes \[N, 3072\]"),
        ({b"data": [1], b"labels": LABELS}, "its data must be an array of bytes"),
        ({b"data": DATA, b"labels": LABELS[1:]}, "its labels must be a list of 10 numbers"),
        ({b"data": DATA, b"labels": [b"cat"] * 10}, "its labels must be a list of 10 numbers"),
        ({b"data": DATA, b"labels": [-1] * 10}, "its labels must be a list of 10 numbers from 0 to 255"),
        ({b"data": DATA, b"labels": [1] * 10}, "must have 1 images of each of 10 classes"),
        ({b"data": DATA.astype(np.uint16), b"labels": LABELS}, "an array of type b'u2'"),
    ],
)
def test_other_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, problem: str) -> None:
    unchecked(monkeypatch, tmp_path, python2(content))
    with pytest.raises(DataError, match=problem) as error:
        datasets.load("cifar10", tmp_path)
    assert "test_batch" in one_line(error)


# Pickles that are programs


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/step-test-evil",)


class Loads:
    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (b"",)


@pytest.mark.parametrize(
    ("content", "asks"),
    [
        (pickle.dumps(Evil()), "system"),
        (pickle.dumps({b"data": [Evil()]}, protocol=0), "system"),
        (pickle.dumps(Loads()), "loads"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"c__builtin__\nexec\n(S'1'\ntR.", "__builtin__.exec"),
        (b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.", "builtins.getattr"),
        (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
        (b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.", "numpy.core.multiarray._reconstruct.__globals__"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.", r"numpy.dtype.__init__"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00bz2\x86R.", "the encoding 'bz2'"),
        (b"ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
        (pickle.dumps(np.array([Evil()], dtype=object)), "an array of type 'O8'"),
        (pickle.dumps(np.zeros(3, np.float32), protocol=2), "an array of type 'f4'"),
    ],
)
def test_a_pickle_may_not_ask_for_anything(content: bytes, asks: str) -> None:
    with pytest.raises(DataError, match=f"is refused: its pickle asks for .*{asks}") as error:
        read_plain_pickle(content, Path("batch"))
    one_line(error)
    assert not Path("/tmp/step-test-evil").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"", b".", b"\x80\x02", python2({b"data": DATA})[:-50], b"not a pickle", b"\x80\x05\x97.", b"(lp0\ng9\n.",
        b"Pid\n.", b"\x82\x01.", b"}K\x01b.",
        b"cnumpy.core.multiarray\n_reconstruct\n)RNb.",  # an array that is nothing
        python2({b"data": DATA}).replace(struct.pack("<i", 3072), struct.pack("<i", 3073), 1),  # of another size
    ],
)  # fmt: skip
def test_a_damaged_pickle_is_one_line(content: bytes) -> None:
    with pytest.raises(DataError, match=r"batch is (truncated or not a pickle|damaged|refused)") as error:
        read_plain_pickle(content, Path("batch"))
    one_line(error)


def test_a_pickle_leaves_nothing_behind_in_the_reader() -> None:
    change = b"cnumpy.core.multiarray\n_reconstruct\nN}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86b."
    assert callable(read_plain_pickle(b"\x80\x02" + change, Path("batch")))
    back = read_plain_pickle(python2({b"data": DATA, b"labels": LABELS}), Path("batch"))
    assert np.array_equal(back[b"data"], DATA)
    assert back[b"labels"] == LABELS


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_as_python_3_writes_them(protocol: int, order: Any) -> None:
    content = {b"data": np.asarray(DATA, order=order), "labels": LABELS}
    if protocol == 5:  # has out-of-band buffers of its own, which no such file was ever written with
        with pytest.raises(DataError, match="is refused: its pickle asks for numpy"):
            read_plain_pickle(pickle.dumps(content, protocol=protocol), Path("batch"))
        return
    back = read_plain_pickle(pickle.dumps(content, protocol=protocol), Path("batch"))
    assert np.array_equal(back[b"data"], DATA)
    assert back["labels"] == LABELS
