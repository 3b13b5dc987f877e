"""Read files out of a Debian package without Debian's tools.

A ``.deb`` is an ``ar`` archive (8 bytes of magic; before every member a header of 60 bytes with its name and its
size in decimal; members start at even places), whose member ``data.tar.*`` holds the files (deb(5)).
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from neurons.errors import DataError

MAGIC = b"!<arch>\n"
HEADER = 60


def unpack_deb(deb: Path, folder: str, target: Path) -> list[Path]:
    """Copy the regular files directly in ``folder`` of the package into ``target``.

    Only names and bytes are taken from the archive, no links, owners or modes, so that nothing can land outside
    ``target``.

    Parameters
    ----------
    deb : Path
        The package.
    folder : str
        Folder inside it, without a leading slash.
    target : Path
        An existing folder.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    DataError
        When the package cannot be read or has no such files.
    """
    written = []
    try:
        with tarfile.open(fileobj=io.BytesIO(_data_member(deb)), mode="r:*") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if member.isfile() and path.parent == PurePosixPath(folder) and path.name != "..":
                    file = archive.extractfile(member)
                    assert file is not None  # a regular file always has content
                    written.append(target / path.name)
                    written[-1].write_bytes(file.read())
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{deb} cannot be unpacked: its data are damaged or compressed in an unknown way") from error
    if not written:
        raise DataError(f"{deb} has no files in {folder}")
    return written


def _data_member(deb: Path) -> bytes:
    """Return the bytes of the member ``data.tar.*``."""
    content = deb.read_bytes()
    if not content.startswith(MAGIC):
        raise DataError(f"{deb} is not a Debian package: it starts with {content[:8]!r}")
    at = len(MAGIC)
    while at + HEADER <= len(content):
        header = content[at : at + HEADER]
        name, size = header[:16].decode("latin-1").rstrip(" /"), header[48:58].decode("latin-1").strip()
        if header[58:] != b"`\n" or not size.isdigit():
            raise DataError(f"{deb} is damaged: no member header at byte {at}")
        start = at + HEADER
        member = content[start : start + int(size)]
        if len(member) < int(size):
            raise DataError(f"{deb} is truncated: {name} has {len(member)} of {size} bytes")
        if name.startswith("data.tar"):
            return member
        at = start + int(size) + int(size) % 2
    raise DataError(f"{deb} is damaged: it has no member data.tar")
