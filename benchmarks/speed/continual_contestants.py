"""One training step in the middle of a stream of tasks, done in three ways from the same weights and lateral rows.

*Plain* is the step without any guard against forgetting. *Ours* is Hebbian orthogonal projection by the library:
gradients are projected once, and only the rows of the task at hand are computed with. *Released* restates how the
authors' release does it (Xiao et al., ICLR 2024), from the equations: every row of presynaptic activity is projected
by itself, convolutions are products with unfolded patches, and five Hebbian iterations compute with all lateral rows
on all rows of activity. All have the same network and the same fused neurons; they differ in nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LIF: dict[str, Any] = {
    "name": "lif", "tau": 2.0, "threshold": 0.5, "reset": "soft", "surrogate": {"name": "sigmoid", "alpha": 4.0},
}  # fmt: skip
"""The neuron of the release, v = v / 2 + input with threshold 1, in units of half its potential."""
T = 6
ITERATIONS = 5
MOMENTUM = 0.9
CLIP = 10.0


@dataclass(frozen=True)
class Case:
    """One network in the middle of its stream.

    Attributes
    ----------
    model, size : str
    batch : int
    frozen, new : tuple of int
        Lateral rows of the tasks before and of the task at hand, for each protected layer.
    rates : tuple of float
        Learning rates of the lateral rows.
    some : int
        Rows of activity that are drawn for each layer and batch where lateral weights learn from some only.
    """

    model: str
    size: str
    batch: int
    frozen: tuple[int, ...]
    new: tuple[int, ...]
    rates: tuple[float, ...]
    some: int


CASES: dict[str, Case] = {
    "mlp": Case("mlp", "pmnist", 64, (270, 390, 290), (50, 50, 50), (1e-3, 1e-2, 1e-2), 64),
    "cnn": Case("cnn", "cifar-hlop", 16, (12, 160, 320), (2, 20, 40), (1e-2, 1e-2, 1e-2), 2048),
}
"""The fifth of ten tasks, with the published numbers of rows. The read-out of the convolutional network has rows of
its own for each task and is not protected; its batch is 16 in place of 64, so that all need less than 2 GiB."""


@dataclass(frozen=True)
class Tools:
    """What stands above this package: whoever calls hands it in, as functions that another process can import.

    Attributes
    ----------
    network : callable
        ``step.models.create``.
    subspace : callable
        ``step.learners.continual.subspaces.create``.
    rule : callable
        ``step.learners.continual.rules.create``.
    gradients : callable
        ``step.learners.continual.guarded.guarded_gradients``.
    """

    network: Callable[..., Any]
    subspace: Callable[..., Any]
    rule: Callable[..., Any]
    gradients: Callable[..., Any]


def images_of(case: Case, batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return standardised images [B, C, H, W] of ten classes, each a smooth pattern with noise, and their labels."""
    side, channels = (28, 1) if case.model == "mlp" else (32, 3)
    patterns = torch.randn(10, channels, side // 4, side // 4, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (batch,), generator=generator)
    smooth = F.interpolate(patterns[labels], size=(side, side), mode="bilinear")
    return smooth + 0.5 * torch.randn(smooth.shape, generator=generator), labels


def loss_of(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of outputs [T, B, C], averaged over time, among the first ten."""
    return F.cross_entropy(outputs.mean(0)[:, :10], labels)


def trained(case: Case, tools: Tools, steps: int = 30) -> Any:
    """Return a network after some steps of training, as later tasks find it: norms and single values are frozen."""
    network = tools.network(case.model, size=case.size, neuron=LIF, seed=0)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for number in range(steps):
        images, labels = images_of(case, case.batch, number)
        optimiser.zero_grad()
        loss_of(network(images.expand(T, *images.shape)), labels).backward()
        optimiser.step()
    optimiser.zero_grad()
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.dim() > 1)
    return network.eval()


def protected(case: Case, network: nn.Module) -> dict[str, nn.Module]:
    """Return the protected layers by path, first to last."""
    layers = {path: m for path, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    return dict(list(layers.items())[: len(case.frozen)])


class Lateral:
    """Lateral weights of one layer as the release has them: Oja's subspace rule, in iterations over all rows.

    Parameters
    ----------
    frozen, new : Tensor, shape [F, n] and [K, n]
    rate : float
    """

    def __init__(self, frozen: Tensor, new: Tensor, rate: float) -> None:
        self.rows = torch.cat([frozen, new])
        self.velocity = torch.zeros_like(self.rows)
        self.frozen, self.rate = len(frozen), rate

    @torch.no_grad()
    def project(self, x: Tensor) -> Tensor:
        """Return x [R, n] without its component along the frozen rows."""
        rows = self.rows[: self.frozen]
        return x - (x @ rows.T) @ rows

    @torch.no_grad()
    def learn(self, x: Tensor) -> None:
        """Change the new rows by activity x [R, n]."""
        for _ in range(ITERATIONS):
            y = x @ self.rows.T
            change = (y.T @ (x - y @ self.rows) / len(x)).clamp(-CLIP, CLIP)
            change[: self.frozen] = 0
            self.velocity = MOMENTUM * self.velocity + (1 - MOMENTUM) * change
            self.rows = self.rows + self.rate * self.velocity


class _Product(torch.autograd.Function):
    """W x for patches x [B, n, L], whose gradient for W has other patches in place of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, instead: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(instead, weight)
        return weight.flatten(1) @ x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        instead, weight = ctx.saved_tensors
        below = weight.flatten(1).T @ gradient if ctx.needs_input_grad[0] else None
        return below, None, (gradient @ instead.mT).sum(0).view_as(weight)


class ReleasedLinear(nn.Module):
    """Linear layer whose weight gradient sees projected inputs, and whose lateral rows learn as it runs."""

    def __init__(self, layer: nn.Linear, lateral: Lateral) -> None:
        super().__init__()
        self.weight, self.lateral = layer.weight, lateral

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        y = _Product.apply(rows.T[None], self.lateral.project(rows).T[None], self.weight)[0].T
        self.lateral.learn(rows.detach())
        return y.unflatten(0, x.shape[:-1])


class ReleasedConv2d(nn.Module):
    """Convolution as a product with unfolded patches; else as :class:`ReleasedLinear`."""

    def __init__(self, layer: nn.Conv2d, lateral: Lateral) -> None:
        super().__init__()
        self.weight, self.lateral = layer.weight, lateral
        self.kernel, self.stride, self.padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, self.kernel, padding=self.padding, stride=self.stride)
        rows = patches.detach().mT.flatten(0, 1)
        projected = self.lateral.project(rows).unflatten(0, (len(x), -1)).mT
        y = _Product.apply(patches, projected, self.weight)
        self.lateral.learn(rows)
        return y.unflatten(2, ((x.shape[2] + 2 * self.padding - self.kernel) // self.stride + 1, -1))


class Contestant:
    """One way to take a training step on images [B, C, H, W]; this one without any guard against forgetting.

    Parameters
    ----------
    network : nn.Module
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        self.optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1e-6)

    def train(self, images: Tensor, labels: Tensor) -> None:
        """Take one training step."""
        self.optimiser.zero_grad()
        self.gradients(images, labels)
        self.optimiser.step()

    def gradients(self, images: Tensor, labels: Tensor) -> None:
        """Set the gradients of the weights, and learn from the activity where this way does."""
        loss_of(self.network(images.expand(T, *images.shape)), labels).backward()

    def gradient(self) -> dict[str, Tensor]:
        """Return the gradients that are set, by path."""
        return {path: p.grad for path, p in self.network.named_parameters() if p.grad is not None}

    def rows(self) -> dict[str, Tensor]:
        """Return the lateral rows of the task at hand, by path of their layer."""
        return {}

    def double(self) -> None:
        """Compute in float64 from now on."""
        self.network.double()


class Ours(Contestant):
    """Hebbian orthogonal projection by the library.

    Parameters
    ----------
    network : nn.Module
    layers : mapping of str to nn.Module
        Those that are protected.
    case : Case
    tools : Tools
    count : int, optional
        Rows of activity of each layer and batch that the lateral weights learn from; all when left out.
    """

    def __init__(
        self, network: Any, layers: Mapping[str, nn.Module], case: Case, tools: Tools, count: int | None = None
    ) -> None:
        super().__init__(network)
        self.guarded = tools.gradients
        generator = torch.Generator().manual_seed(0)
        self.rule = tools.rule("bptt", network, layers, rows=count)
        self.subspaces: dict[str, Any] = {}
        for (path, layer), frozen, new, rate in zip(layers.items(), case.frozen, case.new, case.rates, strict=True):
            subspace = tools.subspace("hebbian", layer.weight[0].numel(), generator=generator, eta=rate)  # type: ignore[index, union-attr, operator]
            subspace.grow(frozen)
            subspace.merge()
            subspace.grow(new)
            self.subspaces[path] = subspace

    def gradients(self, images: Tensor, labels: Tensor) -> None:
        x = images.expand(T, *images.shape)
        self.guarded(self.rule, self.subspaces, x, lambda outputs: loss_of(outputs, labels))

    def rows(self) -> dict[str, Tensor]:
        return {path: subspace.fresh for path, subspace in self.subspaces.items()}


class Released(Contestant):
    """The way of the release.

    Parameters
    ----------
    network : nn.Module
        With layers of the release.
    laterals : mapping of str to Lateral
    """

    def __init__(self, network: Any, laterals: Mapping[str, Lateral]) -> None:
        super().__init__(network)
        self.laterals = laterals

    def gradients(self, images: Tensor, labels: Tensor) -> None:
        # The release repeats the images, so that its first layer sees them at every time step.
        loss_of(self.network(images.repeat(T, 1, 1, 1, 1)), labels).backward()

    def rows(self) -> dict[str, Tensor]:
        return {path: lateral.rows[lateral.frozen :] for path, lateral in self.laterals.items()}

    def double(self) -> None:
        super().double()
        for lateral in self.laterals.values():
            lateral.rows, lateral.velocity = lateral.rows.double(), lateral.velocity.double()


def released(ours: Ours, case: Case) -> Released:
    """Return the way of the release with the weights and the lateral rows of ours."""
    network, laterals = copy.deepcopy(ours.network), {}
    for (path, subspace), rate in zip(ours.subspaces.items(), case.rates, strict=True):
        laterals[path] = Lateral(subspace.frozen, subspace.fresh, rate)
        layer = network.get_submodule(path)
        kind = ReleasedConv2d if isinstance(layer, nn.Conv2d) else ReleasedLinear
        network.set_submodule(path, kind(layer, laterals[path]))  # type: ignore[arg-type]
    return Released(network, laterals)
