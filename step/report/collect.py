"""From stored results to what the page is drawn from."""

from __future__ import annotations

from typing import Any

import pandas as pd

import energy
from energy import Record
from energy.thresholds import thresholds
from step.effects import effects_of, metric_of
from step.inspection import INSPECTION, Inspection, load_inspection
from step.learners import checkpoint
from step.report.data import Judged, ReportData, Trace
from step.report.place_pictures import sights_of
from step.report.summary import by_network, counted, facts, metric_words
from step.results import Results


def collect(results: Results) -> ReportData:
    """Gather everything the report shows about a suite."""
    runs = results.runs.rename(columns={results.metric: "accuracy"})
    parts = results.energy.groupby(["run", "network", "seed", "model", "part"], sort=False)["pJ"].sum(min_count=1)
    return ReportData(
        title=results.title,
        description=facts(results),
        summary=by_network(results),
        runs=runs[["run", "network", "kind", "seed", "accuracy", "parameters", "spikes", "seconds"]],
        energy=parts.reset_index(),
        layers=results.layers,
        curves=results.curves.query("name not in ('seconds', 'task')"),
        traces=_traces(results),
        verdicts=_verdicts(results),
        effects=effects_of(results.suite, results.runs, metric_of(results.metric)),
        published=results.suite.published,
        inspections=_inspections(results),
        metric=metric_words(results.metric),
        plots=results.plots,
        continual=results.continual,
        places=results.places,
        sights=[] if results.places is None else sights_of(results, results.places),
    )


def steps_of(record: Record) -> pd.DataFrame:
    """Return layer, step, rate of the spiking layers of a record; no rows where steps were not counted one by one."""
    steps = record.steps[record.steps["layer"].isin(record.spiking["layer"])]
    return steps[["layer", "step"]].assign(rate=steps["nonzero_outputs"] / steps["outputs"]).dropna()


def _verdicts(results: Results) -> list[Judged]:
    """Judge every spiking network by its run with the lowest seed, against the trained twins with theirs."""
    first = results.first
    trained = {network: results.records[first[network]] for network, kind in results.networks.items() if kind == "twin"}
    verdicts = []
    for network in (network for network, kind in results.networks.items() if kind == "spiking"):
        record = results.records[first[network]]
        twins = trained or energy.derived_twins(record)
        seeds = {results.specs[first[each]].seed for each in (network, *trained)}
        whose = "trained as such" if trained else "derived from its record, not trained"
        basis = (
            f"Of the run with the lowest seed ({', '.join(map(str, sorted(seeds)))}), not a mean over seeds; twins "
            f"{whose}. Counted on {counted(record)}."
        )
        verdict = energy.judge({network: record, **twins})
        verdicts.append(Judged(verdict, basis, steps_of(record), thresholds(record.T)))
    return verdicts


def energy_notes(results: Results) -> pd.DataFrame:
    """Return for every energy model its source, how sure it is, what it leaves out, and its warnings."""
    notes: dict[str, dict[str, Any]] = {}
    for (_, name), table in results.prices.items():
        told = table.attrs
        note = notes.setdefault(name, {"model": name, "warnings": {}, "source": told["source"]})
        options = ", ".join(f"{key} {value}" for key, value in told["options"].items() if value is not None)
        note["confidence"] = f"{told['confidence']}; constants {told['hardware']}; {options}"
        note["ignores"] = ", ".join(told["ignores"])
        note["warnings"].update(dict.fromkeys(told["warnings"]))
    return pd.DataFrame([{**note, "warnings": "; ".join(note["warnings"])} for note in notes.values()])


def _inspections(results: Results) -> dict[str, Inspection]:
    """Return what the layers of each network do, of its run with the lowest seed, where that kept it."""
    paths = {network: results.place.run_folder(run) / INSPECTION for network, run in results.first.items()}
    return {network: load_inspection(paths[network]) for network in results.networks if paths[network].exists()}


def _traces(results: Results) -> list[Trace]:
    """Return one trace for each spiking network, of its first run that kept one."""
    traces: dict[str, Trace] = {}
    for run in results.specs:
        network = results.suite.labels[run]
        path = results.place.run_folder(run) / "trace.safetensors"
        if network in traces or not path.exists():
            continue
        tensors, told = checkpoint.read(path)
        potential = tensors.get("potential")
        image = tensors["image"].numpy()
        traces[network] = Trace(
            network=network,
            layer=told["layer"],
            sample=told["sample"],
            label=told["label"],
            predicted=told["predicted"],
            image=image[0] if image.shape[0] == 1 else image,
            spikes=tensors["spikes"].numpy(),
            potential=None if potential is None else potential.numpy(),
            threshold=told["threshold"],
            neurons=told["neurons"],
        )
    return list(traces.values())
