"""Bringing data onto a machine: both sources, what goes wrong with them, and what is left behind. No network."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import json
import lzma
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pooch
import pytest
import requests

from benchmarks import datasets
from benchmarks.datasets.deb import unpack_deb
from benchmarks.datasets.fetch import Remote
from neurons.errors import DataError

fetching = importlib.import_module("benchmarks.datasets.fetch")  # the package's ``fetch`` is the function


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make both sources unreachable; return the list of what was tried."""
    tried: list[str] = []

    def refuse(self: object, url: str, output: str, pup: object) -> None:
        tried.append(url)
        raise requests.ConnectionError("no route")

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess:
        tried.append(" ".join(command))
        return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate package dataset-fashion-mnist\n")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)
    monkeypatch.setattr(fetching.subprocess, "run", run)
    monkeypatch.setattr(fetching.shutil, "which", lambda program: f"/usr/bin/{program}")
    return tried


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# The reader of Debian packages


def ar_member(name: str, content: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
    assert len(header) == 60
    return header + content + b"\n" * (len(content) % 2)


def deb(files: dict[str, bytes], compress: Callable[[bytes], bytes] = lzma.compress, suffix: str = ".xz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("./usr/share/datasets/made/link.gz")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    return (
        b"!<arch>\n"
        + ar_member("debian-binary", b"2.0\n")
        + ar_member("control.tar.xz/", b"odd")  # odd size: the next member starts at an even place
        + ar_member(f"data.tar{suffix}", compress(buffer.getvalue()))
    )


INSIDE = {
    "./usr/share/datasets/made/a.gz": b"first",
    "./usr/share/datasets/made/b.gz": b"second",
    "./usr/share/datasets/made/deeper/c.gz": b"not asked for",
    "./usr/share/datasets/made/../../../../escape": b"not asked for",
    "./usr/share/doc/made/copyright": b"not asked for",
}


@pytest.mark.parametrize(("compress", "suffix"), [(lzma.compress, ".xz"), (gzip.compress, ".gz"), (bytes, "")])
def test_deb_gives_the_files_of_one_folder(tmp_path: Path, compress: Callable[[bytes], bytes], suffix: str) -> None:
    package = tmp_path / "made.deb"
    package.write_bytes(deb(INSIDE, compress, suffix))
    (tmp_path / "out").mkdir()
    written = unpack_deb(package, "usr/share/datasets/made", tmp_path / "out")
    assert {path.name: path.read_bytes() for path in written} == {"a.gz": b"first", "b.gz": b"second"}
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.gz", "b.gz", "made.deb", "out"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"PK\3\4 not a deb at all", "is not a Debian package"),
        (deb(INSIDE)[:-40], r"is truncated: data.tar.xz has \d+ of \d+ bytes"),
        (b"!<arch>\n" + b"x" * 60, "is damaged: no member header at byte 8"),
        (b"!<arch>\n" + ar_member("debian-binary", b"2.0\n"), "it has no member data.tar"),
        (deb({"./usr/share/doc/made/copyright": b""}), "has no files in usr/share/datasets/made"),
        (deb(INSIDE, lambda content: b"\x28\xb5\x2f\xfd" + content, ".zst"), "damaged or compressed in an unknown way"),
        (deb(INSIDE, lambda content: lzma.compress(content)[:-60] + bytes(60)), "damaged or compressed"),
    ],
)
def test_deb_refuses_other_files(tmp_path: Path, content: bytes, problem: str) -> None:
    package = tmp_path / "made.deb"
    package.write_bytes(content)
    with pytest.raises(DataError, match=problem) as error:
        unpack_deb(package, "usr/share/datasets/made", tmp_path)
    assert "made.deb" in one_line(error)


# Fetching

CONTENT = {"a.gz": b"abc", "b.gz": b"de"}
REMOTE = Remote(
    files={name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()},
    url="http://official.example",
    debian_package="dataset-made",
    debian_folder="usr/share/datasets/made",
    licence="none",
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, no_network: list[str], empty_machine: Path) -> list[str]:
    """Let "fashion-mnist" be two tiny files; return what was tried."""
    monkeypatch.setitem(fetching.remotes, "fashion-mnist", REMOTE)
    return no_network


def serve(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    def download(self: object, url: str, output: str, pup: object) -> None:
        Path(output).write_bytes(files[url.removeprefix("http://official.example/")])

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)


def apt(monkeypatch: pytest.MonkeyPatch, package: bytes) -> None:
    def run(command: list[str], cwd: Path, **options: object) -> subprocess.CompletedProcess:
        assert command == ["apt-get", "download", "-q", "dataset-made"]
        (cwd / "dataset-made_1.0-1_all.deb").write_bytes(package)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetching.subprocess, "run", run)


PACKED = {name: gzip.compress(content) for name, content in CONTENT.items()}


def check(folder: Path | None, source: str) -> None:
    assert folder is not None
    assert sorted(path.name for path in folder.iterdir()) == ["a.gz", "b.gz", "manifest.json"]
    assert {name: gzip.decompress((folder / name).read_bytes()) for name in CONTENT} == CONTENT
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source"] == source
    assert manifest["sha256_of_content"] == dict(REMOTE.files)
    assert list(folder.parent.iterdir()) == [folder]  # nothing temporary is left


