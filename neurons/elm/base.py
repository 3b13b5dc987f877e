"""Leaky memory neurons: synapses on branches, a small perceptron, and memory units with many time constants."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurons.base import Neuron, State
from neurons.checks import count, positive
from neurons.compiler.operator import unseen
from neurons.elm.coefficients import decay
from neurons.elm.inputs import check_input
from neurons.elm.projection import filter_time, project
from neurons.elm.recurrence import ACTIVATIONS, MLP, memory
from neurons.elm.routing import KINDS, RoutingKind, route
from neurons.errors import OptionError, ShapeError
from neurons.lengths import at_last_step, check_lengths
from neurons.plain import plain
from neurons.surrogate import Surrogate, as_surrogate
from neurons.synapses import synapse_sums

Activation = Literal["relu", "silu", "relu-squared"]


class LeakyMemory(Neuron):
    """Base of the leaky memory neurons: what is the same in all forms of the ELM neuron.

    One neuron hears all ``features`` channels of a position and has ``outputs`` outputs there; all positions share
    its parameters. The way of an input: synapses weigh it, branches sum up their synapses and leak, a perceptron sees
    the branches and the decayed memory and says how the memory changes, and the outputs are read off the memory.

    Parameters
    ----------
    features : int
        Number of input channels.
    outputs : int, optional
        Number of output channels; as many as features when left out.
    axis : int
        Axis of the channels, counted from the last.
    memory : int
        Number of memory units.
    hidden : int, optional
        Width of the perceptron's hidden layers; twice ``memory`` when left out.
    layers : int
        Hidden layers of the perceptron; 0 makes it one linear layer.
    activation : {"relu", "silu", "relu-squared"}
        Activation of the hidden layers.
    branches : int, optional
        Number of branches; chosen by the neuron's form when left out.
    synapses : int
        Synapses on each branch.
    routing : {"none", "random", "neuronio"}
        Which input each synapse hears; see :mod:`neurons.elm.routing`.
    routing_seed : int
        Seed of the random routing.
    learn_branch_tau : bool
        Whether every branch has a time constant of its own, which is learned.
    tau_min, tau_max : float
        First and last of the memory time constants, which begin evenly spaced in their logarithm; unit of ``dt``.
    learn_memory_tau : bool
        Whether the memory time constants are learned.
    gain : float
        How much faster a memory unit takes up than it forgets (lambda).
    dt : float
        Duration of a time step, in ms where the time constants are.
    threshold : float
        Where the output spikes; at 0.1, with its first weights, in one step of eight or so.
    surrogate : str, mapping or Surrogate
        Derivative of the output spike.
    checkpoint : int
        Keep for the way back only what every so many steps begin with, and work the rest out anew; about sqrt(T)
        takes least memory, 0 keeps all.
    """

    counted_inside = True
    eager_reason = "its step mixes channels by matrix products"
    registered_name: str = "leaky-memory"

    def __init__(
        self,
        features: int = 64,
        *,
        outputs: int | None = None,
        axis: int = -1,
        memory: int = 100,
        hidden: int | None = None,
        layers: int = 1,
        activation: Activation = "relu",
        branches: int | None = None,
        synapses: int = 1,
        routing: RoutingKind = "none",
        routing_seed: int = 0,
        tau: float | None = 5.0,
        learn_branch_tau: bool = False,
        tau_min: float = 1.0,
        tau_max: float = 1000.0,
        learn_memory_tau: bool = False,
        gain: float = 5.0,
        dt: float = 1.0,
        threshold: float = 0.1,
        surrogate: str | dict[str, Any] | Surrogate = "arctan",
        checkpoint: int = 0,
    ) -> None:
        super().__init__()
        name = self.registered_name
        hidden = 2 * memory if hidden is None else hidden
        outputs = features if outputs is None else outputs
        count(name, features=features, outputs=outputs, memory=memory, hidden=hidden, synapses=synapses)
        positive(name, tau_min=tau_min, tau_max=tau_max, gain=gain, dt=dt, threshold=threshold)
        one_of(name, "activation", activation, list(ACTIVATIONS))
        one_of(name, "routing", routing, KINDS)
        if layers != int(layers) or layers < 0:
            raise OptionError(f"layers of {name} must be a whole number of 0 or more, not {layers}")
        if checkpoint != int(checkpoint) or checkpoint < 0:
            raise OptionError(f"checkpoint of {name} must be a whole number of 0 or more, not {checkpoint}")
        if axis >= 0:
            raise OptionError(f"axis of {name} is counted from the last, from -1 down, not {axis}")
        if tau_max < tau_min:
            raise OptionError(f"tau_max of {name} must not be below tau_min {tau_min:g}, but is {tau_max:g}")
        branches = self.usual_branches(features, synapses, routing) if branches is None else branches
        count(name, branches=branches)
        self.features, self.outputs, self.axis = features, outputs, axis
        self.memory, self.hidden, self.layers, self.activation = memory, hidden, layers, activation
        self.branches, self.synapses, self.routing, self.routing_seed = branches, synapses, routing, routing_seed
        self.tau, self.tau_min, self.tau_max = tau, tau_min, tau_max
        self.learn_branch_tau, self.learn_memory_tau = learn_branch_tau, learn_memory_tau
        self.gain, self.dt, self.threshold, self.checkpoint = gain, dt, threshold, checkpoint
        self.surrogate = as_surrogate(surrogate)

        self.synapse_weight: Tensor
        self.index: Tensor | None
        self.mask: Tensor | None
        heard = route(routing, features, branches, synapses, seed=routing_seed, neuron=name)
        for key, value in {"index": heard.index, "mask": heard.mask}.items():
            self.register_buffer(key, None if value is None else value.to(torch.get_default_device()))
        widths = [branches + memory, *[hidden] * layers, memory]
        self.mlp = nn.ModuleList([nn.Linear(*pair) for pair in pairwise(widths)])
        self.branch_rho: Tensor | None = None
        if tau is not None:
            positive(name, tau=tau)
            self.state = {"b": 0.0, "m": 0.0}  # type: ignore[misc]
            if learn_branch_tau:
                self.branch_rho = nn.Parameter(torch.full((branches,), math.log(tau)))
        else:
            self.state = {"m": 0.0}  # type: ignore[misc]
            if learn_branch_tau:
                raise OptionError(f"learn_branch_tau of {name} needs a tau to begin with; set tau")

    # --- what the forms of the neuron differ in

    def usual_branches(self, features: int, synapses: int, routing: str) -> int:
        """Return the number of branches where none is given: one for each group of synapses, or for each input."""
        return max(1, features // synapses) if routing == "none" else features

    @abstractmethod
    def synapses_now(self) -> Tensor:
        """Return the weights of the synapses [branches * synapses] as they act on the input."""

    @abstractmethod
    def read_out(self, memories: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the outputs [T, R, outputs] of memories [T, R, memory], and what that leaves behind."""

    @abstractmethod
    def memory_tau(self) -> Tensor:
        """Return the time constants of the memory units [memory], in the unit of ``dt``."""

    @abstractmethod
    def memory_gain(self) -> Tensor:
        """Return by how much of the squashed update each memory unit moves in a step [memory]."""

    # --- what they have in common

    def branch_tau(self) -> Tensor | None:
        """Return the time constants of the branches: one number, or [branches] where they are learned, or None."""
        if self.branch_rho is not None:
            return torch.exp(self.branch_rho)
        return None if self.tau is None else self.synapse_weight.new_tensor(self.tau)

    def branch_decay(self) -> Tensor | None:
        """Return what the branches keep of their sum in a step; None where they keep nothing."""
        tau = self.branch_tau()
        return None if tau is None else decay(tau, self.dt)

    def memory_decay(self) -> Tensor:
        """Return what the memory units keep in a step [memory]."""
        return decay(self.memory_tau(), self.dt)

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers of the perceptron, first to last."""
        return cast("list[nn.Linear]", list(self.mlp))

    def perceptron(self) -> MLP:
        """Return the perceptron as it sees the memory: without the first layer's input half and bias."""
        first, *others = self.linears
        weights = (first.weight[:, self.branches :], *[layer.weight for layer in others])
        return MLP(
            tuple(weight.unsqueeze(0) for weight in weights),
            tuple(layer.bias.unsqueeze(0) for layer in others),
            self.activation,
        )

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Advance by one time step in plain torch: ``(x [B, ..., features], *state) -> (output, *state)``."""
        with plain():
            output, after = self.run(x.unsqueeze(0), dict(zip(self.state, state, strict=True)))
        return (output[0], *[after[name] for name in self.state])

    def forward(self, x: Tensor) -> Tensor:
        """Return the output [T, B, ..., outputs] for the input [T, B, ..., features], starting from rest."""
        rows, start, places = self._begin(x, None)
        memories, _ = self._memories(rows, start, keep=False)
        return self._placed(self.read_out(memories, start)[0], places)

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over the time steps of ``x`` and return the output and the state reached.

        Parameters
        ----------
        x : Tensor, shape [T, B, ..., features]
            Input; the channels lie on ``axis``.
        state : dict of Tensor, shape [B, ..., size], optional
            State to go on from, of each position: branch sums ``b``, memory ``m``; rest when left out.

        Raises
        ------
        ShapeError
            When the input or the state does not fit.
        DataError
            When the input holds a number that is not finite.
        """
        rows, start, places = self._begin(x, state)
        memories, after = self._memories(rows, start)
        output, more = self.read_out(memories, start)
        after |= more
        return self._placed(output, places), {name: after[name].unflatten(0, places) for name in self.state}

    def last(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the output at the last step of every sample [B, ..., outputs]; no other is read out.

        Parameters
        ----------
        x : Tensor, shape [T, B, ..., features]
        lengths : Tensor of int64, shape [B], optional
            Steps of each sample; T for all when left out.

        Raises
        ------
        ShapeError
            When the input or the lengths do not fit.
        """
        rows, start, places = self._begin(x, None)
        check_lengths(lengths, places[0], len(rows))
        if lengths is not None:
            lengths = lengths.to(x.device).repeat_interleave(rows.shape[1] // places[0])
        return self._placed(self.last_output(rows, start, lengths), places)[0]

    def last_output(self, rows: Tensor, start: State, lengths: Tensor | None) -> Tensor:
        """Return the output at the last step of every row [1, R, outputs]."""
        memories, _ = self._memories(rows, start, keep=False, last=lengths is None)
        return self.read_out(at_last_step(memories, lengths), start)[0]

    def _begin(self, x: Tensor, state: State | None) -> tuple[Tensor, State, torch.Size]:
        """Return the input [T, R, features] with all positions among the rows, the state [R, size], the positions."""
        self._check_input(x)
        x = x.movedim(self.axis, -1)
        places = x.shape[1:-1]
        rows = x.flatten(1, -2)
        if state is None:
            return rows, {name: rows.new_zeros(rows.shape[1], size) for name, size in self.sizes.items()}, places
        self._checked(state, x)
        return rows, {name: value.flatten(0, -2) for name, value in state.items()}, places

    def _memories(self, rows: Tensor, start: State, *, keep: bool = True, last: bool = False) -> tuple[Tensor, State]:
        """Return the memory after every step, or the last only, [T, R, memory], and the state reached."""
        u, b = self.drive(rows, start.get("b"), keep=keep)
        found = memory(
            u, start["m"].unsqueeze(1), self.memory_decay().unsqueeze(0), self.memory_gain().unsqueeze(0),
            self.perceptron(), scale=self.memory_scale(rows), last=last, checkpoint=self.checkpoint,
        )  # fmt: skip
        assert isinstance(found, Tensor)
        memories = found.squeeze(2)
        return memories, {"m": memories[-1]} | ({} if b is None else {"b": b})

    def drive(self, rows: Tensor, b: Tensor | None, *, keep: bool) -> tuple[Tensor, Tensor | None]:
        """Return what the first layer makes of the branches [T, R, 1, width], its bias included, and the last sums."""
        weight = self.synapses_now()
        if unseen(rows):
            return project(
                rows, weight, self.index, self.mask, self.synapses, self.branch_decay(), self.entry(),
                self.linears[0].bias, b, keep=keep,
            )  # fmt: skip
        # Whoever looks on sees synapses, branches and perceptron one after the other, as the equations have them.
        sums = synapse_sums(rows, weight.view(self.branches, self.synapses), self.index, self.mask)
        return self.from_branches(sums, b)

    def from_branches(self, sums: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return what the first layer makes of branch sums [T, R, branches], and the last of them after the leak."""
        leak = self.branch_decay()
        if leak is not None:
            sums = filter_time(sums, leak, b)
        u = F.linear(sums, self.entry(), self.linears[0].bias).unsqueeze(2)
        return u, None if leak is None else sums[-1]

    def entry(self) -> Tensor:
        """Return the part of the first layer that sees the branches [width, branches]."""
        return self.linears[0].weight[:, : self.branches]

    def memory_scale(self, rows: Tensor) -> Tensor | None:
        """Return a factor on the perceptron's output for every step [R, 1, memory]; None for 1."""
        return None

    def _placed(self, output: Tensor, places: torch.Size) -> Tensor:
        return output.unflatten(1, places).movedim(-1, self.axis)

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of each state of one position."""
        every = {"b": self.branches, "m": self.memory, "r": self.outputs}
        return {name: every[name] for name in self.state}

    def resting_state(self, x: Tensor) -> State:
        """Return zeros [B, ..., size] for an input [T, B, ...]."""
        places = x.movedim(self.axis, -1).shape[1:-1]
        return {name: x.new_zeros(*places, size) for name, size in self.sizes.items()}

    @property
    def state_words(self) -> int:
        """Numbers remembered for each output, rounded up: the outputs of a position share its branches and memory."""
        return math.ceil(sum(self.sizes.values()) / self.outputs)

    def cost(self) -> dict[str, float]:
        """Return the operations of one update, shared out among the outputs of a position; synapses as if all spiked.

        The input passes no routing arithmetic, and what concerns parameters alone is done once for all.
        """
        heard = self.branches * self.synapses if self.mask is None else int(self.mask.sum())
        products = heard + sum(layer.in_features * layer.out_features for layer in self.linears)
        products += self.memory * self.outputs
        cells = self.hidden * self.layers
        counted = Counter(mul=products, add=products)
        if self.tau is not None:
            counted.update(mul=self.branches, add=self.branches)
        # the leak, the two factors of the squashing function, the write gain; the sum
        counted.update(mul=4 * self.memory, add=self.memory, exp=self.memory)
        if self.activation == "silu":  # z / (1 + exp(-z))
            counted.update(exp=cells, add=2 * cells, div=cells)
        else:
            counted.update(cmp=cells, mul=cells if self.activation == "relu-squared" else 0)
        counted.update(self.read_out_cost())
        return {kind: number / self.outputs for kind, number in counted.items() if number}

    @abstractmethod
    def read_out_cost(self) -> dict[str, int]:
        """Return the operations that follow the product of the read-out, for all outputs of a position."""

    def _check_input(self, x: Tensor) -> None:
        super()._check_input(x)
        check_input(self.registered_name, x, self.features, self.axis)

    def _checked(self, state: State, x: Tensor) -> None:
        if set(state) != set(self.state):
            raise ShapeError(f"{self.registered_name} has the state {sorted(self.state)}, not {sorted(state)}")
        for name, value in state.items():
            right = [*x.shape[1:-1], self.sizes[name]]
            if list(value.shape) != right:
                raise ShapeError(
                    f"state {name!r} of {self.registered_name} must have the shape {right}, not {list(value.shape)}"
                )

    def extra_repr(self) -> str:
        wiring = f"branches={self.branches}, synapses={self.synapses}, routing={self.routing!r}"
        return f"features={self.features}, outputs={self.outputs}, axis={self.axis}, memory={self.memory}, {wiring}"


def one_of(neuron: str, option: str, value: object, words: Sequence[str]) -> None:
    """Refuse a value that is none of ``words``."""
    if value not in words:
        raise OptionError(f"{option} of {neuron} is {', '.join(map(repr, words[:-1]))} or {words[-1]!r}, not {value!r}")


def held(module: nn.Module, name: str, value: Tensor, learned: bool) -> None:
    """Give a module a tensor: a parameter where it is learned, else a buffer."""
    if learned:
        module.register_parameter(name, nn.Parameter(value))
    else:
        module.register_buffer(name, value)
