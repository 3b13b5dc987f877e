"""Backpropagation through time with surrogate gradients: ordinary autograd through the network."""

from __future__ import annotations

from torch import Tensor

from step.learners.continual.rules.base import Loss, Projections, Result, Rule, joined, projections, rules
from step.learners.continual.rules.product import Back, instrumented, product
from step.learners.continual.rules.taps import Layer


@rules.register("bptt")
class BPTT(Rule):
    """Backpropagation through time: the gradients of autograd; any neuron that has one may be used.

    The presynaptic activity of a layer is its input at all time steps, T B rows for a linear layer. Source of the
    surrogate gradients: Neftci et al., IEEE Signal Process. Mag. 2019.

    Parameters
    ----------
    **options
        See :class:`Rule`.
    """

    whole = True

    def gradients(self, x: Tensor, loss: Loss, *, taps: bool = False, project: Projections | None = None) -> Result:
        given = projections(self, project)
        inputs: dict[str, list[Tensor]] = {}

        def call(path: str, layer: Layer, s: Tensor) -> Tensor:
            if taps and path in self.layers:
                inputs.setdefault(path, []).append(s.detach())
            error = self.error_weight(path, layer)
            if error is None and path not in given:
                return layer.forward(s)
            return product(layer, s, Back(error, project=given.get(path)))

        outputs = instrumented(self.network, self.every, call)(self.constant(x))
        value = loss(outputs)
        value.backward()  # type: ignore[no-untyped-call]
        told = {path: joined(self, path, inputs.get(path, [])) for path in self.layers} if taps else {}
        return Result(value.detach(), outputs.detach(), told)
