"""The fused recurrence of ELM neurons and the projection before it, against plain loops in float64."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from neurons.compiler import cache
from neurons.elm import kernel, many, one
from neurons.elm.projection import filter_time, filter_time_reference, project
from neurons.elm.recurrence import MLP, memory, memory_reference
from neurons.errors import OptionError, ShapeError
from neurons.plain import plain

needs_c = pytest.mark.skipif(kernel.library() is None, reason="there is no C compiler")


class Case(NamedTuple):
    """What a recurrence is called with."""

    u: Tensor
    m: Tensor
    decay: Tensor
    gain: Tensor
    weights: list[Tensor]
    biases: list[Tensor]
    scale: Tensor


def case(steps: int, batch: int, count: int, size: int, hidden: int, layers: int, gain: str = "v2") -> Case:
    """Return random numbers of the sizes that trained neurons have.

    With these seeds no unit that is compared lies within rounding of the kink of relu, where slopes are either.
    """
    g = torch.Generator().manual_seed(200 + steps + batch + count)

    def some(*shape: int, by: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=g) * by

    hidden = hidden if layers else size
    shapes = [(hidden, size), *[(hidden, hidden)] * (layers - 1), (size, hidden)] if layers else [(size, size)]
    weights = [some(count, *shape, by=0.7 * shape[1] ** -0.5) for shape in shapes]
    biases = [some(count, shape[0], by=0.1) for shape in shapes[1:]]
    tau = 1 + 20 * torch.rand(count, size, generator=g)
    decay = torch.exp(-1 / tau)
    written = 5 * (1 - decay) if gain == "v1" else 1 - torch.exp(-5 / tau)
    scale = (torch.rand(batch, count, size, generator=g) < 0.8).float() / 0.8**0.5
    return Case(
        some(steps, batch, count, hidden), some(batch, count, size), decay, written, weights, biases, scale
    )  # fmt: skip


def results(
    function: Any, given: Case, activation: str, scaled: bool = False, dtype: Any = None, **options: Any
) -> Any:
    """Return outputs, and gradients of everything that has one."""
    u, m, decay, gain, weights, biases, scale = given
    leaves = [
        value.to(dtype or value.dtype).clone().requires_grad_() for value in (u, m, decay, gain, *weights, *biases)
    ]
    mlp = MLP(tuple(leaves[4 : 4 + len(weights)]), tuple(leaves[4 + len(weights) :]), activation)
    factor = scale.to(leaves[0].dtype) if scaled else None
    found = function(*leaves[:4], mlp, scale=factor, **options)
    outputs = found if isinstance(found, tuple) else (found,)
    g = torch.Generator().manual_seed(1)
    loss = sum((value * torch.randn(value.shape, generator=g).to(value.dtype)).sum() for value in outputs)
    return [value.detach() for value in outputs], torch.autograd.grad(loss, leaves)


def assert_near(found: Any, wanted: Any, forward: float = 1e-5, backward: float = 1e-4) -> None:
    for values, references, most in zip(found, wanted, (forward, backward), strict=True):
        for value, reference in zip(values, references, strict=True):
            assert torch.isfinite(value).all()
            assert float((value.double() - reference).abs().max()) <= most * max(float(reference.abs().max()), 1e-3)


@needs_c
@pytest.mark.parametrize("count", [1, 3, 17])
@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("activation", ["relu", "silu", "relu-squared"])
def test_the_fused_recurrence_is_the_plain_loop(activation: str, layers: int, count: int) -> None:
    assert many.pays(count, 5, 19) == (count == 17)  # the loop for many neurons too is met here
    options = itertools.product((1, 3, 8, 13), (False, True), (False, True), (False, True))
    for i, (batch, scaled, outputs, last) in enumerate(options):
        given = case(6, batch, count, 5, 19, layers, gain=("v1", "v2")[i % 2])
        both = [
            results(function, given, activation, scaled, dtype, outputs=outputs, last=last)
            for function, dtype in ((memory, None), (memory_reference, torch.float64))
        ]
        assert_near(*both)


@needs_c
@pytest.mark.parametrize(
    ("count", "size", "hidden"), [(1, 37, 75), (1, 100, 200), (2, 1, 2), (40, 9, 18), (16, 16, 32)]
)
def test_sizes_that_fill_vectors_and_that_do_not(count: int, size: int, hidden: int) -> None:
    for batch in (2, 9):
        given = case(12, batch, count, size, hidden, 1)
        wanted = results(memory_reference, given, "relu", dtype=torch.float64)
        assert_near(results(memory, given, "relu"), wanted)


@needs_c
@pytest.mark.parametrize("count", [1, 20])
def test_threads_samples_and_pieces_of_time_change_nothing(count: int) -> None:
    given = case(40, 24, count, 12, 24, 1)
    u, m, decay, gain, weights, biases, _ = given
    mlp = MLP(tuple(weights), tuple(biases))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(results(memory, given, "relu"))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0][0], found[1][0][0])
    assert_near(found[0], found[1], 0, 1e-6)
    whole = memory(u, m, decay, gain, mlp)
    assert torch.equal(memory(u, m, decay, gain, mlp, last=True), whole[-1:])  # type: ignore[index]
    first = memory(u[:11], m, decay, gain, mlp)
    second = memory(u[11:], first[-1], decay, gain, mlp)  # type: ignore[index]
    assert torch.equal(torch.cat([first, second]), whole)  # type: ignore[list-item]
    alone = memory(u[:, 5:6].contiguous(), m[5:6], decay, gain, mlp)
    assert torch.equal(alone, whole[:, 5:6])  # type: ignore[index]


@pytest.mark.parametrize("last", [False, True])
def test_checkpoints_change_no_gradient_and_hold_less(last: bool) -> None:
    given = case(50, 3, 1, 10, 20, 1)
    whole = results(memory, given, "silu", True, outputs=True, last=last)
    for length in (1, 7, 50):
        found = results(memory, given, "silu", True, outputs=True, last=last, checkpoint=length)
        assert_near(found, whole, 0, 1e-5)
    held = []
    for length in (0, 7):
        kept: dict[int, int] = {}

        def pack(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        u, m, decay, gain, weights, biases, _ = given
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            mlp = MLP(tuple(weights), tuple(biases), "silu")
            out = memory(u.clone().requires_grad_(), m, decay, gain, mlp, checkpoint=length, last=True)
        held.append(sum(kept.values()))
        del out
    assert held[1] < 0.7 * held[0]


@needs_c
def test_large_numbers_saturate_and_nan_stays() -> None:
    for count in (1, 16):
        given = case(5, 3, count, 16, 32, 1)
        large = given._replace(u=given.u * 1e6, m=given.m * 1e4)
        for activation in ("relu", "silu"):
            found, gradients = results(memory, large, activation)
            wanted, others = results(memory_reference, large, activation, dtype=torch.float64)
            assert_near([found, []], [wanted, []])
            assert all(torch.isfinite(value).all() for value in gradients)
            for each in (gradients, others):
                assert float(each[0].abs().max()) <= 1e-6
        given.u[2, 1] = torch.nan
        out = results(memory, given, "relu")[0][0]
        assert torch.isnan(out[2:, 1]).all()
        assert torch.isfinite(out[:2]).all()
        assert torch.isfinite(out[:, [0, 2]]).all()


@needs_c
def test_tanh_and_its_kin_are_exact_to_a_millionth() -> None:
    x = torch.cat([torch.linspace(-40, 40, 1 << 16), *(s * torch.logspace(-30, 1.9, 1 << 14) for s in (1, -1))])
    for which, function in enumerate((torch.tanh, torch.sigmoid, torch.expm1)):
        to = torch.empty_like(x)
        kernel.library().step_functions((ctypes.c_int64 * 4)(x.data_ptr(), to.data_ptr(), x.numel(), which))  # type: ignore[union-attr]
        wanted = function(x.double())
        assert float(((to - wanted) / wanted).abs().max()) < 1e-6


def test_double_precision_passes_gradcheck_and_others_run() -> None:
    u, m, decay, gain, weights, biases, scale = (
        [each.double() for each in value] if isinstance(value, list) else value.double()
        for value in case(3, 2, 2, 3, 4, 1)
    )

    def function(*tensors: Tensor) -> Any:
        mlp = MLP(tensors[4:6], tensors[6:], "silu")
        return memory(*tensors[:4], mlp, scale=scale, outputs=True)

    leaves = [value.requires_grad_() for value in (u, m, decay, gain, *weights, *biases)]
    assert torch.autograd.gradcheck(function, leaves)


class _Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def test_whoever_looks_on_sees_plain_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    u, m, decay, gain, weights, biases, _ = case(4, 2, 1, 5, 7, 1)
    mlp = MLP(tuple(weights), tuple(biases))
    wanted = memory_reference(u, m, decay, gain, mlp)

    def forbidden(*_: Any) -> None:
        raise AssertionError("the C loop ran")

    def run() -> None:
        torch.testing.assert_close(memory(u, m, decay, gain, mlp), wanted)
        torch.testing.assert_close(filter_time(u[:, :, 0], decay[0, 0]), filter_time_reference(u[:, :, 0], decay[0, 0]))

    run()
    monkeypatch.setattr(kernel, "call", forbidden)
    monkeypatch.setattr(one, "call", forbidden)
    with _Seen() as seen:
        run()
    assert "aten::tanh" in seen.names
    with plain():
        run()
    rows = torch.func.vmap(lambda row: memory(row, m, decay, gain, mlp))(torch.stack([u, u]))
    torch.testing.assert_close(rows[1], wanted)
    monkeypatch.setenv("STEP_KERNELS", "eager")
    run()
    monkeypatch.delenv("STEP_KERNELS")
    monkeypatch.setattr(kernel, "library", lambda: None)
    run()


@pytest.fixture
def narrower(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loops for processors with narrower vectors."""
    monkeypatch.setattr(cache, "FLAGS", tuple("-march=x86-64-v3" if f == "-march=native" else f for f in cache.FLAGS))
    monkeypatch.setenv("STEP_CACHE", str(tmp_path))
    for function in (kernel.library, many.width):
        function.cache_clear()
    if kernel.library() is None:
        pytest.skip("not a processor of that family")
    yield
    monkeypatch.undo()
    for function in (kernel.library, many.width):
        function.cache_clear()


