"""What methods have in common that keep weights out of the subspaces of past activity."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from neurons.errors import OptionError
from step.learners import checkpoint
from step.learners.base import to_device
from step.learners.continual.guarded import guarded_gradients
from step.learners.continual.methods.base import (
    Method,
    MethodConfig,
    Plan,
    Setup,
    Step,
    Task,
    Tensors,
    drawn_from,
    loss_among,
)
from step.learners.continual.methods.parts import SubspacePart, new_subspace
from step.learners.continual.rules import Result
from step.learners.continual.subspaces import Subspace


class ProjectionConfig(MethodConfig):
    """Options of every method that projects."""

    subspace: SubspacePart
    """How the subspace of each layer is learned."""

    def check(self, plan: Plan) -> None:
        if plan.decays and not new_subspace(self.subspace, 4, torch.Generator(), torch.device("cpu")).exact:
            raise OptionError(
                "learner.method.subspace: lateral spikes act on the input of a layer, and steps of Adam or with weight "
                "decay are more than that; take optimiser: sgd and weight_decay: 0"
            )


class Projected(Method):
    """Base of the methods that project: the subspaces of all layers, and what is done with them in every step.

    A read-out that all tasks share is a layer like the others. Where every task has a head of its own, only that one
    is trained, and the subspace of the read-out is dropped as soon as this shows.

    Gradients are projected, which for linear lateral units equals projecting every presynaptic activity. Where the
    optimiser scales weights differently or lets them decay, its whole step is projected instead, as Wang et al.
    (Training networks in null space of feature covariance for continual learning, CVPR 2021) do for Adam: the step of
    a projected gradient would leave the null space.
    """

    needs_frozen = True
    streaming: ClassVar[bool]
    """Whether subspaces learn from every batch, or from a sample of the task when it is over."""

    def __init__(self, config: ProjectionConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.subspaces: dict[str, Subspace] = {}
        self._warnings: dict[str, list[str]] = {}
        self._before: Tensors = {}

    @abstractmethod
    def paths(self, task: Task) -> list[str]:
        """Return which layers to protect, asked for the first task."""

    def rows(self, task: Task) -> dict[str, int | None]:
        """Return the rows that each layer gets for a task; None for as many as needed."""
        return dict.fromkeys(self.subspaces)

    def options(self, path: str) -> dict[str, Any]:
        """Return options of the subspace of one layer, beside those of all."""
        return {}

    def start(self, task: Task) -> None:
        if not self.subspaces:
            self._create(self.paths(task))
        if task.earlier and task.own_head:
            self.subspaces.pop(self.setup.readout, None)
            self._warnings.pop(self.setup.readout, None)
        wanted = self.rows(task)
        for path, subspace in self.subspaces.items():
            count, left = wanted[path], subspace.capacity - subspace.rank
            if count is not None and count > left:
                self._warnings[path].append(f"task {task.number + 1} asks for {count} rows and {left} are left")
                count = left
            subspace.grow(count)

    def _create(self, paths: list[str]) -> None:
        order = list(self.setup.layers)
        for path in paths:
            n = self.setup.layers[path].weight.flatten(1).shape[1]  # type: ignore[operator,union-attr]
            generator = self.setup.generator(order.index(path), 2)
            more = self.options(path)
            self.subspaces[path] = new_subspace(self.config.subspace, n, generator, self.setup.device, **more)
            self._warnings[path] = []

    def learns(self, step: Step) -> bool:
        """Whether subspaces learn from this batch."""
        return self.streaming

    def gradients(self, step: Step, task: Task) -> Result:
        loss = loss_among(step.labels, task.outputs)
        learns, projects = self.learns(step), not self.setup.decays
        return guarded_gradients(self.setup.rule, self.subspaces, step.x, loss, learns=learns, projects=projects)

    def before_step(self) -> None:
        if self.setup.decays:
            self._before = {path: self._weight(path).detach().clone() for path, s in self.subspaces.items() if s.rank}

    @torch.no_grad()
    def after_step(self, step: Step, result: Result, task: Task) -> None:
        for path, before in self._before.items():
            weight = self._weight(path)
            weight.copy_(before + self._projected(self.subspaces[path], weight - before))
        self._before = {}

    def end(self, task: Task) -> None:
        if not self.streaming:
            self._sample(task)
        for subspace in self.subspaces.values():
            subspace.merge()

    def _sample(self, task: Task) -> None:
        setup = self.setup
        setup.network.eval()
        generator = setup.generator(task.number, 3)
        for x, labels in drawn_from(task.train, self.config.samples, task.train.batch, generator).epoch():
            loss = loss_among(labels.to(setup.device), task.outputs)
            found = setup.rule.gradients(to_device(x, setup.device), loss, taps=True)
            for path, subspace in self.subspaces.items():
                subspace.update(found.taps[path])
        setup.network.zero_grad(set_to_none=True)

    def _weight(self, path: str) -> nn.Parameter:
        return self.setup.network.get_parameter(f"{path}.weight")

    @staticmethod
    def _projected(subspace: Subspace, change: Tensor) -> Tensor:
        return subspace.project(change.flatten(1)).view_as(change)

    def tensors(self) -> Tensors:
        found: Tensors = {}
        for path, subspace in self.subspaces.items():
            found |= checkpoint.with_prefix(path, subspace.state_dict())
        return found

    def facts(self) -> dict[str, Any]:
        return {"layers": list(self.subspaces), "warnings": self._warnings}

    def restore(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        self._create(facts["layers"])
        for path, subspace in self.subspaces.items():
            subspace.load_state_dict(checkpoint.without_prefix(path, tensors))
        self._warnings = facts["warnings"]

    def report(self) -> list[dict[str, Any]]:
        rows = []
        for path, subspace in self.subspaces.items():
            row = subspace.report()
            rows.append({"layer": path, **row, "warnings": [*row["warnings"], *self._warnings[path]]})
        return [*rows, *self.report_unguarded()]
