"""The neuron: one time step, written once; everything else follows from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from neurons.errors import OptionError, ShapeError
from neurons.loop import run_fused, run_steps
from neurons.registry import NeuronRegistry, name_and_options
from neurons.surrogate import Surrogate, as_surrogate

State = dict[str, Tensor]
"""A neuron's state between two calls of ``run``: name to tensor of shape [B, ...]."""

ResetMode = Literal["hard", "soft", "none"]

neurons = NeuronRegistry("neuron", "neurons")


class Neuron(nn.Module, ABC):
    """Base of all neurons: write ``step``, name the state, and the rest follows.

    A neuron keeps no state between calls, so there is nothing to reset: ``neuron(x)`` starts every sample at
    rest; ``neuron.run(x, state)`` continues from a state that the caller holds.

    Class attributes
    ----------------
    state : mapping
        Names of the state variables and their values at rest.
    conventional : bool
        True for activations without time, such as ReLU: they run with one time step.
    output : {"binary", "ternary", "integer", "quantised", "real"}
        What the output holds; the energy models price the layers behind it by this.
    streams : bool
        Whether ``run`` goes on from a state; False for neurons that look at all time steps at once.
    eager_reason : str
        Why a neuron with a ``run`` of its own is not compiled.
    counted_inside : bool
        True for neurons that are made of matrix products, such as recurrent cells: the energy models then price
        every product and every operation inside as layers of their own, so the neuron must run in torch operations
        where a dispatch mode looks on. Its own row holds state and output only.
    is_layer : bool
        True for a neuron that stands in a network as a layer: its weights are those of the network, which decay like
        others and which a twin with other neurons shares.
    """

    state: ClassVar[Mapping[str, float]] = {}
    conventional: ClassVar[bool] = False
    output: ClassVar[str] = "binary"
    streams: ClassVar[bool] = True
    eager_reason: ClassVar[str] = "it has a run of its own"
    counted_inside: ClassVar[bool] = False
    is_layer: bool = False

    @abstractmethod
    def step(self, x: Tensor, *state: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Advance by one time step, elementwise: ``(x, *state) -> (output, *state)``, all of shape [B, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the output [T, B, ...] for the input [T, B, ...], starting from rest."""
        if type(self).run is Neuron.run:
            self._check_input(x)
            fused = run_fused(self, x, None, keep=False)  # nobody asks for the last state: it need not be written
            if fused is not None:
                return fused[0]
        return self.run(x)[0]

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over the time steps of ``x`` and return the output and the state reached.

        Two halves of a sequence, the second run with the state of the first, give what the whole gives.

        Parameters
        ----------
        x : Tensor, shape [T, B, ...]
            Input current.
        state : dict of Tensor, shape [B, ...], optional
            State to go on from; rest when left out.

        Raises
        ------
        ShapeError
            When ``x`` is not a floating-point tensor [T, B, ...] with T >= 1, or a state does not fit it.
        """
        self._check_input(x)
        if state is not None:
            self._checked(state, x)
        fused = run_fused(self, x, state)
        if fused is not None:
            return fused
        start = self.resting_state(x) if state is None else state
        output, last = run_steps(self.step, x, [start[name] for name in self.state])
        return output, dict(zip(self.state, last, strict=True))

    def resting_state(self, x: Tensor) -> State:
        """Return the state at rest for an input [T, B, ...]."""
        return {name: torch.full_like(x[0], value) for name, value in self.state.items()}

    @property
    def state_words(self) -> int:
        """Numbers that one neuron remembers from step to step."""
        return len(self.state)

    def cost(self) -> dict[str, float] | None:
        """Return the operations of one update by kind, or None to have them read off ``step``.

        A neuron that mixes across neurons or time says here what its update costs; see
        :func:`neurons.update_cost` for the kinds.
        """
        return None

    def _check_input(self, x: Tensor) -> None:
        if x.dim() < 2 or x.shape[0] < 1 or not x.is_floating_point():
            raise ShapeError(
                f"{type(self).__name__} takes a floating-point tensor [T, B, ...] with T >= 1, "
                f"not {x.dtype} {list(x.shape)}"
            )

    def _checked(self, state: State, x: Tensor) -> None:
        if set(state) != set(self.state):
            raise ShapeError(f"{type(self).__name__} has the state {sorted(self.state)}, not {sorted(state)}")
        for name, value in state.items():
            if value.shape != x.shape[1:]:
                raise ShapeError(
                    f"state {name!r} of {type(self).__name__} must have the shape {list(x.shape[1:])} "
                    f"of one time step of the input, not {list(value.shape)}"
                )


def neurons_in(network: nn.Module) -> Iterator[tuple[str, Neuron]]:
    """Yield path and neuron of all neurons of a network, but not those that are parts of another neuron."""
    inside = "\0"
    for path, module in network.named_modules():
        if isinstance(module, Neuron) and not path.startswith(inside):
            inside = f"{path}." if path else ""
            yield path, module
            if not path:
                return


class SpikingNeuron(Neuron):
    """A neuron that fires when its membrane potential reaches a threshold.

    Parameters
    ----------
    threshold : float
        Potential at and above which a spike is sent.
    reset : {"hard", "soft", "none"}
        After a spike the potential goes to 0, goes down by the threshold, or stays.
    detach_reset : bool
        Whether the reset hides the spike from the gradient.
    surrogate : str, mapping or Surrogate
        Derivative used in place of that of the threshold.
    """

    def __init__(
        self,
        *,
        threshold: float = 1.0,
        reset: ResetMode = "hard",
        detach_reset: bool = True,
        surrogate: str | dict[str, Any] | Surrogate = "arctan",
    ) -> None:
        super().__init__()
        if not threshold > 0:
            raise OptionError(f"threshold must be positive, not {threshold}")
        if reset not in ("hard", "soft", "none"):
            raise OptionError(f"reset is 'hard', 'soft' or 'none', not {reset!r}")
        self.threshold = threshold
        self.reset_mode = reset
        self.detach_reset = detach_reset
        self.surrogate = as_surrogate(surrogate)

    def spike(self, u: Tensor) -> Tensor:
        """Return spikes where ``u`` (potential minus threshold) is not negative, with the surrogate gradient."""
        return self.surrogate(u)

    def reset(self, v: Tensor, s: Tensor) -> Tensor:
        """Return the potential after the spikes ``s``."""
        if self.reset_mode == "none":
            return v
        s = s.detach() if self.detach_reset else s
        return v * (1 - s) if self.reset_mode == "hard" else v - s * self.threshold

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, reset={self.reset_mode!r}, surrogate={self.surrogate}"


class NeuronFactory:
    """Makes fresh neurons of one kind for the layers of a network.

    Networks take a factory, not a neuron, so that no two layers share parameters and a twin is the same
    network with another factory.

    Parameters
    ----------
    name : str
        Registered name.
    **options
        Options of that neuron.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self.options = options
        neurons.create(name, **options)  # an unknown name or option fails here, not deep in a network

    @property
    def conventional(self) -> bool:
        """Whether the neuron has no time (runs with T = 1)."""
        return bool(getattr(neurons.get(self.name), "conventional", False))

    def __call__(self, *, features: int | None = None, axis: int = -1, threshold_scale: float = 1.0) -> Neuron:
        """Make one neuron.

        Parameters
        ----------
        features : int, optional
            Channels of the layer, for neurons whose channels hear each other (option ``features``).
        axis : int
            Where the channels lie, counted from the last axis: -1 for tokens, -3 for maps (option ``axis``).
        threshold_scale : float
            Multiplies the threshold where a model asks for it (the attention neurons of Spikformer fire at half the
            threshold of the others). Neurons without a threshold have nothing to scale.
        """
        options = dict(self.options)
        known = neurons.options(self.name)
        if "features" in known and features is not None:
            options["features"] = features
        if "axis" in known and options.get("axis", known["axis"].default) == known["axis"].default:
            options["axis"] = axis
        threshold = getattr(neurons.get(self.name), "threshold_option", "threshold")
        parameter = known.get(threshold)
        if threshold_scale != 1.0 and parameter is not None:
            options[threshold] = options.get(threshold, parameter.default) * threshold_scale
        return neurons.create(self.name, **options)

    def __repr__(self) -> str:
        options = "".join(f", {key}={value!r}" for key, value in self.options.items())
        return f"NeuronFactory({self.name!r}{options})"


def factory(neuron: str | Mapping[str, Any] | NeuronFactory, **options: Any) -> NeuronFactory:
    """Return a factory for a name, a mapping with a name and options, or a ready factory."""
    if isinstance(neuron, NeuronFactory):
        return neuron
    name, more = name_and_options(neuron, "neuron")
    return NeuronFactory(name, **more, **options)
