"""Which STEP neurons the other libraries have too, and how they are said there.

A neuron stands here only where spikes and gradients are equal, and an option that the other side cannot do is
refused. So these are missing on SpikingJelly: izhikevich (there a quadratic membrane without units), glif (there one
conductance for each time step), resonate-and-fire (there without refractory threshold), ni-lif; and on snnTorch
what leaks and resets softly at once: snnTorch subtracts the threshold a step later, undamped by the leak, or loses
count where a potential stays above the threshold after a reset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from neurons.adapters.port import Equivalent
from neurons.errors import OptionError
from neurons.surrogate import Surrogate

V = {"v": "v"}


# SpikingJelly ---------------------------------------------------------------------------------------------------------


def _node(n: Any) -> dict[str, Any]:
    """Return the options that the nodes of SpikingJelly share."""
    reset = getattr(n, "reset_mode", "hard")
    if reset == "none":
        raise OptionError(f"{n.registered_name} on spikingjelly has no reset 'none': its nodes always reset")
    return {
        "v_threshold": float(n.threshold),
        "v_reset": 0.0 if reset == "hard" else None,
        "detach_reset": n.detach_reset,
        "surrogate": n.surrogate,
    }


def _sj_if(n: Any) -> Equivalent:
    return Equivalent("IFNode", _node(n), V)


def _sj_lif(n: Any) -> Equivalent:
    return Equivalent("LIFNode", {**_node(n), "tau": n.tau}, V)


def _sj_plif(n: Any) -> Equivalent:
    return Equivalent("ParametricLIFNode", _node(n), V, {"w": "w"})


def _sj_klif(n: Any) -> Equivalent:
    return Equivalent("KLIFNode", {**_node(n), "tau": n.tau}, V, {"k": "k"})


def _upswing(n: Any) -> dict[str, Any]:
    if n.v_reset > 0:
        raise OptionError(f"{n.registered_name} on spikingjelly needs a v_reset of at most 0, not {n.v_reset}")
    return {**_node(n), "v_reset": float(n.v_reset), "tau": n.tau}


def _sj_eif(n: Any) -> Equivalent:
    return Equivalent("EIFNode", {**_upswing(n), "delta_T": n.delta_t, "theta_rh": n.theta_rh}, V)


def _sj_qif(n: Any) -> Equivalent:
    return Equivalent("QIFNode", {**_upswing(n), "a0": n.a0, "v_c": n.v_c}, V)


def _sj_clif(n: Any) -> Equivalent:
    if n.detach_reset:
        raise OptionError("clif on spikingjelly lets the gradient through its reset; set detach_reset to False")
    options = {"tau": n.tau, "v_threshold": float(n.threshold), "surrogate": n.surrogate}
    return Equivalent("ComplementaryLIFNode", options, {"v": "v", "m": "m"})


def _sj_cuba(n: Any) -> Equivalent:
    if n.reset_delay:
        raise OptionError("cuba on spikingjelly has no reset_delay: its nodes reset at once")
    options = {**_node(n), "c_decay": n.alpha, "v_decay": n.beta}
    detach = options.pop("detach_reset")

    def adjust(cell: Any) -> None:
        cell.detach_reset = detach

    return Equivalent("CUBALIFNode", options, {"i": "c", "v": "v"}, adjust=adjust)


def _sj_psn(n: Any) -> Equivalent:
    return Equivalent("PSN", {"T": n.T, "surrogate": n.surrogate}, {}, {"weight": "weight", "bias": "bias"})


def _sj_masked_psn(n: Any) -> Equivalent:
    options = {"T": n.T, "k": n.k, "lambda_init": float(n.masking), "surrogate": n.surrogate}
    return Equivalent("MaskedPSN", options, {}, {"weight": "weight", "bias": "bias"})


def _sj_sliding_psn(n: Any) -> Equivalent:
    options = {"k": n.k, "surrogate": n.surrogate}
    return Equivalent("SlidingPSN", options, {name: name for name in n.state}, {"weights": "weight", "bias": "bias"})


def _sj_integer_lif(n: Any) -> Equivalent:
    from neurons.adapters.spikingjelly import library

    counts = library("surrogate").MultiLevelSpikeCount(n.levels)
    options = {"tau": n.tau, "v_threshold": float(n.threshold), "detach_reset": n.detach_reset, "surrogate": counts}
    return Equivalent("ILIFNode", options, V)


def _sj_ternary_lif(n: Any) -> Equivalent:
    return Equivalent("TernaryLIFNode", {**_node(n), "tau": n.tau}, V)


def _sj_leaky_integrator(n: Any) -> Equivalent:
    return Equivalent("NonSpikingLIFNode", {"tau": n.tau}, V)


# snnTorch -------------------------------------------------------------------------------------------------------------


def _at_once(n: Any, cls: str) -> dict[str, Any]:
    """Return how snnTorch says a reset that comes with the spike."""
    common = {"threshold": float(n.threshold), "surrogate": n.surrogate}
    if n.reset_mode == "none":
        return {**common, "reset_mechanism": "none"}
    if n.reset_mode == "hard" and not n.detach_reset:
        return {**common, "reset_mechanism": "zero", "reset_delay": False}
    if cls == "Leaky" and n.reset_mode == "hard":
        # Its delayed reset clears the potential before the leak and the input of the next step: the same spikes,
        # and the spike that clears is hidden from the gradient.
        return {**common, "reset_mechanism": "zero", "reset_delay": True}
    if cls == "Leaky" and n.registered_name == "if" and n.detach_reset:
        return {**common, "reset_mechanism": "subtract", "reset_delay": True}  # without a leak, late is not too late
    name, detach = n.registered_name, n.detach_reset
    able = {
        "if": "reset 'hard' and 'none', and 'soft' with detach_reset",
        "lif": "reset 'hard' and 'none'",
    }.get(name, "reset 'hard' without detach_reset and reset 'none'" + (", or reset_delay" if name == "cuba" else ""))
    raise OptionError(
        f"{name} on snntorch has {able}, not reset {n.reset_mode!r} {'with' if detach else 'without'} detach_reset"
    )


def _late(n: Any) -> dict[str, Any]:
    """Return how snnTorch says a reset that comes with the next step."""
    mechanism = {"hard": "zero", "soft": "subtract", "none": "none"}[n.reset_mode]
    return {"threshold": float(n.threshold), "surrogate": n.surrogate, "reset_mechanism": mechanism}


def _st_if(n: Any) -> Equivalent:
    return Equivalent("Leaky", {**_at_once(n, "Leaky"), "beta": 1.0}, {"v": "mem"})


def _st_lif(n: Any) -> Equivalent:
    options = {**_at_once(n, "Leaky"), "beta": 1 - 1 / n.tau}
    return Equivalent("Leaky", options, {"v": "mem"}, gain=1 / n.tau)


def _st_leaky_integrator(n: Any) -> Equivalent:
    options = {"beta": 1 - 1 / n.tau, "reset_mechanism": "none"}
    return Equivalent("Leaky", options, {"v": "mem"}, gain=1 / n.tau, potential_out=True)


def _st_cuba(n: Any) -> Equivalent:
    reset = {**_late(n), "reset_delay": True} if n.reset_delay else _at_once(n, "Synaptic")
    return Equivalent("Synaptic", {**reset, "alpha": n.alpha, "beta": n.beta}, {"i": "syn", "v": "mem"})


def _st_alpha(n: Any) -> Equivalent:
    options = {**_late(n), "alpha": n.alpha, "beta": n.beta}
    return Equivalent("Alpha", options, {"e": "syn_exc", "i": "syn_inh", "v": "mem"})


def _st_lapicque(n: Any) -> Equivalent:
    if not n.reset_delay and n.reset_mode != "none":
        raise OptionError("lapicque on snntorch resets with the next step; set reset_delay to True")
    return Equivalent("Lapicque", {**_late(n), "R": n.r, "C": n.c, "time_step": n.dt}, {"v": "mem"})


@dataclass(frozen=True)
class _Scaled:
    """A surrogate for a potential that is measured in a smaller unit."""

    surrogate: Surrogate
    unit: float

    def __call__(self, u: Tensor) -> Tensor:
        return self.surrogate(u / self.unit)


def _recurrent(n: Any) -> dict[str, Any]:
    # snnTorch divides neither input nor recurrence by tau. So its potential is tau times ours, and the weight, its
    # gradient included, is the same.
    scaled = {"threshold": n.tau * n.threshold, "surrogate": _Scaled(n.surrogate, n.tau), "beta": 1 - 1 / n.tau}
    return {**_at_once(n, "RLeaky"), **scaled}


def _st_recurrent_lif(n: Any) -> Equivalent:
    options = {**_recurrent(n), "all_to_all": False, "V": 1.0}
    return Equivalent("RLeaky", options, {"v": "mem", "s": "spk"}, {"weight": "recurrent.V"})


def _st_dense_recurrent_lif(n: Any) -> Equivalent:
    def adjust(cell: Any) -> None:
        cell.recurrent.bias = None

    options = {**_recurrent(n), "linear_features": n.features}
    return Equivalent("RLeaky", options, {"v": "mem", "s": "spk"}, {"weight": "recurrent.weight"}, adjust=adjust)


EQUIVALENTS: dict[str, dict[str, Callable[[Any], Equivalent]]] = {
    "spikingjelly": {
        "if": _sj_if, "lif": _sj_lif, "plif": _sj_plif, "klif": _sj_klif, "eif": _sj_eif, "qif": _sj_qif,
        "clif": _sj_clif, "cuba": _sj_cuba, "psn": _sj_psn, "masked-psn": _sj_masked_psn,
        "sliding-psn": _sj_sliding_psn, "integer-lif": _sj_integer_lif, "ternary-lif": _sj_ternary_lif,
        "leaky-integrator": _sj_leaky_integrator,
    },
    "snntorch": {
        "if": _st_if, "lif": _st_lif, "cuba": _st_cuba, "alpha": _st_alpha, "lapicque": _st_lapicque,
        "recurrent-lif": _st_recurrent_lif, "dense-recurrent-lif": _st_dense_recurrent_lif,
        "leaky-integrator": _st_leaky_integrator,
    },
}  # fmt: skip
"""Backend, and registered name of a neuron, to what says it there."""
