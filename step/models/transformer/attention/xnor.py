"""alpha-XNOR spiking self-attention (Xiao et al., CVPR 2025)."""

from __future__ import annotations

from torch import Tensor

from neurons import NeuronFactory
from neurons.base import neurons
from neurons.errors import OptionError
from step.models.transformer.attention.base import Grid, attentions
from step.models.transformer.attention.ssa import Order, SpikingSelfAttention
from step.models.transformer.residual import Residual


def xnor_scores(q: Tensor, k: Tensor, alpha: float) -> Tensor:
    """Return for each pair of tokens the spikes that they share, and alpha times the silences, over alpha.

    With n = q k^T shared spikes, d - |q| - |k| + n of the d channels are silent in both; so
    (n + alpha (d - |q| - |k| + n)) / alpha = (1 + 1/alpha) n + d - |q| - |k|: one product of spikes and two counts.
    These are whole numbers where 1/alpha is one.

    Parameters
    ----------
    q, k : Tensor, shape [..., N, d]
        Spikes.
    alpha : float
    """
    silent = q.shape[-1] - q.sum(-1, keepdim=True)
    return (q @ k.transpose(-2, -1)) * (1 + 1 / alpha) + (silent - k.sum(-1).unsqueeze(-2))


def xnor_product(q: Tensor, k: Tensor, v: Tensor, alpha: float, order: Order = "auto") -> Tensor:
    """Return :func:`xnor_scores` times V, multiplied in the cheaper order (the scores are linear in q and in k).

    Parameters
    ----------
    q, k, v : Tensor, shape [..., N, d]
    alpha : float
    order : {"auto", "scores", "context"}
        Scores first, 2 N^2 d multiply-accumulates for each head, or K^T V first, 2 N d^2.
    """
    if order == "auto":
        order = "scores" if q.shape[-2] <= q.shape[-1] else "context"
    if order == "scores":
        return xnor_scores(q, k, alpha) @ v
    silent = q.shape[-1] - q.sum(-1, keepdim=True)
    context = q @ ((k.transpose(-2, -1) @ v) * (1 + 1 / alpha))
    return context + silent * v.sum(-2, keepdim=True) - k.sum(-1).unsqueeze(-2) @ v


@attentions.register("alpha-xnor")
class AlphaXNORAttention(SpikingSelfAttention):
    """Spiking self-attention by alpha-XNOR similarity: silence that two tokens share counts too, on [T, B, N, C].

    Two channels are alike by 1 where both spike, by alpha where both are silent, by 0 otherwise; the similarity of a
    query and a key is the sum over the d channels of a head, and stands in the place of Q K^T in SSA:
    o = neuron_half(scale S V), out = neuron(norm(W_o o)).

    Established from the abstract: shared spikes count more than shared silence, which has the value alpha. From
    others' accounts of the paper: 0 where only one spikes. Not established, a reconstruction: the value of alpha (ours
    is a shift, 1/8) and that the scale stays that of SSA. A neuron that sends other values than 0 and 1 has no
    silence to compare, so it is refused; hence there is no conventional twin.

    Parameters
    ----------
    alpha : float
        Weight of shared silence, above 0 and at most 1; at 1 the similarity is the XNOR count.
    scale : float
        Factor on the product, in place of a softmax.
    order : {"auto", "scores", "context"}
        Order of the product, see :func:`xnor_product`.
    residual : {"spike", "membrane"}
        With a membrane residual a neuron stands before the projections and none after the last.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        neuron: NeuronFactory,
        *,
        grid: Grid,
        residual: Residual = "spike",
        alpha: float = 0.125,
        scale: float = 0.125,
        order: Order = "auto",
    ) -> None:
        kind = getattr(neurons.get(neuron.name), "output", "binary")
        if neuron.conventional or kind != "binary":
            raise OptionError(
                "attention 'alpha-xnor' compares spikes with silence, so it needs a neuron that sends 0 or 1, and "
                f"{neuron.name!r} sends {kind} values; take 'ssa'"
            )
        if not 0 < alpha <= 1:
            raise OptionError(f"alpha of alpha-xnor must be above 0 and at most 1, not {alpha}; 'ssa' is alpha 0")
        super().__init__(dim, heads, neuron, grid=grid, residual=residual, scale=scale, order=order)
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.operands(self.before(x))
        product = xnor_product(q, k, v, self.alpha, self.order) * (self.scale * self.alpha)
        return self.project(self.neuron(self.merge(product)))

    def attention_map(self, x: Tensor) -> Tensor:
        q, k, _ = self.operands(self.before(x))
        return xnor_scores(q, k, self.alpha) * (self.scale * self.alpha)
