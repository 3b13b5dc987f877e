"""Random attention: queries and keys that stay what chance made them, to see what learning them is worth."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from neurons.errors import OptionError

Random = bool | Literal["norms"]
"""``False``: all is learned. ``True``: the weights of queries and keys stay at their initial values, their norms are
learned, as in the ablation of STEP (Shen et al., arXiv:2505.11151). ``"norms"``: scale and shift of these norms stay at
their initial values too, so that nothing but the running statistics tells a trained query from a fresh one."""


def freeze(random: Random, *layers: nn.Module) -> None:
    """Turn weights of layers into buffers, as ``random`` says.

    A buffer is saved, loaded and copied to a twin like a parameter, but no optimiser sees it, it gets no gradient and
    is not counted among the learned values.

    Parameters
    ----------
    random : bool or "norms"
    *layers : nn.Module
        Layers that make queries and keys, without their neurons.

    Raises
    ------
    OptionError
        For another value of ``random``.
    """
    if not (isinstance(random, bool) or random == "norms"):
        raise OptionError(f"random is true, false or 'norms', not {random!r}")
    frozen = (nn.Linear, _ConvNd, _BatchNorm) if random == "norms" else (nn.Linear, _ConvNd)
    if random is False:
        return
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, frozen):
                for name, parameter in list(module.named_parameters(recurse=False)):
                    delattr(module, name)
                    module.register_buffer(name, parameter.detach())
