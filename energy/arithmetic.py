"""What each torch operation costs outside layers with weights: kind of layer, operations, or nothing at all."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

FREE = frozenset({
    "alias", "alias_with_sizes", "as_strided", "bernoulli", "cat", "channel_shuffle", "clone",
    "constant_pad_nd", "contiguous", "copy", "detach", "diagonal", "dropout", "empty_like", "expand",
    "expand_as", "fill", "flatten", "flip", "full_like", "gather", "index", "index_put", "index_select",
    "is_same_size", "lift_fresh", "local_scalar_dense", "_local_scalar_dense", "masked_scatter", "narrow",
    "native_dropout", "new_empty", "new_full", "new_ones", "new_zeros", "ones_like", "pad", "permute",
    "pixel_shuffle", "pixel_unshuffle", "rand_like", "randn_like", "reflection_pad1d", "reflection_pad2d",
    "repeat", "repeat_interleave", "replication_pad1d", "replication_pad2d", "reshape", "_reshape_alias",
    "resize", "roll", "scatter", "select", "select_scatter", "slice", "slice_scatter", "split",
    "split_with_sizes", "squeeze", "stack", "sym_numel", "sym_size", "sym_storage_offset", "sym_stride", "t",
    "tile", "_to_copy", "transpose", "unbind", "unfold", "unsafe_split", "_unsafe_view", "unsqueeze",
    "upsample_nearest1d", "upsample_nearest2d", "view", "view_as", "zero", "zeros_like",
})  # fmt: skip
"""Moves of data: views, copies, selections, padding. They count as memory traffic of the layers that read them."""

FOLLOW = frozenset({
    "alias", "as_strided", "channel_shuffle", "clone", "constant_pad_nd", "contiguous", "detach", "diagonal",
    "expand", "flip", "gather", "index", "index_select", "lift_fresh", "narrow", "permute", "pixel_shuffle",
    "pixel_unshuffle", "repeat", "reshape", "_reshape_alias", "roll", "select", "slice", "split",
    "split_with_sizes", "squeeze", "t", "tile", "_to_copy", "transpose", "unbind", "unfold", "unsafe_split",
    "_unsafe_view", "unsqueeze", "upsample_nearest1d", "upsample_nearest2d", "view", "view_as",
})  # fmt: skip
"""Moves whose result holds values of their first argument (and perhaps zeros), so that what is known stays known."""

_UNARY = {
    "relu": {"cmp": 1}, "relu6": {"cmp": 2}, "hardtanh": {"cmp": 2}, "threshold": {"cmp": 1}, "clamp_min": {"cmp": 1},
    "clamp_max": {"cmp": 1}, "clamp": {"cmp": 2}, "maximum": {"cmp": 1}, "minimum": {"cmp": 1}, "sign": {"cmp": 1},
    "ge": {"cmp": 1}, "gt": {"cmp": 1}, "le": {"cmp": 1}, "lt": {"cmp": 1}, "eq": {"cmp": 1}, "ne": {"cmp": 1},
    "leaky_relu": {"cmp": 1, "mul": 1}, "_prelu_kernel": {"cmp": 1, "mul": 1}, "abs": {"abs": 1}, "neg": {"add": 1},
    "where": {"mux": 1}, "masked_fill": {"mux": 1}, "round": {"round": 1}, "floor": {"round": 1}, "ceil": {"round": 1},
    "trunc": {"round": 1}, "exp": {"exp": 1}, "log": {"exp": 1}, "log2": {"exp": 1},
    "sigmoid": {"exp": 1, "add": 1, "div": 1},
    "tanh": {"exp": 1, "add": 2, "div": 1}, "silu": {"exp": 1, "add": 1, "div": 1, "mul": 1},
    "gelu": {"exp": 1, "add": 1, "mul": 2}, "elu": {"exp": 1, "add": 1, "cmp": 1}, "softplus": {"exp": 2, "add": 1},
    "sin": {"exp": 1}, "cos": {"exp": 1}, "erf": {"exp": 1}, "sqrt": {"sqrt": 1}, "rsqrt": {"sqrt": 1, "div": 1},
    "reciprocal": {"div": 1}, "square": {"mul": 1}, "addcmul": {"mul": 1, "add": 1}, "addcdiv": {"div": 1, "add": 1},
    "lerp": {"mul": 1, "add": 2}, "bitwise_and": {"mux": 1}, "logical_and": {"mux": 1}, "logical_or": {"mux": 1},
    "logical_not": {"mux": 1}, "hardswish": {"cmp": 2, "add": 1, "mul": 1}, "hardsigmoid": {"cmp": 2, "add": 1},
}  # fmt: skip
# For each value of the input of a norm: mean and centring are two additions, variance a product and an addition,
# scaling a product; for the affine form one of each more.
_NORM = {"add": 3, "mul": 2}


@dataclass(frozen=True)
class Work:
    """Operations of one call.

    Parameters
    ----------
    kind : str
        Kind of layer: elementwise, norm, pool, softmax, embedding.
    counts : dict
        Operations by kind.
    """

    kind: str
    counts: dict[str, float]


def work_of(name: str, args: tuple[Any, ...], out: Any) -> Work | None:
    """Return the operations of one call that is neither a product nor a move of data; None for an unknown one.

    Parameters
    ----------
    name : str
        Name of the aten operator without the trailing underscore of its in-place form.
    args : tuple
        Positional arguments.
    out : Any
        What it returned.
    """
    result = out[0] if isinstance(out, (tuple, list)) and out else out
    if not isinstance(result, Tensor):
        return None
    if name in _UNARY:
        return Work("elementwise", {op: count * result.numel() for op, count in _UNARY[name].items()})
    rule = _RULES.get(name)
    return rule(args, result) if rule else None


def _elementwise(args: tuple[Any, ...], out: Tensor, op: str) -> Work:
    return Work("elementwise", {op: out.numel()})


def _times(args: tuple[Any, ...], out: Tensor, op: str) -> Work:
    # A product with a constant is a scale: it folds into the weights or the threshold behind it.
    other = args[1] if len(args) > 1 else None
    constant = not isinstance(other, Tensor) or other.dim() == 0 or args[0].dim() == 0
    return _elementwise(args, out, "scale" if constant else op)


def _power(args: tuple[Any, ...], out: Tensor) -> Work | None:
    exponent = args[1]
    if isinstance(exponent, Tensor) or exponent != int(exponent):
        return _elementwise(args, out, "exp")
    return (
        _elementwise(args, out, "mul") if exponent == 2 else Work("elementwise", {"mul": out.numel() * abs(exponent)})
    )


def _reduction(args: tuple[Any, ...], out: Tensor, op: str, scale: bool = False) -> Work:
    counts: dict[str, float] = {op: max(args[0].numel() - out.numel(), 0)}
    return Work("pool", {**counts, "scale": out.numel()} if scale else counts)


def _window(args: tuple[Any, ...], out: Tensor, op: str) -> Work:
    dimensions = out.dim() - 2 if out.dim() > 2 else out.dim() - 1
    size = [args[1]] if isinstance(args[1], int) else list(args[1])
    taps = math.prod(size * dimensions if len(size) == 1 else size)
    counts: dict[str, float] = {op: out.numel() * (taps - 1)}
    return Work("pool", {**counts, "scale": out.numel()} if op == "add" else counts)


def _adaptive(args: tuple[Any, ...], out: Tensor, op: str) -> Work:
    counts: dict[str, float] = {op: max(args[0].numel() - out.numel(), 0)}
    return Work("pool", {**counts, "scale": out.numel()} if op == "add" else counts)


def _softmax(args: tuple[Any, ...], out: Tensor) -> Work:
    return Work("softmax", dict.fromkeys(("cmp", "add", "exp", "div"), float(out.numel())))


def _norm(args: tuple[Any, ...], out: Tensor) -> Work:
    affine = any(isinstance(a, Tensor) for a in args[1:3])
    return Work("norm", {op: (count + affine) * out.numel() for op, count in _NORM.items()})


def _eval_norm(args: tuple[Any, ...], out: Tensor) -> Work:
    # Mean, variance and affine map of a batch norm in eval mode are constants: one product, one addition.
    return Work("norm", {"mul": out.numel(), "add": out.numel()})


def pooled(name: str, args: tuple[Any, ...]) -> int:
    """Return how many values each window of an average pooling holds, where all hold as many; 0 otherwise."""
    if not re.fullmatch(r"avg_pool[123]d", name):
        return 0
    dimensions = int(name[-2])
    size = [args[1]] if isinstance(args[1], int) else list(args[1])
    more: list[Any] = [*args[3:7], *[0, False, True, None][len(args[3:7]) :]]
    padding, ceil, counts_padding, divisor = more
    padded = any(padding) if isinstance(padding, (list, tuple)) else bool(padding)
    if ceil or divisor is not None or (padded and not counts_padding):
        return 0
    return math.prod(size * dimensions if len(size) == 1 else size)


_RULES: dict[str, Callable[[tuple[Any, ...], Tensor], Work | None]] = {
    "add": lambda a, o: _elementwise(a, o, "add"), "sub": lambda a, o: _elementwise(a, o, "add"),
    "rsub": lambda a, o: _elementwise(a, o, "add"), "mul": lambda a, o: _times(a, o, "mul"),
    "div": lambda a, o: _times(a, o, "div"), "pow": _power,
    "sum": lambda a, o: _reduction(a, o, "add"), "mean": lambda a, o: _reduction(a, o, "add", scale=True),
    "amax": lambda a, o: _reduction(a, o, "cmp"), "amin": lambda a, o: _reduction(a, o, "cmp"),
    "max": lambda a, o: _reduction(a, o, "cmp"), "min": lambda a, o: _reduction(a, o, "cmp"),
    "argmax": lambda a, o: _reduction(a, o, "cmp"), "argmin": lambda a, o: _reduction(a, o, "cmp"),
    "cumsum": lambda a, o: _elementwise(a, o, "add"),
    "max_pool2d_with_indices": lambda a, o: _window(a, o, "cmp"),
    "max_pool3d_with_indices": lambda a, o: _window(a, o, "cmp"),
    "avg_pool1d": lambda a, o: _window(a, o, "add"), "avg_pool2d": lambda a, o: _window(a, o, "add"),
    "avg_pool3d": lambda a, o: _window(a, o, "add"),
    "_adaptive_avg_pool2d": lambda a, o: _adaptive(a, o, "add"),
    "_adaptive_avg_pool3d": lambda a, o: _adaptive(a, o, "add"),
    "adaptive_max_pool2d": lambda a, o: _adaptive(a, o, "cmp"),
    "adaptive_max_pool3d": lambda a, o: _adaptive(a, o, "cmp"),
    "_softmax": _softmax, "_safe_softmax": _softmax,
    "_log_softmax": lambda a, o: Work("softmax", dict.fromkeys(("cmp", "add", "exp"), float(o.numel()))),
    "native_layer_norm": lambda a, o: _norm((a[0], a[2], a[3]), o), "native_group_norm": _norm,
    "_fused_rms_norm": lambda a, o: Work("norm", {"mul": 3.0 * o.numel(), "add": 1.0 * o.numel()}),
    "native_batch_norm": _eval_norm, "_native_batch_norm_legit_no_training": _eval_norm,
    "cudnn_batch_norm": _eval_norm, "miopen_batch_norm": _eval_norm,
    "embedding": lambda a, o: Work("embedding", {}),
}  # fmt: skip
BATCH_NORMS = frozenset(
    ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "miopen_batch_norm")
)
SUMS = frozenset(("sum", "mean"))
"""Reductions that add up each value once, so that events cost one addition each."""
MAX_POOLS = frozenset(("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d", "amax"))
