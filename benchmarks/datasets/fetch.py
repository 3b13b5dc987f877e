"""Bring a data set onto this machine, once, verified, and never half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from benchmarks.datasets.base import datasets
from benchmarks.datasets.deb import unpack_deb
from benchmarks.datasets.idx import verify
from benchmarks.datasets.packed import check_md5, unpack_zip
from benchmarks.datasets.roots import find, missing_files, search_roots
from neurons.errors import DataError

Progress = Callable[[str], None]


class Find(Protocol):
    """Finds the files of a data set; ``own`` looks in ``root`` only."""

    def __call__(self, root: str | Path | None = None, own: bool = False) -> Path: ...


TIMEOUT = (5.0, 15.0)
"""Seconds to wait for a connection and for the next bytes: a server that cannot be reached is soon given up."""
APT_TIMEOUT = 600.0
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Remote:
    """Where the files of a data set can be had.

    Parameters
    ----------
    files : mapping
        File name to its checksum.
    url : str
        Address of the folder with the official files.
    licence : str
        Terms of the data, for the manifest.
    checksum : {"sha256_of_content", "md5"}
        Of the decompressed content of a gzip file, or of the file as it is.
    debian_package, debian_folder : str, optional
        Debian package with the same content, and the folder inside it.
    unpack : str, optional
        The one file is a zip archive, of which this folder is kept in its stead.
    find : callable, optional
        Finds the data in any of the forms in which people have them.
    """

    files: Mapping[str, str]
    url: str
    licence: str
    checksum: Literal["sha256_of_content", "md5"] = "sha256_of_content"
    debian_package: str | None = None
    debian_folder: str = ""
    unpack: str | None = None
    find: Find | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ByHand:
    """A data set that cannot be downloaded.

    Parameters
    ----------
    advice : str
        How a user gets it.
    find : callable, optional
        Finds the data; None for a data set that has no place of its own.
    """

    advice: str
    find: Find | None = None


remotes: dict[str, Remote] = {}
"""The data sets that can be fetched."""
by_hand: dict[str, ByHand] = {}
"""The data sets that users have to bring; all others come with a library."""


def where(name: str, root: str | Path | None = None) -> Path | None:
    """Return where the files of a data set are; None for one that comes with a library.

    Raises
    ------
    UnknownNameError
        With the nearest known names.
    DataError
        When they are not here; the message ends with what brings them.
    """
    datasets.get(name)
    known = remotes.get(name) or by_hand.get(name)
    if known is None:
        return None
    if known.find is not None:
        return known.find(root)
    if isinstance(known, Remote):
        return find(name, known.files, root)
    raise DataError(f"data set {name!r} has no place of its own; {known.advice}")


def fetch(name: str, root: str | Path | None = None, progress: Progress | None = None) -> Path | None:
    """Bring the data set ``name`` onto this machine; do nothing where it is already there and intact.

    The official files are tried first, then the Debian package where ``apt-get`` exists. Files are written to
    a temporary folder, verified and then renamed, so that an interrupted fetch leaves nothing half-written.

    Parameters
    ----------
    name : str
        Registered name.
    root : path, optional
        Data folder to write to; when left out, the first of the folders in ``benchmarks.datasets.roots``.
    progress : callable, optional
        Is told in one line what happens.

    Returns
    -------
    Path or None
        The folder with the data; None for a data set that needs no files.

    Raises
    ------
    UnknownNameError
        With the nearest known names.
    DataError
        When no source can be reached, the folder cannot be written, or the data set cannot be downloaded.
    """
    tell = progress or (lambda line: None)
    datasets.get(name)
    if name in by_hand:
        raise DataError(f"{name} cannot be fetched: {by_hand[name].advice}")
    if name not in remotes:
        tell(f"{name} comes with an installed library; nothing to fetch")
        return None
    remote = remotes[name]
    present = _intact(name, remote, root, tell)
    if present is not None:
        tell(f"{name} is already in {present}, verified")
        return present
    present = _in_another_form(remote, root)
    if present is not None:
        tell(f"{name} is already in {present}")
        return present
    place = search_roots(root)[0]
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=place) as scratch:
            staged = Path(scratch) / name
            staged.mkdir()
            source = _obtain(name, remote, staged, Path(scratch), tell)
            _write_manifest(staged, name, source, remote)
            if remote.unpack:
                _unpack(staged, remote.unpack, place / name, tell)
            _move_into_place(staged, place / name)
    except OSError as error:
        raise DataError(f"cannot write to the data folder {place}: {error.strerror or error}") from error
    tell(f"{name} is in {place / name}, verified")
    return place / name


def _intact(name: str, remote: Remote, root: str | Path | None, tell: Progress) -> Path | None:
    """Return the folder that ``load`` would read, if its files are the published ones."""
    # Who names a folder wants the data there, wherever else they may be.
    for place in search_roots(root)[: 1 if root else None]:
        folder = place / name
        if not missing_files(folder, remote.files):
            try:
                _verify(folder, remote)
            except DataError as error:
                tell(f"fetching again: {error}")
                return None
            return folder
    return None


def _in_another_form(remote: Remote, root: str | Path | None) -> Path | None:
    """Return the data that ``load`` would read, when they are not the files that would be fetched."""
    if remote.find is None:
        return None
    try:
        found = remote.find(root, own=True)
    except DataError:
        return None
    return None if found.name in remote.files else found  # those have just been found altered


def _verify(folder: Path, remote: Remote) -> None:
    check = verify if remote.checksum == "sha256_of_content" else check_md5
    for file, checksum in remote.files.items():
        check(folder / file, checksum)


def _unpack(staged: Path, folder: str, target: Path, tell: Progress) -> None:
    """Put the folder in the place of the archive that holds it."""
    if (target / folder).exists():
        raise DataError(f"{target / folder} is there already and is not complete; delete it and fetch again")
    archive = next(path for path in staged.iterdir() if path.suffix == ".zip")
    tell(f"unpacking {archive.name}")
    unpack_zip(archive, folder, staged)
    archive.unlink()


def _obtain(name: str, remote: Remote, staged: Path, scratch: Path, tell: Progress) -> str:
    """Fill ``staged`` with verified files from the first source that works; return what that was."""
    failures = []
    for number, source in enumerate((_official, _debian) if remote.debian_package else (_official,)):
        raw = scratch / f"source-{number}"
        raw.mkdir()
        try:
            description = source(remote, raw, tell)
            _verify(raw, remote)
        except DataError as error:
            failures.append(str(error))
            tell(str(error))
            continue
        for file in remote.files:
            # A copy, not a move: downloads come with the permissions of temporary files.
            shutil.copyfile(raw / file, staged / file)
        return description
    raise DataError(f"cannot fetch {name}: " + "; ".join(failures))


def _official(remote: Remote, folder: Path, tell: Progress) -> str:
    """Download the official files into ``folder``."""
    import pooch
    import requests

    download = pooch.HTTPDownloader(timeout=TIMEOUT)
    for file in remote.files:
        url = f"{remote.url}/{file}"
        tell(f"downloading {url}")
        try:
            download(url, str(folder / file), None)
        except requests.HTTPError as error:
            answer = "an error" if error.response is None else str(error.response.status_code)
            raise DataError(f"{remote.url} answered {answer} for {file}") from error
        except requests.RequestException as error:
            raise DataError(f"{remote.url} cannot be reached ({type(error).__name__})") from error
    return remote.url


def _debian(remote: Remote, folder: Path, tell: Progress) -> str:
    """Download the Debian package with apt, which checks it against its signed index, and unpack it."""
    package = remote.debian_package
    assert package is not None
    if shutil.which("apt-get") is None:
        raise DataError(f"the Debian package {package} needs apt-get, which this system does not have")
    tell(f"downloading the Debian package {package}, which holds the same files, with apt-get")
    try:
        done = subprocess.run(
            ["apt-get", "download", "-q", package],
            cwd=folder, env={**os.environ, "LC_ALL": "C"}, check=False, capture_output=True, text=True,
            timeout=APT_TIMEOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DataError(f"apt-get download {package} did not finish within {APT_TIMEOUT:g} seconds") from error
    packages = sorted(folder.glob(f"{package}_*.deb"))
    if done.returncode != 0 or not packages:
        raise DataError(_apt_failure(package, done.stderr))
    unpack_deb(packages[0], remote.debian_folder, folder)
    return f"Debian package {packages[0].stem.replace('%3a', ':')}"


def _apt_failure(package: str, output: str) -> str:
    if "Unable to locate package" in output or "No candidate" in output or "Can't find a source" in output:
        return f"apt-get does not know the Debian package {package} (run apt-get update first)"
    errors = [line for line in output.splitlines() if line.startswith("E:")] or output.splitlines() or ["no message"]
    return f"apt-get download {package} failed: {errors[0].removeprefix('E:').strip()}"


def _write_manifest(folder: Path, name: str, source: str, remote: Remote) -> None:
    """Record beside the data where they came from and the checksums of the files."""
    manifest = {"dataset": name, "source": source, "licence": remote.licence, remote.checksum: dict(remote.files)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _move_into_place(staged: Path, target: Path) -> None:
    try:
        staged.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        # The folder is there already, with damaged or missing files: replace each, and leave others alone.
        for file in sorted(staged.iterdir()):
            file.replace(target / file.name)
