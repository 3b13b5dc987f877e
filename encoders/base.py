"""The encoder: turns samples in [0, 1] into what a network receives at each time step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from neurons.errors import OptionError, ShapeError
from neurons.registry import Registry

Value = Literal["binary", "ternary", "integer", "real"]

encoders: Registry[Encoder] = Registry("encoder", "encoders")


class Encoder(ABC):
    """Base of all encoders: write ``encode``, say what the output holds, and the rest follows.

    An encoder keeps no state. Encoders of images read values in [0, 1] and refuse others: the codes of rate, latency
    and phase have no meaning outside, and data normalised by mean and standard deviation leave that range.

    Attributes
    ----------
    value : {"binary", "ternary", "integer", "real"}
        What the output holds: {0, 1}, {-1, 0, 1}, whole numbers or any number. The energy models price the
        first layer of a network by this.
    repeats : bool
        Whether all time steps are equal. Such an encoder returns a view with stride 0 over time, by which a
        network knows that its stem needs to be computed once only.
    random : bool
        Whether the output is drawn, so that a call needs a generator.
    own_steps : bool
        Whether the samples are sequences that bring their time steps along.
    bounded : bool
        Whether values outside [0, 1] are refused.
    resizes : bool
        Whether samples must be images, which may leave in another size.
    """

    repeats: bool = False
    random: ClassVar[bool] = False
    own_steps: ClassVar[bool] = False
    bounded: ClassVar[bool] = True
    resizes: ClassVar[bool] = False

    @property
    @abstractmethod
    def value(self) -> Value:
        """What the output holds; may depend on the options of the encoder."""

    @abstractmethod
    def encode(self, x: Tensor, T: int, generator: torch.Generator | None) -> Tensor:
        """Encode checked input: ``x`` [B, ...] in [0, 1] to [T, B, ...] of the same dtype and device."""

    def __call__(self, x: Tensor, T: int, generator: torch.Generator | None = None) -> Tensor:
        """Encode ``x`` over ``T`` time steps.

        Parameters
        ----------
        x : Tensor, shape [B, ...]
            Floating-point samples in [0, 1].
        T : int
            Number of time steps, at least 1.
        generator : torch.Generator, optional
            Source of randomness, on the device of ``x``. Random encoders require it, others ignore it.

        Returns
        -------
        Tensor, shape [T, B, ...]
            Of the dtype and device of ``x``.

        Raises
        ------
        ShapeError
            When ``x`` is not a floating-point tensor [B, ...] with at least one value.
        OptionError
            When ``x`` leaves [0, 1] (any finite number is allowed where the encoder says so) or holds NaN, when T < 1,
            or when a generator is missing.
        """
        name = type(self).__name__
        if isinstance(T, bool) or not isinstance(T, int) or T < 1:
            raise OptionError(f"{name} needs a whole number of time steps T >= 1, not {T!r}")
        if x.dim() < 1 or x.numel() == 0 or not x.is_floating_point():
            raise ShapeError(f"{name} takes a floating-point tensor [B, ...], not {x.dtype} {list(x.shape)}")
        _check_range(x, name, self.bounded)
        if self.random:
            _check_generator(generator, x, name)
        return self.encode(x, T, generator)

    def __repr__(self) -> str:
        options = ", ".join(f"{option}={value!r}" for option, value in vars(self).items())
        return f"{type(self).__name__}({options})"


def _check_range(x: Tensor, name: str, bounded: bool) -> None:
    # One pass over the data; NaN comes through as both ends of the range.
    low, high = (float(end) for end in x.detach().aminmax())
    if not bounded:
        if not math.isfinite(low + high):
            raise OptionError(f"{name} takes finite numbers but found NaN or infinity; mend the data first")
        return
    if not (low >= 0.0 and high <= 1.0):
        found = "NaN among the values" if low != low else f"values from {low:g} to {high:g}"
        raise OptionError(
            f"{name} encodes values in [0, 1] but found {found}; "
            "scale the data to [0, 1] first, normalise after encoding or not at all"
        )


def _check_generator(generator: torch.Generator | None, x: Tensor, name: str) -> None:
    if generator is None:
        raise OptionError(
            f"{name} draws random spikes and needs an explicit generator, for example "
            "generator=torch.Generator().manual_seed(0), so that runs can be repeated"
        )
    if generator.device.type != x.device.type:
        raise OptionError(f"{name} needs a generator on the device of the data, {x.device}, not {generator.device}")
