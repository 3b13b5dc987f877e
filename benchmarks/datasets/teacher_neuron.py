"""A small neuron with active dendrites, simulated here, whose behaviour other models are to learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.datasets.drawing import at_least, check_seed, random_state
from benchmarks.datasets.neuron_recordings import VOLTAGE_CAP
from neurons.errors import OptionError, ShapeError


@dataclass(frozen=True)
class TeacherNeuron:
    r"""Branches with synapses and a plateau of NMDA receptors each, and a leaky integrate-and-fire soma.

    Steps are of 1 ms. Excitatory and inhibitory input spikes :math:`x^e_j, x^i_j \in \{0, 1\}` of branch k are
    filtered,

    .. math:: A_k(t) = e^{-1/\tau_A} A_k(t-1) + \textstyle\sum_j w_j x^e_j(t), \qquad
              N_k(t) = e^{-1/\tau_N} N_k(t-1) + \textstyle\sum_j w_j x^e_j(t), \qquad
              I_k(t) = e^{-1/\tau_I} I_k(t-1) + \textstyle\sum_j w_j x^i_j(t),

    and drive the soma by way of a fast current, inhibition, and a plateau that sets in when enough excitation comes
    together on one branch and inhibition does not hold it down,

    .. math:: u_k = a A_k - h I_k + p\, \sigma\big((N_k - g I_k - \theta) / s\big).

    The potential of the soma follows :math:`\sum_k c_k u_k`,

    .. math:: V(t) = E + e^{-1/\tau} (V(t-1) - E) + (1 - e^{-1/\tau}) \textstyle\sum_k c_k u_k(t),

    and is kept at or above ``floor``. Where it reaches -55 mV there is a spike, at which V is -55 mV; for
    ``refractory`` steps after it V is ``reset``. Synaptic weights w are lognormal with mean 1, the couplings c go from
    1.2 at the first branch to 0.8 at the last. Each simulation starts with V = E and empty filters.

    The form is that of a two-layer neuron (P. Poirazi, T. Brannon, B. W. Mel, Pyramidal neuron as two-layer neural
    network, Neuron 37, 2003). The constants are no measurements: time constants are of the order of those of the named
    receptors, and drive and threshold were set once so that the neuron fires a few times a second.

    Parameters
    ----------
    branches : int
        Branches.
    synapses : int
        Excitatory, and as many inhibitory, synapses of a branch.
    seed : int
        Seed of the synaptic weights.
    fast, slow, inhibitory : float
        Time constants :math:`\tau_A, \tau_N, \tau_I` in ms.
    fast_gain, hold, plateau : float
        a, h and p in mV.
    shunt, threshold, width : float
        g, :math:`\theta` and s, in synaptic weights.
    membrane : float
        Time constant :math:`\tau` in ms.
    rest, reset, floor : float
        E, the potential after a spike, and the lowest one, in mV.
    refractory : int
        Steps after a spike in which there is no other.
    spread : float
        Standard deviation of the logarithm of the weights.

    Raises
    ------
    OptionError
        When a number is outside its domain.
    """

    branches: int = 8
    synapses: int = 8
    seed: int = 0
    fast: float = 3.0
    slow: float = 40.0
    inhibitory: float = 12.0
    fast_gain: float = 3.0
    hold: float = 1.2
    plateau: float = 14.0
    shunt: float = 1.0
    threshold: float = 4.5
    width: float = 0.5
    membrane: float = 15.0
    rest: float = -76.0
    reset: float = -72.0
    floor: float = -90.0
    refractory: int = 4
    spread: float = 0.3

    def __post_init__(self) -> None:
        at_least(1, branches=self.branches, synapses=self.synapses)
        at_least(0, refractory=self.refractory)
        check_seed(self.seed)
        for name in ("fast", "slow", "inhibitory", "membrane", "width"):
            if not getattr(self, name) > 0:
                raise OptionError(f"dataset.{name} must be positive, not {getattr(self, name)}")

    @property
    def inputs(self) -> int:
        """Input channels: all excitatory ones, branch by branch, then all inhibitory ones."""
        return 2 * self.branches * self.synapses

    @property
    def signs(self) -> np.ndarray:
        """What a spike of each input channel is: 1 where it excites, -1 where it inhibits."""
        return np.repeat(np.array([1, -1], np.float32), self.inputs // 2)

    @cached_property
    def weights(self) -> np.ndarray:
        """Weights w, float64 [2, branches, synapses]: excitatory, then inhibitory."""
        drawn = random_state(self.seed).standard_normal((2, self.branches, self.synapses))
        return np.exp(self.spread * drawn - self.spread**2 / 2)

    def synaptic(self, x: np.ndarray) -> np.ndarray:
        """Return the weighted sums of input spikes x [L, S, inputs], float32 [L, 2, S, branches]: w x^e and w x^i."""
        if x.ndim != 3 or x.shape[2] != self.inputs:
            raise ShapeError(f"this neuron takes input spikes [L, S, {self.inputs}], not {list(x.shape)}")
        spikes = (x != 0).reshape(*x.shape[:2], 2, self.branches, self.synapses).astype(np.float32)
        return np.einsum("lsekj,ekj->lesk", spikes, self.weights.astype(np.float32), optimize=True)

    def drive(self, synaptic: np.ndarray) -> Iterator[np.ndarray]:
        """Yield :math:`u_k` in mV for each step of synaptic sums [L, 2, S, branches], float64 [S, branches]."""
        fast, slow, held = np.zeros((3, *synaptic.shape[2:]))
        keep_fast, keep_slow, keep_held = (np.exp(-1 / tau) for tau in (self.fast, self.slow, self.inhibitory))
        for excitation, inhibition in synaptic:
            fast = keep_fast * fast + excitation
            slow = keep_slow * slow + excitation
            held = keep_held * held + inhibition
            argument = (slow - self.shunt * held - self.threshold) / self.width
            yield self.fast_gain * fast - self.hold * held + self.plateau / (1 + np.exp(-argument))

    def run(self, synaptic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return output spikes, bool [S, L], and the potential of the soma in mV, float32 [S, L].

        Parameters
        ----------
        synaptic : numpy.ndarray, shape [L, 2, S, branches]
            What :meth:`synaptic` returns.
        """
        coupling = np.linspace(1.2, 0.8, self.branches) if self.branches > 1 else np.ones(1)
        steps, _, count, _ = synaptic.shape
        spikes, voltage = np.zeros((steps, count), bool), np.empty((steps, count), np.float32)
        keep = np.exp(-1 / self.membrane)
        v, silent = np.full(count, self.rest), np.zeros(count, np.int64)
        for t, drive in enumerate(self.drive(synaptic)):
            v = self.rest + keep * (v - self.rest) + (1 - keep) * (drive @ coupling)
            v = np.where(silent > 0, self.reset, np.maximum(v, self.floor))
            fires = v >= VOLTAGE_CAP
            spikes[t], voltage[t] = fires, np.minimum(v, VOLTAGE_CAP)
            silent = np.where(fires, self.refractory, np.maximum(silent - 1, 0))
            v = np.where(fires, self.reset, v)
        return np.ascontiguousarray(spikes.T), np.ascontiguousarray(voltage.T)
