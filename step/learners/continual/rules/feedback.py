"""Rules without weight transport: the error goes back through other weights than the signal came forward by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurons.errors import OptionError
from step.learners.continual.rules.base import Loss, Projections, Result, Rule, rules
from step.learners.continual.rules.product import check_products
from step.learners.continual.rules.taps import Layer
from step.models import Network

_THROUGH = ("bptt", "ottt", "dsr")


class Feedback(Rule):
    """Base of rules that change what carries the error back, dx = B^T delta; dW = delta x^T is that of another rule.

    Parameters
    ----------
    through : {"bptt", "ottt", "dsr"}
        Rule that everything else is of.
    tau : float, optional
        Time constant of the traces of ``ottt``.
    **options
        See :class:`Rule`.
    """

    def __init__(
        self,
        network: Network,
        layers: Mapping[str, nn.Module],
        /,
        *,
        through: Literal["bptt", "ottt", "dsr"] = "bptt",
        tau: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, layers, **options)
        if through not in _THROUGH:
            raise OptionError(f"through of rule {self.name!r} is one of {', '.join(_THROUGH)}, not {through!r}")
        if tau is not None and through != "ottt":
            raise OptionError(
                f"tau of rule {self.name!r} is the time constant of the traces of 'ottt', not of {through!r}"
            )
        more = options if tau is None else {**options, "tau": tau}
        self.inner = rules.create(through, network, layers, **more)
        self.inner.carry = self.error_weight
        self.generator = self.inner.generator

    def check(self) -> None:
        super().check()
        check_products(self.every, f"rule {self.name!r}")
        self.inner.check()

    def gradients(self, x: Tensor, loss: Loss, *, taps: bool = False, project: Projections | None = None) -> Result:
        check_products(self.every, f"rule {self.name!r}")
        return self.inner.gradients(x, loss, taps=taps, project=project)

    def readout(self, outputs: Tensor) -> Tensor:
        """Read time out as the rule does that everything else is of."""
        return self.inner.readout(outputs)


@rules.register("feedback-alignment")
class FeedbackAlignment(Feedback):
    """Feedback alignment: the error goes back through fixed random weights.

    Every linear layer and convolution has its own, uniform as the first weights of torch's layers are (Kaiming, gain
    for a slope of sqrt(5)); they are kept in the state of the rule. Source: Lillicrap et al., Nat. Commun. 2016.

    Parameters
    ----------
    **options
        See :class:`Feedback`; ``seed`` is that of the feedback weights too.
    """

    def __init__(self, network: Network, layers: Mapping[str, nn.Module], /, **options: Any) -> None:
        super().__init__(network, layers, **options)
        generator = torch.Generator().manual_seed(options.get("seed", 0))
        self.feedback: dict[str, Tensor] = {}
        for path, layer in self.every.items():
            drawn = torch.empty(layer.weight.shape, dtype=layer.weight.dtype)
            self.feedback[path] = nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)

    def error_weight(self, path: str, layer: Layer) -> Tensor:
        self.feedback[path] = self.feedback[path].to(layer.weight)  # once, where the network has moved
        return self.feedback[path]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the feedback weights and where the generator stands."""
        return {**super().state_dict(), **{f"feedback.{path}": value for path, value in self.feedback.items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`state_dict`."""
        super().load_state_dict(state)
        self.feedback = {path: state[f"feedback.{path}"] for path in self.feedback}


@rules.register("sign-symmetric")
class SignSymmetric(Feedback):
    """Sign-symmetric feedback: the error goes back through the signs of the weights.

    B = sign(W) / sqrt(inputs) for a linear layer, sign(W) sqrt(2 / (kh kw outputs)) for a convolution. Source: Liao et
    al., AAAI 2016; Xiao et al., ICLR 2019; factors of Xiao et al., ICLR 2024.

    Parameters
    ----------
    **options
        See :class:`Feedback`.
    """

    def error_weight(self, path: str, layer: Layer) -> Tensor:
        return layer.weight.detach().sign() * scale(layer)


def scale(layer: Layer) -> float:
    """Return the size of the feedback weights of a sign-symmetric layer."""
    if isinstance(layer, nn.Linear):
        return 1 / math.sqrt(layer.in_features)
    return math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels))
