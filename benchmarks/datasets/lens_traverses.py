"""Event-camera drives that come with LENS: two passes of a corridor, and two of Brisbane in 7x7 pixels."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets.along_route import along_route, content, npy, oriented
from benchmarks.datasets.base import Split, datasets
from benchmarks.datasets.fetch import Remote, remotes
from benchmarks.datasets.packed import read_packed
from benchmarks.datasets.places import PlaceDataset
from benchmarks.datasets.roots import find_form, missing_files
from neurons.errors import DataError

COMMIT = "f44a08c843456a297c3f0ac477fa50419e215178"
ARCHIVE = f"{COMMIT}.tar.gz"
INSIDE = f"LENS-{COMMIT}/lens"
SOURCE = (
    "A. D. Hines, M. Milford and T. Fischer, A compact neuromorphic system for ultra-energy-efficient, on-device robot "
    "localization, Science Robotics 10, 2025, https://github.com/AdamDHines/LENS"
)
LICENCE = "MIT (LICENSE of the repository; its README links CC BY-NC-SA 4.0)"


@dataclass(frozen=True)
class Drives:
    """Two drives of the repository.

    Parameters
    ----------
    name : str
        Registered name of the data set.
    folder : str
        Below ``dataset`` of the repository.
    reference, query : tuple
        Folder of the frames, their number and their names.
    truth : str
        File with the matches, [places, queries] or the other way round.
    matches : int
        Entries of it.
    size : int
        Side of a frame, in pixels.
    sha256 : str
        Of all files one after the other: references, queries, ground truth.
    """

    name: str
    folder: str
    reference: tuple[str, int, str]
    query: tuple[str, int, str]
    truth: str
    matches: int
    size: int
    sha256: str

    @property
    def files(self) -> list[str]:
        """Paths below the folder, in order."""
        drives = self.reference, self.query
        frames = [f"{drive}/{name.format(i)}" for drive, count, name in drives for i in range(count)]
        return [*frames, self.truth]

    def find(self, root: str | Path | None = None, own: bool = False) -> Path:
        """Return the folder of the drives, or the archive of the repository that holds them."""
        lacks = partial(missing_files, files=self.files)
        below = f"lens/dataset/{self.folder}"
        forms: dict[str, Callable[[Path], list[str]]] = {below: lacks, f"LENS/{below}": lacks}
        # Both data sets come in the one archive.
        forms |= {f"{place}{ARCHIVE}": lambda path: [] for place in ("", "lens-example/", "lens-brisbane/")}
        return find_form(self.name, forms, root, own=own)

    def contents(self, root: Path | None) -> tuple[list[bytes], Path]:
        """Return the bytes of the files, in order and as published, and where they lie."""
        place = self.find(root)
        if place.is_dir():
            found = [content(place / file) for file in self.files]
        else:
            packed: Mapping[str, bytes] = read_packed(
                place, {f"{INSIDE}/dataset/{self.folder}/{file}": file for file in self.files}
            )
            found = [packed[file] for file in self.files]
        digest = hashlib.sha256()
        for part in found:
            digest.update(part)
        if digest.hexdigest() != self.sha256:
            raise DataError(
                f"{place} is not as published: the SHA-256 of the files of {self.name} is {digest.hexdigest()}, not "
                f"{self.sha256}; delete them and run: step fetch {self.name}"
            )
        return found, place

    def load(self, calibration: int, root: Path | None, note: str) -> PlaceDataset:
        """Return the drives as a place data set."""
        found, place = self.contents(root)
        frames = torch.stack(
            [_frame(raw, self.size, place / file) for raw, file in zip(found[:-1], self.files, strict=False)]
        )
        places, queries = self.reference[1], self.query[1]
        truth = oriented(npy(found[-1], place / self.truth), place / self.truth, (places, queries))
        if int(truth.sum()) != self.matches:
            raise DataError(f"{place / self.truth} has {int(truth.sum())} matches, not {self.matches}")
        return along_route(
            Split(frames[:places], torch.arange(places)),
            Split(frames[places:], torch.arange(queries)),
            truth,
            calibration=calibration,
            name=self.name,
            source=SOURCE,
            licence=LICENCE,
            note=note,
        )


EXAMPLE = Drives(
    "lens-example",
    "example/davis128",
    ("example-reference", 100, "image_{:04d}.png"),
    ("example-query", 100, "image_{:04d}.png"),
    "example-reference_example-query_GT.npy",
    100,
    80,
    "b9abd5d72777d57d86171d007dff461594fec2108e0c855f38aa66d7f48359ed",
)
BRISBANE = Drives(
    "lens-brisbane",
    "brisevent/davis346",
    ("sunset2", 641, "images_{:05d}.png"),
    ("sunset1", 724, "images_{:05d}.png"),
    "sunset2_sunset1_GT.npy",
    822,
    7,
    "d376716f9d054e998e1ea7a9f482cff64a1ccee93fc518ece57923d76d81b666",
)

for _drives in (EXAMPLE, BRISBANE):
    remotes[_drives.name] = Remote(
        files={ARCHIVE: "21fe9d9c8642c56afac0c082e99b731e5a6b4adbce1fea7e84ee45ce1849cbdf"},
        url="https://github.com/AdamDHines/LENS/archive",
        licence=LICENCE,
        find=_drives.find,
    )


@datasets.register(EXAMPLE.name)
def load_example(calibration: int = 0, root: Path | None = None) -> PlaceDataset:
    """LENS example: 100 places of a short walk seen twice by an event camera, 80x80 counts of events in a second.

    The i-th query is taken to show the i-th place; the two passes drift apart by about one place, so tolerances of a
    few places say more than exact matches.

    Parameters
    ----------
    calibration : int
        Places at the beginning that are set apart for calibration.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When files are missing or are not as published.
    """
    note = "two passes; ground truth by index, from which the passes drift by about one place"
    return EXAMPLE.load(calibration, root, note)


@datasets.register(BRISBANE.name)
def load_brisbane(calibration: int = 0, root: Path | None = None) -> PlaceDataset:
    """LENS Brisbane: 8 km of road driven on two evenings, 641 places and 724 queries of 7x7 pixels of an event camera.

    Places are those of the drive sunset2 and queries those of sunset1, matched by their positions; four queries show no
    place. The frames are derived from Brisbane-Event-VPR.

    Parameters
    ----------
    calibration : int
        Places at the beginning that are set apart for calibration.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When files are missing or are not as published.
    """
    note = (
        "references: sunset2; queries: sunset1; 49 pixels picked from Brisbane-Event-VPR (T. Fischer and M. Milford, "
        "RA-L 5, 2020) by the authors of LENS; ground truth of theirs"
    )
    return BRISBANE.load(calibration, root, note)


def _frame(raw: bytes, size: int, path: Path) -> Tensor:
    """Return a frame of grey pixels as uint8 [1, size, size]."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(raw), formats=("PNG",)) as image:
            pixels = np.asarray(image)
    except Exception as error:  # decoders of damaged files raise many kinds
        raise DataError(f"{path} cannot be read as an image: {(str(error).splitlines() or ['damaged'])[0]}") from error
    if pixels.shape != (size, size) or pixels.dtype != np.uint8:
        raise DataError(f"{path} is not a grey image of {size}x{size} pixels")
    return torch.from_numpy(pixels.copy()).unsqueeze(0)
