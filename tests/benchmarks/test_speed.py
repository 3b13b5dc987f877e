"""The side-by-side timings: who takes part, what is compared first, what is refused. No time is tested."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.speed import counting, layers, neurons
from benchmarks.speed.turns import in_turns
from neurons.errors import OptionError, StepError

FEW = ["step, fused", "step, eager", "spikingjelly", "snntorch"]


@pytest.mark.parametrize("kind", layers.NEURONS)
def test_every_neuron_is_timed_beside_its_peers(kind: str) -> None:
    rows = neurons.measure(kind, (4, 3, 40), FEW, seconds=0.0)
    names = {row.name for row in rows}
    assert names == set(FEW) - ({"snntorch"} if kind in ("clif", "izhikevich") else set())
    assert rows[0].name == "step, fused"
    for row in rows:
        assert 0 < row.best_forward <= row.forward
        assert 0 < row.best_both <= row.both
        assert row.copy > 0
    fused = rows[0]
    assert fused.held == pytest.approx(4 * 3 * 40 * 4 / 2**20, rel=0.05)  # the input, and scalars


def test_peers_with_the_same_neuron_are_not_excused() -> None:
    assert {name for name in FEW if not layers.CONTESTANTS[name]("lif").differs} >= {"step, fused", "spikingjelly"}  # type: ignore[union-attr]
    assert not layers.spikingjelly("plif").differs  # type: ignore[union-attr]
    assert not layers.spikingjelly("clif").differs  # type: ignore[union-attr]


def test_torch_compile_takes_part_in_one_graph_or_in_chunks() -> None:
    contestant = layers.torch_compile("lif", chunk=3)
    x = (torch.rand(6, 2, 8) * 2).requires_grad_()
    expected = layers.step_eager("lif").forward(x)
    with torch.compiler.set_stance("force_eager"):  # the chunks are under test here, not the compiler of torch
        assert torch.equal(contestant.forward(x), expected)


def test_no_time_is_shown_for_another_neuron(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dataclasses.replace(layers.step_eager("lif"), forward=lambda x: (x > 0.5).to(x.dtype) * x / x)
    monkeypatch.setitem(layers.CONTESTANTS, "snntorch", lambda kind: wrong)
    with pytest.raises(StepError, match="snntorch computes another lif"):
        neurons.measure("lif", (4, 2, 8), FEW, seconds=0.0)


def test_wrong_words_are_answered_in_one_line() -> None:
    with pytest.raises(OptionError, match="no neuron 'liff' to time; did you mean 'lif'"):
        neurons.measure("liff", (4, 2, 8))
    with pytest.raises(OptionError, match="no implementation 'spikngjelly'"):
        neurons.measure("lif", (4, 2, 8), ["spikngjelly"])
    with pytest.raises(OptionError, match="T,B,N"):
        neurons.measure("lif", (4, 2))


def test_tasks_take_turns() -> None:
    order: list[str] = []
    times = in_turns({name: lambda name=name: order.append(name) for name in "ab"}, 0.0, rounds=2)  # type: ignore[misc]
    assert order == ["a", "a", "b", "b"] * 2
    assert [len(values) for values in times.values()] == [2, 2]


def test_counting_is_timed_beside_the_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def small() -> tuple[torch.nn.Module, torch.Tensor]:
        return counting.NETWORKS["spikingjelly cnn"]()[0], torch.rand(2, 1, 3, 32, 32)

    monkeypatch.setitem(counting.NETWORKS, "small", small)
    rows = counting.measure("small", seconds=0.0)
    assert [row.name for row in rows][:2] == ["forward", "step record"]
    assert rows[0].ratio == 1
    assert all(row.seconds > 0 for row in rows)
    with pytest.raises(OptionError, match="no network 'smal' to count; did you mean 'small'"):
        counting.measure("smal")
