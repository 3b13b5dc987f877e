"""Is the gradient there, and is it the right one?

The derivative of a spike is 0 or infinite, so a spiking neuron has no finite differences to compare with. A smooth twin
has: in it the spike is the primitive of the surrogate, the smooth step whose slope the surrogate's derivative is. Its
step is the same code, so what is right for the twin is right for the neuron.

A detached tensor, such as the spike in a detached reset, is a constant to autograd although it moves when the input
does; so is the result of a comparison. The differences treat them alike: the values that autograd holds constant are
written down in one run and put back in all others (:class:`_Held`). So a neuron is checked as it is, with its reset
detached or not; a state that is cut off from the past is not found here but by :func:`gradient_arrives`.

A custom gradient other than the surrogate's, such as rounding that passes straight through, is by intention not the
slope of its forward pass; there is nothing to compare it with.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode

from neurons.base import Neuron
from neurons.conformance.result import Result
from neurons.conformance.subject import Subject, eager
from neurons.surrogate import Surrogate

LONG = 100
"""Time steps over which gradients must stay finite."""
_SHORT = 6
_PLACES = {"x": 24}
_OTHER_PLACES = 6
_CLOSE = 1e-4
_SPIKE = "is it detached, or is the spike a comparison? self.spike(h - threshold) has a gradient"


def gradient_arrives(subject: Subject) -> Result:
    """Does a finite gradient reach the input and every parameter, over 100 steps and through time?"""
    name = "gradient arrives"
    neuron, x = subject.fresh(), subject.current(LONG).requires_grad_()
    output = neuron(x)
    if not output.requires_grad:
        return Result(name, "no", f"the output has no gradient at all: {_SPIKE}")
    leaves = {"the input": x, **{f"the parameter {key!r}": value for key, value in neuron.named_parameters()}}
    found = torch.autograd.grad((output * _weights(output)).sum(), list(leaves.values()), allow_unused=True)
    for key, gradient in zip(leaves, found, strict=True):
        if gradient is not None and not gradient.isfinite().all():
            return Result(name, "no", f"the gradient of {key} is not finite over T={len(x)}")
        if gradient is None or not gradient.count_nonzero():
            why = _SPIKE if key == "the input" else _cut_off(subject) or "is it detached, or read as a number?"
            return Result(name, "no", f"no gradient reaches {key}: {why}")
    cut = _cut_off(subject)
    if cut:
        return Result(name, "no", cut)
    parameters = [key for key, _ in neuron.named_parameters()]
    largest = float(x.new_tensor([float(g.abs().max()) for g in found if g is not None]).max())
    through = ", through time" if neuron.state else ""
    return Result(name, "yes", f"{', '.join(['x', *parameters])}{through}; largest {largest:.2g} over T={len(x)}")


def _cut_off(subject: Subject) -> str:
    """Return why what came first has no gradient later although it has an effect; empty when all is well."""
    neuron, x = _smooth(subject), subject.current(_SHORT, dtype=torch.float64)
    if subject.fixed or not neuron.state:
        return ""
    if hasattr(neuron, "detach_reset"):
        vars(neuron)["detach_reset"] = False  # the last spike may be all that a state holds
    leaf = x.clone().requires_grad_()
    later = _total(eager(neuron, leaf), first=1)
    if later.requires_grad:
        gradient = torch.autograd.grad(later, leaf, allow_unused=True)[0]
        if gradient is not None and gradient[0].count_nonzero():
            return ""
    moved = x.clone()
    moved[0] += subject.gain
    with torch.no_grad():
        effect = _total(eager(neuron, moved), first=1) != _total(eager(neuron, x), first=1)
    return "later steps depend on x[0], but no gradient goes back there: is the state detached?" if effect else ""


def gradient_right(subject: Subject) -> Result:
    """Does autograd agree with finite differences of the neuron with a smooth spike?"""
    name = "gradient right"
    noisy = next((surrogate for surrogate in _surrogates(subject.neuron) if surrogate.noisy), None)
    if noisy is not None:
        return Result(name, "not applicable", f"{noisy}: its slope is right on average only")
    neuron, x = _smooth(subject), subject.current(_SHORT, dtype=torch.float64)
    leaves = {"x": x.requires_grad_()}
    if neuron.streams and neuron.state:
        with torch.no_grad():
            _, start = eager(neuron, subject.current(3, seed=1, dtype=torch.float64))
        leaves |= {key: value.clone().requires_grad_() for key, value in start.items()}
    states = [key for key in leaves if key != "x"]
    leaves |= {key: value for key, value in neuron.named_parameters() if value.requires_grad}

    def value() -> Tensor:
        return _total(eager(neuron, leaves["x"], {key: leaves[key] for key in states} if states else None))

    held = _Held()
    with held:
        total = value()
    if not total.requires_grad:
        return Result(name, "no", "the output has no gradient at all")
    custom = sorted(set(_custom(total)))
    if custom:
        return Result(name, "not applicable", f"{', '.join(custom)}: by intention not the slope of what it returns")
    if not total.isfinite():
        return Result(name, "not applicable", "with a smooth spike its potential runs away")
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    worst, kinks, compared = 0.0, 0, 0
    for (key, leaf), gradient in zip(leaves.items(), gradients, strict=True):
        gradient = torch.zeros_like(leaf) if gradient is None else gradient
        largest = max(float(gradient.abs().max()), 1e-12)
        for place in _places(key, leaf):
            exact = float(gradient[place])
            left, right, size = _slopes(held, value, leaf, place)
            slope = (left + right) / 2
            near = _CLOSE * max(abs(slope), abs(exact)) + 1e-6 * largest + 1e-14 * abs(float(total.detach())) / size
            compared += 1
            if abs(slope - exact) <= near:
                worst = max(worst, abs(slope - exact) / largest)
            elif min(left, right) - near <= exact <= max(left, right) + near and abs(left - right) > near:
                kinks += 1  # a corner of relu, clamp or abs: either slope is right
            else:
                at = f"{key}[{', '.join(map(str, place))}]" if place else key
                return Result(name, "no", f"by {at}: {exact:.6g} from autograd, {slope:.6g} from differences")
    if kinks > compared // 2:
        return Result(name, "not applicable", f"{kinks} of {compared} places lie on corners of its functions")
    smooth = next((repr(s.inner) for s in _surrogates(neuron) if isinstance(s, _Smooth)), "")
    by = f"; spike smoothed by {smooth}" if smooth else ""
    constant = "; what is detached or compared held constant" if held.values else ""
    return Result(name, "yes", f"{', '.join(leaves)}: within {worst:.0e} of central differences{by}{constant}")


def _slopes(
    held: _Held, value: Callable[[], Tensor], leaf: Tensor, place: tuple[int, ...]
) -> tuple[float, float, float]:
    """Return the slopes to the left and to the right of a place, and the distance they were taken over."""
    old = leaf.detach()[place].clone()
    size = 1e-6 * max(1.0, float(old.abs()))
    found = []
    for sign in (-1, 0, 1):
        with torch.no_grad():
            leaf[place] = old + sign * size
        with held.replay():
            found.append(float(value().detach()))
    with torch.no_grad():
        leaf[place] = old
    return (found[1] - found[0]) / size, (found[2] - found[1]) / size, size


def _places(key: str, leaf: Tensor) -> Iterator[tuple[int, ...]]:
    count = min(leaf.numel(), _PLACES.get(key, _OTHER_PLACES))
    chosen = torch.randperm(leaf.numel(), generator=torch.Generator().manual_seed(0))[:count]
    for index in chosen.tolist():
        yield tuple(int(i) for i in torch.unravel_index(torch.tensor(index), leaf.shape))


def _weights(value: Tensor, seed: int = 5) -> Tensor:
    return torch.randn(value.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(value)


def _total(found: tuple[Tensor, dict[str, Tensor]], first: int = 0) -> Tensor:
    """Return one number that depends on all outputs from step ``first`` on and on the last states."""
    parts = [found[0][first:], *found[1].values()]
    total = sum((part * _weights(part, seed)).sum() for seed, part in enumerate(parts))
    assert isinstance(total, Tensor)
    return total


class _SmoothSpike(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor, surrogate: Surrogate) -> Tensor:
        return surrogate.primitive(u).clone()  # a primitive may hand u back as it is

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate], output: Tensor) -> None:
        u, ctx.surrogate = inputs
        ctx.save_for_backward(u)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (u,) = ctx.saved_tensors
        return gradient * ctx.surrogate.derivative(u), None


class _Smooth(Surrogate):
    """A surrogate whose spike is its primitive."""

    def __init__(self, inner: Surrogate) -> None:
        self.inner = inner

    def __call__(self, u: Tensor) -> Tensor:
        return _SmoothSpike.apply(u, self.inner)

    def derivative(self, u: Tensor) -> Tensor:
        return self.inner.derivative(u)

    def primitive(self, u: Tensor) -> Tensor:
        return self.inner.primitive(u)


def _smooth(subject: Subject) -> Neuron:
    """Return the smooth twin of the neuron, in float64."""
    neuron = subject.fresh(torch.float64)
    for module in neuron.modules():
        for key, value in list(vars(module).items()):
            if isinstance(value, Surrogate):
                setattr(module, key, _Smooth(value))
    return neuron


def _surrogates(neuron: Neuron) -> Iterator[Surrogate]:
    for module in neuron.modules():
        yield from (value for value in vars(module).values() if isinstance(value, Surrogate))


class _Held(TorchFunctionMode):
    """Writes down in one run what autograd holds constant, and puts it back in those that follow."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Tensor] = []
        self._ahead: Iterator[Tensor] | None = None

    def replay(self) -> _Held:
        """Put back from now on what was written down."""
        self._ahead = iter(self.values)
        return self

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        # without gradients runs the forward of a custom function: what it works out is not held
        if not torch.is_grad_enabled() or not isinstance(out, Tensor) or out.requires_grad:
            return out
        flat = itertools.chain.from_iterable(a if isinstance(a, (list, tuple)) else [a] for a in args)
        if not any(isinstance(value, Tensor) and value.requires_grad for value in flat):
            return out
        if self._ahead is None:
            self.values.append(out.detach().clone())
            return out
        return next(self._ahead, out)


def _custom(total: Tensor) -> Iterator[str]:
    """Yield the names of custom functions in a graph, that of the smooth spike left out."""
    todo, seen = [total.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction) and node.name() != "_SmoothSpikeBackward":
            yield node.name().removesuffix("Backward")
        todo += [following for following, _ in node.next_functions]
