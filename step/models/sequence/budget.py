"""Networks of equal size: the width of a network chosen so that it has a given number of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Self, TypeVar

import torch
from pydantic import Field, model_validator

from neurons import NeuronFactory, factory
from neurons.errors import OptionError
from step.models.base import Network
from step.models.sequence.base import SequenceConfig

C = TypeVar("C", bound=SequenceConfig)


class BudgetConfig(SequenceConfig):
    """A width, or the number of parameters that it follows from.

    A subclass names its field of the width in ``WIDTH`` and declares it ``int | None``, None when left out. After
    validation exactly one of the two is set; the width of a network that was made is in ``network.config``.
    """

    WIDTH: ClassVar[str] = "hidden"
    WIDTH_DEFAULT: ClassVar[int] = 128

    parameters: int | None = Field(None, ge=1)
    """Learned values that the whole network may have: the width becomes the largest that keeps within them."""

    @property
    def multiple(self) -> int:
        """What the width must be a multiple of."""
        return 1

    @property
    def width(self) -> int:
        """The width of the network.

        Raises
        ------
        OptionError
            While it is not known, because it follows from ``parameters`` when the network is made.
        """
        value = getattr(self, self.WIDTH)
        if value is None:
            raise OptionError(f"{self.WIDTH} follows from parameters; it is in the config of the network that was made")
        return int(value)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        width = getattr(self, self.WIDTH)
        if width is None and self.parameters is None:
            object.__setattr__(self, self.WIDTH, self.WIDTH_DEFAULT)
        elif width is not None and self.parameters is not None:
            raise ValueError(
                f"give {self.WIDTH} or parameters, not both: {self.WIDTH} is chosen for the number of parameters"
            )
        elif width is not None and width % self.multiple:
            raise ValueError(f"{self.WIDTH} must be a multiple of {self.multiple} here, not {width}")
        return self


def fit_width(
    cls: type[Network],
    config: C,
    field: str,
    target: int,
    neuron: str | Mapping[str, Any] | NeuronFactory = "lif",
    *,
    multiple: int = 1,
) -> C:
    """Return the config with the largest width whose network has at most ``target`` parameters.

    Networks are made without memory for their weights and counted; no formula stands in between.

    Parameters
    ----------
    cls : type of Network
        Its number of parameters grows with the width.
    config : SequenceConfig
        Everything but the width. A field ``parameters`` is cleared.
    field : str
        Field of the width.
    target : int
        Number of parameters.
    neuron : str, mapping or NeuronFactory
        Neuron of the network, whose parameters count too.
    multiple : int
        The width is a multiple of it.

    Raises
    ------
    OptionError
        When the narrowest network has more parameters, or the width has no influence on their number.
    """
    make = factory(neuron)
    given = config.model_dump(exclude_unset=True)
    if "parameters" in type(config).model_fields:
        given["parameters"] = None
    name = getattr(cls, "registered_name", cls.__name__)

    def at(units: int) -> C:
        return type(config)(**{**given, field: units * multiple})

    @cache
    def count(units: int) -> int:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return cls(at(units), make).parameter_count

    if count(1) > target:
        raise OptionError(
            f"a {name} with {config.features} inputs a step and {config.classes} outputs has at least {count(1)} "
            f"parameters ({field} = {multiple}), more than the {target} that parameters allows"
        )
    low, high = 1, 2
    while count(high) <= target:
        if high > target:
            raise OptionError(f"the number of parameters of {name} does not grow with {field}")
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= target else (low, middle)
    return at(low)


def fitted(cls: type[Network], config: Any, neuron: NeuronFactory) -> Any:
    """Return the config of a network about to be made with its width in place.

    Parameters
    ----------
    cls : type of Network
    config : BudgetConfig
    neuron : NeuronFactory
    """
    if config.parameters is None:
        return config
    return fit_width(cls, config, config.WIDTH, config.parameters, neuron, multiple=config.multiple)
