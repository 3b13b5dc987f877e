"""Local spiking self-attention of SGLFormer (Zhang et al., Frontiers in Neuroscience 2024)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from neurons import NeuronFactory
from neurons.errors import OptionError
from step.models.transformer.attention.base import Grid, attentions
from step.models.transformer.attention.ssa import Order, SpikingSelfAttention, attention_product
from step.models.transformer.residual import Residual


def windows_of(grid: Grid, windows: int, interleaved: bool) -> Tensor:
    """Return the window of each token, row by row, as numbers from 0.

    Parameters
    ----------
    grid : (int, int)
    windows : int
        Windows along each side.
    interleaved : bool
        A window holds every ``windows``-th row and column, instead of neighbouring ones.
    """
    sides = []
    for side in grid:
        place = torch.arange(side, device="cpu")
        sides.append(place % windows if interleaved else place // -(-side // windows))
    return (sides[0].unsqueeze(1) * windows + sides[1]).flatten().unique(return_inverse=True)[1]


@attentions.register("local-ssa")
class LocalSelfAttention(SpikingSelfAttention):
    """Spiking self-attention within windows: a token hears the tokens of its own window only.

    The equations are those of ``ssa``, with Q K^T V taken in each of windows x windows parts of the map. Where the
    side is no multiple of ``windows``, the last windows are smaller.

    Parameters
    ----------
    windows : int
        Windows along each side of the map.
    interleaved : bool
        A window holds every ``windows``-th row and column, as in the code released with the paper, instead of
        neighbouring ones.
    scale, order, residual, bias
        See :class:`SpikingSelfAttention`.
    """

    order_of_tokens: Tensor
    place: Tensor
    together: Tensor

    def __init__(
        self,
        dim: int,
        heads: int,
        neuron: NeuronFactory,
        *,
        grid: Grid,
        residual: Residual = "spike",
        scale: float = 0.125,
        order: Order = "auto",
        bias: bool = True,
        windows: int = 2,
        interleaved: bool = False,
    ) -> None:
        super().__init__(dim, heads, neuron, grid=grid, residual=residual, scale=scale, order=order, bias=bias)
        if windows < 1:
            raise OptionError(f"windows of the attention 'local-ssa' must be at least 1, not {windows}")
        window = windows_of(grid, windows, interleaved)
        members = [(window == number).nonzero().flatten() for number in range(int(window.max()) + 1)]
        self.size = max(len(tokens) for tokens in members)
        # Smaller windows are filled up with a token of zeros behind the last: without a softmax it adds nothing.
        self.fill = min(len(tokens) for tokens in members) < self.size
        filled = torch.cat([F.pad(tokens, (0, self.size - len(tokens)), value=len(window)) for tokens in members])
        self.register_buffer("order_of_tokens", filled, persistent=False)
        self.register_buffer("place", filled.argsort()[: len(window)], persistent=False)
        self.register_buffer("together", window.unsqueeze(1) == window, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.to_windows(operand) for operand in self.operands(self.before(x)))
        product = self.to_tokens(attention_product(q, k, v, self.order)) * self.scale
        return self.project(self.neuron(self.merge(product)))

    def to_windows(self, x: Tensor) -> Tensor:
        """[T, B, heads, N, d] to [T, B, heads, windows, tokens of a window, d]."""
        x = F.pad(x, (0, 0, 0, 1)) if self.fill else x
        return x.index_select(3, self.order_of_tokens).unflatten(3, (-1, self.size))

    def to_tokens(self, x: Tensor) -> Tensor:
        """[T, B, heads, windows, tokens of a window, d] to [T, B, heads, N, d]."""
        return x.flatten(3, 4).index_select(3, self.place)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the scores, [T, B, heads, N, N]; 0 between tokens of different windows."""
        return super().attention_map(x) * self.together
