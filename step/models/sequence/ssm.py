"""Diagonal state-space layers: linear recurrences in the complex plane, run as convolutions over all of time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from neurons import NeuronFactory, State
from step.models.base import models
from step.models.paper import Paper
from step.models.sequence.budget import BudgetConfig
from step.models.sequence.stacked import AtOnce, Stacked


class DiagonalStateSpace(AtOnce):
    """One linear state-space model for each channel, with a diagonal matrix A (S4D, Gu et al., NeurIPS 2022).

    s' = A s + x, y = 2 Re(C s) + D x over states in conjugate pairs, of which one of each is kept; held constant over
    a step of duration dt (zero-order hold): s_t = e^{A dt} s_{t-1} + x_t, with the factor (e^{A dt} - 1) / A in C.
    Starts as S4D-Lin: A_n = -1/2 + i pi n, dt log-uniform between two bounds, C complex normal, D normal. A, dt, C
    and D are learned; the real part of A is -exp of what is learned, so that no state can grow.

    Parameters
    ----------
    channels : int
    states : int
        Real numbers that a channel remembers; even, two for each pair.
    dt_min, dt_max : float
        Bounds of the duration of a step; time constants start from 2 / dt_max to 2 / dt_min steps.
    """

    def __init__(self, channels: int, states: int = 64, dt_min: float = 1e-3, dt_max: float = 0.1) -> None:
        pairs = states // 2
        super().__init__(channels, dict.fromkeys(("real", "imaginary"), channels * pairs))
        self.pairs = pairs
        self.log_dt = nn.Parameter(torch.empty(channels).uniform_(math.log(dt_min), math.log(dt_max)))
        self.log_decay = nn.Parameter(torch.full((channels, pairs), math.log(0.5)))
        self.frequency = nn.Parameter(torch.linspace(0, math.pi * (pairs - 1), pairs).repeat(channels, 1))
        self.output_weight = nn.Parameter(torch.view_as_real(torch.randn(channels, pairs, dtype=torch.cfloat)))  # C
        self.skip = nn.Parameter(torch.randn(channels))  # D

    def discrete(self) -> tuple[Tensor, Tensor]:
        """Return A dt and the read-out of the discrete states, both complex [channels, pairs]."""
        a = torch.complex(-self.log_decay.exp(), self.frequency)
        rate = a * self.log_dt.exp().unsqueeze(1)
        return rate, 2 * torch.view_as_complex(self.output_weight) * torch.expm1(rate) / a

    def step(self, x: Tensor, real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        return self.prepared_step()(x, real, imaginary)  # type: ignore[return-value]

    def prepared_step(self) -> Callable[..., tuple[Tensor, ...]]:
        rate, complex_weight = self.discrete()
        turn = rate.exp()
        weight = torch.cat((complex_weight.real, -complex_weight.imag), 1).unsqueeze(2)

        def step(x: Tensor, real: Tensor, imaginary: Tensor) -> tuple[Tensor, ...]:
            re, im = (value.unflatten(1, (self.inputs, self.pairs)) for value in (real, imaginary))
            re, im = turn.real * re - turn.imag * im + x.unsqueeze(2), turn.imag * re + turn.real * im
            # A product of [B, 2 pairs] and [2 pairs, 1] for each channel.
            y = torch.bmm(torch.cat((re, im), 2).transpose(0, 1), weight)
            return y.squeeze(2).t() + self.skip * x, re.flatten(1), im.flatten(1)

        return step

    def at_once(self, x: Tensor, state: State | None, *, keep: bool) -> tuple[Tensor, State]:
        steps, kind = x.shape[0], x.dtype
        x = x.to(self.skip.dtype)
        rate, weight = self.discrete()
        # Powers e^{rate t}, t = side q + r, as products of two short lists: nothing of [channels, pairs, T] is made.
        side = math.isqrt(steps - 1) + 1
        fine = (rate.unsqueeze(2) * torch.arange(side, device=x.device)).exp()
        coarse = (rate.unsqueeze(2) * torch.arange(0, steps, side, device=x.device)).exp()
        kernel = _real(weight.unsqueeze(1) * coarse.transpose(1, 2), fine).flatten(1)[:, :steps].t()
        y = _causal(x, kernel) + self.skip * x
        if state is not None:
            heard = weight * rate.exp() * _complex(state, self.inputs, self.pairs)  # [B, channels, pairs]
            parts = heard.unsqueeze(1) * coarse.permute(2, 0, 1)  # [B, Q, channels, pairs]
            tail = _real(parts.permute(2, 0, 1, 3).flatten(1, 2), fine)  # [channels, B Q, side]
            y = y + tail.unflatten(1, parts.shape[:2]).flatten(2)[:, :, :steps].permute(2, 1, 0)
        after: State = {}
        if keep:
            last = _last(x, fine, coarse)
            if state is not None:
                last = last + (rate * steps).exp() * _complex(state, self.inputs, self.pairs)
            after = {"real": last.real.flatten(1), "imaginary": last.imag.flatten(1)}
        return y.to(kind), after

    def extra_repr(self) -> str:
        return f"channels={self.inputs}, states={2 * self.pairs}"


def _complex(state: State, channels: int, pairs: int) -> Tensor:
    """Return a state as complex [B, channels, pairs]."""
    return torch.complex(state["real"], state["imaginary"]).unflatten(1, (channels, pairs))


def _real(a: Tensor, b: Tensor) -> Tensor:
    """Return the real part of a batch of complex products, in half the work."""
    return torch.cat((a.real, -a.imag), 2) @ torch.cat((b.real, b.imag), 1)


def _causal(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve [T, B, channels] with [T, channels] over time by Fourier transforms; what lies before x is zero."""
    steps = x.shape[0]
    size = 2 * steps
    spectrum = torch.fft.rfft(x, n=size, dim=0) * torch.fft.rfft(kernel, n=size, dim=0).unsqueeze(1)
    return torch.fft.irfft(spectrum, n=size, dim=0)[:steps]


