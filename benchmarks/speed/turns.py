"""Timing in turns: every task once, then every task again, so that what else the machine does meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def in_turns(
    tasks: Mapping[Key, Callable[[], object]],
    seconds: float,
    *,
    rounds: int = 5,
    synchronise: Callable[[], None] = lambda: None,
) -> dict[Key, list[float]]:
    """Time tasks in turns for about ``seconds`` seconds, and at least ``rounds`` rounds.

    Each task runs twice in a turn and the second time counts: the first brings caches and threads back to it.

    Parameters
    ----------
    tasks : mapping of key to callable
    seconds : float
    rounds : int
    synchronise : callable
        Waits until the device is done, before and after each task.

    Returns
    -------
    dict of key to list of float
        Seconds of each turn.
    """
    times: dict[Key, list[float]] = {key: [] for key in tasks}
    deadline = time.perf_counter() + seconds
    turn = 0
    while turn < rounds or time.perf_counter() < deadline:
        turn += 1
        for key, task in tasks.items():
            task()
            synchronise()
            start = time.perf_counter()
            task()
            synchronise()
            times[key].append(time.perf_counter() - start)
    return times
