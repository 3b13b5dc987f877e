"""The Triton kernels against the eager loop: run by Triton's interpreter, and compiled for real GPUs without one."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_compiler import Mixing, TwoStates, assert_same, drive
from torch import Tensor, nn

import neurons
from neurons import compiler
from neurons.base import Neuron
from neurons.compiler import library, ops, plan, triton_ops
from neurons.compiler.graph import Untraceable
from neurons.loop import run_steps

if sys.platform == "linux":
    import triton
    from triton.backends.compiler import GPUTarget

    from neurons.compiler import triton_kernel
    from neurons.compiler.triton_kernel import TritonKernel
else:
    pytest.skip("Triton is for Linux", allow_module_level=True)

CPU = torch.device("cpu")
ELEMENTWISE = [name for name in neurons.names() if type(neurons.create(name)).run is Neuron.run]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of its own for these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        for module, table in ((plan, "_plans"), (library, "_kernels"), (library, "_programs")):
            patch.setattr(module, table, {})
        yield


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels run on the CPU, block by block, in numpy."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("STEP_KERNELS", "triton")


def program_of(neuron: Neuron, x: Tensor) -> Any:
    return plan._program(neuron, tuple(plan.tensor_names(neuron)), tuple(x.shape[1:]), x.dtype)[0]


@pytest.mark.usefixtures("interpreter")
class TestInterpreted:
    """The numbers of the eager loop."""

    @pytest.mark.parametrize("name", neurons.names())
    def test_every_registered_neuron_equals_the_eager_loop(self, name: str) -> None:
        neuron, x = neurons.create(name), drive(7, 2, 37)
        reason = compiler.why_not(neuron, x)
        if reason is None:
            assert_same(neuron, x, exact=False)
            state = [drive(2, 37, seed=j) * 0.1 for j in range(len(neuron.state))]
            assert_same(neuron, x[:3], state, exact=False)
        else:
            assert len(reason) > 10
            assert compiler.run(neuron, x) is None

    def test_every_neuron_that_is_traced_has_triton(self) -> None:
        lacking = {}
        for name in ELEMENTWISE:
            neuron = neurons.create(name)
            try:
                program, _ = plan._program(neuron, tuple(plan.tensor_names(neuron)), (2, 64), torch.float32)
            except Untraceable:
                continue
            lacking[name] = program.lacking
        assert not any(lacking.values())
        assert {"lif", "plif", "hodgkin-huxley", "izhikevich", "relu"} <= set(lacking)

    @pytest.mark.parametrize("surrogate", neurons.surrogates.names())
    def test_every_surrogate(self, surrogate: str) -> None:
        neuron = neurons.create("lif", tau=3.0, surrogate=surrogate)
        if compiler.why_not(neuron, drive(4, 2, 33)) is None:
            assert_same(neuron, drive(4, 2, 33), exact=False)

    @pytest.mark.parametrize("reset", ["hard", "soft", "none"])
    @pytest.mark.parametrize("detach", [True, False])
    def test_every_reset(self, reset: str, detach: bool) -> None:
        assert_same(neurons.create("plif", reset=reset, detach_reset=detach), drive(5, 2, 19), [drive(2, 19, seed=1)])

    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 16), (3, 1, 17), (2, 65, 13), (4, 2, 3, 5, 2), (2, 2, 128)])
    def test_shapes_that_fit_no_block(self, shape: tuple[int, ...]) -> None:
        assert_same(neurons.create("plif"), drive(*shape), exact=False)

    @pytest.mark.parametrize("steps", [16, 17, 24, 50])
    def test_sequences_of_one_and_of_several_segments(self, steps: int) -> None:
        x = drive(steps, 2, 19)
        assert_same(neurons.create("plif", detach_reset=False), x, [drive(2, 19, seed=1)], exact=False)
        assert_same(neurons.create("leaky-integrator"), x, exact=False)  # whose gradient needs no state
        assert_same(TwoStates(19), x, exact=False)

    @pytest.mark.parametrize("steps", [1, 2, 7, 30])
    def test_states_that_are_held_in_memory(self, steps: int) -> None:
        neuron = neurons.create("conductance-lif")  # has five states
        state = [drive(2, 19, seed=j) * 0.1 for j in range(len(neuron.state))]
        assert triton_kernel.load(program_of(neuron, drive(steps, 2, 19)))["SEGMENT"] == 0
        assert_same(neuron, drive(steps, 2, 19), state, exact=False)

    def test_the_memory_for_states_is_bounded(self) -> None:
        for name in ("lif", "alif", "alpha", "conductance-lif", "hodgkin-huxley"):
            neuron = neurons.create(name)
            kernel = TritonKernel(program_of(neuron, drive(2, 2, 5)))
            for steps in (1, 4, 16, 100, 1000, 10_000):
                _, length, rows = kernel._segments(steps)
                segments = -(-steps // length)
                assert rows <= len(neuron.state) * max(2 * steps**0.5 + 2, steps / 8 + 1)
                assert (segments - 1) * length < steps <= segments * length

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("shape", [(6, 3, 5), (6, 2, 5, 3, 2)])
    def test_a_parameter_for_every_channel(self, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        neuron = TwoStates(5, threshold=0.8, detach_reset=False).to(dtype)
        state = [drive(*shape[1:], dtype=dtype, seed=i) * 0.3 for i in (1, 2)]
        assert_same(neuron, drive(*shape, dtype=dtype), exact=False)
        assert_same(neuron, drive(*shape, dtype=dtype), state, exact=False)

    @pytest.mark.parametrize("name", ["lif", "izhikevich", "eif", "ternary-lif", "glif", "hodgkin-huxley"])
    def test_float64(self, name: str) -> None:
        assert_same(neurons.create(name).double(), drive(5, 2, 9, dtype=torch.float64), exact=False)

    @pytest.mark.parametrize("name", ["lif", "plif", "alif"])
    def test_bfloat16_is_what_it_is_in_c(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        neuron, x = neurons.create(name).to(torch.bfloat16), drive(20, 3, 40, dtype=torch.bfloat16).requires_grad_()
        results = []
        for word in ("triton", "c"):
            monkeypatch.setenv("STEP_KERNELS", word)
            out, last = compiler.run(neuron, x)  # type: ignore[misc]
            results.append([out, *last, *torch.autograd.grad(out.float().sum(), [x, *neuron.parameters()])])
        for value, reference in zip(*results, strict=True):
            assert value.dtype == torch.bfloat16
            assert torch.equal(value, reference)

    def test_time_steps_that_share_or_interleave_memory(self) -> None:
        lif = neurons.create("lif", tau=3.0)
        assert_same(lif, drive(1, 2, 33).expand(6, 2, 33))
        assert_same(lif, drive(1, 2, 33).expand(20, 2, 33))
        x = drive(2, 33, 6).permute(2, 0, 1)
        found = compiler.run(lif, x)
        assert found is not None
        assert torch.equal(found[0], run_steps(lif.step, x, [torch.zeros(2, 33)])[0])

    def test_two_halves_are_the_whole(self) -> None:
        for dtype in (torch.float32, torch.bfloat16):
            neuron, x = TwoStates(9).to(dtype), drive(9, 4, 9, dtype=dtype)
            whole, last = compiler.run(neuron, x)  # type: ignore[misc]
            first, middle = compiler.run(neuron, x[:4])  # type: ignore[misc]
            second, end = compiler.run(neuron, x[4:], middle)  # type: ignore[misc]
            assert torch.equal(torch.cat([first, second]), whole)
            assert all(torch.equal(a, b) for a, b in zip(end, last, strict=True))

    def test_every_operator(self) -> None:
        """Each operator of the table by itself, so that one no neuron uses yet is right too."""
        assert set(triton_ops.ELEMENTWISE) == set(ops.ELEMENTWISE)
        for expression in EXPRESSIONS:
            neuron = Expression(expression)
            reason = compiler.why_not(neuron, drive(2, 2, 33))
            assert reason is None, (expression, reason)
            for dtype in (torch.float32, torch.float64):
                assert_same(neuron, drive(2, 2, 33, dtype=dtype), exact=False)

    def test_what_triton_lacks_runs_eager_and_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(triton_ops.ELEMENTWISE, "cos")
        neuron, x = Expression("torch.cos(x) * 1.25"), drive(2, 2, 5)
        assert compiler.why_not(neuron, x) == "Triton has no cos"
        assert compiler.run(neuron, x) is None
        monkeypatch.setenv("STEP_KERNELS", "c")
        assert compiler.why_not(neuron, x) is None

    def test_a_graph_is_captured_whole(self) -> None:
        network = nn.Sequential(nn.Linear(6, 5), TwoStates(5))
        network[1].forward = lambda x: compiler.run(network[1], x, keep=False)[0]  # type: ignore[index,method-assign]
        captured = torch.compile(network, fullgraph=True, backend="aot_eager")
        results = []
        for run in (captured, network):
            network.zero_grad()
            out = run(drive(4, 3, 6))
            out.square().sum().backward()
            results.append([out.detach(), *[value.grad.clone() for value in network.parameters()]])
        for value, wanted in zip(*results, strict=True):
            torch.testing.assert_close(value, wanted)


class Expression(Neuron):
    """One expression of ``x`` and the state ``v``."""

    state = {"v": 0.3}
    output = "real"

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        value = eval(self.text, {"torch": torch, "F": nn.functional, "x": x, "v": v})
        return value * 1.0, 0.5 * v + 0.25 * x


_ONE = (
    "exp", "exp2", "expm1", "sigmoid", "tanh", "sin", "cos", "tan", "atan", "sinh", "cosh", "asinh", "erf", "erfc",
    "floor", "ceil", "trunc", "frac", "round", "sign", "neg", "abs", "square", "relu", "sgn",
)  # fmt: skip
_POSITIVE = ("log", "log1p", "log2", "log10", "sqrt", "rsqrt", "acosh", "reciprocal")
EXPRESSIONS = [
    *(f"torch.{name}(x * 0.7)" for name in _ONE),
    *(f"torch.{name}(x * x + 1.1)" for name in _POSITIVE),
    *(f"torch.{name}(torch.tanh(x) * 0.9)" for name in ("asin", "acos", "atanh")),
    *(f"x ** {power}" for power in (2, 3, -1, -2)), "(x * x + 1) ** 0.5", "(x * x + 1) ** -0.5", "(x * x + 1) ** 1.7",
    "torch.atan2(x, v + 2)", "torch.fmod(x, 0.7)", "torch.remainder(x, 0.7)", "torch.remainder(x, -0.7)",
    "torch.floor_divide(x.detach(), 0.7) + x", "torch.div(x, 0.3, rounding_mode='trunc')",
    "torch.div(x, 3.0)", "x / 4", "x / (v + 5)", "5 - x", "torch.add(x, v, alpha=0.3)", "torch.sub(x, v, alpha=0.3)",
    "torch.clamp(x, -0.5, 0.5)", "torch.clamp(x, min=0.1)", "torch.clamp(x, max=0.1)", "F.hardtanh(x)",
    "torch.maximum(x, v)", "torch.minimum(x, v)", "torch.where(x > v, x, v)", "x.masked_fill(x < 0.2, 0.5)",
    *(f"(x {sign} 0.6) * v" for sign in (">=", ">", "<=", "<", "==", "!=")),
    "((x > 0) & (v > 0)) * x", "((x > 0) | (v > 0)) * x", "((x > 0) ^ (v > 0)) * x", "(~(x > 0)) * x",
    "torch.logical_and(x > 0, v > 0) * x", "torch.logical_or(x > 0, v > 0) * x", "torch.logical_not(x > 0) * x",
    "torch.logical_xor(x > 0, v > 0) * x", "torch.isnan(x) * v + x", "(x > 0).double().to(x.dtype) * v",
    "F.gelu(x)", "F.softplus(x, 2.0)", "F.elu(x, 0.7)", "F.silu(x)", "F.leaky_relu(x, 0.2)", "F.threshold(x, 0.1, 0.5)",
    "torch.lerp(x, v, 0.3)", "torch.lerp(x, v, 0.7)", "torch.addcmul(x, x, v, value=0.3)",
    "torch.addcdiv(x, v, x * x + 1, value=0.3)",
]  # fmt: skip


class _Driver:
    """A GPU that is not there: enough of it for a kernel to be bound to its arguments and compiled."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> Any:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return self.arch

    def get_current_stream(self, device: int) -> int:
        return 0


