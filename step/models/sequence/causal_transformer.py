"""Transformer whose attention looks back only."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from neurons import NeuronFactory, State
from neurons.errors import ShapeError
from step.models.base import models
from step.models.paper import Paper
from step.models.sequence.base import Cell
from step.models.sequence.budget import BudgetConfig
from step.models.sequence.stacked import AtOnce, Stacked


class Attend(nn.Module):
    """Softmax attention of one step: [B, heads, 1, d], keys and values [B, heads, S, d]."""

    def forward(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        scores = query @ keys.transpose(-1, -2) / math.sqrt(query.shape[-1])
        return scores.softmax(-1) @ values


class CausalAttention(AtOnce):
    """Multi-head softmax attention to this step and those before.

    Its state is the keys and values of all steps so far, [B, steps, dim]: it grows. ``step`` attends to as many steps
    as there were, T (T + 1) / 2 pairs in all.

    Parameters
    ----------
    dim, heads : int
        Channels, a multiple of the heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, {"keys": dim, "values": dim})
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attend = Attend()
        self.out = nn.Linear(dim, dim)

    def resting_state(self, x: Tensor) -> State:
        """Return keys and values of no step, [B, 0, dim]."""
        return {name: x.new_zeros(x.shape[1], 0, size) for name, size in self.sizes.items()}

    def _checked(self, state: State, x: Tensor) -> None:
        shapes = {name: list(value.shape) for name, value in state.items()}
        steps = shapes["keys"][1] if len(shapes.get("keys", [])) == 3 else 0
        if shapes != {name: [x.shape[1], steps, self.inputs] for name in self.sizes}:
            raise ShapeError(
                f"keys and values of {type(self).__name__} have the shape [{x.shape[1]}, steps, {self.inputs}], "
                f"not {shapes}"
            )

    def step(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        query, key, value = self.qkv(x).unsqueeze(1).chunk(3, -1)
        keys, values = torch.cat((keys, key), 1), torch.cat((values, value), 1)
        heard = self.attend(self._split(query), self._split(keys), self._split(values))
        return self.out(heard.flatten(1)), keys, values

    def at_once(self, x: Tensor, state: State | None, *, keep: bool) -> tuple[Tensor, State]:
        query, keys, values = self.qkv(x).transpose(0, 1).chunk(3, -1)  # [B, T, dim]
        mask = None
        if state is not None:
            past, steps = state["keys"].shape[1], x.shape[0]
            keys, values = torch.cat((state["keys"], keys), 1), torch.cat((state["values"], values), 1)
            mask = torch.ones(steps, past + steps, dtype=torch.bool, device=x.device).tril(past)
        parts = (self._split(query), self._split(keys), self._split(values))
        heard = F.scaled_dot_product_attention(*parts, attn_mask=mask, is_causal=mask is None)
        return self.out(heard.permute(2, 0, 1, 3).flatten(2)), {"keys": keys, "values": values}

    def _split(self, x: Tensor) -> Tensor:
        """Return [B, S, dim] as [B, heads, S, dim / heads]."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Positions(Cell):
    """Adds sines and cosines of the number of the step (Vaswani et al. 2017); counts on in its state [B, 1].

    Parameters
    ----------
    dim : int
        Channels; wavelengths go from 2 pi to 2 pi 10000 time steps.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, {"steps": 1})

    def step(self, x: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return x + self._waves(steps), steps + 1

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        self._check_input(x)
        if state is not None:
            self._checked(state, x)
        steps = x.shape[0]
        at = torch.arange(steps, device=x.device, dtype=x.dtype).view(-1, 1, 1)
        # All samples are at the same step unless a state says something else.
        at = at if state is None else at + state["steps"]
        last = (at[-1] + 1).expand(x.shape[1], 1)
        return x + self._waves(at), {"steps": last}

    def _waves(self, at: Tensor) -> Tensor:
        half = (self.inputs + 1) // 2
        rates = torch.exp(torch.arange(half, device=at.device, dtype=at.dtype) * (-math.log(1e4) / half))
        return torch.cat(((at * rates).sin(), (at * rates).cos()), -1)[..., : self.inputs]


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)), on [T, B, C]."""

    def __init__(self, dim: int, heads: int, ratio: float) -> None:
        super().__init__()
        hidden = max(1, int(ratio * dim))
        self.norm = nn.LayerNorm(dim)
        self.attention = CausalAttention(dim, heads)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x)  # type: ignore[no-any-return]


class CausalTransformerConfig(BudgetConfig):
    """Sizes of a causal transformer."""

    WIDTH = "dim"
    WIDTH_DEFAULT = 64

    dim: int | None = Field(None, ge=1)
    """Channels, a multiple of ``heads``; 64 when neither it nor ``parameters`` is given."""
    depth: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    ratio: float = Field(4.0, gt=0)
    """Hidden units of the MLP of a block for each channel."""
    positions: Literal["sinusoidal", "none"] = "sinusoidal"

    @property
    def multiple(self) -> int:
        """What the width must be a multiple of."""
        return self.heads


@models.register("causal-transformer")
class CausalTransformer(Stacked):
    """Transformer with causal softmax attention: linear, positions, pre-norm blocks, norm, linear read-out."""

    Config = CausalTransformerConfig
    config: CausalTransformerConfig
    paper: ClassVar[Paper | None] = Paper(
        "Attention is all you need",
        "NeurIPS",
        2017,
        "arXiv:1706.03762",
        note="The decoder without a second input; norms before the blocks, GELU, no dropout between layers.",
    )

    def __init__(self, config: CausalTransformerConfig, neuron: NeuronFactory) -> None:
        super().__init__(config, neuron)
        c = self.config
        positions = [Positions(c.width)] if c.positions == "sinusoidal" else []
        blocks = (TransformerBlock(c.width, c.heads, c.ratio) for _ in range(c.depth))
        self.layers = nn.Sequential(nn.Linear(c.features, c.width), *positions, *blocks, nn.LayerNorm(c.width))
        self.readout = nn.Linear(c.width, c.classes)
