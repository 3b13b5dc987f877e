"""Spiking transformers that are timed: ours, and SpikingJelly's with the same weights.

The running statistics of the norms come from some training passes, so that in inference the network fires as it would.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed import spikingjelly_transformers as theirs
from neurons import neurons_in
from neurons.errors import OptionError, suggest
from neurons.plain import plain

Create = Callable[..., Any]
"""``step.models.create``: networks stand above this package, so whoever calls hands it in."""

# The surrogate is SpikingJelly's default, so that gradients can be compared.
LIF: dict[str, Any] = {"name": "lif", "tau": 2.0, "surrogate": {"name": "sigmoid", "alpha": 4.0}}
T = 4
OURS, EAGER, COMPILED = "step", "spikingjelly", "spikingjelly, torch.compile"
PLAIN = "step, plain"
"""Ours without anything that makes it fast but the fused neurons: dense products, norms by themselves."""


@dataclass(frozen=True)
class Case:
    """One network that both have.

    Attributes
    ----------
    model : str
    options : mapping
    make : callable
        Ours to SpikingJelly's.
    """

    model: str
    options: Mapping[str, Any]
    make: Callable[[Any], nn.Module]


_CURRENTS = {"name": "sps", "pooling": "currents"}
CASES: dict[str, Case] = {
    "spikformer-4-384": Case("spikformer", {"size": "cifar-4-384", "embedding": _CURRENTS}, theirs.spikformer),
    "sdt-2-512": Case("sdt", {"size": "cifar-2-512"}, theirs.spike_driven_transformer),
    "qkformer-4-384": Case(
        "qkformer", {"image_size": 128, "form": "imagenet", "depths": (1, 1, 2), "dim": 384, "heads": 8},
        theirs.qkformer,
    ),
    "maxformer-4-384": Case("maxformer", {"size": "cifar-4-384"}, theirs.maxformer),
}  # fmt: skip
"""CIFAR-10 sizes. SpikingJelly has QKFormer for ImageNet only: both get images of 128 pixels, which give the grids
of tokens that the CIFAR form has at 32."""


class Contestant:
    """One implementation, ready to be called on images [B, C, H, W].

    Parameters
    ----------
    network : nn.Module
    sequence : bool
        Whether it takes [T, B, C, H, W] and keeps no state (ours), or images, and must be reset (SpikingJelly's).
    call : callable, optional
        What to call in place of the network, for instance its compiled form.
    inference : callable, optional
        What to call in inference.
    """

    def __init__(
        self,
        network: nn.Module,
        sequence: bool,
        call: Callable[[Tensor], Tensor] | None = None,
        inference: Callable[[], Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        self.network, self.sequence = network, sequence
        self.call = network if call is None else call
        self.prepare = inference
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=1e-6)
        self._fast: Callable[[Tensor], Tensor] | None = None

    def outputs(self, call: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Return the scores, averaged over time."""
        if self.sequence:
            return call(images.expand(T, *images.shape)).mean(0)
        from spikingjelly.activation_based import functional

        functional.reset_net(self.network)
        scores = call(images)
        return scores.mean(0) if scores.dim() == 3 else scores

    def train(self, images: Tensor, labels: Tensor) -> None:
        """Take one training step."""
        self.network.train()
        self._fast = None
        self.optimiser.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(self.outputs(self.call, images), labels).backward()
        self.optimiser.step()

    @torch.no_grad()
    def infer(self, images: Tensor) -> Tensor:
        """Return the scores in eval mode."""
        if self._fast is None:
            self.network.eval()
            self._fast = self.call if self.prepare is None else self.prepare()
        return self.outputs(self._fast, images)


def contestants(
    case: Case, create: Create, names: Sequence[str], seed: int = 0, device: str = "cpu"
) -> dict[str, Contestant]:
    """Return the implementations of one network, all with the same weights."""
    ours = create(case.model, neuron=LIF, seed=seed, **case.options)
    calibrate(ours, seed)
    ours = ours.to(device, memory_format=torch.channels_last)
    made: dict[str, Contestant] = {}
    for name in names:
        if name == OURS:
            network = copy.deepcopy(ours)
            made[name] = Contestant(network, True, inference=network.folded)
        elif name == PLAIN:
            network = copy.deepcopy(ours)
            made[name] = Contestant(network, True, call=_plainly(network))
        elif name == EAGER:
            made[name] = Contestant(case.make(ours).to(device), False)
        elif name == COMPILED:
            torch.compiler.reset()
            network = case.make(ours).to(device)
            made[name] = Contestant(network, False, call=torch.compile(network))
        else:
            raise OptionError(f"there is no implementation {name!r}{suggest(name, [OURS, PLAIN, EAGER, COMPILED])}")
    return made


def disagreement(case: Case, create: Create, name: str) -> float:
    """Return the largest difference of an implementation's outputs to those of ours in float64, in deviations."""
    if name == COMPILED:  # the same network as EAGER, and minutes of compilation in another type
        return disagreement(case, create, EAGER)
    runs = contestants(case, create, [PLAIN, name])
    answers = []
    for run in runs.values():
        run.network.double()
        answers.append(run.infer(images_of(run.network if run.sequence else runs[PLAIN].network, 2, 7).double()))
    return float((answers[0] - answers[-1]).abs().max() / answers[0].std())


def _plainly(network: Any) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        with plain():
            return network(x)  # type: ignore[no-any-return]

    return call


def calibrate(network: Any, seed: int) -> None:
    """Set the running statistics of the norms to means over passes of random images."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # a plain mean
    network.train()
    with torch.no_grad():
        for number in range(4):
            x = images_of(network, 8, seed + number)
            network(x.expand(T, *x.shape))
    for norm in norms:
        norm.momentum = 0.1


def images_of(network: Any, batch: int, seed: int) -> Tensor:
    """Return random images [B, C, H, W] in [0, 1] with some structure: noise at a quarter of the size, enlarged."""
    c = network.config
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(batch, c.channels, max(c.image_size // 4, 1), max(c.image_size // 4, 1), generator=generator)
    large = nn.functional.interpolate(small, size=(c.image_size, c.image_size), mode="bilinear")
    return large.contiguous(memory_format=torch.channels_last)


def sizes(case: Case, create: Create) -> Any:
    with torch.device("meta"):
        return create(case.model, neuron=LIF, **case.options)


def firing_rate(network: nn.Module, images: Tensor) -> float:
    """Return the share of non-zero outputs of all neurons in inference."""
    counts = [0, 0]

    def count(module: nn.Module, inputs: object, output: Tensor) -> None:
        counts[0] += int(output.count_nonzero())
        counts[1] += output.numel()

    handles = [neuron.register_forward_hook(count) for _, neuron in neurons_in(network)]
    try:
        network.eval()
        with torch.no_grad():
            network(images.expand(T, *images.shape))
    finally:
        for handle in handles:
            handle.remove()
    return counts[0] / counts[1]
