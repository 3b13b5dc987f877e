"""Inspect a finished run: its network is built anew, with the weights that it learned."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from neurons.errors import OptionError, UnknownNameError, suggest
from step.exchange.runs import trained_network
from step.inspection.data import Inspection
from step.inspection.network import inspect_probe
from step.results import Results
from step.runner import Place, setting_of
from step.spec import Spec
from step.suite import load_suite, parse_override, suite_names
from step.targets import find_run


@dataclass(frozen=True)
class Inspected:
    """A run and what its layers did.

    Attributes
    ----------
    run : str
        Id.
    title : str
    facts : dict of str to str
        What a reader must know of the run, by name.
    found : Inspection
    notes : list of str
        Why this run, where the name did not say which.
    """

    run: str
    title: str
    facts: dict[str, str]
    found: Inspection
    notes: list[str]


def inspect_run(
    target: str,
    place: Place,
    *,
    samples: int = 256,
    batch: int = 64,
    images: int = 4,
    overrides: Iterable[str] = (),
) -> Inspected:
    """Inspect a run on test samples.

    Parameters
    ----------
    target : str
        Id of a run or how it begins; a suite or its YAML file (its first network), or ``SUITE/NETWORK`` with a network
        as ``step show`` names it. Of a network, the run with the lowest seed.
    place : Place
        Where runs are stored, and data come from.
    samples : int
        Test samples, evenly over the split.
    batch : int
        Samples at a time; the result does not depend on it.
    images : int
        Samples that are pictured.
    overrides : iterable of str
        ``field=value``: fields of the suite.

    Raises
    ------
    StepError
        When there is no such finished run, or its weights or data are not there.
    """
    for option, value, least in (("--samples", samples, 1), ("--batch", batch, 1), ("--images", images, 0)):
        if value < least:
            raise OptionError(f"{option} must be at least {least}, not {value}")
    run, spec, suite, label, notes = _find(target, place, list(overrides))
    network = trained_network(spec, run, place, place.data)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    setting, protocol = setting_of(spec, place.data)
    probe = protocol.probe(setting, samples, batch)
    found = inspect_probe(network, probe, images)
    model = label or f"{spec.model['name']}, {spec.neuron['name']}"
    facts = {
        "Run": f"{run} of {suite}",
        "Network": f"{spec.model['name']} of {network.parameter_count:,} parameters, neuron {spec.neuron['name']}",
        "Seed": str(spec.seed),
        "Data": f"{setting.dataset.name}, {found.samples} test samples evenly over the split",
        "Encoding": f"{spec.encoder['name']}, T = {setting.T}",
        "Weights": "those that the run kept; eval mode",
    }
    return Inspected(run, f"{suite}: {model}, seed {spec.seed}", facts, found, notes)


def _find(target: str, place: Place, overrides: list[str]) -> tuple[str, Spec, str, str, list[str]]:
    """Return run, spec, suite, the name of the network in its suite (empty where not known), and notes."""
    suite, network = _suite(target)
    if suite:
        return _of_suite(suite, network, place, overrides)
    if not re.fullmatch(r"[0-9a-f]{1,12}", target):
        raise UnknownNameError(f"{target!r} is no suite and no run id{suggest(target, suite_names())}")
    if overrides:
        raise OptionError("--set changes suites; a run stays as it was")
    store, run = find_run(target, place)
    row = store.runs([run]).iloc[0]
    return run, Spec.parse(row["spec"]), str(row["suite"]), "", []


def _of_suite(
    suite: str, network: str, place: Place, overrides: list[str]
) -> tuple[str, Spec, str, str, list[str]]:  # fmt: skip
    results = Results(load_suite(suite, dict(parse_override(text) for text in overrides)), place)
    first, notes = results.first, []
    if network and network not in first:
        raise UnknownNameError(f"{results.suite.name} has no finished run of {network!r}{suggest(network, first)}")
    if not network:
        network = next(iter(results.networks))
        others = [name for name in results.networks if name != network]
        if others:
            notes.append(f"the first network of {suite}; for another: {suite}/{others[0]}")
    return first[network], results.specs[first[network]], results.suite.name, network, notes


def _suite(target: str) -> tuple[str, str]:
    """Split ``SUITE`` or ``SUITE/NETWORK``; both empty where there is no such suite."""
    if target in suite_names() or Path(target).suffix in (".yaml", ".yml"):
        return target, ""
    packaged, _, network = target.partition("/")
    if packaged in suite_names():
        return packaged, network
    file = re.match(r"(.*\.ya?ml)/(.+)", target)
    return (file[1], file[2]) if file else ("", "")
