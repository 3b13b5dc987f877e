"""Synapses with weights of their own, gathered from an input and summed by branch: what a dendrite does first."""

from __future__ import annotations

import torch
from torch import Tensor

from neurons.errors import ShapeError

_library = torch.library.Library("step", "FRAGMENT")
_library.define("synapse_sums(Tensor x, Tensor weight, Tensor? index, Tensor? mask) -> Tensor")


def synapse_sums(x: Tensor, weight: Tensor, index: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """Return the sum of weighted inputs of every branch: out[..., k] = sum_j weight[k, j] x[..., index[k, j]].

    It is worked out as one product with the matrix that the synapses amount to. The energy models count the synapses
    themselves: an input that is not zero costs one operation at each synapse that it feeds, an accumulate where the
    input is made of spikes.

    Parameters
    ----------
    x : Tensor, shape [..., inputs]
    weight : Tensor, shape [branches, synapses]
        Effective weight of every synapse.
    index : Tensor of int64, as many values as ``weight``, optional
        Input that each synapse hears; when left out the branches take the inputs in order, one each.
    mask : Tensor, as many values as ``weight``, optional
        0 or False where a branch has no synapse.

    Returns
    -------
    Tensor, shape [..., branches]

    Raises
    ------
    ShapeError
        When weight, index and mask differ in size, or without an index the synapses are not as many as the inputs.
    """
    for name, given in (("index", index), ("mask", mask)):
        if given is not None and given.numel() != weight.numel():
            raise ShapeError(
                f"the {name} of synapses has a value for each weight {list(weight.shape)}, and is {list(given.shape)}"
            )
    if weight.dim() != 2 or (index is None and weight.numel() != x.shape[-1]):
        raise ShapeError(
            f"the weight of synapses is [branches, synapses], one synapse for each of the {x.shape[-1]} inputs where "
            f"there is no index, not {list(weight.shape)}"
        )
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or torch._C._len_torch_dispatch_stack() == 0:
        return _sums(x, weight, index, mask)
    # One operator for whoever looks on.
    return torch.ops.step.synapse_sums.default(x, weight, index, mask)  # type: ignore[no-any-return]


def fan_out(inputs: int, weight: Tensor, index: Tensor | None, mask: Tensor | None) -> Tensor:
    """Return how many synapses every input feeds, int64 [inputs]."""
    reached = torch.arange(inputs, device=weight.device) if index is None else index.flatten()
    if mask is not None:
        reached = reached[mask.flatten() != 0]
    return torch.bincount(reached, minlength=inputs)


def _sums(x: Tensor, weight: Tensor, index: Tensor | None, mask: Tensor | None) -> Tensor:
    branches, synapses = weight.shape
    if mask is not None:
        weight = weight * mask.view_as(weight).to(weight.dtype)
    to = torch.arange(branches, device=weight.device).repeat_interleave(synapses)
    at = torch.arange(x.shape[-1], device=weight.device) if index is None else index.flatten()
    matrix = weight.new_zeros(x.shape[-1], branches).index_put((at, to), weight.flatten(), accumulate=True)
    return x @ matrix


_library.impl("synapse_sums", _sums, "CompositeExplicitAutograd")
