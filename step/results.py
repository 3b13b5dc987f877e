"""What is in the store about a suite, as tables of numbers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import pandas as pd

import energy
import neurons
from benchmarks import protocols
from energy.models import PARTS, Choice, standard
from energy.record import EVENTS, Record
from neurons.errors import DataError
from step.continual import ContinualResults, continual_results
from step.learners import learners
from step.places import PlaceResults, place_results
from step.plots import Plot, points
from step.runner import Place, record_of
from step.spec import NO_NEURON, Spec
from step.store import Store, exists
from step.suite import Suite


class Results:
    """The finished runs of a suite.

    Parameters
    ----------
    suite : Suite
    place : Place
    models : iterable of str or Choice, optional
        What the runs are priced under; the few models of short tables (``energy.headline()``) when left out.

    Raises
    ------
    DataError
        When no run of the suite is finished.
    """

    def __init__(self, suite: Suite, place: Place, models: Iterable[str | Choice] | None = None) -> None:
        self.suite = suite
        self.place = place
        self.choices = energy.headline() if models is None else standard(models)
        self.specs: dict[str, Spec] = {}
        if exists(place.store):
            self.store = Store(place.store)
            finished = {run for run, status in self.store.statuses(suite.labels).items() if status == "finished"}
            self.specs = {spec.id: spec for spec in suite.specs if spec.id in finished}
        if not self.specs:
            raise DataError(f"{place.store} holds no finished run of {suite.name}; run: step run {suite.name}")

    @property
    def title(self) -> str:
        """Title of the suite."""
        return self.suite.title

    @property
    def missing(self) -> int:
        """Runs of the suite that are not finished."""
        return len(self.suite.specs) - len(self.specs)

    @cached_property
    def networks(self) -> dict[str, str]:
        """Networks in the order of the suite, and whether each is ``spiking``, a ``twin``, or ``other``.

        Other networks have no place for a neuron, or are maps of places: they are no twin of anything.
        """
        return {self.suite.labels[run]: self._kind(spec) for run, spec in self.specs.items()}

    @cached_property
    def first(self) -> dict[str, str]:
        """Run with the lowest seed of every network: records cannot be averaged, so a verdict is of one run."""
        runs: dict[str, str] = {}
        for run in sorted(self.specs, key=lambda run: self.specs[run].seed):
            runs.setdefault(self.suite.labels[run], run)
        return runs

    @cached_property
    def records(self) -> dict[str, Record]:
        """Operation record of every run."""
        return {run: record_of(self.store, run) for run in self.specs}

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row for each run: what it was, its metrics, its operations and its energy under each chosen model."""
        metrics = self.store.metrics(self.specs)
        seconds = self.stored().set_index("id")["seconds"]
        found = self.continual
        compared = {} if found is None else found.metrics.set_index("run")["intransigence"].dropna().to_dict()
        priced = self.energy.groupby(["run", "model"])["pJ"].sum(min_count=1).unstack()
        rows = []
        for run, spec in self.specs.items():
            record = self.records[run]
            kind, own = self._kind(spec), learners.get(spec.learner["name"])
            spiking = kind == "spiking" or getattr(own, "spiking", False)
            rows.append(
                {
                    **self._who(run),
                    "kind": kind,
                    "T": record.T,
                    **{str(name): value for name, value in metrics.loc[run].items()},
                    **({"intransigence": compared.get(run, float("nan"))} if compared else {}),
                    "seconds": seconds[run],
                    "spikes": record.spikes if spiking else float("nan"),
                    "firing_rate": record.summary()["firing_rate"],
                    "spikes_per_synapse": record.spikes_per_synapse,
                    **{f"operations.{kind}": count for kind, count in operations_by_kind(record).items()},
                    **{f"energy_pJ.{model}": priced.loc[run, model] for model in priced.columns},
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def prices(self) -> dict[tuple[str, str], pd.DataFrame]:
        """What each chosen energy model says of every run, by run and model, as the model returned it."""
        return {
            (run, choice.label): choice.model.price(record, choice.hardware)
            for run, record in self.records.items()
            for choice in self.choices
        }

    @cached_property
    def energy(self) -> pd.DataFrame:
        """Energy of one inference: run, network, seed, model, layer, part, pJ."""
        frames = []
        for (run, model), table in self.prices.items():
            long = table.melt(id_vars="layer", value_vars=list(PARTS), var_name="part", value_name="pJ")
            frames.append(long.assign(**self._who(run), model=model))
        return pd.concat(frames, ignore_index=True)[["run", "network", "seed", "model", "layer", "part", "pJ"]]

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Neuron layers of every run: run, network, seed, layer, order, kind, rate, spikes, neurons."""
        frames = []
        for run, record in self.records.items():
            rows = record.spiking
            frame = rows[["layer", "order", "kind", "neurons"]].assign(
                rate=rows["nonzero_outputs"] / rows["outputs"], spikes=rows["nonzero_outputs"], **self._who(run)
            )
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Learning curves: run, network, seed, epoch, name, value."""
        curves = self.store.curves(self.specs)
        who = pd.DataFrame([self._who(run) for run in self.specs])
        return who.merge(curves, on="run")

    @cached_property
    def continual(self) -> ContinualResults | None:
        """What the runs that learned one task after another kept of each; None where the suite has no such runs."""
        return continual_results(self.specs, self.suite.labels, self.store)

    @cached_property
    def places(self) -> PlaceResults | None:
        """What the runs that recognised places found; None where the suite has no such runs."""
        return place_results(self.specs, self.suite.labels, self.suite.cells, self.store)

    @cached_property
    def plots(self) -> list[tuple[Plot, pd.DataFrame]]:
        """The plots that the suite asks for, each with its points: line, seed, x, y."""
        return [(plot, points(plot, self.suite.cells, self.specs, self.runs, self.metric)) for plot in self.suite.plots]

    def stored(self) -> pd.DataFrame:
        """Return the stored rows of the finished runs: machine, times, spec."""
        return self.store.runs(self.specs)

    def _who(self, run: str) -> dict[str, Any]:
        return {"run": run, "network": self.suite.labels[run], "seed": self.specs[run].seed}

    @cached_property
    def metric(self) -> str:
        """Name of the metric that tables lead with; a share or a coefficient, at most 1."""
        protocol: Any = protocols.protocols.get(next(iter(self.specs.values())).protocol["name"])
        return str(protocol.headline)

    @staticmethod
    def _kind(spec: Spec) -> str:
        if spec.neuron["name"] == NO_NEURON:
            return "other"
        return "twin" if getattr(neurons.neurons.get(spec.neuron["name"]), "conventional", False) else "spiking"


def operations_by_kind(record: Record) -> dict[str, float]:
    """Return operations of one inference by kind: what a reader asks before any price.

    ``mac_real``: dense multiply-accumulates on real operands; ``mac_quantised``: on quantised codes; ``ac``:
    accumulates, one for each spike and synapse that it reaches (sums of spikes counted spike by spike, valid taps
    only); ``neuron_updates``: neurons times steps.
    """
    macs = record.products
    events = macs["operand"].isin(EVENTS) | macs["second_operand"].isin(EVENTS)
    quantised = ~events & (macs["operand"] == "quantised")
    real = ~events & ~quantised
    return {
        "mac_real": float(macs.loc[real, "dense"].sum()),
        "mac_quantised": float(macs.loc[quantised, "dense"].sum()),
        "ac": float(macs.loc[events, "events_exact"].sum()),
        "neuron_updates": float(record.layers.loc[record.layers["kind"] == "neuron", "updates"].sum()),
    }
