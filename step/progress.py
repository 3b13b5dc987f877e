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
    accuracy: dict[str, float] = {}
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
                best = f", best validation accuracy {accuracy[run]:.2%}" if run in accuracy else ""
                console.print(f"[{done}/{len(plan.todo)}] {name}: {escape(result)} in {seconds:.0f} s{best}")
            elif "stage" in event:
                progress.update(tasks[run], text=event["stage"])
            else:
                text = f"epoch {int(event['epoch'])}/{event['epochs']}"
                if "validation_accuracy" in event:
                    accuracy[run] = max(accuracy.get(run, 0.0), event["validation_accuracy"])
                if run in accuracy:
                    text += f"  validation {accuracy[run]:.1%}"
                shares[run] = (event["epoch"] + event.get("share", 0.0)) / event["epochs"]
                progress.update(tasks[run], completed=shares[run], text=text)
                progress.update(whole, completed=done + sum(shares.values()))

        yield report
