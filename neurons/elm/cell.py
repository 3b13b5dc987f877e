"""The ELM neuron as published, and its form with few branches of many synapses."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurons.base import State, neurons
from neurons.elm.base import LeakyMemory, held, one_of
from neurons.elm.coefficients import bounded, memory_range, memory_rho, write_gain
from neurons.elm.routing import RoutingKind
from neurons.errors import OptionError


@neurons.register("elm")
class ELM(LeakyMemory):
    """ELM: b = leak b + w x; k = keep m; m = k + gain tanh(MLP[b, k]); s = H(W m + c - threshold), W m + c if real.

        b_t = exp(-dt / tau) b_{t-1} + sum over the branch's synapses of max(w, 0) x_t
        k_t = exp(-dt / tau_m) m_{t-1}
        m_t = k_t + g phi(MLP([b_t, k_t])),     phi(z) = 1.7159 tanh(2 z / 3)

    with g = gain (1 - exp(-dt / tau_m)) in version 1 and g = 1 - exp(-gain dt / tau_m) in version 2, which never
    moves a memory by more than phi. Version 1 filters synapses before they are summed up, which is the same.
    Synapses do not inhibit: the sign of an inhibitory input is its own. Source: Spieler et al., ICLR 2024
    (arXiv 2306.16922); version 2 is that of the authors' code.

    Parameters
    ----------
    features : int
        Number of input channels.
    version : {"v1", "v2"}
        Form of the write gain g.
    tau : float
        Time constant of the branches.
    weight : float
        First weight of every synapse.
    readout : {"spike", "real"}
        Whether the output is a spike or the real number itself.
    **options
        See :class:`neurons.elm.LeakyMemory`.
    """

    def __init__(
        self,
        features: int = 64,
        *,
        version: Literal["v1", "v2"] = "v2",
        tau: float = 5.0,
        weight: float = 0.5,
        readout: Literal["spike", "real"] = "spike",
        **options: Any,
    ) -> None:
        one_of(self.registered_name, "version", version, ("v1", "v2"))
        one_of(self.registered_name, "readout", readout, ("spike", "real"))
        if tau is None:
            raise OptionError(
                f"tau of {self.registered_name} must be positive and finite; only modified-elm takes None"
            )
        if not math.isfinite(weight):
            raise OptionError(f"weight of {self.registered_name} must be finite, not {weight}")
        super().__init__(features, tau=tau, **options)
        self.memory_rho: Tensor
        self.version = version
        self.readout = readout
        self.output = "real" if readout == "real" else "binary"  # type: ignore[misc]
        self.synapse_weight = nn.Parameter(torch.full((self.branches * self.synapses,), float(weight)))
        held(self, "memory_rho", memory_rho(self.memory, self.tau_min, self.tau_max), self.learn_memory_tau)
        self.w_y = nn.Linear(self.memory, self.outputs)

    def synapses_now(self) -> Tensor:
        """Return the weights of the synapses [branches * synapses], none below 0."""
        return torch.relu(self.synapse_weight)

    def memory_tau(self) -> Tensor:
        """Return the time constants of the memory units [memory], in the unit of ``dt``."""
        return bounded(self.memory_rho, *memory_range(self.tau_min, self.tau_max))

    def memory_gain(self) -> Tensor:
        """Return by how much of the squashed update each memory unit moves in a step [memory]."""
        return write_gain(self.memory_tau(), self.dt, self.gain, self.version)

    def read_out(self, memories: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the outputs [T, R, outputs] of memories [T, R, memory]."""
        y = self.w_y(memories)
        return y if self.readout == "real" else self.surrogate(y - self.threshold), {}

    def read_out_cost(self) -> dict[str, int]:
        """Return the operations that follow the product of the read-out, for all outputs of a position."""
        return {} if self.readout == "real" else {"add": self.outputs, "cmp": self.outputs}


@neurons.register("branch-elm")
class BranchELM(ELM):
    """Branch-ELM: an ELM neuron whose inputs are spread over few branches of many synapses each.

    The perceptron sees the branches only, so that an input costs a synapse and not a column of the perceptron.
    Source: Spieler et al., ICLR 2024 (arXiv 2306.16922), whose neuron for the 1,278 inputs of NeuronIO has 45
    branches of 100 synapses.

    Parameters
    ----------
    features : int
        Number of input channels.
    branches : int, optional
        Number of branches; a third of the features when left out, so that with 10 synapses on each an input is heard
        about three times, as often as theirs.
    synapses : int
        Synapses on each branch.
    routing : {"random", "neuronio", "none"}
        Which input each synapse hears; with ``"none"`` branches have neighbouring inputs, each heard once.
    **options
        See :class:`neurons.elm.ELM`.
    """

    def __init__(
        self,
        features: int = 64,
        *,
        branches: int | None = None,
        synapses: int = 10,
        routing: RoutingKind = "random",
        **options: Any,
    ) -> None:
        super().__init__(features, branches=branches, synapses=synapses, routing=routing, **options)

    def usual_branches(self, features: int, synapses: int, routing: str) -> int:
        """Return the number of branches where none is given."""
        return super().usual_branches(features, synapses, routing) if routing == "none" else math.ceil(features / 3)
