"""The learning rule of VPRTempo and LENS: layers of amplitudes that learn image by image.

One spike for each input and image; its time within a cycle is stood for by an amplitude in [0, 1]. So a layer is
updated once for each image, and there is no loop over time steps. The rule is online: every image changes the weights
that the next one meets, so images cannot be taken together in a minibatch. What can be done at once are modules that
do not hear each other: :func:`train` takes a stack of them. :func:`train_plainly` is the same for one module, written
as the rule is read.

Hines et al., ICRA 2024 (VPRTempo); Hines et al., Science Robotics 2025 (LENS).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

SMALLEST, LARGEST = 1e-6, 10.0
"""Bounds of the magnitude of a weight (VPRTempo 1.1)."""

FORCED = 0.5
"""Amplitude that an output neuron is to have for its own place, and that learning pulls features to."""

HOMEOSTASIS = 50.0
"""How much faster than the other weights inhibitory ones are scaled by the net input (VPRTempo 1.1)."""

BLOCK = 400_000
"""Weights that are trained at once: with their bounds and changes they stay in the cache of a processor."""


@dataclass(frozen=True)
class Rule:
    """How one layer is drawn and learns.

    Attributes
    ----------
    excitatory, inhibitory : float
        Probability of a connection of that kind.
    rate : float
        Learning rate of weights, eta.
    threshold_rate : float
        Learning rate of thresholds, eta_ITP.
    thresholds : tuple of float
        Range from which thresholds are drawn.
    targets : tuple of float, optional
        Range over which the target firing f is spread: low + (high - low) (j + 1) / n for neuron j of n. None for an
        output layer, whose neurons are told what to fire.
    ceiling : float
        Largest amplitude.
    constant : float
        Constant input C.
    clipped_error : bool
        Output layers: whether the error is clipped to [0, 1], so that weights only rise (LENS).
    over_target : bool
        Whether the learning rate is divided by the target firing: of the neuron itself, or, in an output layer, of
        the feature neuron before it.
    lowest : float
        Bound of thresholds from below; 0 as published, less where plasticity may make neurons more excitable.
    defect : bool
        Whether thresholds see an activity of 0 (VPRTempo from 1.1.0, LENS), which drives every one of them to 0.
    separate : bool
        Whether an excitatory and an inhibitory synapse between the same two neurons are two while they learn
        (VPRTempo 1.0.0), or one with the sum of both.
    refresh : int
        Images after which the learning rates are annealed again.
    """

    excitatory: float = 1.0
    inhibitory: float = 1.0
    rate: float = 0.005
    threshold_rate: float = 0.0
    thresholds: tuple[float, float] = (0.0, 0.0)
    targets: tuple[float, float] | None = None
    ceiling: float = 0.9
    constant: float = 0.0
    clipped_error: bool = False
    over_target: bool = False
    lowest: float = 0.0
    defect: bool = False
    separate: bool = False
    refresh: int = 100

    def firing(self, neurons: int) -> Tensor | None:
        """Return the target firing of ``neurons`` neurons, or None for an output layer."""
        if self.targets is None:
            return None
        low, high = self.targets
        return low + (high - low) * torch.arange(1, neurons + 1) / neurons

    def lines(self, x: Tensor) -> Tensor:
        """Return inputs [..., inputs] once for each kind of synapse that learns on its own, [..., kinds inputs]."""
        return torch.cat([x, x], dim=-1) if self.separate else x

    def annealed(self, step: int, steps: int) -> float:
        """Return the share of the learning rates that is left at image ``step`` of ``steps``."""
        return (1.0 - (step - step % self.refresh) / steps) ** 2


class Layer(NamedTuple):
    """Weights [..., outputs, inputs], inhibitory ones negative, and thresholds [..., outputs]; modules in front."""

    weight: Tensor
    threshold: Tensor


def drawn(rule: Rule, inputs: int, outputs: int, generator: torch.Generator) -> Layer:
    """Draw a layer: rectified Gaussian weights around the centre of their range, L1 norm 1 for each neuron and kind.

    A synapse that is drawn as excitatory and as inhibitory is one with the sum of both, or, where the rule keeps them
    separate, two: the layer then has 2 x inputs columns, until :func:`merged` makes it an ordinary one.
    """
    kinds = []
    for sign, probability in ((1.0, rule.excitatory), (-1.0, rule.inhibitory)):
        size = (0.5 + torch.randn(outputs, inputs, generator=generator) / 6.0).clamp(min=0.0)
        size *= torch.rand(outputs, inputs, generator=generator) < probability
        kinds.append(sign * size / size.sum(1, keepdim=True).clamp(min=1e-12))
    low, high = rule.thresholds
    threshold = low + (high - low) * torch.rand(outputs, generator=generator)
    return Layer(torch.cat(kinds, dim=1) if rule.separate else kinds[0] + kinds[1], threshold)


def merged(layer: Layer, rule: Rule) -> Layer:
    """Return a layer with one synapse between two neurons."""
    if not rule.separate:
        return layer
    excitatory, inhibitory = layer.weight.chunk(2, dim=-1)
    return Layer(excitatory + inhibitory, layer.threshold)


def amplitudes(layer: Layer, rule: Rule, x: Tensor) -> Tensor:
    """Return the clamped amplitudes [..., B, outputs] of a layer for inputs [..., B, inputs]."""
    net = x @ layer.weight.mT
    return (net + (rule.constant - layer.threshold).unsqueeze(-2)).clamp(0.0, rule.ceiling)


def train_plainly(layer: Layer, rule: Rule, x: Tensor, order: Tensor, labels: Tensor, before: Tensor | None) -> Layer:
    """Return a layer after learning, written as the rule is read: what :func:`train` is tested against.

    Parameters
    ----------
    layer : Layer
        Of one module, as it was drawn.
    rule : Rule
    x : Tensor, shape [images, inputs]
    order : Tensor of int64, shape [steps]
        The images in the order in which they are seen.
    labels : Tensor of int64, shape [images]
        The output neuron of each image; unused by feature layers.
    before : Tensor, shape [inputs], optional
        Target firing of the inputs of an output layer, where the learning rate is divided by it.
    """
    weight, threshold = layer.weight.clone(), layer.threshold.clone()
    excitatory, inhibitory = weight > 0, weight < 0
    firing = rule.firing(len(weight))
    steps = len(order)
    x, before = rule.lines(x), None if before is None else rule.lines(before)
    for step, image in enumerate(order.tolist()):
        share = rule.annealed(step, steps)
        rate, threshold_rate = rule.rate * share, rule.threshold_rate * share
        pre = x[image]
        net = weight @ pre + rule.constant
        post = (net - threshold).clamp(0.0, rule.ceiling)
        if firing is None:
            error = -post
            error[labels[image]] += FORCED
            if rule.clipped_error:
                error = error.clamp(0.0, 1.0)
            scaled = pre if before is None else pre / before
            weight += rate * torch.outer(error, scaled) * (excitatory | inhibitory)
        else:
            towards = (FORCED - post) * (post > 0)
            if rule.over_target:
                towards = towards / firing.to(post.dtype)
            change = rate * torch.outer(towards, (pre > 0).to(pre.dtype))
            weight = weight + change * excitatory - change * inhibitory
        weight = torch.where(excitatory, weight.clamp(SMALLEST, LARGEST), weight)
        weight = torch.where(inhibitory, weight.clamp(-LARGEST, -SMALLEST), weight)
        if firing is not None:
            activity = torch.zeros_like(post) if rule.defect else post
            threshold = (threshold + threshold_rate * (activity - firing.to(post.dtype))).clamp(min=rule.lowest)
        homeostasis = (rate * HOMEOSTASIS * net).unsqueeze(1)
        weight = torch.where(weight < 0, weight + weight * homeostasis, weight)
    return Layer(weight, threshold)


def train(
    layer: Layer,
    rule: Rule,
    x: Tensor,
    order: Tensor,
    labels: Tensor,
    before: Tensor | None,
    seen: Callable[[float], None] = lambda images: None,
) -> Layer:
    """Return layers of several modules after learning; all modules see one image of theirs at a time.

    No neuron of a layer hears another one, so they are taken in blocks that fit into the cache of a processor, and
    each block sees all images before the next one begins.

    Parameters
    ----------
    layer : Layer
        Weights [modules, outputs, inputs], thresholds [modules, outputs].
    rule : Rule
    x : Tensor, shape [modules, images, inputs]
    order : Tensor of int64, shape [modules, steps]
    labels : Tensor of int64, shape [images]
    before : Tensor, shape [inputs], optional
        See :func:`train_plainly`.
    seen : callable
        Called now and then with the number of images that were seen since.
    """
    modules, outputs, inputs = layer.weight.shape
    x, before = rule.lines(x), None if before is None else rule.lines(before)
    size = max(1, BLOCK // (modules * inputs))
    neurons = torch.arange(outputs).split(size)
    # in the order in which they are seen: [steps, modules, ...]
    which = order.T
    told = labels[which] if rule.targets is None else None
    weights, thresholds = [], []
    for block in neurons:
        weight, threshold = layer.weight[:, block], layer.threshold[:, block]
        if told is not None:
            scaled = x if before is None else x / before.to(x.dtype)
            weight = _told(weight, threshold, rule, x, scaled, which, told, block, lambda n: seen(n / len(neurons)))
        else:
            firing = rule.firing(outputs)
            assert firing is not None
            target = firing[block].to(weight.dtype)
            weight, threshold = _alone(weight, threshold, rule, x, which, target, lambda n: seen(n / len(neurons)))
        weights.append(weight)
        thresholds.append(threshold)
    return Layer(torch.cat(weights, dim=1), torch.cat(thresholds, dim=1))


def _alone(
    weight: Tensor, threshold: Tensor, rule: Rule, x: Tensor, which: Tensor, firing: Tensor,
    seen: Callable[[int], None],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return weights and thresholds of features, which learn by what they fire themselves."""
    weight, threshold = weight.clone(), threshold.clone()
    sign, (low, high) = weight.sign(), _bounds(weight)
    fired = (x > 0).to(x.dtype)
    modules, steps = torch.arange(len(weight)), len(which)
    for step, images in enumerate(which):
        if step and step % rule.refresh == 0:
            seen(rule.refresh)
        share = rule.annealed(step, steps)
        rate, threshold_rate = rule.rate * share, rule.threshold_rate * share
        net = torch.bmm(weight, x[modules, images].unsqueeze(2)).squeeze(2).add_(rule.constant)
        post = (net - threshold).clamp_(0.0, rule.ceiling)
        towards = (FORCED - post).mul_(post > 0)
        if rule.over_target:
            towards /= firing
        change = torch.bmm(towards.unsqueeze(2), fired[modules, images].unsqueeze(1))
        weight.addcmul_(sign, change, value=rate)
        activity = -firing if rule.defect else post - firing
        threshold.add_(activity, alpha=threshold_rate).clamp_(min=rule.lowest)
        torch.clamp(weight, low, high, out=weight)
        weight.addcmul_(weight.clamp(max=0.0), net.unsqueeze(2), value=rate * HOMEOSTASIS)
    return weight, threshold


