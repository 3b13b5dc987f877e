"""Draw all surrogates at their defaults: python docs/surrogates.py [FILE.svg]."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import torch

from neurons import surrogates

matplotlib.use("svg")
from matplotlib import pyplot as plt

PAGE = Path(__file__).with_name("surrogates.svg")
COLUMNS = 4


def draw(path: Path) -> None:
    """Write one panel for each registered surrogate: the derivative, and its primitive shifted to 0 at the left."""
    names = surrogates.names()
    rows = -(-len(names) // COLUMNS)
    # text stays text and nothing is drawn at random, so that the file changes only when a surrogate does
    settings = {"svg.fonttype": "none", "svg.hashsalt": "surrogates", "font.size": 9, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        figure, panels = plt.subplots(rows, COLUMNS, figsize=(3 * COLUMNS, 2 * rows), layout="constrained")
        u = torch.linspace(-2, 2, 801, dtype=torch.float64)
        for panel, name in zip(panels.flat, names, strict=False):
            surrogate = surrogates.create(name)
            derivative, primitive = surrogate.derivative(u), surrogate.primitive(u)
            panel.axvline(0, color="0.8", linewidth=0.8)
            panel.plot(u, primitive - primitive[0], color="#c9a66b", linewidth=1, linestyle="--")
            panel.plot(u, derivative, color="#2a5d8f", linewidth=0.6 if name == "stochastic" else 1.4)
            panel.set_title(name, fontsize=9)
            panel.spines[["top", "right"]].set_visible(False)
        for panel in panels.flat[len(names) :]:
            panel.set_visible(False)
        figure.supxlabel("potential minus threshold; solid: derivative used backward, dashed: its integral")
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE)
