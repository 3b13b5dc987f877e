"""What every method against forgetting is: what it does before, in and after the steps of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.datasets import Dataset
from benchmarks.protocols import Batches
from neurons.registry import Registry
from step.learners.continual.rules import Result, Rule
from step.models import Network

methods: Registry[Method] = Registry("continual method", "continual_methods")

Outputs = tuple[int, int]
"""Half-open range of the outputs of a network."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """What a method is asked to do, before it begins.

    Attributes
    ----------
    network : Network
    layers : mapping of str to nn.Module
        Layers that can be protected, by path.
    readout : str
        Path of the last of them.
    dataset : Dataset
    rule : str
        Name of the learning rule.
    decays : bool
        Whether the optimiser's step is more than a multiple of gradients: weight decay, or a scale for each weight.
    """

    network: Network
    layers: Mapping[str, nn.Module]
    readout: str
    dataset: Dataset
    rule: str
    decays: bool


class MethodConfig(BaseModel):
    """Options of a method; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def check(self, plan: Plan) -> None:
        """Raise a StepError when what is planned cannot be done by this method; called before anything runs."""


@dataclass(frozen=True)
class Setup:
    """What a method works on.

    Attributes
    ----------
    network : Network
    layers : mapping of str to nn.Module
        The linear layers and ungrouped convolutions of the network by path, first to last.
    readout : str
        Path of the last of them, which has a row for each output.
    rule : Rule
        Where gradients come from.
    seed : int
    device : torch.device
    decays : bool
        Whether the optimiser's step is more than a multiple of gradients: weight decay, or a scale for each weight.
    """

    network: Network
    layers: Mapping[str, nn.Module]
    readout: str
    rule: Rule
    seed: int
    device: torch.device
    decays: bool = False

    def generator(self, *numbers: int) -> torch.Generator:
        """Return a generator that depends on the seed of the run and some numbers alone."""
        return torch.Generator().manual_seed(mixed(self.seed, *numbers))


@dataclass(frozen=True)
class Task:
    """The task that is being learned.

    Attributes
    ----------
    number : int
        From 0.
    outputs : tuple of int
        Among which its samples are told apart.
    earlier : tuple of (int, int)
        Outputs of the tasks before it.
    train : Batches
    """

    number: int
    outputs: Outputs
    earlier: tuple[Outputs, ...]
    train: Batches

    @property
    def own_head(self) -> bool:
        """Whether its outputs are none of an earlier task; so for the first task, too."""
        low, high = self.outputs
        return all(high <= first or last <= low for first, last in self.earlier)

    @property
    def answered(self) -> int:
        """Outputs below this number have answered for earlier tasks, as far as they are its own."""
        low, high = self.outputs
        return max((min(last, high) for first, last in self.earlier if first < high and last > low), default=low)


@dataclass
class Step:
    """One batch on its way into the weights.

    Attributes
    ----------
    images : Tensor, shape [B, ...]
        As the data set gives them.
    x : Tensor, shape [T, B, ...]
        As the network gets them.
    labels : Tensor of int64, shape [B]
    epoch, number, count : int
        Which epoch of the task, and which of how many batches of the epoch, all from 0.
    """

    images: Tensor
    x: Tensor
    labels: Tensor
    epoch: int
    number: int
    count: int


class Method:
    """Base of all methods: plain sequential training, with a place for everything that guards against forgetting.

    What a method keeps from task to task lies in tensors and JSON facts, so that a run that is resumed between two
    tasks goes on with the same numbers.

    Parameters
    ----------
    config : MethodConfig
    setup : Setup

    Class attributes
    ----------------
    joint : bool
        Whether the method wants all tasks at once.
    needs_frozen : bool
        Whether what it promises holds only where norms and one-dimensional parameters stay as the first task left them.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    joint: ClassVar[bool] = False
    needs_frozen: ClassVar[bool] = False

    def __init__(self, config: MethodConfig, setup: Setup) -> None:
        self.config: Any = config
        self.setup = setup

    @property
    def extra_parameters(self) -> list[nn.Parameter]:
        """Parameters that it learns beside those of the network."""
        return []

    def start(self, task: Task) -> None:
        """Get ready for a task."""

    def gradients(self, step: Step, task: Task) -> Result:
        """Add the gradients of a batch to the parameters, as they shall be followed; learn from what came by."""
        return self.setup.rule.gradients(step.x, loss_among(step.labels, task.outputs))

    def before_step(self) -> None:
        """See the weights just before the optimiser's step."""

    def after_step(self, step: Step, result: Result, task: Task) -> None:
        """See the weights just after the optimiser's step."""

    def end(self, task: Task) -> None:
        """Remember the task: its training is over."""

    @contextmanager
    def answering(self, outputs: Outputs) -> Iterator[None]:
        """Make the network answer for the task of these outputs while the context lasts."""
        yield

    def tensors(self) -> Tensors:
        """Return all tensors that it keeps from task to task."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Return what else it keeps, as JSON has it."""
        return {}

    def restore(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        """Take back what :meth:`tensors` and :meth:`facts` gave."""

    def report(self) -> list[dict[str, Any]]:
        """Return a row for each protected layer: ``layer``, ``rank``, ``capacity``, ``warnings``; none without any."""
        return []

    def numbers(self) -> dict[str, float]:
        """Return numbers about the epoch that is over for the learning curves."""
        return {}

    @property
    def unguarded(self) -> dict[str, nn.Parameter]:
        """Parameters of two and more dimensions that its promise does not cover: they stay as the first task left them.

        None for a method that promises nothing about what stays.
        """
        if not self.needs_frozen:
            return {}
        covered = {id(layer.weight) for layer in self.setup.layers.values()}
        named = self.setup.network.named_parameters()
        return {path: p for path, p in named if p.dim() > 1 and id(p) not in covered}

    def report_unguarded(self) -> list[dict[str, Any]]:
        """Return a row of :meth:`report` for each of the parameters that stay as the first task left them."""
        text = "frozen after the first task: neither the weight of a linear layer nor of an ungrouped 2-d convolution"
        return [
            {"layer": path, "rank": 0, "capacity": p[0].numel(), "warnings": [text]}
            for path, p in self.unguarded.items()
        ]

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The parameters of the network that this task trains, by path."""
        return {path: p for path, p in self.setup.network.named_parameters() if p.requires_grad}


def loss_among(labels: Tensor, outputs: Outputs) -> Callable[[Tensor], Tensor]:
    """Return the cross-entropy of outputs [T, B, C], averaged over time, as a choice among a range of outputs."""
    low, high = outputs

    def loss(y: Tensor) -> Tensor:
        return functional.cross_entropy(y.mean(0)[:, low:high], labels - low)

    return loss


def drawn_from(train: Batches, count: int, batch: int, generator: torch.Generator) -> Batches:
    """Return batches of so many samples of a task, drawn at random, or of all where there are fewer."""
    chosen = torch.randperm(train.samples, generator=generator)[:count]
    return replace(train, indices=train.indices[chosen], batch=batch, shuffle=False)


def mixed(*numbers: int) -> int:
    """Return a seed that depends on all of some whole numbers and their order."""
    import hashlib

    digest = hashlib.sha256("/".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:7], "big")
