"""Neurons as nodes of NIR, the exchange format of spiking simulators and chips, and back.

Pedersen et al., "Neuromorphic intermediate representation", Nat. Commun. 15:8122, 2024. NIR describes neurons in
continuous time; a time step of ``dt`` seconds and Euler's method lie between the two, so tau is ``tau * dt``. NIR 1.0
knows one reset, to a value. What it cannot say (surrogate, soft reset, which neuron it was) stands in the metadata,
and is believed on reading only where it agrees with the node.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from neurons.adapters.nir_neurons import GeneralCubaLIF, GeneralIF, GeneralLI, GeneralLIF, Values
from neurons.base import Neuron, SpikingNeuron, neurons
from neurons.errors import StepError
from neurons.integrate_and_fire import IF, LIF, PLIF
from neurons.surrogate import Surrogate
from neurons.synaptic import CUBA, Lapicque, LeakyIntegrator

DT = 1e-4
"""Seconds of a time step where nothing else is said; what SpikingJelly and snnTorch take too."""


class NIRError(StepError):
    """Something that NIR cannot say, or a file that STEP cannot read."""


def package() -> Any:
    """Return the package ``nir``.

    Raises
    ------
    NIRError
        When it is not installed.
    """
    try:
        import nir
    except ImportError:
        raise NIRError("this needs the package nir: pip install 'step-snn[nir]'") from None
    return nir


def names() -> list[str]:
    """Return the names of the neurons that NIR can say."""
    return sorted(form.name for form in _FORMS.values() if form.name)


# Export ---------------------------------------------------------------------------------------------------------------


def to_node(neuron: Neuron, shape: tuple[int, ...], dt: float = DT, *, soft_reset_in_metadata: bool = False) -> Any:
    """Return the NIR node of a neuron layer.

    Parameters
    ----------
    neuron : Neuron
    shape : tuple of int
        Shape of one time step of one sample, without batch.
    dt : float
        Seconds of a time step.
    soft_reset_in_metadata : bool
        Whether a soft reset may be told in the metadata, which other libraries do not read.

    Raises
    ------
    NIRError
        When NIR has no node for this neuron.
    """
    nir = package()
    form = _FORMS.get(type(neuron))  # the class itself: a subclass may do something else in its step
    name = getattr(neuron, "registered_name", type(neuron).__name__)
    if form is None:
        raise NIRError(f"NIR has no node for the neuron {name!r}; it has one for {', '.join(names())}")
    mode = getattr(neuron, "reset_mode", "hard")
    if mode == "none":
        raise NIRError(f"this {name} is never reset, and the neurons of NIR are: train with reset: hard")
    if mode == "soft" and not soft_reset_in_metadata:
        raise NIRError(
            f"this {name} loses its threshold when it fires (reset: soft), and NIR knows only a reset to a value: train"
            " with reset: hard, or allow a note in the metadata that others overlook (--soft-reset-in-metadata)"
        )
    if getattr(neuron, "reset_delay", False):
        raise NIRError(f"this {name} is reset one time step late (reset_delay), which NIR cannot say")
    fields = {key: _array(value, shape) for key, value in form.fields(neuron, dt).items()}
    return getattr(nir, form.node)(**fields, metadata=_metadata(neuron, form, dt))


@dataclasses.dataclass(frozen=True)
class _Form:
    """How a neuron becomes a node: name of the node, its fields for a time step, the neuron's own options."""

    node: str
    fields: Callable[[Any, float], dict[str, Values]]
    name: str = ""
    options: tuple[str, ...] = ()


def _if(n: Any, dt: float) -> dict[str, Values]:
    return {"r": 1 / dt, "v_threshold": n.threshold, "v_reset": 0.0}


def _leaky(n: Any, tau: float, dt: float, r: float = 1.0) -> dict[str, Values]:
    return {"tau": tau * dt, "r": r, "v_leak": 0.0, "v_threshold": n.threshold, "v_reset": 0.0}


def _cuba(n: Any, dt: float) -> dict[str, Values]:
    syn, mem = 1 / (1 - n.alpha), 1 / (1 - n.beta)
    fires = {"v_leak": 0.0, "v_threshold": n.threshold, "v_reset": 0.0}
    return {"tau_syn": syn * dt, "tau_mem": mem * dt, "r": mem, "w_in": syn, **fires}


