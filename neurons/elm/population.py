"""A layer of ELM neurons, each with parameters and sources of its own, that hear each other."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurons import penalties
from neurons.base import Neuron, State, neurons
from neurons.checks import count, positive
from neurons.elm import population_kernel as kernel
from neurons.elm.base import Activation, held, one_of
from neurons.elm.coefficients import bounded, decay, wide_range, wide_rho, write_gain
from neurons.elm.inputs import check_input
from neurons.elm.modified import RECTIFIERS, Rectifier, kept, rectify
from neurons.elm.population_kernel import Masks
from neurons.elm.population_steps import at_once, loop
from neurons.elm.recurrence import ACTIVATIONS, MLP
from neurons.elm.wiring import WiringKind, connectome
from neurons.errors import OptionError, ShapeError
from neurons.surrogate import Surrogate, as_surrogate


@neurons.register("elm-population")
class ELMPopulation(Neuron):
    """ELM population: N modified ELM neurons, each with parameters and sources of its own, that hear each other.

        b = input_scale * sum over the branch's synapses of w s,    s: channels of x_t and activities a_{t-1}
        k = exp(-dt / tau_m) m_{t-1}
        m_t = k + (1 - exp(-gain dt / tau_m)) phi(MLP([b, k])),     phi(z) = 1.7159 tanh(2 z / 3)
        r_t = exp(-dt / high_pass) r_{t-1} + (1 - exp(-dt / high_pass)) y_t,    y_t = W m_t
        a_t = ReLU(y_t - r_t + c)

    Sources are drawn once, by ``seed``, and stay; see :func:`neurons.elm.wiring.connectome` for the wirings. With
    ``tau`` the branches leak: b_t = exp(-dt / tau) b_{t-1} + that sum. Source: the layer of Spieler, Martius and Levina
    2026 (arXiv 2605.12049), with the settings of its networks for SHD-Adding but for dropout, which is off here; the
    wirings by windows are those of Adorante, Spieler and Levina 2026 (arXiv 2609.26940).

    In training mode dropout draws one mask for each sample from torch's global generator, every time ``run`` is called:
    on the input and on the activities as the layer hears them, scaled by 1 / (1 - p), and on the perceptron's output,
    scaled by 1 / sqrt(1 - p). Where penalties are collected (:mod:`neurons.penalties`), it adds in training mode
    ``effort`` times the mean over samples and neurons of (mean |MLP|)^2, and ``activity`` times the mean of ReLU(a).

    On the CPU in float32 all of it is one loop in C; elsewhere, and in a layer that does not hear itself, all but the
    memory is worked out for all steps at once.

    Parameters
    ----------
    features : int
        Number of input channels.
    neurons : int, optional
        Number of neurons, and of output channels; as many as features when left out.
    axis : int
        Axis of the channels, counted from the last.
    memory, hidden, layers, activation
        Memory units of a neuron; width (twice ``memory`` when left out), number and activation of the hidden layers of
        its perceptron.
    branches, synapses : int
        Branches of a neuron, and synapses on each.
    rectifier : {"identity", "relu", "abs", "exp"}
        How a learned number becomes the weight of a synapse.
    input_scale : float
        Factor on the branch sums.
    wiring : {"random", "full", "windowed", "modular", "small-world"}
    recurrent : float
        Share of the synapses that hear the layer itself, with the random wiring.
    modules, overlap, p_inter, neighbours, p_rewire, scrambled
        See :func:`neurons.elm.wiring.connectome`.
    seed : int
        Seed of the wiring.
    tau : float, optional
        Time constant of the branches; without one there is no state ``b``.
    tau_min, tau_max : float
        First and last of the memory time constants, which begin evenly spaced in their logarithm; unit of ``dt``.
    learn_memory_tau : bool
        Whether they are learned, from tau_min / 10 to sqrt(10) tau_max.
    gain : float
        How much faster a memory unit takes up than it forgets (lambda).
    high_pass : float, optional
        Time constant of the high-pass filter on the read-out; without one there is no state ``r``.
    dt : float
        Duration of a time step, in ms where the time constants are.
    readout : {"relu", "real", "spike"}
        What becomes of the filtered read-out: rectified, left as it is, or a spike at ``threshold``.
    threshold : float
    surrogate : str, mapping or Surrogate
        Derivative of the output spike.
    input_dropout, recurrent_dropout, memory_dropout : float
    effort, activity : float
        Weights of the penalties; the paper's networks for SHD-Adding have 0.002 and 0.2.
    """

    output = "real"
    counted_inside = True
    eager_reason = "its step mixes channels, neuron by neuron"
    registered_name = "elm-population"

    def __init__(
        self,
        features: int = 64,
        *,
        neurons: int | None = None,
        axis: int = -1,
        memory: int = 5,
        hidden: int | None = None,
        layers: int = 1,
        activation: Activation = "relu-squared",
        branches: int = 30,
        synapses: int = 10,
        rectifier: Rectifier = "identity",
        input_scale: float = 10.0,
        wiring: WiringKind = "random",
        recurrent: float = 0.25,
        modules: int = 1,
        overlap: float = 0.2,
        p_inter: float = 0.1,
        neighbours: int = 10,
        p_rewire: float = 0.1,
        scrambled: bool = False,
        seed: int = 0,
        tau: float | None = None,
        tau_min: float = 1.0,
        tau_max: float = 500.0,
        learn_memory_tau: bool = False,
        gain: float = 5.0,
        high_pass: float | None = 5.0,
        dt: float = 1.0,
        readout: Literal["relu", "real", "spike"] = "relu",
        threshold: float = 0.5,
        surrogate: str | dict[str, Any] | Surrogate = "arctan",
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        memory_dropout: float = 0.0,
        effort: float = 0.0,
        activity: float = 0.0,
    ) -> None:
        super().__init__()
        name = self.registered_name
        number = features if neurons is None else neurons
        hidden = 2 * memory if hidden is None else hidden
        count(name, features=features, neurons=number, memory=memory, hidden=hidden, branches=branches)
        count(name, synapses=synapses)
        positive(name, input_scale=input_scale, tau_min=tau_min, tau_max=tau_max, gain=gain, dt=dt)
        for key, constant in {"tau": tau, "high_pass": high_pass}.items():
            if constant is not None:
                positive(name, **{key: constant})
        one_of(name, "activation", activation, tuple(ACTIVATIONS))
        one_of(name, "rectifier", rectifier, RECTIFIERS)
        one_of(name, "readout", readout, kernel.READOUTS)
        rates = {
            "input_dropout": input_dropout, "recurrent_dropout": recurrent_dropout, "memory_dropout": memory_dropout,
        }  # fmt: skip
        for key, rate in rates.items():
            if not 0 <= rate < 1:
                raise OptionError(f"{key} of {name} must be from 0 to below 1, not {rate}")
        for key, weight in {"effort": effort, "activity": activity}.items():
            if not 0 <= weight < math.inf:
                raise OptionError(f"{key} of {name} must be 0 or more, not {weight}")
        if layers != int(layers) or layers < 0:
            raise OptionError(f"layers of {name} must be a whole number of 0 or more, not {layers}")
        if axis >= 0:
            raise OptionError(f"axis of {name} is counted from the last, from -1 down, not {axis}")
        if tau_max < tau_min:
            raise OptionError(f"tau_max of {name} must not be below tau_min {tau_min:g}, but is {tau_max:g}")
        self.features, self.neurons, self.axis, self.wiring, self.seed = features, number, axis, wiring, seed
        self.memory, self.hidden, self.layers, self.activation = memory, hidden, layers, activation
        self.branches, self.synapses, self.rectifier, self.input_scale = branches, synapses, rectifier, input_scale
        self.tau, self.tau_min, self.tau_max, self.learn_memory_tau = tau, tau_min, tau_max, learn_memory_tau
        self.gain, self.high_pass, self.dt, self.readout, self.threshold = gain, high_pass, dt, readout, threshold
        self.input_dropout, self.recurrent_dropout, self.memory_dropout = rates.values()
        self.effort, self.activity = effort, activity
        self.surrogate = as_surrogate(surrogate)
        self.output = "binary" if readout == "spike" else "real"  # type: ignore[misc]

        self.index: Tensor
        index = connectome(
            wiring, features, number, branches * synapses, seed=seed, recurrent=recurrent, modules=modules,
            overlap=overlap, p_inter=p_inter, neighbours=neighbours, p_rewire=p_rewire, scrambled=scrambled, name=name,
        )  # fmt: skip
        self.register_buffer("index", index.to(torch.int32))
        self.hears_itself = bool((index >= features).any())
        self.synapse_weight = _uniform(synapses, number, branches, synapses)
        width, seen = hidden if layers else memory, branches + memory
        self.branch_weight = _uniform(seen, number, width, branches)
        self.memory_weight = _uniform(seen, number, width, memory)
        self.first_bias = _uniform(seen, number, width)
        outputs = [*[hidden] * (layers - 1), memory] if layers else []
        self.weights = nn.ParameterList(_uniform(hidden, number, out, hidden) for out in outputs)
        self.biases = nn.ParameterList(_uniform(hidden, number, out) for out in outputs)
        rho = wide_rho(memory, tau_min, tau_max).expand(number, -1).clone()
        self.memory_rho: Tensor
        held(self, "memory_rho", rho, learn_memory_tau)
        self.readout_weight = _uniform(memory, number, memory)
        self.bias = nn.Parameter(torch.zeros(number))

        present = {"m": True, "a": self.hears_itself, "r": high_pass is not None, "b": tau is not None}
        self.state = {key: 0.0 for key, here in present.items() if here}  # type: ignore[misc]

    # --- its numbers

    def synapses_now(self) -> Tensor:
        """Return the weights of the synapses as they act on the input [neurons, branches, synapses]."""
        return rectify(self.synapse_weight, self.rectifier) * self.input_scale

    def memory_tau(self) -> Tensor:
        """Return the time constants of the memory units [neurons, memory], in the unit of ``dt``."""
        return bounded(self.memory_rho, *wide_range(self.tau_min, self.tau_max))

    def perceptron(self) -> MLP:
        """Return the perceptrons as they see the memory: without the first layer's input half and bias."""
        return MLP((self.memory_weight, *self.weights), tuple(self.biases), self.activation)

    def keeps(self, tau: float | None) -> float | None:
        """Return what is left after a step of what fades with a time constant; None without one."""
        return None if tau is None else math.exp(-self.dt / tau)

    def _rest(self) -> Tensor:
        return self.bias - self.threshold if self.readout == "spike" else self.bias

    # --- running

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Advance by one time step: ``(x [B, ..., features], *state) -> (a [B, ..., neurons], *state)``; no dropout.

        In plain torch; what ``run`` does otherwise is tested against it.
        """
        before = dict(zip(self.state, state, strict=True))
        places = x.movedim(self.axis, -1).shape[:-1]
        rows = x.movedim(self.axis, -1).flatten(0, -2)
        a, after, _ = loop(self, rows.unsqueeze(0), self._rows(before, rows), Masks())
        output = a[0].unflatten(0, places).movedim(-1, self.axis)
        return (output, *[after[name].unflatten(0, places) for name in self.state])

    def forward(self, x: Tensor) -> Tensor:
        """Return the activities [T, B, ..., neurons] for the input [T, B, ..., features], starting from rest."""
        return self.run(x)[0]

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over the time steps of ``x`` and return the activities and the state reached.

        Parameters
        ----------
        x : Tensor, shape [T, B, ..., features]
            Input; the channels lie on ``axis``.
        state : dict of Tensor, optional
            State of each position to go on from: memory ``m`` [B, ..., neurons, memory], and where there are such, the
            activities ``a`` and the low-pass filtered read-out ``r`` [B, ..., neurons], and the branches ``b``
            [B, ..., neurons, branches]; rest when left out.

        Raises
        ------
        ShapeError
            When the input or the state does not fit.
        """
        self._check_input(x)
        if state is not None:
            self._checked(state, x)
        x = x.movedim(self.axis, -1)
        places = x.shape[1:-1]
        rows = x.flatten(1, -2)
        start = {} if state is None else {name: value.flatten(0, len(places) - 1) for name, value in state.items()}
        masks = self._masks(rows)
        if self._in_c(rows, start):
            a, after, effort = self._run_in_c(rows, start, masks)
        elif self.hears_itself:
            a, after, effort = loop(self, rows, self._rows(start, rows[0]), masks, effort=self._penalised)
        else:
            a, after, effort = at_once(self, rows, self._rows(start, rows[0]), masks, effort=self._penalised)
        if self._penalised:
            if self.effort:
                share = effort / (len(x) * self.memory)
                penalties.add("effort", self.effort * share.square().mean())
            if self.activity:
                penalties.add("activity", self.activity * torch.relu(a).mean())
        output = a.unflatten(1, places).movedim(-1, self.axis)
        return output, {name: after[name].unflatten(0, places) for name in self.state}

    @property
    def _penalised(self) -> bool:
        return self.training and penalties.collecting() and bool(self.effort or self.activity)

    def _masks(self, rows: Tensor) -> Masks:
        if not self.training:
            return Masks()

        def mask(rate: float, *shape: int, power: float = 1.0) -> Tensor | None:
            return kept(rows, (rows.shape[1], *shape), rate) / (1 - rate) ** power if rate else None

        return Masks(
            mask(self.input_dropout, self.features),
            mask(self.recurrent_dropout if self.hears_itself else 0.0, self.neurons),
            mask(self.memory_dropout, self.neurons, self.memory, power=0.5),
        )

    def _rows(self, state: State, rows: Tensor) -> State:
        """Return the state of every row, at rest where none is given."""
        return {
            name: state[name] if name in state else rows.new_zeros(len(rows), *size)
            for name, size in self.sizes.items()
        }

    def _in_c(self, rows: Tensor, start: State) -> bool:
        usual = self.readout != "spike" or type(self.surrogate).__call__ is Surrogate.__call__
        return usual and rows.numel() > 0 and kernel.usable(rows, self.bias, *start.values())

    def _run_in_c(self, rows: Tensor, start: State, masks: Masks) -> tuple[Tensor, State, Tensor]:
        tau = self.memory_tau()
        parts = [self.synapses_now(), self.branch_weight, self.memory_weight, self.first_bias]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            parts += [weight, bias]
        parts += [decay(tau, self.dt), write_gain(tau, self.dt, self.gain, "v2"), self.readout_weight]
        weights = torch.cat([*[part.flatten(1) for part in parts], self._rest().unsqueeze(1)], 1)
        population = kernel.Population(
            self.features, self.neurons, self.branches, self.synapses, self.memory, self.hidden, self.layers,
            self.activation, self.readout, self.keeps(self.high_pass), self.keeps(self.tau),
        )  # fmt: skip
        empty = rows.new_empty(0)
        m, a, r, b = (start.get(name, empty) for name in "marb")
        derivative = self.surrogate.derivative if self.readout == "spike" else None
        out, m, a, r, b, effort = kernel.run(population, rows, weights, self.index, (m, a, r, b), masks, derivative)
        return out, {"m": m, "a": a, "r": r, "b": b}, effort

    def update(self, y: Tensor, r: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the activities and the low-pass filtered read-out after one step."""
        leaves = self.keeps(self.high_pass)
        if leaves is not None and r is not None:
            r = leaves * r + (1 - leaves) * y
        return self.activated(y, r), r

    def activated(self, y: Tensor, r: Tensor | None) -> Tensor:
        """Return the activities for the read-out and its slow part."""
        v = (y if r is None else y - r) + self._rest()
        if self.readout == "relu":
            return torch.relu(v)
        return self.surrogate(v) if self.readout == "spike" else v

    # --- its state, and what it costs

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each state of one position."""
        every = {
            "m": (self.neurons, self.memory), "a": (self.neurons,), "r": (self.neurons,),
            "b": (self.neurons, self.branches),
        }  # fmt: skip
        return {name: every[name] for name in self.state}

    def resting_state(self, x: Tensor) -> State:
        """Return zeros [B, ..., neurons, ...] for an input [T, B, ...]."""
        places = x.movedim(self.axis, -1).shape[1:-1]
        return {name: x.new_zeros(*places, *size) for name, size in self.sizes.items()}

    @property
    def state_words(self) -> int:
        """Numbers that one neuron remembers from step to step."""
        return sum(math.prod(size[1:]) for size in self.sizes.values())

    def cost(self) -> dict[str, float]:
        """Return the operations of one update of one neuron, as if all its sources had fired."""
        width, cells = self.hidden if self.layers else self.memory, self.hidden * self.layers
        products = self.branches * self.synapses + width * (self.branches + self.memory) + self.memory
        products += sum(weight[0].numel() for weight in self.weights)
        # the leak of the memory, the two factors of the squashing function, the write gain; the sum
        counted = {"mul": products + 4 * self.memory, "add": products + self.memory + 1, "exp": self.memory}
        if self.activation == "silu":  # z / (1 + exp(-z))
            counted = {**counted, "exp": self.memory + cells, "div": cells}
            counted["add"] += 2 * cells
        elif cells:
            counted["cmp"] = cells
            counted["mul"] += cells if self.activation == "relu-squared" else 0
        for filtered, numbers in ((self.tau, self.branches), (self.high_pass, 2)):
            if filtered is not None:
                counted["mul"] += numbers
                counted["add"] += numbers
        if self.readout != "real":
            counted["cmp"] = counted.get("cmp", 0) + 1
        return {kind: float(number) for kind, number in counted.items() if number}

    def _check_input(self, x: Tensor) -> None:
        super()._check_input(x)
        check_input(self.registered_name, x, self.features, self.axis)

    def _checked(self, state: State, x: Tensor) -> None:
        if set(state) != set(self.state):
            raise ShapeError(f"{self.registered_name} has the state {sorted(self.state)}, not {sorted(state)}")
        places = x.movedim(self.axis, -1).shape[1:-1]
        for name, size in self.sizes.items():
            if state[name].shape != (*places, *size):
                raise ShapeError(
                    f"state {name!r} of {self.registered_name} must have the shape {[*places, *size]}, "
                    f"not {list(state[name].shape)}"
                )

    def extra_repr(self) -> str:
        return (
            f"features={self.features}, neurons={self.neurons}, memory={self.memory}, branches={self.branches}, "
            f"synapses={self.synapses}, wiring={self.wiring!r}, readout={self.readout!r}"
        )


def _uniform(seen: int, *shape: int) -> nn.Parameter:
    """Return parameters uniform in +-1 / sqrt(seen), as those of ``nn.Linear`` with ``seen`` inputs."""
    bound = 1 / math.sqrt(seen)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
