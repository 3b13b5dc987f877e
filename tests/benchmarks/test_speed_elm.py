"""The timings of ELM neurons: who takes part, and that nobody is timed who computes something else."""

from __future__ import annotations

import pytest

from benchmarks.speed import elm, elm_contestants
from neurons.errors import OptionError, StepError


def test_loops_and_layers_of_equal_size_take_part() -> None:
    rows = {row.name: row for row in elm.measure((5, 2), seconds=0.0, rounds=1)}
    assert list(rows) == [elm.OURS, *elm.LOOPS.values(), *elm.LAYERS]
    assert rows[elm.OURS].parameters == 183_020
    assert all(abs(row.parameters / 183_020 - 1) < 0.02 for row in rows.values())
    assert rows[elm.OURS].train_ratio == rows[elm.OURS].infer_ratio == 1
    assert all(min(row.train, row.infer, row.held) > 0 for row in rows.values())
    several = elm.measure_population((4, 3, 17, 5), seconds=0.0, rounds=1)
    assert [row.name for row in several] == [elm.SEVERAL, elm.BATCHED]


def test_what_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="T,B"):
        elm.measure((5, 2, 1))
    with pytest.raises(OptionError, match="T,B,N,M"):
        elm.measure_population((5, 2))
    forward = elm_contestants.ReleasedLoop.forward
    monkeypatch.setattr(elm_contestants.ReleasedLoop, "forward", lambda self, x: 1.01 * forward(self, x))
    with pytest.raises(StepError, match="released loop, v1 computes something else"):
        elm.measure((5, 2), seconds=0.0, rounds=1)
