"""Read files out of archives without unpacking them to disk, and unpack archives that must be."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from neurons.errors import DataError


def read_packed(archive: Path, members: Mapping[str, str]) -> dict[str, bytes]:
    """Return the content of some files of a ``.tar.gz`` archive.

    Parameters
    ----------
    archive : Path
    members : mapping
        Path inside the archive to the key under which its content is returned.

    Raises
    ------
    DataError
        When the archive cannot be read to its end, or lacks one of the files.
    """
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                key = members.get(str(PurePosixPath(member.name)))
                if key is not None and member.isfile():
                    file = tar.extractfile(member)
                    assert file is not None  # a regular file always has content
                    contents[key] = file.read()
    except EOFError as error:
        raise DataError(f"{archive} is truncated; delete it and fetch it again") from error
    except (tarfile.TarError, zlib.error) as error:
        raise DataError(f"{archive} is truncated or damaged; delete it and fetch it again") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {error.strerror or error}; delete it and fetch it again") from error
    missing = [member for member, key in members.items() if key not in contents]
    if missing:
        raise DataError(f"{archive} lacks {', '.join(missing)}; delete it and fetch it again")
    return contents


def unpack_zip(archive: Path, folder: str, target: Path) -> None:
    """Unpack the folder ``folder`` of a ``.zip`` archive into ``target``; nothing can land outside of it.

    Raises
    ------
    DataError
        When the archive is damaged or has no such folder.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            inside = [name for name in packed.namelist() if PurePosixPath(name).parts[:1] == (folder,)]
            if not inside:
                raise DataError(f"{archive} has no folder {folder}")
            packed.extractall(target, inside)  # removes what would lead out of the target
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DataError(f"{archive} is truncated or damaged; delete it and fetch it again") from error


def check_md5(path: Path, md5: str) -> None:
    """Raise DataError unless the file ``path`` has this MD5."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if found != md5:
        raise DataError(
            f"{path} is not the published file: its MD5 is {found}, not {md5} ({path.stat().st_size:,} bytes; is it "
            "truncated?); delete it and fetch it again"
        )