def _general_li(n: Any, dt: float) -> dict[str, Values]:
    return {"tau": _wide(n.tau) * dt, "r": _wide(n.r, 1.0), "v_leak": _wide(n.v_leak)}


def _general_if(n: Any, dt: float) -> dict[str, Values]:
    return {"r": _wide(n.r, 1.0) / dt, **_firing(n)}


def _general_cuba(n: Any, dt: float) -> dict[str, Values]:
    times: dict[str, Values] = {"tau_syn": _wide(n.tau_syn) * dt, "tau_mem": _wide(n.tau_mem) * dt}
    return {**times, "r": _wide(n.r), "w_in": _wide(n.w_in), "v_leak": _wide(n.v_leak), **_firing(n)}


def _firing(n: Any) -> dict[str, Values]:
    return {"v_threshold": _wide(n.threshold), "v_reset": _wide(n.v_reset)}


_FORMS: dict[type[Neuron], _Form] = {
    IF: _Form("IF", _if, "if"),
    LIF: _Form("LIF", lambda n, dt: _leaky(n, n.tau, dt), "lif", ("tau",)),
    PLIF: _Form("LIF", lambda n, dt: _leaky(n, 1 / float(torch.sigmoid(n.w.detach())), dt), "plif"),
    Lapicque: _Form("LIF", lambda n, dt: _leaky(n, n.r * n.c / n.dt, dt, n.r), "lapicque", ("r", "c", "dt")),
    CUBA: _Form("CubaLIF", _cuba, "cuba", ("alpha", "beta")),
    LeakyIntegrator: _Form(
        "LI", lambda n, dt: {"tau": n.tau * dt, "r": 1.0, "v_leak": 0.0}, "leaky-integrator", ("tau",)
    ),
    GeneralIF: _Form("IF", _general_if),
    GeneralLIF: _Form("LIF", lambda n, dt: {**_general_li(n, dt), **_firing(n)}),
    GeneralLI: _Form("LI", _general_li),
    GeneralCubaLIF: _Form("CubaLIF", _general_cuba),
}


def _wide(value: Values | None, left_out: float = 0.0) -> Values:
    """Return a value in double precision; ``left_out`` for a term that the neuron leaves out."""
    return left_out if value is None else value.double() if isinstance(value, Tensor) else value


def _array(value: Values, shape: tuple[int, ...]) -> Any:
    """Return a value for every neuron of the layer: what all readers of NIR take."""
    plain = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.float64(value)
    return np.broadcast_to(plain, shape).astype(np.float64)


def _metadata(neuron: Neuron, form: _Form, dt: float) -> dict[str, Any]:
    found: dict[str, Any] = {"platform": "step", "version": _version(), "dt": dt, "discretisation": "euler"}
    if isinstance(neuron, SpikingNeuron):
        hard = "zero" if getattr(neuron, "v_reset", None) is None else "value"
        found |= {"reset": "subtract" if neuron.reset_mode == "soft" else hard, "detach": neuron.detach_reset}
        surrogate = _said(neuron.surrogate)
        if surrogate:
            found["surrogate"] = json.dumps(surrogate)
    if form.name:
        options = {option: getattr(neuron, option) for option in form.options}
        if isinstance(neuron, SpikingNeuron):
            options |= {"threshold": neuron.threshold, "reset": neuron.reset_mode}
        found |= {"neuron": form.name, "options": json.dumps(options)}
        learned = {name: float(value.detach()) for name, value in neuron.named_parameters()}
        if learned:
            found["learned"] = json.dumps(learned)
    return found


def _said(surrogate: Surrogate) -> dict[str, Any] | None:
    """Return the name and the options of a registered surrogate whose options are plain."""
    name = getattr(surrogate, "registered_name", None)
    if name is None or not dataclasses.is_dataclass(surrogate):
        return None
    options = dataclasses.asdict(surrogate)
    plain = all(isinstance(value, (int, float, str, type(None))) for value in options.values())
    return {"name": name, **options} if plain else None


