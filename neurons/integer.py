"""Neurons whose spikes are counts or signed: integer, normalised integer, ternary, and SpikingBrain's."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from neurons.base import Neuron, SpikingNeuron, neurons
from neurons.checks import count, positive, time_constant
from neurons.conventional import _Round
from neurons.cost import traced_cost
from neurons.errors import OptionError, ShapeError
from neurons.spike_codes import expand


@neurons.register("integer-lif")
class IntegerLIF(Neuron):
    """Integer LIF (I-LIF): h = v (1 - 1/tau) + x; n = round(clamp(h/threshold, 0, D)); v = h - n threshold.

    A step sends a count of 0 to D spikes. Backward, rounding passes the gradient straight through inside the clamp and
    nothing outside. The input is not divided by tau. Source: Luo et al., ECCV 2024 (SpikeYOLO), with D = 4 and a
    decay of 0.25, that is tau = 4/3.

    Parameters
    ----------
    tau : float
        Membrane time constant in time steps, greater than 1.
    levels : int
        D, the largest count.
    threshold : float
        Potential that one spike stands for.
    detach_reset : bool
        Whether the reset hides the count from the gradient.
    """

    state = {"v": 0.0}
    output = "integer"

    def __init__(
        self, tau: float = 4 / 3, *, levels: int = 4, threshold: float = 1.0, detach_reset: bool = True
    ) -> None:
        super().__init__()
        name = getattr(self, "registered_name", type(self).__name__)
        time_constant(name, tau=tau)
        count(name, levels=levels)
        positive(name, threshold=threshold)
        self.tau = tau
        self.levels = int(levels)
        self.threshold = threshold
        self.detach_reset = detach_reset

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = v - v / self.tau + x
        n = _Round.apply((h / self.threshold).clamp(0, self.levels))
        return n, h - (n.detach() if self.detach_reset else n) * self.threshold

    def extra_repr(self) -> str:
        return f"tau={self.tau}, levels={self.levels}, threshold={self.threshold}"


@neurons.register("ni-lif")
class NormalisedIntegerLIF(IntegerLIF):
    """Normalised integer LIF (NI-LIF): s = round(clamp(h/threshold, 0, D)) / D; the rest as in integer-lif.

    The output lies on the grid 0, 1/D ... 1; the reset takes off the n = D s thresholds that the count stands for.
    Source: Lei et al., AAAI 2025 (Spike2Former).

    Parameters
    ----------
    tau, levels, threshold, detach_reset
        See :class:`IntegerLIF`.
    """

    output = "quantised"

    @property
    def step_size(self) -> float:
        """Distance of two neighbouring outputs."""
        return 1 / self.levels

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        n, v = super().step(x, v)
        return n / self.levels, v


@neurons.register("sfa-lif")
class SpikeFiringApproximationLIF(IntegerLIF):
    """Integer LIF with spike firing approximation: trained on counts, run as D binary sub-steps (E-SpikeFormer).

    The equation is that of integer-lif. :meth:`expand` gives the binary form, in which a count of n is n ones and
    then D - n zeros: a linear layer behind it, summed over the sub-steps, returns what it returns for the count.
    Source: Yao et al., IEEE TPAMI 2025 (arXiv 2411.16061).

    Parameters
    ----------
    tau, levels, threshold, detach_reset
        See :class:`IntegerLIF`.
    """

    def expand(self, counts: Tensor) -> Tensor:
        """Return the spikes [T * D, B, ...] in {0, 1} for counts [T, B, ...]; the D sub-steps of a step are adjacent.

        Raises
        ------
        DataError
            When a count is not an integer from 0 to D.
        """
        spikes, _ = expand(counts, "binary", steps=self.levels)
        return spikes.transpose(0, 1).flatten(0, 1)


@neurons.register("ternary-lif")
class TernaryLIF(SpikingNeuron):
    """Ternary LIF: h = v + (x - v) / tau; s = H(h - threshold) - H(-h - threshold); v = reset(h, |s| or s).

    The hard reset sets the potential to 0 after a spike of either sign; the soft one takes s times the threshold off.
    Source: Guo et al., AAAI 2024 (Ternary Spike).

    Parameters
    ----------
    tau : float
        Membrane time constant in time steps, greater than 1.
    **options
        See :class:`neurons.SpikingNeuron`.
    """

    state = {"v": 0.0}
    output = "ternary"

    def __init__(self, tau: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        time_constant("ternary-lif", tau=tau)
        self.tau = tau

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        h = v + (x - v) / self.tau
        up, down = self.spike(h - self.threshold), self.spike(-h - self.threshold)
        s = up - down
        return s, self.reset(h, up + down if self.reset_mode == "hard" else s)

    def extra_repr(self) -> str:
        return f"tau={self.tau}, {super().extra_repr()}"


@neurons.register("spikingbrain")
class SpikingBrain(Neuron):
    """SpikingBrain's integer neuron: n = round(x / V), V = mean(|x|) / k, the mean over the neurons of a token.

    Signed counts, no state: time is folded into the counts, which :func:`neurons.spike_codes.expand` unfolds. About k
    spikes are counted for each neuron whatever the input's scale; a larger k means more spikes and less error.
    Backward, V is held constant and rounding passes the gradient straight through.
    Source: SpikingBrain technical report (arXiv 2509.05276), equations 19 to 23; V is kept in [1e-5, 1e4] as in its
    code.

    Parameters
    ----------
    k : float
        Mean count, positive; 3 in the report.
    axis : int
        Axis of the neurons of a token in one time step [B, ...]; the last one when left out.
    scaled : bool
        Whether n V is sent instead of n: the real values that the report's own code hands on.
    """

    output = "integer"

    def __init__(self, k: float = 3.0, *, axis: int = -1, scaled: bool = False) -> None:
        super().__init__()
        positive("spikingbrain", k=k)
        if axis == 0:
            raise OptionError("axis of spikingbrain must not be 0, the batch: samples would depend on each other")
        self.k = k
        self.axis = axis
        self.scaled = scaled
        if scaled:
            self.output = "real"  # type: ignore[misc]

    def thresholds(self, x: Tensor) -> Tensor:
        """Return V for one time step or many, with the axis of the neurons kept at length 1; not differentiated."""
        return (x.detach().abs().mean(self.axis, keepdim=True) / self.k).clamp(1e-5, 1e4)

    def step(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if not -x.dim() < self.axis < x.dim():
            raise ShapeError(f"spikingbrain has the axis {self.axis}; one time step has the shape {list(x.shape)}")
        v = self.thresholds(x)
        n = _Round.apply(x / v)
        return n * v if self.scaled else n

    def cost(self) -> dict[str, float]:
        """Return the operations of one update: those of the step, and the sum of the mean, one for each neuron."""
        counted = traced_cost(SpikingBrain(self.k, scaled=self.scaled))  # on vectors, whatever its own axis
        return {**counted, "add": counted.get("add", 0) + 1}

    def extra_repr(self) -> str:
        return f"k={self.k}, axis={self.axis}, scaled={self.scaled}"
