"""What a report is drawn from: plain frames and a few traced samples, filled by whoever ran the suite."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neurons.errors import OptionError, ShapeError, suggest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from energy import Verdict
    from step.continual import ContinualResults
    from step.effects import Effects
    from step.inspection import Inspection
    from step.places import PlaceResults
    from step.plots import Plot
    from step.published import Published
    from step.report.place_pictures import Sights

KINDS = ("spiking", "twin", "other")

_COLUMNS = {
    "runs": ("run", "network", "kind", "seed", "accuracy", "parameters", "spikes", "seconds"),
    "energy": ("run", "network", "seed", "model", "part", "pJ"),
    "layers": ("run", "network", "seed", "layer", "order", "kind", "rate", "spikes", "neurons"),
    "curves": ("run", "network", "seed", "epoch", "name", "value"),
}


@dataclass
class Trace:
    """One sample's way through one spiking layer.

    Parameters
    ----------
    network, layer : str
        Where it was recorded.
    sample : int
        Index of the sample in the test split.
    label, predicted : int or None
        Its class, None where samples have none, and the class that the network gave it.
    image : numpy.ndarray
        The input, ``[H, W]`` or ``[C, H, W]``, in [0, 1].
    spikes : numpy.ndarray
        Output of the layer, ``[T, units]``.
    potential : numpy.ndarray or None
        Membrane potential before the reset, ``[T, units]``; None where the neuron has none.
    threshold : float or None
        None where there is no single one.
    neurons : int or None
        Size of the layer, where the units are its most active ones only; None where they are all.
    """

    network: str
    layer: str
    sample: int
    label: int | None
    predicted: int | None
    image: np.ndarray
    spikes: np.ndarray
    potential: np.ndarray | None = None
    threshold: float | None = None
    neurons: int | None = None

    def check(self) -> None:
        """Refuse arrays that do not fit together.

        Raises
        ------
        ShapeError
            When an array has the wrong number of dimensions, or potential and spikes differ in shape.
        """
        where = f"trace of {self.network!r}, layer {self.layer!r}"
        if self.image.ndim not in (2, 3):
            raise ShapeError(f"{where}: the image must be [H, W] or [C, H, W], not {list(self.image.shape)}")
        if self.spikes.ndim != 2 or 0 in self.spikes.shape:
            raise ShapeError(f"{where}: spikes must be [T, units], not {list(self.spikes.shape)}")
        if self.potential is not None and self.potential.shape != self.spikes.shape:
            raise ShapeError(
                f"{where}: potential {list(self.potential.shape)} must have the shape of the spikes, "
                f"{list(self.spikes.shape)}"
            )


@dataclass
class Judged:
    """One spiking network against its twins.

    Parameters
    ----------
    verdict : energy.Verdict
    basis : str
        One sentence or two on what was counted, on which data and by which rule.
    steps : pandas.DataFrame or None
        layer, step (from 0), rate (spikes per neuron) of the network, where time steps were counted one by one.
    thresholds : pandas.DataFrame or None
        Published limits on spikes per synapse for the time steps of the network; see :mod:`energy.thresholds`.
    """

    verdict: Verdict
    basis: str
    steps: pd.DataFrame | None = None
    thresholds: pd.DataFrame | None = None


@dataclass
class ReportData:
    """Everything on the page. A frame may be empty: its section then says that it is missing.

    Parameters
    ----------
    title : str
        Title of the suite.
    description : dict of str to str
        Facts in the order in which they are shown: suite, dataset, machine, command, counting rule and so on.
    summary : pandas.DataFrame
        One row per network, aggregated over seeds; the headline table, shown as given.
    runs : pandas.DataFrame
        One row per run: run, network, kind ("spiking", "twin" or "other"), seed, accuracy (0 to 1; whatever ``metric``
        names), parameters, spikes (per sample; NaN where nothing spikes), seconds.
    energy : pandas.DataFrame
        run, network, seed, model, part, pJ (per inference; NaN where the model is not applicable): the models
        against which accuracy is plotted.
    layers : pandas.DataFrame
        run, network, seed, layer, order, kind, rate (non-zero share of the neurons' output), spikes, neurons.
    curves : pandas.DataFrame
        run, network, seed, epoch, name (``train_loss``, ``validation_accuracy`` ...), value.
    traces : list of Trace
        Samples to show as image, raster and potential.
    verdicts : list of Judged
        One for each spiking network; the first is shown in full.
    effects : list of step.effects.Effects
        What the factors of the suite change in the accuracy; without any there is no such section.
    published : list of step.published.Published
        Tables of others, shown in a section of their own; without any there is none.
    inspections : dict of str to step.inspection.Inspection
        What the layers of a network do, by network; without any there are no such sections.
    metric : str
        What ``accuracy`` is, in words.
    plots : list of (step.plots.Plot, pandas.DataFrame)
        The metric against numbers of the grid, with their points; without any there is no such section.
    continual : step.continual.ContinualResults, optional
        Of runs that learned one task after another; without any there is no such section.
    places : step.places.PlaceResults, optional
        Of runs that recognised places; without any there is no such section.
    sights : list of step.report.place_pictures.Sights
        Pictures of what those runs took queries for.
    """

    title: str
    description: dict[str, str]
    summary: pd.DataFrame
    runs: pd.DataFrame
    energy: pd.DataFrame
    layers: pd.DataFrame
    curves: pd.DataFrame
    traces: list[Trace] = field(default_factory=list)
    verdicts: list[Judged] = field(default_factory=list)
    effects: list[Effects] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    inspections: dict[str, Inspection] = field(default_factory=dict)
    metric: str = "test accuracy"
    plots: list[tuple[Plot, pd.DataFrame]] = field(default_factory=list)
    continual: ContinualResults | None = None
    places: PlaceResults | None = None
    sights: list[Sights] = field(default_factory=list)

    def check(self) -> None:
        """Refuse frames that lack a column or speak of networks without a run.

        Raises
        ------
        OptionError
            With the frame and the column or network at fault.
        ShapeError
            When the arrays of a trace do not fit together.
        """
        for name, columns in _COLUMNS.items():
            frame: pd.DataFrame = getattr(self, name)
            missing = [column for column in columns if column not in frame.columns]
            if missing and len(frame):
                raise OptionError(f"report: the frame {name!r} lacks the column {missing[0]!r}; it needs {columns}")
        if len(self.runs):
            for kind in self.runs["kind"].unique():
                if kind not in KINDS:
                    raise OptionError(f"report: the kind of a run is 'spiking', 'twin' or 'other', not {kind!r}")
        known = set(self.runs["network"]) if len(self.runs) else set()
        for name in ("energy", "layers", "curves"):
            frame = getattr(self, name)
            self._check_networks(name, frame["network"].unique() if len(frame) else (), known)
        self._check_networks("traces", [trace.network for trace in self.traces], known)
        self._check_networks("a verdict", [judged.verdict.network for judged in self.verdicts], known)
        self._check_networks("an inspection", self.inspections, known)
        if self.continual is not None:
            self._check_networks("an accuracy matrix", self.continual.metrics["network"].unique(), known)
        if self.places is not None:
            self._check_networks("places", self.places.networks, known)
        for trace in self.traces:
            trace.check()
        for inspection in self.inspections.values():
            inspection.check()

    @staticmethod
    def _check_networks(frame: str, networks: object, known: set[str]) -> None:
        for network in networks:  # type: ignore[attr-defined]
            if network not in known:
                raise OptionError(f"report: {frame} of network {network!r}, which has no run{suggest(network, known)}")
