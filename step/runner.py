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
from neurons.errors import OptionError, StepError
from step.learners import learners
from step.machine import machine
from step.models import Network, create
from step.spec import FROM_DATA, Spec
from step.store import Store
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


def check(spec: Spec, data: Path | None) -> None:
    """Raise a StepError for anything that would stop this run; writes nothing."""
    setting, protocol = _setting(spec, data)
    protocol.check(setting, int(spec.learner["batch"]))
    with torch.device("meta"):
        build(spec, setting.dataset)


def build(spec: Spec, dataset: Any) -> Network:
    """Build the network of a run for a data set, with the initial weights of its seed."""
    options = {k: v for k, v in spec.model.items() if k != "name"}
    for name in FROM_DATA:
        value = getattr(dataset, name)
        if options.setdefault(name, value) != value:
            raise OptionError(f"model.{name} is {options[name]}, but {dataset.name} has {value}; leave it out")
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
        with lock.acquire(timeout=0):
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
        setting, protocol = _setting(spec, place.data)
        network = build(spec, setting.dataset)
        cls: Any = learners.get(spec.learner["name"])
        config = cls.Config(**{k: v for k, v in spec.learner.items() if k != "name"})
        file = folder / "checkpoint.safetensors"
        learner = cls(network, config, seed=spec.seed, checkpoint_file=file, progress=progress)
        outcome = protocol.run(learner, setting)
        progress({"stage": "counting operations"})
        probe = protocol.probe(setting, spec.measure.samples, spec.measure.batch)
        data = f"{setting.dataset.name}, {probe.samples} test samples"
        record = energy.measure(network, (x.to(learner.device) for x, _ in probe.epoch()), data=data, steps=True)
        record_trace(network, probe, folder / "trace.safetensors")
        learner.save(folder / "weights.safetensors")
    except StepError as error:
        store.finish({**run, "status": "failed", "error": str(error), "seconds": time.perf_counter() - start}, {})
        raise
    seconds = sum(epoch.get("seconds", 0.0) for epoch in learner.history)
    metrics = {
        **outcome.metrics,
        "parameters": network.parameter_count,
        "train_seconds": seconds,
        "best_epoch": max(range(len(learner.history)), key=lambda e: learner.history[e]["validation_accuracy"]) + 1,
    }
    curves = [(epoch + 1, name, value) for epoch, row in enumerate(learner.history) for name, value in row.items()]
    frames = {f"record.{name}": frame for name, frame in record.to_frames().items()}
    frames["record.provenance"] = pd.DataFrame(
        {"key": list(record.provenance), "value": [json.dumps(value) for value in record.provenance.values()]}
    )
    frames |= {f"outcome.{name}": frame for name, frame in outcome.tables.items()}
    total = time.perf_counter() - start
    store.finish({**run, "status": "finished", "error": None, "seconds": total}, metrics, curves, frames)
    with suppress(FileNotFoundError):
        file.unlink()


def _setting(spec: Spec, data: Path | None) -> tuple[protocols.Setting, Any]:
    options = {k: v for k, v in spec.encoder.items() if k not in ("name", "T")}
    encoder = encoders.create(spec.encoder["name"], **options)
    dataset = _dataset(spec.dataset["name"], data)
    protocol_options = {k: v for k, v in spec.protocol.items() if k != "name"}
    protocol = protocols.create(spec.protocol["name"], **protocol_options)
    return protocols.Setting(dataset, encoder, spec.T, spec.seed), protocol


@lru_cache(maxsize=2)
def _dataset(name: str, root: Path | None) -> Any:
    return datasets.load(name, root)


def record_of(store: Store, run_id: str) -> energy.Record:
    """Return the operation record of a finished run."""
    frames = store.frames(run_id, "record.")
    provenance = frames.pop("provenance")
    facts = {key: json.loads(value) for key, value in zip(provenance["key"], provenance["value"], strict=True)}
    return energy.Record(frames, facts)
