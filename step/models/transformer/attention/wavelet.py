"""Frequency-aware token mixer (FATM) of the Spiking Wavelet Transformer (Fang et al., ECCV 2024, arXiv:2403.11138)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neurons import NeuronFactory
from step.models.base import fold_time
from step.models.layers import ConvNorm, Spiking
from step.models.transformer.attention.base import Attention, Grid, attentions
from step.models.transformer.attention.signed import signed
from step.models.transformer.embedding import to_maps, to_tokens
from step.models.transformer.residual import Residual


def haar_matrix(side: int) -> Tensor:
    """Return the orthonormal Haar matrix [side, side], coarse to fine, in float64.

    The first row is the mean; each further row halves a span, positive on the left part and negative on the right,
    with mean 0 and norm 1. A span of odd length is halved into unequal parts (unbalanced Haar basis, Girardi and
    Sweldens 1997), so that every side has an exactly orthonormal matrix; for a power of two it is Haar's own.
    """
    rows = [[1 / math.sqrt(side)] * side]
    spans = [(0, side)]
    while spans:
        halves = []
        for start, end in spans:
            if end - start < 2:
                continue
            middle = (start + end + 1) // 2
            left, right = middle - start, end - middle
            up, down = math.sqrt(right / (left * (left + right))), math.sqrt(left / (right * (left + right)))
            rows.append([0.0] * start + [up] * left + [-down] * right + [0.0] * (side - end))
            halves += [(start, middle), (middle, end)]
        spans = halves
    return torch.tensor(rows, dtype=torch.float64, device="cpu")


def along(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """Multiply a matrix [n, n] into axis 2 (rows) or 3 (columns) of maps [T, B, height, width, C]; no copy of x."""
    parts = x.flatten(0, axis - 1).flatten(2)
    return torch.bmm(matrix.expand(len(parts), -1, -1), parts).view(x.shape)


@attentions.register("fatm")
class FrequencyAwareTokenMixer(Attention):
    """Frequency-aware token mixer: mixes Haar coefficients and neighbourhoods; no token attends to another.

    out = haar(S) + norm(conv1x1(S)) + norm(conv3x3(S)) for the spikes S. The convolutions are from dim / heads to
    dim / heads channels and shared by the ``heads`` blocks of channels.

    Parameters
    ----------
    heads : int
        Blocks of channels; each has a matrix of its own for its Haar coefficients.
    ternary : bool
        Haar coefficients have signs, so the three neurons inside the transforms are ternary, with the options of the
        network's own (a neuron that sends signs itself is taken as it is). They fire at half its threshold: a LIF
        neuron with tau = 2 then fires when a coefficient reaches the threshold in one step, as the ternary
        integrate-and-fire neuron of the released code does, and leaks from step to step, which that one does not. A
        quantised network has signed codes there, a network of real numbers leaves the coefficients as they are. False:
        the network's neuron, which drops what is negative.
    residual : {"spike", "membrane"}
        With a membrane residual a neuron makes the spikes S and none stands behind the sum.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        neuron: NeuronFactory,
        *,
        grid: Grid,
        residual: Residual = "spike",
        ternary: bool = True,
    ) -> None:
        super().__init__(dim, heads, grid)
        self.before = neuron(features=dim) if residual == "membrane" else nn.Identity()
        self.haar = HaarBranch(dim, heads, neuron, grid, ternary)
        self.point = SharedConvNorm(dim, heads, 1)
        self.local = SharedConvNorm(dim, heads, 3)
        self.after = neuron(features=dim) if residual == "spike" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.before(x)
        maps = to_maps(spikes, self.grid)
        return self.after(self.haar(spikes) + to_tokens(self.point(maps)) + to_tokens(self.local(maps)))

    def attention_map(self, x: Tensor) -> None:
        """Return None: there are no weights between tokens."""
        return None


class HaarBranch(nn.Module):
    """Haar transform, mixing of channels, inverse transform, with neurons between all of them, on tokens [T, B, N, C].

    F = H sign(S H^T); G = norm(M neuron(norm(F))); out = norm(H^T sign(sign(G) H)), for each channel of S as a map.
    H is the Haar matrix, M a block-diagonal matrix over channels, ``sign`` the neuron of coefficients.

    Parameters
    ----------
    dim, blocks : int
        Channels, and blocks of M.
    neuron : NeuronFactory
    grid : (int, int)
    ternary : bool
        See :class:`FrequencyAwareTokenMixer`.
    """

    height: Tensor
    width: Tensor

    def __init__(self, dim: int, blocks: int, neuron: NeuronFactory, grid: Grid, ternary: bool) -> None:
        super().__init__()
        self.grid = grid
        for name, side in zip(("height", "width"), grid, strict=True):
            self.register_buffer(name, haar_matrix(side).to(torch.get_default_dtype()), persistent=False)

        def coefficient() -> nn.Module:
            return (signed(neuron, dim, threshold_scale=0.5) or nn.Identity()) if ternary else neuron(features=dim)

        self.forward_neuron = coefficient()
        self.coefficients = Spiking(TokenNorm(dim), neuron(features=dim))
        self.mix = ConvNorm(dim, dim, 1, groups=blocks)
        nn.init.normal_(self.mix.conv.weight, std=0.02)
        self.mixed_neuron = coefficient()
        self.inverse_neuron = coefficient()
        self.norm = TokenNorm(dim)

    def forward(self, spikes: Tensor) -> Tensor:
        x = along(self.width, spikes.unflatten(2, self.grid), 3)
        x = self.coefficients(along(self.height, self.forward_neuron(x), 2).flatten(2, 3))
        x = self.mixed_neuron(to_tokens(self.mix(to_maps(x, self.grid)))).unflatten(2, self.grid)
        x = self.inverse_neuron(along(self.width.T, x, 3))
        return self.norm(along(self.height.T, x, 2).flatten(2, 3))


class TokenNorm(nn.Module):
    """Batch norm over the channels of tokens [T, B, N, C]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return fold_time(lambda tokens: self.norm(tokens.flatten(0, -2)).view(tokens.shape), x)


class SharedConvNorm(nn.Module):
    """One convolution for all blocks of channels, then batch norm, on maps [T, B, C, H, W]."""

    def __init__(self, dim: int, blocks: int, kernel: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.shared = nn.Conv2d(dim // blocks, dim // blocks, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return fold_time(self._maps, x)

    def _maps(self, maps: Tensor) -> Tensor:
        # Blocks in the batch: a copy where channels are last in memory, but each weight is there once.
        blocks = maps.unflatten(1, (self.blocks, -1)).flatten(0, 1)
        return self.norm(self.shared(blocks).unflatten(0, (-1, self.blocks)).flatten(1, 2))
