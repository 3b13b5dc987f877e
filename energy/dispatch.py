"""The counter that sees every operation torch dispatches, and knows which module called it."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from energy import products, updates
from energy.activity import Activity
from energy.arithmetic import BATCH_NORMS, FOLLOW, FREE, MAX_POOLS, SUMS, Work, pooled, work_of
from energy.inside import Inside
from energy.operands import Grid, Tags
from energy.tally import Tally
from neurons import Neuron
from neurons.errors import DataError

_OWN_KINDS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], str], ...] = (
    ((nn.Linear, nn.Bilinear), "linear"),
    (nn.modules.conv._ConvNd, "conv"),
    ((nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm), "norm"),
    ((nn.Softmax, nn.LogSoftmax), "softmax"),
    ((nn.Embedding, nn.EmbeddingBag), "embedding"),
    (
        (nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
         nn.modules.pooling._AdaptiveMaxPoolNd),
        "pool",
    ),
)  # fmt: skip
_WEIGHTED = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase)
# What these return is not real because their input was.
_DECIDES = frozenset(("sign", "round", "floor", "ceil", "trunc", "where"))


@dataclass
class Frame:
    """One running module."""

    path: str
    module: nn.Module
    own: str | None
    x: Tensor | None
    seen: int = 0
    names: Counts[str] = field(default_factory=Counts)


class Counter(TorchDispatchMode):
    """Counts the operations of a network, by module and by call, into a :class:`~energy.tally.Tally`.

    Parameters
    ----------
    network : nn.Module
        Its parameters and buffers are the weights; what is computed from them alone costs nothing per inference.
    by_step : bool
        Keep the counts of every time step, and follow the potentials of neurons.
    """

    def __init__(self, network: nn.Module, by_step: bool = False) -> None:
        super().__init__()
        self.tally = Tally()
        self.activity = Activity(by_step)
        self.tags = Tags()
        self.uncounted: Counts[str] = Counts()
        self.dtype = torch.get_default_dtype()
        self.T = self.B = 1
        # Held, so that no result comes to lie where a buffer was that its module has replaced by another (a state).
        self._held = [*network.parameters(), *network.buffers()]
        self._weights = {tensor.untyped_storage().data_ptr() for tensor in self._held} - {0}
        self._frames: list[Frame] = []
        self._depth = 0
        self._inner: Counts[str] | None = None
        self._inside: list[Inside] = []
        self.costs: dict[int, dict[str, float]] = {}
        self.leaks: dict[int, bool | None] = {}
        self.potentials: dict[str, Tensor] = {}
        self._entries: Counts[str] = Counts()
        self._functional: dict[tuple[str, str], list[str]] = {}
        self._zeros: dict[tuple[int, int], int] = {}
        self._forms: dict[str, tuple[str, int, int]] = {}

    def begin(self, T: int, B: int) -> None:
        """Start a batch of B samples over T time steps."""
        self.T, self.B = T, B
        self._frames, self._depth, self._inner, self._inside = [], 0, None, []
        for seen in (self.potentials, self._entries, self._functional, self._forms, self._zeros):
            seen.clear()

    def end(self) -> None:
        """End a batch."""
        names = self._loops()
        self.activity.close(names)
        if any(key != name for key, name in names.items()):
            self.tally.rename(names)

    def _loops(self) -> dict[str, str]:
        """Find functional calls in a loop over time: each becomes one layer that ran T steps."""
        names: dict[str, str] = {}
        for (path, _), keys in self._functional.items():
            each, left = divmod(len(keys), self.T)
            forms = [self._forms.get(key) for key in keys]
            alike = all(form is not None and form == forms[i % each] for i, form in enumerate(forms)) if each else False
            if self.T > 1 and not left and alike and self._entries[path] == 1 and all(f and f[1] == 1 for f in forms):
                names |= {key: keys[i % each] for i, key in enumerate(keys)}
        return names

    def layer(self, key: str, kind: str, *, steps: int, outputs: int, **values: Any) -> None:
        """Add one call of a layer to the tally."""
        self._forms[key] = (kind, steps, outputs)
        self.tally.layer(key, kind, steps=steps, outputs=outputs, **values)

    def weight_zeros(self, weight: Tensor) -> int:
        """Return how many of the distinct values of a weight are zero (looked at once for each batch)."""
        place = (weight.data_ptr(), weight.numel())
        known = self._zeros.get(place)
        if known is None:
            known = self._zeros[place] = products.distinct(weight) - int(torch.count_nonzero(weight))
        return max(known, 0)

    def buffer(self, x: Tensor) -> float:
        """Return how many values of a tensor are there at a time: one sample, one step."""
        return x.numel() / self.steps(x) / self.B

    # Modules ------------------------------------------------------------------------------------------------------

    def enter(self, path: str, module: nn.Module, x: Tensor | None) -> None:
        """Note that a module starts."""
        own = next((kind for classes, kind in _OWN_KINDS if isinstance(module, classes)), None)
        self._frames.append(Frame(path, module, own, x))
        self._entries[path] += 1

    def leave(self, path: str, module: nn.Module, x: Tensor | None, out: Any) -> None:
        """Note that a module ends.

        Raises
        ------
        DataError
            When it has weights and none of its products was seen.
        """
        frame = self._frames.pop()
        if isinstance(module, _WEIGHTED) and not frame.seen and not self._depth:
            raise DataError(
                f"layer {path or type(module).__name__!r} ({type(module).__name__}) ran but none of its products was "
                "seen by the counter; compute it with torch operations"
            )

    def key(self, kind: str, name: str, weight: Tensor | None = None) -> str:
        """Return the layer that an operation belongs to: the module itself, or one of its functional calls.

        Inside a neuron that is counted inside, products with the same ``weight`` are one layer.
        """
        frame = self._frames[-1] if self._frames else None
        if frame is None:
            return name
        if frame.own == kind and not frame.names[kind]:
            frame.names[kind] += 1
            return frame.path or kind
        if weight is not None and self._inside:
            return self._inside[-1].key(frame.path, name, weight, self._weights)
        frame.names[name] += 1
        key = f"{frame.path}.{name}-{frame.names[name]}".lstrip(".")
        self._functional.setdefault((frame.path, name), []).append(key)
        return key

    @property
    def inside(self) -> Inside | None:
        """The innermost running neuron that is counted inside."""
        return self._inside[-1] if self._inside else None

    @property
    def frame(self) -> Frame | None:
        """The innermost running module."""
        return self._frames[-1] if self._frames else None

    def steps(self, x: Tensor) -> int:
        """Return how many time steps a tensor holds, from its leading sizes: [T, B, ...], [T B, ...] or [B, ...]."""
        shape, T, B = x.shape, self.T, self.B
        if T == 1 or x.dim() == 0:
            return 1
        found = self._inside[-1].steps_of(shape, B) if self._inside else 0
        if found:
            return found
        if x.dim() > 1 and shape[0] in (1, T) and shape[1] == B:
            return int(shape[0])
        if shape[0] % (T * B) == 0:
            return T
        return 1 if shape[0] % B == 0 else T

    # Neurons ------------------------------------------------------------------------------------------------------

    def enter_neuron(self, path: str, module: nn.Module, x: Tensor | None) -> None:
        """Note that a neuron starts; nothing inside it is counted as a layer."""
        self._depth += 1
        if self._depth == 1:
            self._inner = None if isinstance(module, Neuron) else Counts()

    def leave_neuron(self, path: str, module: nn.Module, x: Tensor | None, out: Any) -> None:
        """Add the neuron's row when its outermost call ends."""
        if self._depth == 1 and x is not None:
            y = out[0] if isinstance(out, tuple) else out
            inner, self._inner = self._inner, None
            updates.add(self, path or "neuron", module, x, y, inner, out)
        self._depth -= 1

    def enter_inside(self, path: str, module: Neuron, x: Tensor | None) -> None:
        """Note that a neuron starts whose products are counted as layers; its ``forward`` may call its ``run``."""
        inside = self.inside
        if self._depth or x is None:
            self._depth += 1
        elif inside is not None and inside.path == path:
            inside.calls += 1
        else:
            self._inside.append(Inside.of(path, module, x))
            self.enter(path, module, x)

    def leave_inside(self, path: str, module: Neuron, x: Tensor | None, out: Any) -> None:
        """Add the neuron's row when its outermost call ends."""
        inside = self.inside
        if self._depth or x is None or inside is None:
            self._depth -= 1
            return
        inside.calls -= 1
        if not inside.calls:
            self._inside.pop()
            self.leave(path, module, x, out)
            self._depth += 1  # what the row asks of the neuron is no part of the network
            updates.add_inside(self, path, module, x, out[0] if isinstance(out, tuple) else out, inside.arithmetic)
            self._depth -= 1

    # Operations ---------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if self._depth:
            out = func(*args, **kwargs)
            if self._inner is not None:
                self._count_inner(name, args, out)
            return out
        inputs = list(_tensors((*args, *kwargs.values())))
        if not inputs:
            return func(*args, **kwargs)
        if name.endswith("_") and not name.endswith("__") and isinstance(args[0], Tensor):
            # The operand as it was before it is overwritten.
            before = args[0].clone()
            self.tags.follow(args[0], before)
            out = func(*args, **kwargs)
            args, name = (before, *args[1:]), name.rstrip("_")
            inputs[0] = before
        else:
            out = func(*args, **kwargs)
        self._see(name, func, args, kwargs, inputs, out)
        return out

    def origins(self, inputs: list[Tensor]) -> frozenset[str]:
        """Return the products and neurons that the values of some tensors come from."""
        return frozenset().union(*(self.tags.of(x).origins or () for x in inputs))

    def is_fixed(self, x: Tensor) -> bool:
        """Whether a tensor is a weight, or computed from weights alone."""
        return x.untyped_storage().data_ptr() in self._weights or self.tags.of(x).fixed

    def _see(self, name: str, func: Any, args: Any, kwargs: Any, inputs: list[Tensor], out: Any) -> None:
        constant = name == "lift_fresh" and bool(self._inside)  # what a neuron writes down as a number
        if constant or all(self.is_fixed(x) for x in inputs):
            for y in _tensors((out,)):
                self.tags.put(y, fixed=True)
            return
        if name in FOLLOW and len(inputs) == 1:
            for y in (out,) if isinstance(out, Tensor) else _tensors((out,)):
                self.tags.follow(inputs[0], y)
            return
        known = [origins for x in inputs if (origins := self.tags.of(x).origins)]
        if name in products.HANDLERS:
            products.HANDLERS[name](self, args, kwargs, out)
        elif name in FREE:
            self._follow(name, inputs, out)
            dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
            if name == "cat" and self._inside and dim in (-1, out.dim() - 1):
                self.tags.of(out).pieces = tuple(inputs)
        else:
            self._count_other(name, func, args, kwargs, inputs, out)
        origins = known[0] if len(known) == 1 else frozenset().union(*known)
        for y in _tensors((out,)):
            tag = self.tags.of(y)
            if tag.origins is None:
                tag.origins = origins

    def _follow(self, name: str, inputs: list[Tensor], out: Any) -> None:
        if name in FOLLOW:
            for y in _tensors((out,)):
                self.tags.follow(inputs[0], y)
        elif name in ("stack", "cat"):
            grids = {self.tags.of(x).grid for x in inputs}
            floors = {self.tags.of(x).floor for x in inputs}
            grid = grids.pop() if len(grids) == 1 else None
            self.tags.put(out, grid=grid, floor="real" if "real" in floors else None)

    def _count_other(self, name: str, func: Any, args: Any, kwargs: Any, inputs: list[Tensor], out: Any) -> None:
        work = work_of(name, args, out)
        results = list(_tensors((out,)))
        if work is None:
            if not results or any(y.is_floating_point() for y in results):
                self.uncounted[str(func.overloadpacket)] += results[0].numel() if results else 0
            return
        if name in ("add", "sub") and self._is_bias(inputs, results[0]):
            return
        inside = self.inside
        if inside is not None and work.kind in ("elementwise", "pool"):
            for op, count in work.counts.items():
                inside.arithmetic["mul" if op == "scale" else op] += count  # type: ignore[assignment]
            self._tag_result(name, args, inputs, results[0], kwargs.get("alpha", 1))
            return
        folded = name in BATCH_NORMS and self.tags.of(inputs[0]).product is not None
        key = self.key(work.kind, products.short_name(name))
        self._add_other(key, name, work, inputs, results[0], folded)
        self._tag_result(name, args, inputs, results[0], kwargs.get("alpha", 1))

    def _is_bias(self, inputs: list[Tensor], out: Tensor) -> bool:
        """Count the sum of a product and a weight as the bias of that product."""
        if len(inputs) != 2 or self.is_fixed(inputs[0]) == self.is_fixed(inputs[1]):
            return False
        value, bias = inputs if self.is_fixed(inputs[1]) else inputs[::-1]
        product = self.tags.of(value).product
        if product is None:
            return False
        products.add_bias(self, product, bias, out)
        self.tags.put(out, product=product)
        return True

    def _add_other(
        self, key: str, name: str, work: Work, inputs: list[Tensor], out: Tensor, folded: bool
    ) -> None:  # fmt: skip
        kind = work.kind
        x = inputs[0]
        module = type(self.frame.module).__name__ if self.frame else ""
        # How many activations a conventional network sends on (NeuroBench asks).
        sent = {"nonzero_outputs": float(torch.count_nonzero(out))} if name in ("relu", "sigmoid") else {}
        moving = [t for t in inputs if not self.is_fixed(t)]
        weights = {} if kind not in ("norm", "embedding") else products.weight_values(inputs, self)
        reduced = name in SUMS
        described = [self.tags.operand(t) for t in moving[:2]] if kind == "elementwise" or reduced else []
        operand = described[0].kind if described else "real"
        second = {"second_operand": described[1].kind, "second_bits": described[1].bits} if len(described) > 1 else {}
        bits = described[0].bits if described else x.element_size() * 8
        self.layer(
            key, kind, module=module, sources=self.origins(inputs), operand=operand, bits=bits,
            inputs=float(sum(t.numel() for t in moving)), outputs=out.numel(), folded=folded, steps=self.steps(x),
            **second, **weights, **sent,
        )  # fmt: skip
        if folded:
            return
        on_events = bool(described) and all(d.is_events for d in described)
        for op, count in work.counts.items():
            effective = float(count)
            # Sums of spikes: one addition for each event; products of spikes: coincidences.
            if on_events and op == "add" and (reduced or len(described) > 1):
                effective = sum(d.nonzero for d in described)
            elif on_events and len(described) > 1:
                effective = float(torch.count_nonzero(out))
            both = dict.fromkeys(("exact", "nominal", "fan_out", "kernel"), effective)
            self.tally.operation(key, op, operand=operand, bits=bits, dense=float(count), **both, **second)
        if kind == "embedding":
            self.tally.memory(
                key, "weight", "read", "dense", out.numel(), out.element_size() * 8, weights.get("weights", 0)
            )

    def _tag_result(self, name: str, args: Any, inputs: list[Tensor], out: Tensor, alpha: float) -> None:
        first = self.tags.of(inputs[0])
        grids = [self.tags.of(t).grid for t in inputs]
        floors = {self.tags.of(t).floor for t in inputs}
        floor = "real" if "real" in floors and name not in _DECIDES and out.is_floating_point() else None
        grid: Grid | None = None
        constant = next((a for a in args if isinstance(a, (int, float)) and not isinstance(a, bool)), None)
        window = pooled(name, args)
        if name in MAX_POOLS:
            grid = first.grid
        elif window:
            of = first.grid or products.own_grid(self.tags.operand(inputs[0]))
            if of is not None and of.kind == "spikes":
                # The mean of a window of spikes is their sum, scaled: the weights behind it can take the scale in.
                grid = Grid(of.step / window, of.top * window, "spikes")
        elif name == "sum" and first.grid is not None:
            terms = max(1, inputs[0].numel() // max(1, out.numel()))
            grid = Grid(first.grid.step, first.grid.top * terms, first.grid.kind)
        elif name in ("mul", "div") and len(inputs) == 1 and first.grid is not None and constant:
            grid = first.grid.scaled(constant if name == "mul" else 1 / constant)
        elif len(grids) == 2 and grids[0] is not None and grids[1] is not None:
            if name in ("add", "sub") and alpha == 1:
                grid = grids[0].plus(grids[1])
            elif name == "mul":
                grid = grids[0].times(grids[1])
        self.tags.put(out, grid=grid, floor=floor)

    def _count_inner(self, name: str, args: Any, out: Any) -> None:
        """Add an operation inside a foreign neuron to its arithmetic."""
        name = name.rstrip("_") if not name.startswith("_") else name
        if name in FREE or not isinstance(out, Tensor) or out.dim() == 0:
            return
        work = work_of(name, args, out)
        if work is None:
            self._inner[f"other:{name}"] += out.numel()  # type: ignore[index]
            return
        for op, count in work.counts.items():
            self._inner["mul" if op == "scale" else op] += int(count)  # type: ignore[index]


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
