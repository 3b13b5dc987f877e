"""A NIR graph as a network."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from neurons import Neuron, NeuronFactory, factory
from neurons.adapters.nir import DT, NIRError, from_node, package
from neurons.errors import OptionError, ShapeError, StepError
from step.models.base import Network, NetworkConfig
from step.models.layers import Folded


class NIRConfig(NetworkConfig):
    """What a network read from NIR says of itself."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dt: float = Field(gt=0)
    """Seconds of a time step."""


class NIRNetwork(Network):
    """A network read from a NIR graph: ``layers`` holds its nodes, by their names.

    It is trained, measured, streamed and compared with twins like any other; its time constants stay as they are.

    Parameters
    ----------
    config : NIRConfig
    layers : nn.Sequential
    notes : sequence of str
        What a user should know of the file.
    """

    Config = NIRConfig
    config: NIRConfig

    def __init__(self, config: NIRConfig, layers: nn.Sequential, notes: Sequence[str] = ()) -> None:
        super().__init__(config, factory("lif"))  # no layer is made by it: every node says its own neuron
        self.layers = layers
        self.notes = list(notes)

    def forward(self, x: Tensor) -> Tensor:
        """Map [T, B, *input_shape] to [T, B, *output_shape]; a network of vectors flattens its samples."""
        shape = self.config.input_shape
        if x.dim() > 3 and shape == (math.prod(x.shape[2:]),):
            x = x.flatten(2)
        if tuple(x.shape[2:]) != shape or x.dim() < 3:
            raise ShapeError(f"this network takes [T, B, {', '.join(map(str, shape))}], not {list(x.shape)}")
        return self.layers(x)

    def twin(self, neuron: str | Mapping[str, Any] | NeuronFactory) -> Self:
        """Return the same network with other spiking neurons; a conventional twin has no leaky integrators."""
        make = factory(neuron)
        twin = copy.deepcopy(self)
        for name, layer in twin.layers.named_children():
            if isinstance(layer, Neuron) and layer.output != "real":
                twin.layers._modules[name] = make()
            elif isinstance(layer, Neuron) and make.conventional:
                twin.layers._modules[name] = nn.Identity()
        reference = next(self.parameters(), None)
        if reference is not None:
            twin.to(device=reference.device, dtype=reference.dtype)
        return twin.train(self.training)


def read_nir(source: Any, *, dt: float | None = None, surrogate: str | Mapping[str, Any] = "arctan") -> NIRNetwork:
    """Return a NIR graph as a network.

    Read are chains of Linear, Affine, Conv1d, Conv2d, AvgPool2d, SumPool2d, Flatten, IF, LIF, LI and CubaLIF.

    Parameters
    ----------
    source : path or nir.NIRGraph
    dt : float, optional
        Seconds of a time step; what the metadata say, or 0.1 ms, when left out.
    surrogate : str or mapping
        Surrogate of neurons whose metadata name none.

    Raises
    ------
    NIRError
        With the node that cannot be read, and why.
    """
    nir = package()
    graph = _load(nir, source) if isinstance(source, (str, Path)) else source
    if not isinstance(graph, nir.NIRGraph):
        raise NIRError(f"a {type(graph).__name__} is no NIR graph")
    notes: list[str] = []
    dt = _time_step(graph, dt, notes)
    order = _chain(nir, graph)
    shape = _start(graph, order)
    layers = nn.Sequential()
    value = torch.zeros(1, 1, *shape)
    for name in order[1:-1]:
        node = graph.nodes[name]
        try:
            layer, said = _layer(node, dt, surrogate, tuple(value.shape[2:]))
            notes += [f"node {name!r}: {note}" for note in said]
            with torch.no_grad():
                value = layer(value)
        except StepError as error:
            raise NIRError(f"node {name!r}: {error}") from None
        except (RuntimeError, ValueError, TypeError) as error:
            raise NIRError(f"node {name!r} ({type(node).__name__}): {' '.join(str(error).split())}") from None
        layers.add_module(_attribute(layers, name), layer)
    config = NIRConfig(input_shape=shape, output_shape=tuple(value.shape[2:]), dt=dt)
    return NIRNetwork(config, layers, notes)


def _load(nir: Any, path: str | Path) -> Any:
    if not Path(path).is_file():
        raise NIRError(f"{path} does not exist")
    try:
        return nir.read(path, type_check=False)  # shapes are checked layer by layer below
    except Exception as error:  # h5py and nir raise anything on a file that is not theirs
        raise NIRError(f"{path} is not a NIR file that this version of nir reads: {_short(error)}") from None


def _time_step(graph: Any, dt: float | None, notes: list[str]) -> float:
    places = [graph, *graph.nodes.values()]
    said = {float(place.metadata["dt"]) for place in places if "dt" in (place.metadata or {})}
    if dt is not None:
        if not 0 < dt < math.inf:
            raise OptionError(f"dt is the length of a time step in seconds, positive and finite, not {dt}")
        if said - {dt}:
            notes.append(f"read with time steps of {dt:g} s, but the file was made for {min(said):g} s")
        return dt
    if len(said) > 1:
        raise NIRError(f"its nodes were made for different time steps, {sorted(said)} s: say which with dt")
    if not said:
        notes.append(f"the file does not say its time step: {DT:g} s are assumed")
    return said.pop() if said else DT


