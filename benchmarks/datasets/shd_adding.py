"""SHD-Adding: two spoken digits one after the other, to be added."""

from __future__ import annotations

from pathlib import Path

from benchmarks.datasets import shd
from benchmarks.datasets.base import datasets
from benchmarks.datasets.fetch import ByHand, by_hand
from benchmarks.datasets.pairs import adding
from benchmarks.datasets.sequence import SequenceDataset

NAME = "shd-adding"
DIGITS = 10

by_hand[NAME] = ByHand(shd.ADVICE, shd.find)


@datasets.register(NAME)
def load(
    bin: int = 10,
    train_pairs: int = 16_000,
    validation_pairs: int = 4_000,
    test_pairs: int = 16_000,
    root: Path | None = None,
) -> SequenceDataset:
    """SHD-Adding: two recordings of the Spiking Heidelberg Digits one after the other; the label is their sum.

    Both are drawn independently, uniformly and with replacement from the same split, whatever their language; each is
    cut to one second. The sums are 0 to 18, and the most frequent one has a share of about 10 %: the first digit has
    to be remembered for a second. From A. Spieler et al., The Expressive Leaky Memory Neuron, ICLR 2024
    (arXiv:2306.16922).

    Parameters
    ----------
    bin : int
        Milliseconds of a time step; must divide 1000. A sample has 2000 / ``bin`` steps.
    train_pairs : int
        Pairs of an epoch, drawn anew in each; 2,000 batches of 8 in the paper.
    validation_pairs, test_pairs : int
        Fixed pairs; 500 and 2,000 batches of 8 in the paper.
    root : path, optional
        Folder to search first for the files of ``shd``.

    Raises
    ------
    OptionError
        When ``bin`` does not divide 1000 or a number is below 1.
    DataError
        When files are missing or are not what they should be.
    """
    recordings = shd.recordings(bin, root)
    counts = {"train": train_pairs, "validation": validation_pairs, "test": test_pairs}
    return SequenceDataset(
        name=NAME,
        **adding(recordings, DIGITS, counts, 0),
        classes=2 * DIGITS - 1,
        channels=shd.CHANNELS,
        image_size=1,
        source=f"pairs of SHD ({shd.SOURCE}) as in A. Spieler et al., ICLR 2024, arXiv:2306.16922",
        licence=shd.LICENCE,
        note=f"{shd.note(recordings)}; training pairs are drawn anew in every epoch, the {validation_pairs:,} "
        f"validation and {test_pairs:,} test pairs are always the same ones, though not those of the paper; digits of "
        "English and German mix",
        steps=2 * shd.DURATION // bin,
        task="classification",
        dt=float(bin),
    )
