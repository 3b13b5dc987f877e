"""The conformance check: all registered neurons pass it, and every fault that we could think of is found."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neurons
from neurons import conformance
from neurons.conformance import Result
from neurons.errors import OptionError

OWN = [name for name in neurons.names() if neurons.neurons.get(name).__module__.startswith("neurons.")]
NAMES = [
    "runs", "state in order", "output as declared", "types kept", "streams", "samples apart", "same again",
    "arguments kept", "traces", "kernel on cpu", "gradient arrives", "gradient right", "operations counted",
    "describes itself",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def plain() -> Any:
    """No word in the environment that picks other kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("STEP_KERNELS", raising=False)
        patch.delenv("TRITON_INTERPRET", raising=False)
        yield


def check(neuron: Any, **options: Any) -> dict[str, Result]:
    return {result.name: result for result in conformance.check(neuron, timed=False, **options)}


class Good(neurons.SpikingNeuron):
    """Two states and a parameter: h = keep v + x - w; s = H(h - threshold); w = 0.8 w + gain s."""

    state = {"v": 0.0, "w": 0.0}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gain = nn.Parameter(torch.tensor(0.3))

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        h = 0.7 * v + x - w
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s), 0.8 * w + self.gain * s


@pytest.mark.parametrize("name", OWN)
def test_every_registered_neuron_passes(name: str) -> None:
    results = check(neurons.factory(name))
    assert [name for name in results if not name.startswith("kernel on cuda")] == NAMES
    assert not [result for result in results.values() if result.failed]
    reason = neurons.compiler.why_not(neurons.create(name))  # type: ignore[attr-defined]
    assert (results["traces"].verdict == "yes") == (reason is None)


@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("surrogate", ["arctan", "triangular", "fast-sigmoid", "straight-through", "s2nn"])
def test_gradients_of_every_reset_are_confirmed(reset: Any, detach: bool, surrogate: str) -> None:
    result = check_only("gradient right", Good(reset=reset, detach_reset=detach, surrogate=surrogate))
    assert result.verdict == "yes", result.finding
    for leaf in ("x", "v", "w", "gain"):
        assert leaf in result.finding


def check_only(name: str, neuron: neurons.Neuron) -> Result:
    from neurons.conformance.gradients import gradient_arrives, gradient_right
    from neurons.conformance.subject import Subject

    return {"gradient right": gradient_right, "gradient arrives": gradient_arrives}[name](Subject(neuron))


@pytest.mark.parametrize("surrogate", neurons.surrogates.names())
def test_gradients_of_every_surrogate_are_confirmed(surrogate: str) -> None:
    result = check_only("gradient right", neurons.LIF(surrogate=surrogate))
    noisy = neurons.surrogates.create(surrogate).noisy
    assert result.verdict == ("not applicable" if noisy else "yes"), result.finding


class Hidden(Good):
    """A trace is kept in the neuron itself."""

    def __init__(self) -> None:
        super().__init__()
        self.trace: Any = 0.0

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        self.trace = 0.5 * self.trace + x.detach().abs().mean()
        return super().step(x - 0.1 * self.trace, v, w)


class Mixing(Good):
    """The mean over the batch is taken off."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        return super().step(x - x.mean(0, keepdim=True), v, w)


class NeuronMixing(Good):
    """The mean over the neurons is taken off: allowed, but no kernel can do it."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        return super().step(x - x.mean(-1, keepdim=True), v, w)


class Double(Good):
    """The output is float64 whatever comes in."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        s, v, w = super().step(x, v, w)
        return s.double(), v, w


class Whole(Good):
    """The spikes are whole numbers of type int64."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        s, v, w = super().step(x, v, w)
        return s.long(), v, w


class Exchanged(Good):
    """The states come back in the wrong order."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        s, v, w = super().step(x, v, w)
        return s, w, v


class OneTooFew(Good):
    """One state is forgotten."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        return super().step(x, v, w)[:2]


class Summed(Good):
    """A state loses its shape."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        s, v, w = super().step(x, v, w)
        return s, v.sum(-1), w


class InputCut(Good):
    """The input is detached."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        return super().step(x.detach(), v, w)


