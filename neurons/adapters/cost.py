"""The operations of one update of a neuron of another library, counted on a small input while it runs."""

from __future__ import annotations

import copy
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from neurons.cost import _WIDTH, _Tally
from neurons.errors import StepError

if TYPE_CHECKING:
    from neurons.adapters.foreign import ForeignNeuron

_MOVES = {
    "stack", "cat", "slice", "select_scatter", "slice_scatter", "reshape", "transpose", "constant_pad_nd", "flip",
    "index", "index_put", "new_zeros", "new_empty_strided", "fill", "zero", "split", "split_with_sizes", "tensor_split",
    "is_same_size", "empty", "zeros", "ones", "arange", "_unsafe_view", "_reshape_alias", "as_strided", "unfold",
    "contiguous", "repeat", "full", "scalar_tensor", "lift",
}  # fmt: skip
_GATES = {"bitwise_and", "bitwise_or", "bitwise_not", "logical_and", "logical_or", "logical_not"}
_NORMS = {"native_batch_norm", "_native_batch_norm_legit_no_training"}
# Sizes that a layer of another library was made for, and how many axes of maps come behind them.
_SIZES = {
    "input_size": 0, "linear_features": 0, "in_features": 0, "num_node": 0, "out_pop_dim": 0, "in_dim": 0,
    "in_channels": 2, "conv2d_channels": 2,
}  # fmt: skip


class _ByValue(_Tally):
    """Counts operations for each value that comes out, so that a call over all time steps is worth as many."""

    def __init__(self, updates: int) -> None:
        super().__init__()
        self.updates = updates

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = Counter(self.counts)
        out = super().__torch_dispatch__(func, types, args, kwargs)
        new: dict[str, float] = dict(self.counts - before)
        self.counts = before
        result = out[0] if isinstance(out, (tuple, list)) and out else out
        if not isinstance(result, Tensor) or result.numel() == 0 or result.numel() % _WIDTH:
            return out  # of parameters alone: the batch is a prime that no parameter has
        share = result.numel() / self.updates
        name = func.overloadpacket.__name__.rstrip("_")
        if func.overloadpacket in flop_registry:
            products = flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out) / 2 / self.updates
            new = {"mul": products, "add": products}
        elif name in _NORMS:
            new = {"mul": share, "add": share}
        elif name in ("sum", "mean", "cumsum"):
            new = {"add": args[0].numel() / self.updates}
        elif name in _GATES:
            new = {"mux": share}
        else:
            new = {kind: n * share for kind, n in new.items() if kind.removeprefix("other:") not in _MOVES}
        for kind, count in new.items():
            self.counts[kind] += count  # type: ignore[assignment]
        return out


def counted_cost(neuron: ForeignNeuron) -> dict[str, float]:
    """Return the operations of one update by kind, see :func:`neurons.update_cost`.

    They are those that the library carries out in double precision, in which SpikingJelly takes its plain reference.
    Products with weights inside the neuron count as one ``mul`` and one ``add`` for each weight. Where an update costs
    more the more time steps there are, it is the update at T = 4. A neuron that does not run on an input made up for
    the purpose costs one ``other:uncounted``: never nothing.
    """
    steps = neuron.steps or (1 if neuron.streams else 4)
    probe = copy.deepcopy(neuron).cpu().double().eval()
    x = torch.zeros(steps, _WIDTH, *_sample_shape(probe.cell), dtype=torch.float64, device="cpu")
    try:
        with torch.no_grad(), _ByValue(x.numel()) as tally:
            type(probe).run(probe, x)  # not an attribute that was put in its place to watch the neuron
    except StepError:
        return {"other:uncounted": 1.0}
    return {kind: round(count, 6) for kind, count in tally.counts.items() if count}


def _sample_shape(cell: nn.Module) -> tuple[int, ...]:
    for module in cell.modules():
        for name, axes in _SIZES.items():
            size = getattr(module, name, None)
            if isinstance(size, int) and size > 0:
                return (size, *[8] * axes)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return (module.num_features, *[8] * (2 if isinstance(module, nn.BatchNorm2d) else 0))
    tensors = [*cell.parameters(recurse=False), *cell.buffers(recurse=False)]
    return next((tuple(value.shape) for value in tensors if value.dim() == 1 and value.numel() > 1), (1,))