@pytest.fixture(params=[80, 90])
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The binaries that a call would have launched on a GPU."""
    found: list[Any] = []

    def launch(self: TritonKernel, kernel: Any, count: int, arguments: dict[str, Any]) -> None:
        largest = kernel.configs[-1].all_kwargs()
        found.append(kernel.fn.warmup(**arguments, **triton_kernel.OPTIONS, **largest, grid=(1,)))

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(TritonKernel, "_launch", launch)
    monkeypatch.setattr(triton.runtime.driver, "_active", _Driver(request.param))
    return found


def compile_all(neuron: Neuron, x: Tensor) -> None:
    """Compile forward and backward, with a state that comes in and gradients of the last one."""
    kernel = TritonKernel(program_of(neuron, x))
    tensors = [plan.tensor_of(neuron, name) for name in plan.tensor_names(neuron)]
    state = [torch.zeros_like(x[0]) for _ in neuron.state]
    kernel.forward(x, state, tensors, True)
    kernel.backward(x, state, x, state, tensors, [True] * len(tensors))


def fused(binary: Any) -> int:
    return len(re.findall(r"\bfma\.", binary.asm["ptx"]))


class TestCompiled:
    """Machine code for GPUs of two generations."""

    @pytest.mark.parametrize(("name", "steps"), [("lif", 4), ("lif", 100), ("plif", 4), ("izhikevich", 4)])
    def test_it_compiles(self, compiled: list[Any], name: str, steps: int) -> None:
        compile_all(neurons.create(name), drive(steps, 2, 64))
        assert len(compiled) == 2
        assert all(binary.asm["cubin"] for binary in compiled)

    def test_a_parameter_for_every_channel(self, compiled: list[Any]) -> None:
        compile_all(TwoStates(16), drive(4, 2, 16))
        assert len(compiled) == 2

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    @pytest.mark.parametrize("compiled", [90], indirect=True)
    def test_other_types(self, compiled: list[Any], dtype: torch.dtype) -> None:
        compile_all(neurons.create("plif").to(dtype), drive(4, 2, 64, dtype=dtype))
        assert len(compiled) == 2

    def test_nothing_is_contracted(self, compiled: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        lif, plif = neurons.create("lif", tau=3.0), neurons.create("plif", detach_reset=False)
        compile_all(lif, drive(4, 2, 64))
        compile_all(plif, drive(4, 2, 64))
        assert [fused(binary) for binary in compiled] == [0] * 4
        compiled.clear()
        monkeypatch.setattr(triton_kernel, "OPTIONS", {"enable_fp_fusion": True})
        compile_all(plif, drive(4, 2, 64))
        assert any(fused(binary) for binary in compiled)  # the test would see it

    @pytest.mark.parametrize("compiled", [90], indirect=True)
    @pytest.mark.parametrize("steps", [4, 40])
    def test_a_large_step_compiles(self, compiled: list[Any], steps: int) -> None:
        compile_all(neurons.create("hodgkin-huxley", steps=2), drive(steps, 2, 32))
        assert len(compiled) == 2

    @pytest.mark.parametrize("compiled", [90], indirect=True)
    def test_every_neuron_compiles(self, compiled: list[Any]) -> None:
        for name in ELEMENTWISE:
            if name == "hodgkin-huxley":  # compiled above
                continue
            before = len(compiled)
            try:
                compile_all(neurons.create(name), drive(2, 2, 32))
            except Untraceable:  # it mixes neurons
                continue
            assert len(compiled) == before + 2, name
        assert len(compiled) > 40

    @pytest.mark.parametrize("compiled", [90], indirect=True)
    def test_every_operator_compiles(self, compiled: list[Any]) -> None:
        neuron, x = Expression(" + ".join(f"({text})" for text in EXPRESSIONS)), drive(1, 2, 32)
        kernel = TritonKernel(program_of(neuron, x))
        kernel.forward(x, [], [], False)
        kernel.backward(x, [None], x, [], [], [])
        assert len(compiled) == 2


class TestChoice:
    """One word."""

    def test_triton_for_a_gpu_and_c_for_the_cpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("STEP_KERNELS", raising=False)
        assert (compiler.backend("cuda"), compiler.backend("cpu"), compiler.backend("mps")) == ("triton", "c", "eager")
        monkeypatch.setenv("CC", "no-such-compiler")
        assert compiler.backend() == "eager"
        for word in ("c", "eager"):
            monkeypatch.setenv("STEP_KERNELS", word)
            assert compiler.backend("cuda") == "eager"

    def test_on_the_cpu_triton_needs_its_interpreter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STEP_KERNELS", "triton")
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
        assert compiler.backend("cpu") == "eager"
        assert "TRITON_INTERPRET" in (compiler.why_not(neurons.create("lif")) or "")
        assert compiler.run(neurons.create("lif"), drive(2, 2, 3)) is None
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        assert compiler.backend("cpu") == "triton"

    def test_tensors_that_are_not_together(self) -> None:
        reason = compiler.why_not(neurons.create("plif"), drive(2, 2, 3).to("meta"))
        assert reason == "there are no kernels for meta"
        neuron = neurons.create("plif").to("meta")
        assert "on meta and its input is on cpu" in (compiler.why_not(neuron, drive(2, 2, 3)) or "")

    def test_without_triton_a_gpu_runs_eager(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("neurons.compiler.choice.installed", lambda: False)
        monkeypatch.delenv("STEP_KERNELS", raising=False)
        assert compiler.backend("cuda") == "eager"
        assert compiler.backend("cpu") == "c"

    def test_a_graph_made_elsewhere_needs_only_a_key(self, interpreter: None, monkeypatch: pytest.MonkeyPatch) -> None:
        neuron, x = neurons.create("lif", tau=2.3), drive(3, 2, 9)
        expected = compiler.run(neuron, x)
        key = plan.find(neuron, (2, 9), torch.float32, CPU).key
        for table in ("_programs", "_kernels"):
            monkeypatch.setattr(library, table, {})
        assert expected is not None
        assert torch.equal(torch.ops.step.multi_step(x, [], [], key, False)[0], expected[0])
        assert list(library._kernels) == [(key, "triton")]

    def test_a_gpu_needs_no_c_compiler(self, interpreter: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", "no-such-compiler")
        assert compiler.run(neurons.create("lif", tau=2.2), drive(2, 2, 3)) is not None

    def test_a_program_without_triton_says_why(self) -> None:
        program, _ = plan._program(neurons.create("lif"), (), (2, 3), torch.float32)
        with pytest.raises(Untraceable, match="for a reason"):
            TritonKernel(dataclasses.replace(program, triton="", lacking="for a reason"))

    def test_mixing_neurons_run_eager(self, interpreter: None) -> None:
        assert "elementwise" in (compiler.why_not(Mixing()) or "")

    def test_neurons_do_not_load_triton(self, tmp_path: Path) -> None:
        code = (
            "import sys, torch, neurons; neurons.create('lif')(torch.ones(2, 2, 3));"
            "assert not [name for name in sys.modules if name.split('.')[0] == 'triton']"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
class TestOnAGPU:
    """The same numbers as on the CPU."""

    @pytest.mark.parametrize("name", ELEMENTWISE)
    @pytest.mark.parametrize("steps", [4, 40])
    def test_every_neuron(self, name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("STEP_KERNELS", raising=False)
        results = []
        for device in ("cuda", "cpu"):
            neuron, x = neurons.create(name).to(device), drive(steps, 3, 300).to(device).requires_grad_()
            if compiler.why_not(neuron, x) is not None:
                return
            out, last = compiler.run(neuron, x)  # type: ignore[misc]
            total = (out * drive(*out.shape, seed=1).to(device)).sum()
            found = torch.autograd.grad(total, [x, *neuron.parameters()])
            results.append([value.cpu() for value in (out, *last, *found)])
        for value, wanted in zip(*results, strict=True):
            scale = float(wanted.abs().max()) or 1.0
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-4 * scale)
