"""The elementwise operators and what they are in C.

Every entry repeats the order of operations of the torch kernel, so that a float32 result is the same number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from neurons.compiler.graph import Untraceable


@dataclass(frozen=True)
class Call:
    """One operator about to be written in C.

    Attributes
    ----------
    a : list of str
        Its operands in C, already of the type it computes in.
    raw : list
        The same as numbers where they are numbers in the graph, else None.
    kwargs : dict
    f : str
        Suffix of the C mathematics library: "f" or "".
    """

    a: list[str]
    raw: list[Any]
    kwargs: dict[str, Any]
    f: str

    def number(self, position: int, default: float) -> str:
        """Return the operand at ``position``, or a default where the call leaves it out."""
        return self.a[position] if len(self.a) > position else literal(default, self.f)


def literal(value: float | bool, f: str) -> str:
    """Return a number in C, rounded to the type as torch rounds it."""
    value = float(value)
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "(-INFINITY)"
    text = repr(value) if value == int(value) and abs(value) < 1e6 else value.hex()
    return f"((float){text})" if f else f"({text})"


def exact_reciprocal(number: float | None) -> float | None:
    """Return 1 / number where multiplying by it gives the very quotient, which is much faster: for powers of two."""
    if number and math.frexp(abs(number))[0] == 0.5 and 1e-30 < abs(number) < 1e30:
        return 1 / number
    return None


def _add(sign: int) -> Callable[[Call], str]:
    def emit(c: Call) -> str:
        alpha = c.kwargs.get("alpha", 1)
        if alpha == 1:
            return f"{c.a[0]} {'+' if sign > 0 else '-'} {c.a[1]}"
        return f"fma{c.f}({c.a[1]}, {literal(sign * alpha, c.f)}, {c.a[0]})"

    return emit


def _rsub(c: Call) -> str:
    if c.kwargs.get("alpha", 1) != 1 or len(c.a) > 2:
        raise Untraceable("rsub with alpha is not known to the compiler")
    return f"{c.a[1]} - {c.a[0]}"


def _div(c: Call) -> str:
    mode = c.kwargs.get("rounding_mode")
    if mode is None:
        exact = exact_reciprocal(c.raw[1])
        return f"{c.a[0]} / {c.a[1]}" if exact is None else f"{c.a[0]} * {literal(exact, c.f)}"
    return f"{mode}{c.f}({c.a[0]} / {c.a[1]})" if mode == "trunc" else f"step_floor_div{c.f}({c.a[0]}, {c.a[1]})"


def _pow(c: Call) -> str:
    x, one = c.a[0], literal(1, c.f)
    special = {
        0.0: one, 1.0: x, 2.0: f"{x} * {x}", 3.0: f"{x} * {x} * {x}", 0.5: f"sqrt{c.f}({x})",
        -0.5: f"{one} / sqrt{c.f}({x})", -1.0: f"{one} / {x}", -2.0: f"{one} / ({x} * {x})",
    }  # fmt: skip
    exponent = c.raw[1]
    return special[float(exponent)] if exponent in special else f"pow{c.f}({x}, {c.a[1]})"


def _clamp(c: Call) -> str:
    low, high = [c.a[i] if len(c.a) > i and c.a[i] != "" else None for i in (1, 2)]
    inner = c.a[0] if low is None else f"({c.a[0]} < {low} ? {low} : {c.a[0]})"
    return inner if high is None else f"({inner} > {high} ? {high} : {inner})"


def _round(c: Call) -> str:
    if c.kwargs.get("decimals", 0):
        raise Untraceable("round to decimals is not known to the compiler")
    return f"rint{c.f}({c.a[0]})"


def _gelu(c: Call) -> str:
    if c.kwargs.get("approximate", "none") != "none":
        raise Untraceable("gelu by tanh is not known to the compiler")
    x, half, one = c.a[0], literal(0.5, c.f), literal(1, c.f)
    return f"{x} * {half} * ({one} + step_erf{c.f}({x} * {literal(math.sqrt(0.5), c.f)}))"


def _gelu_backward(c: Call) -> str:
    if c.kwargs.get("approximate", "none") != "none":
        raise Untraceable("gelu by tanh is not known to the compiler")
    g, x, half, one = c.a[0], c.a[1], literal(0.5, c.f), literal(1, c.f)
    cdf = f"{half} * ({one} + step_erf{c.f}({x} * {literal(math.sqrt(0.5), c.f)}))"
    pdf = f"step_exp{c.f}({x} * {x} * {literal(-0.5, c.f)}) * {literal(1 / math.sqrt(2 * math.pi), c.f)}"
    return f"{g} * ({cdf} + {x} * ({pdf}))"


def _softplus(c: Call) -> str:
    beta, limit = c.number(1, 1.0), c.number(2, 20.0)
    z = f"({c.a[0]} * {beta})"
    return f"{z} > {limit} ? {c.a[0]} : log1p{c.f}(step_exp{c.f}({z})) / {beta}"


def _softplus_backward(c: Call) -> str:
    z = f"({c.a[1]} * {c.a[2]})"
    e = f"step_exp{c.f}({z})"
    return f"{z} > {c.a[3]} ? {c.a[0]} : {c.a[0]} * {e} / ({e} + {literal(1, c.f)})"


def _elu(c: Call) -> str:
    alpha, scale, inner = c.number(1, 1.0), c.number(2, 1.0), c.number(3, 1.0)
    return f"{c.a[0]} <= 0 ? expm1{c.f}({c.a[0]} * {inner}) * ({alpha} * {scale}) : {c.a[0]} * {scale}"


def _elu_backward(c: Call) -> str:
    g, alpha, scale, inner, value = c.a[0], c.a[1], c.a[2], c.a[3], c.a[5]
    below = f"{value} + {alpha} * {scale}" if c.raw[4] else f"{alpha} * {scale} * step_exp{c.f}({value} * {inner})"
    return f"{value} <= 0 ? {g} * {inner} * ({below}) : {g} * {scale}"


def _lerp(c: Call) -> str:
    a, b, w, one = *c.a[:3], literal(1, c.f)
    # torch's own kernel is compiled with contraction here
    near, far = f"fma{c.f}({w}, {b} - {a}, {a})", f"fma{c.f}({a} - {b}, {one} - {w}, {b})"
    return f"fabs{c.f}({w}) < {literal(0.5, c.f)} ? {near} : {far}"


def _addcmul(c: Call) -> str:
    return f"fma{c.f}({literal(c.kwargs.get('value', 1), c.f)} * {c.a[1]}, {c.a[2]}, {c.a[0]})"


def _addcdiv(c: Call) -> str:
    return f"{c.a[0]} + {literal(c.kwargs.get('value', 1), c.f)} * {c.a[1]} / {c.a[2]}"


def _template(text: str) -> Callable[[Call], str]:
    """An expression with {0}, {1} ... for operands, {f} for the suffix and {one} for 1."""
    return lambda c: text.format(*c.a, f=c.f, one=literal(1, c.f))


ELEMENTWISE: dict[str, Callable[[Call], str]] = {
    "add": _add(1), "sub": _add(-1), "rsub": _rsub, "div": _div, "true_divide": _div, "pow": _pow,
    "mul": _template("{0} * {1}"), "neg": _template("-{0}"), "reciprocal": _template("{one} / {0}"),
    "square": _template("{0} * {0}"), "abs": _template("fabs{f}({0})"), "sqrt": _template("sqrt{f}({0})"),
    "rsqrt": _template("{one} / sqrt{f}({0})"), "sign": _template("({0} > 0) - ({0} < 0)"),
    "sgn": _template("({0} > 0) - ({0} < 0)"), "floor": _template("floor{f}({0})"), "ceil": _template("ceil{f}({0})"),
    "trunc": _template("trunc{f}({0})"), "frac": _template("{0} - trunc{f}({0})"), "round": _round,
    "exp": _template("step_exp{f}({0})"), "sigmoid": _template("{one} / ({one} + step_exp{f}(-{0}))"),
    "tanh": _template("step_tanh{f}({0})"), "expm1": _template("step_expm1{f}({0})"),
    "erf": _template("step_erf{f}({0})"), "silu": _template("{0} / ({one} + step_exp{f}(-{0}))"),
    **{name: _template(name + "{f}({0})") for name in (
        "exp2", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
        "asinh", "acosh", "atanh", "erfc",
    )},
    "atan2": _template("atan2{f}({0}, {1})"), "fmod": _template("fmod{f}({0}, {1})"),
    "remainder": _template("step_mod{f}({0}, {1})"), "floor_divide": _template("step_floor_div{f}({0}, {1})"),
    "relu": _template("({0} <= 0 ? 0 : {0})"), "clamp": _clamp, "hardtanh": _clamp,
    "clamp_min": _template("({0} < {1} ? {1} : {0})"), "clamp_max": _template("({0} > {1} ? {1} : {0})"),
    "maximum": _template("({0} != {0} || {0} > {1} ? {0} : {1})"),
    "minimum": _template("({0} != {0} || {0} < {1} ? {0} : {1})"),
    "ge": _template("{0} >= {1}"), "gt": _template("{0} > {1}"), "le": _template("{0} <= {1}"),
    "lt": _template("{0} < {1}"), "eq": _template("{0} == {1}"), "ne": _template("{0} != {1}"),
    "logical_and": _template("({0} != 0) & ({1} != 0)"), "logical_or": _template("({0} != 0) | ({1} != 0)"),
    "logical_xor": _template("({0} != 0) ^ ({1} != 0)"), "logical_not": _template("{0} == 0"),
    "bitwise_and": _template("{0} & {1}"), "bitwise_or": _template("{0} | {1}"), "bitwise_xor": _template("{0} ^ {1}"),
    "bitwise_not": _template("!{0}"), "isnan": _template("{0} != {0}"),
    "where": _template("{0} ? {1} : {2}"), "masked_fill": _template("{1} ? {2} : {0}"), "_to_copy": _template("{0}"),
    "gelu": _gelu, "gelu_backward": _gelu_backward, "softplus": _softplus, "softplus_backward": _softplus_backward,
    "elu": _elu, "elu_backward": _elu_backward, "lerp": _lerp, "addcmul": _addcmul, "addcdiv": _addcdiv,
    "leaky_relu": lambda c: f"{c.a[0]} > 0 ? {c.a[0]} : {c.a[0]} * {c.number(1, 0.01)}",
    "leaky_relu_backward": _template("{1} > 0 ? {0} : {0} * {2}"),
    "sigmoid_backward": _template("{0} * ({one} - {1}) * {1}"), "tanh_backward": _template("{0} * ({one} - {1} * {1})"),
    "threshold": _template("{0} <= {1} ? {2} : {0}"), "threshold_backward": _template("{1} <= {2} ? 0 : {0}"),
    "hardtanh_backward": _template("({1} <= {2} || {1} >= {3}) ? 0 : {0}"),
    "silu_backward": _template(
        "{0} * ({one} / ({one} + step_exp{f}(-{1}))) * ({one} + {1} * ({one} - {one} / ({one} + step_exp{f}(-{1}))))"
    ),
}  # fmt: skip
"""Operators that the compiler knows, by name without namespace and overload."""

CONDITION = {"where": 0, "masked_fill": 1}
"""Operands that are a condition and keep their own type."""

HELPERS = r"""
static inline float step_two_to(int q) { union { int32_t i; float f; } u; u.i = (q + 127) << 23; return u.f; }
/* The exponential of the SLEEF library that torch uses, error below 1 ulp, written so that it vectorises. */
static inline float step_expf(float d) {
  const int q = (int)rintf(d * 1.442695040888963407359924681001892137426645954152985934135449406931f);
  float s = fmaf((float)q, -0.693145751953125f, d);
  s = fmaf((float)q, -1.428606765330187045e-06f, s);
  float u = 0.000198527617612853646278381f;
  u = fmaf(u, s, 0.00139304355252534151077271f);
  u = fmaf(u, s, 0.00833336077630519866943359f);
  u = fmaf(u, s, 0.0416664853692054748535156f);
  u = fmaf(u, s, 0.166666671633720397949219f);
  u = fmaf(u, s, 0.5f);
  u = 1.0f + fmaf(s * s, u, s);
  u = u * step_two_to(q >> 1) * step_two_to(q - (q >> 1));
  u = d < -104.0f ? 0.0f : u;
  return d > 100.0f ? INFINITY : u;
}
static inline double step_two_tod(int64_t q) {
  union { int64_t i; double f; } u; u.i = (q + 1023) << 52; return u.f;
}
static inline double step_exp(double d) {
  const double k = rint(d * 1.442695040888963407359924681001892137426645954152985934135449406931);
  const int64_t q = (int64_t)k;
  double s = fma(k, -.69314718055966295651160180568695068359375, d);
  s = fma(k, -.28235290563031577122588448175013436025525412068e-12, s);
  double u = 2.08860621107283687536341e-09;
  u = fma(u, s, 2.51112930892876518610661e-08);
  u = fma(u, s, 2.75573911234900471893338e-07);
  u = fma(u, s, 2.75572362911928827629423e-06);
  u = fma(u, s, 2.4801587159235472998791e-05);
  u = fma(u, s, 0.000198412698960509205564975);
  u = fma(u, s, 0.00138888888889774492207962);
  u = fma(u, s, 0.00833333333331652721664984);
  u = fma(u, s, 0.0416666666666665047591422);
  u = fma(u, s, 0.166666666666666851703837);
  u = fma(u, s, 0.5);
  u = 1.0 + fma(s * s, u, s);
  u = u * step_two_tod(q >> 1) * step_two_tod(q - (q >> 1));
  u = d < -1000.0 ? 0.0 : u;
  return d > 709.78271289338399684324569237317 ? INFINITY : u;
}
/* Cephes: a polynomial near zero, the exponential elsewhere. */
static inline float step_tanhf(float x) {
  const float z = x * x, a = fabsf(x);
  float p = fmaf(-5.70498872745e-3f, z, 2.06390887954e-2f);
  p = fmaf(p, z, -5.37397155531e-2f);
  p = fmaf(p, z, 1.33314422036e-1f);
  p = fmaf(p, z, -3.33332819422e-1f);
  const float far = 1.0f - 2.0f / (step_expf(2.0f * a) + 1.0f);
  return a < 0.625f ? fmaf(p * z, x, x) : copysignf(far, x);
}
static inline double step_tanh(double x) { return tanh(x); }
/* In double, where the cancellation of exp(x) - 1 costs nothing that a float would show. */
static inline float step_expm1f(float x) {
  const double far = step_exp((double)x) - 1.0;
  return fabsf(x) < 1e-4f ? fmaf(0.5f * x, x, x) : (float)far;
}
static inline double step_expm1(double x) { return expm1(x); }
/* Near zero the rational function of fdlibm, else the complement of Press et al., Numerical Recipes, erfcc. */
static inline float step_erff(float x) {
  const float a = fabsf(x), z = x * x, t = 1.0f / fmaf(0.5f, a, 1.0f);
  float p = fmaf(z, -2.37630166566501626084e-05f, -5.77027029648944159157e-03f);
  p = fmaf(z, p, -2.84817495755985104766e-02f);
  p = fmaf(z, p, -3.25042107247001499370e-01f);
  p = fmaf(z, p, 1.28379167095512558561e-01f);
  float q = fmaf(z, -3.96022827877536812320e-06f, 1.32494738004321644526e-04f);
  q = fmaf(z, q, 5.08130628187576562776e-03f);
  q = fmaf(z, q, 6.50222499887672944485e-02f);
  q = fmaf(z, q, 3.97917223959155352819e-01f);
  q = fmaf(z, q, 1.0f);
  float e = fmaf(t, 0.17087277f, -0.82215223f);
  e = fmaf(t, e, 1.48851587f);
  e = fmaf(t, e, -1.13520398f);
  e = fmaf(t, e, 0.27886807f);
  e = fmaf(t, e, -0.18628806f);
  e = fmaf(t, e, 0.09678418f);
  e = fmaf(t, e, 0.37409196f);
  e = fmaf(t, e, 1.00002368f);
  e = fmaf(t, e, -1.26551223f);
  const float far = 1.0f - t * step_expf(e - z);
  return a < 0.84375f ? fmaf(x, p / q, x) : copysignf(far, x);
}
static inline double step_erf(double x) { return erf(x); }
static inline double step_mod(double a, double b) {
  const double r = fmod(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
static inline float step_modf(float a, float b) {
  const float r = fmodf(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
static inline double step_floor_div(double a, double b) { return rint((a - step_mod(a, b)) / b); }
static inline float step_floor_divf(float a, float b) { return rintf((a - step_modf(a, b)) / b); }
"""
