"""The elementwise operators and what they are in Triton.

The same operators in the same order of operations as in C, so that a GPU gives the spikes that the CPU gives: float32
division and square root are the correctly rounded ones, and exponentials and the like are those of the device's
mathematics library, which torch uses too, not Triton's faster and less exact ones. In one place torch itself differs
between devices: on a GPU it divides by a number by multiplying with its reciprocal, which may be one unit in the last
place off. Here, as on the CPU, a division is a division.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from neurons.compiler.graph import Untraceable
from neurons.compiler.ops import exact_reciprocal


@dataclass(frozen=True)
class Call:
    """One operator about to be written in Triton.

    Attributes
    ----------
    a : list of str
        Its operands, already of the type it computes in.
    raw : list
        The same as numbers where they are numbers in the graph, else None.
    kwargs : dict
    wide : bool
        Whether it computes in float64.
    constant : callable
        Gives the name of a number in the type it computes in.
    """

    a: list[str]
    raw: list[Any]
    kwargs: dict[str, Any]
    wide: bool
    constant: Callable[[float], str]

    def number(self, position: int, default: float) -> str:
        """Return the operand at ``position``, or a default where the call leaves it out."""
        return self.a[position] if len(self.a) > position else self.constant(default)

    def divide(self, a: str, b: str) -> str:
        """Return a correctly rounded quotient: ``/`` is that for float64 only."""
        return f"({a}) / ({b})" if self.wide else f"tl.div_rn({a}, {b})"

    def root(self, a: str) -> str:
        """Return a correctly rounded square root."""
        return f"tl.sqrt({a})" if self.wide else f"tl.sqrt_rn({a})"


def _add(sign: int) -> Callable[[Call], str]:
    def emit(c: Call) -> str:
        alpha = c.kwargs.get("alpha", 1)
        if alpha == 1:
            return f"{c.a[0]} {'+' if sign > 0 else '-'} {c.a[1]}"
        return f"tl.fma({c.a[1]}, {c.constant(sign * alpha)}, {c.a[0]})"

    return emit


def _rsub(c: Call) -> str:
    if c.kwargs.get("alpha", 1) != 1 or len(c.a) > 2:
        raise Untraceable("rsub with alpha is not known to the compiler")
    return f"{c.a[1]} - {c.a[0]}"


def _floor_divide(c: Call) -> str:
    a, b = c.a[:2]
    return f"libdevice.rint({c.divide(f'{a} - step_mod({a}, {b})', b)})"


def _div(c: Call) -> str:
    mode = c.kwargs.get("rounding_mode")
    if mode is None:
        exact = exact_reciprocal(c.raw[1])
        return c.divide(c.a[0], c.a[1]) if exact is None else f"{c.a[0]} * {c.constant(exact)}"
    return f"libdevice.trunc({c.divide(c.a[0], c.a[1])})" if mode == "trunc" else _floor_divide(c)


def _pow(c: Call) -> str:
    x, one = c.a[0], c.constant(1)
    exponent = None if c.raw[1] is None else float(c.raw[1])
    special = {
        0.0: lambda: f"tl.where({x} == {x}, {one}, {one})", 1.0: lambda: x, 2.0: lambda: f"{x} * {x}",
        3.0: lambda: f"{x} * {x} * {x}", 0.5: lambda: c.root(x), -0.5: lambda: c.divide(one, c.root(x)),
        -1.0: lambda: c.divide(one, x), -2.0: lambda: c.divide(one, f"{x} * {x}"),
    }  # fmt: skip
    return special[exponent]() if exponent in special else f"libdevice.pow({x}, {c.a[1]})"


def _clamp(c: Call) -> str:
    low, high = [c.a[i] if len(c.a) > i and c.a[i] != "" else None for i in (1, 2)]
    inner = c.a[0] if low is None else f"tl.where({c.a[0]} < {low}, {low}, {c.a[0]})"
    return inner if high is None else f"tl.where({inner} > {high}, {high}, {inner})"


def _round(c: Call) -> str:
    if c.kwargs.get("decimals", 0):
        raise Untraceable("round to decimals is not known to the compiler")
    return f"libdevice.rint({c.a[0]})"


def _sign(c: Call) -> str:
    x, zero = c.a[0], c.constant(0)
    return f"tl.where({x} > 0, {c.constant(1)}, tl.where({x} < 0, {c.constant(-1)}, {zero}))"


def _sigmoid_of(c: Call, x: str) -> str:
    one = c.constant(1)
    return c.divide(one, f"{one} + libdevice.exp(-{x})")


def _silu_backward(c: Call) -> str:
    g, x, one, s = c.a[0], c.a[1], c.constant(1), _sigmoid_of(c, c.a[1])
    return f"{g} * ({s}) * ({one} + {x} * ({one} - {s}))"


def _gelu(c: Call) -> str:
    if c.kwargs.get("approximate", "none") != "none":
        raise Untraceable("gelu by tanh is not known to the compiler")
    x, half, one = c.a[0], c.constant(0.5), c.constant(1)
    return f"{x} * {half} * ({one} + libdevice.erf({x} * {c.constant(math.sqrt(0.5))}))"


def _gelu_backward(c: Call) -> str:
    if c.kwargs.get("approximate", "none") != "none":
        raise Untraceable("gelu by tanh is not known to the compiler")
    g, x, half, one = c.a[0], c.a[1], c.constant(0.5), c.constant(1)
    cdf = f"{half} * ({one} + libdevice.erf({x} * {c.constant(math.sqrt(0.5))}))"
    pdf = f"libdevice.exp({x} * {x} * {c.constant(-0.5)}) * {c.constant(1 / math.sqrt(2 * math.pi))}"
    return f"{g} * ({cdf} + {x} * ({pdf}))"


def _softplus(c: Call) -> str:
    beta, limit = c.number(1, 1.0), c.number(2, 20.0)
    z = f"({c.a[0]} * {beta})"
    return f"tl.where({z} > {limit}, {c.a[0]}, {c.divide(f'libdevice.log1p(libdevice.exp({z}))', beta)})"


def _softplus_backward(c: Call) -> str:
    z = f"({c.a[1]} * {c.a[2]})"
    e = f"libdevice.exp({z})"
    return f"tl.where({z} > {c.a[3]}, {c.a[0]}, {c.divide(f'{c.a[0]} * {e}', f'{e} + {c.constant(1)}')})"


def _elu(c: Call) -> str:
    alpha, scale, inner = c.number(1, 1.0), c.number(2, 1.0), c.number(3, 1.0)
    below = f"libdevice.expm1({c.a[0]} * {inner}) * ({alpha} * {scale})"
    return f"tl.where({c.a[0]} <= 0, {below}, {c.a[0]} * {scale})"


def _elu_backward(c: Call) -> str:
    g, alpha, scale, inner, value = c.a[0], c.a[1], c.a[2], c.a[3], c.a[5]
    below = f"{value} + {alpha} * {scale}" if c.raw[4] else f"{alpha} * {scale} * libdevice.exp({value} * {inner})"
    return f"tl.where({value} <= 0, {g} * {inner} * ({below}), {g} * {scale})"


def _lerp(c: Call) -> str:
    a, b, w, one = *c.a[:3], c.constant(1)
    near, far = f"tl.fma({w}, {b} - {a}, {a})", f"tl.fma({a} - {b}, {one} - {w}, {b})"
    return f"tl.where(tl.abs({w}) < {c.constant(0.5)}, {near}, {far})"


def _addcmul(c: Call) -> str:
    return f"tl.fma({c.constant(c.kwargs.get('value', 1))} * {c.a[1]}, {c.a[2]}, {c.a[0]})"


def _addcdiv(c: Call) -> str:
    value = c.constant(c.kwargs.get("value", 1))
    return f"{c.a[0]} + {c.divide(f'{value} * {c.a[1]}', c.a[2])}"


def _leaky_relu(c: Call) -> str:
    return f"tl.where({c.a[0]} > 0, {c.a[0]}, {c.a[0]} * {c.number(1, 0.01)})"


def _template(text: str) -> Callable[[Call], str]:
    """An expression with {0}, {1} ... for operands, {zero} for 0 and {one} for 1."""

    def emit(c: Call) -> str:
        numbers = {name: c.constant(value) for name, value in (("zero", 0), ("one", 1)) if f"{{{name}}}" in text}
        return text.format(*c.a, **numbers)

    return emit


ELEMENTWISE: dict[str, Callable[[Call], str]] = {
    "add": _add(1), "sub": _add(-1), "rsub": _rsub, "div": _div, "true_divide": _div, "pow": _pow,
    "mul": _template("{0} * {1}"), "neg": _template("-{0}"),
    "reciprocal": lambda c: c.divide(c.constant(1), c.a[0]), "square": _template("{0} * {0}"),
    "abs": _template("tl.abs({0})"), "sqrt": lambda c: c.root(c.a[0]),
    "rsqrt": lambda c: c.divide(c.constant(1), c.root(c.a[0])), "sign": _sign, "sgn": _sign,
    "floor": _template("tl.floor({0})"), "ceil": _template("tl.ceil({0})"), "round": _round,
    "frac": _template("{0} - libdevice.trunc({0})"), "sigmoid": lambda c: _sigmoid_of(c, c.a[0]),
    "silu": lambda c: c.divide(c.a[0], f"{c.constant(1)} + libdevice.exp(-{c.a[0]})"),
    **{name: _template("libdevice." + name + "({0})") for name in (
        "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
        "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "trunc",
    )},
    "atan2": _template("libdevice.atan2({0}, {1})"), "fmod": _template("libdevice.fmod({0}, {1})"),
    "remainder": _template("step_mod({0}, {1})"), "floor_divide": _floor_divide,
    "relu": _template("tl.where({0} <= 0, {zero}, {0})"), "clamp": _clamp, "hardtanh": _clamp,
    "clamp_min": _template("tl.where({0} < {1}, {1}, {0})"), "clamp_max": _template("tl.where({0} > {1}, {1}, {0})"),
    "maximum": _template("tl.where(({0} != {0}) | ({0} > {1}), {0}, {1})"),
    "minimum": _template("tl.where(({0} != {0}) | ({0} < {1}), {0}, {1})"),
    "ge": _template("{0} >= {1}"), "gt": _template("{0} > {1}"), "le": _template("{0} <= {1}"),
    "lt": _template("{0} < {1}"), "eq": _template("{0} == {1}"), "ne": _template("{0} != {1}"),
    "logical_and": _template("({0} != 0) & ({1} != 0)"), "logical_or": _template("({0} != 0) | ({1} != 0)"),
    "logical_xor": _template("({0} != 0) ^ ({1} != 0)"), "logical_not": _template("{0} == 0"),
    "bitwise_and": _template("{0} & {1}"), "bitwise_or": _template("{0} | {1}"), "bitwise_xor": _template("{0} ^ {1}"),
    "bitwise_not": _template("{0} == 0"), "isnan": _template("{0} != {0}"),
    "where": _template("tl.where({0}, {1}, {2})"), "masked_fill": _template("tl.where({1}, {2}, {0})"),
    "_to_copy": _template("{0}"),
    "gelu": _gelu, "gelu_backward": _gelu_backward, "softplus": _softplus, "softplus_backward": _softplus_backward,
    "elu": _elu, "elu_backward": _elu_backward, "lerp": _lerp, "addcmul": _addcmul, "addcdiv": _addcdiv,
    "leaky_relu": _leaky_relu, "leaky_relu_backward": _template("tl.where({1} > 0, {0}, {0} * {2})"),
    "sigmoid_backward": _template("{0} * ({one} - {1}) * {1}"), "tanh_backward": _template("{0} * ({one} - {1} * {1})"),
    "threshold": _template("tl.where({0} <= {1}, {2}, {0})"),
    "threshold_backward": _template("tl.where({1} <= {2}, {zero}, {0})"),
    "hardtanh_backward": _template("tl.where(({1} <= {2}) | ({1} >= {3}), {zero}, {0})"),
    "silu_backward": _silu_backward,
}  # fmt: skip
"""Operators that can be written in Triton, by name without namespace and overload."""

HELPERS = '''
@triton.jit
def step_mod(a, b):
    """The remainder with the sign of the divisor."""
    r = libdevice.fmod(a, b)
    return tl.where((r != 0) & ((r < 0) != (b < 0)), r + b, r)
'''
