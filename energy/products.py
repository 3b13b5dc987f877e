"""Counting of products: convolutions, linear layers, and matrix products of two activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from energy.geometry import Geometry, spread
from energy.operands import Grid, Operand, components
from energy.schema import OPERANDS
from neurons import synapses

if TYPE_CHECKING:
    from energy.dispatch import Counter

Counts = dict[str, float]
_NAN = float("nan")


def _convolution(counter: Counter, args: Any, kwargs: Any, out: Tensor) -> None:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = args[:9]
    n = weight.dim() - 2
    if x.dim() == n + 1:  # a single sample without a batch
        x, batched = x.unsqueeze(0), out.unsqueeze(0)
    else:
        batched = out
    outputs = weight.shape[1] if transposed else weight.shape[0] // groups
    geometry = Geometry(
        tuple(x.shape[2:]), tuple(batched.shape[2:]), tuple(weight.shape[2:]),
        spread(stride, n), spread(padding, n), spread(dilation, n), outputs, bool(transposed),
    )  # fmt: skip
    operand = counter.tags.operand(x)
    channels = x.shape[0] * x.shape[1]
    parts = components(x, operand)
    # One binary map serves all three counts, and is summed over the batch only once.
    maps = {id(part): part.sum((0, 1)) for part in parts.values()}
    exact = {name: geometry.exact_fan_out(maps[id(part)]) for name, part in parts.items()}
    nominal = geometry.nominal_fan_out
    counts = {
        "dense": channels * geometry.dense_fan_out,
        "dense_nominal": nominal * x.numel(),
        "exact": exact["nonzero"],
        "nominal": nominal * operand.nonzero,
        "fan_out": geometry.stride_fan_out * operand.nonzero,
        "kernel": geometry.kernel_fan_out * operand.nonzero,
        **_weighted(operand, nominal, exact.get("magnitude"), exact.get("popcount")),
    }
    out_channels = outputs * groups if transposed else weight.shape[0]
    key = counter.key("conv", "conv")
    counts["sparse"] = counts["exact"]
    if counter.weight_zeros(weight):
        taken = parts["nonzero"].sum(0, keepdim=True).double()
        counts["sparse"] = float(torch.ops.aten.convolution(taken, weight.ne(0).double(), None, *args[3:9]).sum())
    steps = _time(counter, x, x)
    _follow_time(counter, key, x, operand, lambda: parts, steps, 1)
    if counter.activity.by_step:
        each = [geometry.exact_fan_out(part.sum((0, 1))) for part in _steps(parts["nonzero"], steps)]
        _add_steps(counter, key, parts, each, out, steps)
    _add_weighted(
        counter, key, "conv", x, operand, weight, out, counts,
        in_channels=x.shape[1], out_channels=out_channels, groups=groups, kernel_size=_times(geometry.kernel),
        stride=_times(geometry.stride), padding=_times(geometry.padding), dilation=_times(geometry.dilation),
    )  # fmt: skip
    if bias is not None:
        add_bias(counter, key, bias, out)


def _weighted(operand: Operand, fan_out: float, magnitude: float | None, popcount: float | None) -> Counts:
    """Counts with integers unrolled into unary events, or into one-bits; undefined for real values."""
    events = operand.is_events
    return {
        "events_exact": magnitude if events and magnitude is not None else _NAN,
        "events_nominal": operand.magnitude * fan_out if events else _NAN,
        "planes_exact": popcount if popcount is not None else _NAN,
        "planes_nominal": operand.popcount * fan_out,
    }


def _matrix(counter: Counter, a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None = None) -> None:
    """Count a b with a [..., m, k], b [..., k, n]; a bias is what is added to the product."""
    if counter.is_fixed(a) or counter.is_fixed(b):
        left = counter.is_fixed(a)
        x, weight = (b, a) if left else (a, b)
        fan_out = a.shape[-2] if left else b.shape[-1]
        grouped = counter.inside is not None and weight.dim() == 3 and weight.shape[0] > 1 and weight.stride(0) != 0
        if grouped:
            # Neurons with weights of their own side by side: [neurons, rows, k] to [rows, neurons, k].
            whole, x = x, x.permute(2, 0, 1) if left else x.transpose(0, 1)
            counter.tags.follow(whole, x)
        operand = counter.tags.operand(x)
        nonzero = operand.nonzero * fan_out
        dense = float(x.numel() * fan_out)
        counts = {
            "dense": dense, "dense_nominal": dense, **dict.fromkeys(("exact", "nominal", "fan_out", "kernel"), nonzero),
            **_weighted(operand, fan_out, operand.magnitude * fan_out, operand.popcount * fan_out),
        }  # fmt: skip
        key = counter.key("linear", "linear", weight)
        side = -2 if left and not grouped else -1
        groups = weight.shape[0] if grouped else 1
        channels = {"in_channels": x.shape[side] * groups, "out_channels": fan_out * groups}
        if grouped:
            channels["groups"] = groups
        parts = cache(lambda: components(x, operand, bits=False))  # several layers may read one tensor
        counts["sparse"] = nonzero
        if counter.weight_zeros(weight):
            others = [d for d in range(x.dim()) if d != x.dim() + side] if not grouped else [0]
            met = weight.ne(0).double().sum(-2 if left else -1)
            fits = met.dim() == 1 or grouped
            counts["sparse"] = float((parts()["nonzero"].double().sum(others) * met).sum()) if fits else _NAN
        steps = _time(counter, x, _whole(counter, x))
        _follow_time(counter, key, x, operand, parts, steps, None if left or grouped else -1)
        if counter.activity.by_step:
            each = [float(part.sum()) * fan_out for part in _steps(parts()["nonzero"], steps)]
            _add_steps(counter, key, parts(), each, out, steps)
        _add_weighted(counter, key, "linear", x, operand, weight, out, counts, **channels)
    else:
        key = counter.key("matmul", "matmul")
        _add_activations(counter, key, a, b, out)
    if bias is not None:
        if counter.is_fixed(bias):
            add_bias(counter, key, bias, out)
        else:
            counter.tally.operation(key, "add", operand="real", bits=out.element_size() * 8, dense=float(out.numel()))


def _synapses(counter: Counter, args: Any, kwargs: Any, out: Tensor) -> None:
    """Count synapses that gather their inputs: one operation for each, effective where its input is not zero.

    Inputs and activities that were put side by side keep classes of their own: a spike is added, whatever lies next to
    it.
    """
    given: tuple[Any, ...] = (*args, None, None)
    x, weight, index, mask = given[:4]
    alive = weight.ne(0) if mask is None else weight.ne(0) & mask.view_as(weight).ne(0)
    reached, kept = (synapses.fan_out(x.shape[-1], weight, index, each).double() for each in (mask, alive))
    present, bits, steps = int(reached.sum()), _weight_bits(counter, weight), _time(counter, x, _whole(counter, x))
    key, pieces = counter.key("synapses", "synapses", weight), counter.tags.of(x).pieces or (x,)
    operands = [counter.tags.operand(piece) for piece in pieces]
    merged = operands[0] if len(operands) == 1 else _merged(operands)
    _add_layer(
        counter, key, "linear", x, merged, out, weights=present, weight_nonzero=int(kept.sum()), weight_bits=bits,
        sources=counter.origins([x]), in_channels=x.shape[-1], out_channels=weight.shape[0],
    )  # fmt: skip
    each: list[Any] = [0.0] * steps
    sums = dict.fromkeys(("dense", "exact"), 0.0)
    widths = [piece.shape[-1] for piece in pieces]
    for piece, operand, fed, met in zip(pieces, operands, reached.split(widths), kept.split(widths), strict=True):
        parts = components(piece, operand)
        taken = {id(part): part.reshape(-1, piece.shape[-1]).double().sum(0) for part in parts.values()}
        found = {name: float((taken[id(part)] * fed).sum()) for name, part in parts.items()}
        mean = float(fed.sum()) / piece.shape[-1]
        dense = piece.numel() * mean
        counts = {
            "dense": dense, "dense_nominal": dense, "nominal": operand.nonzero * mean,
            **dict.fromkeys(("exact", "fan_out", "kernel"), found["nonzero"]),
            "sparse": float((taken[id(parts["nonzero"])] * met).sum()),
            **_weighted(operand, mean, found.get("magnitude"), found.get("popcount")),
        }  # fmt: skip
        counter.tally.operation(key, "mac", operand=operand.kind, bits=operand.bits, **counts)
        _add_reads(counter, key, piece, operand)
        sums = {name: count + counts[name] for name, count in sums.items()}
        if len(pieces) == 1:
            _follow_time(counter, key, x, operand, lambda parts=parts: parts, steps, -1)  # type: ignore[misc]
        if counter.activity.by_step:
            by_step = [part.reshape(-1, piece.shape[-1]).double().sum(0) for part in _steps(parts["nonzero"], steps)]
            each = [count + float((step * fed).sum()) for count, step in zip(each, by_step, strict=True)]
    if counter.activity.by_step:
        _add_steps(counter, key, {"nonzero": x.ne(0).float()}, each, out, steps)
    counter.tally.memory(key, "weight", "read", "dense", sums["dense"], bits, present)
    counter.tally.memory(key, "weight", "read", "event", sums["exact"], bits, present)
    # Which branch a synapse belongs to is looked up for each that is reached.
    address = math.ceil(math.log2(max(2, weight.shape[0])))
    counter.tally.memory(key, "index", "read", "event", sums["exact"], address, present)
    _add_sums(counter, key, sums, out)
    counter.tags.put(out, product=key, floor="real" if merged.kind == "real" else None, origins=frozenset({key}))


def _merged(operands: list[Operand]) -> Operand:
    """Describe operands side by side as one; NaN where one of them has no such count."""
    kind = max((operand.kind for operand in operands), key=OPERANDS.index)
    return Operand(
        kind, max(o.bits for o in operands), 1.0, sum(o.numel for o in operands), sum(o.nonzero for o in operands),
        sum(o.magnitude for o in operands), sum(o.popcount for o in operands),
        _NAN if kind == "real" else max(o.largest for o in operands),
    )  # fmt: skip


def _add_weighted(
    counter: Counter, key: str, kind: str, x: Tensor, operand: Operand, weight: Tensor, out: Tensor, counts: Counts,
    **sizes: Any,
) -> None:  # fmt: skip
    bits, number = _weight_bits(counter, weight), distinct(weight)
    sources = counter.origins([x])
    _add_row(
        counter, key, kind, x, operand, out, weights=number, weight_nonzero=number - counter.weight_zeros(weight),
        weight_bits=bits, sources=sources, **sizes,
    )  # fmt: skip
    counter.tally.operation(key, "mac", operand=operand.kind, bits=operand.bits, **counts)
    counter.tally.memory(key, "weight", "read", "dense", counts["dense"], bits, number)
    counter.tally.memory(key, "weight", "read", "event", counts["exact"], bits, number)
    _add_sums(counter, key, counts, out)
    floor = "real" if operand.kind == "real" else None
    counter.tags.put(out, product=key, floor=floor, origins=frozenset({key}))


def _weight_bits(counter: Counter, weight: Tensor) -> int:
    """Return the bits of a weight: those that its module states where its weights are codes, or of the type."""
    stated = getattr(counter.frame.module, "weight_bits", None) if counter.frame is not None else None
    return stated if isinstance(stated, int) else weight.element_size() * 8


def _add_sums(counter: Counter, key: str, counts: Counts, out: Tensor) -> None:
    """Count the reads and writes of partial sums: one of each for every operation."""
    for direction in ("read", "write"):
        for policy, elements in (("dense", counts["dense"]), ("event", counts["exact"])):
            bits, resident = out.element_size() * 8, counter.buffer(out)
            counter.tally.memory(key, "partial_sum", direction, policy, elements, bits, resident)


def _time(counter: Counter, x: Tensor, whole: Tensor) -> int:
    """Return how many steps a tensor holds; 1 where they cannot be told apart."""
    steps = counter.steps(whole)
    return steps if x.numel() % (steps * counter.B) == 0 else 1


def _steps(values: Tensor, steps: int) -> tuple[Tensor, ...]:
    # Time is the slowest dimension, alone or together with the batch.
    whole = values if values.shape[0] % steps == 0 else values.reshape(steps, -1)
    return whole.chunk(steps)


def _follow_time(
    counter: Counter, key: str, x: Tensor, operand: Operand, parts: Callable[[], dict[str, Tensor]], steps: int,
    channels: int | None,
) -> None:  # fmt: skip
    if operand.is_events:
        cell = counter.tags.of(x).cell
        counter.activity.spikes(
            key, x, lambda: parts()["magnitude"], steps, counter.T, counter.B, cell, channels
        )  # fmt: skip


def _add_steps(
    counter: Counter, key: str, parts: dict[str, Tensor], exact: list[float], out: Tensor, steps: int
) -> None:  # fmt: skip
    counts: dict[str, Any] = {
        "inputs": [parts["nonzero"].numel() / steps] * steps, "outputs": [out.numel() / steps] * steps, "exact": exact,
        **{name: part.reshape(steps, -1).sum(1).tolist() for name, part in parts.items() if name != "popcount"},
    }  # fmt: skip
    counter.activity.step(key, counts, steps, counter.T)


def _add_activations(counter: Counter, key: str, a: Tensor, b: Tensor, out: Tensor) -> None:
    first, second = counter.tags.operand(a), counter.tags.operand(b)
    k, n = b.shape[-2:]
    dense = float(a.numel() * n)
    by_a, by_b = _sums(a, first, -2), _sums(b, second, -1)
    # Where an operand is not made of spikes its values count once, zero or not.
    unary_a, unary_b = (by["magnitude" if o.is_events else "nonzero"] for by, o in ((by_a, first), (by_b, second)))
    shares = _share(first.nonzero, first) * _share(second.nonzero, second)
    unary = [_share(o.magnitude if o.is_events else o.nonzero, o) for o in (first, second)]
    # Linear layers and products alike have no border: all conventions but the nominal one count coincidences.
    exact = _dot(by_a["nonzero"], by_b["nonzero"])
    _add_row(
        counter, key, "matmul", a, first, out, second_operand=second.kind, second_bits=second.bits,
        second_inputs=second.numel, second_nonzero=second.nonzero, second_magnitude=second.magnitude,
        second_popcount=second.popcount, in_channels=k, out_channels=n, sources=counter.origins([a, b]),
    )  # fmt: skip
    for policy, elements in (("dense", second.numel), ("event", second.nonzero)):
        counter.tally.memory(key, "input", "read", policy, elements, second.bits, counter.buffer(b))
    _add_sums(counter, key, {"dense": dense, "exact": exact}, out)
    steps = _time(counter, a, _whole(counter, a))
    parts = cache(lambda: components(a, first, bits=False))
    _follow_time(counter, key, a, first, parts, steps, None)
    if counter.activity.by_step:
        pairs = zip(_steps(by_a["nonzero"], steps), _steps(by_b["nonzero"], steps), strict=True)
        _add_steps(counter, key, parts(), [_dot(*pair) for pair in pairs], out, steps)
    counter.tally.operation(
        key, "mac", operand=first.kind, bits=first.bits, second_operand=second.kind, second_bits=second.bits,
        dense=dense, exact=exact, nominal=shares * dense, fan_out=exact, kernel=exact, sparse=exact,
        events_exact=_dot(unary_a, unary_b), events_nominal=unary[0] * unary[1] * dense,
        planes_exact=first.popcount * n, planes_nominal=first.popcount * n,
    )  # fmt: skip
    grids = counter.tags.of(a).grid or own_grid(first), counter.tags.of(b).grid or own_grid(second)
    grid = grids[0].times(grids[1], terms=k) if grids[0] is not None and grids[1] is not None else None
    floor = "real" if "real" in (first.kind, second.kind) else None
    counter.tags.put(out, grid=grid, floor=floor, origins=frozenset({key}))


def own_grid(operand: Operand) -> Grid | None:
    """Return the grid of an operand whose values say that it is made of spikes."""
    return Grid(operand.step, 2**operand.bits - 1, "spikes") if operand.is_events else None


def _sums(x: Tensor, operand: Operand, dim: int) -> dict[str, Tensor]:
    parts = components(x, operand, bits=False)
    sums = {id(part): part.sum(dim).double() for part in parts.values()}
    return {name: sums[id(part)] for name, part in parts.items()}


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum())


def _share(count: float, operand: Operand) -> float:
    return count / operand.numel if operand.numel else 0.0


def _add_row(counter: Counter, key: str, kind: str, x: Tensor, operand: Operand, out: Tensor, **values: Any) -> None:
    _add_layer(counter, key, kind, x, operand, out, **values)
    _add_reads(counter, key, x, operand)


def _add_layer(
    counter: Counter, key: str, kind: str, x: Tensor, operand: Operand, out: Tensor, **values: Any
) -> None:  # fmt: skip
    frame = counter.frame
    if frame is not None:
        frame.seen += 1
    steps = counter.steps(_whole(counter, x))
    counter.layer(
        key, kind, module=type(frame.module).__name__ if frame else "", operand=operand.kind, bits=operand.bits,
        inputs=operand.numel, nonzero=operand.nonzero, magnitude=operand.magnitude, popcount=operand.popcount,
        largest=operand.largest, outputs=out.numel(), steps=steps, **values,
    )  # fmt: skip
    outputs = out.numel() / steps / counter.B
    counter.tally.memory(key, "output", "write", "dense", out.numel(), out.element_size() * 8, outputs)


def _add_reads(counter: Counter, key: str, x: Tensor, operand: Operand) -> None:
    """Count the inputs that a product reads."""
    buffer = x.numel() / counter.steps(_whole(counter, x)) / counter.B
    for policy, elements in (("dense", operand.numel), ("event", operand.nonzero)):
        counter.tally.memory(key, "input", "read", policy, elements, operand.bits, buffer)
    if operand.is_events:
        # Event-driven hardware sends an address for each value that is not zero.
        address = math.ceil(math.log2(max(2.0, buffer)))
        counter.tally.memory(key, "index", "read", "event", operand.nonzero, address, buffer)


def _whole(counter: Counter, x: Tensor) -> Tensor:
    """Return the tensor with its steps: torch folds them away before a linear layer, but its module still had them."""
    frame = counter.frame
    return frame.x if frame is not None and frame.x is not None and frame.x.numel() == x.numel() else x


def add_bias(counter: Counter, key: str, bias: Tensor, out: Tensor) -> None:
    """Count a bias: one addition and one read for each output of the product ``key``."""
    bits = out.element_size() * 8
    counter.tally.operation(key, "add", operand="real", bits=bits, dense=float(out.numel()))
    counter.tally.memory(key, "bias", "read", "dense", out.numel(), bits, distinct(bias))
    counter.tally.set(key, bias=distinct(bias))


def weight_values(inputs: list[Tensor], counter: Counter) -> dict[str, Any]:
    """Return number and bits of the weights among the inputs of an operation."""
    weights = [t for t in inputs if counter.is_fixed(t)]
    if not weights:
        return {}
    nonzero = sum(int(torch.count_nonzero(t)) for t in weights)
    bits = weights[0].element_size() * 8
    return {"weights": sum(distinct(t) for t in weights), "weight_nonzero": nonzero, "weight_bits": bits}


def distinct(x: Tensor) -> int:
    """Return the number of values of a tensor, those repeated by expansion counted once."""
    return math.prod(size for size, step in zip(x.shape, x.stride(), strict=True) if step)


def short_name(name: str) -> str:
    """Return the name that a functional call gets in a record."""
    names = {"max_pool2d_with_indices": "max_pool2d", "max_pool3d_with_indices": "max_pool3d", "_softmax": "softmax"}
    return names.get(name, name.removeprefix("native_").lstrip("_"))


def _times(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def _matrices(a: int, b: int, bias: int | None = None) -> Callable[..., None]:
    def handle(counter: Counter, args: Any, kwargs: Any, out: Tensor) -> None:
        _matrix(counter, args[a], args[b], out, args[bias] if bias is not None else None)

    return handle


def _vectors(counter: Counter, args: Any, kwargs: Any, out: Tensor) -> None:
    # A vector is a matrix of one column (and, in a dot product, one of one row).
    first, second = args[-2:]
    a = first if first.dim() == 2 else first.unsqueeze(0)
    b = second.unsqueeze(1)
    for part, whole in ((a, first), (b, second)):
        if part is not whole:
            counter.tags.follow(whole, part)
    _matrix(counter, a, b, out, args[0] if len(args) == 3 else None)


HANDLERS: dict[str, Callable[[Counter, Any, Any, Any], None]] = {
    "convolution": _convolution,
    "mm": _matrices(0, 1), "bmm": _matrices(0, 1),
    "addmm": _matrices(1, 2, 0), "baddbmm": _matrices(1, 2, 0), "_addmm_activation": _matrices(1, 2, 0),
    "synapse_sums": _synapses, "mv": _vectors, "dot": _vectors, "addmv": _vectors,
}  # fmt: skip
