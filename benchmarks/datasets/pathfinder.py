"""Pathfinder: are two marked ends joined by one dashed curve? Pictures that are drawn here, read pixel by pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.datasets.base import datasets
from benchmarks.datasets.drawing import at_least, check_seed, random_state
from benchmarks.datasets.pathfinder_drawing import Style, draw, scenes
from benchmarks.datasets.pixels import PixelSplit, check_thermometer
from benchmarks.datasets.sequence import SequenceDataset
from neurons.errors import OptionError


@datasets.register("pathfinder")
def load(
    side: int = 32,
    dashes: int = 6,
    distractors: int = 6,
    bend: float = 0.6,
    train: int = 3_000,
    validation: int = 500,
    test: int = 500,
    thermometer: int = 0,
    seed: int = 0,
    root: Path | None = None,
) -> SequenceDataset:
    """Pathfinder: do two marks lie on the same dashed curve? Pictures of 32x32 drawn here, read pixel by pixel.

    Drawn after D. Linsley et al., Learning long-range spatial dependencies with horizontal gated recurrent units,
    NeurIPS 2018, whose pictures Long Range Arena (Y. Tay et al., ICLR 2021) shrinks to 32x32: two long curves of dashes
    begin near each other and grow in turns, from dash to dash by a random turn; the near end of one of them is marked,
    and the far end of the same curve (class 1) or of the other (class 0), so that the distance of the marks tells next
    to nothing; short curves, of a third of the dashes, distract. Curves keep apart and never cross. These are not the
    files of Long Range Arena: sizes and turns are our own, so that results are not to be compared with its results.

    Parameters
    ----------
    side : int
        Side of a picture in pixels, from 16; its square is the number of time steps.
    dashes : int
        Dashes of the long curves, 2 to 10; the more, the harder.
    distractors : int
        Short curves that are tried.
    bend : float
        Largest turn from a dash to the next, in radians.
    train, validation, test : int
        Pictures in each split; as many of the one class as of the other.
    thermometer : int
        Channels of a thermometer code, of which the brightness of a pixel turns on the first; 0 for the brightness.
    seed : int
        Seed of the pictures.
    root : path, optional
        Not used: nothing is read.

    Raises
    ------
    OptionError
        When a number is outside its domain.
    """
    at_least(16, side=side)
    at_least(2, train=train, validation=validation, test=test)
    at_least(0, distractors=distractors)
    check_seed(seed)
    check_thermometer(thermometer)
    if not 2 <= dashes <= 10:
        raise OptionError(f"dataset.dashes must be from 2 to 10, as longer curves seldom find room, not {dashes}")
    if not 0 <= bend <= 1.5:
        raise OptionError(f"dataset.bend must be from 0 to 1.5, not {bend}")
    style = replace(Style(), bend=bend)
    splits = [
        _split(random_state(seed, number), count, side, dashes, distractors, style, thermometer)
        for number, count in enumerate((train, validation, test))
    ]
    return SequenceDataset(
        name="pathfinder",
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        classes=2,
        channels=splits[0].channels,
        image_size=1,
        steps=side**2,
        source="drawn here, after D. Linsley et al., NeurIPS 2018",
        licence="none needed: made here",
        note=f"drawn here, not the files of Long Range Arena; {side}x{side}, {dashes} dashes, up to {distractors} "
        f"distractors, seed {seed}" + (f", thermometer code of {thermometer} channels" if thermometer else ""),
    )


def _split(
    random: np.random.RandomState, count: int, side: int, dashes: int, distractors: int, style: Style, thermometer: int
) -> PixelSplit:
    found = scenes(random, count, dashes, distractors, style)
    images = np.stack([draw(found, number, side, style) for number in range(count)])
    return PixelSplit(torch.from_numpy(images), torch.from_numpy(found.labels), thermometer)
