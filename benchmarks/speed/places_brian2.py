"""The module of Diehl and Cook stated in Brian 2, as the released code of VPRSNN states it: a peer for ours.

Equations, order of pathways and delays are those of :class:`neurons.diehl_cook.Reference`. Brian 2 compiles them once,
with Cython where it is there.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from neurons.diehl_cook import Constants, Raster
from neurons.errors import StepError

_EXCITATORY = """
dv/dt = ((rest_e - v) + g_e * (reversal_e - v) + g_i * (reversal_inhibition - v)) / tau_e : volt (unless refractory)
dg_e/dt = -g_e / tau_ge : 1
dg_i/dt = -g_i / tau_gi : 1
dtimer/dt = timer_rate : second
"""
_INHIBITORY = """
dv/dt = ((rest_i - v) + g_e * (reversal_e - v)) / tau_i : volt (unless refractory)
dg_e/dt = -g_e / tau_ge : 1
"""
_TRACES = """
w : 1
darrived/dt = -arrived / tau_pre : 1 (event-driven)
dfast/dt = -fast / tau_post_fast : 1 (event-driven)
dslow/dt = -slow / tau_post_slow : 1 (event-driven)
"""
_PRE = """
g_e_post += w
arrived = 1.0
w = clip(w + rate_pre * fast, 0, weight_most)
"""
_POST = """
w = clip(w + rate_post * arrived * slow, 0, weight_most)
fast = 1.0
slow = 1.0
"""
_TIMES = ("tau_e", "tau_i", "tau_ge", "tau_gi", "tau_pre", "tau_post_fast", "tau_post_slow", "tau_theta",
          "refractory_e", "refractory_i")  # fmt: skip
_VOLTS = ("rest_e", "reset_e", "base_e", "offset", "theta_plus", "rest_i", "reset_i", "threshold_i", "reversal_e",
          "reversal_inhibition")  # fmt: skip
_PLAIN = ("timer_rate", "excite", "inhibit", "rate_post", "weight_most")


@functools.cache
def _imported() -> ModuleType | str:
    try:
        import brian2  # type: ignore[import-not-found]
    except ImportError:
        return "brian2 is not installed: pip install 'brian2>=2.9'"
    except AttributeError as error:  # Brian 2.9 reads names of NumPy that 2.4 no longer has
        return f"brian2 cannot be imported with NumPy {np.__version__}: {error}; it needs 'numpy<2.4'"
    return brian2


def why_not() -> str:
    """Return what keeps Brian 2 from running here, or nothing."""
    found = _imported()
    return found if isinstance(found, str) else ""


def brian() -> Any:
    """Return Brian 2.

    Raises
    ------
    StepError
        Where it cannot be imported.
    """
    found = _imported()
    if isinstance(found, str):
        raise StepError(found)
    return found


class BrianModule:
    """One module in Brian 2.

    Parameters
    ----------
    weights : array, shape [inputs, neurons]
    theta : array, shape [neurons]
        mV.
    learn : bool
        Whether thresholds and weights change; the released code builds another network to answer queries.
    constants : Constants
    dt : float
        Time step in ms.
    delays : array, shape [inputs, neurons], optional
        Of the input in ms; none when left out.
    explicit : bool
        Whether input spikes are given to ``present``, not drawn by Brian 2.

    Attributes
    ----------
    spikes : int
        Excitatory spikes so far.
    """

    def __init__(
        self,
        weights: ArrayLike,
        theta: ArrayLike,
        *,
        learn: bool = False,
        constants: Constants = Constants(),  # noqa: B008  (frozen)
        dt: float = 0.1,
        delays: ArrayLike | None = None,
        explicit: bool = False,
    ) -> None:
        b2, c = brian(), constants
        # an earlier run may have left its clock
        self._b2, self.constants, self.dt, self.learn, self.explicit = b2, constants, dt, learn, explicit
        start = np.asarray(weights, np.float64)
        inputs, neurons = start.shape
        b2.defaultclock.dt = dt * b2.ms
        self._names: dict[str, Any] = {name: getattr(c, name) * b2.ms for name in _TIMES}
        self._names |= {name: getattr(c, name) * b2.mV for name in _VOLTS}
        self._names |= {name: getattr(c, name) for name in _PLAIN} | {"rate_pre": c.rate_pre * c.presynaptic_sign}
        theta_changes = "dtheta/dt = -theta / tau_theta : volt" if learn else "theta : volt"
        grows = "; theta += theta_plus" if learn else ""
        self.excitatory = b2.NeuronGroup(
            neurons, _EXCITATORY + theta_changes, method="euler", refractory="refractory_e",
            threshold="v > theta - offset + base_e and timer > refractory_e",
            reset="v = reset_e; timer = 0*ms" + grows,
        )  # fmt: skip
        self.inhibitory = b2.NeuronGroup(
            neurons, _INHIBITORY, method="euler", refractory="refractory_i", threshold="v > threshold_i",
            reset="v = reset_i",
        )  # fmt: skip
        self.excitatory.v, self.inhibitory.v = (c.rest_e - c.start_below) * b2.mV, (c.rest_i - c.start_below) * b2.mV
        self.excitatory.theta = np.asarray(theta, np.float64) * b2.mV
        nobody = np.zeros(0, np.int64)
        self.source = (
            b2.SpikeGeneratorGroup(inputs, nobody, nobody * b2.ms) if explicit
            else b2.PoissonGroup(inputs, np.zeros(inputs) * b2.Hz)
        )  # fmt: skip
        pathways = {"model": _TRACES, "on_pre": _PRE, "on_post": _POST}
        if not learn:
            pathways = {"model": "w : 1", "on_pre": "g_e_post += w"}
        self.input = b2.Synapses(self.source, self.excitatory, **pathways)
        self.input.connect()
        self._index = (np.asarray(self.input.i), np.asarray(self.input.j))
        self.input.w = start[self._index]
        if delays is not None:
            self.input.delay = np.asarray(delays, np.float64)[self._index] * b2.ms
        out = b2.Synapses(self.excitatory, self.inhibitory, on_pre="g_e_post += excite")
        out.connect(j="i")
        back = b2.Synapses(self.inhibitory, self.excitatory, on_pre="g_i_post += inhibit")
        back.connect(condition="i != j")
        self._count = b2.SpikeMonitor(self.excitatory, record=False)
        self._network = b2.Network(
            self.excitatory, self.inhibitory, self.source, self.input, out, back, self._count
        )  # fmt: skip

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights of the input [inputs, neurons]."""
        found = np.empty((len(self.source), len(self.excitatory)))
        found[self._index] = np.asarray(self.input.w)
        return found

    @property
    def theta(self) -> NDArray[np.float64]:
        """Adaptive part of the thresholds in mV [neurons]."""
        return np.asarray(self.excitatory.theta) * 1e3

    def settle(self) -> None:
        """Run the rest before the first image."""
        self._run(self.constants.settle)

    def normalise(self) -> None:
        """Scale the weights of every neuron to their sum."""
        weights = self.weights
        weights *= self.constants.weight_sum / weights.sum(axis=0)
        self.input.w = weights[self._index]

    def present(self, what: Raster | Tensor) -> NDArray[np.int64]:
        """Show an image and the silence after it; return the spikes of each excitatory neuron during the image.

        Parameters
        ----------
        what : Raster, or Tensor of shape [inputs]
            Input spikes where they are ``explicit``, else rates in Hz.
        """
        b2, before = self._b2, np.array(self._count.count)
        if self.learn:
            self.normalise()
        if isinstance(what, Raster):
            steps = np.repeat(np.arange(what.steps), np.diff(what.first))
            self.source.set_spikes(what.inputs.astype(np.int64), steps * self.dt * b2.ms + self._network.t)
        else:
            self.source.rates = what.numpy() * b2.Hz
        self._run(self.constants.image)
        shown = np.array(self._count.count) - before
        if not isinstance(what, Raster):
            self.source.rates = np.zeros(len(self.source)) * b2.Hz
        self._run(self.constants.silence)
        return shown

    def _run(self, duration: float) -> None:
        self._network.run(duration * self._b2.ms, namespace=self._names)
