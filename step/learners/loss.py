"""What is minimised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

Scores = Callable[[Tensor], Tensor]
"""How outputs [T, B, ...] are read out over time, to [B, ...]."""


class LossConfig(BaseModel):
    """The loss on the labels."""

    loss: Literal["cross-entropy", "tet"] = "cross-entropy"
    """``cross-entropy`` of the scores read out over time, or ``tet``: temporal efficient training (Deng et al.,
    ICLR 2022), the mean of the cross-entropies of every time step, regularised."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of a label that is spread evenly over all classes (Szegedy et al., CVPR 2016)."""
    tet_lambda: float = Field(1e-3, ge=0, le=1)
    """Share of the regularisation of TET, lambda in its paper."""
    tet_phi: float = 1.0
    """Constant that the regularisation of TET draws all outputs to, phi in its paper."""


def supervised_loss(outputs: Tensor, labels: Tensor, scores: Scores, c: LossConfig) -> Tensor:
    """Return the loss of outputs [T, B, ...] on labels.

    TET is (1 - lambda) mean_t CE(o_t, y) + lambda mean_t MSE(o_t, phi).

    Parameters
    ----------
    outputs : Tensor, shape [T, B, ...]
    labels : Tensor
        Classes [B], or shares of the classes [B, classes].
    scores : callable
        How the protocol reads outputs out, [T, B, ...] to [B, classes]; TET reads each time step by itself.
    """
    if c.loss == "cross-entropy":
        return nn.functional.cross_entropy(scores(outputs), labels, label_smoothing=c.label_smoothing)
    steps = torch.stack([scores(step.unsqueeze(0)) for step in outputs])
    repeated = labels.expand(len(steps), *labels.shape).flatten(0, 1)
    entropy = nn.functional.cross_entropy(steps.flatten(0, 1), repeated, label_smoothing=c.label_smoothing)
    if c.tet_lambda == 0:
        return entropy
    return (1 - c.tet_lambda) * entropy + c.tet_lambda * (steps - c.tet_phi).square().mean()
