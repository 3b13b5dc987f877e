"""One neuron layer in STEP and in other libraries, as far as they have it.

A contestant that computes the very same neuron is checked against the eager loop before it is timed; one that cannot
be given the same neuron says what differs.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

import neurons
from neurons import Neuron, compiler
from neurons.errors import StepError
from neurons.loop import run_steps

Forward = Callable[[Tensor], Tensor]

CHUNKS = {"lif": 20, "plif": 20, "clif": 5, "izhikevich": 1}
"""Time steps that ``torch.compile`` gets at once: many, or steps of many operations, take minutes to compile."""

_ATAN: dict[str, Any] = {"name": "arctan", "alpha": 2.0}

NEURONS: dict[str, Callable[[], Neuron]] = {
    "lif": partial(neurons.create, "lif", tau=2.0, reset="soft", detach_reset=False, surrogate=_ATAN),
    "plif": partial(neurons.create, "plif", tau=2.0, reset="soft", detach_reset=False, surrogate=_ATAN),
    "clif": partial(neurons.create, "clif", tau=2.0, surrogate=_ATAN),
    "izhikevich": partial(neurons.create, "izhikevich"),
}
"""The neurons that are compared, with the options that the others can follow."""


@dataclass(frozen=True)
class Contestant:
    """One implementation of a layer.

    Attributes
    ----------
    forward : callable
        Input [T, B, N] to spikes, from rest.
    differs : str
        What it computes otherwise; empty when it is the same neuron.
    arrange : callable
        Brings the input into the scale and layout it wants, before the clock starts.
    parameters : list of Tensor
        What it learns.
    """

    forward: Forward
    differs: str = ""
    arrange: Callable[[Tensor], Tensor] = lambda x: x
    parameters: list[Tensor] = field(default_factory=list)


def step_fused(kind: str) -> Contestant:
    """The fused loop of the neuron compiler."""
    neuron = NEURONS[kind]()

    def forward(x: Tensor) -> Tensor:
        if (reason := compiler.why_not(neuron, x)) is not None:
            raise StepError(f"{kind} runs in no fused loop here: {reason}")
        return neuron(x)  # type: ignore[no-any-return]

    return Contestant(forward, parameters=list(neuron.parameters()))


def step_eager(kind: str) -> Contestant:
    """The loop over ``step`` in torch, which is the reference."""
    neuron = NEURONS[kind]()
    return Contestant(partial(_loop, neuron), parameters=list(neuron.parameters()))


def _loop(neuron: Neuron, x: Tensor) -> Tensor:
    resting = neuron.resting_state(x)
    return run_steps(neuron.step, x, [resting[name] for name in neuron.state])[0]


def torch_compile(kind: str, chunk: int | None = None) -> Contestant:
    """``torch.compile`` of the eager loop, ``chunk`` steps at a time; as many as ``CHUNKS`` says when left out."""
    length = chunk or CHUNKS[kind]
    torch.compiler.reset()  # graphs of other shapes and neurons count against a limit
    neuron = NEURONS[kind]()

    @torch.compile(fullgraph=True, dynamic=False)
    def steps(x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        out, last = run_steps(neuron.step, x, state)
        return (out, *last)

    def forward(x: Tensor) -> Tensor:
        resting = neuron.resting_state(x)
        state, outs = [resting[name] for name in neuron.state], []
        for part in x.split(length):
            out, *state = steps(part, *state)
            outs.append(out)
        return outs[0] if len(outs) == 1 else torch.cat(outs)

    return Contestant(forward, parameters=list(neuron.parameters()))


def torch_compile_whole(kind: str) -> Contestant:
    """``torch.compile`` of the eager loop, all steps in one graph; minutes of compilation for hundreds of steps."""
    return torch_compile(kind, chunk=1 << 30)


def spikingjelly(kind: str) -> Contestant | None:
    """SpikingJelly, all time steps in one call."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    shared: dict[str, Any] = {"surrogate_function": surrogate.ATan(2.0), "step_mode": "m"}
    if kind == "lif":
        node, differs = neuron.LIFNode(tau=2.0, v_reset=None, **shared), ""
    elif kind == "plif":
        node, differs = neuron.ParametricLIFNode(init_tau=2.0, v_reset=None, **shared), ""
    elif kind == "clif":
        node, differs = neuron.ComplementaryLIFNode(tau=2.0, **shared), ""
    else:
        node, differs = neuron.IzhikevichNode(**shared), "dimensionless form, one Euler step"

    def forward(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)  # type: ignore[no-any-return]

    return Contestant(forward, differs, parameters=list(node.parameters()))


def snntorch(kind: str) -> Contestant | None:
    """snnTorch in the loop of its documentation."""
    import snntorch as snn
    from snntorch import surrogate

    if kind not in ("lif", "plif"):
        return None
    learn = kind == "plif"
    node = snn.Leaky(beta=0.5, learn_beta=learn, spike_grad=surrogate.atan(2.0), reset_delay=False)

    def forward(x: Tensor) -> Tensor:
        memory, out = node.reset_mem(), []
        for step in x:
            spikes, memory = node(step, memory)
            out.append(spikes)
        return torch.stack(out)

    # its input is not divided by tau
    differs = "learns the decay itself, soft reset of its own" if learn else "soft reset of its own"
    return Contestant(forward, differs, lambda x: x / 2, list(node.parameters()) if learn else [])


def norse(kind: str) -> Contestant | None:
    """Norse, in a loop over its cell."""
    if importlib.util.find_spec("norse") is None:
        return None
    import norse.torch as library

    cell: Any
    if kind == "lif":
        cell = library.LIFBoxCell(p=library.LIFBoxParameters(tau_mem_inv=torch.as_tensor(500.0)))
        differs = "hard reset, SuperSpike surrogate"
    else:  # its Izhikevich cell shares one state between all calls and cannot be differentiated twice
        return None

    def forward(x: Tensor) -> Tensor:
        state, out = None, []
        for step in x:
            spikes, state = cell(step, state)
            out.append(spikes)
        return torch.stack(out)

    return Contestant(forward, differs)


def sinabs(kind: str) -> Contestant | None:
    """sinabs, batch before time."""
    if kind != "lif" or importlib.util.find_spec("sinabs") is None:
        return None
    import sinabs.layers as library
    from sinabs.activation import SingleSpike

    node = library.LIF(tau_mem=-1 / math.log(0.5), spike_fn=SingleSpike, norm_input=False)

    def forward(x: Tensor) -> Tensor:
        node.reset_states()
        return node(x)  # type: ignore[no-any-return]

    return Contestant(forward, "exponential surrogate", lambda x: (x / 2).transpose(0, 1).contiguous())


CONTESTANTS: dict[str, Callable[[str], Contestant | None]] = {
    "step, fused": step_fused,
    "step, eager": step_eager,
    "torch.compile": torch_compile,
    "torch.compile, whole": torch_compile_whole,
    "spikingjelly": spikingjelly,
    "snntorch": snntorch,
    "norse": norse,
    "sinabs": sinabs,
}
"""By name; None where a library is not installed or has no such neuron."""

SLOW = ("torch.compile, whole",)
"""Left out unless asked for: they take minutes before their first result."""
