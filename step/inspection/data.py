"""What an inspection found, as plain numbers and arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neurons.errors import ShapeError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

BINS = 20
"""Bins of equal width, from 0 to 1, of the histogram of rates."""

NEARLY = 0.9
"""A neuron whose rate lies above this is counted as nearly saturated."""


@dataclass(frozen=True)
class Layer:
    """One layer of neurons over all inspected samples.

    A *neuron* is one element of the layer's output for one sample; a *channel* is all neurons that share their
    weights (a feature at all pixels or tokens). A neuron is *active* at a step when its output is not zero; a
    conventional activation is active when its output is positive. The *rate* of a neuron is the share of steps and
    samples at which it is active.

    Attributes
    ----------
    name : str
        Path of the neuron in the network, as in the operation record.
    neuron : str
        Registered name of the neuron.
    conventional : bool
        Whether it is an activation without time.
    shape : tuple of int
        Of the output for one sample and step.
    rate, spread : float
        Mean over the neurons, and its standard deviation over samples (of each sample's own rate).
    spikes : float
        Mean number of spikes of one neuron in one inference, counts of integer neurons in full; NaN where the layer
        is conventional.
    silent_samples : float
        Share of samples for which no neuron of the layer is active.
    dead, nearly, saturated : int
        Neurons that were never active, active at more than 90 % of the steps of all samples, and at every step of
        every sample (these are among the nearly saturated too).
    channels, dead_channels, saturated_channels : int
        Channels, and those all of whose neurons are dead or saturated.
    by_step : tuple of float, length T
        Rate at each time step.
    histogram : tuple of int, length BINS
        How many neurons have which rate, the dead left out; bin b holds rates in (b / BINS, (b + 1) / BINS].
    attention : str
        Path of the attention that the layer stands in; empty outside of one.
    """

    name: str
    neuron: str
    conventional: bool
    shape: tuple[int, ...]
    rate: float
    spread: float
    spikes: float
    silent_samples: float
    dead: int
    nearly: int
    saturated: int
    channels: int
    dead_channels: int
    saturated_channels: int
    by_step: tuple[float, ...]
    histogram: tuple[int, ...]
    attention: str = ""

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of the neurons that are dead, nearly saturated (not fully), and saturated."""
        return self.dead / self.neurons, (self.nearly - self.saturated) / self.neurons, self.saturated / self.neurons


@dataclass(frozen=True)
class Shown:
    """A sample that pictures are of: its index in the test split, its class, and the class that the network gave."""

    sample: int
    label: int | None = None
    predicted: int | None = None


@dataclass(frozen=True)
class AttentionMap:
    """What one attention gave for the shown samples, averaged over time steps; no normalisation.

    Attributes
    ----------
    name, kind : str
        Path of the module, and its class.
    grid : (int, int)
        Height and width of the tokens.
    received : numpy.ndarray, shape [K, heads, N]
        Mean weight with which each token is heard, over the tokens that ask.
    queries : tuple of int
        Tokens whose rows are kept, the one in the middle of the image first; empty where the attention has one weight
        for each token.
    rows : numpy.ndarray, shape [K, heads, len(queries), N]
        Weights with which these tokens hear the others.
    """

    name: str
    kind: str
    grid: tuple[int, int]
    received: np.ndarray
    queries: tuple[int, ...]
    rows: np.ndarray

    @property
    def heads(self) -> int:
        """Number of heads."""
        return int(self.received.shape[1])


@dataclass(frozen=True)
class Inspection:
    """What the layers of a network did.

    Attributes
    ----------
    layers : list of Layer
        In the order in which they ran.
    samples, T : int
        Samples that were counted, and time steps of each.
    shown : list of Shown
        The few samples that pictures are of.
    images : numpy.ndarray or None, shape [K, C, H, W]
        Their input in [0, 1], averaged over time steps; None where the input is no image.
    maps : dict of str to numpy.ndarray, shape [K, H, W]
        Of some layers on maps: for each pixel, at how many time steps a neuron is active, mean over channels.
    map_layers : int
        How many layers on maps there are, outside of attentions.
    attention : list of AttentionMap
    left_out : list of str
        Neurons that send real values over time, and hence no spikes (integrators of a read-out).
    """

    layers: list[Layer]
    samples: int
    T: int
    shown: list[Shown] = field(default_factory=list)
    images: np.ndarray | None = None
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    map_layers: int = 0
    attention: list[AttentionMap] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def conventional(self) -> bool:
        """Whether no layer spikes."""
        return all(layer.conventional for layer in self.layers)

    def frame(self) -> pd.DataFrame:
        """Return one row for each layer, everything in numbers."""
        import pandas as pd

        rows = []
        for order, layer in enumerate(self.layers):
            rows.append(
                {
                    "layer": layer.name, "order": order, "neuron": layer.neuron, "conventional": layer.conventional,
                    "attention": layer.attention, "shape": "x".join(map(str, layer.shape)), "neurons": layer.neurons,
                    "channels": layer.channels, "rate": layer.rate, "spread_over_samples": layer.spread,
                    "spikes_per_neuron": layer.spikes, "silent_samples": layer.silent_samples, "dead": layer.dead,
                    "above_90": layer.nearly, "saturated": layer.saturated, "dead_channels": layer.dead_channels,
                    "saturated_channels": layer.saturated_channels,
                    **{f"rate_step_{step + 1}": rate for step, rate in enumerate(layer.by_step)},
                    **{f"neurons_to_{(b + 1) / BINS:.2f}": count for b, count in enumerate(layer.histogram)},
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def check(self) -> None:
        """Refuse arrays that do not fit together.

        Raises
        ------
        ShapeError
            With the array at fault.
        """
        count = len(self.shown)
        if self.images is not None and (self.images.ndim != 4 or len(self.images) != count):
            raise ShapeError(f"inspection: images must be [{count}, C, H, W], not {list(self.images.shape)}")
        for name, maps in self.maps.items():
            if maps.ndim != 3 or len(maps) != count:
                raise ShapeError(f"inspection: maps of {name!r} must be [{count}, H, W], not {list(maps.shape)}")
        for each in self.attention:
            tokens = each.grid[0] * each.grid[1]
            if each.received.shape != (count, each.heads, tokens):
                raise ShapeError(
                    f"inspection: received weights of {each.name!r} must be [{count}, heads, {tokens}], "
                    f"not {list(each.received.shape)}"
                )
            if each.rows.shape != (count, each.heads, len(each.queries), tokens):
                raise ShapeError(
                    f"inspection: rows of {each.name!r} must be [{count}, {each.heads}, {len(each.queries)}, {tokens}],"
                    f" not {list(each.rows.shape)}"
                )