def _version() -> str:
    try:
        return version("step-snn")
    except PackageNotFoundError:
        return "unknown"


# Import ---------------------------------------------------------------------------------------------------------------


def from_node(node: Any, dt: float = DT, *, surrogate: str | Mapping[str, Any] = "arctan") -> tuple[Neuron, list[str]]:
    """Return the neuron of a NIR node, and what its user should know.

    One of STEP's own neurons where it says what the node says, else one of :mod:`neurons.adapters.nir_neurons`.

    Parameters
    ----------
    node : nir.NIRNode
        IF, LIF, LI or CubaLIF.
    dt : float
        Seconds of a time step.
    surrogate : str or mapping
        Surrogate of neurons whose metadata name none.

    Raises
    ------
    NIRError
        For another node, or numbers that make no neuron at this time step.
    """
    metadata = node.metadata or {}
    build = _BUILD.get(type(node).__name__)
    if build is None:
        raise NIRError(f"{type(node).__name__} is no neuron that STEP can read; it reads {', '.join(_BUILD)}")
    remembered = _remembered(node, metadata, dt)
    if remembered is not None:
        return remembered, _notes(metadata)
    options: dict[str, Any] = {"surrogate": surrogate, "reset": _reset(metadata)}
    if metadata.get("platform") == "step":
        options |= {"detach_reset": bool(metadata.get("detach", True))}
        options |= {"surrogate": json.loads(metadata["surrogate"])} if "surrogate" in metadata else {}
    neuron, notes = build(node, dt, options)
    return neuron, [*notes, *_notes(metadata)]


def _reset(metadata: Mapping[str, Any]) -> str:
    return "soft" if metadata.get("reset") == "subtract" else "hard"


def _notes(metadata: Mapping[str, Any]) -> list[str]:
    notes = []
    if _reset(metadata) == "soft":
        notes.append("its metadata ask for a soft reset, which other libraries overlook")
    if metadata.get("discretisation", "euler") != "euler":
        notes.append(f"its metadata ask for the discretisation {metadata['discretisation']!r}; read by Euler's method")
    return notes


def _remembered(node: Any, metadata: Mapping[str, Any], dt: float) -> Neuron | None:
    """Return the neuron that wrote the node, if the metadata name one and it would write the same node again."""
    if metadata.get("platform") != "step" or "neuron" not in metadata:
        return None
    try:
        options = json.loads(metadata["options"])
        if "surrogate" in metadata:
            options |= {"surrogate": json.loads(metadata["surrogate"])}
        if "detach" in metadata:
            options["detach_reset"] = bool(metadata["detach"])
        neuron = neurons.create(metadata["neuron"], **options)
        for name, value in json.loads(metadata.get("learned", "{}")).items():
            neuron.get_parameter(name).data.fill_(value)
        again = to_node(neuron, _shape(node), dt, soft_reset_in_metadata=True)
    except (StepError, ValueError, TypeError, AttributeError, KeyError):
        return None
    same = type(again) is type(node) and all(np.array_equal(getattr(again, f), getattr(node, f)) for f in _fields(node))
    return neuron if same else None


def _fields(node: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(node) if f.name not in ("metadata", "input_type", "output_type")]


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in np.shape(node.r))


def _build_if(node: Any, dt: float, options: dict[str, Any]) -> tuple[Neuron, list[str]]:
    gain = _values(np.multiply(node.r, dt), node.r)
    threshold, v_reset = _values(node.v_threshold), _values(node.v_reset)
    notes = []
    if _is(gain, dt):
        notes.append(f"r = 1 makes each step add {dt:g} of the input, as NIR's equation has it; some writers mean all")
    if _is(gain, 1.0) and _is(v_reset, 0.0) and _over(threshold, 0):
        return IF(threshold=threshold, **options), notes
    return GeneralIF(gain, threshold=threshold, v_reset=v_reset, **options), notes


def _build_lif(node: Any, dt: float, options: dict[str, Any]) -> tuple[Neuron, list[str]]:
    tau, r = _time(node.tau, dt, "tau"), _values(node.r)
    if _equal(node.r, node.tau, dt):
        r = tau
    threshold, v_leak, v_reset = _values(node.v_threshold), _values(node.v_leak), _values(node.v_reset)
    usual = _is(r, 1.0) and _is(v_leak, 0.0) and _is(v_reset, 0.0)
    if usual and _over(tau, 1) and _over(threshold, 0):
        return LIF(tau, threshold=threshold, **options), []
    return GeneralLIF(tau, r, v_leak, threshold=threshold, v_reset=v_reset, **options), []


