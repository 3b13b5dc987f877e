"""One module of Diehl and Cook in plain NumPy: the equations as they stand, one time step after another."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurons.diehl_cook.constants import FINE, Constants, steps
from neurons.diehl_cook.raster import Raster
from neurons.errors import OptionError, ShapeError

NEVER = -(1 << 40)
"""Step of a spike that never was."""
Real = NDArray[np.float64]


class Reference:
    """One module, all neurons and synapses at every time step, in float64.

    With conductances relative to the leak, an excitatory neuron follows

        tau_e dv/dt = (rest_e - v) + g_e (reversal_e - v) + g_i (reversal_inhibition - v)

    with exponentially decaying g_e and g_i, and spikes when v > theta - offset + base_e and its timer is above
    ``refractory_e``; then v = reset_e, theta grows by theta_plus and the timer starts again. For ``refractory_e`` after
    a spike v does not move. An inhibitory neuron follows the same equation with constants of its own. Sources are
    under :class:`neurons.diehl_cook.Constants`.

    The order within a time step is that of Brian 2: all state variables by Euler's method from their values before the
    step; thresholds; synapses (input, excitatory to inhibitory, inhibitory to excitatory, each first the conductance,
    then the weight; then what a postsynaptic spike changes); resets. A spike therefore moves potentials from the next
    step on. Weights change at a presynaptic spike by ``rate_pre * post_fast`` and at a postsynaptic spike by
    ``rate_post * pre * post_slow``, with the traces that were left before the spike set them to 1.

    Parameters
    ----------
    weights : array, shape [inputs, neurons]
    theta : array, shape [neurons]
        mV.
    constants : Constants
    dt : float
        Time step in ms.
    delays : array, shape [inputs, neurons], optional
        Of the input in ms; none when left out.

    Attributes
    ----------
    v, g_e, g_i, theta, timer : array, shape [neurons]
        Of excitatory neurons; the timer is in seconds.
    v_inhibitory, g_inhibitory : array, shape [neurons]
    spikes, spikes_inhibitory : list of (int, int)
        Step since the start, and neuron, of all spikes so far.
    """

    def __init__(
        self,
        weights: ArrayLike,
        theta: ArrayLike,
        *,
        constants: Constants = Constants(),  # noqa: B008  (frozen)
        dt: float = FINE,
        delays: ArrayLike | None = None,
    ) -> None:
        self.weights = np.array(weights, np.float64)
        if self.weights.ndim != 2:
            raise ShapeError(f"weights must be [inputs, neurons], not {list(self.weights.shape)}")
        self.inputs, self.neurons = self.weights.shape
        self.theta = np.broadcast_to(np.asarray(theta, np.float64), self.neurons).copy()
        self.constants, self.dt, self.steps = constants, dt, steps(constants, dt)
        c = constants
        self.lateral = c.inhibit * (1.0 - np.eye(self.neurons))
        self._waiting: NDArray[np.bool_] | None = None
        if delays is not None:
            self._later = np.rint(np.asarray(delays, np.float64) / dt).astype(np.int64)
            if self._later.shape != self.weights.shape or self._later.min() < 0:
                raise ShapeError(f"delays must be at least 0, for each of {list(self.weights.shape)} synapses")
            self._waiting = np.zeros((int(self._later.max()) + 1, *self.weights.shape), np.bool_)
        self.last_input = np.full((self.inputs, 1 if delays is None else self.neurons), NEVER)
        self.spikes: list[tuple[int, int]] = []
        self.spikes_inhibitory: list[tuple[int, int]] = []
        self.now = 0
        self.rest()
        self.v -= c.start_below
        self.v_inhibitory -= c.start_below
        self.timer[:] = 0.0

    def rest(self) -> None:
        """Bring all but weights, thresholds and traces to rest."""
        c, shape = self.constants, self.neurons
        self.v, self.v_inhibitory = np.full(shape, c.rest_e), np.full(shape, c.rest_i)
        self.g_e, self.g_i, self.g_inhibitory = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.timer = np.full(shape, np.inf)
        self.last_spike, self.last_inhibitory = np.full(shape, NEVER), np.full(shape, NEVER)

    def settle(self, *, learn: bool = False) -> None:
        """Run the rest before the first image, without input; thresholds decay where it is one of learning."""
        for _ in range(self.steps.settle):
            self.step(learn=learn)

    def normalise(self) -> None:
        """Scale the weights of every neuron to their sum."""
        total = self.weights.sum(axis=0)
        self.weights *= np.divide(self.constants.weight_sum, total, out=np.ones_like(total), where=total > 0)

    def present(self, raster: Raster, *, learn: bool = False) -> NDArray[np.int64]:
        """Show an image and the silence after it.

        Parameters
        ----------
        raster : Raster
            Input spikes of the image.
        learn : bool
            Whether thresholds and weights change; weights are normalised first.

        Returns
        -------
        array of int64, shape [neurons]
            Spikes of each excitatory neuron while the image was shown.
        """
        if raster.steps != self.steps.image:
            raise OptionError(f"an image has {self.steps.image} steps of {self.dt:g} ms, not {raster.steps}")
        if learn:
            self.normalise()
        before = len(self.spikes)
        for t in range(raster.steps):
            self.step(raster.at(t), learn)
        shown = [k for _, k in self.spikes[before:]]
        for _ in range(self.steps.silence):
            self.step(learn=learn)
        return np.bincount(np.array(shown, np.int64), minlength=self.neurons)

    def step(self, inputs: NDArray[np.uint16] | None = None, learn: bool = False) -> None:
        """Take one time step in which some inputs spike."""
        self._integrate(learn)
        c, s = self.constants, self.steps
        bar = self.theta - c.offset + c.base_e
        free = (self.timer > c.refractory_e / 1000.0) & (self.now - self.last_spike >= s.hold_e)
        fired = np.flatnonzero((self.v > bar) & free)
        free = self.now - self.last_inhibitory >= s.hold_i
        fired_inhibitory = np.flatnonzero((self.v_inhibitory > c.threshold_i) & free)

        self._input(np.zeros(0, np.uint16) if inputs is None else inputs, learn)
        self.g_inhibitory[fired] += c.excite
        self.g_i += self.lateral[fired_inhibitory].sum(axis=0)
        if learn and len(fired):
            slow = self._trace(self.last_spike[fired], c.tau_post_slow)
            pre = self._trace(self.last_input, c.tau_pre)
            pre = np.broadcast_to(pre, self.weights.shape)[:, fired]
            self.weights[:, fired] = np.clip(self.weights[:, fired] + c.rate_post * pre * slow, 0.0, c.weight_most)

        self.v[fired], self.timer[fired], self.last_spike[fired] = c.reset_e, 0.0, self.now
        if learn:
            self.theta[fired] += c.theta_plus
        self.v_inhibitory[fired_inhibitory], self.last_inhibitory[fired_inhibitory] = c.reset_i, self.now
        self.spikes += [(self.now, int(k)) for k in fired]
        self.spikes_inhibitory += [(self.now, int(k)) for k in fired_inhibitory]
        self.now += 1

    def _integrate(self, learn: bool) -> None:
        c, s = self.constants, self.steps
        g_e, g_i, g_inhibitory = s.mean_ge * self.g_e, s.mean_gi * self.g_i, s.mean_ge * self.g_inhibitory
        flow = (c.rest_e - self.v) + g_e * (c.reversal_e - self.v) + g_i * (c.reversal_inhibition - self.v)
        self.v += np.where(self.now - self.last_spike >= s.hold_e, s.leak_e * flow, 0.0)
        # nothing inhibits inhibitory neurons
        flow = (c.rest_i - self.v_inhibitory) + g_inhibitory * (c.reversal_e - self.v_inhibitory)
        self.v_inhibitory += np.where(self.now - self.last_inhibitory >= s.hold_i, s.leak_i * flow, 0.0)
        self.g_e *= s.keep_ge
        self.g_i *= s.keep_gi
        self.g_inhibitory *= s.keep_ge
        self.timer += c.timer_rate * (self.dt / 1000.0)
        if learn:
            self.theta *= s.keep_theta

    def _input(self, inputs: NDArray[np.uint16], learn: bool) -> None:
        """Let input spikes arrive, and weights change by them."""
        c = self.constants
        if self._waiting is None:
            rows: NDArray[np.int64] = inputs.astype(np.int64)
            here = np.ones((len(rows), self.neurons), np.bool_)
        else:
            for i in inputs:
                self._waiting[(self.now + self._later[i]) % len(self._waiting), i, np.arange(self.neurons)] = True
            arriving = self._waiting[self.now % len(self._waiting)]
            rows = np.flatnonzero(arriving.any(axis=1))
            here = arriving[rows]
            arriving[rows] = False
        if not len(rows):
            return
        self.g_e += (self.weights[rows] * here).sum(axis=0)
        if learn:
            fast = c.presynaptic_sign * c.rate_pre * self._trace(self.last_spike, c.tau_post_fast)
            self.weights[rows] = np.clip(self.weights[rows] + fast * here, 0.0, c.weight_most)
        arrived = here if self._waiting is not None else np.ones((len(rows), 1), np.bool_)
        self.last_input[rows] = np.where(arrived, self.now, self.last_input[rows])

    def _trace(self, last: NDArray[np.int64], tau: float) -> Real:
        return np.exp(-(self.now - last) * (self.dt / tau))
