"""What a network answers to a few samples, for reports that name it."""

from __future__ import annotations

from torch import Tensor, nn

from step.models.sequence.base import SequenceNetwork


def class_of(labels: Tensor | None, at: int) -> int | None:
    """Return the class number of a sample; None where labels are numbers, or one for each time step."""
    if labels is None or labels.dim() != 1 or labels.is_floating_point():
        return None
    return int(labels[at])


def answers(network: nn.Module, outputs: Tensor) -> list[int | None]:
    """Return the classes that outputs [T, B, classes] stand for: those of the last step for sequences, else the mean.

    None for each sample where the outputs have another form.
    """
    if outputs.dim() != 3:
        return [None] * (outputs.shape[1] if outputs.dim() > 1 else 0)
    scores = outputs[-1] if isinstance(network, SequenceNetwork) else outputs.mean(0)
    return [int(best) for best in scores.argmax(-1)]
