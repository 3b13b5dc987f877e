"""Neurons of other libraries, recognised without importing them."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

_BASES = (
    ("spikingjelly.activation_based.base", "MemoryModule"),
    ("snntorch._neurons.neurons", "SpikingNeuron"),
)
_WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd, nn.Bilinear, nn.RNNBase, nn.RNNCellBase)
_SNNTORCH_STATES = ("mem", "syn", "syn_exc", "syn_inh")


def is_foreign_neuron(module: nn.Module) -> bool:
    """Whether a module is a neuron of SpikingJelly or snnTorch (a stateful module around weights is not)."""
    bases = tuple(getattr(sys.modules[name], base) for name, base in _BASES if name in sys.modules)
    return isinstance(module, bases) and not any(isinstance(part, _WEIGHTED) for part in module.modules())


def state_words(module: nn.Module, output: Any) -> int:
    """Return how many state variables each neuron of a foreign neuron module has, after it has run."""
    memories = getattr(module, "_memories", None)
    if memories is not None:
        return sum(isinstance(value, Tensor) and value.dim() > 0 for value in memories.values())
    hidden = sum(isinstance(getattr(module, name, None), Tensor) for name in _SNNTORCH_STATES)
    returned = len(output) - 1 if isinstance(output, tuple) else 0
    return max(hidden, returned, 1)


def leaks(module: nn.Module) -> bool | None:
    """Whether the potential of a foreign neuron decays without input; None when its parameters do not tell."""
    if hasattr(module, "beta"):  # snnTorch: the factor by which a potential decays in a step
        beta: Any = module.beta
        return bool((beta != 1).any()) if isinstance(beta, Tensor) else beta != 1
    if hasattr(module, "tau") or hasattr(module, "w"):  # SpikingJelly: a time constant, fixed or learned
        return True
    return False if type(module).__name__.startswith("IF") else None


def potential(module: nn.Module, output: Any) -> Tensor | None:
    """Return the membrane potential of a foreign neuron after a step; None when it runs all steps at once."""
    if getattr(module, "step_mode", "s") == "m":
        return None
    held = getattr(module, "v", None)
    if held is None:
        held = output[-1] if isinstance(output, tuple) else getattr(module, "mem", None)
    return held if isinstance(held, Tensor) and held.dim() > 0 else None


def reset(network: nn.Module) -> None:
    """Put the SpikingJelly neurons of a network back to rest; their state would leak from batch to batch."""
    base = sys.modules.get("spikingjelly.activation_based.base")
    if base is not None:
        # Not its own reset_net, which calls reset() on every module that has such a method.
        for module in network.modules():
            if isinstance(module, base.MemoryModule):
                module.reset()