def _build_li(node: Any, dt: float, options: dict[str, Any]) -> tuple[Neuron, list[str]]:
    tau, r, v_leak = _time(node.tau, dt, "tau"), _values(node.r), _values(node.v_leak)
    if _is(r, 1.0) and _is(v_leak, 0.0) and _over(tau, 1):
        return LeakyIntegrator(tau), []
    return GeneralLI(tau, r, v_leak), []


def _build_cuba(node: Any, dt: float, options: dict[str, Any]) -> tuple[Neuron, list[str]]:
    syn, mem = _time(node.tau_syn, dt, "tau_syn"), _time(node.tau_mem, dt, "tau_mem")
    threshold, v_leak, v_reset = _values(node.v_threshold), _values(node.v_leak), _values(node.v_reset)
    w_in, r = _values(node.w_in), _values(node.r)
    if _equal(node.w_in, node.tau_syn, dt):
        w_in = syn
    if _equal(node.r, node.tau_mem, dt):
        r = mem
    usual = w_in is syn and r is mem and _is(v_leak, 0.0) and _is(v_reset, 0.0)
    if usual and _over(syn, 1) and _over(mem, 1) and _over(threshold, 0):
        return CUBA(1 - 1 / syn, 1 - 1 / mem, threshold=threshold, **options), []
    return GeneralCubaLIF(syn, mem, w_in, r, v_leak, threshold=threshold, v_reset=v_reset, **options), []


_BUILD: dict[str, Callable[[Any, float, dict[str, Any]], tuple[Neuron, list[str]]]] = {
    "IF": _build_if, "LIF": _build_lif, "LI": _build_li, "CubaLIF": _build_cuba,
}  # fmt: skip


def _time(seconds: Any, dt: float, name: str) -> Values:
    """Return a time constant in time steps."""
    steps = _values(np.asarray(seconds, np.float64) / dt, seconds)
    shortest = float(steps.min()) if isinstance(steps, Tensor) else steps
    if not shortest >= 1:
        raise NIRError(
            f"{name} = {shortest * dt:g} s is shorter than a time step of {dt:g} s; read it with a smaller dt"
        )
    return steps


def _values(array: Any, source: Any = None) -> Values:
    """Return one number where all neurons have the same, else a tensor as small as it can be.

    A number is rounded to fewer digits where that changes no more than the precision of its ``source``: 0.2 ms in
    steps of 0.1 ms are 2 steps, not 1.9999999999999998.
    """
    wide = np.asarray(array, np.float64)
    if not wide.size or not np.isfinite(wide).all():
        raise NIRError("a parameter is empty or not finite")
    if (wide == wide.flat[0]).all():
        value = float(wide.flat[0])
        narrow = np.asarray(array if source is None else source).dtype == np.float32
        rounded = float(f"{value:.6g}" if narrow else f"{value:.12g}")
        return rounded if math.isclose(rounded, value, rel_tol=5e-7 if narrow else 1e-14) else value
    while wide.ndim > 1 and (wide == wide[..., :1]).all() and wide.shape[0] > 1:
        wide = wide[..., 0]
    missing = np.ndim(array) - wide.ndim
    return torch.from_numpy(wide.astype(np.float32).reshape(wide.shape + (1,) * missing))


def _equal(factor: Any, tau: Any, dt: float) -> bool:
    """Whether a factor cancels a time constant in time steps, to the precision of the file."""
    narrow = np.float32 in (np.asarray(factor).dtype, np.asarray(tau).dtype)
    return np.allclose(np.asarray(factor, np.float64) * dt, tau, rtol=1e-6 if narrow else 1e-12, atol=0)


def _is(value: Values, usual: float) -> bool:
    return isinstance(value, float) and value == usual


def _over(value: Values, bound: float) -> TypeGuard[float]:
    return isinstance(value, float) and value > bound
