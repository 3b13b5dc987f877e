"""Counting of neurons: updates and their arithmetic, state, spikes, each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from energy.foreign import leaks, potential, state_words
from energy.operands import Grid, components
from neurons import Neuron, leaky, update_cost
from neurons.errors import DataError

if TYPE_CHECKING:
    from energy.dispatch import Counter


def add(
    counter: Counter, key: str, module: nn.Module, x: Tensor, y: Tensor, inner: Mapping[str, int] | None, out: Any
) -> None:
    """Add the row of a neuron layer, ours or foreign, when its outermost call has ended.

    Parameters
    ----------
    counter : Counter
    key : str
    module : nn.Module
    x, y : Tensor
        Input and output.
    inner : mapping of str to int, optional
        Operations that a foreign neuron carried out.
    out : Any
        All that the module returned.
    """
    updates, bits = x.numel(), x.element_size() * 8
    steps = counter.steps(x)
    sources = counter.tags.of(x).origins or frozenset()
    if id(module) not in counter.leaks:
        counter.leaks[id(module)] = leaky(module, x) if isinstance(module, Neuron) else leaks(module)
    if isinstance(module, Neuron):
        name = getattr(module, "registered_name", type(module).__name__)
        states, kind, conventional = module.state_words, module.output, module.conventional
        if id(module) not in counter.costs:
            counter.costs[id(module)] = update_cost(module)
        cost: dict[str, float] = {op: count * updates for op, count in counter.costs[id(module)].items()}
        _tag_output(counter, module, y)
    else:
        name, states, conventional = type(module).__name__, state_words(module, out), False
        kind, cost = "binary", dict(inner or {})
        counter.tags.put(y, grid=Grid(1.0, 1, "spikes"), binary=True)
    counter.tags.of(y).origins = frozenset({key})
    described = counter.tags.operand(y)
    counter.layer(
        key, "neuron", module=type(module).__name__, neuron=name, conventional=conventional, output=kind,
        operand="real", bits=bits, inputs=updates, outputs=y.numel(), nonzero_outputs=described.nonzero,
        neurons=updates / steps / counter.B, states=states, updates=updates, steps=steps, sources=sources,
        leaky=counter.leaks[id(module)],
    )  # fmt: skip
    if described.is_events and not conventional:
        cell = counter.tags.of(y).cell
        counter.activity.spikes(
            key, y, lambda: components(y, described, bits=False)["magnitude"], counter.steps(y), counter.T, counter.B,
            cell,
        )  # fmt: skip
    if counter.activity.by_step:
        _add_steps(counter, key, module, x, y, steps, out)
    for op, count in cost.items():
        counter.tally.operation(key, op, operand="real", bits=bits, dense=float(count))
    for direction in ("read", "write") if states else ():
        counter.tally.memory(key, "state", direction, "dense", updates * states, bits, counter.buffer(x) * states)
    for policy, elements in (("dense", y.numel()), ("event", described.nonzero)):
        counter.tally.memory(key, "output", "write", policy, elements, described.bits, counter.buffer(y))


def add_inside(
    counter: Counter, key: str, module: Neuron, x: Tensor, y: Tensor, arithmetic: Mapping[str, float]
) -> None:  # fmt: skip
    """Add the row of a neuron whose products are layers of their own: its outputs, its state, all other arithmetic.

    One update is one output at one step. ``states`` are the numbers that the neuron remembers for each of them, and
    need not be whole. A neuron with real outputs, such as an LSTM, is conventional: no spike leaves it.

    Parameters
    ----------
    counter : Counter
    key : str
    module : Neuron
    x, y : Tensor
        Input and output.
    arithmetic : mapping of str to float
        Operations inside that belong to no product.
    """
    updates, bits, steps = y.numel(), x.element_size() * 8, counter.steps(y)
    neurons = updates / steps / counter.B
    words = sum(value.numel() for value in module.resting_state(x[:1, :1]).values())
    conventional = module.conventional or module.output == "real"
    if id(module) not in counter.leaks:
        counter.leaks[id(module)] = leaky(module, x)
    sources = counter.tags.of(y).origins or frozenset()
    _tag_output(counter, module, y)
    counter.tags.of(y).origins = frozenset({key})
    described = counter.tags.operand(y)
    counter.layer(
        key, "neuron", module=type(module).__name__, neuron=getattr(module, "registered_name", type(module).__name__),
        conventional=conventional, output=module.output, operand="real", bits=bits, inputs=x.numel(), outputs=updates,
        nonzero_outputs=described.nonzero, neurons=neurons, states=words / neurons, updates=updates, steps=steps,
        sources=sources, leaky=counter.leaks[id(module)],
    )  # fmt: skip
    if described.is_events and not conventional:
        counter.activity.spikes(
            key, y, lambda: components(y, described, bits=False)["magnitude"], steps, counter.T, counter.B,
            counter.tags.of(y).cell,
        )  # fmt: skip
    if counter.activity.by_step:
        counts: dict[str, Any] = {"inputs": [x.numel() / steps] * steps, "outputs": [updates / steps] * steps}
        counts["nonzero_outputs"] = y.ne(0).reshape(steps, -1).sum(1).tolist()
        counter.activity.step(key, counts, steps, counter.T)
    for op, count in arithmetic.items():
        counter.tally.operation(key, op, operand="real", bits=bits, dense=float(count))
    for direction in ("read", "write") if words else ():
        counter.tally.memory(key, "state", direction, "dense", words * steps * counter.B, bits, words)
    for policy, elements in (("dense", updates), ("event", described.nonzero)):
        counter.tally.memory(key, "output", "write", policy, elements, described.bits, counter.buffer(y))


def _add_steps(counter: Counter, key: str, module: nn.Module, x: Tensor, y: Tensor, steps: int, out: Any) -> None:
    """Add spikes, and updates that changed a potential, of every step."""
    sent = y.ne(0).reshape(steps, -1).sum(1).tolist() if y.numel() % steps == 0 else None
    counts: dict[str, Any] = {"inputs": [x.numel() / steps] * steps, "outputs": [y.numel() / steps] * steps}
    if sent is not None:
        counts["nonzero_outputs"] = sent
    changed = _changes(counter, key, module, x, out)
    if changed is not None:
        counts["effective_updates"] = changed
        counter.tally.layer(key, "neuron", calls=0.0, effective_updates=float(sum(changed)))
    counter.activity.step(key, counts, steps, counter.T)


def _changes(counter: Counter, key: str, module: nn.Module, x: Tensor, out: Any) -> list[float] | None:
    """Count neurons whose potential a step changed; all of them in the first, since it sets the potential."""
    if not isinstance(module, Neuron):
        held = potential(module, out)
        before = counter.potentials.get(key)
        if held is None:
            return None
        counter.potentials[key] = held.clone()
        return [float(held.numel() if before is None else held.ne(before).sum())]
    if not module.streams or not module.state or module.conventional or x.shape[0] != counter.steps(x):
        return None
    state, counts = module.resting_state(x), []
    name = "v" if "v" in state else next(iter(state))
    for number, current in enumerate(x.unbind(0)):
        _, after = Neuron.run(module, current.unsqueeze(0), state)
        counts.append(float(after[name].numel() if number == 0 else after[name].ne(state[name]).sum()))
        state = after
    return counts


def _tag_output(counter: Counter, neuron: Neuron, y: Tensor) -> None:
    if neuron.output == "real":
        counter.tags.put(y, floor="real")
    elif neuron.output != "quantised":
        counter.tags.put(y, grid=Grid(1.0, 1, "spikes"), binary=neuron.output == "binary")
    else:
        step, levels = getattr(neuron, "step_size", None), getattr(neuron, "levels", None)
        if step is None or levels is None:
            raise DataError(
                f"{type(neuron).__name__} says its output is quantised; it must name its step_size and levels"
            )
        counter.tags.put(y, grid=Grid(max(abs(float(step)), 1e-6), int(levels), "codes"))
