"""A linear read-out of places, by ridge regression."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor, nn

from step.learners.base import learners
from step.learners.places.base import Calibration, PlaceConfig, PlaceLearner
from step.learners.places.inputs import joined, need_map, rows_of_queries, rows_of_references

if TYPE_CHECKING:
    import energy


class RidgeConfig(PlaceConfig):
    """Settings of a linear read-out."""

    penalty: float = Field(100.0, gt=0)
    """Lambda, the weight of the squared weights, for pixels in [0, 1] as they come from the encoder."""
    bias: bool = True
    """Whether every place has a bias, which is not punished; pixels and answers are then centred."""


@learners.register("ridge")
class Ridge(PlaceLearner):
    """Ridge regression from views onto one-hot places (Hoerl and Kennard 1970), in closed form.

    The best linear map of the views: what any network that learns places has to be shown beside. With N references of
    n pixels it solves for n x n or N x N numbers, whichever are fewer, in double precision. The references are kept,
    so that further places can be added; all weights are then solved for again, which is exact, and moves the answers
    for the places before a little.

    Parameters
    ----------
    network, config, seed, checkpoint_file, progress
        See :class:`~step.learners.places.base.PlaceLearner`.
    """

    Config = RidgeConfig
    config: RidgeConfig
    _references: Tensor | None = None
    _layer: nn.Linear

    def map_places(self, references: Tensor, calibration: Calibration | None = None) -> None:
        started = time.perf_counter()
        self._solve(rows_of_references(references))
        self.history.append({"seconds": time.perf_counter() - started})

    def add_places(self, references: Tensor) -> None:
        need_map(self._references is not None, "ridge")
        assert self._references is not None
        self._solve(joined(self._references, rows_of_references(references)))

    def similarity(self, queries: Tensor, first: int = 0) -> Tensor:
        need_map(self._references is not None, "ridge")
        with torch.no_grad():
            return self._layer(rows_of_queries(queries, self._layer.in_features)).T

    def measure(self, queries: Tensor) -> energy.Record:
        need_map(self._references is not None, "ridge")
        import energy

        rows = rows_of_queries(queries, self._layer.in_features)
        return energy.measure(nn.Sequential(self._layer), rows.unsqueeze(0), data="queries", input_operand="real")

    @property
    def parameter_count(self) -> int:
        """Weights and biases; the references, by which places are added, answer nothing."""
        return 0 if self._references is None else sum(p.numel() for p in self._layer.parameters())

    def tensors(self) -> dict[str, Tensor]:
        need_map(self._references is not None, "ridge")
        assert self._references is not None
        return {"references": self._references, **self._layer.state_dict()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._references = tensors["references"]
        self._keep(tensors["weight"], tensors.get("bias"))

    def _solve(self, rows: Tensor) -> None:
        traverses, places, inputs = rows.shape
        x = rows.flatten(0, 1).to(torch.float64)
        y = torch.eye(places, dtype=torch.float64).repeat(traverses, 1)
        mean = x.mean(0) if self.config.bias else torch.zeros(inputs, dtype=torch.float64)
        level = 1.0 / places if self.config.bias else 0.0
        weight = ridge(x - mean, y - level, self.config.penalty)
        bias = level - weight @ mean
        self._references = rows
        self._keep(weight.to(torch.float32), bias.to(torch.float32) if self.config.bias else None)

    def _keep(self, weight: Tensor, bias: Tensor | None) -> None:
        self._layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        self._layer.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
        self._layer.requires_grad_(False)


def ridge(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Return the weights [outputs, inputs] that minimise |x w^T - y|^2 + penalty |w|^2.

    Parameters
    ----------
    x : Tensor, shape [N, inputs]
    y : Tensor, shape [N, outputs]
    penalty : float
    """
    samples, inputs = x.shape
    if inputs <= samples:
        gram = x.T @ x
        gram.diagonal().add_(penalty)
        return torch.linalg.solve(gram, x.T @ y, left=True).T
    gram = x @ x.T
    gram.diagonal().add_(penalty)
    return (x.T @ torch.linalg.solve(gram, y)).T
