"""What counting costs: a plain forward pass, the operation record of it, and another library's counters.

python -m benchmarks.speed.counting     (or: step speed counting)
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import energy
import neurons
from benchmarks.speed.turns import in_turns
from neurons.errors import OptionError, suggest

PLAIN = "forward"


@dataclass(frozen=True)
class Row:
    """Median time of one way through a network.

    Attributes
    ----------
    network, name : str
    shape : tuple of int
        Input [T, B, ...].
    seconds : float
    ratio : float
        To the plain forward pass, in the same turns.
    """

    network: str
    name: str
    shape: tuple[int, ...]
    seconds: float
    ratio: float


class _Attention(nn.Module):
    """An encoder of tokens as spiking transformers have it: embedding, attention of spikes, two linear layers."""

    def __init__(self, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.embed = _spiking(48, width)
        self.queries, self.keys, self.values = (
            nn.ModuleList(_spiking(width, width) for _ in range(depth)) for _ in range(3)
        )
        self.mlps = nn.ModuleList(
            nn.Sequential(_spiking(width, 4 * width), _spiking(4 * width, width)) for _ in range(depth)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        s = self.embed(x)
        for query, key, value, mlp in zip(self.queries, self.keys, self.values, self.mlps, strict=True):
            s = s + mlp(s + query(s) @ (key(s).transpose(-1, -2) @ value(s)))
        return self.head(s.mean(2))  # type: ignore[no-any-return]


class _Normed(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return self.norm(y.flatten(0, -2)).unflatten(0, y.shape[:-1])  # type: ignore[no-any-return]


def _spiking(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(_Normed(inputs, outputs), neurons.LIF())


def _ours() -> tuple[nn.Module, Tensor]:
    return _Attention(), torch.rand(4, 16, 64, 48)


def _spikingjelly() -> tuple[nn.Module, Tensor]:
    from spikingjelly.activation_based import functional, layer, neuron

    parts: list[nn.Module] = []
    for channels, width in ((3, 64), (64, 128), (128, 128)):
        parts += [layer.Conv2d(channels, width, 3, padding=1, bias=False), layer.BatchNorm2d(width), neuron.LIFNode(),
                  layer.MaxPool2d(2)]  # fmt: skip
    network = nn.Sequential(*parts, layer.Flatten(), layer.Linear(128 * 16, 10))
    functional.set_step_mode(network, "m")
    return network, torch.rand(4, 16, 3, 32, 32)


class _SnnTorch(nn.Module):
    def __init__(self) -> None:
        import snntorch

        super().__init__()
        self.hidden, self.neuron = nn.Linear(784, 1000), snntorch.Leaky(beta=0.95)
        self.out, self.last = nn.Linear(1000, 10), snntorch.Leaky(beta=0.95)

    def forward(self, x: Tensor) -> Tensor:
        one, two, outputs = self.neuron.init_leaky(), self.last.init_leaky(), []
        for x_t in x:
            spikes, one = self.neuron(self.hidden(x_t), one)
            spikes, two = self.last(self.out(spikes), two)
            outputs.append(spikes)
        return torch.stack(outputs)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "step attention": _ours,
    "spikingjelly cnn": _spikingjelly,
    "snntorch mlp": lambda: (_SnnTorch(), torch.rand(25, 128, 784)),
}
"""Networks of three libraries, the last in single steps."""


def measure(network: str, *, seconds: float = 10.0) -> list[Row]:
    """Time one network in turns; weights are untrained, and scaled until every layer spikes.

    Raises
    ------
    OptionError
        For a network that is not among ``NETWORKS``.
    """
    if network not in NETWORKS:
        raise OptionError(f"no network {network!r} to count{suggest(network, NETWORKS)}; known: {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, x = NETWORKS[network]()
        _wake(module, x)
    tasks = {
        PLAIN: lambda: _forward(module, x),
        "step record": lambda: energy.measure(module, x),
        "step record, each step": lambda: energy.measure(module, x, steps=True),
        "spikingjelly counters": lambda: _their_counters(module, x),
    }
    times = in_turns(tasks, seconds)
    plain = times[PLAIN]
    return [
        Row(network, name, tuple(x.shape), statistics.median(each),
            statistics.median(a / b for a, b in zip(each, plain, strict=True)))
        for name, each in times.items()
    ]  # fmt: skip


def _wake(network: nn.Module, x: Tensor) -> None:
    """Set every norm to statistics of the input, so that an untrained network is not silent."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    _forward(network, x)
    network.eval()


def _forward(network: nn.Module, x: Tensor) -> None:
    from energy.foreign import reset

    reset(network)
    with torch.no_grad():
        network(x)


def _their_counters(network: nn.Module, x: Tensor) -> None:
    from spikingjelly.activation_based import op_counter

    from energy.foreign import reset

    reset(network)
    counters = [op_counter.MACCounter(), op_counter.ACCounter(), op_counter.SynOpCounter()]
    with torch.no_grad(), op_counter.DispatchCounterMode(counters):
        network(x)
