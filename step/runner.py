"""One run from spec to results: data, network, learning, scoring, counting, storing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout

import encoders
import energy
from benchmarks import datasets, protocols
from neurons.denormals import flushed
from neurons.errors import OptionError, StepError
from step.inspection import INSPECTION, record_inspection
from step.learners import Teacher, checkpoint, learners
from step.learners.base import to_device
from step.machine import machine
from step.models import Network, create
from step.spec import FROM_DATA, Spec, brings_network, normalise
from step.store import Store, exists
from step.trace import record_trace

Progress = Callable[[dict[str, Any]], None]

BUSY = "busy"


@dataclass(frozen=True)
class Place:
    """Where results go and data come from.

    Attributes
    ----------
    folder : Path
        Holds ``runs/<id>/`` with weights, traces and checkpoints.
    store : str
        URL or file of the results database.
    data : Path, optional
        Data root that is looked at first.
    """

    folder: Path
    store: str
    data: Path | None = None

    def run_folder(self, run_id: str) -> Path:
        """Folder of one run."""
        return self.folder / "runs" / run_id


def check(spec: Spec, data: Path | None, place: Place | None = None) -> None:
    """Raise a StepError for anything that would stop this run; writes nothing.

    ``place`` is where a teacher is looked for.
    """
    setting, protocol = setting_of(spec, data)
    protocol.check(setting, int(spec.learner["batch"]))
    cls, config = _learner(spec)
    with torch.device("meta"):
        network = None if brings_network(spec.learner) else build(spec, setting.dataset)
    _check_driven(cls, protocol)
    config.check(network, setting.dataset)
    if place is not None:
        _taught_by(spec, place)


def build(spec: Spec, dataset: Any) -> Network:
    """Build the network of a run for a data set, with the initial weights of its seed."""
    options = {k: v for k, v in spec.model.items() if k != "name"}
    for name in FROM_DATA:
        value = getattr(dataset, name)
        if options.setdefault(name, value) != value:
            raise OptionError(f"model.{name} is {options[name]}, but {dataset.name} has {value}; leave it out")
    if "dt" in options and options["dt"] is None:
        options["dt"] = getattr(dataset, "dt", None)
    return create(spec.model["name"], neuron=spec.neuron, seed=spec.seed, **options)


def execute(spec: Spec, suite: str, place: Place, progress: Progress = lambda event: None) -> str:
    """Do one run and store its results; return ``finished``, or ``busy`` when another process is at it.

    An interrupted run goes on from its last epoch. A run that fails with a StepError is stored as failed, and
    the error is raised.
    """
    folder = place.run_folder(spec.id)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        with lock.acquire(timeout=0), flushed():
            _execute(spec, suite, place, folder, progress)
    except Timeout:
        return BUSY
    return "finished"


def _execute(spec: Spec, suite: str, place: Place, folder: Path, progress: Progress) -> None:
    store = Store(place.store)
    start = time.perf_counter()
    run = {
        "id": spec.id,
        "suite": suite,
        "seed": spec.seed,
        "spec": spec.model_dump(mode="json"),
        "machine": {**machine(), "threads": str(torch.get_num_threads())},
    }
    try:
        setting, protocol = setting_of(spec, place.data)
        network = None if brings_network(spec.learner) else build(spec, setting.dataset)
        cls, config = _learner(spec)
        _check_driven(cls, protocol)
        file = folder / "checkpoint.safetensors"
        options = {"teacher": teacher} if (teacher := _teacher(spec, place)) is not None else {}
        learner = cls(network, config, seed=spec.seed, checkpoint_file=file, progress=progress, **options)
        outcome = protocol.run(learner, setting)
        progress({"stage": "counting operations"})
        probe = protocol.probe(setting, spec.measure.samples, spec.measure.batch)
        data = f"{setting.dataset.name}, {probe.samples} test samples"
        if network is None:
            record = learner.measure(torch.cat([x[0] for x, _ in probe.epoch()]))
            record.provenance.setdefault("data", data)
        else:
            record = energy.measure(network, (x.to(learner.device) for x, _ in probe.epoch()), data=data, steps=True)
            record_trace(network, probe, folder / "trace.safetensors")
            record_inspection(network, probe, folder / INSPECTION)
        tables = {**outcome.tables, **_training(learner, protocol.probe(setting, learner.batch, learner.batch))}
        learner.save(folder / "weights.safetensors")
    except StepError as error:
        store.finish({**run, "status": "failed", "error": str(error), "seconds": time.perf_counter() - start}, {})
        raise
    seconds = sum(epoch.get("seconds", 0.0) for epoch in learner.history)
    metrics = {
        **outcome.metrics,
        "parameters": (learner if network is None else network).parameter_count,
        "train_seconds": seconds,
        "best_epoch": learner.best_epoch,
    }
    curves = [(epoch + 1, name, value) for epoch, row in enumerate(learner.history) for name, value in row.items()]
    frames = {f"record.{name}": frame for name, frame in record.to_frames().items()}
    frames["record.provenance"] = pd.DataFrame(
        {"key": list(record.provenance), "value": [json.dumps(value) for value in record.provenance.values()]}
    )
    frames |= {f"outcome.{name}": frame for name, frame in tables.items()}
    total = time.perf_counter() - start
    store.finish({**run, "status": "finished", "error": None, "seconds": total}, metrics, curves, frames)
    with suppress(FileNotFoundError):
        file.unlink()


def _learner(spec: Spec) -> tuple[Any, Any]:
    cls: Any = learners.get(spec.learner["name"])
    return cls, cls.Config(**{k: v for k, v in spec.learner.items() if k != "name"})


def _training(learner: Any, batch: protocols.Batches) -> dict[str, pd.DataFrame]:
    """Return what a training step costs, where the learner counts that."""
    count = getattr(learner, "operations", None)
    if count is None:
        return {}
    x, _ = next(batch.epoch())
    return {"training": count(to_device(x, learner.device))}


def _check_driven(learner: Any, protocol: protocols.Protocol) -> None:
    """Refuse a learner that does not learn in the way that the protocol drives."""
    way = next((name for name in ("map_places", "learn") if callable(getattr(learner, name, None))), "fit")
    if protocol.drives == way:
        return
    fitting = [name for name in protocols.names() if getattr(protocols.protocols.get(name), "drives", "fit") == way]
    asked = getattr(protocol, "registered_name", type(protocol).__name__)
    raise OptionError(
        f"learner: {learner.registered_name} does not learn as protocol {asked} asks; set protocol: "
        f"{' or '.join(fitting)}, or another learner"
    )


def _taught_by(spec: Spec, place: Place) -> tuple[Spec, Path] | None:
    """Return what the teacher of a run was and where its weights are; None where there is no teacher."""
    teacher = spec.learner.get("teacher")
    if teacher is None:
        return None
    is_file = teacher.endswith(".safetensors")
    run_id = Path(teacher).absolute().parent.name if is_file else teacher
    weights = Path(teacher) if is_file else place.run_folder(run_id) / "weights.safetensors"
    runs = Store(place.store).runs([run_id]) if exists(place.store) else pd.DataFrame(columns=["id", "status", "spec"])
    finished = runs[runs["status"] == "finished"]
    if finished.empty or not weights.is_file():
        what = f"has no finished run {run_id!r}" if finished.empty else f"has no {weights}"
        raise OptionError(f"learner.teacher: {place.store} {what}; teach with the id of a run that is finished there")
    taught_by = Spec.parse({k: v for k, v in finished.iloc[0]["spec"].items() if k != "code"})
    if taught_by.dataset != spec.dataset:
        raise OptionError(
            f"learner.teacher: run {run_id} learned {taught_by.dataset['name']}, not {spec.dataset['name']}"
        )
    return taught_by, weights


def _teacher(spec: Spec, place: Place) -> Teacher | None:
    """Return the trained network that teaches a run, where it names one."""
    found = _taught_by(spec, place)
    if found is None:
        return None
    taught_by, weights = found
    setting, _ = setting_of(taught_by, place.data)
    network = build(taught_by, setting.dataset)
    network.load_state_dict(checkpoint.read(weights)[0])
    return Teacher(network, setting.encoder, setting.T)


def setting_of(spec: Spec, data: Path | None) -> tuple[protocols.Setting, Any]:
    """Return the data of a run with how they are encoded, and its protocol."""
    options = {k: v for k, v in spec.encoder.items() if k not in ("name", "T")}
    encoder = encoders.create(spec.encoder["name"], **options)
    dataset = _dataset(json.dumps(spec.model_dump(mode="json")["dataset"], sort_keys=True), data)
    protocol_options = {k: v for k, v in spec.protocol.items() if k != "name"}
    protocol = protocols.create(spec.protocol["name"], **protocol_options)
    return protocols.Setting(dataset, encoder, steps_of(dataset, encoder, spec.T), spec.seed), protocol


def steps_of(dataset: datasets.Dataset, encoder: encoders.Encoder, T: int | None) -> int:
    """Return the time steps of a data set under an encoder.

    Raises
    ------
    OptionError
        When sequences meet an encoder of images, or images one of sequences.
    """
    sequences = isinstance(dataset, datasets.SequenceDataset)
    if sequences != encoder.own_steps:
        right = "sequences: set encoder: sequence" if sequences else "no sequences: set another encoder, such as direct"
        raise OptionError(f"encoder: the samples of {dataset.name} are {right}")
    if isinstance(dataset, datasets.SequenceDataset):
        return dataset.steps
    assert T is not None
    return T


@lru_cache(maxsize=2)
def _dataset(component: str, root: Path | None) -> Any:
    # The component comes as text, which a cache can compare whatever its options are.
    return datasets.load(root=root, **normalise("dataset", json.loads(component)))


def record_of(store: Store, run_id: str) -> energy.Record:
    """Return the operation record of a finished run."""
    frames = store.frames(run_id, "record.")
    provenance = frames.pop("provenance")
    facts = {key: json.loads(value) for key, value in zip(provenance["key"], provenance["value"], strict=True)}
    return energy.Record(frames, facts)
