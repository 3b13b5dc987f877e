"""Event-driven products against torch in double precision, which is the reference for all of them."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from neurons.compiler import cache
from neurons.errors import OptionError
from neurons.products import (
    Events,
    cost,
    events,
    functional,
    kernel,
    spike_conv2d,
    spike_conv2d_weight,
    spike_linear,
    spike_linear_weight,
)
from neurons.products.geometry import Geometry, rows_of

TOLERANCE = 1e-5


def compiles() -> bool:
    """Whether this machine has a C compiler that works."""
    return kernel.available()


pytestmark = pytest.mark.skipif(not compiles(), reason="there is no C compiler")


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Events pay at every size; the list names the kernels that ran."""
    monkeypatch.setattr(cost, "wins", lambda cost, geometry: True)
    ran: list[str] = []
    for name in ("product", "weight_gradient"):
        original = getattr(kernel, name)
        monkeypatch.setattr(
            kernel, name, lambda *a, _original=original, _name=name: (ran.append(_name), _original(*a))[1]
        )
    return ran


def spikes(*shape: int, density: float = 0.15, values: str = "ones", seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    ones = (torch.rand(shape, generator=generator) < density).float()
    if values == "integers":
        return ones * torch.randint(0, 8, shape, generator=generator).float()
    if values == "reals":
        return ones * torch.randn(shape, generator=generator)
    return ones


def assert_near(found: Tensor, wanted: Tensor) -> None:
    found, wanted = found.detach(), wanted.detach()
    assert found.shape == wanted.shape
    scale = max(1.0, float(wanted.abs().max())) if wanted.numel() else 1.0
    assert float((found.double() - wanted).abs().max() if wanted.numel() else 0.0) <= TOLERANCE * scale


def assert_agrees(ours: Any, theirs: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Compare output and all gradients with torch in double precision."""
    single = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in (x, weight)]
    double = [t.detach().double().requires_grad_() for t in (x, weight)]
    for list_, dtype in ((single, torch.float32), (double, torch.float64)):
        if bias is not None:
            list_.append(bias.detach().to(dtype).requires_grad_())
    found, wanted = ours(*single), theirs(*double)
    assert_near(found, wanted)
    gradient = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(9))
    got = torch.autograd.grad(found, single, gradient)
    for one, other in zip(got, torch.autograd.grad(wanted, double, gradient.double()), strict=True):
        assert_near(one, other)


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 70),
    inputs=st.sampled_from([1, 2, 15, 16, 17, 48, 191, 192, 193, 385, 500]),
    outputs=st.sampled_from([1, 7, 16, 17, 31, 32, 33, 48, 100]),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    values=st.sampled_from(["ones", "integers", "reals"]),
    biased=st.booleans(),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_linear_layers_agree(
    tokens: int, inputs: int, outputs: int, density: float, values: str, biased: bool, threads: int, seed: int
) -> None:
    x = spikes(tokens, inputs, density=density, values=values, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator)
    bias = torch.randn(outputs, generator=generator) if biased else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "wins", lambda cost, geometry: True)
        patch.setattr(kernel, "_threads", lambda vectors: threads)
        assert_agrees(spike_linear, F.linear, x, weight, bias)


@settings(max_examples=80, deadline=None)
@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 19), st.integers(1, 40)),
    channels=st.sampled_from([1, 3, 16, 48, 63, 96, 192, 200]),
    outputs=st.sampled_from([1, 16, 20, 32, 40]),
    window=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    density=st.sampled_from([0.0, 0.1, 1.0]),
    values=st.sampled_from(["ones", "integers", "reals"]),
    layouts=st.tuples(st.booleans(), st.booleans()),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_convolutions_agree(
    batch: int, size: tuple[int, int], channels: int, outputs: int, window: tuple[int, int], stride: tuple[int, int],
    padding: tuple[int, int], density: float, values: str, layouts: tuple[bool, bool], threads: int, seed: int,
) -> None:  # fmt: skip
    if any(extent + 2 * pad < k for extent, pad, k in zip(size, padding, window, strict=True)):
        return
    formats = [torch.channels_last if last else torch.contiguous_format for last in layouts]
    x = spikes(batch, channels, *size, density=density, values=values, seed=seed).contiguous(memory_format=formats[0])
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, channels, *window, generator=generator).contiguous(memory_format=formats[1])
    bias = torch.randn(outputs, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "wins", lambda cost, geometry: True)
        patch.setattr(kernel, "_threads", lambda vectors: threads)
        assert_agrees(
            lambda x, w, b: spike_conv2d(x, w, b, stride, padding),
            lambda x, w, b: F.conv2d(x, w, b, stride, padding),
            x, weight, bias,
        )  # fmt: skip


def test_the_rule_itself_takes_events_for_few_spikes_and_agrees() -> None:
    x, weight, bias = spikes(2048, 384), torch.randn(384, 384), torch.randn(384)
    source = events(x)
    source.look()
    assert functional._pays(source, Geometry(1, 2048, 1, 384, 384), True) == (True, True)
    assert_agrees(spike_linear, F.linear, x, weight, bias)
    maps, kernels = spikes(4, 96, 32, 32).contiguous(memory_format=torch.channels_last), torch.randn(64, 96, 3, 3)
    assert_agrees(
        lambda x, w: spike_conv2d(x, w, None, 1, 1), lambda x, w: F.conv2d(x, w, None, 1, 1), maps, kernels, None
    )
    with torch.no_grad():
        assert spike_conv2d(maps, kernels, None, 1, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("density", [0.9, 1.0])
def test_many_spikes_are_left_to_dense_products(density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("counted, although a sample was enough")

    monkeypatch.setattr(Events, "counted", refuse)
    x, weight, bias = spikes(2048, 256, density=density), torch.randn(128, 256), torch.randn(128)
    assert_agrees(spike_linear, F.linear, x, weight, bias)
    maps, kernels = spikes(8, 32, 32, 32, density=density), torch.randn(48, 32, 3, 3)
    assert_agrees(
        lambda x, w: spike_conv2d(x, w, None, 1, 1), lambda x, w: F.conv2d(x, w, None, 1, 1), maps, kernels, None
    )


def test_the_rule_prefers_events_the_more_the_fewer_spikes_there_are() -> None:
    for geometry in (Geometry(1, 2048, 1, 384, 384), Geometry(32, 16, 16, 192, 384, (3, 3), (1, 1), (1, 1))):
        for price in (cost.forward, cost.gradient):
            costs = [price(geometry, density, True) for density in (0.0, 0.05, 0.2, 0.5, 1.0)]
            assert costs == sorted(costs)
            assert cost.wins(costs[1], geometry)
            assert not cost.wins(costs[-1], geometry)
            assert price(geometry, 0.2, False) > price(geometry, 0.2, True)
    assert not cost.wins(cost.forward(Geometry(1, 1, 1, 384, 384), 0.0, True), Geometry(1, 1, 1, 384, 384))


@pytest.mark.parametrize("values", ["ones", "reals"])
def test_any_number_of_threads_gives_the_same_bits(
    always: list[str], values: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [
        (spikes(700, 400, values=values), torch.randn(130, 400), spike_linear),
        (
            spikes(5, 48, 20, 20, values=values).contiguous(memory_format=torch.channels_last),
            torch.randn(96, 48, 3, 3),
            lambda x, w: spike_conv2d(x, w, None, 1, 1),
        ),
    ]
    for x, weight, layer in cases:
        results = []
        for threads in (1, 2, 3, 2):
            monkeypatch.setattr(kernel, "_threads", lambda vectors, threads=threads: threads)
            w = weight.clone().requires_grad_()
            out = layer(x, w)
            out.backward(torch.linspace(-1, 1, out.numel()).view(out.shape))
            assert w.grad is not None
            results.append((out.detach(), w.grad))
        for out, gradient in results[1:]:
            assert torch.equal(out, results[0][0])
            assert torch.equal(gradient, results[0][1])
    assert always.count("product") == always.count("weight_gradient") == 8


def test_several_layers_share_one_list(always: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = kernel.Counted.lists
    monkeypatch.setattr(kernel.Counted, "lists", lambda self: (made.append(1), original(self))[1])
    x = spikes(3, 30, 40).requires_grad_()
    weights = [torch.randn(20, 40, requires_grad=True) for _ in range(3)]
    shared = events(x)
    total = sum((spike_linear(shared, w).sin().sum() for w in weights), torch.zeros(()))
    wanted = sum((F.linear(x, w).sin().sum() for w in weights), torch.zeros(()))
    for one, other in zip(
        torch.autograd.grad(total, [x, *weights]), torch.autograd.grad(wanted, [x, *weights]), strict=True
    ):
        assert_near(one, other.double())
    assert len(made) == 1


def test_lists_are_made_anew_after_a_change_in_place(always: list[str]) -> None:
    x, weight = spikes(50, 40), torch.randn(8, 40)
    shared = events(x)
    assert_near(spike_linear(shared, weight), F.linear(x.double(), weight.double()))
    x[:, 3] = 1.0
    x.mul_(2.0)
    assert_near(spike_linear(shared, weight), F.linear(x.double(), weight.double()))
    with torch.inference_mode():
        free = spikes(50, 40)
        shared = events(free)
        assert_near(spike_linear(shared, weight), F.linear(free.double(), weight.double()))
        free[:, 5] = 3.0
        assert_near(spike_linear(shared, weight), F.linear(free.double(), weight.double()))
    maps, kernels = spikes(2, 5, 9, 9), torch.randn(8, 5, 3, 3)
    shared = events(maps, channels=1)
    for _ in range(2):
        assert_near(spike_conv2d(shared, kernels, None, 1, 1), F.conv2d(maps.double(), kernels.double(), None, 1, 1))
        maps[:, 1] = 1.0


def test_what_a_layer_keeps_is_what_the_input_was(always: list[str]) -> None:
    x, weight = spikes(50, 40), torch.randn(8, 40, requires_grad=True)
    before = x.clone()
    out = spike_linear(x, weight)
    x.fill_(7.0)
    out.sum().backward()
    assert weight.grad is not None
    assert_near(weight.grad, before.double().sum(0).expand(8, 40))


def test_lists_are_kept_in_place_of_the_input(always: list[str]) -> None:
    x, weight = spikes(64, 512, density=0.05), torch.randn(8, 512, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        kept: list[int] = []
        out = spike_linear(x, weight)
    assert sum(kept) - weight.numel() < x.numel() / 4
    here = weakref.ref(x)
    del x
    gc.collect()
    assert here() is None
    out.sum().backward()


def test_only_wanted_gradients_are_made(always: list[str]) -> None:
    x, weight = spikes(3, 10, 40), torch.randn(8, 40)
    for needs in ((True, False), (False, True), (True, True)):
        always.clear()
        one, two = x.clone().requires_grad_(needs[0]), weight.clone().requires_grad_(needs[1])
        spike_linear(one, two).sum().backward()
        assert (one.grad is not None, two.grad is not None) == needs
        assert always.count("weight_gradient") == needs[1]
    assert not spike_linear(x, weight).requires_grad


def test_expanded_and_strided_inputs(always: list[str]) -> None:
    weight = torch.randn(8, 40)
    for x in (spikes(40).expand(5, 6, 40), spikes(40, 30).t(), spikes(4, 5, 80)[..., ::2], spikes(40)):
        assert_agrees(spike_linear, F.linear, x, weight, None)
    wide = torch.randn(8, 80)[:, ::2]
    assert_near(spike_linear(spikes(7, 40), wide), F.linear(spikes(7, 40).double(), wide.double()))
    gradient = torch.randn(1, 1).expand(7, 8)
    w = weight.clone().requires_grad_()
    spike_linear(spikes(7, 40), w).backward(gradient)
    assert w.grad is not None
    assert_near(w.grad, gradient.double().t() @ spikes(7, 40).double())
    kernels = torch.randn(8, 3, 4, 4)[:, :, ::2, 1:]
    maps = spikes(2, 3, 9, 9)[:, :, ::2]
    assert_agrees(spike_conv2d, F.conv2d, maps, kernels, None)


def test_what_is_not_a_number_is_not_lost(always: list[str]) -> None:
    x = spikes(5, 40)
    x[2, 7] = float("nan")
    assert spike_linear(x, torch.randn(8, 40)).isnan().any(dim=1).tolist() == [False, False, True, False, False]
    x[2, 7] = -0.0
    assert not spike_linear(x, torch.randn(8, 40)).isnan().any()


def test_everything_else_is_torchs_own(always: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, kernels = spikes(6, 40), torch.randn(8, 40), torch.randn(8, 3, 3, 3)
    maps = spikes(2, 3, 9, 9)
    double = (
        torch.rand(3, 4, dtype=torch.float64, requires_grad=True),
        torch.rand(2, 4, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(spike_linear, double)
    assert torch.autograd.gradcheck(
        lambda x, w: spike_conv2d(x, w, None, 1, 1),
        (torch.rand(1, 2, 4, 4, dtype=torch.float64, requires_grad=True),
         torch.rand(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)),
    )  # fmt: skip
    assert spike_linear(x.to("meta"), weight.to("meta")).shape == (6, 8)
    assert spike_linear(x.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert spike_linear(x, weight).dtype == torch.bfloat16
    with FlopCounterMode(display=False) as counter:
        spike_linear(x, weight)
        spike_conv2d(maps, kernels, None, 1, 1)
    assert counter.get_total_flops() == 2 * 6 * 40 * 8 + 2 * 2 * 81 * 27 * 8
    assert torch.func.vmap(spike_linear, (0, None))(x[:, None], weight).shape == (6, 1, 8)
    primal, tangent = torch.func.jvp(lambda w: spike_linear(x, w), (weight,), (weight,))
    assert torch.equal(primal, tangent)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(weight, torch.ones_like(weight))
        assert torch.autograd.forward_ad.unpack_dual(spike_linear(x, dual)).tangent is not None
    assert spike_conv2d(maps, kernels, padding="same").shape == (2, 8, 9, 9)
    assert spike_conv2d(maps[0], kernels).shape == (8, 7, 7)
    assert spike_linear(torch.empty(0, 40), weight).shape == (0, 8)
    assert not always
    with pytest.raises(RuntimeError):
        spike_linear(x, torch.randn(8, 41))
    with pytest.raises(RuntimeError):
        spike_conv2d(maps, torch.randn(8, 4, 3, 3))
    with pytest.raises(RuntimeError):
        spike_linear(x, weight, torch.randn(7))


def test_a_profiler_sees_what_runs(always: list[str]) -> None:
    with torch.profiler.profile() as seen:
        spike_linear(spikes(6, 40), torch.randn(8, 40))
    assert any(event.key == "step_product" for event in seen.key_averages())


def test_a_captured_graph_holds_plain_operators(always: list[str]) -> None:
    graph = torch.fx.experimental.proxy_tensor.make_fx(spike_linear)(spikes(6, 40), torch.randn(8, 40), torch.randn(8))
    assert any("mm" in str(node.target) for node in graph.graph.nodes)

    def both(x: Tensor, weight: Tensor, maps: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
        shared = events(x)
        return spike_linear(shared, weight) + spike_linear(x, weight), spike_conv2d(maps, kernels, None, 1, 1)

    given = spikes(6, 40), torch.randn(8, 40, requires_grad=True), spikes(2, 3, 9, 9), torch.randn(8, 3, 3, 3)
    found = torch.compile(both, backend="eager", fullgraph=True)(*given)
    assert not always
    for one, other in zip(found, both(*given), strict=True):
        assert_near(one, other.double())
    assert always


def test_eager_kernels_are_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEP_KERNELS", "eager")
    monkeypatch.setattr(kernel, "product", None)
    assert_agrees(spike_linear, F.linear, spikes(2048, 384), torch.randn(384, 384), None)


def test_no_compiler_is_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.library.cache_clear()
    monkeypatch.setattr(cache, "compiler", lambda: (_ for _ in ()).throw(cache.NoCompilerError("none")))
    try:
        assert not kernel.available()
        assert_agrees(spike_linear, F.linear, spikes(2048, 384), torch.randn(384, 384), None)
    finally:
        kernel.library.cache_clear()


def test_checkpointing_and_threads(always: list[str]) -> None:
    x, weight = spikes(60, 40).requires_grad_(), torch.randn(8, 40, requires_grad=True)
    wanted = torch.autograd.grad(F.linear(x, weight).sin().sum(), [x, weight])
    for reentrant in (False, True):
        out = checkpoint(lambda x: spike_linear(x, weight).sin(), x, use_reentrant=reentrant)
        x.grad = weight.grad = None
        out.sum().backward()
        assert x.grad is not None
        assert weight.grad is not None
        assert_near(x.grad, wanted[0].double())
        assert_near(weight.grad, wanted[1].double())
    results: list[Tensor] = []
    threads = [threading.Thread(target=lambda: results.append(spike_linear(x, weight).detach())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(torch.equal(result, results[0]) for result in results)


def test_nothing_is_held_after_a_step(always: list[str]) -> None:
    x, weight = spikes(60, 40).requires_grad_(), torch.randn(8, 40, requires_grad=True)
    shared = events(x)
    spike_linear(shared, weight).sum().backward()
    held = [weakref.ref(x), weakref.ref(shared)]
    del x, shared
    gc.collect()
    assert [ref() for ref in held] == [None, None]


def test_events_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(OptionError, match="channels is -1"):
        events(spikes(2, 3), channels=2)
    with pytest.raises(OptionError, match="B, C, H, W"):
        events(spikes(2, 3), channels=1)
    with pytest.raises(OptionError, match="channels=-1"):
        spike_linear(events(spikes(2, 3, 4, 5), channels=1), torch.randn(2, 5))
    with pytest.raises(OptionError, match="channels=1"):
        spike_conv2d(Events(spikes(2, 3, 4, 5)), torch.randn(2, 3, 1, 1))


def test_every_weight_has_a_row_of_its_own() -> None:
    for inputs, window in ((48, (3, 3)), (200, (3, 2)), (7, (5, 1)), (800, (1, 1))):
        geometry = Geometry(1, 9, 9, inputs, 8, window)
        for last in (False, True):
            rows = rows_of(geometry, last)
            assert rows.numel() == inputs * window[0] * window[1]
            assert rows.unique().numel() == rows.numel()
            assert int(rows.max()) < geometry.blocks * geometry.rows


def test_samples_see_all_channels_and_are_close() -> None:
    x = torch.zeros(4096, 384)
    x[:, ::4] = 1.0
    assert kernel.sample(x) == pytest.approx(0.25, abs=0.02)
    assert kernel.sample(spikes(2048, 384, density=0.1)) == pytest.approx(0.1, abs=0.02)
    assert kernel.sample(spikes(10, 10, density=1.0)) == 1.0


@pytest.mark.parametrize("values", ["ones", "reals"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_weights_alone(always: list[str], values: str, dtype: torch.dtype) -> None:
    x = spikes(5, 60, 30, values=values).to(dtype)
    up = torch.randn(5, 60, 17, dtype=dtype)
    right = torch.einsum("abn,abk->nk", up.double(), x.double())
    for source in (x, events(x)):
        torch.testing.assert_close(spike_linear_weight(source, up).double(), right, rtol=1e-4, atol=1e-4)
    maps = spikes(3, 20, 9, 8, values=values).to(dtype)
    weight = torch.randn(7, 20, 3, 2, dtype=torch.float64, requires_grad=True)
    out = F.conv2d(maps.double(), weight, None, (2, 1), (1, 0))
    up = torch.randn(out.shape, dtype=dtype)
    (right,) = torch.autograd.grad(out, weight, up.double())
    for source in (maps, events(maps, channels=1)):
        found = spike_conv2d_weight(source, up, (3, 2), (2, 1), (1, 0))
        torch.testing.assert_close(found.double(), right, rtol=1e-4, atol=1e-4)
    assert always == (["weight_gradient"] * 4 if dtype == torch.float32 else [])
