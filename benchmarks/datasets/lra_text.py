"""The tasks of Long Range Arena on real data: texts byte by byte, pairs of texts, and grey images pixel by pixel.

Y. Tay et al., Long Range Arena: A Benchmark for Efficient Transformers, ICLR 2021, arXiv 2011.04006.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.datasets import cifar
from benchmarks.datasets.base import Samples, Split, datasets
from benchmarks.datasets.drawing import at_least
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.listops import given_folder
from benchmarks.datasets.pixels import PixelSplit, check_thermometer
from benchmarks.datasets.roots import find_form, missing_files
from benchmarks.datasets.sequence import SequenceDataset
from benchmarks.datasets.symbols import Coding, SymbolSplit, check_coding, joined
from neurons.errors import DataError

TEXT, RETRIEVAL, IMAGE = "lra-text", "lra-retrieval", "lra-image"
BYTES = 256
SENTIMENTS = ("neg", "pos")
TEXT_ADVICE = "get aclImdb_v1.tar.gz from https://ai.stanford.edu/~amaas/data/sentiment and unpack it in a data folder"
PAIR_FILES = {
    "train": "new_aan_pairs.train.tsv", "validation": "new_aan_pairs.eval.tsv", "test": "new_aan_pairs.test.tsv",
}  # fmt: skip
PAIR_FORMS = ("aan", "tsv_data", "lra_release/tsv_data", "lra_release/lra_release/tsv_data", ".")
PAIR_ADVICE = "get lra_release.gz of Long Range Arena from its authors and put its folder 'tsv_data' in a data folder"
BLOCK = 1 << 26
"""Bytes of a file that are searched at a time."""


def find_text(root: str | Path | None = None, own: bool = False) -> Path:
    """Return the folder of film reviews."""
    forms = {"aclImdb": _lacks_reviews, ".": _lacks_reviews}
    return find_form(TEXT, forms, root, advice=TEXT_ADVICE, own=own)


def find_pairs(root: str | Path | None = None, own: bool = False) -> Path:
    """Return the folder with the three files of pairs."""
    lacks = partial(missing_files, files=PAIR_FILES.values())
    return find_form(RETRIEVAL, dict.fromkeys(PAIR_FORMS, lacks), root, advice=PAIR_ADVICE, own=own)


by_hand[TEXT] = ByHand(TEXT_ADVICE, find_text)
by_hand[RETRIEVAL] = ByHand(PAIR_ADVICE, find_pairs)
by_hand[IMAGE] = ByHand("it is made of another data set: run: step fetch cifar10", cifar.CIFAR10.find)


@datasets.register(TEXT)
def load_text(
    max_length: int = 4_096, coding: Coding = "one-hot", path: str | None = None, root: Path | None = None
) -> SequenceDataset:
    """Long Range Arena's text: your own copy of 50,000 film reviews (aclImdb), byte by byte; good or bad.

    A. L. Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011. Read from
    ``{train,test}/{neg,pos}/*.txt``; the class of bad reviews is 0. The data name no validation reviews; Long Range
    Arena takes the test split.

    Parameters
    ----------
    max_length : int
        Bytes of a review that are read; the rest is left out.
    coding : {"one-hot", "index"}
        256 channels, or one number (b + 1) / 256 for byte b.
    path : str, optional
        The folder ``aclImdb``; when left out it is looked for in the data folders.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When a folder or all its files are missing, or a review is empty.
    """
    at_least(1, max_length=max_length)
    check_coding(coding)
    folder = find_text(root) if path is None else Path(path).expanduser()
    if path is not None and (missing := _lacks_reviews(folder)):
        raise DataError(f"dataset.path: {folder} lacks {', '.join(missing)}")
    splits = {name: _reviews(folder / name, max_length, coding) for name in ("train", "test")}
    return SequenceDataset(
        name=TEXT,
        train=splits["train"],
        test=splits["test"],
        classes=2,
        channels=splits["train"].channels,
        image_size=1,
        steps=max_length,
        source="A. L. Maas et al., ACL 2011, https://ai.stanford.edu/~amaas/data/sentiment",
        licence="none stated by the authors, who ask to cite the paper",
        note=f"official split; the first {max_length:,} bytes of a review",
    )


@datasets.register(RETRIEVAL)
def load_retrieval(
    max_length: int = 4_000, coding: Coding = "one-hot", path: str | None = None, root: Path | None = None
) -> SequenceDataset:
    """Long Range Arena's retrieval: your own pairs of papers (AAN), byte by byte; whether one cites the other.

    Read from ``new_aan_pairs.{train,eval,test}.tsv`` of Long Range Arena, whose lines hold the label, two names and two
    texts. The two texts come one after the other with a separator between them, to one network that has to remember the
    first. The models of Long Range Arena read each text for itself and join two summaries instead, so that results are
    not to be compared without saying so. Texts stay in the file and are read as they are needed.

    Parameters
    ----------
    max_length : int
        Bytes of each text that are read; the rest is left out.
    coding : {"one-hot", "index"}
        257 channels, the last of which is the separator, or one number (b + 1) / 257 for byte b.
    path : str, optional
        The folder; when left out it is looked for in the data folders.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When a file is missing, or a line of it is no pair of texts.
    """
    at_least(1, max_length=max_length)
    check_coding(coding)
    folder = find_pairs(root) if path is None else given_folder(path, PAIR_FILES.values())
    splits = {name: _pairs(folder / file, max_length, coding) for name, file in PAIR_FILES.items()}
    return SequenceDataset(
        name=RETRIEVAL,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        classes=2,
        channels=splits["train"].channels,
        image_size=1,
        steps=2 * max_length + 1,
        source="D. R. Radev et al., The ACL Anthology Network corpus, Language Resources and Evaluation 47, 2013, in "
        "the files of Long Range Arena, https://github.com/google-research/long-range-arena",
        licence="none stated",
        note=f"the splits of Long Range Arena; the first {max_length:,} bytes of each text, one text after the other",
    )


@datasets.register(IMAGE)
def load_image(thermometer: int = 0, root: Path | None = None) -> SequenceDataset:
    """Long Range Arena's image: CIFAR-10 in grey, pixel by pixel, 1,024 steps.

    The data set ``cifar10``; grey is 0.2989 red + 0.587 green + 0.114 blue, rounded to a byte. Long Range Arena chooses
    models by the last tenth of the training images; here the protocol says which are held out.

    Parameters
    ----------
    thermometer : int
        Channels of a thermometer code, of which the brightness of a pixel turns on the first; 0 for the brightness.
    root : path, optional
        Folder to search first.

    Raises
    ------
    DataError
        When the files are missing, truncated or altered.
    """
    check_thermometer(thermometer)
    colour = cifar.load_cifar10(root)
    train, test = (_grey(split, thermometer) for split in (colour.train, colour.test))
    return SequenceDataset(
        name=IMAGE,
        train=train,
        test=test,
        classes=colour.classes,
        channels=train.channels,
        image_size=1,
        steps=train.sample_shape[0],
        source=colour.source,
        licence=colour.licence,
        note=f"{colour.note}; grey, row by row from the upper left"
        + (f", thermometer code of {thermometer} channels" if thermometer else ""),
    )


def _lacks_reviews(folder: Path) -> list[str]:
    parts = [f"{split}/{sentiment}" for split in ("train", "test") for sentiment in SENTIMENTS]
    return [part for part in parts if next((folder / part).glob("*.txt"), None) is None]


def _reviews(folder: Path, max_length: int, coding: Coding) -> SymbolSplit:
    files = [(file, label) for label, part in enumerate(SENTIMENTS) for file in sorted((folder / part).glob("*.txt"))]
    content, parts = joined(_start(file, max_length) for file, _ in files)
    labels = torch.tensor([label for _, label in files])
    return SymbolSplit(content, parts, labels, BYTES, max_length, coding=coding)


def _start(file: Path, length: int) -> bytes:
    try:
        with file.open("rb") as opened:
            text = opened.read(length)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    if not text:
        raise DataError(f"{file} is empty")
    return text


def _pairs(file: Path, max_length: int, coding: Coding) -> SymbolSplit:
    try:
        content = np.memmap(file, np.uint8, "r")
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise DataError(f"{file} cannot be read: {error}") from error
    labels, parts = [], []
    for number, fields in enumerate(_lines(content), 1):
        label, _, _, first, second = fields if len(fields) == 5 else ((0, 0),) * 5
        said = bytes(content[slice(*label)])
        if said not in (b"0", b"1", b"0.0", b"1.0") or first[0] == first[1] or second[0] == second[1]:
            raise DataError(
                f"{file}, line {number}: a line must hold a label 0 or 1, two names and two texts, with tabs between "
                f"them; found {len(fields)} fields"
            )
        labels.append(int(said[:1]))
        parts.append([(start, min(stop - start, max_length)) for start, stop in (first, second)])
    kept = torch.tensor(parts, dtype=torch.int64)
    return SymbolSplit(content, kept, torch.tensor(labels), BYTES + 1, 2 * max_length + 1, BYTES, coding)


def _lines(content: np.ndarray) -> Iterator[list[tuple[int, int]]]:
    """Yield where the fields of each line start and stop."""
    fields: list[tuple[int, int]] = []
    start = 0
    for first in range(0, len(content), BLOCK):
        block = content[first : first + BLOCK]
        for end in (np.flatnonzero((block == ord("\t")) | (block == ord("\n"))) + first).tolist():
            last = content[end] == ord("\n")
            stop = end - 1 if last and end > start and content[end - 1] == ord("\r") else end
            fields.append((start, stop))
            start = end + 1
            if last:
                yield fields
                fields = []
    if start < len(content) or fields:
        yield [*fields, (start, len(content))]


def _grey(split: Samples, thermometer: int) -> PixelSplit:
    assert isinstance(split, Split)  # CIFAR-10 lies in memory
    images: Tensor = torch.empty(len(split), *split.images.shape[2:], dtype=torch.uint8)
    weights = torch.tensor([0.2989, 0.587, 0.114])
    for rows in torch.arange(len(split)).split(5_000):
        images[rows] = torch.einsum("nchw,c->nhw", split.images[rows].float(), weights).round().to(torch.uint8)
    return PixelSplit(images, split.labels, thermometer)
