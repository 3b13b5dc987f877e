"""Gradients that are kept out of the subspaces of past activity, which learn from the same batch: one training step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from step.learners.continual.rules import Loss, Projections, Result, Rule
from step.learners.continual.rules.activity import Activity, Rows
from step.learners.continual.rules.product import known_product
from step.learners.continual.subspaces import Subspace
from step.learners.continual.subspaces.projection import EVENT

_SMALL = 4_000_000
"""Multiply-adds of a projection below which there is nothing to win."""


def guarded_gradients(
    rule: Rule,
    subspaces: Mapping[str, Subspace],
    x: Tensor,
    loss: Loss,
    *,
    learns: bool = True,
    projects: bool = True,
) -> Result:
    """Add the gradients of a batch, without what earlier tasks are protected by, to ``.grad``; learn from its activity.

    A gradient delta^T X is projected as a whole, P(delta^T X), or, for a linear layer with fewer rows of activity than
    outputs, made of projected activity, delta^T P(X): the same by linearity. P(X) is what Hebbian learning works with
    as well. What takes fewer multiply-adds is done (:func:`inside_pays`). Lateral spikes are not linear and always act
    on activity.

    Parameters
    ----------
    rule : Rule
    subspaces : mapping of str to Subspace
        By the path of their layer, layers of the rule.
    x : Tensor, shape [T, B, ...]
    loss : callable
        Maps outputs [T, B, C] to a scalar.
    learns : bool
        Whether the subspaces learn.
    projects : bool
        Whether gradients are projected where lateral units are linear.
    """
    held = {path: subspace for path, subspace in subspaces.items() if subspace.rank}
    inside: dict[str, Inside] = {}
    for path, subspace in held.items():
        layer = rule.layers[path]
        if projects and subspace.exact and rule.whole and may_pay(subspace, layer):
            inside[path] = Inside(subspace, layer.weight.shape[0])
    bursts = {path: subspace.project_input for path, subspace in held.items() if not subspace.exact}
    given: Projections = {**bursts, **inside}
    result = rule.gradients(x, loss, taps=learns, project=given or None)
    for path, subspace in held.items():
        gradient = rule.layers[path].weight.grad
        if gradient is None or path in bursts or not projects or (path in inside and inside[path].taken):
            continue
        gradient.copy_(subspace.project(gradient.flatten(1)).view_as(gradient))
    for path, subspace in subspaces.items() if learns else ():
        seen = inside[path].activity if path in inside and rule.rows is None else None
        subspace.update(result.taps[path] if seen is None else seen)
    return result


class Inside:
    """Projects the activity of a linear layer on its way into the gradient where that pays, and keeps what is left.

    Parameters
    ----------
    subspace : Subspace
    outputs : int
        Outputs of the layer.

    Attributes
    ----------
    taken : bool
        Whether activity was projected, so that the gradient need not be.
    activity : Activity or None
        That of the layer with what was found out about it, if one call saw all of it.
    """

    def __init__(self, subspace: Subspace, outputs: int) -> None:
        self.subspace, self.outputs = subspace, outputs
        self._pays: bool | None = None
        self._seen: list[Activity] = []

    def __call__(self, rows: Tensor) -> Tensor | None:
        """Return rows [R, n] projected, or None where that does not pay."""
        x = Rows(rows).to(self.subspace.device, torch.float32)
        self._seen.append(x)
        if self._pays is None:  # the same for all calls of a layer, lest a gradient be projected in part
            self._pays = inside_pays(self.subspace, x, self.outputs)
        if not self._pays:
            return None
        projected = self.subspace.project_activity(x)
        if self.subspace.removes_all:
            x.left = projected
        return projected.to(rows)

    @property
    def taken(self) -> bool:
        return bool(self._pays)

    @property
    def activity(self) -> Activity | None:
        return self._seen[0] if len(self._seen) == 1 else None


def inside_pays(subspace: Subspace, x: Activity, outputs: int) -> bool:
    """Whether projecting the activity of a linear layer takes fewer multiply-adds than projecting its gradient.

    A product with projected activity, which has no zeros, cannot pass over those of spikes.
    """
    dense = min(1.0, EVENT * x.density())
    for_gradient = outputs * subspace.n * subspace.projection.cost + dense * len(x) * subspace.n * outputs
    for_activity = len(x) * subspace.n * (subspace.projection.cost_of(x)[0] + outputs)
    return for_activity < for_gradient


def may_pay(subspace: Subspace, layer: nn.Module) -> bool:
    """Whether projecting the activity of a layer can be worth a look at it: a linear layer that is not small."""
    if not isinstance(layer, nn.Linear) or not known_product(layer):
        return False
    return layer.out_features * subspace.n * subspace.projection.cost > _SMALL
