"""Where runs are done: in this process, or in several local processes."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurons.errors import StepError
from step.runner import Place, execute
from step.spec import Spec

Report = Callable[[str, dict[str, Any]], None]
"""Receives the id of a run and an event of it."""


@dataclass(frozen=True)
class Job:
    """A run to be done, and the suite that asked for it."""

    spec: Spec
    suite: str


def available_cores() -> int:
    """Return the processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    jobs: Sequence[Job], place: Place, report: Report, *, workers: int = 1, plugins: Sequence[Path] = ()
) -> dict[str, str]:
    """Do all jobs and return ``{run id: "finished" | "busy" | error message}``.

    A run that fails does not stop the others. On KeyboardInterrupt the workers are stopped; finished runs are
    kept, and the others go on from their last epoch next time.

    Parameters
    ----------
    jobs : sequence of Job
    place : Place
    report : callable
    workers : int
        Local processes; the cores are shared out among them. One worker is this process itself.
    plugins : sequence of Path
        Files that each process loads first.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        return {job.spec.id: _one(job, place, report) for job in jobs}
    return _in_processes(jobs, place, report, workers, plugins)


def _one(job: Job, place: Place, report: Report) -> str:
    run_id = job.spec.id
    report(run_id, {"stage": "started"})
    try:
        result = execute(job.spec, job.suite, place, lambda event: report(run_id, event))
    except StepError as error:
        result = f"error: {error}"
    except Exception as error:  # a fault of ours or of a component: this run fails, the others go on
        trace = place.run_folder(run_id) / "error.txt"
        trace.parent.mkdir(parents=True, exist_ok=True)
        trace.write_text(traceback.format_exc(), encoding="utf-8")
        first = (str(error).strip().splitlines() or ["no message"])[0]
        result = f"error: {type(error).__name__}: {first} (trace in {trace})"
    report(run_id, {"stage": "done", "result": result})
    return result


def _in_processes(
    jobs: Sequence[Job], place: Place, report: Report, workers: int, plugins: Sequence[Path]
) -> dict[str, str]:
    context = multiprocessing.get_context("spawn")  # fork would copy torch's threads in an unknown state
    todo: Any = context.Queue()
    events: Any = context.Queue()
    for job in jobs:
        todo.put(job)
    for _ in range(workers):
        todo.put(None)
    threads = max(1, available_cores() // workers)
    processes = [
        context.Process(target=_worker, args=(todo, events, place, threads, list(plugins)), daemon=True)
        for _ in range(workers)
    ]
    results: dict[str, str] = {}
    current: dict[int, str] = {}
    try:
        for process in processes:
            process.start()
        while len(results) < len(jobs):
            try:
                pid, run_id, event = events.get(timeout=0.5)
            except queue.Empty:
                _bury(processes, current, results)
                if not any(process.is_alive() for process in processes):
                    break
                continue
            current[pid] = run_id
            report(run_id, event)
            if event.get("stage") == "done":
                results[run_id] = event["result"]
                del current[pid]
    finally:
        for process in processes:
            process.terminate() if len(results) < len(jobs) else None
            process.join(5)
    for job in jobs:
        results.setdefault(job.spec.id, "error: the worker process ended before this run was done")
    return results


def _bury(processes: Sequence[Any], current: dict[int, str], results: dict[str, str]) -> None:
    """Note runs whose process died (killed, out of memory)."""
    for process in processes:
        if not process.is_alive() and process.exitcode and process.pid in current:
            run_id = current.pop(process.pid)
            results[run_id] = f"error: the process of this run ended with code {process.exitcode} (out of memory?)"


def _worker(todo: Any, events: Any, place: Place, threads: int, plugins: list[Path]) -> None:
    # Ctrl-C reaches the whole process group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    from step.plugins import load_plugin

    torch.set_num_threads(threads)
    for plugin in plugins:
        load_plugin(plugin)
    pid = os.getpid()
    parent = multiprocessing.parent_process()

    def report(run_id: str, event: dict[str, Any]) -> None:
        if parent is not None and not parent.is_alive():
            # The command was killed: do not go on unseen. Not sys.exit, which waits for someone to read the queue.
            os._exit(1)
        events.put((pid, run_id, event))

    while (job := todo.get()) is not None:
        _one(job, place, report)
