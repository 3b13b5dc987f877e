"""A network as a NIR graph."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurons import Neuron
from neurons.adapters.nir import DT, NIRError, package, to_node
from neurons.errors import OptionError, StepError
from step.exchange.from_nir import NIRNetwork
from step.exchange.walk import Layer, follow
from step.machine import installed
from step.models.layers import MaxPool

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def to_nir(
    network: nn.Module, shape: Sequence[int] | None = None, *, dt: float = DT, soft_reset_in_metadata: bool = False
) -> Any:
    """Return a network as a ``nir.NIRGraph``: a chain of linear, convolution, pooling, flatten and neuron nodes.

    Batch norms are folded into the layer before them, with their running statistics, and the node says so in its
    metadata. The network runs once on zeros to learn its layers and their shapes; it is not changed.

    Parameters
    ----------
    network : nn.Module
        Takes [T, B, ...].
    shape : sequence of int, optional
        One time step of one sample; left out for networks that know the size of their images.
    dt : float
        Seconds of a time step; NIR has continuous time.
    soft_reset_in_metadata : bool
        Whether neurons with a soft reset are exported, with a note that only STEP reads.

    Raises
    ------
    NIRError
        Naming the first layer that NIR cannot express.
    """
    nir = package()
    if not 0 < dt < math.inf:
        raise OptionError(f"dt is the length of a time step in seconds, positive and finite, not {dt}")
    shape = _shape(network) if shape is None else tuple(shape)
    graph = _Graph(nir, shape, dt, soft_reset_in_metadata)
    try:
        # What came from NIR goes back under the names of its nodes.
        follow(network.layers if isinstance(network, NIRNetwork) else network, shape, graph.add)
    except StepError as error:
        raise NIRError(f"this {_name(network)} cannot be said in NIR: {error}") from None
    return graph.close(_name(network))


def write_nir(
    network: nn.Module,
    path: str | Path,
    shape: Sequence[int] | None = None,
    *,
    dt: float = DT,
    soft_reset_in_metadata: bool = False,
) -> Any:
    """Write a network as a NIR file, and return the graph; a reader never sees half a file. See :func:`to_nir`."""
    nir, path = package(), Path(path)
    graph = to_nir(network, shape, dt=dt, soft_reset_in_metadata=soft_reset_in_metadata)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise NIRError(f"{path} cannot be written: {error.strerror}") from None
    try:
        nir.write(temporary, graph)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only their owner reads
        os.replace(temporary, path)
    except OSError as error:
        os.unlink(temporary)
        raise NIRError(f"{path} cannot be written: {error.strerror or error}") from None
    except BaseException:
        os.unlink(temporary)
        raise
    return graph


class _Graph:
    """The nodes so far; each is read by the next."""

    def __init__(self, nir: Any, shape: tuple[int, ...], dt: float, soft: bool) -> None:
        self.nir, self.dt, self.soft = nir, dt, soft
        self.before = self.after = shape
        self.nodes: dict[str, Any] = {}
        self.weighted: Layer | None = None

    def add(self, layer: Layer) -> None:
        """Add the node of a layer."""
        module = layer.module
        if isinstance(module, _NORMS):
            self.fold(layer)
            return
        self.weighted = None
        if self.after != layer.before:
            self.flatten(layer)
        try:
            node = self.node(layer)
        except NIRError as error:
            raise NIRError(f"layer {layer.path!r}: {error}") from None
        self.put(layer.path, node)
        self.after = layer.after
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            self.weighted = layer

    def node(self, layer: Layer) -> Any:
        """Return the node of one layer."""
        module = layer.module
        if isinstance(module, Neuron):
            return to_node(module, layer.before, self.dt, soft_reset_in_metadata=self.soft)
        if isinstance(module, (MaxPool, nn.MaxPool1d, nn.MaxPool2d)):
            raise NIRError("NIR has no maximum pooling; use an average (cnn: pool: average)")
        for kind, make in _MAKERS.items():
            if isinstance(module, kind):
                return make(self.nir, module, layer)
        raise NIRError(f"NIR has no node for {type(module).__name__}")

    def put(self, path: str, node: Any) -> None:
        """Add a node under a name made of its path."""
        kind = type(node).__name__.lower()
        name = path.removesuffix(".layer").replace(".", "_")  # "layer" is what Folded calls what it folds
        # Readers make attributes of the names: no digit in front, none of the names that they use themselves.
        name = f"{kind}_{name}" if name[:1].isdigit() or name in ("input", "output") else name or kind
        while name in self.nodes:  # a layer without weights that is used twice
            name += "_again"
        self.nodes[name] = node

    def flatten(self, layer: Layer) -> None:
        """Say a flattening that the network does between two layers."""
        if layer.before != (math.prod(self.after),):
            raise NIRError(
                f"layer {layer.path!r} reads {list(layer.before)} from {list(self.after)}, and of all changes of shape "
                "NIR knows only flattening"
            )
        self.put(f"flatten_{layer.path}", _flatten(self.nir, self.after))

    def fold(self, layer: Layer) -> None:
        """Fold a batch norm into the layer before it: y = scale (W x + b - mean) + shift."""
        norm: Any = layer.module
        if self.weighted is None:
            raise NIRError(
                f"layer {layer.path!r}: a norm that follows no convolution or linear layer has no node in NIR"
            )
        if norm.running_mean is None:
            raise NIRError(f"layer {layer.path!r}: a norm without running statistics depends on its batch")
        name, node = self.nodes.popitem()
        scale = 1 / torch.sqrt(norm.running_var.double() + norm.eps)
        shift = torch.zeros_like(scale)
        if norm.affine:
            scale, shift = scale * norm.weight.detach().double(), norm.bias.detach().double()
        weight, factor = node.weight, scale.cpu().numpy()
        bias = np.asarray(getattr(node, "bias", 0.0), np.float64) - norm.running_mean.double().cpu().numpy()
        node.weight = (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(weight.dtype)
        bias = (bias * factor + shift.cpu().numpy()).astype(weight.dtype)
        if isinstance(node, self.nir.Linear):
            node = self.nir.Affine(weight=node.weight, bias=bias)
        node.bias = bias
        node.metadata = {"platform": "step", "folded": layer.path, "folded_kind": type(norm).__name__}
        self.nodes[name] = node
        self.weighted = None

    def close(self, name: str) -> Any:
        """Return the graph."""
        nodes = {
            "input": self.nir.Input(input_type=np.array(self.before)),
            **self.nodes,
            "output": self.nir.Output(output_type=np.array(self.after)),
        }
        names = list(nodes)
        metadata = {
            "platform": "step", "version": installed("step-snn") or "unknown", "network": name, "dt": self.dt,
            "discretisation": "euler",
        }  # fmt: skip
        try:
            return self.nir.NIRGraph(nodes, list(pairwise(names)), metadata=metadata)
        except ValueError as error:
            raise NIRError(f"the package nir refuses the graph: {error}") from None


def _linear(nir: Any, module: nn.Linear, layer: Layer) -> Any:
    if len(layer.before) != 1:
        raise NIRError(
            f"it treats the positions of {list(layer.before)} alike, and the linear node of NIR takes a vector"
        )
    if module.bias is None:
        return nir.Linear(weight=_numpy(module.weight))
    return nir.Affine(weight=_numpy(module.weight), bias=_numpy(module.bias))


def _conv(nir: Any, module: Any, layer: Layer) -> Any:
    if module.padding_mode != "zeros":
        raise NIRError(f"NIR pads with zeros only, not {module.padding_mode!r}")
    if module.groups != 1:
        raise NIRError("the package nir takes no convolutions in groups")
    if len(set(module.kernel_size)) > 1:
        raise NIRError(f"the package nir takes square kernels only, not {list(module.kernel_size)}")
    flat = isinstance(module, nn.Conv1d)
    weight = _numpy(module.weight)
    return (nir.Conv1d if flat else nir.Conv2d)(
        input_shape=layer.before[1] if flat else tuple(layer.before[1:]),
        weight=weight,
        stride=module.stride[0] if flat else module.stride,
        padding=module.padding if isinstance(module.padding, str) else module.padding[0] if flat else module.padding,
        dilation=module.dilation[0] if flat else module.dilation,
        groups=module.groups,
        bias=np.zeros(len(weight), weight.dtype) if module.bias is None else _numpy(module.bias),
    )


def _pool(nir: Any, module: nn.AvgPool2d, layer: Layer) -> Any:
    kernel, stride, padding = (_pair(value) for value in (module.kernel_size, module.stride, module.padding))
    if module.ceil_mode or (padding.any() and not module.count_include_pad):
        raise NIRError("NIR has no pooling with ceil_mode, or that leaves the padding out of the average")
    if module.divisor_override not in (None, 1):
        raise NIRError(f"NIR has no pooling that divides by {module.divisor_override}")
    node = nir.AvgPool2d if module.divisor_override is None else nir.SumPool2d
    return node(kernel_size=kernel, stride=stride, padding=padding)


def _flatten(nir: Any, before: tuple[int, ...]) -> Any:
    return nir.Flatten(input_type={"input": np.array(before)}, start_dim=0, end_dim=-1)


def _flatten_layer(nir: Any, module: nn.Flatten, layer: Layer) -> Any:
    if layer.after != (math.prod(layer.before),):
        raise NIRError(f"it makes {list(layer.after)} of {list(layer.before)}; only whole samples can be flattened")
    return _flatten(nir, layer.before)


_MAKERS: dict[Any, Callable[[Any, Any, Layer], Any]] = {
    nn.Linear: _linear, nn.Conv1d: _conv, nn.Conv2d: _conv, nn.AvgPool2d: _pool, nn.Flatten: _flatten_layer,
}  # fmt: skip


def _numpy(value: Tensor) -> Any:
    return value.detach().cpu().float().contiguous().numpy().copy()


def _pair(value: Any) -> Any:
    return np.array(value if isinstance(value, (tuple, list)) else (value, value))


def _name(network: nn.Module) -> str:
    return str(getattr(network, "registered_name", type(network).__name__))


def _shape(network: nn.Module) -> tuple[int, ...]:
    config: Any = getattr(network, "config", None)
    if hasattr(config, "input_shape"):
        return tuple(config.input_shape)
    if hasattr(config, "image_size") and hasattr(config, "channels"):
        return (config.channels, config.image_size, config.image_size)
    raise OptionError(f"{_name(network)} does not know the shape of its samples; give shape, for example (1, 28, 28)")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
