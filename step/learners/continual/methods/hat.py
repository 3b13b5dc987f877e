"""Hard attention to the task (Serra, Suris, Miron and Karatzoglou, ICML 2018, arXiv 1801.01423)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmarks.datasets.stream import TaskStream
from neurons import Neuron, neurons_in
from neurons.errors import OptionError
from step.learners.continual.methods.base import (
    Method,
    MethodConfig,
    Outputs,
    Plan,
    Setup,
    Step,
    Task,
    Tensors,
    loss_among,
    methods,
)
from step.learners.continual.rules import Result
from step.models.feedforward import FeedForward

LARGEST_EMBEDDING, LARGEST_EXPONENT = 6.0, 50.0
"""What embeddings, and exponents in the compensation of their gradients, are held within (code of the authors)."""


class HATConfig(MethodConfig):
    """Options of hard attention to the task."""

    steepness: float = Field(400.0, gt=1)
    """s_max: how steep the gates are at the end of every epoch, and in answers."""
    sparsity: float = Field(0.75, ge=0)
    """Weight c of the penalty on gates that no earlier task has open."""

    def check(self, plan: Plan) -> None:
        if isinstance(plan.dataset, TaskStream) and plan.dataset.scenario != "task":
            raise OptionError(
                f"learner.method: hat opens the gates of a known task, and {plan.dataset.name} is "
                f"{plan.dataset.scenario}-incremental; take scenario: task or another method"
            )
        if not isinstance(plan.network, FeedForward):
            name = getattr(type(plan.network), "registered_name", type(plan.network).__name__)
            raise OptionError(f"learner.method: hat gates chains of layers, such as mlp and cnn, and {name} is none")
        if plan.rule != "bptt":
            raise OptionError(f"learner.method: the gates of hat learn by rule: bptt, not {plan.rule}")


@methods.register("hat")
class HAT(Method):
    """Hard attention to the task (Serra et al., 2018): every task opens gates on hidden neurons, which stay open.

    The spikes of hidden neuron i are multiplied by a_i = sigmoid(s e_i) with an embedding e of the task and s annealed
    over each epoch from 1 / s_max to s_max. The gradient of a weight between neurons that earlier tasks have open by
    c_i and c_j is multiplied by 1 - min(c_i, c_j). Task-incremental only: answers need the task, and the network by
    itself, as operations are counted on it, runs without gates.
    """

    Config = HATConfig
    needs_frozen = True

    def __init__(self, config: HATConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.hidden: dict[str, nn.Module] = {p: m for p, m in setup.layers.items() if p != setup.readout}
        # In a chain each hidden layer has one neuron behind it; an integrator may follow the read-out.
        self.gated: list[Neuron] = [neuron for _, neuron in neurons_in(setup.network)][: len(self.hidden)]
        self.embeddings: list[nn.Parameter] = []
        self.learned: list[list[Tensor]] = []
        self.outputs: list[Outputs] = []
        widths = [layer.weight.shape[0] for layer in self.hidden.values()]  # type: ignore[union-attr,index]
        self.open = [torch.zeros(int(width), device=setup.device) for width in widths]
        """How far the gates of each hidden layer are open to some earlier task."""
        self._before: Tensors = {}

    @property
    def extra_parameters(self) -> list[nn.Parameter]:
        return self.embeddings

    def start(self, task: Task) -> None:
        if not task.own_head:
            raise OptionError("method hat needs tasks with heads of their own; take a stream with scenario: task")
        generator = self.setup.generator(task.number, 6)
        drawn = [torch.randn(len(gates), generator=generator) for gates in self.open]
        self.embeddings = [nn.Parameter(e.to(self.setup.device)) for e in drawn]

    def gradients(self, step: Step, task: Task) -> Result:
        steepest = self.config.steepness
        share = step.number / max(step.count - 1, 1)
        s = 1 / steepest + (steepest - 1 / steepest) * share
        with self._gates([torch.sigmoid(s * e) for e in self.embeddings]):
            result = self.setup.rule.gradients(step.x, loss_among(step.labels, task.outputs))
        self._sparsity(s).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for e in self.embeddings:
                assert e.grad is not None
                steep = torch.cosh((s * e).clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT)) + 1
                e.grad *= steepest / s * steep / (torch.cosh(e) + 1)
            if not self.setup.decays:
                for path, share_left in self._free().items():
                    gradient = self.setup.network.get_parameter(f"{path}.weight").grad
                    if gradient is not None:
                        gradient *= share_left
        return result

    def before_step(self) -> None:
        if self.setup.decays:
            parameter = self.setup.network.get_parameter
            self._before = {path: parameter(f"{path}.weight").detach().clone() for path in self.hidden}

    @torch.no_grad()
    def after_step(self, step: Step, result: Result, task: Task) -> None:
        for e in self.embeddings:
            e.clamp_(-LARGEST_EMBEDDING, LARGEST_EMBEDDING)
        if self._before:
            for path, share_left in self._free().items():
                weight = self.setup.network.get_parameter(f"{path}.weight")
                weight.copy_(self._before[path] + share_left * (weight - self._before[path]))

    @torch.no_grad()
    def end(self, task: Task) -> None:
        self.learned.append([e.detach().clone() for e in self.embeddings])
        self.outputs.append(task.outputs)
        self.open = [torch.maximum(a, b) for a, b in zip(self.open, self._masks(-1), strict=True)]

    @contextmanager
    def answering(self, outputs: Outputs) -> Iterator[None]:
        if outputs not in self.outputs:  # nobody knows yet which gates a task to come will open
            yield
            return
        with self._gates(self._masks(self.outputs.index(outputs))):
            yield

    def _masks(self, number: int) -> list[Tensor]:
        return [torch.sigmoid(self.config.steepness * e) for e in self.learned[number]]

    def _sparsity(self, s: float) -> Tensor:
        """Return c times the mean opening of gates, each counted as far as earlier tasks have it shut."""
        shut = [1 - gates for gates in self.open]
        opened = sum((torch.sigmoid(s * e) * left).sum() for e, left in zip(self.embeddings, shut, strict=True))
        total = sum(float(left.sum()) for left in shut)
        return self.config.sparsity * opened / max(total, 1e-12)  # type: ignore[no-any-return]

    def _free(self) -> dict[str, Tensor]:
        """Return for the weights of each hidden layer how far they may still change, as broadcast to their shape."""
        free: dict[str, Tensor] = {}
        before: Tensor | None = None
        for (path, layer), gates in zip(self.hidden.items(), self.open, strict=True):
            weight: Any = layer.weight
            shape = (-1, *[1] * (weight.dim() - 1))
            held = gates.view(shape).expand_as(weight)
            if before is not None:
                # maps are flattened channel by channel
                inputs = before.repeat_interleave(weight.shape[1] // len(before))
                held = torch.minimum(held, inputs.view(1, -1, *shape[2:]))
            free[path] = 1 - held
            before = gates
        return free

    @contextmanager
    def _gates(self, masks: Sequence[Tensor]) -> Iterator[None]:
        """Multiply the output of every gated neuron by its mask while the context lasts."""

        def gate(mask: Tensor, on_maps: bool) -> Any:
            shaped = mask[:, None, None] if on_maps else mask
            return lambda module, given, spikes: spikes * shaped

        layers = self.hidden.values()
        handles = [
            neuron.register_forward_hook(gate(mask, isinstance(layer, nn.Conv2d)))
            for neuron, layer, mask in zip(self.gated, layers, masks, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def tensors(self) -> Tensors:
        found = {f"open.{layer}": gates for layer, gates in enumerate(self.open)}
        for number, embeddings in enumerate(self.learned):
            found |= {f"task.{number}.{layer}": e for layer, e in enumerate(embeddings)}
        return found

    def facts(self) -> dict[str, Any]:
        return {"outputs": self.outputs}

    def restore(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        moved = {name: value.to(self.setup.device) for name, value in tensors.items()}
        self.outputs = [(low, high) for low, high in facts["outputs"]]
        self.open = [moved[f"open.{layer}"] for layer in range(len(self.open))]
        count = range(len(self.outputs))
        self.learned = [[moved[f"task.{number}.{layer}"] for layer in range(len(self.open))] for number in count]

    def report(self) -> list[dict[str, Any]]:
        rows = []
        for path, gates in zip(self.hidden, self.open, strict=True):
            taken = int((gates > 0.5).sum())
            full = [f"all {len(gates)} gates are open: this layer learns nothing more"] if taken == len(gates) else []
            rows.append({"layer": path, "learner": "hat", "rank": taken, "capacity": len(gates), "warnings": full})
        return [*rows, *self.report_unguarded()]
