"""The compiled loops against the eager loop, which is the reference for all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import neurons
from neurons import compiler
from neurons.base import Neuron, SpikingNeuron
from neurons.compiler import cache, kernel, library, plan
from neurons.compiler.program import Program
from neurons.loop import run_steps

TABLES = ((plan, "_plans"), (library, "_programs"), (library, "_kernels"))
"""What a process remembers."""
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of its own for these tests."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cache")
        patch.setenv("STEP_CACHE", str(path))
        patch.delenv("STEP_KERNELS", raising=False)
        for module, table in TABLES:
            patch.setattr(module, table, {})
        yield path


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process that has compiled nothing and a cache that holds nothing."""
    monkeypatch.setenv("STEP_CACHE", str(tmp_path))
    monkeypatch.setattr(plan, "_warnings", [])
    for module, table in TABLES:
        monkeypatch.setattr(module, table, {})
    return tmp_path


class TwoStates(SpikingNeuron):
    """An exponential neuron with adaptation: two states, a parameter for every channel, a helper."""

    state = {"v": 0.25, "w": 0.1}

    def __init__(self, channels: int = 5, **options: Any) -> None:
        super().__init__(**options)
        self.tau = nn.Parameter(torch.linspace(2.0, 4.0, channels))
        self.gain = nn.Parameter(torch.tensor(0.3))
        self.register_buffer("leak", torch.tensor([0.9]))

    def upswing(self, v: Tensor) -> Tensor:
        return torch.exp((v - self.threshold) * 2.0) * torch.sigmoid(self.gain)

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        tau = self.tau.view(-1, *[1] * (x.dim() - 2))
        h = v + (x - v - w + self.upswing(v)) / tau
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s), self.leak * w + self.gain * s


def drive(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) + 0.6).to(dtype)


def assert_same(neuron: Neuron, x: Tensor, state: list[Tensor] | None = None, exact: bool = True) -> None:
    """Compare output, last state and all gradients with the eager loop."""
    relative = {torch.float32: 1e-5, torch.float64: 1e-10}[x.dtype]
    results = []
    for fused in (True, False):
        leaf = (x if x.stride(0) else x[:1]).detach().clone().requires_grad_()
        given = leaf if x.stride(0) else leaf.expand(x.shape)  # a constant input takes one step of memory
        start = None if state is None else [value.detach().clone().requires_grad_() for value in state]
        if fused:
            found = compiler.run(neuron, given, start)
            assert found is not None, compiler.why_not(neuron, given)
        else:
            resting = [neuron.resting_state(given)[name] for name in neuron.state] if start is None else start
            found = run_steps(neuron.step, given, resting)
        out, last = found
        leaves = [leaf, *(start or []), *neuron.parameters()]
        wanted = [value for value in (out, *last) if value.requires_grad]
        incoming = [drive(*value.shape, dtype=x.dtype, seed=3 + i) for i, value in enumerate(wanted)]
        results.append(((out, *last), torch.autograd.grad(wanted, leaves, incoming, allow_unused=True)))
    (values, gradients), (values_too, gradients_too) = results
    for value, reference in zip(values, values_too, strict=True):
        if exact:
            assert torch.equal(value, reference)
        else:
            # potentials in mV lose digits where they pass through zero
            size = max(1.0, float(reference.detach().abs().max()))
            torch.testing.assert_close(value, reference, rtol=relative, atol=relative * size)
    elementwise = 1 + len(state or [])
    for place, (gradient, reference) in enumerate(zip(gradients, gradients_too, strict=True)):
        if reference is not None:
            assert gradient is not None
            assert reference.shape == gradient.shape
            # sums over time and neurons cancel, and the eager loop adds them up in the type itself
            tolerance = relative if place < elementwise else 10 * relative
            scale = float(reference.abs().max()) or 1.0
            torch.testing.assert_close(gradient, reference, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("name", neurons.names())
def test_every_registered_neuron_equals_the_eager_loop(name: str) -> None:
    neuron, x = neurons.create(name), drive(7, 3, 37)
    reason = compiler.why_not(neuron, x)
    if reason is None:  # an exponential in the potential may differ in its last bit
        assert_same(neuron, x, exact="exp" not in neurons.update_cost(neuron))
    else:  # said in words, and the caller is told to take the eager loop
        assert len(reason) > 10
        assert compiler.run(neuron, x) is None


def test_the_basic_neurons_compile() -> None:
    for name in ("if", "lif", "plif", "relu", "quantised_relu"):
        assert compiler.why_not(neurons.create(name)) is None, name


@pytest.mark.parametrize("surrogate", neurons.surrogates.names())
def test_every_surrogate(surrogate: str) -> None:
    neuron = neurons.create("lif", tau=3.0, surrogate=surrogate)
    reason = compiler.why_not(neuron)
    if reason is None:
        assert_same(neuron, drive(6, 2, 33))
    else:
        assert compiler.run(neuron, drive(6, 2, 33)) is None


@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
@pytest.mark.parametrize("detach", [True, False])
def test_every_reset(reset: str, detach: bool) -> None:
    neuron = neurons.create("plif", reset=reset, detach_reset=detach)
    x = drive(5, 2, 19)
    assert_same(neuron, x, [drive(2, 19, seed=1)])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 16), (3, 1, 17), (2, 65, 13), (4, 2, 3, 5, 2), (40, 3, 300)])