class ParameterCut(Good):
    """The parameter is read as a number."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        h = 0.7 * v + x - w
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s), 0.8 * w + self.gain.item() * s


class PastCut(Good):
    """The states are detached, so that nothing is learned through time."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        return super().step(x, v.detach(), w.detach())


class Compared(Good):
    """The spike is a comparison without surrogate."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        h = 0.7 * v + x - w
        s = (h >= self.threshold).to(h.dtype)
        return s, self.reset(h, s), 0.8 * w + self.gain.detach() * s


class Random(Good):
    """The potential is noisy."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        return super().step(x + torch.randn_like(x), v, w)


class InPlace(Good):
    """The state is written into."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        w *= 0.8
        return super().step(x, v, w)


class InPlaceInput(Good):
    """The input is written into."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        return super().step(x.clamp_(-1, 1), v, w)


class Lies(Good):
    """The output is said to be binary and is the potential."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        s, v, w = super().step(x, v, w)
        return torch.relu(v) + s, v, w


class Signed(Good):
    """The output is said to be binary and has a sign."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        s, v, w = super().step(x, v, w)
        return s - self.spike(-v - self.threshold), v, w


class Modest(Good):
    """The output is said to be real and is binary."""

    output = "real"


class Misspelt(Good):
    """The output is of no kind."""

    output = "spikes"


class Unpriced(Good):
    """An operation that has no price."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        return super().step(torch.asinh(x), v, w)


class Nameless(Good):
    __doc__ = None


class Fails(Good):
    """The step fails."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        return super().step(x / self.gian, v, w)


class Silent(Good):
    """Nothing fires."""

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
        return super().step(-x.abs(), v, w)


