"""Options of training by surrogate gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from benchmarks.augment import AugmentConfig, check_channels
from benchmarks.datasets import Dataset
from neurons.errors import UnknownNameError
from step.learners import recipes
from step.learners.base import LearnerConfig
from step.learners.distillation import DistillationConfig
from step.learners.loss import LossConfig
from step.learners.optimiser import OptimiserConfig, depths
from step.learners.recompute import segments_of
from step.learners.schedule import ScheduleConfig
from step.models import Network


class Need(NamedTuple):
    """What an option needs to have an effect: in words, and as a test of all options."""

    words: str
    met: Callable[[Any], bool]


_MIXING = Need("mixup or cutmix", lambda c: bool(c.mixup or c.cutmix))
_RANDAUGMENT = Need("auto_augment: randaugment", lambda c: c.auto_augment == "randaugment")
_COSINE = Need("schedule: cosine", lambda c: c.schedule == "cosine")
_STEP = Need("schedule: step", lambda c: c.schedule == "step")
_TET = Need("loss: tet", lambda c: c.loss == "tet")
_TEACHER = Need("a teacher", lambda c: c.teacher is not None)

NEEDS: dict[str, Need] = {
    "momentum": Need("optimiser: sgd", lambda c: c.optimiser == "sgd"),
    "min_lr": _COSINE,
    "cooldown": _COSINE,
    "decay_epochs": _STEP,
    "decay_rate": _STEP,
    "warmup_lr": Need("a warmup", lambda c: bool(c.warmup)),
    "tet_lambda": _TET,
    "tet_phi": _TET,
    "distillation": _TEACHER,
    "distillation_weight": _TEACHER,
    "temperature": Need("a teacher and distillation: soft", lambda c: _TEACHER.met(c) and c.distillation == "soft"),
    "randaugment_operations": _RANDAUGMENT,
    "randaugment_magnitude": _RANDAUGMENT,
    "randaugment_std": _RANDAUGMENT,
    "randaugment_probability": _RANDAUGMENT,
    "mixup_probability": _MIXING,
    "mixup_off_epoch": _MIXING,
    "switch_probability": Need("mixup and cutmix", lambda c: bool(c.mixup and c.cutmix)),
}


class SurrogateGradientConfig(
    AugmentConfig, DistillationConfig, LossConfig, ScheduleConfig, OptimiserConfig, LearnerConfig
):
    """Settings of training by surrogate gradients.

    ``recipe`` may be given as if it were an option: it names values from :mod:`step.learners.recipes` that stand
    where none are given, and is not kept itself.
    """

    batch: int = Field(64, ge=2)
    """Samples for each step of the optimiser."""
    accumulate: int = Field(1, ge=1)
    """Parts in which a batch goes through the network, its gradient being the sum over them; norms see the parts."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of matrix products in training; ``auto`` is bfloat16 on a GPU and float32 on a CPU. float16 scales
    the loss so that small gradients do not vanish (Micikevicius et al., ICLR 2018)."""
    checkpoint: bool = False
    """Recompute the blocks of the network on the way back instead of keeping what they computed (Chen et al., 2016)."""
    compile: bool = False
    """Train through ``torch.compile``."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which then are those that are evaluated and kept."""

    @model_validator(mode="before")
    @classmethod
    def _recipe(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or data.get("recipe") is None:
            return {k: v for k, v in data.items() if k != "recipe"} if isinstance(data, Mapping) else data
        given = {k: v for k, v in data.items() if k != "recipe"}
        try:
            values = recipes.get(str(data["recipe"])).values
        except UnknownNameError as error:
            raise ValueError(str(error)) from None
        defaults = {name: field.get_default() for name, field in cls.model_fields.items()}
        chosen = SimpleNamespace(**{**defaults, **values, **given})
        # What was turned off takes along what the recipe says about it.
        idle = {name for name in values if name in NEEDS and not NEEDS[name].met(chosen)}
        return {**{k: v for k, v in values.items() if k not in idle}, **given}

    @model_validator(mode="after")
    def _every_option_counts(self) -> Self:
        for name, need in NEEDS.items():
            default = type(self).model_fields[name].get_default()
            if getattr(self, name) != default and not need.met(self):
                raise ValueError(f"{name} has no effect without {need.words}; leave it out")
        if self.batch // self.accumulate < 2:
            raise ValueError(f"accumulate: parts of a batch of {self.batch} need two samples or more for norms")
        if self.compile and self.checkpoint:
            raise ValueError("compile decides itself what is recomputed, and checkpoint cannot be compiled; give one")
        return self

    def check(self, network: Network, dataset: Dataset) -> None:
        check_channels(self, dataset.channels)
        if self.layer_decay < 1:
            depths(network)
        if self.checkpoint:
            segments_of(network)
