"""Does it run, stream, and keep apart what must be kept apart?"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from neurons.base import Neuron
from neurons.conformance.result import Result
from neurons.conformance.subject import Subject, describe, detached, difference, eager, fused, plain, where

_KINDS = ("binary", "ternary", "integer", "quantised", "real")
_TYPES = (torch.float32, torch.float64, torch.bfloat16)


def runs(subject: Subject) -> Result:
    """Is [T, B, ...] taken and a tensor of the same shape returned?"""
    name = "runs"
    if subject.error:
        return Result(name, "no", f"[T, B, {subject.width}] is not taken: {subject.error}")
    neuron, x = subject.fresh(), subject.current()
    output, last = detached(fused(neuron, x))
    if output.shape != x.shape:
        return Result(name, "no", f"an input {list(x.shape)} gives an output {list(output.shape)}, not the same shape")
    if not torch.equal(neuron(x), output):
        return Result(name, "no", f"neuron(x) and neuron.run(x) disagree {where(neuron(x), output)}")
    bad = [key for key, value in {"output": output, **last}.items() if not value.isfinite().all()]
    if bad:
        return Result(name, "no", f"{', '.join(bad)} not finite over T={len(x)} with inputs of size {subject.gain:g}")
    if output.unique().numel() < 2:
        return Result(name, "no", f"always sends {output.flatten()[0].item():g}, for inputs of size 0.03 to 1000")
    seen = f"{(output != 0).double().mean().item():.0%} of the outputs are not 0"
    return Result(name, "yes", f"{list(x.shape)} at T={len(x)}; for inputs of size {subject.gain:g} {seen}")


def state_in_order(subject: Subject) -> Result:
    """Does the step return what ``state`` names, in that order?

    The count and the shapes are checked outright. An exchange of two states shows in how the new states depend on the
    old ones: where a state does not depend on itself at all, but all would if they were exchanged, they are.
    """
    name, neuron = "state in order", subject.fresh(torch.float64)
    keys, x = list(neuron.state), subject.current(dtype=torch.float64)
    if subject.own_run:
        last = eager(neuron, x)[1]
        if set(last) != set(keys):
            return Result(name, "no", f"run returns the states {sorted(last)}; {sorted(keys)} are declared")
        return Result(name, "yes", ", ".join(keys) or "it has none")
    start = neuron.resting_state(x)
    try:
        result = neuron.step(x[0], *[start[key] for key in keys])
    except TypeError as error:
        return Result(name, "no", f"step(x, {', '.join(keys)}) cannot be called: {describe(error)}")
    results = result if isinstance(result, tuple) else (result,)
    if len(results) != 1 + len(keys):
        declared = f"1 output and {len(keys)} states ({', '.join(keys)})" if keys else "1 output and no state"
        return Result(name, "no", f"step returns {len(results)} tensors; {declared} are declared")
    for key, value in zip(["the output", *keys], results, strict=True):
        if value.shape != x[0].shape:
            return Result(name, "no", f"{key} has the shape {list(value.shape)}, the input {list(x[0].shape)}")
    if len(keys) < 2:
        return Result(name, "yes", ", ".join(keys) or "it has none")
    follows = _follows(neuron, x)
    n = range(len(keys))
    order = max(itertools.permutations(n), key=lambda p: min(float(follows[i, p[i]]) for i in n))
    own, other = min(float(follows[i, i]) for i in n), min(float(follows[i, order[i]]) for i in n)
    if own < 1e-6 < 1e-2 < other:
        i = next(i for i in n if order[i] != i)
        said = f"what step returns as {keys[i]!r} follows the old {keys[order[i]]!r} and not the old {keys[i]!r}"
        return Result(name, "no", f"{said}; return the states in the order {', '.join(keys)}")
    return Result(name, "yes", ", ".join(keys))


def _follows(neuron: Neuron, x: Tensor) -> Tensor:
    """Return how much each new state [rows] follows each old one [columns], averaged over neurons."""
    with torch.no_grad():
        _, there = eager(neuron, x)
        state = list(there.values())
        found = torch.zeros(len(state), len(state), dtype=torch.float64)
        for column, value in enumerate(state):
            size = 1e-6 * (1 + value.abs())
            up, down = (
                neuron.step(x[0], *state[:column], value + sign * size, *state[column + 1 :]) for sign in (1, -1)
            )
            for row in range(len(state)):
                found[row, column] = ((up[row + 1] - down[row + 1]) / (2 * size)).abs().mean()
    return found


def output_as_declared(subject: Subject) -> Result:
    """Are the values of the kind that ``output`` says? The energy models price by it."""
    name, kind = "output as declared", subject.neuron.output
    if kind not in _KINDS:
        return Result(name, "no", f"output = {kind!r} is none of {', '.join(_KINDS)}")
    neuron = subject.fresh(torch.float64)
    with torch.no_grad():
        inputs = [subject.current(seed=i, dtype=torch.float64) * scale for i, scale in enumerate((1, 0.3, 3, 10))]
        values = torch.cat([eager(neuron, x)[0].flatten() for x in inputs]).unique()
    lies = _outside(values, kind)
    if lies is not None:
        return Result(name, "no", f"output = {kind!r}, but {lies:.6g} is sent{_instead(values)}")
    if kind == "real" and not _outside(values, "binary"):
        return Result(name, "no", "output = 'real', but only 0 and 1 are sent: output = 'binary' would be right")
    few = ", ".join(f"{value:g}" for value in values.tolist()) if len(values) <= 5 else f"{len(values)} values seen"
    return Result(name, "yes", f"{kind}: {few}")


def _outside(values: Tensor, kind: str) -> float | None:
    """Return a value that is not of the kind."""
    if kind == "real":
        good = values.isfinite()
    elif kind == "quantised":
        gaps = values.diff()
        gap = gaps.min() if len(gaps) else torch.tensor(1.0)
        good = ((values / gap).round() * gap - values).abs() < 1e-4 * gap
    elif kind == "integer":
        good = values == values.round()
    else:
        good = torch.isin(values, torch.tensor([-1.0, 0.0, 1.0] if kind == "ternary" else [0.0, 1.0]).to(values))
    return None if good.all() else values[~good][0].item()


def _instead(values: Tensor) -> str:
    fit = next((kind for kind in _KINDS if _outside(values, kind) is None), None)
    return f": output = {fit!r} would be right" if fit else ""


def types_kept(subject: Subject) -> Result:
    """Does what goes in as float32, float64 or bfloat16 come out as the same?"""
    name = "types kept"
    for dtype in _TYPES:
        for label, way in subject.ways.items():
            neuron, x = subject.fresh(dtype), subject.current(dtype=dtype)
            output, last = way(neuron, x, None)
            for key, value in {"the output": output, **last}.items():
                if value.dtype != dtype:
                    said = f"{_type(dtype)} goes in, and {key} is {_type(value.dtype)} (in {label})"
                    return Result(name, "no", f"{said}; make tensors like the input, and constants Python numbers")
    return Result(name, "yes", ", ".join(_type(dtype) for dtype in _TYPES))


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def streams(subject: Subject) -> Result:
    """Do pieces, each run with the state of the one before, give exactly what the whole gives?

    A matrix product over all steps may round otherwise for another number of steps, so neurons that are made of such
    products are compared in float64 and up to rounding.
    """
    name = "streams"
    if not subject.neuron.streams:
        return Result(name, "not applicable", "it looks at all time steps at once (streams = False)")
    dtype, near = (torch.float64, 1e-9) if subject.neuron.counted_inside else (torch.float32, 0.0)
    for label, way in subject.ways.items():
        x = subject.current(dtype=dtype)
        T = len(x)
        whole = detached(way(subject.fresh(dtype), x, None))
        for lengths in ([1, T - 1], [T // 2, T - T // 2], [T - 1, 1], [1] * T):
            neuron, state, pieces = subject.fresh(dtype), None, []
            for piece in x.split(lengths):
                # a copy, because a step that writes into its arguments has its own check
                output, state = detached(way(neuron, piece.clone(), state))
                pieces.append(output)
            differs = difference((torch.cat(pieces), state or {}), whole, near)
            if differs:
                cut = "step by step" if len(lengths) == T else f"cut after {lengths[0]} of {T}"
                hidden = "is there a state that `state` does not name?"
                return Result(name, "no", f"{cut} (in {label}), {differs}; {hidden}")
    cuts = f"cut at 3 places and step by step, {'the whole up to rounding' if near else 'exactly the whole'}"
    return Result(name, "yes", cuts if subject.neuron.state else f"it has no state; {cuts}")


def samples_apart(subject: Subject) -> Result:
    """Does no sample depend on the others of its batch, forward or backward?"""
    name = "samples apart"
    for label, way in subject.ways.items():
        x = subject.current()
        right = detached(way(subject.fresh(), x, None))
        others = x.clone()
        others[:, 1:] = -3 * x[:, 1:].flip(1)
        found = detached(way(subject.fresh(), others, None))
        differs = difference(_first(found), _first(right))
        if differs:
            return Result(name, "no", f"sample 0 changes with the others of its batch (in {label}): {differs}")
        # in float64, and up to rounding: other lengths of a vector may round otherwise
        wide = x.double()
        alone = way(subject.fresh(torch.float64), wide[:, :1], None)[0]
        together = way(subject.fresh(torch.float64), wide, None)[0][:, :1]
        if not torch.allclose(alone, together, rtol=1e-9, atol=1e-9):
            return Result(name, "no", f"sample 0 alone is another one (in {label}) {where(alone, together)}")
        leaf = x.clone().requires_grad_()
        output = way(subject.fresh(), leaf, None)[0][:, 0].sum()
        if output.requires_grad:
            gradient = torch.autograd.grad(output, leaf, allow_unused=True)[0]
            if gradient is not None and gradient[:, 1:].count_nonzero():
                return Result(name, "no", f"the gradient of sample 0 reaches other samples (in {label})")
    return Result(name, "yes", "sample 0 is the same with other neighbours and alone; so is its gradient")


def _first(found: tuple[Tensor, dict[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
    return found[0][:, :1], {key: value[:1] for key, value in found[1].items()}


def same_again(subject: Subject) -> Result:
    """Does the same input give the same after something else ran?"""
    name = "same again"
    for label, way in subject.ways.items():
        neuron, x = subject.fresh(), subject.current()
        before = {key: plain(value) for key, value in _held(neuron).items()}
        right = detached(way(neuron, x, None))
        way(neuron, 3 * subject.current(seed=1), None)
        differs = difference(detached(way(neuron, x, None)), right)
        if differs:
            changed = [key for key, value in _held(neuron).items() if not _equal(before.get(key), value)]
            why = f"{', '.join(changed)} changed meanwhile: keep it in `state`" if changed else _random(subject, neuron)
            return Result(name, "no", f"after another input ran (in {label}), {differs}; {why}")
    return Result(name, "yes", "nothing is left over from what ran before")


def _held(neuron: Neuron) -> dict[str, object]:
    found: dict[str, object] = {}
    for prefix, module in neuron.named_modules():
        dot = f"{prefix}." if prefix else ""
        found |= {dot + key: value for key, value in vars(module).items() if not key.startswith("_")}
        found |= {dot + key: value for key, value in (*module._buffers.items(), *module._parameters.items())}
    return found


def _equal(old: object, new: object) -> bool:
    if isinstance(old, Tensor) or isinstance(new, Tensor):
        return isinstance(old, Tensor) and isinstance(new, Tensor) and old.shape == new.shape and torch.equal(old, new)
    try:
        return bool(old == new)
    except Exception:  # what cannot be compared is not accused
        return True


def _random(subject: Subject, neuron: Neuron) -> str:
    x, found = subject.current(), []
    with torch.random.fork_rng(devices=[]):
        for _ in range(2):
            torch.manual_seed(0)
            found.append(detached(eager(neuron, x)))
    drawn = not difference(found[0], found[1])
    return "its step draws random numbers" if drawn else "something outside its state has a memory"


def arguments_kept(subject: Subject) -> Result:
    """Are the input and the state that a caller hands over left as they are?"""
    name = "arguments kept"
    with torch.no_grad():
        for label, way in subject.ways.items():
            neuron, x = subject.fresh(), subject.current()
            state = None
            if subject.neuron.streams:
                _, state = detached(way(neuron, x.clone(), None))
            mine = {"x": x, **(state or {})}
            before = {key: value.clone() for key, value in mine.items()}
            way(neuron, x, state)
            for key, value in mine.items():
                if not torch.equal(value, before[key]):
                    right = f"write {key} = {key} + ..., not {key} += ..."
                    return Result(name, "no", f"{key!r} is written into while it runs (in {label}); {right}")
    return Result(name, "yes", "neither input nor state is written into")
