"""Run a network on test samples and say what its layers did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmarks.protocols import Batches
from neurons import neurons_in
from neurons.errors import DataError, OptionError, ShapeError
from step.inspection.activity import Watch, is_active, is_map, sends_spikes
from step.inspection.answers import answers, class_of
from step.inspection.attention import attentions_in, keeping_maps, shrunk
from step.inspection.data import Inspection, Shown

if TYPE_CHECKING:
    import numpy as np

MAPS = 6
"""Layers on maps that are pictured, evenly chosen."""

LARGEST_IMAGE, LARGEST_MAP = 112, 56
"""Pixels along the longer side above which pictures are averaged down."""


def inspect_probe(network: nn.Module, probe: Batches, images: int = 4) -> Inspection:
    """Inspect a network on test samples; ``images`` of them, evenly over all, are pictured.

    Raises
    ------
    OptionError
        When fewer than no images are asked for.
    """
    if images < 0:
        raise OptionError(f"images must be at least 0, not {images}")
    places = _evenly(probe.samples, images)
    found = inspect_network(network, probe.epoch(), shown=places)
    named = [replace(each, sample=int(probe.indices[each.sample])) for each in found.shown]
    return replace(found, shown=named)


def inspect_network(network: nn.Module, batches: Iterable[Any], *, shown: Sequence[int] = ()) -> Inspection:
    """Count the activity of every neuron layer, batch by batch, and picture a few samples.

    The network runs in eval mode without gradients and gets its training flag back.

    Parameters
    ----------
    network : nn.Module
        Takes [T, B, ...].
    batches : iterable of Tensor, shape [T, B, ...], or of (Tensor, labels)
        All with the same T.
    shown : sequence of int
        Which samples, counted over all batches, are pictured.

    Raises
    ------
    DataError
        Without samples, or when the network has no neurons that ran.
    ShapeError
        When T or the shape of a layer changes between batches, or an attention map has another shape than agreed.
    """
    attentions = attentions_in(network)
    watch = Watch(network, attentions)
    parameter = next(network.parameters(), None)
    kept: dict[int, tuple[Tensor, int | None]] = {}
    samples, T = 0, 0
    with _evaluating(network):
        for batch in batches:
            x, labels = batch if isinstance(batch, (tuple, list)) else (batch, None)
            if T not in (0, len(x)):
                raise ShapeError(f"all batches must have the same number of time steps: {T}, then {len(x)}")
            x = x if parameter is None else x.to(parameter.device)
            with watch.counting():
                network(x)
            for place in shown:
                if samples <= place < samples + x.shape[1]:
                    at = place - samples
                    kept[place] = x[:, at].clone(), class_of(labels, at)
            T, samples = len(x), samples + x.shape[1]
        if not samples:
            raise DataError("no samples to inspect the network on")
        if not watch.layers:
            raise DataError(f"{type(network).__name__} has no spiking neurons and no activations that could be counted")
        left_out = [path for path, neuron in neurons_in(network) if not sends_spikes(neuron)]
        layers = [activity.summary() for activity in watch.layers.values()]
        found = Inspection(layers, samples, T, left_out=left_out)
        return _pictured(found, network, attentions, kept) if kept else found


def _pictured(
    found: Inspection, network: nn.Module, attentions: dict[str, nn.Module], kept: dict[int, tuple[Tensor, int | None]]
) -> Inspection:
    """Run the shown samples once more, now keeping maps."""
    x = torch.stack([sample for sample, _ in kept.values()], 1)
    on_maps = [
        layer.name
        for layer in found.layers
        if is_map(layer.shape, None) and not layer.attention and not _repeated(layer.name, network)
    ]
    chosen = [on_maps[place] for place in _evenly(len(on_maps), MAPS)]
    maps: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable[[Any, tuple[Tensor, ...], Tensor], None]:
        def hook(module: Any, inputs: tuple[Tensor, ...], y: Tensor) -> None:
            # the maps of an attention may run neurons once more: the first run is the network's own
            if name not in maps and y.dim() == 5:
                steps = is_active(y, module).float().sum(0).mean(1)
                maps[name] = shrunk(steps, LARGEST_MAP).cpu().numpy()

        return hook

    modules = dict(network.named_modules())
    handles = [modules[name].register_forward_hook(keep(name)) for name in chosen]
    try:
        with keeping_maps(attentions) as attended:
            outputs = network(x)
    finally:
        for handle in handles:
            handle.remove()
    told = answers(network, outputs)
    shown = [Shown(place, label, answer) for (place, (_, label)), answer in zip(kept.items(), told, strict=True)]
    return replace(
        found, shown=shown, images=_images(x), maps=maps, map_layers=len(on_maps), attention=list(attended.values())
    )


def _images(x: Tensor) -> np.ndarray | None:
    """Return inputs [T, K, C, H, W] as images in [0, 1]; None where they are no maps."""
    if x.dim() != 5:
        return None
    images = shrunk(x.float().mean(0), LARGEST_IMAGE)
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:  # normalised or amplified inputs are shown over their own range
        images = (images - low) / max(high - low, 1e-12)
    return images.cpu().numpy()


def _repeated(name: str, network: nn.Module) -> bool:
    """Whether a layer is the second run of a neuron, which has no module of its own name."""
    return not any(path == name for path, _ in neurons_in(network))


def _evenly(total: int, most: int) -> list[int]:
    count = min(total, most)
    return [round(place * (total - 1) / max(count - 1, 1)) for place in range(count)]


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)
