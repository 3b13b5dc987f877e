"""What the neurons of one layer did for one sample: spikes and membrane potential, kept for the report."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.protocols import Batches
from neurons import Neuron, SpikingNeuron, neurons_in
from neurons.loop import run_steps
from step.inspection.answers import answers, class_of
from step.learners import checkpoint
from step.models import Network

UNITS = 64
"""At most this many neurons are kept, those that spike most first."""


def record_trace(network: Network, probe: Batches, path: Path) -> None:
    """Run one test sample and keep spikes [T, units] and potential [T, units] of the first spiking layer in a block.

    Conventional networks have no spikes over time: nothing is written for them.
    """
    name, neuron = _middle_neuron(network)
    if neuron is None:
        return
    x, labels = next(probe.epoch())
    x = x[:, :1].to(next(network.parameters()).device)
    seen: dict[str, Tensor] = {}

    def keep(module: Neuron, inputs: tuple[Tensor], output: Tensor) -> None:
        seen["input"], seen["output"] = inputs[0].detach(), output.detach()

    handle = neuron.register_forward_hook(keep)
    try:
        network.eval()
        with torch.no_grad():
            answer = answers(network, network(x))[0]
    finally:
        handle.remove()
    spikes = seen["output"].flatten(1)
    order = spikes.ne(0).sum(0).argsort(descending=True, stable=True)[:UNITS]
    tensors = {"spikes": spikes[:, order], "image": _picture(x[:, 0])}
    potential = _potential(neuron, seen["input"])
    if potential is not None:
        tensors["potential"] = potential.flatten(1)[:, order]
    threshold = getattr(neuron, "threshold", None)
    facts: dict[str, Any] = {
        "layer": name,
        "sample": int(probe.indices[0]),
        "label": class_of(labels, 0),
        "predicted": answer,
        "threshold": threshold if isinstance(threshold, (int, float)) else None,  # some learn it
        "neurons": spikes.shape[1],
    }
    checkpoint.write(path, tensors, facts)


def _picture(x: Tensor) -> Tensor:
    """Return one sample [T, ...] as an image: its mean over time, or channels by time of a sequence [T, C]."""
    return x.T.unsqueeze(0) if x.dim() == 2 else x.mean(0)


def _middle_neuron(network: Network) -> tuple[str, Neuron | None]:
    found = [(name, neuron) for name, neuron in neurons_in(network) if neuron.state_words and neuron.output != "real"]
    return found[len(found) // 2] if found else ("", None)


def _potential(neuron: Neuron, x: Tensor) -> Tensor | None:
    """Return the potential [T, B, ...] that the threshold was compared with, before the reset."""
    if not isinstance(neuron, SpikingNeuron):
        return None
    seen: list[Tensor] = []
    listening = copy.copy(neuron)

    def spike(u: Tensor) -> Tensor:
        seen.append(u + neuron.threshold)
        return neuron.spike(u)

    listening.spike = spike  # type: ignore[method-assign]
    with torch.no_grad():
        run_steps(listening.step, x, list(listening.resting_state(x).values()))
    return torch.stack(seen) if len(seen) == len(x) else None
