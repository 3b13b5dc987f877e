"""The ELM neuron of the networks of ELM neurons: signed synapses, a high-pass filter, dropout over whole sequences."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurons.base import State, neurons
from neurons.checks import positive
from neurons.elm.base import Activation, LeakyMemory, held, one_of
from neurons.elm.coefficients import bounded, decay, wide_range, wide_rho, write_gain
from neurons.elm.projection import branch_matrix, filter_time
from neurons.errors import OptionError
from neurons.lengths import at_last_step

Rectifier = Literal["identity", "relu", "abs", "exp"]
RECTIFIERS = ("identity", "relu", "abs", "exp")


def rectify(weight: Tensor, rectifier: str) -> Tensor:
    """Return the weights of synapses as they act on the input."""
    if rectifier == "relu":
        return torch.relu(weight)
    if rectifier == "abs":
        return weight.abs()
    return weight.exp() if rectifier == "exp" else weight


def kept(like: Tensor, shape: tuple[int, ...], rate: float) -> Tensor:
    """Return 1 where dropout of ``rate`` keeps, else 0, drawn from torch's global generator."""
    return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - rate)


@neurons.register("modified-elm")
class ModifiedELM(LeakyMemory):
    """Modified ELM: k = keep m; m = k + gain tanh(MLP[w x, k]); y = W m; r = leak r + (1 - leak) y; ReLU(y - r + c).

    It differs from version 2 of :class:`neurons.elm.ELM` in this: synapses are signed and begin uniform in
    +-1 / sqrt(synapses); branches need not leak; the perceptron squares its ReLU; learned time constants reach from
    tau_min / 10 to sqrt(10) tau_max; a high-pass filter can take the slow part off the read-out. Source: Spieler,
    Martius and Levina 2026 (arXiv 2605.12049).

    In training mode dropout draws one mask for each sample, from torch's global generator, every time ``run`` is
    called: it holds for all steps of that call, and a run that goes on from a state draws anew. Masks on synapses are
    scaled by 1 / (1 - p), which keeps the mean; masks on the perceptron's output by 1 / sqrt(1 - p), which keeps the
    variance.

    Parameters
    ----------
    features : int
        Number of input channels.
    rectifier : {"identity", "relu", "abs", "exp"}
        How a learned number becomes the weight of a synapse.
    input_scale : float
        Factor on the branch sums.
    tau : float, optional
        Time constant of the branches; without one they are the sums of the present step and there is no state ``b``.
    high_pass : float, optional
        Time constant of the high-pass filter on the read-out; no filter and no state ``r`` when left out.
    input_dropout, memory_dropout : float
        Share of the synapses, and of the perceptron's outputs, that a sample goes without in training.
    activation : {"relu-squared", "relu", "silu"}
        Activation of the hidden layers.
    readout : {"relu", "real", "spike"}
        What becomes of the filtered read-out: rectified, left as it is, or a spike at ``threshold``.
    **options
        See :class:`neurons.elm.LeakyMemory`.
    """

    output = "real"

    def __init__(
        self,
        features: int = 64,
        *,
        rectifier: Rectifier = "identity",
        input_scale: float = 1.0,
        tau: float | None = None,
        high_pass: float | None = None,
        input_dropout: float = 0.0,
        memory_dropout: float = 0.0,
        activation: Activation = "relu-squared",
        readout: Literal["relu", "real", "spike"] = "relu",
        **options: Any,
    ) -> None:
        name = self.registered_name
        one_of(name, "rectifier", rectifier, RECTIFIERS)
        one_of(name, "readout", readout, ("relu", "real", "spike"))
        positive(name, input_scale=input_scale)
        for key, rate in {"input_dropout": input_dropout, "memory_dropout": memory_dropout}.items():
            if not 0 <= rate < 1:
                raise OptionError(f"{key} of {name} must be from 0 to below 1, not {rate}")
        super().__init__(features, tau=tau, activation=activation, **options)
        self.memory_rho: Tensor
        self.rectifier, self.input_scale, self.readout = rectifier, input_scale, readout
        self.input_dropout, self.memory_dropout = input_dropout, memory_dropout
        self.high_pass = high_pass
        if high_pass is not None:
            positive(name, high_pass=high_pass)
            self.state = {**self.state, "r": 0.0}  # type: ignore[misc]
        self.output = "binary" if readout == "spike" else "real"  # type: ignore[misc]
        bound = 1 / math.sqrt(self.synapses)
        self.synapse_weight = nn.Parameter(torch.empty(self.branches * self.synapses).uniform_(-bound, bound))
        held(self, "memory_rho", wide_rho(self.memory, self.tau_min, self.tau_max), self.learn_memory_tau)
        self.w_y = nn.Linear(self.memory, self.outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(self.outputs))

    def synapses_now(self) -> Tensor:
        """Return the weights of the synapses [branches * synapses] with the factor on the branch sums."""
        return rectify(self.synapse_weight, self.rectifier) * self.input_scale

    def memory_tau(self) -> Tensor:
        """Return the time constants of the memory units [memory], in the unit of ``dt``."""
        return bounded(self.memory_rho, *wide_range(self.tau_min, self.tau_max))

    def memory_gain(self) -> Tensor:
        """Return by how much of the squashed update each memory unit moves in a step [memory]."""
        return write_gain(self.memory_tau(), self.dt, self.gain, "v2")

    def memory_scale(self, rows: Tensor) -> Tensor | None:
        """Return the mask on the perceptron's output [R, 1, memory], with its scale; None outside training."""
        if not self.training or not self.memory_dropout:
            return None
        shape = (rows.shape[1], 1, self.memory)
        return kept(rows, shape, self.memory_dropout) / math.sqrt(1 - self.memory_dropout)

    def drive(self, rows: Tensor, b: Tensor | None, *, keep: bool) -> tuple[Tensor, Tensor | None]:
        """Return what the first layer makes of the branches [T, R, 1, width], its bias included, and the last sums."""
        if not self.training or not self.input_dropout:
            return super().drive(rows, b, keep=keep)
        # Each row has synapses of its own, and so a matrix of its own.
        weight = self.synapses_now()
        weights = weight * kept(rows, (rows.shape[1], len(weight)), self.input_dropout) / (1 - self.input_dropout)
        if self.index is None and self.synapses == 1:
            return self.from_branches(rows * weights, b)
        matrices = [branch_matrix(own, self.index, self.mask, self.synapses, self.features) for own in weights]
        return self.from_branches(torch.einsum("trf,rbf->trb", rows, torch.stack(matrices)), b)

    def read_out(self, memories: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the outputs [T, R, outputs] of memories [T, R, memory], and the low-pass filtered read-out."""
        y, after = self._filtered(memories, state)
        return self._activated(y), after

    def last_output(self, rows: Tensor, start: State, lengths: Tensor | None) -> Tensor:
        """Return the output at the last step of every row [1, R, outputs]; the high-pass filter needs them all."""
        if self.high_pass is None:
            return super().last_output(rows, start, lengths)
        memories, _ = self._memories(rows, start, keep=False)
        return self._activated(at_last_step(self._filtered(memories, start)[0], lengths))

    def _filtered(self, memories: Tensor, state: State) -> tuple[Tensor, State]:
        y = self.w_y(memories)
        if self.high_pass is None:
            return y, {}
        leak = decay(y.new_tensor(self.high_pass), self.dt)
        r = filter_time((1 - leak) * y, leak, state["r"])
        return y - r, {"r": r[-1]}

    def _activated(self, y: Tensor) -> Tensor:
        y = y + self.bias
        if self.readout == "relu":
            return torch.relu(y)
        return self.surrogate(y - self.threshold) if self.readout == "spike" else y

    def read_out_cost(self) -> dict[str, int]:
        """Return the operations that follow the product of the read-out, for all outputs of a position."""
        spikes, filters = self.readout == "spike", self.high_pass is not None
        counted = {"add": 1 + spikes + 2 * filters, "mul": 2 * filters, "cmp": int(self.readout != "real")}
        return {kind: number * self.outputs for kind, number in counted.items()}
