"""Online training through time: gradients step by step, in memory that does not grow with the number of steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neurons import Neuron, RateNeuron, State, neurons_in
from neurons.errors import OptionError, StepError
from step.learners.continual.rules.activity import together
from step.learners.continual.rules.base import Loss, Projections, Result, Rule, joined, projections, rules
from step.learners.continual.rules.probe import Place, named, probe
from step.learners.continual.rules.product import Back, check_products, instrumented, product
from step.learners.continual.rules.taps import Layer
from step.models import Network


@rules.register("ottt")
class OTTT(Rule):
    """Online training through time: errors of the present step only, times traces of the past input of each layer.

    The network runs step by step, with its states carried on and their gradient cut. In the gradient of a layer's
    weights the trace a_t = decay a_{t-1} + s_t stands for the input s_t; what goes back to the layer before is as
    usual. The loss of every step counts 1 / T. A layer that the input of the network reaches without neurons between
    takes a constant input itself. Source: Xiao et al., NeurIPS 2022.

    Parameters
    ----------
    tau : float, optional
        Time constant of the traces in time steps, decay = 1 - 1 / tau; that of the membrane potentials when left out.
    **options
        See :class:`Rule`. ``rows`` are drawn evenly over the time steps.

    Notes
    -----
    Batch norms in training mode normalise every time step by itself. Weights inside neurons (recurrent ones, learned
    time constants) get the gradient of the present step.
    """

    def __init__(
        self, network: Network, layers: Mapping[str, nn.Module], /, *, tau: float | None = None, **options: Any
    ) -> None:
        super().__init__(network, layers, **options)
        if tau is not None and not tau > 1:
            raise OptionError(f"tau of rule 'ottt' is counted in time steps and must be greater than 1, not {tau}")
        self.tau = tau
        self._places: dict[tuple[int, ...], dict[str, Place]] = {}
        self._fixed: dict[str | None, float] = {}

    def check(self) -> None:
        super().check()
        for path, neuron in neurons_in(self.network):
            if neuron.conventional:
                raise OptionError(f"rule {self.name!r} goes through time, and {named(neuron, path)} has none; use bptt")
            if isinstance(neuron, RateNeuron):
                raise OptionError(
                    f"rule {self.name!r} runs step by step, and the gradient of {named(neuron, path)} is that of whole "
                    "sequences; use dsr"
                )
            if not neuron.streams:
                raise OptionError(
                    f"rule {self.name!r} runs step by step, and {named(neuron, path)} looks at all time steps at once; "
                    "use bptt"
                )
        if not self.network.streams:
            raise OptionError(
                f"rule {self.name!r} runs step by step, and {type(self.network).__name__} mixes time steps; use bptt"
            )
        check_products(self.every, f"rule {self.name!r}")
        self._decays()

    def _decays(self) -> dict[str | None, float]:
        """Return what is left of a trace after one step, by the path of the neuron that follows.

        Without ``tau`` it is the share of its membrane potential that the neuron keeps in a step without input, at
        rest. Behind the last neuron, under None, it is the mean over the spiking neurons.

        Raises
        ------
        OptionError
            When a neuron has no such share in [0, 1].
        """
        found = dict(neurons_in(self.network))
        if self.tau is not None:
            return dict.fromkeys([*found, None], 1 - 1 / self.tau)
        if self._fixed:
            return self._fixed
        shares: dict[str | None, float] = {}
        for path, neuron in found.items():
            share = kept(neuron)
            if share is None or not 0 <= share <= 1:
                raise OptionError(f"{named(neuron, path)} has no leak to trace its input by; give rule 'ottt' a tau")
            shares[path] = share
        spiking = [share for path, share in shares.items() if path is not None and found[path].output != "real"]
        if not spiking:
            raise OptionError("the network has no spiking neuron to take a leak from; give rule 'ottt' a tau")
        shares[None] = sum(spiking) / len(spiking)
        if not any(True for neuron in found.values() for _ in neuron.parameters()):
            self._fixed = shares  # nothing that learning could change
        return shares

    def gradients(self, x: Tensor, loss: Loss, *, taps: bool = False, project: Projections | None = None) -> Result:
        """Add the gradients of one batch to the ``.grad`` of all parameters; see :meth:`Rule.gradients`.

        The loss is the mean of those of the single steps, [1, B, C] each. Activity is that of all steps; take it from
        :meth:`online` where that is too much to hold.
        """
        first: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        found = list(self._steps(x, loss, taps, project, first))
        # The weights stood still: what a constant input gave at the first step is that of all, and so is its way back.
        for output, leaf in reversed(first.values()):
            if leaf.grad is not None:
                output.backward(leaf.grad)  # type: ignore[no-untyped-call]
        taken = {path: together([r.taps[path] for r in found if path in r.taps]) for path in self.layers if taps}
        total = torch.stack([result.loss for result in found]).mean()
        return Result(total, torch.cat([result.outputs for result in found]), taken)

    def online(
        self, x: Tensor, loss: Loss, *, taps: bool = False, project: Projections | None = None
    ) -> Iterator[Result]:
        """Yield after every time step, with its gradients added to ``.grad``: the optimiser may step in between.

        Loss and outputs [1, B, C] are those of the step. The activity of a layer with a constant input is told with the
        first step only.
        """
        return self._steps(x, loss, taps, project, None)

    def _steps(
        self,
        x: Tensor,
        loss: Loss,
        taps: bool,
        project: Projections | None,
        first: dict[tuple[str, int], tuple[Tensor, Tensor]] | None,
    ) -> Iterator[Result]:
        """Run the steps; with ``first``, layers with a constant input run once, and their way back is left open there.

        Its entries are the output of such a layer, and the leaf that stands for it and gathers the errors of all steps.
        """
        given = projections(self, project)
        x = self.constant(x)
        places, decays = self._found(x), self._decays()
        fixed = {path for path, place in places.items() if place.static and len(x) > 1 and x.stride(0) == 0}
        traces: dict[tuple[str, int], Tensor] = {}
        inputs: dict[str, list[Tensor]] = {}
        calls: dict[str, int] = {}

        def call(path: str, layer: Layer, s: Tensor) -> Tensor:
            place = path, calls.get(path, 0)
            calls[path] = place[1] + 1
            if first and place in first:
                return first[place][1]
            trace = s.detach()
            if path not in fixed:
                if place in traces:
                    trace = torch.add(trace, traces[place], alpha=decays[places[path].neuron])
                traces[place] = trace
            if taps and path in self.layers:
                inputs.setdefault(path, []).append(trace)
            output = product(layer, s, Back(self.error_weight(path, layer), trace, given.get(path)))
            if first is None or path not in fixed or not output.requires_grad:
                return output
            first[place] = output, output.detach().requires_grad_()
            return first[place][1]

        copy = instrumented(self.network, self.every, call)
        state = None
        share = None if self.rows is None else max(1, self.rows // len(x))
        for t in range(len(x)):
            inputs.clear()
            calls.clear()
            outputs, state = copy.run(x[t : t + 1], state)
            now = loss(outputs)
            (now / len(x)).backward()  # type: ignore[no-untyped-call]
            state = {path: {key: value.detach() for key, value in held.items()} for path, held in state.items()}
            told = [path for path in self.layers if taps and (t == 0 or path not in fixed)]
            taken = {p: joined(self, p, inputs.get(p, []), self.rows if p in fixed else share) for p in told}
            yield Result(now.detach(), outputs.detach(), taken)

    def _found(self, x: Tensor) -> dict[str, Place]:
        shape = tuple(x.shape[2:])
        if shape not in self._places:
            self.check()
            self._places[shape] = probe(self.network, self.every, x)
        return self._places[shape]


def kept(neuron: Neuron) -> float | None:
    """Return the share of its membrane potential that a neuron keeps in one step from rest without input.

    None for a neuron without a membrane potential ``v``; the mean where channels differ.
    """
    if "v" not in neuron.state or not neuron.streams:
        return None
    features = getattr(neuron, "features", getattr(neuron, "inputs", 1))
    reference = next(neuron.parameters(), torch.zeros(()))
    for shape in ([features], [features, 1, 1]):
        x = torch.zeros(1, 1, *shape, dtype=reference.dtype, device=reference.device)
        with torch.enable_grad():
            state = neuron.resting_state(x)
            state["v"].requires_grad_()
            try:
                after = _after(neuron, x, state)
            except (StepError, RuntimeError):  # its channels lie on the other axis
                continue
            if not after.requires_grad:
                return None
            (slope,) = torch.autograd.grad(after.sum(), state["v"])
        return float(slope.mean())
    return None


def _after(neuron: Neuron, x: Tensor, state: State) -> Tensor:
    """Return the membrane potential after one step, in the eager loop where there is one: no kernel for one number."""
    if type(neuron).run is not Neuron.run:
        return neuron.run(x, state)[1]["v"]
    result = neuron.step(x[0], *state.values())
    return result[1 + list(neuron.state).index("v")]
