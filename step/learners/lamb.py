"""The LAMB optimiser, which torch does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Lamb(torch.optim.Optimizer):
    """LAMB: Adam with a step for each tensor as long as the tensor is large (You et al., ICLR 2020, algorithm 2).

    m and v are Adam's moments with bias correction; u = m / (sqrt(v) + eps) + weight_decay w;
    w <- w - lr (|w| / |u|) u, with the norm ratio replaced by 1 where either norm is 0. As in timm, the ratio is also
    1 for parameters that do not decay (norms and biases).

    Parameters
    ----------
    params : iterable of parameters or groups
    lr : float
    betas : (float, float)
        Decay of the moments.
    eps : float
    weight_decay : float
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                state["step"] += 1
                count = float(state["step"])
                m = state["exp_avg"].lerp_(parameter.grad, 1 - beta1)
                v = state["exp_avg_sq"].mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                update = (m / (1 - beta1**count)) / ((v / (1 - beta2**count)).sqrt() + group["eps"])
                if group["weight_decay"]:
                    update += group["weight_decay"] * parameter
                    weight, length = parameter.norm(), update.norm()
                    both = (weight > 0) & (length > 0)
                    update *= torch.where(both, weight / torch.where(both, length, 1.0), 1.0)
                parameter.sub_(update * group["lr"])
