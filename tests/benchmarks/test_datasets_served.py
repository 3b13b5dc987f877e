"""Fetching through a real server on this machine: archives that stay packed, and one that is unpacked."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import datasets
from benchmarks.datasets import tiny_imagenet
from neurons.errors import DataError


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def serve(monkeypatch: pytest.MonkeyPatch, name: str, served: tuple[Path, str], content: bytes) -> None:
    """Offer ``content`` in the place of the one published file of a data set."""
    folder, url = served
    remote = datasets.remotes[name]
    (file,) = remote.files
    (folder / file).write_bytes(content)
    mine = replace(remote, url=url, files={file: hashlib.md5(content).hexdigest()})
    monkeypatch.setitem(datasets.remotes, name, mine)


def tiny(wnid: str = "n01443537") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"tiny-imagenet-200/train/{wnid}/images/{wnid}_0.JPEG", b"a picture")
        archive.writestr("tiny-imagenet-200/val/val_annotations.txt", f"val_0.JPEG\t{wnid}\n")
        archive.writestr("tiny-imagenet-200/../../../escape", b"should not leave the folder")
        archive.writestr("elsewhere/file", b"not asked for")
    return buffer.getvalue()


def test_the_published_addresses() -> None:
    addresses = {name: [f"{remote.url}/{file}" for file in remote.files] for name, remote in datasets.remotes.items()}
    assert addresses["cifar10"] == ["https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"]
    assert addresses["cifar100"] == ["https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"]
    assert addresses["tiny-imagenet"] == ["http://cs231n.stanford.edu/tiny-imagenet-200.zip"]


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_kept_as_the_archive_that_it_is(
    name: str, served: tuple[Path, str], empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, name, served, b"an archive")
    (file,) = datasets.remotes[name].files
    lines: list[str] = []
    folder = datasets.fetch(name, progress=lines.append)
    assert folder == empty_machine / name
    assert (folder / file).read_bytes() == b"an archive"
    assert datasets.where(name) == folder / file
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["md5"] == {file: hashlib.md5(b"an archive").hexdigest()}
    assert lines[0] == f"downloading {served[1]}/{file}"
    assert lines[-1] == f"{name} is in {folder}, verified"
    (served[0] / file).unlink()
    assert datasets.fetch(name, progress=lines.append) == folder
    assert lines[-1] == f"{name} is already in {folder}, verified"


def test_an_altered_archive_is_fetched_again(
    served: tuple[Path, str], empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, "cifar10", served, b"an archive")
    file = empty_machine / "cifar10" / "cifar-10-python.tar.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"an arch")
    lines: list[str] = []
    datasets.fetch("cifar10", progress=lines.append)
    assert file.read_bytes() == b"an archive"
    assert "fetching again" in lines[0]
    assert "is it truncated?" in lines[0]


def test_another_form_is_not_fetched_again(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, "cifar10", served, b"an archive")
    folder = tmp_path / "mine" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for file in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        (folder / file).touch()
    assert datasets.fetch("cifar10", tmp_path / "mine") == folder
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["cifar-10-batches-bin"]


def test_wrong_and_absent_archives(
    served: tuple[Path, str], empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, "cifar10", served, b"an archive")
    file = served[0] / "cifar-10-python.tar.gz"
    file.write_bytes(b"<html>moved</html>")
    with pytest.raises(DataError, match=r"cannot fetch cifar10: .*is not the published file: its MD5 is") as error:
        datasets.fetch("cifar10")
    assert "apt-get" not in one_line(error)
    file.unlink()
    with pytest.raises(DataError, match=r"answered 404 for cifar-10-python\.tar\.gz"):
        datasets.fetch("cifar10")
    assert list(empty_machine.iterdir()) == []


def test_tiny_imagenet_is_unpacked(
    served: tuple[Path, str], empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, "tiny-imagenet", served, tiny())
    lines: list[str] = []
    folder = datasets.fetch("tiny-imagenet", progress=lines.append)
    assert folder == empty_machine / "tiny-imagenet"
    assert "unpacking tiny-imagenet-200.zip" in lines
    data = folder / "tiny-imagenet-200"
    assert datasets.where("tiny-imagenet") == tiny_imagenet.find() == data
    assert (data / "train" / "n01443537" / "images" / "n01443537_0.JPEG").read_bytes() == b"a picture"
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "tiny-imagenet-200"]
    assert not list(empty_machine.parent.rglob("elsewhere"))
    assert all(data in path.parents for path in empty_machine.parent.parent.rglob("escape"))
    assert datasets.fetch("tiny-imagenet", progress=lines.append) == data
    assert lines[-1] == f"tiny-imagenet is already in {data}"
    # A part of it in the way is not overwritten.
    (data / "val" / "val_annotations.txt").unlink()
    (data / "val").rmdir()
    with pytest.raises(DataError, match="is there already and is not complete; delete it and fetch again"):
        datasets.fetch("tiny-imagenet")


@pytest.mark.parametrize(
    ("content", "problem"), [(tiny()[:-30], "is truncated or damaged"), (b"PK", "is truncated or damaged")]
)
def test_a_damaged_zip(
    served: tuple[Path, str], empty_machine: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, problem: str
) -> None:
    serve(monkeypatch, "tiny-imagenet", served, content)  # as if it had been published like this
    with pytest.raises(DataError, match=problem) as error:
        datasets.fetch("tiny-imagenet")
    one_line(error)
    assert list(empty_machine.iterdir()) == []
