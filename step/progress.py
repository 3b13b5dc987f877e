"""Live progress of runs: a bar for each run at work, with time left, and one for the whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from step.api import Plan


@contextmanager
def live(console: Console, plan: Plan) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Show bars while runs report; where the output is no terminal, print a line for each finished run instead."""
    specs = {job.spec.id: job.spec for job in plan.todo}
    columns = (
        TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
    tasks: dict[str, TaskID] = {}
    started: dict[str, float] = {}
    values: dict[str, tuple[str, list[float]]] = {}
    shares: dict[str, float] = {}
    done = 0
    with progress:
        whole = progress.add_task("all runs", total=len(plan.todo), text="")

        def report(run: str, event: dict[str, Any]) -> None:
            nonlocal done
            name = f"{escape(plan.suite.labels[run])} seed {specs[run].seed}"
            if event.get("stage") == "started":
                started[run] = time.perf_counter()
                tasks[run] = progress.add_task(name, total=1.0, text="")
            elif event.get("stage") == "done":
                done += 1
                progress.remove_task(tasks.pop(run))
                shares.pop(run, None)
                progress.update(whole, completed=done)
                result = str(event["result"])
                seconds = time.perf_counter() - started[run]
                best = f", best validation {best_of(*values[run])}" if run in values else ""
                console.print(f"[{done}/{len(plan.todo)}] {name}: {escape(result)} in {seconds:.0f} s{best}")
            elif "stage" in event:
                progress.update(tasks[run], text=event["stage"])
            else:
                text = f"epoch {int(event['epoch'])}/{event['epochs']}"
                for name in event:
                    if name.startswith("validation_"):
                        values.setdefault(run, (name.removeprefix("validation_"), []))[1].append(event[name])
                if run in values:
                    text += f"  validation {best_of(*values[run])}"
                shares[run] = (event["epoch"] + event.get("share", 0.0)) / event["epochs"]
                progress.update(tasks[run], completed=shares[run], text=text)
                progress.update(whole, completed=done + sum(shares.values()))

        yield report


def best_of(metric: str, values: list[float]) -> str:
    """Return the best of the values of a validation metric, as text."""
    if metric in ("accuracy", "auc"):
        return f"{metric} {max(values):.1%}"
    return f"{metric} {min(values):.4g}"
