"""From stored results to what the page is drawn from."""

from __future__ import annotations

from typing import Any

import pandas as pd

from step.learners import checkpoint
from step.report.data import ReportData, Trace
from step.report.summary import by_network, facts
from step.results import Results


def collect(results: Results) -> ReportData:
    """Gather everything the report shows about a suite."""
    runs = results.runs.rename(columns={"test_accuracy": "accuracy"})
    parts = results.energy.groupby(["run", "network", "seed", "model", "part"], sort=False)["pJ"].sum(min_count=1)
    return ReportData(
        title=results.title,
        description=facts(results),
        summary=by_network(results),
        runs=runs[["run", "network", "kind", "seed", "accuracy", "parameters", "spikes", "seconds"]],
        energy=parts.reset_index(),
        energy_notes=energy_notes(results),
        layers=results.layers,
        curves=results.curves.query("name != 'seconds'"),
        traces=_traces(results),
    )


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