@needs_c
@pytest.mark.usefixtures("narrower")
def test_narrower_vectors_give_the_same() -> None:
    assert many.width() < 16 or cache.processor().count("avx512f") == 0
    for count, size in ((1, 21), (17, 3)):
        given = case(6, 5, count, size, 13, 2)
        wanted = results(memory_reference, given, "silu", True, torch.float64, outputs=True)
        assert_near(results(memory, given, "silu", True, outputs=True), wanted)


def test_what_does_not_fit_is_refused() -> None:
    u, m, decay, gain, weights, biases, _ = case(4, 2, 1, 5, 7, 1)
    mlp = MLP(tuple(weights), tuple(biases))
    for function in (memory, memory_reference):
        with pytest.raises(ShapeError, match="decay of the recurrence"):
            function(u, m, decay[:, :3], gain, mlp)
        with pytest.raises(ShapeError, match=r"weights\[0\]"):
            function(u[..., :6], m, decay, gain, mlp)
        with pytest.raises(ShapeError, match="2 weights has 1 biases"):
            function(u, m, decay, gain, MLP(mlp.weights, ()))
        with pytest.raises(OptionError, match="did you mean 'relu'"):
            function(u, m, decay, gain, MLP(mlp.weights, mlp.biases, "rleu"))
    with pytest.raises(OptionError, match="checkpoint"):
        memory(u, m, decay, gain, mlp, checkpoint=-1)
    with pytest.raises(ShapeError, match="filter over time"):
        filter_time(u[:, :, 0], torch.ones(3))


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(("started", "biased"), [(True, True), (True, False), (False, True), (False, False)])
def test_the_filter_is_the_loop(single: bool, started: bool, biased: bool) -> None:
    g = torch.Generator().manual_seed(0)
    for steps, rows, size in itertools.product((1, 9), ((3,), (2, 70)), (1, 7)):
        x, start, bias = (torch.randn(*shape, size, generator=g) for shape in ((steps, *rows), rows, ()))
        decay = torch.rand((), generator=g) if single else torch.rand(size, generator=g)
        found = []
        for function, dtype in ((filter_time, torch.float32), (filter_time_reference, torch.float64)):
            given = [x, decay, start if started else None, bias if biased else None]
            given = [None if value is None else value.to(dtype).requires_grad_() for value in given]
            out = function(*given)
            leaves = [value for value in given if value is not None]
            loss = (out * torch.linspace(-1, 2, out.numel()).view(out.shape)).sum()
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
            found.append([[out.detach()], [torch.zeros(1) if value is None else value for value in gradients]])
        assert_near(*found)


