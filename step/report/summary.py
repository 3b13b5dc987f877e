"""The headline table of a suite and its energy tables, formatted for people."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from energy.record import Record
from step.report.units import MISSING, EnergyUnit, energy_unit, format_count, format_energy, format_ratio
from step.report.verdict_table import model_signs
from step.results import Results

_COUNTS = {
    "parameters": "parameters",
    "spikes": "spikes",
    "operations.mac_real": "MACs, real",
    "operations.mac_quantised": "MACs, quantised",
    "operations.ac": "accumulates",
    "operations.neuron_updates": "neuron updates",
}


@dataclass(frozen=True)
class Quantity:
    """One line of the headline table.

    Attributes
    ----------
    name : str
        Name that stands by itself.
    short : str
        Name below the line it belongs to.
    values : dict
        Network to text.
    """

    name: str
    short: str
    values: dict[str, str]


def headline(results: Results) -> list[Quantity]:
    """Return the quantities of the headline table, means over seeds."""
    runs = results.runs
    own = {network: runs[runs["network"] == network] for network in results.networks}

    def line(name: str, text: Callable[[pd.DataFrame], str]) -> Quantity:
        return Quantity(name, name, {network: text(own[network]) for network in results.networks})

    lines = [
        line(metric_words(results.metric), lambda runs: _accuracy(runs[results.metric])),
        line("seeds", lambda runs: str(runs["seed"].nunique())),
        line("time steps T", lambda runs: ", ".join(map(str, sorted(runs["T"].unique())))),
        line("firing rate", lambda runs: _rate(runs["firing_rate"].mean())),
    ]
    for key, name in _COUNTS.items():
        counts = {network: format_count(float(own[network][key].mean())) for network in results.networks}
        lines.append(Quantity(name, name, counts))
    twins = [network for network, kind in results.networks.items() if kind == "twin"]
    for model, means in totals(results).items():
        unit = energy_unit(means.values())
        lacking = partial(results, model)
        energies = {n: _more_than(format_energy(pJ, unit), n in lacking) for n, pJ in means.items()}
        lines.append(Quantity(f"energy, {model}", f"energy, {model}", energies))
        for twin in twins:
            ratios = {
                n: "1" if n == twin else MISSING if twin in lacking
                else _more_than(format_ratio(pJ / means[twin]), n in lacking)
                for n, pJ in means.items()
            }  # fmt: skip
            lines.append(Quantity(f"{model} / {twin}", f"  / {twin}", ratios))
    return lines


def summary(results: Results) -> pd.DataFrame:
    """Return the headline table for a terminal: one row for each quantity, one column for each network."""
    return pd.DataFrame([{"per inference": line.short, **line.values} for line in headline(results)])


def by_network(results: Results) -> pd.DataFrame:
    """Return the headline table with one row for each network."""
    lines = headline(results)
    return pd.DataFrame(
        [{"network": network, **{line.name: line.values[network] for line in lines}} for network in results.networks]
    )


def metric_words(metric: str) -> str:
    """Return the name of a metric in words, such as ``test accuracy`` or ``test AUC``."""
    short = {"auc": "AUC", "r2": "R²"}
    return " ".join(short.get(part, part) for part in metric.split("_"))


def _accuracy(values: pd.Series) -> str:
    if len(values) == 1:
        return f"{values.iloc[0]:.2%}"
    return f"{100 * values.mean():.2f} ± {100 * values.std(ddof=1):.2f} %"


def _rate(rate: float) -> str:
    return f"{rate:.3f}" if rate == rate else MISSING


def partial(results: Results, model: str) -> set[str]:
    """Return the networks whose total under an energy model leaves out layers for which it has no price."""
    return {
        results.suite.labels[run] for (run, name), table in results.prices.items()
        if name == model and table.attrs["unpriced"]
    }  # fmt: skip


def _more_than(text: str, partial: bool) -> str:
    return f">{text}" if partial and text != MISSING else text


def totals(results: Results) -> dict[str, dict[str, float]]:
    """Return ``{energy model: {network: mean pJ per inference}}``."""
    runs = results.runs
    return {
        name.removeprefix("energy_pJ."): {
            n: float(runs.loc[runs["network"] == n, name].mean()) for n in results.networks
        }
        for name in runs.columns
        if name.startswith("energy_pJ.")
    }


def energy_table(results: Results, by: str) -> pd.DataFrame:
    """Return energy per inference with one column for each network and rows by ``model``, ``part`` or ``layer``."""
    keys = {"model": ["model"], "part": ["model", "part"], "layer": ["model", "layer"]}[by]
    each = results.energy.groupby(["network", "run", *keys], sort=False)["pJ"].sum(min_count=1).reset_index()
    table = each.groupby(["network", *keys], sort=False)["pJ"].mean().unstack("network")
    table = table[list(results.networks)].dropna(how="all")
    table = table[(table.fillna(0) != 0).any(axis=1)]
    told: dict[str, dict[str, Any]] = {}
    for (_, name), priced in results.prices.items():
        said = told.setdefault(name, {**{str(k): v for k, v in priced.attrs.items()}, "constants": {}})
        said["constants"] |= priced.attrs["constants"]  # a mark stands where any run rests on an unconfirmed number
    unit_of: Callable[[str], Any] = {m: energy_unit(g.to_numpy().ravel()) for m, g in table.groupby("model")}.get
    rows = []
    for key, row in table.iterrows():
        key = key if isinstance(key, tuple) else (key,)
        lacking = partial(results, key[0]) if by == "model" else set()
        amount = functools.partial(_amount, own=told[key[0]]["unit"], scale=unit_of(key[0]))
        cells = {n: _more_than(amount(row[n]), n in lacking) for n in results.networks}
        name = key[0] + model_signs(told[key[0]]["confidence"], told[key[0]]["constants"])
        rows.append({**dict(zip(keys, (name, *key[1:]), strict=True)), **cells})
    return pd.DataFrame(rows)


def _amount(value: float, own: str, scale: EnergyUnit) -> str:
    if own == "pJ":
        return format_energy(value, scale)
    return format_count(value) if value != value else f"{format_count(value)} {own}"


def notes(results: Results) -> list[str]:
    """Return the lines that must stand under every table of a suite: data, protocol, counting, what is missing."""
    first = next(iter(results.records.values()))
    lines = [
        f"{facts(results)['Protocol']}.",
        f"Counted on {counted(first)}.",
        "Energy is an estimate, in which models differ; ratios below 1 favour the network of the column.",
    ]
    if any(table.attrs["unpriced"] for table in results.prices.values()):
        lines.append("> before an energy: the model has no price for some layers, and they are missing in the total.")
    if results.missing:
        lines.append(f"{results.missing} of {len(results.suite.specs)} runs of this suite are not finished.")
    return lines


def counted(record: Record) -> str:
    """Return on which data a record was counted, and by which rule."""
    rules = record.provenance
    if "dtype" not in rules:
        return f"{rules['data']}, by the learner itself; accumulates: one for each spike and synapse that it reaches"
    return (
        f"{rules['data']}, eval mode, {rules['dtype']}; accumulates: one for each spike and synapse that it reaches, "
        f"valid taps only; {rules['first_layer']}; norms {rules['batch_norm']}"
    )


def facts(results: Results) -> dict[str, str]:
    """Return the facts about a suite that stand beside its results."""
    from benchmarks import datasets, protocols

    spec = next(iter(results.specs.values()))
    stored = results.stored()
    machine = stored["machine"].iloc[0]
    protocol = protocols.create(spec.protocol["name"], **{k: v for k, v in spec.protocol.items() if k != "name"})
    seeds = sorted({spec.seed for spec in results.specs.values()})
    return {
        "Suite": f"{results.suite.name}: {results.suite.description}".rstrip(": "),
        "Data set": f"{spec.dataset['name']}: {datasets.describe(spec.dataset['name'])}",
        "Encoder": ", ".join(
            sorted({f"{results.specs[run].encoder['name']}, T = {record.T}" for run, record in results.records.items()})
        ),
        "Network": _each(s.model for s in results.specs.values()),
        "Learner": _each(s.learner for s in results.specs.values()),
        **{key: str(value) for key, value in protocol.describe().items()},
        "Seeds": ", ".join(map(str, seeds)),
        "Counting": counted(next(iter(results.records.values()))),
        "Machine": ", ".join(f"{key} {value}" for key, value in machine.items()),
        "Command": f"step run {results.suite.name}",
    }


def _each(components: Iterable[dict[str, object]]) -> str:
    return "; ".join(dict.fromkeys(map(_options, components)))


def _options(component: dict[str, object]) -> str:
    options = ", ".join(f"{k} {v}" for k, v in component.items() if k != "name")
    return f"{component['name']}: {options}" if options else str(component["name"])
