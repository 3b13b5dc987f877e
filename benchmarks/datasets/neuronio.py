"""NeuronIO: what goes into a biophysical model of a cortical neuron and what comes out, from its authors' files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets.base import datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.neuron_recordings import Recording, drawn_windows, recording, sliding_windows
from benchmarks.datasets.plain_pickle import NUMBERS, read_plain_pickle
from benchmarks.datasets.roots import find_form
from benchmarks.datasets.sequence import SequenceDataset
from neurons.errors import DataError, OptionError

NAME = "neuronio"
TRAIN = tuple(f"full_ergodic_train_batch_{number}" for number in range(2, 11))
VALIDATION, TEST = "full_ergodic_train_batch_1", "Data_test"
PLACES = ("", "Data_train", "train")
"""Folders below the data set's in which the folders of training files may lie."""
KAGGLE = "https://www.kaggle.com/datasets/selfishgene/single-neurons-as-deep-nets-nmda"
ADVICE = (
    f"get {KAGGLE}-train-data and {KAGGLE}-test-data (115 GB), which ask for an account, and put the folders "
    f"{VALIDATION} to {TRAIN[-1]} and {TEST} in a folder 'neuronio' of a data folder"
)


def _files(folder: Path, part: str) -> list[Path]:
    """Return the files of a folder of the data set, in the order of their names."""
    found = next((folder / place / part for place in PLACES if (folder / place / part).is_dir()), folder / part)
    return sorted(path for path in found.glob("*sim__*") if path.is_file())


def _lacks(folder: Path) -> list[str]:
    missing = [part for part in (VALIDATION, TEST) if not _files(folder, part)]
    return missing if any(_files(folder, part) for part in TRAIN) else [TRAIN[0], *missing]


def find(root: str | Path | None = None, own: bool = False) -> Path:
    """Return the folder with the folders of files."""
    return find_form(NAME, {"neuronio": _lacks, ".": _lacks}, root, advice=ADVICE, own=own)


by_hand[NAME] = ByHand(ADVICE, find)


@datasets.register(NAME)
def load(
    windows: int = 8_000,
    files: int = 8,
    steps: int = 500,
    burn_in: int = 150,
    skip: int = 500,
    most_spikes: int = 24,
    validation_files: int = 1,
    simulations: int = 128,
    duration: int = 6_000,
    segments: int = 639,
    path: str | None = None,
    root: Path | None = None,
) -> SequenceDataset:
    """NeuronIO: 1,278 inputs, the output spikes and the voltage of a layer-5 pyramidal cell, in windows of 500 ms.

    D. Beniaguev, I. Segev, M. London, Single cortical neurons as deep artificial neural networks, Neuron 109, 2021;
    read and prepared as A. Spieler et al. do (The Expressive Leaky Memory Neuron, ICLR 2024): the voltage is cut off at
    -55 mV, minus -67.7 mV, times 0.1; spikes of inhibitory inputs, which are the second half, are -1; an output spike
    at t ms belongs to step int(t - 0.5). The files hold spike times in half precision, so that after 2,048 ms they are
    2 ms apart, after 4,096 ms 4 ms.

    In training every epoch draws its windows at random places after the first 500 ms, from some of the files.
    Validation and test windows slide over the simulations; the first 150 ms of each are not asked for, and of
    simulations with more than 24 output spikes nothing is. The last window of a simulation is padded with silence.

    Parameters
    ----------
    windows, files : int
        Windows in an epoch, and how many files, chosen anew, they are drawn from; that many files are kept in memory.
        The authors' epoch has 80,000 windows.
    steps : int
        Milliseconds of a window.
    burn_in : int
        Milliseconds at the start of a validation or test window that are not asked for.
    skip : int
        Milliseconds at the start of a simulation that are never asked for.
    most_spikes : int
        Most output spikes of a simulation that is evaluated.
    validation_files : int
        How many of the validation files are used.
    simulations, duration, segments : int
        Simulations in a file, milliseconds of each, and half the inputs: what the published files have.
    path : str, optional
        The folder; when left out it is looked for in the data folders.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When files are missing; when a file is read and is no such file, or a program and not data.
    OptionError
        When a number is outside its domain.
    """
    if validation_files < 1:
        raise OptionError(f"dataset.validation_files must be at least 1, not {validation_files}")
    folder = find(root) if path is None else _given(path)
    parts = {
        "train": [file for part in TRAIN for file in _files(folder, part)],
        "validation": _files(folder, VALIDATION)[:validation_files],
        "test": _files(folder, TEST),
    }
    channels = 2 * segments
    sizes = {name: (len(found), simulations, duration) for name, found in parts.items()}
    sliding = {
        name: sliding_windows(
            _reader(parts[name], 1), sizes[name], channels, steps=steps, burn_in=burn_in, skip=skip,
            most_spikes=most_spikes,
        )
        for name in ("validation", "test")
    }  # fmt: skip
    return SequenceDataset(
        name=NAME,
        train=drawn_windows(
            _reader(parts["train"], files), sizes["train"], channels, count=windows, steps=steps, skip=skip,
            draw_from=files,
        ),
        validation=sliding["validation"],
        test=sliding["test"],
        classes=2,
        channels=channels,
        image_size=1,
        steps=steps,
        task="neuron-io",
        source=f"D. Beniaguev et al., Neuron 109, 2021, {KAGGLE}-train-data and -test-data",
        licence="see Kaggle",
        note=f"{sizes['train'][0]} training, {sizes['validation'][0]} validation and {sizes['test'][0]} test files; "
        f"validation and test windows drop {burn_in} ms of burn-in, the first {skip} ms of a simulation, and "
        f"simulations with more than {most_spikes} output spikes",
    )  # fmt: skip