def test_fetch_downloads_the_official_files_once(
    small: list[str], empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, PACKED)
    lines: list[str] = []
    folder = datasets.fetch("fashion-mnist", progress=lines.append)
    assert folder == empty_machine / "fashion-mnist"
    check(folder, "http://official.example")
    assert lines[-1] == f"fashion-mnist is in {folder}, verified"
    serve(monkeypatch, {})  # a second download would be a KeyError
    assert datasets.fetch("fashion-mnist", progress=lines.append) == folder
    assert lines[-1] == f"fashion-mnist is already in {folder}, verified"
    assert small == []


def test_fetch_writes_where_it_is_told(
    small: list[str], empty_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, PACKED)
    monkeypatch.setenv("STEP_DATA", str(tmp_path / "env"))
    assert datasets.fetch("fashion-mnist") == tmp_path / "env" / "fashion-mnist"
    # A folder that is named gets its own copy, although the data are found elsewhere.
    check(datasets.fetch("fashion-mnist", tmp_path / "here"), "http://official.example")
    assert not empty_machine.exists()


def test_fetch_falls_back_on_the_debian_package(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    apt(monkeypatch, deb({f"./usr/share/datasets/made/{name}": content for name, content in PACKED.items()}))
    lines: list[str] = []
    check(datasets.fetch("fashion-mnist", progress=lines.append), "Debian package dataset-made_1.0-1_all")
    assert "http://official.example cannot be reached (ConnectionError)" in lines
    assert small == ["http://official.example/a.gz"]  # given up after the first file


def test_fetch_does_not_take_wrong_files_from_the_official_address(
    small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, {**PACKED, "b.gz": b"<html>please log in</html>"})
    apt(monkeypatch, deb({f"./usr/share/datasets/made/{name}": content for name, content in PACKED.items()}))
    check(datasets.fetch("fashion-mnist"), "Debian package dataset-made_1.0-1_all")


def test_fetch_replaces_damaged_files_and_leaves_others_alone(
    small: list[str], empty_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, PACKED)
    folder = empty_machine / "fashion-mnist"
    folder.mkdir(parents=True)
    (folder / "a.gz").write_bytes(gzip.compress(b"abX"))
    (folder / "b.gz").write_bytes(PACKED["b.gz"])
    (folder / "notes.txt").write_text("mine")
    lines: list[str] = []
    datasets.fetch("fashion-mnist", progress=lines.append)
    assert "fetching again" in lines[0]
    assert "a.gz is not the published file" in lines[0]
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    check(folder, "http://official.example")


@pytest.mark.parametrize("moment", [KeyboardInterrupt, DataError])
def test_an_interrupted_fetch_leaves_nothing(
    small: list[str], empty_machine: Path, monkeypatch: pytest.MonkeyPatch, moment: type[BaseException]
) -> None:
    def download(self: object, url: str, output: str, pup: object) -> None:
        if url.endswith("b.gz"):
            raise moment
        Path(output).write_bytes(PACKED["a.gz"])

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)
    with pytest.raises(moment):
        datasets.fetch("fashion-mnist")
    assert list(empty_machine.iterdir()) == []


def test_fetch_says_why_nothing_worked(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError) as error:
        datasets.fetch("fashion-mnist")
    assert one_line(error) == (
        "cannot fetch fashion-mnist: http://official.example cannot be reached (ConnectionError); "
        "apt-get does not know the Debian package dataset-made (run apt-get update first)"
    )
    monkeypatch.setattr(fetching.shutil, "which", lambda program: None)
    with pytest.raises(DataError, match="needs apt-get, which this system does not have"):
        datasets.fetch("fashion-mnist")


def test_fetch_reports_other_failures_of_the_sources(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(self: object, url: str, output: str, pup: object) -> None:
        response = requests.Response()
        response.status_code = 404
        raise requests.HTTPError(response=response)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", not_found)
    failed = subprocess.CompletedProcess([], 100, "", "W: a warning\nE: Failed to fetch http://deb/x  403 Forbidden\n")
    monkeypatch.setattr(fetching.subprocess, "run", lambda command, **options: failed)
    with pytest.raises(DataError) as error:
        datasets.fetch("fashion-mnist")
    assert "http://official.example answered 404 for a.gz" in one_line(error)
    assert one_line(error).endswith("apt-get download dataset-made failed: Failed to fetch http://deb/x  403 Forbidden")


def test_fetch_names_a_folder_that_cannot_be_written(small: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=f"cannot write to the data folder {tmp_path}/file"):
        datasets.fetch("fashion-mnist", tmp_path / "file")


def test_data_that_come_with_a_library_need_no_fetch(small: list[str], empty_machine: Path) -> None:
    lines: list[str] = []
    assert datasets.fetch("digits", progress=lines.append) is None
    assert lines == ["digits comes with an installed library; nothing to fetch"]
    assert not empty_machine.exists()
    assert small == []
