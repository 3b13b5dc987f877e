"""Differentiation on spike representation: gradients of weighted firing rates in place of those of spikes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from neurons import RateNeuron, neurons_in
from neurons.errors import OptionError
from step.learners.continual.rules.base import Loss, Projections, Result, Rule, joined, projections, rules
from step.learners.continual.rules.probe import Place, named, probe, rows
from step.learners.continual.rules.product import Back, check_products, instrumented, product
from step.learners.continual.rules.taps import Layer
from step.models import Network


@rules.register("dsr")
class DSR(Rule):
    """Differentiation on spike representation: the network is read, tapped and differentiated by weighted firing rates.

    The neurons are those of :mod:`neurons.dsr`; their gradient is that of rates, and the error at the input of a neuron
    is the same at all time steps. So sum_t delta x_t^T = delta (sum_t x_t)^T: where nothing between a layer and its
    neuron depends on time (a norm in training mode does), the gradient of the weights takes the rows of one time step.
    Outputs are the weighted mean of the currents of the read-out, [1, B, C]. Source: Meng et al., CVPR 2022.

    Parameters
    ----------
    activity : {"rates", "spikes"}
        What is told of the layers: weighted firing rates, one row for each sample (and position), or the values of all
        time steps.
    **options
        See :class:`Rule`.
    """

    def __init__(
        self,
        network: Network,
        layers: Mapping[str, nn.Module],
        /,
        *,
        activity: Literal["rates", "spikes"] = "rates",
        **options: Any,
    ) -> None:
        super().__init__(network, layers, **options)
        if activity not in ("rates", "spikes"):
            raise OptionError(f"activity of rule 'dsr' is 'rates' or 'spikes', not {activity!r}")
        self.activity = activity
        self._places: dict[tuple[int, ...], dict[str, Place]] = {}

    def check(self) -> None:
        super().check()
        scales = set()
        for path, neuron in neurons_in(self.network):
            if not isinstance(neuron, RateNeuron):
                raise OptionError(
                    f"rule {self.name!r} differentiates firing rates of 'dsr-lif' and 'dsr-if'; {named(neuron, path)} "
                    "has no such gradient; use bptt"
                )
            scales.add((type(neuron), neuron.dt, neuron.rate_tau))
        if len(scales) != 1:
            wrong = "no neuron" if not scales else "neurons of different time constants"
            raise OptionError(f"rule {self.name!r} weighs time by that of its neurons; this network has {wrong}")
        if not self.network.streams:
            raise OptionError(f"rule {self.name!r} takes rates over time, and this network mixes time steps; use bptt")
        check_products(self.every, f"rule {self.name!r}")

    def gradients(self, x: Tensor, loss: Loss, *, taps: bool = False, project: Projections | None = None) -> Result:
        given = projections(self, project)
        x = self.constant(x)
        places, inputs = self._found(x), dict[str, list[Tensor]]()
        steps, batch = x.shape[:2]

        def call(path: str, layer: Layer, s: Tensor) -> Tensor:
            once = rows(layer, s) == places[path].rows * batch and places[path].static
            folded = 1 if once else steps
            if taps and path in self.layers:
                inputs.setdefault(path, []).append(self._told(s.detach(), folded))
            return product(layer, s, Back(self.error_weight(path, layer), None, given.get(path), folded))

        outputs = instrumented(self.network, self.every, call)(x)
        mean = self._rate(outputs).unsqueeze(0)
        value = loss(mean)
        value.backward()  # type: ignore[no-untyped-call]
        told = {path: joined(self, path, inputs.get(path, [])) for path in self.layers} if taps else {}
        return Result(value.detach(), mean.detach(), told)

    def readout(self, outputs: Tensor) -> Tensor:
        """Return the weighted mean [B, C] of outputs [T, B, C]."""
        return self._rate(outputs)

    def _rate(self, x: Tensor) -> Tensor:
        neuron = next(neuron for _, neuron in neurons_in(self.network) if isinstance(neuron, RateNeuron))
        return neuron.rate(x)

    def _told(self, x: Tensor, steps: int) -> Tensor:
        return self._rate(x.unflatten(0, (steps, -1))) if steps > 1 and self.activity == "rates" else x

    def _found(self, x: Tensor) -> dict[str, Place]:
        shape = tuple(x.shape[2:])
        if shape not in self._places:
            self.check()
            self._places[shape] = probe(self.network, self.every, x)
        return self._places[shape]
