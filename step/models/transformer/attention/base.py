"""What every attention is: a module on tokens [T, B, N, C] that can show how it mixes them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from neurons.errors import OptionError
from neurons.registry import Registry

attentions: Registry[Attention] = Registry("attention", "attentions")
"""Makers ``(dim, heads, neuron, *, grid, residual, **options) -> Attention`` by name."""

Grid = tuple[int, int]
"""Height and width of the map that the tokens come from, row by row; a sequence has height 1."""


class Attention(nn.Module, ABC):
    """Base of all attentions; maps tokens [T, B, N, C] to [T, B, N, C], for the shortcut to be added outside.

    Parameters
    ----------
    dim : int
        Channels, a multiple of ``heads``.
    heads : int
    grid : (int, int)
        Height and width of the tokens, N = height * width.
    """

    def __init__(self, dim: int, heads: int, grid: Grid) -> None:
        super().__init__()
        if dim % heads:
            raise OptionError(f"dim must be a multiple of heads, and {dim} is not one of {heads}")
        self.heads, self.grid = heads, grid

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of every sample and step."""

    @abstractmethod
    def attention_map(self, x: Tensor) -> Tensor | None:
        """Return how the tokens of the module's input ``x`` are mixed, or None where there is no map over tokens.

        Returns
        -------
        Tensor, shape [T, B, heads, N, N]
            Row: the token that asks; column: the token that is heard. [T, B, heads, 1, N] where one weight for each
            token is all there is, one row for each patch where patches ask (DSSA). Without a softmax rows do
            not sum to one.
        """

    def split(self, x: Tensor) -> Tensor:
        """[T, B, N, C] to [T, B, heads, N, C / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(2, 3)

    @staticmethod
    def merge(x: Tensor) -> Tensor:
        """[T, B, heads, N, d] to [T, B, N, heads * d]."""
        return x.transpose(2, 3).flatten(3)
