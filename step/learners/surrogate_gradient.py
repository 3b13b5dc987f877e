"""Training by backpropagation through time with surrogate gradients (Neftci et al., 2019)."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmarks.protocols import Batches
from benchmarks.protocols.base import Scores
from neurons import Neuron
from neurons.errors import StepError
from step.learners import checkpoint
from step.learners.base import LearnerConfig, Progress, learners
from step.models import Network


class TrainingError(StepError):
    """Training cannot go on."""


class SurrogateGradientConfig(LearnerConfig):
    """Settings of :class:`SurrogateGradient`."""

    epochs: int = Field(20, ge=1)
    batch: int = Field(64, ge=2)
    lr: float = Field(1e-3, gt=0)
    min_lr: float = Field(1e-5, ge=0)
    """Learning rate at the end of the cosine."""
    warmup: float = Field(1.0, ge=0)
    """Epochs over which the learning rate rises linearly from 0."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled decay of weight matrices and kernels; biases, norms and neuron parameters do not decay."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    clip: float | None = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of matrix products in training; ``auto`` is bfloat16 on a GPU and float32 on a CPU."""


@learners.register("surrogate-gradient")
class SurrogateGradient:
    """Backpropagation through time with surrogate gradients: AdamW, cosine with warm-up, label smoothing.

    Parameters
    ----------
    network : Network
    seed : int
        Seed of everything random in training.
    device : torch.device, optional
        The GPU where there is one, when left out.
    checkpoint_file : Path, optional
        Where the state is kept after every epoch; a file that is already there is gone on from.
    progress : callable, optional
        Called with a dict after every batch and every epoch.
    **options
        See :class:`SurrogateGradientConfig`.
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
    ) -> None:
        self.config = config
        self.seed = seed
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # Channels last: what convolutions are fastest with, on CPU and GPU.
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.file = checkpoint_file
        self.progress = progress or (lambda event: None)
        self.history: list[dict[str, float]] = []

    @property
    def batch(self) -> int:
        """Samples in a training batch."""
        return self.config.batch

    def fit(self, train: Batches, validation: Batches, scores: Scores) -> None:
        """Train for all epochs and keep the weights of the epoch with the best validation accuracy.

        Raises
        ------
        TrainingError
            When the loss is no longer a finite number.
        """
        optimiser = self._optimiser()
        best, best_accuracy = checkpoint.Tensors(), -1.0
        if self.file is not None and self.file.exists():
            best, best_accuracy = self._resume(optimiser)
        for epoch in range(len(self.history), self.config.epochs):
            start = time.perf_counter()
            loss = self._epoch(epoch, optimiser, train, scores)
            accuracy = self._accuracy(validation, scores)
            self.history.append(
                {
                    "train_loss": loss,
                    "validation_accuracy": accuracy,
                    "lr": optimiser.param_groups[0]["lr"],
                    "seconds": time.perf_counter() - start,
                }
            )
            if accuracy > best_accuracy:
                best_accuracy = accuracy
                best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
            if self.file is not None:
                self._save(optimiser, best, best_accuracy)
            self.progress({"epoch": epoch + 1, "epochs": self.config.epochs, **self.history[-1]})
        self.network.load_state_dict(best)

    def predict(self, x: Tensor) -> Tensor:
        """Return the network's outputs [T, B, ...] for x [T, B, ...], in eval mode."""
        self.network.eval()
        with torch.no_grad():
            return self.network(x.to(self.device))

    def save(self, path: Path) -> None:
        """Write the weights as safetensors."""
        checkpoint.write(path, self.network.state_dict(), {"parameters": self.network.parameter_count})

    def load(self, path: Path) -> None:
        """Read weights that ``save`` wrote."""
        tensors, _ = checkpoint.read(path)
        self.network.load_state_dict(tensors)

    def learning_rate(self, progress: float) -> float:
        """Return the learning rate after ``progress`` epochs: linear warm-up, then half a cosine."""
        c = self.config
        warmup = min(c.warmup, c.epochs)
        if progress < warmup:
            return c.lr * progress / warmup
        share = (progress - warmup) / max(c.epochs - warmup, 1e-9)
        low = min(c.min_lr, c.lr)
        return low + (c.lr - low) * (1 + math.cos(math.pi * min(share, 1.0))) / 2

    def _optimiser(self) -> torch.optim.Optimizer:
        inside_neurons = {p for m in self.network.modules() if isinstance(m, Neuron) for p in m.parameters()}
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        for parameter in self.network.parameters():
            (free if parameter.dim() < 2 or parameter in inside_neurons else decayed).append(parameter)
        groups = [{"params": decayed, "weight_decay": self.config.weight_decay}, {"params": free, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.config.lr)

    def _epoch(self, epoch: int, optimiser: torch.optim.Optimizer, train: Batches, scores: Scores) -> float:
        # Seeded for each epoch, not once: a resumed run then draws what the uninterrupted one would have drawn.
        torch.manual_seed((self.seed << 20) + epoch)
        self.network.train()
        bfloat16 = self.config.precision == "bfloat16" or (
            self.config.precision == "auto" and self.device.type == "cuda"
        )
        parameters = list(self.network.parameters())
        total, seen = torch.zeros((), device=self.device), 0
        for number, (x, labels) in enumerate(train.epoch(epoch)):
            rate = self.learning_rate(epoch + (number + 1) / len(train))
            for group in optimiser.param_groups:
                group["lr"] = rate
            x, labels = x.to(self.device), labels.to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
                outputs = self.network(x)
            loss = nn.functional.cross_entropy(
                scores(outputs.float()), labels, label_smoothing=self.config.label_smoothing
            )
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss.item()} in epoch {epoch + 1}, batch {number + 1}, at learning rate "
                    f"{rate:.2g}: lower learner.lr, lengthen learner.warmup, or set learner.clip"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if self.config.clip is not None:
                nn.utils.clip_grad_norm_(parameters, self.config.clip)
            optimiser.step()
            total += loss.detach() * len(labels)
            seen += len(labels)
            self.progress({"epoch": epoch, "epochs": self.config.epochs, "share": (number + 1) / len(train)})
        return float(total / seen)

    def _accuracy(self, batches: Batches, scores: Scores) -> float:
        right = sum(int((scores(self.predict(x)).argmax(-1).cpu() == labels).sum()) for x, labels in batches.epoch())
        return right / batches.samples

    def _save(self, optimiser: torch.optim.Optimizer, best: checkpoint.Tensors, best_accuracy: float) -> None:
        assert self.file is not None
        tensors = {
            **checkpoint.with_prefix("network", self.network.state_dict()),
            **checkpoint.with_prefix("best", best),
            **checkpoint.with_prefix("optimiser", checkpoint.optimiser_tensors(self.network, optimiser)),
        }
        checkpoint.write(self.file, tensors, {"history": self.history, "best_accuracy": best_accuracy})

    def _resume(self, optimiser: torch.optim.Optimizer) -> tuple[checkpoint.Tensors, float]:
        assert self.file is not None
        tensors, facts = checkpoint.read(self.file)
        self.network.load_state_dict(checkpoint.without_prefix("network", tensors))
        checkpoint.restore_optimiser(self.network, optimiser, checkpoint.without_prefix("optimiser", tensors))
        self.history = facts["history"]
        return checkpoint.without_prefix("best", tensors), facts["best_accuracy"]
