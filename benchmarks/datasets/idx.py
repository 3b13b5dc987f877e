"""The IDX format of the MNIST family: a short header and then plain bytes, in a gzip file.

Big-endian: two zero bytes, one byte for the type of the values (8 = unsigned bytes), one byte for the number of
dimensions, each dimension as four bytes, then the values (Y. LeCun, C. Cortes and C. Burges, "The MNIST
database of handwritten digits", http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from neurons.errors import DataError

UNSIGNED_BYTE = 8


def read_idx(path: Path, sha256: str | None = None) -> Tensor:
    """Read a gzip-compressed IDX file of unsigned bytes.

    Parameters
    ----------
    path : Path
        The ``.gz`` file.
    sha256 : str, optional
        Hash that the decompressed content must have. The compressed file may differ from one distributor to the
        next; its content may not.

    Returns
    -------
    Tensor of uint8
        Of the dimensions that the header states.

    Raises
    ------
    DataError
        In one line that names the file and what is wrong with it.
    """
    content = gunzip(path)
    values = parse_idx(content, path)
    if sha256 is not None:
        check_content(content, sha256, path)
    return values


def gunzip(path: Path) -> bytes:
    """Return the decompressed content of ``path``."""
    try:
        with gzip.open(path) as file:
            return file.read()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except gzip.BadGzipFile as error:
        reason = "fails its checksum" if "CRC" in str(error) else "is not a gzip file"
        raise DataError(f"{path} {reason}; delete it and fetch it again") from error
    except (EOFError, zlib.error) as error:
        reason = "is truncated" if isinstance(error, EOFError) else "is damaged: it cannot be decompressed"
        raise DataError(f"{path} {reason}; delete it and fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def parse_idx(content: bytes, path: Path) -> Tensor:
    """Return the values of an IDX file of unsigned bytes; ``path`` stands in messages only."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTE or content[3] == 0:
        start = content[:4].hex(" ") or "nothing"
        raise DataError(f"{path} is not an IDX file of unsigned bytes: it starts with {start}")
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise DataError(f"{path} is truncated: its header ends after {len(content)} of {header} bytes")
    shape = struct.unpack(f">{content[3]}I", content[4:header])
    expected, found = prod(shape), len(content) - header
    if found != expected:
        problem = "is truncated" if found < expected else "has bytes left over"
        sizes = " x ".join(map(str, shape))
        raise DataError(f"{path} {problem}: its header promises {sizes} = {expected} bytes of data, found {found}")
    # bytearray: torch wants memory that may be written to.
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[header:].reshape(shape)


def check_content(content: bytes, sha256: str, path: Path) -> None:
    """Raise DataError unless ``content`` has the hash ``sha256``."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path} is not the published file: the sha256 of its content is {found[:16]}..., not {sha256[:16]}...; "
            "delete it and fetch it again"
        )


def verify(path: Path, sha256: str) -> None:
    """Raise DataError unless ``path`` is a gzip file whose content has the hash ``sha256``."""
    check_content(gunzip(path), sha256, path)