class NotStreaming(neurons.Neuron):
    """It smooths over time by itself and keeps nothing."""

    output = "real"

    def step(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return x

    def run(self, x: Tensor, state: Any = None) -> Any:
        return x.cumsum(0), {}


class WrongSlope(neurons.surrogates.get("arctan")):  # type: ignore[misc]
    """A derivative that is not that of the primitive."""

    def derivative(self, u: Tensor) -> Tensor:
        return 2 * super().derivative(u)


BROKEN = [
    (Hidden, "same again", "trace changed meanwhile"),
    (Mixing, "samples apart", "sample 0 changes with the others of its batch"),
    (Double, "types kept", "float32 goes in, and the output is float64"),
    (Whole, "types kept", "the output is int64"),
    (Exchanged, "state in order", "'v' follows the old 'w'"),
    (OneTooFew, "state in order", "step returns 2 tensors; 1 output and 2 states (v, w) are declared"),
    (Summed, "state in order", "v has the shape [3]"),
    (InputCut, "gradient arrives", "no gradient reaches the input"),
    (ParameterCut, "gradient arrives", "no gradient reaches the parameter 'gain'"),
    (PastCut, "gradient arrives", "no gradient goes back there"),
    (Compared, "gradient arrives", "is the spike a comparison"),
    (Random, "same again", "its step draws random numbers"),
    (InPlace, "arguments kept", "'w' is written into"),
    (InPlaceInput, "arguments kept", "'x' is written into"),
    (Lies, "output as declared", "output = 'real' would be right"),
    (Signed, "output as declared", "output = 'ternary' would be right"),
    (Modest, "output as declared", "output = 'binary' would be right"),
    (Misspelt, "output as declared", "none of binary"),
    (Unpriced, "operations counted", "asinh"),
    (Nameless, "describes itself", "no docstring"),
    (Fails, "runs", "no attribute 'gian'"),
    (Silent, "runs", "always sends 0"),
    (NotStreaming, "streams", "cut after 1 of 20"),
    (lambda: Good(surrogate=WrongSlope()), "gradient right", "from autograd"),
]


def test_the_neuron_that_is_broken_below_is_whole() -> None:
    assert not [result for result in check(Good).values() if result.verdict != "yes"]


@pytest.mark.parametrize(("kind", "name", "words"), BROKEN, ids=[f"{k.__name__}-{n}" for k, n, _ in BROKEN])
def test_a_broken_neuron_is_found_out(kind: Any, name: str, words: str) -> None:
    result = check(kind)[name]
    assert result.failed
    assert words in result.finding
    assert "\n" not in result.finding


def test_where_it_fails_is_said() -> None:
    assert "test_conformance.py, line " in check(Fails)["runs"].finding
    assert "t=" in check(Mixing)["samples apart"].finding
    assert {result.verdict for name, result in check(Fails).items() if name not in ("runs", "describes itself")} == {
        "not applicable"
    }


def test_a_gradient_that_grows_without_bound_is_found_out() -> None:
    class Grows(Good):
        """Doubles what it holds, backward only."""

        def step(self, x: Tensor, v: Tensor, w: Tensor) -> Any:
            held = v.detach() + 50 * (v - v.detach())
            s, v, w = super().step(x, held, w)
            return s, v, w

    assert "not finite" in check_only("gradient arrives", Grows(reset="none")).finding


def test_a_neuron_that_mixes_neurons_may_do_so_but_has_no_kernel() -> None:
    results = check(NeuronMixing)
    assert not [result for result in results.values() if result.failed]
    assert (results["traces"].verdict, results["traces"].required) == ("no", False)
    assert "mean in its step is not an elementwise operation" in results["traces"].finding
    assert results["kernel on cpu"].verdict == "not applicable"


def test_a_wrong_kernel_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurons import compiler

    right = compiler.run

    def late(neuron: Any, x: Tensor, state: Any = None, **more: Any) -> Any:
        found = right(neuron, x, state, **more)
        if found is None or not (spikes := found[0]).requires_grad:
            return found
        wrong = spikes.clone()
        wrong[3] = 1 - spikes[3]
        return wrong, found[1]

    monkeypatch.setattr(compiler, "run", late)
    result = check(Good)["kernel on cpu"]
    assert result.failed
    assert "float32, from rest: the output differs at t=3" in result.finding


def test_the_eager_loop_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEP_KERNELS", "eager")
    results = check(Good)
    assert not [result for result in results.values() if result.failed]
    assert results["kernel on cpu"].verdict == results["traces"].verdict == "not applicable"


def test_straight_through_rounding_has_nothing_to_compare_with() -> None:
    result = check_only("gradient right", neurons.create("integer-lif"))
    assert (result.verdict, result.finding.split(":")[0]) == ("not applicable", "_Round")


def test_speed_is_a_ratio_and_progress_is_told() -> None:
    seen: list[str] = []
    results = conformance.check(neurons.LIF(), progress=seen.append)
    assert seen == [result.name for result in results]
    assert (results[-1].name, results[-1].verdict) == ("speed", "measured")
    assert "times as fast as the eager loop" in results[-1].finding


def test_the_neuron_itself_and_the_generator_are_left_alone() -> None:
    neuron = Hidden()
    before, torch_state = copy.deepcopy(neuron.state_dict()), torch.get_rng_state()
    conformance.check(neuron, timed=False)
    assert neuron.trace == 0.0
    assert all(torch.equal(before[key], value) for key, value in neuron.state_dict().items())
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_what_is_no_neuron_is_refused() -> None:
    with pytest.raises(OptionError, match=r"derives from neurons\.Neuron"):
        conformance.check(nn.ReLU)  # type: ignore[arg-type, return-value]


def test_answers_to_a_current_and_a_step() -> None:
    found = conformance.respond(neurons.LIF(tau=2.0, threshold=1.0))
    # h -> x at rest, so it fires just above 1 and in every step from 2 on
    assert found.rheobase == pytest.approx(1.0, abs=0.05)
    assert found.rates[0] == 0
    assert found.rates[-1] == 1
    assert found.rates == sorted(found.rates)
    assert set(found.output[:20]) == {0.0}
    assert sum(found.output[20:80]) > 10
    assert len(found.state["v"]) == len(found.step) == len(found.output)


@pytest.mark.parametrize("name", ["relu", "psn", "dense-recurrent-lif", "eif", "leaky-integrator", "ternary-lif"])
def test_every_kind_of_neuron_answers(name: str) -> None:
    found = conformance.respond(neurons.factory(name))
    assert len(found.currents) == len(found.rates)
    assert len(found.step) == len(found.output)
    assert all(len(values) == len(found.step) for values in found.state.values())
