"""Hebbian learning based orthogonal projection (Xiao et al., ICLR 2024, arXiv 2402.11984)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from benchmarks.datasets.stream import TaskStream
from neurons.errors import OptionError, suggest
from step.learners.continual.methods.base import Plan, Setup, Step, Task, methods
from step.learners.continual.methods.parts import SubspacePart
from step.learners.continual.methods.projection import Projected, ProjectionConfig
from step.learners.continual.subspaces import subspaces

Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
PerLayer = list[Any] | dict[str, Any]

FIRST_ETA, ETA = 0.001, 0.01
"""Hebbian learning rates of the paper: of the 784 pixels that a perceptron sees, and of every other layer."""


class HLOPConfig(ProjectionConfig):
    """Options of Hebbian orthogonal projection.

    Numbers for each layer are a list, in the order of the protected layers, or a mapping of their paths. Where tasks
    have heads of their own, the read-out is not among the protected layers.
    """

    subspace: SubspacePart = Field({"name": "hebbian"}, validate_default=True)
    """How the subspace of each layer is learned."""
    rows: Literal["auto"] | list[Count] | dict[str, Count] = "auto"
    """Rows that each layer gets for the first task; ``auto`` for as many as its activity needs. The paper takes
    [80, 200, 100] for permuted MNIST and [6, 100, 200] for CIFAR-100."""
    more: list[Count] | dict[str, Count] | None = None
    """Rows for every further task, by default those of the first; [70, 70, 70] and [2, 20, 40] in the paper."""
    less: int = Field(0, ge=0)
    """By how many rows ``more`` shrinks each time; 20 for permuted MNIST."""
    less_every: int = Field(3, ge=1)
    """After how many tasks it shrinks again: for 3 with tasks 4, 7 and 10, as for permuted MNIST."""
    changes: dict[int, list[Count] | dict[str, Count]] = {}
    """Other values of ``more`` from some task on, counted from 1: for miniImageNet the paper changes with task 7."""
    eta: Literal["paper"] | Rate | list[Rate] | dict[str, Rate] | None = None
    """Hebbian learning rate of each layer; ``paper`` for 0.001 in the first layer and 0.01 behind it. Left out, that of
    ``subspace``."""
    start_epoch: int = Field(0, ge=0)
    """Epoch of each task, from 0, with which Hebbian learning begins."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.rows == "auto" and (self.more is not None or self.less or self.changes):
            raise ValueError("more, less and changes have no effect with rows: auto; leave them out")
        if self.less == 0 and self.less_every != 3:
            raise ValueError("less_every has no effect without less; leave it out")
        if self.changes and min(self.changes) < 2:
            raise ValueError(f"changes begin with task 2 or later, not {min(self.changes)}; task 1 has rows")
        if self.eta is not None and "eta" not in subspaces.options(self.subspace["name"]):
            raise ValueError(f"eta: the subspace learner {self.subspace['name']} has no learning rate; leave it out")
        return self

    def check(self, plan: Plan) -> None:
        super().check(plan)
        own_heads = isinstance(plan.dataset, TaskStream) and plan.dataset.scenario == "task"
        paths = [path for path in plan.layers if path != plan.readout or not own_heads]
        for name, given in self._per_layer().items():
            _by_path(name, given, paths)

    def _per_layer(self) -> dict[str, PerLayer]:
        named: dict[str, Any] = {"rows": self.rows, "more": self.more, "eta": self.eta}
        named |= {f"changes.{task}": given for task, given in self.changes.items()}
        return {name: given for name, given in named.items() if isinstance(given, list | dict)}

    def rows_for(self, number: int, paths: list[str]) -> dict[str, int | None]:
        """Return the rows of each layer for task ``number``, from 0; None where they are automatic."""
        if self.rows == "auto":
            return dict.fromkeys(paths)
        if number == 0 or (self.more is None and not self.changes):
            given: Any = self.rows
        else:
            given = self.rows if self.more is None else self.more
        begun = [task for task in self.changes if task <= number + 1]
        if begun and number:
            given = self.changes[max(begun)]
        fewer = self.less * (number // self.less_every) if number else 0
        return {path: max(0, count - fewer) for path, count in _by_path("rows", given, paths).items()}


@methods.register("hlop")
class HLOP(Projected):
    """Hebbian orthogonal projection (Xiao et al., 2024): lateral connections learn online what past tasks used.

    Every batch first gives its gradients, kept out of the subspaces of earlier tasks, and then moves the new rows of
    each layer's lateral weights by Hebbian learning on the same presynaptic activity. No sample is stored.
    """

    Config = HLOPConfig
    streaming = True

    def __init__(self, config: HLOPConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self._etas: dict[str, float] = {}

    def paths(self, task: Task) -> list[str]:
        paths = list(self.setup.layers)
        for given in self.config._per_layer().values():
            # a list or mapping without the read-out says that tasks have heads of their own
            named = given if isinstance(given, dict) else paths[: len(given)]
            paths = [path for path in paths if path != self.setup.readout or path in named]
        return paths

    def rows(self, task: Task) -> dict[str, int | None]:
        found: dict[str, int | None] = self.config.rows_for(task.number, self.paths(task))
        return found

    def options(self, path: str) -> dict[str, Any]:
        eta = self.config.eta
        if eta is None:
            return {}
        order = list(self.setup.layers)
        if eta == "paper":
            return {"eta": FIRST_ETA if path == order[0] else ETA}
        if isinstance(eta, float):
            return {"eta": eta}
        return {"eta": eta[path] if isinstance(eta, dict) else eta[order.index(path)]}

    def learns(self, step: Step) -> bool:
        return step.epoch >= self.config.start_epoch


def _by_path(name: str, given: PerLayer, paths: list[str]) -> dict[str, Any]:
    """Return numbers by the path of their layer."""
    if isinstance(given, list):
        if len(given) != len(paths):
            raise OptionError(
                f"learner.method.{name} has {len(given)} numbers for {len(paths)} protected layers: {', '.join(paths)}"
            )
        return dict(zip(paths, given, strict=True))
    for path in given:
        if path not in paths:
            raise OptionError(f"learner.method.{name}: there is no protected layer {path!r}{suggest(path, paths)}")
    missing = [path for path in paths if path not in given]
    if missing:
        raise OptionError(f"learner.method.{name} says nothing about the protected layer {missing[0]!r}")
    return {path: given[path] for path in paths}
