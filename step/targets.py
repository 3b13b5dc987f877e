"""From what a user names to operation records: a run, a network, a file of one, or counts that somebody printed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

import energy
from benchmarks import datasets
from energy.derive import twin_bits
from energy.twins import twin_name
from neurons.errors import DataError, OptionError, StepError, UnknownNameError, suggest
from step.exchange import read_nir
from step.exchange.runs import encoded_test
from step.models import create, models
from step.models.sequence.base import SequenceNetwork
from step.plugins import load_plugin
from step.results import Results
from step.runner import Place, record_of
from step.spec import FROM_DATA, normalise
from step.store import Store, exists
from step.suite import load_suite, parse_override, suite_names

SAMPLES = 64
"""Test samples of a data set on which a network is measured."""


@dataclass(frozen=True)
class Input:
    """What a network is run on.

    Attributes
    ----------
    file : Path, optional
        A tensor [T, B, ...] in ``.npy``, ``.npz`` or ``.safetensors``.
    dataset : str, optional
        Data set, whose test samples are encoded by ``encoder`` over ``T`` steps.
    shape : tuple of int, optional
        Shape [T, B, ...] of a random input: spikes of the given ``rate``, or one real image at every step.
    """

    file: Path | None = None
    dataset: str | None = None
    encoder: Any = "direct"
    T: int | None = None
    shape: tuple[int, ...] | None = None
    rate: float | None = None
    seed: int = 0
    root: Path | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("file", "dataset", "shape") if getattr(self, name) is not None]
        if len(given) > 1:
            options = {"file": "--input", "dataset": "--dataset", "shape": "--shape"}
            raise OptionError(f"give one input: {' or '.join(options[name] for name in given)}")
        if self.T is not None and self.T < 1:
            raise OptionError(f"--T must be at least 1, not {self.T}")
        if self.rate is not None and not 0 <= self.rate <= 1:
            raise OptionError(f"--rate is the share of ones among random spikes, from 0 to 1, not {self.rate:g}")
        if self.shape is not None and (len(self.shape) < 2 or min(self.shape) < 1):
            raise OptionError("--shape is T,B,... with at least two sizes from 1, for example 4,8,3,32,32")


@dataclass(frozen=True)
class Target:
    """Networks to price.

    Attributes
    ----------
    title : str
    networks : dict
        Name of each spiking network to its records: its own first, then those of its twins.
    notes : list of str
        What a reader must know of where the numbers come from.
    results : Results, optional
        The suite, where it is one.
    network, x : optional
        The network and its input, where there is one that can run here.
    """

    title: str
    networks: dict[str, dict[str, energy.Record]]
    notes: list[str] = field(default_factory=list)
    results: Results | None = None
    network: nn.Module | None = None
    x: Tensor | None = None


@dataclass(frozen=True)
class Twins:
    """Which twins stand beside a network: ``relu``, ``matched`` (as many bits as spike counts need), or bits."""

    names: tuple[str, ...] = ("relu", "matched")
    asked: bool = False

    @classmethod
    def parse(cls, text: str | None) -> Twins:
        """Read ``"relu,matched,8,4,2"``; the default when there is nothing to read."""
        if text is None:
            return cls()
        names = tuple(part.strip() for part in text.split(",") if part.strip())
        for name in names:
            if name not in ("relu", "matched") and not (name.isdecimal() and 1 <= int(name) <= 32):
                raise OptionError(f"--twins takes relu, matched and bits from 1 to 32, not {name!r}")
        if not names:
            raise OptionError("--twins needs at least one of relu, matched, or bits such as 8")
        return cls(names, asked=True)

    def widths(self, T: int) -> list[int | None]:
        """Return the bits of each twin, None for reals."""
        return [None if name == "relu" else twin_bits(T) if name == "matched" else int(name) for name in self.names]

    def bits(self, T: int) -> list[int]:
        """Return the bits that must be there, or it is an error."""
        return [width for width in self.widths(T) if width is not None] if self.asked else []

    def choose(self, records: Mapping[str, energy.Record], T: int) -> dict[str, energy.Record]:
        """Return those of the records that were asked for, in that order."""
        names = [twin_name(width, T) for width in self.widths(T)]
        return {name: records[name] for name in names if name in records}

    def missing(self, records: Mapping[str, energy.Record], T: int) -> list[str]:
        """Return one line for each twin that could not be made."""
        names = [twin_name(width, T) for width in self.widths(T)]
        return [f"no twin {name!r}: the record does not say enough to make it" for name in names if name not in records]


def resolve(
    target: str, *, twins: Twins, given: Input, place: Place, overrides: Iterable[str] = ()
) -> Target:  # fmt: skip
    """Return the records behind a name.

    Parameters
    ----------
    target : str
        A suite or its YAML file, a run id, a registered network, ``file.py:build``, a ``.nir`` file, a ``.csv`` table
        of counts, or a folder with a saved record.
    twins : Twins
    given : Input
        What networks are run on.
    place : Place
        Where runs are stored.
    overrides : iterable of str
        ``field=value``: fields of a suite, or ``model.*`` and ``neuron.*`` of a registered network.

    Raises
    ------
    StepError
        When there is nothing of this name, or it cannot be priced.
    """
    changes = dict(parse_override(text) for text in overrides)
    path = Path(target)
    if target in suite_names() or path.suffix in (".yaml", ".yml"):
        return _suite(target, changes, twins, place)
    if target in models.names():
        return _registered(target, changes, twins, given)
    if changes:
        raise OptionError("--set changes suites and registered networks; what is read from a file stays as it is")
    if path.suffix == ".csv":
        return _of_record(_counts(path, given.T), f"counts of {path.name}", twins)
    if path.suffix == ".nir":
        return _nir(path, twins, given)
    if re.search(r"\.py(:|$)", target):
        return _python(target, twins, given)
    if path.is_dir():
        _there(path / "provenance.json")
        return _of_record(energy.Record.load(path), f"record in {target}", twins)
    if re.fullmatch(r"[0-9a-f]{4,12}", target):
        return _run(target, twins, place)
    raise UnknownNameError(
        f"{target!r} is no suite, network, run id, .nir, .csv or .py:NAME file, nor a folder with a record"
        f"{suggest(target, [*suite_names(), *models.names()])}"
    )


def _of_record(record: energy.Record, title: str, twins: Twins, notes: Iterable[str] = ()) -> Target:
    told = [*notes]
    found: dict[str, energy.Record] = {}
    if record.synaptic_events() or len(record.spiking):
        found = energy.derived_twins(record, bits=twins.bits(record.T))
        told += twins.missing(found, record.T)
    else:
        told.append("nothing in this record spikes, so there is no twin to compare it with")
    return Target(title, {"network": {"network": record, **twins.choose(found, record.T)}}, told)


def _suite(name: str, changes: dict[str, Any], twins: Twins, place: Place) -> Target:
    """Spiking networks of a suite with its trained twins: of each, the run with the smallest seed."""
    results = Results(load_suite(name, changes), place)
    first = results.first
    kinds = results.networks
    trained: dict[str, energy.Record] = {}
    for label in (label for label, kind in kinds.items() if kind == "twin"):
        record = results.records[first[label]]
        record.provenance["made"] = f"trained: run {first[label]}"
        trained[label] = record
    notes, networks = [], {}
    for label in (label for label, kind in kinds.items() if kind == "spiking"):
        record = results.records[first[label]]
        derived: dict[str, energy.Record] = {}
        if twins.asked or not trained:
            made = energy.derived_twins(record, bits=twins.bits(record.T))
            notes += twins.missing(made, record.T)
            derived = {f"{n} (derived)" if trained else n: r for n, r in twins.choose(made, record.T).items()}
        networks[label] = {label: record, **trained, **derived}
    if not networks:
        raise DataError(f"{results.suite.name} has no finished run of a spiking network")
    seeds = sorted({spec.seed for spec in results.specs.values()})
    if len(seeds) > 1:
        notes.append(f"the verdict is of seed {seeds[0]} of {', '.join(map(str, seeds))}; --by model shows the means")
    return Target(results.title, networks, notes, results)


def find_run(prefix: str, place: Place) -> tuple[Store, str]:
    """Return the store and the full id of the finished run whose id begins like this.

    Raises
    ------
    StepError
        When no run begins like this, or more than one, or the run did not finish.
    """
    if not exists(place.store):
        raise DataError(f"{place.store} does not exist, so there is no run {prefix!r}; name it with --folder")
    store = Store(place.store)
    statuses = store.statuses()
    found = [run for run in statuses if run.startswith(prefix)]
    if len(found) != 1:
        raise UnknownNameError(f"{len(found) or 'no'} runs in {place.store} have an id that begins with {prefix!r}")
    if statuses[found[0]] != "finished":
        raise DataError(f"run {found[0]} is {statuses[found[0]]}, so it has no record")
    return store, found[0]


def _run(prefix: str, twins: Twins, place: Place) -> Target:
    store, run = find_run(prefix, place)
    row = store.runs([run]).iloc[0]
    about = f"{row['spec']['model']['name']}, {row['spec']['neuron']['name']}, seed {row['seed']}"
    return _of_record(record_of(store, run), f"run {run} of {row['suite']}: {about}", twins)


def _registered(name: str, changes: dict[str, Any], twins: Twins, given: Input) -> Target:
    model: dict[str, Any] = {"name": name}
    neuron: dict[str, Any] = {"name": "lif"}
    if given.dataset is not None:
        dataset = datasets.load(given.dataset, given.root)
        model |= {option: getattr(dataset, option) for option in FROM_DATA}
    elif given.shape is not None and len(given.shape) == 5:
        model |= {"channels": given.shape[2], "image_size": given.shape[3]}
    elif given.shape is not None and len(given.shape) == 3 and _reads_sequences(name):
        model |= {"channels": given.shape[2]}
    for key, value in changes.items():
        part, _, option = key.partition(".")
        if part == "model" and option:
            model[option] = value
        elif part == "neuron":
            neuron = {**neuron, option: value} if option else value if isinstance(value, dict) else {"name": value}
        else:
            raise OptionError(f"--set {key}: of a network, model.FIELD, neuron and neuron.FIELD can be set")
    chosen, spiking = normalise("model", model), normalise("neuron", neuron)
    options = {key: value for key, value in chosen.items() if key != "name"}
    network = create(name, neuron=spiking, seed=given.seed, **options)
    title = f"{name}, {spiking['name']}"
    return _of_network(network, title, twins, given, [f"UNTRAINED WEIGHTS (seed {given.seed})"])


def _nir(path: Path, twins: Twins, given: Input) -> Target:
    _there(path)
    network = read_nir(path)
    return _of_network(network, path.name, twins, given, network.notes)


def _python(target: str, twins: Twins, given: Input) -> Target:
    file, _, name = target.rpartition(":") if target.count(":") else (target, "", "")
    if not name:
        raise OptionError(f"say which function of {target} builds the network: {target}:build")
    _there(Path(file))
    module = load_plugin(Path(file))
    build: Callable[[], Any] | None = getattr(module, name, None)
    if not callable(build):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise OptionError(f"{file} has no function {name!r}{suggest(name, known)}")
    try:
        network = build()
    except StepError:
        raise
    except Exception as error:
        raise OptionError(f"{target} failed: {type(error).__name__}: {_line(error)}") from None
    if not isinstance(network, nn.Module):
        raise OptionError(f"{target} returned {type(network).__name__}, not an nn.Module")
    return _of_network(network, target, twins, given)


def _of_network(network: nn.Module, title: str, twins: Twins, given: Input, notes: Iterable[str] = ()) -> Target:
    x, data, loud = _input(network, given)
    try:
        records = energy.twin_records(network.eval(), x, bits=twins.bits(x.shape[0]), data=data)
    except StepError:
        raise
    except Exception as error:
        raise OptionError(
            f"{title} does not run on an input {list(x.shape)} ({data}): {type(error).__name__}: {_line(error)}"
        ) from None
    told = [*loud, *notes, f"measured on {data}, {list(x.shape)}"]
    record = records["network"]
    if len(record.spiking):
        told += twins.missing(records, record.T)
    else:
        told.append("nothing in this network spikes, so there is no twin to compare it with")
    chosen = {"network": record, **twins.choose(records, record.T)}
    return Target(title, {"network": chosen}, told, network=network, x=x)


def _input(network: nn.Module, given: Input) -> tuple[Tensor, str, list[str]]:
    """Return the input, what it is, and what must be said loudly about it."""
    if given.file is not None:
        return _tensor(given.file), given.file.name, []
    if given.dataset is not None:
        dataset = datasets.load(given.dataset, given.root)
        batches = encoded_test(dataset, given.encoder, given.T or 4, samples=SAMPLES, seed=given.seed)
        x, _ = next(iter(batches.epoch()))
        return x, f"{dataset.name}, {x.shape[1]} test samples", []
    shape = given.shape or (given.T or 4, 8, *_sample_shape(network))
    generator = torch.Generator().manual_seed(given.seed)
    if given.rate is not None:
        x = (torch.rand(shape, generator=generator) < given.rate).float()
        what = f"random spikes of rate {given.rate:g}"
    else:
        x = torch.rand(shape[1:], generator=generator).expand(shape)
        what = "random images"
    told = f"RANDOM INPUT: {what} (seed {given.seed}); firing rates, and with them every energy, mean little"
    return x, what, [told]


def _reads_sequences(name: str) -> bool:
    kind = models.get(name)
    return isinstance(kind, type) and issubclass(kind, SequenceNetwork)


def _sample_shape(network: nn.Module) -> tuple[int, ...]:
    config: Any = getattr(network, "config", None)
    if hasattr(config, "input_shape"):
        return tuple(config.input_shape)
    if hasattr(config, "image_size") and hasattr(config, "channels"):
        return (config.channels, config.image_size, config.image_size)
    raise OptionError("say what the network is run on: --input FILE, --dataset NAME, or --shape T,B,... (random)")


def _tensor(path: Path) -> Tensor:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if path.suffix not in (".npy", ".npz", ".safetensors"):
        raise OptionError(f"--input takes .npy, .npz or .safetensors, not {path.name}")
    _there(path)
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else np.load(path, allow_pickle=False)
        arrays = {"": content} if path.suffix == ".npy" else dict(content)
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read: {_line(error)}") from None
    if len(arrays) != 1:
        raise DataError(f"{path} holds {len(arrays)} arrays ({', '.join(arrays)}); an input is one")
    array = next(iter(arrays.values()))
    if array.ndim < 2 or array.dtype.kind not in "fiub" or 0 in array.shape:
        raise DataError(f"{path} must hold numbers [T, B, ...], not {array.dtype} {list(array.shape)}")
    x = torch.from_numpy(np.ascontiguousarray(array.astype(np.float32)))
    if not torch.isfinite(x).all():
        raise DataError(f"{path} holds values that are not finite")
    return x


def _counts(path: Path, steps: int | None) -> energy.Record:
    """Read a table of counts: columns of ``Record.from_layers``, operations of one neuron update as ``ops.add``."""
    _there(path)
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas raises its parser errors as ValueError
        raise DataError(f"{path} cannot be read: {_line(error)}") from None
    if frame.empty:
        raise DataError(f"{path} has no rows")
    if steps is None:
        if "T" not in frame or frame["T"].isna().any():
            raise DataError(f"{path} does not say its time steps: give a column T in every row, or --T")
        if not pd.api.types.is_numeric_dtype(frame["T"]) or frame["T"].min() < 1 or (frame["T"] % 1).any():
            raise DataError(f"{path}: T must be whole numbers from 1")
        steps = int(frame["T"].max())
    rows = []
    for row in frame.to_dict("records"):
        values = {str(key): value for key, value in row.items() if not pd.isna(value)}
        ops = {key.removeprefix("ops."): values.pop(key) for key in list(values) if key.startswith("ops.")}
        rows.append(values | ({"ops": ops} if ops else {}))
    try:
        return energy.Record.from_layers(rows, T=steps, data=f"given counts, {path.name}")
    except StepError as error:
        raise DataError(f"{path}: {error}") from None
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} has something else than a number where a count should be: {_line(error)}") from None


def _there(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path} does not exist")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
