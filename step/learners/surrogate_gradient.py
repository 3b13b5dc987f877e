"""Training by backpropagation through time with surrogate gradients (Neftci et al., 2019)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.augment import Augment
from benchmarks.protocols import Batches, Objective
from neurons import penalties
from neurons.errors import OptionError, StepError
from neurons.lengths import at_last_step
from step.learners import checkpoint
from step.learners.averaging import WeightAverage
from step.learners.base import NetworkLearner, Progress, learners, to_device
from step.learners.config import SurrogateGradientConfig
from step.learners.distillation import Teacher, taught_loss
from step.learners.loss import supervised_loss
from step.learners.optimiser import create_optimiser
from step.learners.recompute import recomputed
from step.learners.schedule import learning_rate
from step.models import Network


class TrainingError(StepError):
    """Training cannot go on."""


@learners.register("surrogate-gradient")
class SurrogateGradient(NetworkLearner):
    """Backpropagation through time with surrogate gradients, and what is usual to train transformers with.

    Everything random follows from the seed and the epoch, so that a resumed run ends in the same numbers.

    Parameters
    ----------
    network : Network
    config : SurrogateGradientConfig
    seed : int
        Seed of everything random in training.
    device : torch.device, optional
        The GPU where there is one, when left out.
    checkpoint_file : Path, optional
        Where the state is kept after every epoch; a file that is already there is gone on from.
    progress : callable, optional
        Called with a dict after every batch and every epoch.
    teacher : Teacher, optional
        What ``config.teacher`` names.

    Raises
    ------
    OptionError
        When the config names a teacher and none is given, or the other way round.
    """

    Config = SurrogateGradientConfig

    def __init__(
        self,
        network: Network,
        config: SurrogateGradientConfig,
        *,
        seed: int = 0,
        device: torch.device | None = None,
        checkpoint_file: Path | None = None,
        progress: Progress | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        if (teacher is None) != (config.teacher is None):
            raise OptionError("a teacher has to be named in the learner's options and given to it, or neither")
        self.config = config
        self.seed = seed
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # Channels last: what convolutions are fastest with, on CPU and GPU.
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.teacher = teacher
        if teacher is not None:
            teacher.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.file = checkpoint_file
        self.progress = progress or (lambda event: None)
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.optimiser = create_optimiser(self.network, config, config.lr)
        self.average = None if config.ema is None else WeightAverage(self.network, config.ema)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self._forward: Callable[[Tensor], Tensor] = torch.compile(self.network) if config.compile else self.network

    @property
    def batch(self) -> int:
        """Samples in a training batch."""
        return self.config.batch

    def fit(self, train: Batches, validation: Batches, objective: Objective) -> None:
        """Train for all epochs and keep the weights of the epoch that is best on the validation batches.

        Raises
        ------
        TrainingError
            When the loss is no longer a finite number, or the network cannot be compiled.
        """
        train = self._augmented(train)
        best = checkpoint.Tensors()
        name = f"validation_{objective.metric}"
        if self.file is not None and self.file.exists():
            best = self._resume()
        epochs = self.config.all_epochs
        for epoch in range(len(self.history), epochs):
            start = time.perf_counter()
            with recomputed(self.network) if self.config.checkpoint else nullcontext():
                loss, rate = self._epoch(epoch, train, objective)
            with self.average.applied(self.network) if self.average is not None else nullcontext():
                value = self._value(validation, objective)
                seen = [row[name] for row in self.history]
                if not seen or (value < min(seen) if objective.lower_is_better else value > max(seen)):
                    self.best_epoch = epoch + 1
                    best = {key: tensor.detach().clone() for key, tensor in self.network.state_dict().items()}
            self.history.append({"train_loss": loss, name: value, "lr": rate, "seconds": time.perf_counter() - start})
            if self.file is not None:
                self._save(best)
            self.progress({"epoch": epoch + 1, "epochs": epochs, **self.history[-1]})
        self.network.load_state_dict(best)

    def _augmented(self, train: Batches) -> Batches:
        c = self.config
        if not (c.changes_images or c.mixes):
            return train
        if train.classes is None and c.mixes:
            raise OptionError("mixup and CutMix need data with a number of classes")
        return replace(train, augment=Augment(c, train.classes or 0))

    def _epoch(self, epoch: int, train: Batches, objective: Objective) -> tuple[float, float]:
        """Train for an epoch; return the mean loss and the last learning rate."""
        # Seeded for each epoch, not once: a resumed run then draws what the uninterrupted one would have drawn.
        torch.manual_seed((self.seed << 20) + epoch)
        teaching = Augment.generator(self.seed, epoch)  # the teacher's encoder draws beside the student's
        self.network.train()
        total, seen, rate = torch.zeros((), device=self.device), 0, 0.0
        for number, drawn in enumerate(train.images(epoch)):
            rate = learning_rate(self.config, epoch + (number + 1) / len(train))
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group["scale"]
            x, labels, lengths = train.item(drawn)
            asked = Asked(to_device(x, self.device), labels.to(self.device), lengths)
            if self.teacher is not None:
                asked.taught = to_device(self.teacher.encode(drawn.images, teaching), self.device)
            loss = self._gradient(asked, objective)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss.item()} in epoch {epoch + 1}, batch {number + 1}, at learning rate "
                    f"{rate:.2g}: lower learner.lr, lengthen learner.warmup, or set learner.clip"
                )
            self._step()
            total += loss * len(labels)
            seen += len(labels)
            share = (number + 1) / len(train)
            self.progress({"epoch": epoch, "epochs": self.config.all_epochs, "share": share})
        return float(total / seen), rate

    def _gradient(self, asked: Asked, objective: Objective) -> Tensor:
        """Set the gradient of the loss of a batch, part by part, and return the loss."""
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for rows in parts(len(asked.labels), self.config.accumulate):
            share = (rows.stop - rows.start) / len(asked.labels)
            try:
                loss = share * self._loss(asked.part(rows), objective)
                total += loss.detach()
                if not torch.isfinite(total):
                    break
                self.scaler.scale(loss).backward()
            except Exception as error:
                if self.config.compile and _of_compiler(error):
                    raise TrainingError(_of_compiling(error)) from None
                raise
        return total

    def _loss(self, asked: Asked, objective: Objective) -> Tensor:
        taught = None
        half = torch.autocast(self.device.type, self._half or torch.bfloat16, enabled=self._half is not None)
        with half, penalties.collected() as terms:
            outputs = self._outputs(asked, objective.last)
            if asked.taught is not None and self.teacher is not None:
                with torch.no_grad():
                    taught = self.teacher.network(asked.taught).float()
        outputs = outputs.float()
        own = objective.loss(outputs, asked.labels)
        loss = supervised_loss(outputs, asked.labels, objective.scores, self.config) if own is None else own
        loss = loss + sum(value for _, value in terms) if terms else loss
        return loss if taught is None else taught_loss(loss, outputs, taught, objective.scores, self.config)

    def _outputs(self, asked: Asked, last: bool) -> Tensor:
        if not last:
            return self._forward(asked.x)
        lengths = None if asked.lengths is None else asked.lengths.to(self.device)
        if self.config.compile:  # the compiled one is the whole forward pass
            return at_last_step(self._forward(asked.x), lengths)
        return self.network.last(asked.x, lengths)

    def _step(self) -> None:
        self.scaler.unscale_(self.optimiser)
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network)

    @property
    def _half(self) -> torch.dtype | None:
        """Type of matrix products in training, when it is not float32."""
        if self.config.precision == "auto":
            return torch.bfloat16 if self.device.type == "cuda" else None
        return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.config.precision)

    def _value(self, batches: Batches, objective: Objective) -> float:
        """Return the metric of the objective over all samples."""
        total = 0.0
        for x, labels, lengths in batches.items():
            outputs = self.predict(x, last=objective.last, lengths=lengths)
            total += float(objective.judge(outputs.float(), labels.to(outputs.device)).double().sum())
        return total / batches.samples

    def _save(self, best: checkpoint.Tensors) -> None:
        assert self.file is not None
        tensors = {
            **checkpoint.with_prefix("network", self.network.state_dict()),
            **checkpoint.with_prefix("best", best),
            **checkpoint.with_prefix("optimiser", checkpoint.optimiser_tensors(self.network, self.optimiser)),
            **checkpoint.with_prefix("average", self.average.tensors if self.average is not None else {}),
        }
        facts: dict[str, Any] = {"history": self.history, "best_epoch": self.best_epoch}
        checkpoint.write(self.file, tensors, {**facts, "scaler": self.scaler.state_dict()})

    def _resume(self) -> checkpoint.Tensors:
        assert self.file is not None
        tensors, facts = checkpoint.read(self.file)
        self.network.load_state_dict(checkpoint.without_prefix("network", tensors))
        checkpoint.restore_optimiser(self.network, self.optimiser, checkpoint.without_prefix("optimiser", tensors))
        if self.average is not None:
            for name, value in checkpoint.without_prefix("average", tensors).items():
                self.average.tensors[name].copy_(value)
        if facts["scaler"]:
            self.scaler.load_state_dict(facts["scaler"])
        self.history, self.best_epoch = facts["history"], facts["best_epoch"]
        return checkpoint.without_prefix("best", tensors)


@dataclass
class Asked:
    """A batch on its way through the network: input [T, B, ...], labels [B, ...], lengths [B], a teacher's input."""

    x: Tensor
    labels: Tensor
    lengths: Tensor | None = None
    taught: Tensor | None = None

    def part(self, rows: slice) -> Asked:
        """Return some samples of it."""
        lengths = None if self.lengths is None else self.lengths[rows]
        taught = None if self.taught is None else self.taught[:, rows]
        return Asked(self.x[:, rows], self.labels[rows], lengths, taught)


def parts(samples: int, count: int) -> Iterator[slice]:
    """Split a batch into so many parts of about the same size, or fewer, so that each has two samples or more."""
    count = max(1, min(count, samples // 2))
    for number in range(count):
        yield slice(samples * number // count, samples * (number + 1) // count)


def _of_compiler(error: Exception) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def _of_compiling(error: Exception) -> str:
    text = str(error).strip()
    if "InvalidCxxCompiler" in text:
        return "learner.compile: there is no C++ compiler; install one (g++ or clang), or leave it out"
    return f"learner.compile: torch.compile cannot compile this network ({text.splitlines()[0]}); leave it out"
