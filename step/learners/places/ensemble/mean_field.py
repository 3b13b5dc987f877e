"""The trained network without its dynamics: weights times input, read as spikes are.

Whatever the dynamics are worth must show against this. It also says cheaply which modules a query may belong to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LEAST = 1e-6
_BATCH = 256


def contrast(images: Tensor) -> Tensor:
    """Return images [B, inputs] with mean 0 and standard deviation 1; even ones are 0.

    Input weights of every neuron have the same sum, so that the mean of an image says nothing.
    """
    centred = images - images.mean(dim=1, keepdim=True)
    return centred / centred.square().mean(dim=1, keepdim=True).sqrt().clamp(min=_LEAST)


@dataclass(frozen=True)
class Templates:
    """One template for each place: what its neurons' weights add up to, score = (template . input - mean) / spread.

    Since the drive of a neuron is linear in the input, so is the mean drive of the neurons of a place: 16 neurons of
    784 weights are one template of 784.

    Parameters
    ----------
    template : Tensor, shape [M, inputs, K]
    assigned : Tensor of bool, shape [M, K]
        Places that any neuron speaks for.
    mean, spread : Tensor, shape [M, K]
        Of the drive on foreign images; 0 and 1 where places are not calibrated.
    """

    template: Tensor
    assigned: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, weights: Tensor, votes: Tensor, assigned: Tensor) -> Templates:
        """Return the templates of weights [M, inputs, N] read by votes [M, N, K]."""
        template = torch.bmm(weights.to(torch.float64), votes.to(torch.float64))
        template = template - template.mean(dim=1, keepdim=True)
        plain = template.new_zeros(template.shape[0], template.shape[2])
        return cls(template, assigned, plain, torch.ones_like(plain))

    def score(self, images: Tensor) -> Tensor:
        """Return scores [B, M, K] of images [B, inputs]."""
        seen = contrast(images.to(torch.float64)).expand(len(self.template), *images.shape)
        return ((torch.bmm(seen, self.template) - self.mean.unsqueeze(1)) / self.spread.unsqueeze(1)).transpose(0, 1)

    def calibrated(self, images: Tensor, foreign: Tensor) -> Templates:
        """Return templates whose scores say how far they stand out from those of foreign images.

        Parameters
        ----------
        images : Tensor, shape [N, inputs]
        foreign : Tensor of bool, shape [N, M]
            Images by which a module is measured.
        """
        plain = Templates(self.template, self.assigned, torch.zeros_like(self.mean), torch.ones_like(self.spread))
        total, squares = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        for start in range(0, len(images), _BATCH):
            rows = slice(start, start + _BATCH)
            scores = plain.score(images[rows])
            taken = foreign[rows].to(scores.dtype).unsqueeze(2)
            total += (scores * taken).sum(0)
            squares += (scores.square() * taken).sum(0)
        count = foreign.sum(0).unsqueeze(1)
        mean = total / count
        spread = (squares / count - mean.square()).clamp(min=0.0).sqrt().clamp(min=_LEAST)
        return Templates(self.template, self.assigned, mean, spread)

    def modules(self, images: Tensor, count: int) -> Tensor:
        """Return the ``count`` modules with the best place for each image, int64 [B, count] in rising order."""
        best = self.score(images).masked_fill(~self.assigned, -torch.inf).amax(dim=2)
        return best.topk(min(count, best.shape[1]), dim=1).indices.sort(dim=1).values

    @property
    def numbers(self) -> int:
        """Numbers that they hold."""
        return self.template.numel() + self.mean.numel() + self.spread.numel()
