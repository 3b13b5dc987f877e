"""The options of a neuron of another library: read off its constructor, checked and translated before it is called."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Union, get_args, get_origin

import torch
from torch import nn

from neurons.errors import OptionError, StepError, suggest
from neurons.registry import options_of
from neurons.surrogate import Surrogate, as_surrogate

LIBRARY_DEFAULT = "library"
"""What ``surrogate`` says where the other library's own default is used."""


@dataclass(frozen=True)
class Options:
    """What a foreign constructor takes, in the words of a spec.

    Parameters
    ----------
    neuron : str
        Name in messages: ``"snntorch:Leaky"``.
    cls : type
        The foreign class.
    surrogate_option : str
        What the library calls its surrogate; here it is called ``surrogate``, if the class has one.
    translate : callable
        Makes the library's surrogate from one of ours.
    hidden : collection of str
        What the adapter decides itself, such as how time is stepped through.
    real : collection of str
        Options that are numbers, or one number for each neuron, though neither annotation nor default says so.
    """

    neuron: str
    cls: type[nn.Module]
    surrogate_option: str
    translate: Callable[[Surrogate], Any]
    hidden: Collection[str] = ()
    real: Collection[str] = ()
    parameters: dict[str, inspect.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        found: dict[str, inspect.Parameter] = {}
        for name, parameter in options_of(self.cls).items():
            if name == self.surrogate_option:
                found["surrogate"] = _keyword("surrogate", LIBRARY_DEFAULT, Any)
            elif name not in self.hidden:
                found[name] = _keyword(name, parameter.default, self._annotation(parameter))
        required = [p for p in found.values() if p.default is inspect.Parameter.empty]
        found = {p.name: p for p in (*required, *found.values())}
        object.__setattr__(self, "parameters", found)

    def _annotation(self, parameter: inspect.Parameter) -> Any:
        if parameter.name in self.real:
            return Any  # a number, a list of numbers or, in Lapicque, False
        if parameter.annotation is not inspect.Parameter.empty:
            return parameter.annotation
        known = parameter.default not in (None, inspect.Parameter.empty)
        return type(parameter.default) if known else Any

    def signature(self) -> inspect.Signature:
        """Return the signature of a constructor that takes these options."""
        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        return inspect.Signature([first, *self.parameters.values()])

    def build(self, given: Mapping[str, Any]) -> nn.Module:
        """Call the foreign constructor.

        Its tensors are made in the memory of the CPU, since some constructors look at their values.

        Raises
        ------
        OptionError
            With what the constructor said, in one line.
        """
        for name in given:
            if name not in self.parameters:
                raise OptionError(f"neuron {self.neuron!r} has no option {name!r}{suggest(name, self.parameters)}")
        missing = [n for n, p in self.parameters.items() if p.default is inspect.Parameter.empty and n not in given]
        if missing:
            raise OptionError(f"neuron {self.neuron!r} needs {' and '.join(map(repr, missing))}")
        options = {name: self._value(name, value) for name, value in given.items()}
        surrogate = options.pop("surrogate", LIBRARY_DEFAULT)
        if isinstance(surrogate, str) and surrogate == LIBRARY_DEFAULT:
            pass
        elif isinstance(surrogate, str | Mapping | Surrogate):
            options[self.surrogate_option] = self.translate(as_surrogate(surrogate))
        else:
            options[self.surrogate_option] = surrogate
        try:
            with torch.device("cpu"):
                return self.cls(**options)
        except StepError:
            raise
        except Exception as error:
            raise OptionError(f"{self.neuron} refuses its options: {one_line(error)}") from error

    def _value(self, name: str, value: Any) -> Any:
        parameter = self.parameters[name]
        real = name in self.real or isinstance(parameter.default, float) or _takes_float(parameter.annotation)
        if not real or isinstance(value, bool):
            return value
        if isinstance(value, list | tuple) and name in self.real:
            return torch.tensor(value, dtype=torch.get_default_dtype(), device="cpu")
        return float(value) if isinstance(value, int) else value


def _keyword(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _takes_float(annotation: Any) -> bool:
    return annotation is float or (get_origin(annotation) is Union and float in get_args(annotation))


def one_line(error: BaseException) -> str:
    """Return what an error of another library says in one line; of a bare ``assert`` what it asserts."""
    text = " ".join(str(error).split())
    if not text and isinstance(error, AssertionError):
        frames = traceback.extract_tb(error.__traceback__)
        text = f"it needs {(frames[-1].line or '').removeprefix('assert ')}" if frames else ""
    return text if len(text) <= 300 else text[:297] + "..."
