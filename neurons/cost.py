"""The arithmetic of one neuron update, read off the neuron's own time step."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from neurons.base import Neuron

# A size no parameter has, so that only work done for every neuron reaches it: what concerns parameters alone
# (the sigmoid of a learned time constant) is done once for each layer, not for each neuron.
_WIDTH = 61

_KINDS = {
    "add": "add", "sub": "add", "rsub": "add", "neg": "add",
    "mul": "mul", "square": "mul", "div": "div", "reciprocal": "div",
    "ge": "cmp", "gt": "cmp", "le": "cmp", "lt": "cmp", "eq": "cmp", "ne": "cmp",
    "relu": "cmp", "clamp_min": "cmp", "clamp_max": "cmp", "maximum": "cmp", "minimum": "cmp", "sign": "cmp",
    "abs": "abs", "where": "mux", "masked_fill": "mux", "round": "round", "floor": "round",
    "exp": "exp", "sigmoid": "exp", "tanh": "exp", "log": "exp", "softplus": "exp",
    "sin": "exp", "cos": "exp", "expm1": "exp", "erf": "exp", "sqrt": "sqrt", "rsqrt": "sqrt",
}  # fmt: skip
_FREE = {
    "_to_copy", "detach", "alias", "clone", "view", "expand", "select", "unbind", "full_like", "zeros_like",
    "ones_like", "empty_like", "unsqueeze", "squeeze", "copy_", "lift_fresh", "t", "permute",
}  # fmt: skip


class _Tally(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.numel() >= _WIDTH:
            name = func.overloadpacket.__name__.rstrip("_")
            constant = len(args) > 1 and not (isinstance(args[1], torch.Tensor) and args[1].numel() >= _WIDTH)
            if name == "clamp":
                self.counts["cmp"] += sum(bound is not None for bound in args[1:])
            elif name == "pow":
                self.counts["mul"] += max(int(args[1]) - 1, 1) if constant and args[1] == int(args[1]) else 0
                self.counts["exp"] += 0 if constant and args[1] == int(args[1]) else 1
            elif name == "div" and constant:
                self.counts["mul"] += 1  # by the reciprocal of a constant
            elif name in _KINDS:
                self.counts[_KINDS[name]] += 1
            elif name not in _FREE and func.overloadpacket.__name__ not in _FREE:
                self.counts[f"other:{name}"] += 1
        return out


def update_cost(neuron: Neuron) -> dict[str, float]:
    """Return how many operations of each kind one update of one neuron takes.

    Kinds are ``add`` (also subtract), ``mul`` (also division by a constant), ``div``, ``cmp``, ``mux``, ``abs``,
    ``round``, ``sqrt`` and ``exp`` (any transcendental); an operation without a kind is listed as
    ``other:<name>`` rather than dropped. They are read off ``neuron.step`` unless ``neuron.cost()`` says them.
    """
    said = neuron.cost()
    return dict(traced_cost(neuron)) if said is None else said


def traced_cost(neuron: Neuron) -> dict[str, int]:
    """Return the operations of one update as they are read off ``neuron.step``."""
    reference = next(neuron.parameters(), torch.zeros(()))
    x = torch.zeros(1, _WIDTH, device=reference.device, dtype=reference.dtype)
    state = [torch.full_like(x, value) for value in neuron.state.values()]
    with torch.no_grad(), _Tally() as tally:
        neuron.step(x, *state)
    return {kind: count for kind, count in tally.counts.items() if count}


def leaky(neuron: Neuron, x: torch.Tensor) -> bool | None:
    """Return whether the potential of a neuron changes in a step without input; None for one without such a state.

    Parameters
    ----------
    neuron : Neuron
    x : Tensor, shape [T, B, ...]
        Any input that it takes; its shape and type are used, not its values.
    """
    if not neuron.state or not neuron.streams or neuron.conventional:
        return None
    still = torch.zeros_like(x[:1])
    # Off its resting place, and far below any threshold.
    state = {name: value - 0.1 for name, value in neuron.resting_state(still).items()}
    with torch.no_grad():
        _, after = neuron.run(still, state)
    name = "v" if "v" in state else next(iter(state))
    return bool((after[name] != state[name]).any())
