"""Templates: every reference is kept, and a query is compared with all of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmarks.datasets import Dataset
from neurons.errors import OptionError
from step.learners.base import learners
from step.learners.places.base import Calibration, PlaceConfig, PlaceLearner
from step.learners.places.hog import hog
from step.learners.places.inputs import centred, joined, need_map, rows_of_queries, rows_of_references, unit
from step.models import Network

if TYPE_CHECKING:
    import energy

Distance = Literal["sad", "ncc", "cosine", "hog", "random-projection"]


class TemplatesConfig(PlaceConfig):
    """Settings of templates."""

    distance: Distance = "sad"
    """How views are compared: by the sum of absolute differences; by normalised cross-correlation (the cosine of views
    less their mean); by the cosine of the views, of their histograms of oriented gradients, or of a random
    projection."""
    several: Literal["nearest", "mean"] = "nearest"
    """What a place with several references is as alike as: the nearest of them, or their mean."""
    features: int = Field(256, ge=1)
    """Features of a random projection."""
    projection_seed: int | None = Field(None, ge=0)
    """Seed of the random projection; that of the run when left out."""
    cell: int = Field(4, ge=2)
    """Side of a cell of oriented gradients in pixels."""

    def check(self, network: Network | None, dataset: Dataset) -> None:  # type: ignore[override]
        if self.distance != "hog":
            return
        sides = dataset.shape[-2:]
        if len(sides) == 2 and min(sides) < self.cell:
            raise OptionError(f"learner.cell: cells of {self.cell} pixels do not fit into images of {list(sides)}")


@learners.register("templates")
class Templates(PlaceLearner):
    """Single-image matching: a query is compared with every reference; nothing is learned.

    The yardstick of place recognition. With ``distance="sad"`` and an encoder that normalises patches it is the
    baseline of SeqSLAM (Milford and Wyeth, ICRA 2012) and of the spiking systems; how views are normalised is the
    encoder's business.

    Parameters
    ----------
    network, config, seed, checkpoint_file, progress
        See :class:`~step.learners.places.base.PlaceLearner`.
    """

    Config = TemplatesConfig
    config: TemplatesConfig
    _templates: Tensor | None = None
    _projection: Tensor | None = None
    _inputs: int = 0

    def map_places(self, references: Tensor, calibration: Calibration | None = None) -> None:
        started = time.perf_counter()
        rows = rows_of_references(references)
        self._inputs = rows.shape[2]
        if self.config.distance == "random-projection":
            self._projection = self._drawn(rows.shape[2])
        self._templates = self._described(references)
        self.history.append({"seconds": time.perf_counter() - started})

    def add_places(self, references: Tensor) -> None:
        need_map(self._templates is not None, "templates")
        assert self._templates is not None
        rows_of_references(references)
        self._templates = joined(self._templates, self._described(references))

    def similarity(self, queries: Tensor, first: int = 0) -> Tensor:
        need_map(self._templates is not None, "templates")
        assert self._templates is not None
        rows_of_queries(queries, self._inputs)
        described = _described(queries, self.config.distance, self.config.cell, self._projection)
        traverses, places, _ = self._templates.shape
        flat = self._templates.flatten(0, 1)
        sad = self.config.distance == "sad"
        alike = torch.cdist(flat, described, p=1.0).neg_() if sad else flat @ described.T
        return _over_traverses(alike.view(traverses, places, -1), self.config.several, 0)

    def measure(self, queries: Tensor) -> energy.Record:
        """Return the operation record of one query, the mean over queries [B, C, H, W].

        A sum of absolute differences is a subtraction, a change of sign and an addition for each pixel of each
        template, and no product: models that price products only call it not applicable.
        """
        need_map(self._templates is not None, "templates")
        import energy

        assert self._templates is not None
        rows_of_queries(queries, self._inputs)
        network = _Comparison(self._templates, self._projection, self.config)
        # one query at a time: all differences of it from all templates are there at once
        return energy.measure(network, (query[None, None] for query in queries), data="queries", input_operand="real")

    @property
    def parameter_count(self) -> int:
        kept = 0 if self._templates is None else self._templates.numel()
        return kept + (0 if self._projection is None else self._projection.numel())

    def tensors(self) -> dict[str, Tensor]:
        need_map(self._templates is not None, "templates")
        assert self._templates is not None
        kept = {"templates": self._templates, "inputs": torch.tensor(self._inputs)}
        return kept if self._projection is None else {**kept, "projection": self._projection}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._templates, self._projection = tensors["templates"], tensors.get("projection")
        self._inputs = int(tensors["inputs"])

    def _drawn(self, inputs: int) -> Tensor:
        seed = self.seed if self.config.projection_seed is None else self.config.projection_seed
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(inputs, self.config.features, generator=generator) / self.config.features**0.5

    def _described(self, references: Tensor) -> Tensor:
        images = references.flatten(0, 1).to(torch.float32)
        chosen = (self.config.distance, self.config.cell, self._projection)
        # in parts, since oriented gradients need many times the memory of their images
        parts = [_described(part, *chosen) for part in images.split(256)]
        return torch.cat(parts).unflatten(0, references.shape[:2])


def _described(images: Tensor, distance: Distance, cell: int, projection: Tensor | None) -> Tensor:
    """Return what of images [B, C, H, W] is compared, [B, features]."""
    if distance == "hog":
        return unit(hog(images.to(torch.float32), cell))
    rows = images.flatten(1).to(torch.float32)
    if distance == "sad":
        return rows
    if distance == "ncc":
        return unit(centred(rows))
    return unit(rows if projection is None else rows @ projection)


def _over_traverses(alike: Tensor, several: str, dim: int) -> Tensor:
    if alike.shape[dim] == 1:
        return alike.squeeze(dim)
    return alike.amax(dim) if several == "nearest" else alike.mean(dim)


class _Comparison(nn.Module):
    """What answering one query does, as operations that can be counted."""

    templates: Tensor
    projection: Tensor | None

    def __init__(self, templates: Tensor, projection: Tensor | None, config: TemplatesConfig) -> None:
        super().__init__()
        self.register_buffer("templates", templates)
        self.register_buffer("projection", projection)
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        described = _described(x[0], self.config.distance, self.config.cell, self.projection)
        traverses, places, features = self.templates.shape
        flat = self.templates.view(-1, features)
        if self.config.distance == "sad":
            alike = (described.unsqueeze(1) - flat).abs().sum(-1)
        else:
            alike = nn.functional.linear(described, flat)
        return _over_traverses(alike.view(-1, traverses, places), self.config.several, 1)