def _told(
    weight: Tensor, threshold: Tensor, rule: Rule, x: Tensor, scaled: Tensor, which: Tensor, told: Tensor,
    block: Tensor, seen: Callable[[int], None],
) -> Tensor:  # fmt: skip
    """Return weights of outputs, each of which is told when to fire: neuron ``block[j]`` for its own place."""
    weight = weight.clone()
    low, high = _bounds(weight)
    modules, steps = torch.arange(len(weight)), len(which)
    for step, images in enumerate(which):
        if step and step % rule.refresh == 0:
            seen(rule.refresh)
        rate = rule.rate * rule.annealed(step, steps)
        net = torch.bmm(weight, x[modules, images].unsqueeze(2)).squeeze(2).add_(rule.constant)
        post = (net - threshold).clamp_(0.0, rule.ceiling)
        error = (told[step].unsqueeze(1) == block).to(post.dtype).mul_(FORCED).sub_(post)
        if rule.clipped_error:
            error.clamp_(0.0, 1.0)
        weight.baddbmm_(error.unsqueeze(2), scaled[modules, images].unsqueeze(1), alpha=rate)
        torch.clamp(weight, low, high, out=weight)
        weight.addcmul_(weight.clamp(max=0.0), net.unsqueeze(2), value=rate * HOMEOSTASIS)
    return weight


def _bounds(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bounds of weights by their sign; both are 0 where there is no synapse, which so stays away."""
    low = torch.zeros_like(weight).masked_fill_(weight > 0, SMALLEST).masked_fill_(weight < 0, -LARGEST)
    high = torch.zeros_like(weight).masked_fill_(weight > 0, LARGEST).masked_fill_(weight < 0, -SMALLEST)
    return low, high


def stacked(layers: list[Layer]) -> Layer:
    """Return layers of equal size as one with the modules in front."""
    return Layer(torch.stack([layer.weight for layer in layers]), torch.stack([layer.threshold for layer in layers]))