@pytest.mark.parametrize("leak", ["none", "shared", "each"])
@pytest.mark.parametrize("synapses", [1, 3])
@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize("hidden", [2, 90])
def test_the_projection_is_synapses_branches_and_a_layer(leak: str, synapses: int, routed: bool, hidden: int) -> None:
    g = torch.Generator().manual_seed(0)
    steps, batch, branches = 90, 4, 30
    inputs = 70 if routed else branches * synapses
    x = (torch.rand(steps, batch, inputs, generator=g) < 0.02).float() * torch.randint(1, 3, (inputs,), generator=g)
    weights = torch.rand(branches * synapses, generator=g)
    index = torch.randint(0, inputs, weights.shape, generator=g) if routed else None
    mask = (torch.rand(weights.shape, generator=g) < 0.8).float() if routed else None
    decay = {"none": None, "shared": torch.tensor(0.8), "each": torch.rand(branches, generator=g)}[leak]
    w_in, bias = torch.randn(hidden, branches, generator=g), torch.randn(hidden, generator=g)
    b0 = None if decay is None else torch.randn(batch, branches, generator=g)

    def plainly(x: Tensor, weights: Tensor, decay: Tensor | None, w_in: Tensor, bias: Tensor, b0: Tensor | None) -> Any:
        heard = x if index is None else x[..., index]
        sums = (heard * (weights if mask is None else weights * mask)).unflatten(-1, (branches, synapses)).sum(-1) * 3.0
        b = sums if decay is None else filter_time_reference(sums, decay, b0)
        return (b @ w_in.t() + bias).unsqueeze(2), None if decay is None else b[-1]

    def ours(x: Tensor, weights: Tensor, *rest: Any) -> Any:
        return project(x, weights, index, mask, synapses, *rest, keep=True, input_scale=3.0)

    found = []
    for function, dtype in ((ours, torch.float32), (plainly, torch.float64)):
        given = [
            None if value is None else value.to(dtype).requires_grad_() for value in (x, weights, decay, w_in, bias, b0)
        ]
        outputs = [value for value in function(*given) if value is not None]
        loss = sum((value * torch.linspace(-1, 2, value.numel()).view(value.shape)).sum() for value in outputs)
        leaves = [value for value in given if value is not None]
        found.append([[value.detach() for value in outputs], torch.autograd.grad(loss, leaves)])
    assert_near(*found, forward=1e-5, backward=2e-4)
    assert project(x, weights, index, mask, synapses, decay, w_in, bias, b0, keep=False)[1] is None