def read_file(file: Path) -> Recording:
    """Return what a file holds, of which no part is run.

    Raises
    ------
    DataError
        In one line that names the file and what is wrong with it.
    """
    try:
        with file.open("rb") as opened:
            content = read_plain_pickle(opened, file, NUMBERS)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    simulations = _get(_get(content, "Results", file), "listOfSingleSimulationDicts", file)
    params = _get(content, "Params", file)
    segments = len(_get(params, "allSegmentsType", file))
    duration = int(_get(params, "totalSimDurationInSec", file) * 1000)
    if not isinstance(simulations, list) or not simulations:
        raise DataError(f"{file} is no file of NeuronIO: it has no simulations")
    spikes = np.zeros((len(simulations), duration), bool)
    voltage = np.zeros((len(simulations), duration), np.float32)
    events: list[np.ndarray] = []
    for row, simulation in enumerate(simulations):
        for first, key in ((0, "exInputSpikeTimes"), (segments, "inhInputSpikeTimes")):
            events.append(_events(row, _get(simulation, key, file), first, (segments, duration), file))
        out = (np.asarray(_get(simulation, "outputSpikeTimes", file), np.float64) - 0.5).astype(np.int64)
        trace = np.asarray(_get(simulation, "somaVoltageLowRes", file), np.float32)
        if trace.shape != (duration,) or (len(out) and not 0 <= out.min() <= out.max() < duration):
            raise DataError(
                f"{file} is no file of NeuronIO: simulation {row} must have {duration} voltages and spikes within them"
            )
        spikes[row, out] = True
        voltage[row] = trace
    rows, channels, times = np.concatenate(events, 1)
    signs = np.repeat([1.0, -1.0], segments)
    return recording(rows, times, channels, signs, spikes, voltage)


def _events(row: int, times: Any, first: int, sizes: tuple[int, int], file: Path) -> np.ndarray:
    """Return simulation, channel and time of each input spike, int64 [3, spikes]."""
    if not isinstance(times, dict):
        raise DataError(f"{file} is no file of NeuronIO: the input spike times of simulation {row} are no mapping")
    counts = [len(each) for each in times.values()]
    segments = np.repeat(np.fromiter(times, np.int64, len(times)), counts)
    flat = np.fromiter((time for each in times.values() for time in each), np.int64, sum(counts))
    for found, size, what in ((segments, sizes[0], "segments"), (flat, sizes[1], "times")):
        if len(found) and not 0 <= found.min() <= found.max() < size:
            raise DataError(
                f"{file} is no file of NeuronIO: {what} of input spikes of simulation {row} must be 0 to {size - 1}, "
                f"found {found.min()} to {found.max()}"
            )
    return np.stack([np.full_like(flat, row), segments + first, flat])


def _get(content: Any, key: str, file: Path) -> Any:
    """Return an entry of a mapping, whose keys are bytes in files that Python 2 wrote."""
    for name in (key, key.encode()):
        if isinstance(content, dict) and name in content:
            return content[name]
    raise DataError(f"{file} is no file of NeuronIO: it lacks {key}")


def _reader(files: Sequence[Path], kept: int) -> Any:
    return lru_cache(maxsize=max(1, kept))(lambda number: read_file(files[number]))


def _given(path: str) -> Path:
    folder = Path(path).expanduser()
    if missing := _lacks(folder):
        raise DataError(f"dataset.path: {folder} lacks files in {', '.join(missing)}")
    return folder
