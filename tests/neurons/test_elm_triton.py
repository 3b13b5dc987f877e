"""The recurrence of ELM neurons in Triton: in its interpreter against the plain loop, and compiled for real GPUs."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from test_elm_solver import assert_near, case, results

from neurons.elm.recurrence import MLP, memory, memory_reference, why_not

if sys.platform == "linux":
    import triton
    from test_triton import _Driver

    from neurons.elm import triton_recurrence
else:
    pytest.skip("Triton is for Linux", allow_module_level=True)

CASES = [
    # activation, hidden layers, neurons, samples, memory, hidden units, scale, z, last only
    ("relu", 1, 2, 3, 5, 19, False, False, False),
    ("silu", 1, 1, 17, 5, 90, True, True, False),
    ("relu-squared", 1, 3, 2, 17, 34, True, False, True),
    ("relu", 0, 2, 3, 5, 5, True, True, True),
    ("relu", 0, 1, 20, 18, 18, False, False, False),
]


@pytest.mark.parametrize(
    ("activation", "layers", "count", "batch", "size", "hidden", "scaled", "outputs", "last"), CASES
)
def test_the_interpreted_kernel_is_the_plain_loop(
    activation: str, layers: int, count: int, batch: int, size: int, hidden: int, scaled: bool, outputs: bool,
    last: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("STEP_KERNELS", "triton")
    given = case(4, batch, count, size, hidden, layers)
    u, m, decay, gain, weights, biases, _ = given
    mlp = MLP(tuple(weights), tuple(biases), activation)
    assert why_not(u, m, mlp) is None
    launched = []
    launch = triton_recurrence.launch
    monkeypatch.setattr(
        triton_recurrence, "launch", lambda which, *rest: (launched.append(which), launch(which, *rest))
    )
    found, wanted = (
        results(function, given, activation, scaled, dtype, outputs=outputs, last=last)
        for function, dtype in ((memory, None), (memory_reference, torch.float64))
    )
    assert_near(found, wanted)
    without = memory(u, m, decay, gain, mlp, last=last)
    torch.testing.assert_close(without, memory_reference(u, m, decay, gain, mlp, last=last))
    assert launched == [0, 1, 0]


def test_what_it_does_not_hold_runs_in_the_plain_loop_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    given = case(2, 2, 1, 3, 5, 2)
    mlp = MLP(tuple(given.weights), tuple(given.biases))
    monkeypatch.setenv("STEP_KERNELS", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "TRITON_INTERPRET" in (why_not(given.u, given.m, mlp) or "")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "not 2" in (why_not(given.u, given.m, mlp) or "")
    wide = case(2, 2, 1, 300, 5, 1)
    assert "256 memory units" in (why_not(wide.u, wide.m, MLP(tuple(wide.weights), tuple(wide.biases))) or "")
    monkeypatch.setattr(triton_recurrence, "launch", None)
    torch.testing.assert_close(memory(*given[:4], mlp), memory_reference(*given[:4], mlp))


@pytest.mark.parametrize(("arch", "sizes"), [(80, ((1, 9, 18), (0, 9, 9))), (90, ((1, 100, 200),))])
def test_it_compiles(arch: int, sizes: tuple[tuple[int, int, int], ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(triton.runtime.driver, "_active", _Driver(arch))
    binaries: list[Any] = []

    def launch(which: int, grid: Any, arguments: dict[str, Any]) -> None:
        kernel = triton_recurrence._kernels(False)[which]
        binaries.append(kernel.warmup(**arguments, **triton_recurrence.OPTIONS, grid=grid))

    monkeypatch.setattr(triton_recurrence, "launch", launch)
    for layers, size, hidden in sizes:
        u, m, decay, gain, weights, biases, scale = case(3, 4, 2, size, hidden, layers)
        kept, z, y = triton_recurrence.forward(
            u, m, decay, gain, scale, weights, biases, "silu", learns=True, outputs=True, last=False
        )
        triton_recurrence.backward((z, m, z), u, kept, y, decay, gain, scale, weights, "silu", True)
    assert len(binaries) == 2 * len(sizes)
    assert all(binary.asm["cubin"] for binary in binaries)
    # what a block of the older generation has
    assert max(binary.metadata.shared for binary in binaries) <= 163 * 1024


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize(
    ("count", "size", "layers", "batch"), [(1, 100, 1, 8), (3, 20, 1, 33), (57, 9, 1, 8), (4, 7, 0, 5)]
)
def test_a_gpu_gives_the_numbers_of_the_plain_loop(
    count: int, size: int, layers: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEP_KERNELS", raising=False)
    given = case(20, batch, count, size, 2 * size, layers)
    on_gpu = type(given)(*[[v.cuda() for v in value] if isinstance(value, list) else value.cuda() for value in given])
    for activation in ("relu", "silu"):
        values, gradients = results(memory, on_gpu, activation, True, outputs=True)
        wanted = results(memory_reference, given, activation, True, torch.float64, outputs=True)
        assert_near([[value.cpu() for value in values], [value.cpu() for value in gradients]], wanted)