def _chain(nir: Any, graph: Any) -> list[str]:
    """Return the names of the nodes from the input to the output."""
    inputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    outputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Output)]
    if len(inputs) != 1 or len(outputs) != 1:
        raise NIRError(f"it has {len(inputs)} inputs and {len(outputs)} outputs; networks with one of each are read")
    edges = sorted({(str(a), str(b)) for a, b in graph.edges})
    unknown = {name for edge in edges for name in edge} - set(graph.nodes)
    if unknown:
        raise NIRError(f"its edges name nodes that it does not have: {', '.join(sorted(unknown))}")
    after: dict[str, list[str]] = {name: [b for a, b in edges if a == name] for name in graph.nodes}
    before: dict[str, list[str]] = {name: [a for a, b in edges if b == name] for name in graph.nodes}
    for name in graph.nodes:
        for neighbours, verb in ((before[name], "reads"), (after[name], "is read by")):
            if len(neighbours) > 1:
                raise NIRError(
                    f"node {name!r} {verb} {' and '.join(map(repr, neighbours))}: graphs that branch or go round in a "
                    "circle are not read, only chains"
                )
    order = [inputs[0]]
    while after[order[-1]] and len(order) < len(graph.nodes):
        order.append(after[order[-1]][0])
    if order[-1] != outputs[0] or len(order) != len(graph.nodes):
        apart = ", ".join(repr(name) for name in sorted(set(graph.nodes) - set(order)))
        raise NIRError(f"its nodes form no chain from {inputs[0]!r} to {outputs[0]!r}; beside the way: {apart}")
    return order


def _start(graph: Any, order: list[str]) -> tuple[int, ...]:
    """Return the shape of one time step of one sample."""
    found = graph.nodes[order[0]].input_type["input"]
    if found is None:
        raise NIRError("its input node has no shape")
    return tuple(int(n) for n in np.atleast_1d(found))


def _layer(
    node: Any, dt: float, surrogate: str | Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[nn.Module, list[str]]:
    """Return the layer of a node that reads samples of a shape, and what its user should know."""
    kind = type(node).__name__
    if kind in _LAYERS:
        return _LAYERS[kind](node, shape), []
    if kind == "NIRGraph":
        raise NIRError("graphs inside graphs (recurrent layers) are not read")
    if kind not in ("IF", "LIF", "LI", "CubaLIF"):
        raise NIRError(f"nodes {kind} are not read; {', '.join([*_LAYERS, 'IF', 'LIF', 'LI and CubaLIF'])} are")
    neuron, notes = from_node(node, dt, surrogate=surrogate)
    own = np.shape(node.r)
    if math.prod(own) != 1 and tuple(own) != shape:
        raise NIRError(f"its parameters are of the shape {list(own)}, but what it reads is {list(shape)}")
    return neuron, notes


def _linear(node: Any, shape: tuple[int, ...]) -> nn.Module:
    weight, bias = node.weight, getattr(node, "bias", None)
    if np.ndim(weight) != 2:
        raise NIRError(f"its weight has {np.ndim(weight)} axes instead of 2")
    if shape != (weight.shape[1],):
        raise NIRError(f"it takes a vector of {weight.shape[1]}, but what it reads is {list(shape)}")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return Folded(_filled(layer, weight, bias))


def _conv(node: Any, shape: tuple[int, ...]) -> nn.Module:
    weight = np.asarray(node.weight)
    flat = weight.ndim == 3
    groups = int(node.groups)
    make: Any = nn.Conv1d if flat else nn.Conv2d
    layer = make(
        weight.shape[1] * groups, weight.shape[0], weight.shape[2:], stride=_tuple(node.stride),
        padding=_tuple(node.padding), dilation=_tuple(node.dilation), groups=groups, bias=bool(np.any(node.bias)),
    )  # fmt: skip
    if len(shape) != weight.ndim - 1:
        raise NIRError(f"it takes {weight.ndim - 1} axes, but what it reads is {list(shape)}")
    return Folded(_filled(layer, weight, node.bias))


def _pool(node: Any, shape: tuple[int, ...]) -> nn.Module:
    divisor = 1 if type(node).__name__ == "SumPool2d" else None
    kernel, stride, padding = (_tuple(value) for value in (node.kernel_size, node.stride, node.padding))
    return Folded(nn.AvgPool2d(kernel, stride, padding, divisor_override=divisor))


def _flatten(node: Any, shape: tuple[int, ...]) -> nn.Module:
    start, end = int(node.start_dim), int(node.end_dim)
    return nn.Flatten(start + 2 if start >= 0 else start, end + 2 if end >= 0 else end)


_LAYERS: dict[str, Callable[[Any, tuple[int, ...]], nn.Module]] = {
    "Linear": _linear, "Affine": _linear, "Conv1d": _conv, "Conv2d": _conv, "AvgPool2d": _pool, "SumPool2d": _pool,
    "Flatten": _flatten,
}  # fmt: skip


def _filled(layer: Any, weight: Any, bias: Any) -> nn.Module:
    layer.weight.data.copy_(torch.as_tensor(np.array(weight)))
    if layer.bias is not None:
        layer.bias.data.copy_(torch.as_tensor(np.array(bias)))
    return layer  # type: ignore[no-any-return]


def _tuple(value: Any) -> Any:
    if isinstance(value, (str, bytes)):
        return value.decode() if isinstance(value, bytes) else value
    numbers = tuple(int(n) for n in np.atleast_1d(value))
    return numbers[0] if len(numbers) == 1 else numbers


def _attribute(layers: nn.Sequential, name: str) -> str:
    """Return a name under which a module can be kept."""
    name = name.replace(".", "_") or "layer"
    while hasattr(layers, name):
        name += "_"
    return name


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
