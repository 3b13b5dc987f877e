"""Options of learning task after task."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from benchmarks.datasets import Dataset
from benchmarks.datasets.stream import TaskStream
from neurons.errors import OptionError, StepError
from neurons.registry import name_and_options
from step.learners.base import LearnerConfig
from step.learners.config import NEEDS
from step.learners.continual.methods import MethodConfig, Plan, methods
from step.learners.continual.methods.replay_after import ReplayAfterConfig
from step.learners.continual.rules import protected_layers, readout_path, rules
from step.learners.schedule import ScheduleConfig
from step.models import Network
from step.models.base import validated
from step.models.transformer.parts import options_of_part


def _method(value: Any) -> dict[str, Any]:
    try:
        name, given = name_and_options(value, methods.kind)
        checked: BaseModel = validated(_config_of(name), given, f"{methods.kind} {name!r}")
    except StepError as error:
        raise ValueError(str(error)) from None
    return {"name": name, **checked.model_dump()}


def _config_of(name: str) -> type[MethodConfig]:
    found: type[MethodConfig] = methods.get(name).Config  # type: ignore[attr-defined]
    return found


def _replay(value: Any) -> dict[str, Any] | None:
    if value is None or value is False:
        return None
    try:
        if not isinstance(value, dict):
            raise OptionError(f"a mapping of options such as {{per_class: 50}} or null, not {value!r}")
        checked: BaseModel = validated(ReplayAfterConfig, value, "replay_after")
    except StepError as error:
        raise ValueError(str(error)) from None
    return checked.model_dump()


MethodPart = Annotated[dict[str, Any], BeforeValidator(_method)]
"""Field of a config: name of a method, or a mapping with a name and options; defaults are filled in."""

RulePart = Annotated[dict[str, Any], BeforeValidator(lambda value: options_of_part(rules, ("seed",), value))]
"""Field of a config: name of a learning rule, or a mapping with a name and options; defaults are filled in."""

ReplayPart = Annotated[dict[str, Any] | None, BeforeValidator(_replay)]
"""Field of a config: options of the fine-tuning after each task; defaults are filled in."""


class ContinualConfig(ScheduleConfig, LearnerConfig):
    """Settings of learning task after task; the defaults are those of Xiao et al. (ICLR 2024) for permuted MNIST."""

    method: MethodPart = Field("hlop", validate_default=True)
    """What guards against forgetting."""
    rule: RulePart = Field("bptt", validate_default=True)
    """Where gradients come from."""
    epochs: int = Field(1, ge=1)
    """Epochs of each task."""
    lr: float = Field(0.1, gt=0)
    """Highest learning rate."""
    later_lr: float | None = Field(None, gt=0)
    """Highest learning rate from the second task on, where it differs; 0.01 after 0.1 for miniImageNet."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Of every task anew; see :class:`~step.learners.schedule.ScheduleConfig`."""
    min_lr: float = Field(0.0, ge=0)
    """Learning rate at the end of the cosine."""
    warmup: float = Field(0.0, ge=0)
    """Epochs of each task over which the learning rate rises linearly from ``warmup_lr``."""
    optimiser: Literal["sgd", "adam"] = "sgd"
    """Plain SGD with momentum, or Adam (Kingma and Ba, ICLR 2015); a fresh one for every task."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of weight matrices and kernels, as part of the gradient; heads of other tasks do not decay."""
    clip: float | None = Field(None, gt=0)
    """Largest norm of the gradient."""
    freeze: bool = True
    """From the second task on, norms run with what they have gathered, and no parameter of fewer than two dimensions
    changes but the biases of outputs that are new; as Xiao et al. train all that they compare."""
    head: Literal["network", "prototype"] = "network"
    """What answers: the read-out, or the nearest mean of a class among its inputs."""
    replay_after: ReplayPart = None
    """Fine-tuning on a few stored samples of all tasks after each: a mapping of options, or none."""

    @model_validator(mode="after")
    def _every_option_counts(self) -> Self:
        for name, field in type(self).model_fields.items():
            need = NEEDS.get(name)
            if need is not None and getattr(self, name) != field.get_default() and not need.met(self):
                raise ValueError(f"{name} has no effect without {need.words}; leave it out")
        cls: Any = methods.get(self.method["name"])
        name = self.method["name"]
        if cls.needs_frozen and not self.freeze:
            raise ValueError(f"freeze: {name} protects weights alone, and norms or biases that change undo it")
        if cls.joint and (self.replay_after is not None or self.later_lr is not None):
            given = "later_lr" if self.replay_after is None else "replay_after"
            raise ValueError(f"{given} has no effect with method {name}, which learns all tasks at once; leave it out")
        if name == "hat" and self.replay_after is not None:
            raise ValueError("replay_after would change weights that hat holds; leave one of them out")
        if self.method.get("start_epoch", 0) >= self.all_epochs:
            raise ValueError(f"method.start_epoch: with {self.all_epochs} epochs Hebbian learning would never begin")
        return self

    @property
    def decays(self) -> bool:
        """Whether a step is more than a multiple of gradients."""
        return self.optimiser == "adam" or self.weight_decay > 0

    def method_config(self) -> MethodConfig:
        """Return the options of the method."""
        name, options = name_and_options(self.method, methods.kind)
        return _config_of(name)(**options)

    def check(self, network: Network, dataset: Dataset) -> None:
        if not isinstance(dataset, TaskStream):
            raise OptionError(
                f"learner: continual learns a stream of tasks, and {dataset.name} is one task; take a data set such as "
                "permuted-tasks, or another learner"
            )
        layers, readout = protected_layers(network, True), readout_path(network)
        outputs = network.get_submodule(readout).weight.shape[0]  # type: ignore[union-attr,index]
        if outputs != dataset.classes:
            raise OptionError(
                f"learner: continual needs a network that ends in a layer with an output for each of the "
                f"{dataset.classes} classes; {readout} has {outputs}"
            )
        name, options = name_and_options(self.rule, rules.kind)
        rules.create(name, network, layers, **options).check()
        self.method_config().check(Plan(network, layers, readout, dataset, name, self.decays))