def test_shapes_that_fit_no_vector(shape: tuple[int, ...]) -> None:
    assert_same(neurons.create("plif"), drive(*shape))


def test_time_steps_that_share_or_interleave_memory() -> None:
    lif = neurons.create("lif", tau=3.0)
    assert_same(lif, drive(1, 2, 33).expand(6, 2, 33))
    x = drive(2, 33, 6)
    expected = run_steps(lif.step, x.permute(2, 0, 1), [torch.zeros(2, 33)])[0]
    found = compiler.run(lif, x.permute(2, 0, 1))
    assert found is not None
    assert torch.equal(found[0], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(6, 3, 5), (6, 2, 5, 3, 2)])
def test_a_neuron_of_ones_own(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    neuron = TwoStates(5, threshold=0.8, detach_reset=False).to(dtype)
    x = drive(*shape, dtype=dtype)
    state = [drive(*shape[1:], dtype=dtype, seed=i) * 0.3 for i in (1, 2)]
    assert_same(neuron, x, exact=False)
    assert_same(neuron, x, state, exact=False)


def test_more_steps_than_one_segment_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    neuron, x = neurons.create("plif", detach_reset=False), drive(50, 2, 70)
    whole = kernel.Kernel._segment
    for length in (1, 7, 49):
        monkeypatch.setattr(kernel.Kernel, "_segment", lambda self, steps, count, length=length: (64, length))
        assert_same(neuron, x, [drive(2, 70, seed=1)])
    monkeypatch.setattr(kernel.Kernel, "_segment", whole)
    monkeypatch.setattr(kernel, "_cache", lambda level: 64 * 1024)  # a small processor, reached without a stand-in
    block, length = kernel.Kernel._segment(next(iter(library._kernels.values())), 5000, 10_000)
    assert block >= 64
    assert length < 5000
    assert_same(neuron, drive(300, 1, 70))


def test_writing_past_the_cache_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_streams", lambda out: 1)
    for shape in [(3, 2, 256), (3, 2, 33), (5, 3, 40)]:
        assert_same(neurons.create("lif"), drive(*shape))


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    neuron, x = TwoStates(70), drive(5, 40, 70).requires_grad_()
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(kernel, "_threads", lambda updates, threads=threads: threads)
        out, last = compiler.run(neuron, x)  # type: ignore[misc]
        leaves = [x, *neuron.parameters()]
        results.append([out, *last, *torch.autograd.grad(out.sum() + last[0].sum(), leaves)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_two_halves_are_the_whole() -> None:
    for neuron in (neurons.create("lif", tau=3.0), TwoStates(9)):
        for dtype in (torch.float32, torch.bfloat16):
            twin = neuron.to(dtype)
            x = drive(9, 4, 9, dtype=dtype)
            whole, last = compiler.run(twin, x)  # type: ignore[misc]
            first, middle = compiler.run(twin, x[:4])  # type: ignore[misc]
            second, end = compiler.run(twin, x[4:], middle)  # type: ignore[misc]
            assert torch.equal(torch.cat([first, second]), whole)
            assert all(torch.equal(a, b) for a, b in zip(end, last, strict=True))
        neuron.to(torch.float32)


def test_bfloat16_is_float32_arithmetic_on_short_numbers() -> None:
    neuron = neurons.create("plif").to(torch.bfloat16)
    x = drive(6, 3, 40, dtype=torch.bfloat16).requires_grad_()
    out, (v,) = compiler.run(neuron, x)  # type: ignore[misc]
    wide, u = drive(6, 3, 40, dtype=torch.bfloat16).float().requires_grad_(), torch.zeros(3, 40)
    twin = neurons.create("plif")
    spikes = []
    for x_t in wide.unbind(0):  # the state is kept in the short type, as between two calls
        s, u = twin.step(x_t, u)
        u = u + (u.bfloat16().float() - u).detach()
        spikes.append(s)
    reference = torch.stack(spikes)
    assert out.dtype == v.dtype == torch.bfloat16
    assert torch.equal(out.float(), reference)
    (gradient, *parameter), (wanted, *wanted_too) = (
        torch.autograd.grad(o.float().sum(), [i, *n.parameters()])
        for o, i, n in ((out, x, neuron), (reference, wide, twin))
    )
    torch.testing.assert_close(gradient.float(), wanted, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(parameter[0].float(), wanted_too[0], rtol=1e-2, atol=1e-2)


def test_gradients_against_finite_differences() -> None:
    class Smooth(Neuron):
        """A leaky integrator with a smooth output: differences exist."""

        state = {"v": 0.2}
        output = "real"

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64))

        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            h = v * torch.sigmoid(self.w) + torch.tanh(x)
            return torch.exp(-h * h) + torch.log1p(h.abs()), h

    neuron = Smooth()
    x, v = drive(4, 2, 3, dtype=torch.float64), drive(2, 3, dtype=torch.float64, seed=2)

    def function(x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        neuron.w = nn.Parameter(w) if not isinstance(w, nn.Parameter) else w
        with torch.no_grad():
            found = compiler.run(neuron, x, [v])
        assert found is not None
        return (found[0], *found[1])

    out, last = compiler.run(neuron, x.requires_grad_(), [v.requires_grad_()])  # type: ignore[misc]
    weight = neuron.w
    loss = (out * drive(*out.shape, dtype=torch.float64, seed=5)).sum() + last[0].sum()
    gradients = torch.autograd.grad(loss, [x, v, weight])

    def value(*tensors: Tensor) -> float:
        o, h = function(*tensors)
        return float((o * drive(*o.shape, dtype=torch.float64, seed=5)).sum() + h.sum())

    inputs = [x.detach(), v.detach(), weight.detach()]
    for place, gradient in enumerate(gradients):
        for index in range(gradient.numel()):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [tensor.clone() for tensor in inputs]
                moved[place].view(-1)[index] += step
                ends.append(value(*moved))
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(gradient.view(-1)[index]), rel=1e-5, abs=1e-7)


def test_a_graph_is_captured_whole(empty: Path) -> None:
    network = nn.Sequential(nn.Linear(6, 5), TwoStates(5), nn.Linear(5, 4), neurons.create("lif"))
    for module in network:
        if isinstance(module, Neuron):
            module.forward = lambda x, module=module: compiler.run(module, x, keep=False)[0]  # type: ignore[method-assign,index]
    captured = torch.compile(network, fullgraph=True, backend="aot_eager")
    x = drive(4, 3, 6)
    results = []
    for run in (captured, network):  # captured first: it is then that the kernel is made
        network.zero_grad()
        out = run(x)
        (out * drive(4, 3, 4)).sum().backward()
        results.append([out.detach(), *[value.grad.clone() for value in network.parameters()]])
    for value, wanted in zip(*results, strict=True):
        torch.testing.assert_close(value, wanted)


def test_only_the_input_is_kept_for_the_backward_pass() -> None:
    kept = []
    neuron, x = neurons.create("plif"), drive(5, 2, 9).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda value: value):
        compiler.run(neuron, x)
    assert sorted(value.data_ptr() for value in kept) == sorted((x.data_ptr(), neuron.w.data_ptr()))


def test_types_that_would_meet_in_a_wider_one() -> None:
    x = drive(3, 2, 5)
    assert "wider" in (compiler.why_not(TwoStates(5), x.bfloat16()) or "")
    assert "float64" in (compiler.why_not(TwoStates(5).double(), x) or "")
    neuron = neurons.create("plif")  # a single number does not widen
    found = compiler.run(neuron, x.double())
    assert found is not None
    assert torch.equal(found[0], run_steps(neuron.step, x.double(), [torch.zeros(2, 5, dtype=torch.float64)])[0])


def test_the_operator_is_well_formed() -> None:
    neuron, x = TwoStates(5), drive(3, 2, 5).requires_grad_()
    found = plan.find(neuron, (2, 5), torch.float32, CPU)
    tensors = [plan.tensor_of(neuron, name) for name in found.names]
    torch.library.opcheck(
        torch.ops.step.multi_step.default, (x, [], tensors, found.key, True),
        test_utils=("test_schema", "test_faketensor"),
    )  # fmt: skip


class Mixing(SpikingNeuron):
    """Neurons inhibit each other."""

    state = {"v": 0.0}

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = v + x - x.mean(-1, keepdim=True)
        return self.spike(h), h


class Branching(Mixing):
    """What is done depends on the data."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return (x, v) if x.sum() > 0 else (v, x)


class Noisy(Mixing):
    """Fires at random."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return self.spike(x - torch.rand_like(x)), v


class OwnRun(Mixing):
    """Has a loop of its own."""

    def run(self, x: Tensor, state: Any = None) -> Any:
        return x, {}


@pytest.mark.parametrize(
    ("kind", "words"),
    [(Mixing, "elementwise"), (Branching, "in Python"), (Noisy, "random"), (OwnRun, "run of its own")],
)
def test_what_cannot_be_compiled_says_why(kind: type[Neuron], words: str) -> None:
    assert words in (compiler.why_not(kind()) or "")
    assert compiler.run(kind(), drive(2, 2, 3)) is None


def test_a_changed_attribute_is_noticed() -> None:
    neuron, x = neurons.create("lif"), drive(5, 2, 9)
    for threshold in (1.0, 0.2, 1.0):
        neuron.threshold = threshold
        assert_same(neuron, x)


def test_the_environment_asks_for_the_eager_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEP_KERNELS", "eager")
    assert compiler.run(neurons.create("lif"), drive(2, 2, 3)) is None
    monkeypatch.setenv("STEP_KERNELS", "fortran")
    with pytest.raises(neurons.errors.OptionError, match="fortran"):
        compiler.backend()


def test_without_a_compiler_one_warning_and_the_eager_loop(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in ("lif", "if", "lif"):
            assert compiler.run(neurons.create(name), drive(2, 2, 3)) is None
    assert len(caught) == 1
    assert "no-such-compiler" in str(caught[0].message)


def test_damaged_files_are_made_anew(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    neuron, x = neurons.create("lif", tau=2.5), drive(3, 2, 9)
    compiler.run(neuron, x)
    files = list((empty / "kernels").iterdir())
    assert {file.suffix for file in files} == {".so", ".c", ".json"}
    for file in files:  # replaced, not written into: this process has it open
        half = file.read_bytes()[: file.stat().st_size // 2]
        file.unlink()
        file.write_bytes(half)
    for module, table in TABLES:
        monkeypatch.setattr(module, table, {})
    assert_same(neuron, x)
    assert Program.from_json(next((empty / "kernels").glob("*.json")).read_text()).key


_CHILD = """
import sys, subprocess, torch, neurons
from neurons import compiler
if sys.argv[1] == "reuse":
    def refuse(*a, **k): raise AssertionError("compiled again")
    subprocess.run = refuse
torch.set_num_threads(1)
x = torch.linspace(-1, 3, 4 * 2 * 9).view(4, 2, 9).requires_grad_()
out, last = compiler.run(neurons.create("lif", tau=2.75), x)
out.sum().backward()
out, last = out.detach(), [value.detach() for value in last]
heavy = [m for m in ("sympy", "torch._dynamo") if m in sys.modules]
print(float(out.sum()), float(last[0].sum()), float(x.grad.sum()), heavy)
"""


def test_processes_share_the_cache(tmp_path: Path) -> None:
    environment = {**os.environ, "STEP_CACHE": str(tmp_path)}

    def start(how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _CHILD, how]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    together = [start("race") for _ in range(3)]
    results = [child.communicate(timeout=120) for child in together]
    again = start("reuse").communicate(timeout=120)
    assert all(out == again[0] and out.strip().endswith("[]") for out, _ in results), (results, again)
    assert not list(tmp_path.rglob("*.part"))
    assert len(list(tmp_path.rglob("*.so"))) == 1


def test_a_key_is_enough_in_another_process(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    neuron, x = neurons.create("lif", tau=2.25), drive(3, 2, 9)
    expected = compiler.run(neuron, x)
    key = plan.find(neuron, (2, 9), torch.float32, CPU).key
    for module, table in TABLES:
        monkeypatch.setattr(module, table, {})
    out, last = torch.ops.step.multi_step(x, [], [], key, True)
    assert expected is not None
    assert torch.equal(out, expected[0])
    assert torch.equal(last, expected[1][0])
    with pytest.raises(RuntimeError, match="no neuron kernel"):
        torch.ops.step.multi_step(x, [], [], "unknown", True)


def test_the_source_is_kept_beside_the_kernel(folder: Path) -> None:
    compiler.run(neurons.create("lif"), drive(2, 2, 3))
    assert any("step_forward" in file.read_text() for file in cache.directory().glob("*.c"))


def test_what_surrounds_the_first_call_has_no_part_in_it(empty: Path) -> None:
    x = drive(4, 2, 9)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16), FlopCounterMode(display=False):
        compiler.run(TwoStates(9), x)
    assert_same(TwoStates(9), x, exact=False)


def test_under_checkpointing(empty: Path) -> None:
    neuron, x = neurons.create("lif"), drive(5, 2, 9).requires_grad_()
    gradients = []
    for run in (lambda x: checkpoint(lambda x: compiler.run(neuron, x)[0] * 1.0, x, use_reentrant=False), neuron):
        gradients.append(torch.autograd.grad(run(x).sum(), x)[0])
    assert torch.equal(*gradients)
