"""What a query costs an ensemble: synaptic events and neuron updates of its modules, and what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from step.learners.places.ensemble.modules import QUERIES, derived

if TYPE_CHECKING:
    import energy
    from step.learners.places.ensemble.member import Member

# One step of Euler, weights and thresholds frozen. Excitatory: v += dt/tau (rest - v - g_e v + g_i (E_inh - v)), two
# decays, a timer, the adaptive threshold and two comparisons. Inhibitory: the same without inhibition and adaptation.
EXCITATORY = {"mul": 5.0, "add": 7.0, "cmp": 2.0}
INHIBITORY = {"mul": 3.0, "add": 4.0, "cmp": 2.0}
EXCITATORY_STATES = 5
"""Potential, two conductances, timer, threshold."""
INHIBITORY_STATES = 3
"""Potential, conductance, timer."""


def record_of(members: Sequence[Member], images: Tensor) -> energy.Record:
    """Return the operation record of one query, the mean over queries [B, inputs].

    Each member has a layer of input synapses, its excitatory neurons, synapses to their inhibitory partners, those
    neurons, the lateral synapses back to all but the partner, and the read-out of spike counts, which no spiking neuron
    takes. With a gate, only simulated modules have events and updates, though all hold weights.

    Parameters
    ----------
    members : sequence of Member
    images : Tensor, shape [B, inputs]
    """
    import energy

    layers: list[dict[str, Any]] = []
    T = 1
    for number, member in enumerate(members):
        prefix = f"{number}-" if len(members) > 1 else ""
        config = member.config
        only = None
        if config.query == "mean-field" or config.gate is not None:
            layers.append({**_templates(member), "layer": f"{prefix}templates"})
        if config.query == "spikes":
            if config.gate is not None:
                only = member.templates.modules(images, config.gate)
            spiking, steps = _modules(member, images, only, prefix)
            layers += spiking
            T = max(T, steps)
    return energy.Record.from_layers(layers, T=T, samples=len(images), data=f"{len(images)} queries")


def _modules(member: Member, images: Tensor, only: Tensor | None, prefix: str) -> tuple[list[dict[str, Any]], int]:
    M, inputs, N = member.modules.weights.shape
    K = member.slots.shape[1]
    running = M if only is None else only.shape[1]
    counts = member.counts(images, 0, only)
    sent = float(counts.sum()) / len(images)
    firing = float((counts > 0).sum()) / len(images)
    cost = member.modules.cost(images, seed=derived(member.seed, QUERIES), only=only)
    steps, arriving, inhibitory = round(cost["time_steps"]), cost["input_spikes"], cost["inhibitory_spikes"]
    neurons, weights = running * N, M * N * inputs
    common = {"neuron": "diehl-cook", "leaky": True, "output": "binary", "T": steps}
    found: list[dict[str, Any]] = [
        {
            "layer": "input", "kind": "linear", "T": steps, "operand": "binary", "sources": "",
            "dense": steps * inputs * neurons, "effective": arriving * neurons,
            "inputs": steps * inputs, "nonzero": arriving, "magnitude": arriving, "outputs": steps * neurons,
            "weights": weights, "weight_nonzero": weights, "in_channels": inputs, "out_channels": neurons,
        },
        {
            "layer": "excitatory", "kind": "neuron", "sources": "input,lateral", **common,
            "updates": steps * neurons, "states": EXCITATORY_STATES, "ops": EXCITATORY,
            "outputs": steps * neurons, "nonzero_outputs": sent,
        },
        {
            "layer": "partner", "kind": "linear", "T": steps, "operand": "binary", "sources": "excitatory",
            "dense": steps * neurons, "effective": sent,
            "inputs": steps * neurons, "nonzero": sent, "magnitude": sent, "outputs": steps * neurons,
            "weights": M * N, "weight_nonzero": M * N, "in_channels": neurons, "out_channels": neurons,
            "groups": neurons,
        },
        {
            "layer": "inhibitory", "kind": "neuron", "sources": "partner", **common,
            "updates": steps * neurons, "states": INHIBITORY_STATES, "ops": INHIBITORY,
            "outputs": steps * neurons, "nonzero_outputs": inhibitory,
        },
        {
            "layer": "lateral", "kind": "linear", "T": steps, "operand": "binary", "sources": "inhibitory",
            "dense": steps * neurons * (N - 1), "effective": inhibitory * (N - 1),
            "inputs": steps * neurons, "nonzero": inhibitory, "magnitude": inhibitory, "outputs": steps * neurons,
            "weights": M * N * (N - 1), "weight_nonzero": M * N * (N - 1),
            "in_channels": neurons, "out_channels": neurons, "groups": running,
        },
        {
            "layer": "readout", "kind": "linear", "T": 1, "operand": "integer", "bits": 3, "sources": "excitatory",
            "dense": neurons * K, "effective": firing * K, "events_exact": sent * K, "events_nominal": sent * K,
            "inputs": neurons, "nonzero": firing, "magnitude": sent, "outputs": running * K,
            "weights": M * N * K, "weight_nonzero": int((member.readout.weight != 0).sum()),
            "in_channels": neurons, "out_channels": running * K, "groups": running,
        },
    ]  # fmt: skip
    for layer in found:
        layer["layer"] = f"{prefix}{layer['layer']}"
        layer["sources"] = ",".join(f"{prefix}{name}" for name in layer["sources"].split(",") if name)
    return found, steps


def _templates(member: Member) -> dict[str, Any]:
    M, inputs, K = member.templates.template.shape
    products = M * inputs * K
    return {
        "kind": "linear", "T": 1, "operand": "real", "sources": "", "dense": products, "effective": products,
        "inputs": inputs, "nonzero": inputs, "outputs": M * K, "weights": products, "weight_nonzero": products,
        "in_channels": inputs, "out_channels": M * K,
    }  # fmt: skip