def _last(x: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
    """Return the states after an input from rest, sum over t of e^{rate (T - 1 - t)} x_t: [B, channels, pairs]."""
    steps, batch, channels = x.shape
    side, blocks = fine.shape[2], coarse.shape[2]
    back = torch.cat((x.flip(0), x.new_zeros(side * blocks - steps, batch, channels)))
    back = back.unflatten(0, (blocks, side)).to(fine.dtype)
    return torch.einsum("qrbc,cpr,cpq->bcp", back, fine, coarse)


class StateSpaceBlock(nn.Module):
    """x + GLU(linear(GELU(S4D(norm(x))))), on [T, B, C]."""

    def __init__(self, dim: int, states: int, dt_min: float, dt_max: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.states = DiagonalStateSpace(dim, states, dt_min, dt_max)
        self.activation = nn.GELU()
        self.mix = nn.Linear(dim, 2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.mix(self.activation(self.states(self.norm(x)))).chunk(2, -1)
        return x + value * gate.sigmoid()  # type: ignore[no-any-return]


class DiagonalSSMConfig(BudgetConfig):
    """Sizes of a network of diagonal state-space layers."""

    WIDTH = "dim"
    WIDTH_DEFAULT = 64

    dim: int | None = Field(None, ge=1)
    """Channels of every layer; 64 when neither it nor ``parameters`` is given."""
    depth: int = Field(4, ge=1)
    states: int = Field(64, ge=2, multiple_of=2)
    """Real numbers that a channel of a layer remembers."""
    dt_min: float = Field(1e-3, gt=0)
    dt_max: float = Field(0.1, gt=0)
    """Bounds of the first durations of a step; time constants start from 2 / dt_max to 2 / dt_min steps."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if not self.dt_min <= self.dt_max:
            raise ValueError(f"dt_min must not be above dt_max, not {self.dt_min} and {self.dt_max}")
        return self


@models.register("diagonal-ssm")
class DiagonalSSM(Stacked):
    """Diagonal state-space network (S4D-Lin): residual blocks of S4D, GELU and GLU, norm, then a linear read-out."""

    Config = DiagonalSSMConfig
    config: DiagonalSSMConfig
    paper: ClassVar[Paper | None] = Paper(
        "On the parameterization and initialization of diagonal state space models",
        "NeurIPS",
        2022,
        "arXiv:2206.11893",
        note="Layer norm before each block, no dropout between layers, B = 1, one learning rate for all parameters.",
    )

    def __init__(self, config: DiagonalSSMConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = self.config
        blocks = (StateSpaceBlock(c.width, c.states, c.dt_min, c.dt_max) for _ in range(c.depth))
        self.layers = nn.Sequential(nn.Linear(c.features, c.width), *blocks, nn.LayerNorm(c.width))
        self.readout = nn.Linear(c.width, c.classes)
