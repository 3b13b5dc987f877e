"""Spiking Heidelberg Digits: spoken digits as the spikes of 700 channels of an artificial cochlea."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.datasets.base import datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.roots import find_form, missing_files
from benchmarks.datasets.sequence import SequenceDataset
from benchmarks.datasets.spike_recordings import SpikeRecordings, check_bin, joined
from neurons.errors import DataError

NAME = "shd"
CHANNELS, CLASSES = 700, 20
TRAIN, TEST = 8_156, 2_264
DURATION = 1_000
"""Milliseconds of a recording that are read."""
VALIDATION = 0.2
FILES = ("shd_train.h5", "shd_test.h5")
FOLDERS = ("SHD", "heidelberg", "hdspikes", ".")
"""Folders in which tonic and the tutorials of the authors put the files."""
CHUNK = 256
"""Recordings read from a file at a time."""
URL = "https://zenkelab.org/datasets"
SOURCE = (
    "B. Cramer, Y. Stradmann, J. Schemmel and F. Zenke, The Heidelberg Spiking Data Sets for the Systematic Evaluation "
    f"of Spiking Neural Networks, IEEE TNNLS 33, 2022, {URL}"
)
LICENCE = "CC BY 4.0"
ADVICE = (
    f"get shd_train.h5.gz and shd_test.h5.gz (or .zip) from {URL} (mirror: https://compneuro.net/datasets) and unpack "
    "them in a folder 'shd' of a data folder"
)


def find(root: str | Path | None = None, own: bool = False) -> Path:
    """Return the folder with the two files."""
    return find_form(
        NAME, dict.fromkeys(FOLDERS, lambda folder: missing_files(folder, FILES)), root, advice=ADVICE, own=own
    )


by_hand[NAME] = ByHand(ADVICE, find)


@datasets.register(NAME)
def load(bin: int = 10, root: Path | None = None) -> SequenceDataset:
    """SHD: 10,420 recordings of the spoken digits 0 to 9 in English and German, as spikes of 700 cochlea channels.

    Classes 0 to 9 are the English digits and 10 to 19 the German ones. A sample has a step for every ``bin``
    milliseconds of the first second, with the number of spikes of each channel; later spikes are left out.

    Parameters
    ----------
    bin : int
        Milliseconds of a time step; must divide 1000.
    root : path, optional
        Folder to search first.

    Raises
    ------
    OptionError
        When ``bin`` does not divide 1000.
    DataError
        When files are missing or are not what they should be.
    """
    splits = recordings(bin, root)
    return SequenceDataset(
        name=NAME,
        **splits,
        classes=CLASSES,
        channels=CHANNELS,
        image_size=1,
        source=SOURCE,
        licence=LICENCE,
        note=note(splits),
        steps=DURATION // bin,
        task="classification",
        dt=float(bin),
    )


def recordings(bin: int, root: Path | None) -> dict[str, SpikeRecordings]:
    """Return the recordings to train on, to validate and to test.

    The files have no validation split: each training recording belongs to it with probability 0.2. The draw is the one
    of the public code of A. Spieler et al. (ICLR 2024, arXiv:2306.16922) with its default seed.
    """
    check_bin(bin, DURATION)
    folder = find(root)
    train, test = (read(folder / file, bin) for file in FILES)
    held_out = torch.from_numpy(np.random.default_rng(0).binomial(1, VALIDATION, len(train)).astype(bool))
    return {"train": train.subset(~held_out), "validation": train.subset(held_out), "test": test}


def note(splits: dict[str, SpikeRecordings]) -> str:
    """Return what a reader of a result must know."""
    train, test = len(splits["train"]) + len(splits["validation"]), len(splits["test"])
    published = "" if (train, test) == (TRAIN, TEST) else f" (the published files hold {TRAIN:,} and {TEST:,})"
    return (
        f"{train:,} training and {test:,} test recordings{published}; {VALIDATION:.0%} of the training recordings, "
        f"drawn at random, are held out for validation ({len(splits['validation']):,}) and have the speakers of the "
        "training, whereas 2 of the 12 speakers occur in the test split only: accuracy is higher in validation than "
        "in testing; spikes after the first second are left out"
    )


def read(path: Path, bin: int) -> SpikeRecordings:
    """Read a file of the Heidelberg Spiking Datasets.

    ``spikes/times`` holds for each recording the spike times in seconds (half precision, so that they are exact to half
    a millisecond), ``spikes/units`` their channels, ``labels`` the classes.

    Raises
    ------
    DataError
        In one line that names the file and what is wrong with it.
    """
    import h5py

    times, units = [], []
    try:
        with h5py.File(path, "r") as file:
            labels = torch.from_numpy(np.asarray(file["labels"]).astype(np.int64))
            all_times, all_units = file["spikes/times"], file["spikes/units"]
            if not len(labels) == len(all_times) == len(all_units):
                raise DataError(
                    f"{path} has {len(labels)} labels for {len(all_times)} lists of times and {len(all_units)} of units"
                )
            for start in range(0, len(labels), CHUNK):
                for when, which in zip(all_times[start : start + CHUNK], all_units[start : start + CHUNK], strict=True):
                    time, unit = _events(path, when, which)
                    times.append(time)
                    units.append(unit)
    except (OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} cannot be read as a file of the Heidelberg Spiking Datasets: {reason}") from error
    if not len(labels):
        raise DataError(f"{path} holds no recordings")
    return joined(times, units, labels, CHANNELS, DURATION, bin)


def _events(path: Path, times: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the milliseconds and channels of the spikes in the first second of a recording."""
    if times.shape != units.shape:
        raise DataError(f"{path} has a recording with {len(times)} times for {len(units)} units")
    # Half or single precision times a thousand is exact in double precision: so are the edges of the bins.
    milliseconds = np.floor(times.astype(np.float64) * 1_000)
    if not (milliseconds >= 0).all():
        raise DataError(f"{path} has spike times below 0 or that are not numbers")
    if len(units) and not 0 <= units.min() <= units.max() < CHANNELS:
        raise DataError(f"{path} has spikes of unit {units.max()}, but there are {CHANNELS}")
    early = milliseconds < DURATION
    return milliseconds[early].astype(np.uint16), units[early].astype(np.uint16)
