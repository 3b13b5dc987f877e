"""A population of ELM neurons in plain torch: step by step, or all steps at once where it does not hear itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from neurons.base import State
from neurons.compiler.operator import unseen
from neurons.elm.coefficients import decay, squash, write_gain
from neurons.elm.population_kernel import Masks
from neurons.elm.projection import filter_time
from neurons.elm.recurrence import memory
from neurons.plain import is_plain
from neurons.synapses import synapse_sums

if TYPE_CHECKING:
    from neurons.elm.population import ELMPopulation


def _sums(neuron: ELMPopulation, x: Tensor, sources: int) -> Callable[[Tensor], Tensor]:
    """Return the function from what is heard [..., sources] to the branch sums [..., neurons, branches]."""
    weights, index = neuron.synapses_now(), neuron.index.long()
    if x.is_cuda and unseen(x) and not is_plain():  # one matrix product, most of it with zeros, is faster there
        branch = torch.arange(neuron.neurons * neuron.branches, device=x.device).repeat_interleave(neuron.synapses)
        flat = weights.new_zeros(neuron.neurons * neuron.branches * sources)
        matrix = flat.index_add(0, branch * sources + index.flatten(), weights.flatten()).view(-1, sources)
        return lambda heard: nn.functional.linear(heard, matrix).unflatten(-1, (neuron.neurons, neuron.branches))
    if not unseen(x):  # whoever looks on sees synapses
        each, places = weights.flatten(0, 1), (neuron.neurons, neuron.branches)
        return lambda heard: synapse_sums(heard, each, index).unflatten(-1, places)
    index = index.view(neuron.neurons, neuron.branches, neuron.synapses)
    return lambda heard: torch.einsum("...nks,nks->...nk", heard[..., index], weights)


def loop(
    neuron: ELMPopulation, x: Tensor, start: State, masks: Masks, *, effort: bool = False
) -> tuple[Tensor, State, Tensor]:
    """Run step by step: the reference, and what runs where a layer that hears itself has no C.

    Parameters
    ----------
    neuron : ELMPopulation
    x : Tensor, shape [T, B, features]
    start : dict of Tensor, shape [B, neurons, ...]
        All states.
    masks : Masks
    effort : bool
        Whether the sums over steps, samples and memory units of the absolute values of the perceptron's output are
        wanted; they are zero otherwise.

    Returns
    -------
    activities : Tensor, shape [T, B, neurons]
    state : dict of Tensor
    effort : Tensor, shape [B, neurons]
        Sum of what the perceptron of each neuron says, without its sign; zeros unless asked for.
    """
    mlp, tau = neuron.perceptron(), neuron.memory_tau()
    keeps, gain, leak = decay(tau, neuron.dt), write_gain(tau, neuron.dt, neuron.gain, "v2"), neuron.keeps(neuron.tau)
    sums = _sums(neuron, x, neuron.features + neuron.neurons * neuron.hears_itself)
    m, a, r, b = (start.get(name) for name in "marb")
    assert m is not None
    outputs: list[Tensor] = []
    strain = x.new_zeros(x.shape[1], neuron.neurons)
    for x_t in x.unbind(0):
        heard = x_t if masks.inputs is None else x_t * masks.inputs
        if a is not None:
            heard = torch.cat([heard, a if masks.activities is None else a * masks.activities], 1)
        branch = sums(heard)
        if b is not None and leak is not None:
            b = branch = leak * b + branch
        k = keeps * m
        z = mlp(torch.einsum("bnk,nhk->bnh", branch, neuron.branch_weight) + neuron.first_bias, k)
        if masks.updates is not None:
            z = z * masks.updates
        m = k + gain * squash(z)
        output, r = neuron.update(torch.einsum("bnm,nm->bn", m, neuron.readout_weight), r)
        outputs.append(output)
        if a is not None:
            a = output
        if effort:
            strain = strain + z.abs().sum(2)
    after = {"m": m, "a": a, "r": r, "b": b}
    return torch.stack(outputs), {name: value for name, value in after.items() if value is not None}, strain


def at_once(
    neuron: ELMPopulation, x: Tensor, start: State, masks: Masks, *, effort: bool = False
) -> tuple[Tensor, State, Tensor]:
    """Run a layer that does not hear itself, all steps at once but for the memory; as :func:`loop`."""
    heard = x if masks.inputs is None else x * masks.inputs
    branch = _sums(neuron, x, neuron.features)(heard)
    leak, keeps = neuron.keeps(neuron.tau), neuron.keeps(neuron.high_pass)
    after: State = {}
    if leak is not None:
        branch = filter_time(branch, branch.new_tensor(leak), start["b"])
        after["b"] = branch[-1]
    u = torch.einsum("tbnk,nhk->tbnh", branch, neuron.branch_weight) + neuron.first_bias
    tau = neuron.memory_tau()
    found = memory(
        u, start["m"], decay(tau, neuron.dt), write_gain(tau, neuron.dt, neuron.gain, "v2"), neuron.perceptron(),
        scale=masks.updates, outputs=effort,
    )  # fmt: skip
    memories, z = found if isinstance(found, tuple) else (found, None)
    y = torch.einsum("tbnm,nm->tbn", memories, neuron.readout_weight)
    r = None
    if keeps is not None:
        r = filter_time((1 - keeps) * y, y.new_tensor(keeps), start["r"])
        after["r"] = r[-1]
    strain = x.new_zeros(x.shape[1], neuron.neurons) if z is None else z.abs().sum((0, 3))
    return neuron.activated(y, r), {**after, "m": memories[-1]}, strain
