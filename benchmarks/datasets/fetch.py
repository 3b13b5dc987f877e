"""Bring a data set onto this machine, once, verified, and never half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.datasets.base import datasets
from benchmarks.datasets.deb import unpack_deb
from benchmarks.datasets.idx import verify
from benchmarks.datasets.roots import missing_files, search_roots
from neurons.errors import DataError

Progress = Callable[[str], None]

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
        File name to the sha256 of its decompressed content.
    url : str
        Address of the folder with the official files.
    debian_package, debian_folder : str
        Debian package with the same content, and the folder inside it.
    licence : str
        Terms of the data, for the manifest.
    """

    files: Mapping[str, str]
    url: str
    debian_package: str
    debian_folder: str
    licence: str


remotes: dict[str, Remote] = {}
"""The data sets that must be fetched; the others come with a library."""


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
        When no source can be reached, or the folder cannot be written.
    """
    tell = progress or (lambda line: None)
    datasets.get(name)
    if name not in remotes:
        tell(f"{name} comes with an installed library; nothing to fetch")
        return None
    remote = remotes[name]
    present = _intact(name, remote, root, tell)
    if present is not None:
        tell(f"{name} is already in {present}, verified")
        return present
    place = search_roots(root)[0]
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=place) as scratch:
            staged = Path(scratch) / name
            staged.mkdir()
            source = _obtain(name, remote, staged, Path(scratch), tell)
            _write_manifest(staged, name, source, remote)
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


def _verify(folder: Path, remote: Remote) -> None:
    for file, sha256 in remote.files.items():
        verify(folder / file, sha256)


def _obtain(name: str, remote: Remote, staged: Path, scratch: Path, tell: Progress) -> str:
    """Fill ``staged`` with verified files from the first source that works; return what that was."""
    failures = []
    for number, source in enumerate((_official, _debian)):
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
    """Record beside the data where they came from and the sha256 of their decompressed content."""
    manifest = {"dataset": name, "source": source, "licence": remote.licence, "sha256_of_content": dict(remote.files)}
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
