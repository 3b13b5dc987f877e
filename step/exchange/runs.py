"""From a finished run to its trained network, and from any network to its accuracy and operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import encoders
import energy
from benchmarks import datasets, protocols
from benchmarks.datasets import Dataset
from benchmarks.protocols import Batches
from neurons.errors import DataError, OptionError, ShapeError
from neurons.lengths import at_last_step
from neurons.registry import name_and_options
from step.learners import checkpoint
from step.models import Network
from step.results import Results
from step.runner import Place, build, steps_of
from step.spec import Spec, brings_network, normalise


def choose(results: Results, run: str | None = None) -> str:
    """Return the id of a finished run: the one that ``run`` begins, or the best spiking one on validation samples.

    The best is what the protocol chooses epochs by; the test split chooses nothing. A single spiking run is taken
    whatever it was asked.

    Raises
    ------
    OptionError
        When no run, or more than one, has an id that begins like this; no spiking run is finished; or there are several
        and no validation samples to compare them by.
    """
    if run is not None:
        found = [run_id for run_id in results.specs if run_id.startswith(run)]
        if len(found) != 1:
            raise OptionError(
                f"--run {run}: {len(found) or 'no'} finished runs of {results.suite.name} begin like this; "
                f"finished: {', '.join(results.specs)}"
            )
        return found[0]
    spiking = [run_id for run_id in results.specs if results.networks[results.suite.labels[run_id]] == "spiking"]
    if not spiking:
        raise OptionError(f"{results.suite.name} has no finished run of a spiking network")
    if len(spiking) == 1:
        return spiking[0]
    judged = {_judged_by(results.specs[run_id]) for run_id in spiking}
    if len(judged) == 1 and None not in judged:
        ((metric, lower_is_better),) = (each for each in judged if each is not None)
        curves = results.curves
        own = curves[curves["run"].isin(spiking) & (curves["name"] == f"validation_{metric}")]
        values = own.groupby("run")["value"]
        if len(values) == len(spiking):
            best = -values.min() if lower_is_better else values.max()
            return max(spiking, key=lambda run_id: float(best[run_id]))  # of equals the first of the suite
    raise OptionError(
        f"the runs of {results.suite.name} have no common measure on validation samples, and the test split chooses "
        f"nothing: name one with --run; finished: {', '.join(spiking)}"
    )


def _judged_by(spec: Spec) -> tuple[str, bool] | None:
    """Return what epochs of a run are chosen by, and whether a small value is good; None where nothing is held out."""
    name, options = name_and_options(spec.protocol, "protocol")
    objective = getattr(protocols.create(name, **options), "objective", None)
    return None if objective is None else (objective.metric, objective.lower_is_better)


def trained(results: Results, run: str, data: Path | None = None) -> Network:
    """Return the network of a finished run with the weights that it learned, in eval mode.

    Raises
    ------
    DataError
        When the weights are not in the results folder.
    """
    return trained_network(results.specs[run], run, results.place, data)


def trained_network(spec: Spec, run: str, place: Place, data: Path | None = None) -> Network:
    """Return the network of a finished run, of which the spec is known; see :func:`trained`."""
    if brings_network(spec.learner):
        raise OptionError(f"run {run} is a map of {spec.learner['name']} and no network of layers, as this needs")
    path = place.run_folder(run) / "weights.safetensors"
    if not path.is_file():
        raise DataError(f"the weights of run {run} are not at {path}: name the folder that it wrote to with --folder")
    network = build(spec, datasets.load(root=data, **spec.dataset))
    weights, _ = checkpoint.read(path)
    network.load_state_dict(weights)
    return network.eval()


def encoded_test(
    dataset: Dataset, encoder: str | Mapping[str, Any], T: int | None, *, samples: int | None = None, seed: int = 0
) -> Batches:
    """Return encoded batches of the test split: all of it, or some samples evenly over it.

    T are the time steps; sequences bring their own.
    """
    name, given = name_and_options(encoder, "encoder")
    own_steps = getattr(encoders.encoders.get(name), "own_steps", False)
    options = normalise("encoder", {"name": name, **given} if own_steps else {"T": T, "name": name, **given})
    made = encoders.create(name, **{key: value for key, value in options.items() if key not in ("name", "T")})
    count = len(dataset.test)
    indices = torch.arange(count) if samples is None else torch.linspace(0, count - 1, min(samples, count)).long()
    return Batches(dataset.test, indices, made, steps_of(dataset, made, T), 64, False, seed)


def agreement(first: nn.Module, second: nn.Module, spec: Spec, data: Path | None, samples: int = 64) -> float:
    """Return on what share of some test samples two networks give the same outputs (to 1e-4 of their size)."""
    dataset = datasets.load(root=data, **spec.dataset)
    options = {key: value for key, value in spec.encoder.items() if key != "T"}
    same, seen = 0, 0
    with torch.no_grad():
        for x, _ in encoded_test(dataset, options, spec.T, samples=samples, seed=spec.seed).epoch():
            a, b = first(x), second(x)
            close = torch.isclose(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max())).transpose(0, 1).flatten(1)
            same, seen = same + int(close.all(1).sum()), seen + len(close)
    return same / seen


@dataclass
class _Answers:
    """A network as what a protocol asks."""

    network: nn.Module
    batch: int = 64

    def fit(self, *_: Any) -> None:
        """Learn nothing."""

    def predict(self, x: Tensor, *, last: bool = False, lengths: Tensor | None = None) -> Tensor:
        """Return the outputs for x, all or those at the last steps."""
        with torch.no_grad():
            return at_last_step(self.network(x), lengths) if last else self.network(x)


def evaluate(
    network: Network, dataset: Dataset, encoder: str | Mapping[str, Any], T: int
) -> tuple[dict[str, float], energy.Record]:
    """Return the metrics of a network on the test split, and the operations of one inference.

    Raises
    ------
    ShapeError
        When its outputs are not the classes of the data set.
    """
    batches = encoded_test(dataset, encoder, T)
    network.eval()
    with torch.no_grad():
        x, _ = next(iter(encoded_test(dataset, encoder, T, samples=1).epoch()))
        shape = list(network(x).shape[2:])
    if shape != [dataset.classes]:
        raise ShapeError(
            f"its outputs are {shape} for each time step, but {dataset.name} has {dataset.classes} classes"
        )
    protocol: Any = protocols.create("classification")
    metrics = protocol.evaluate(_Answers(network), batches, dataset.classes).metrics
    probe = encoded_test(dataset, encoder, T, samples=256)
    record = energy.measure(
        network, (x for x, _ in probe.epoch()), data=f"{dataset.name}, {probe.samples} test samples"
    )
    return metrics, record
