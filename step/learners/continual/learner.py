"""Learning one task after another, by any method against forgetting and any learning rule."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from benchmarks.protocols import Batches, Objective
from neurons.errors import DataError, OptionError
from step.learners import checkpoint
from step.learners.base import NetworkLearner, Progress, learners, to_device
from step.learners.continual.config import ContinualConfig
from step.learners.continual.methods import Method, Prototypes, Setup, Step, Task, methods
from step.learners.continual.methods.base import Outputs, mixed
from step.learners.continual.methods.replay_after import replay_after
from step.learners.continual.rules import Rule, protected_layers, readout_path, rules
from step.learners.schedule import learning_rate
from step.learners.surrogate_gradient import TrainingError
from step.models import Network

if TYPE_CHECKING:
    import pandas as pd

_CALMER = "lower learner.lr or the strength of the method's penalty, or set learner.clip"


@learners.register("continual")
class Continual(NetworkLearner):
    """Learning task after task: a method against forgetting, such as HLOP, EWC or replay, on any learning rule.

    Every task gets a fresh optimiser: momentum of the task before would go on moving weights in directions that it
    used. Everything random follows from the seed, the task and the epoch. The state is kept after each task that the
    protocol has scored; a run that is interrupted begins its present task anew and ends in the same numbers.

    Parameters
    ----------
    network : Network
    config : ContinualConfig
    seed : int
        Seed of everything random in training.
    device : torch.device, optional
        The GPU where there is one, when left out.
    checkpoint_file : Path, optional
        Where the state is kept after every task; a file that is already there is gone on from.
    progress : callable, optional
        Called with a dict after every batch and every epoch.

    Attributes
    ----------
    joint : bool
        Whether the method wants all tasks at once.
    done : int
        Tasks that are learned and finished.
    notes : dict
        What the protocol keeps with the state, as JSON has it.
    history : list of dict
        A row for every epoch of every task; ``seconds`` of the last one of a task holds the work at its end, too.
    """

    Config = ContinualConfig

    def __init__(
        self,
        network: Network,
        config: ContinualConfig,
        *,
        seed: int = 0,
        device: torch.device | None = None,
        checkpoint_file: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.seed = seed
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network: Network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.file = checkpoint_file
        self.progress = progress or (lambda event: None)
        self.history: list[dict[str, float]] = []
        self.notes: dict[str, Any] = {}
        self.done = 0
        self.outputs: list[Outputs] = []
        """Among which outputs the samples of each task so far are told apart, the present one included."""
        layers = protected_layers(self.network, shared_readout=True)
        readout = readout_path(self.network)
        rule_options = {k: v for k, v in config.rule.items() if k != "name"}
        self.rule: Rule = rules.create(config.rule["name"], self.network, layers, seed=seed, **rule_options)
        setup = Setup(self.network, layers, readout, self.rule, seed, self.device, config.decays)
        make: Any = methods.get(config.method["name"])
        self.method: Method = make(config.method_config(), setup)
        self.joint = self.method.joint
        self.replay = replay_after(config.replay_after, setup)
        head: Any = self.network.get_submodule(readout)
        self._head: nn.Parameter = head.weight
        self._bias: nn.Parameter | None = head.bias
        self.prototypes = (
            Prototypes(self.network, readout, len(head.weight), self.device) if config.head == "prototype" else None
        )
        self._trained = {p for p in self.network.parameters() if p.requires_grad}
        if self.file is not None and self.file.exists():
            self._resume(self.file)

    @property
    def batch(self) -> int:
        """Samples in a training batch."""
        return self.config.batch

    @property
    def best_epoch(self) -> int:
        """The last epoch: nothing is held out to choose another by."""
        return len(self.history)

    def fit(self, train: Batches, validation: Batches, objective: Objective) -> None:
        """Refuse: one task is no stream of tasks.

        Raises
        ------
        OptionError
            Always.
        """
        raise OptionError("learner: continual learns task after task; set protocol: continual, or another learner")

    def learn(self, number: int, train: Batches, outputs: Outputs) -> None:
        """Learn a task.

        Parameters
        ----------
        number : int
            Of the task, from 0; tasks come in order.
        train : Batches
        outputs : tuple of int
            Half-open range of the outputs among which its samples are told apart.

        Raises
        ------
        OptionError
            When it is not the turn of this task.
        TrainingError
            When the loss is no longer a finite number.
        """
        if number != self.done:
            raise OptionError(f"task {number} cannot be learned after {self.done} finished tasks; tasks come in order")
        task = Task(number, outputs, tuple(self.outputs[: self.done]), train)
        self.outputs = [*task.earlier, outputs]
        with self._frozen(task):
            self.method.start(task)
            optimiser = self._optimiser(self.config.lr, self.method.extra_parameters)
            for epoch in range(self.config.all_epochs):
                start = time.perf_counter()
                row = self._epoch(task, epoch, optimiser)
                self.history.append({**row, "seconds": time.perf_counter() - start})
                self.progress({"epoch": epoch + 1, "epochs": self.config.all_epochs, **self.history[-1]})
            start = time.perf_counter()
            self.history[-1] |= self._end(task)
            self.history[-1]["seconds"] += time.perf_counter() - start

    def finish(self) -> None:
        """Keep the state and the notes: the task is learned and scored."""
        self.done += 1
        if self.file is None:
            return
        tensors = {
            **checkpoint.with_prefix("network", self.network.state_dict()),
            **checkpoint.with_prefix("method", self.method.tensors()),
            **checkpoint.with_prefix("rule", self.rule.state_dict()),
        }
        if self.prototypes is not None:
            tensors |= checkpoint.with_prefix("prototypes", self.prototypes.tensors())
        if self.replay is not None:
            tensors |= checkpoint.with_prefix("replay", self.replay.tensors())
        facts = {
            "done": self.done,
            "outputs": self.outputs,
            "history": self.history,
            "notes": self.notes,
            "method": self.method.facts(),
        }
        checkpoint.write(self.file, tensors, facts)

    def scores(self, x: Tensor, outputs: Outputs) -> Tensor:
        """Return the answers [B, C] for x [T, B, ...], -inf for outputs outside the range; in eval mode."""
        self.network.eval()
        with torch.no_grad(), self.method.answering(outputs):
            x = to_device(x, self.device)
            found = None if self.prototypes is None else self.prototypes.scores(x, outputs)
            if found is None:
                found = self.rule.readout(self.network(x))
        place = torch.arange(found.shape[1], device=found.device)
        return found.masked_fill((place < outputs[0]) | (place >= outputs[1]), -torch.inf)

    def report(self) -> list[dict[str, Any]]:
        """Return a row for each protected layer: ``layer``, ``rank``, ``capacity``, ``warnings``; none without any."""
        return self.method.report()

    def answering(self, outputs: Outputs) -> AbstractContextManager[None]:
        """Return a context in which the network itself answers for the task of these outputs."""
        return self.method.answering(outputs)

    def operations(self, x: Tensor) -> pd.DataFrame:
        """Return what a training step on a batch x [T, B, ...] cost in every task that is learned, layer by layer."""
        from step.learners.continual.operations import operations_of

        return operations_of(self, x)

    @contextmanager
    def _frozen(self, task: Task) -> Iterator[None]:
        """Keep from changing, while the context lasts, what no later task may change."""
        frozen = self.config.freeze and bool(task.earlier)
        still = self.method.unguarded if frozen else {}
        for path, p in self.network.named_parameters():
            if p in self._trained:
                p.requires_grad_(not frozen or p is self._bias or (p.dim() > 1 and path not in still))
        try:
            yield
        finally:
            for p in self._trained:
                p.requires_grad_(True)

    def _train_mode(self, task: Task) -> None:
        self.network.train()
        if self.config.freeze and task.earlier:
            for module in self.network.modules():
                if isinstance(module, _NormBase):
                    module.eval()

    def _optimiser(self, lr: float, more: list[nn.Parameter]) -> torch.optim.Optimizer:
        trained = [*(p for p in self.network.parameters() if p.requires_grad), *more]
        if self.config.optimiser == "adam":
            return torch.optim.Adam(trained, lr=lr)
        return torch.optim.SGD(trained, lr=lr, momentum=self.config.momentum)

    def _epoch(self, task: Task, epoch: int, optimiser: torch.optim.Optimizer) -> dict[str, float]:
        """Train for an epoch; return its numbers."""
        # Seeded for each epoch, not once: a task that is begun anew then draws what it would have drawn.
        torch.manual_seed(mixed(self.seed, task.number, epoch, 0))
        self._train_mode(task)
        c, train = self.config, task.train
        if task.number and c.later_lr is not None:
            c = c.model_copy(update={"lr": c.later_lr})
        total, seen, rate = torch.zeros((), device=self.device), 0, 0.0
        for number, drawn in enumerate(train.images(epoch)):
            rate = learning_rate(c, epoch + (number + 1) / len(train))
            for group in optimiser.param_groups:
                group["lr"] = rate
            if drawn.lengths is not None:
                raise DataError("learner: continual reads outputs over all time steps; these samples differ in length")
            x = to_device(train.encode(drawn.images, drawn.generator), self.device)
            step = Step(drawn.images, x, drawn.labels.to(self.device), epoch, number, len(train))
            total += self._step(step, task, optimiser) * len(step.labels)
            seen += len(step.labels)
            share = (number + 1) / len(train)
            self.progress({"task": task.number + 1, "epoch": epoch, "epochs": c.all_epochs, "share": share})
        return {"task": task.number + 1, "train_loss": float(total / seen), "lr": rate, **self.method.numbers()}

    def _step(self, step: Step, task: Task, optimiser: torch.optim.Optimizer) -> Tensor:
        """Follow the gradients of a batch; return its loss."""
        optimiser.zero_grad(set_to_none=True)
        result = self.method.gradients(step, task)
        if not torch.isfinite(result.loss):
            where = f"task {task.number + 1}, epoch {step.epoch + 1}, batch {step.number + 1}"
            raise TrainingError(f"the loss became {result.loss.item()} in {where}: {_CALMER}")
        self._decay(task)
        if self.config.freeze and task.earlier and self._bias is not None and self._bias.grad is not None:
            low, high = task.outputs
            self._bias.grad[: max(low, task.answered)] = 0
            self._bias.grad[high:] = 0
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.method.before_step()
        optimiser.step()
        self.method.after_step(step, result, task)
        return result.loss

    def _decay(self, task: Task) -> None:
        if not self.config.weight_decay:
            return
        low, high = task.outputs
        for p in self.network.parameters():
            if p.grad is None or p.dim() < 2:
                continue
            rows = slice(low, high) if p is self._head else slice(None)
            p.grad[rows] += self.config.weight_decay * p.detach()[rows]

    def _end(self, task: Task) -> dict[str, float]:
        """Do the work at the end of a task; return its numbers."""
        found = {}
        self._check_weights(task)
        torch.manual_seed(mixed(self.seed, task.number, self.config.all_epochs, 0))
        if self.replay is not None:
            self.replay.keep(task)
            if task.earlier:
                self._train_mode(task)
                if self._bias is not None and self.config.freeze:
                    self._bias.requires_grad_(False)
                optimiser = self._optimiser(self.replay.config.lr, [])
                found["replay_loss"] = self.replay.tune(task, optimiser, self.config.schedule == "cosine")
                self._check_weights(task)
        self.method.end(task)
        if self.prototypes is not None:
            with self.method.answering(task.outputs):
                self.prototypes.learn(task.train)
        return found

    def _check_weights(self, task: Task) -> None:
        # The last step is followed by no loss that would show it, and what a method keeps of a task is kept for good.
        for path, p in self.network.named_parameters():
            if not bool(torch.isfinite(p).all()):
                raise TrainingError(f"{path} is no longer finite after task {task.number + 1}: {_CALMER}")

    def _resume(self, file: Path) -> None:
        tensors, facts = checkpoint.read(file)
        self.network.load_state_dict(checkpoint.without_prefix("network", tensors))
        self.method.restore(checkpoint.without_prefix("method", tensors), facts["method"])
        self.rule.load_state_dict(checkpoint.without_prefix("rule", tensors))
        if self.prototypes is not None:
            self.prototypes.restore(checkpoint.without_prefix("prototypes", tensors))
        if self.replay is not None:
            self.replay.restore(checkpoint.without_prefix("replay", tensors))
        self.done, self.history, self.notes = facts["done"], facts["history"], facts["notes"]
        self.outputs = [(low, high) for low, high in facts["outputs"]]
