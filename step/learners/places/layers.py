"""Maps of amplitudes as networks of linear layers, whose operations can be counted."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from step.learners.places.inputs import unit
from step.learners.places.tempo import Layer

Read = Literal["clamped", "linear", "features"]
"""How places are read from a map of amplitudes."""


class Amplitudes(nn.Module):
    """Modules of amplitudes as linear layers: x [T, B, inputs] to places [T, B, P], or [T, B, R P] of references."""

    def __init__(self, read: Read, ceiling: float) -> None:
        super().__init__()
        self.read, self.ceiling, self.traverses = read, ceiling, 1
        self.features, self.outputs = nn.ModuleList(), nn.ModuleList()

    def add(self, output: Tensor, feature: Layer | None = None, constant: float = 0.0) -> None:
        """Add a module: its read-out, the features before it if there are any, and the constant input of outputs."""
        if feature is not None:
            self.features.append(linear(feature.weight, -feature.threshold))
        self.outputs.append(linear(output, torch.full((len(output),), constant) if constant else None))

    def forward(self, x: Tensor) -> Tensor:
        answers = []
        for module, output in enumerate(self.outputs):
            if self.read == "linear":
                answers.append(output(x))
                continue
            active = self.features[module](x).clamp(0.0, self.ceiling)
            if self.read == "clamped":
                answers.append(output(active).clamp(0.0, self.ceiling))
            else:
                answers.append(output(unit(active)).unflatten(-1, (self.traverses, -1)).amax(-2))
        return torch.cat(answers, dim=-1)


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """Return a linear layer with these weights [outputs, inputs], which do not learn."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    state = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    layer.load_state_dict(state, assign=True)
    return layer.requires_grad_(False)
