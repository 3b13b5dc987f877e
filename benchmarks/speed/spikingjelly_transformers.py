"""SpikingJelly's spiking transformers with the weights of ours, so that both compute the same.

The networks are handed in, not imported: what they are made of is named below. SpikingJelly's linear layers are
convolutions of kernel 1; Q, K and V are one layer of three times the width. Its biases, which the norms behind them
take in anyway, get the values of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_NORM = ("weight", "bias", "running_mean", "running_var")


def spikformer(ours: Any) -> nn.Module:
    """Return SpikingJelly's Spikformer with the weights of ours.

    ``ours`` halves its maps before the neurons (``embedding: {name: sps, pooling: currents}``), as SpikingJelly does.
    """
    from spikingjelly.activation_based.model.spikformer import Spikformer

    c = ours.config
    theirs: Any = Spikformer(
        img_size_h=c.image_size, img_size_w=c.image_size, patch_size=c.image_size // ours.embedding.grid[0],
        in_channels=c.channels, num_classes=c.classes, embed_dims=c.dim, num_heads=c.heads, mlp_ratio=c.mlp_ratio,
        depths=c.depth,
    )  # fmt: skip
    stages = [*theirs.patch_embed.stages, theirs.patch_embed.positional_encoding]
    for stage, their in zip([*ours.embedding.stages, ours.embedding.position], stages, strict=True):
        _copy([_layer(stage)], *their.conv_bn.block[:2])
    for block, their in zip(ours.blocks, theirs.blocks, strict=True):
        a = block.attention
        _copy([_layer(part) for part in (a.query, a.key, a.value)], *their.attn.qkv_conv_bn)
        _copy([_layer(a.project)], *their.attn.proj_conv_bn)
        for layer, name in zip(block.mlp, ("fc1", "fc2"), strict=True):
            _copy([_layer(layer)], *getattr(their.mlp, name))
    return _with_head(theirs, ours)


def spike_driven_transformer(ours: Any) -> nn.Module:
    """Return SpikingJelly's spike-driven transformer with the weights of our ``sdt``, for images halved twice.

    Theirs hides the reset from the gradient in its attentions only; it gets ``detach_reset`` for all neurons, as ours.
    """
    from spikingjelly.activation_based.model.spike_driven_transformer import SpikeDrivenTransformer

    c = ours.config
    theirs: Any = SpikeDrivenTransformer(
        in_channels=c.channels, num_classes=c.classes, embed_dims=c.dim, num_heads=c.heads, depths=c.depth,
        mlp_ratio=c.mlp_ratio, pooling_stat="0011", detach_reset=True,
    )  # fmt: skip
    embedding = theirs.patch_embed
    for stage, their in zip(ours.embedding.stages, [*embedding.stages, embedding.final_stage], strict=True):
        _copy([_layer(stage)], their[0], their[1])
    _copy([_layer(ours.embedding.position)], embedding.rpe_conv, embedding.rpe_bn)
    for block, their in zip(ours.blocks, theirs.blocks, strict=True):
        for name, part in {"q": "query", "k": "key", "v": "value", "proj": "project"}.items():
            layer = _layer(getattr(block.attention, part))
            _copy([layer], getattr(their.attn, f"{name}_conv"), getattr(their.attn, f"{name}_bn"))
        for number, layer in enumerate(_layers(block.mlp), start=1):
            _copy([layer], getattr(their.mlp, f"fc{number}"), getattr(their.mlp, f"bn{number}"))
    return _with_head(theirs, ours)


def qkformer(ours: Any) -> nn.Module:
    """Return SpikingJelly's QKFormer with the weights of ours, in the form for ImageNet.

    Theirs hides the reset from the gradient in its attentions only; it gets ``detach_reset`` for all neurons, as ours.
    """
    from spikingjelly.activation_based.model.qkformer import QKFormer

    c = ours.config
    theirs: Any = QKFormer(
        in_channels=c.channels, num_classes=c.classes, embed_dims=c.dim, num_heads=c.heads_by_stage, depths=c.depths,
        mlp_ratio=c.mlp_ratio, detach_reset=True,
    )  # fmt: skip
    for number, stage in enumerate(ours.stages, start=1):
        embedding, blocks = getattr(theirs, f"patch_embed{number}"), getattr(theirs, f"stage{number}")
        *own, shortcut = _layers(stage.embedding)
        for index, layer in enumerate(own, start=1):
            _copy([layer], getattr(embedding, f"conv{index}"), getattr(embedding, f"bn{index}"))
        _copy([shortcut], *embedding.shortcut[:2])
        for block, their in zip(stage.blocks, blocks, strict=True):
            a = block.attention
            parts = [a.query, a.key] if number < 3 else [a.query, a.key, a.value]
            target = their.attn.qk_conv_bn if number < 3 else their.attn.qkv_conv_bn
            _copy([_layer(part) for part in parts], *target)
            _copy([_layer(a.project)], *their.attn.proj_conv_bn)
            for index, layer in enumerate(_layers(block.mlp), start=1):
                _copy([layer], getattr(their.mlp, f"fc{index}"), getattr(their.mlp, f"bn{index}"))
    return _with_head(theirs, ours)


def maxformer(ours: Any) -> nn.Module:
    """Return SpikingJelly's Max-Former with the weights of ours, in the form for small images and with 8 heads."""
    from spikingjelly.activation_based.model.maxformer import MaxFormer

    c = ours.config
    theirs: Any = MaxFormer(
        in_channels=c.channels, num_classes=c.classes, embed_dims=c.dim, depths=c.depths, mlp_ratio=c.mlp_ratio,
        cifar=True,
    )  # fmt: skip
    for number, stage in enumerate(ours.stages, start=1):
        embedding, blocks = getattr(theirs, f"patch_embed{number}"), getattr(theirs, f"stage{number}")
        if number == 1:
            targets = [(embedding.conv, embedding.bn), tuple(embedding.branch[1:]), tuple(embedding.shortcut[1:])]
        else:
            targets = [
                (embedding.conv1, embedding.bn1), (embedding.conv2, embedding.bn2), tuple(embedding.shortcut[:2]),
            ]  # fmt: skip
        for layer, target in zip(_layers(stage.embedding), targets, strict=True):
            _copy([layer], *target)
        for block, their in zip(stage.blocks, blocks, strict=True):
            if number == 2:
                _copy([_layer(block.attention)], their.dwconv, their.bn)
            elif number == 3:
                a = block.attention
                _copy([_layer(part) for part in (a.query, a.key, a.value)], *their.attn.qkv)
                _copy([_layer(a.project)], *their.attn.proj)
            perceptron = their if number == 1 else their.mlp
            for index, layer in enumerate(_layers(block.mlp), start=1):
                _copy([layer], getattr(perceptron, f"fc{index}"), getattr(perceptron, f"bn{index}"))
    return _with_head(theirs, ours)


def _layers(module: nn.Module) -> list[Any]:
    """Return the layers with a norm inside a module, in order."""
    return [part for part in module.modules() if hasattr(part, "norm") and (hasattr(part, "conv") or _linear(part))]


def _linear(module: nn.Module) -> bool:
    return isinstance(getattr(module, "linear", None), nn.Linear)


def _layer(module: nn.Module) -> Any:
    (layer,) = _layers(module)
    return layer


@torch.no_grad()
def _copy(layers: Sequence[Any], product: nn.Module, norm: nn.Module) -> None:
    """Copy weights and norms of our layers, one behind the other along the outputs, into one of SpikingJelly's."""
    own = [layer.linear if _linear(layer) else layer.conv for layer in layers]
    weight = torch.cat([each.weight for each in own])
    to: Tensor = product.weight  # type: ignore[assignment]
    to.copy_(weight.view(to.shape))
    biases = [each.bias for each in own]
    held: Tensor | None = product.bias  # type: ignore[assignment]
    if held is not None:
        held.copy_(torch.cat(biases) if biases[0] is not None else torch.zeros_like(held))
    for name in _NORM:
        getattr(norm, name).copy_(torch.cat([getattr(layer.norm, name) for layer in layers]))
    if held is None and biases[0] is not None:  # what ours adds before the norm, theirs takes off its mean
        mean: Tensor = norm.running_mean  # type: ignore[assignment]
        mean -= torch.cat(biases)


@torch.no_grad()
def _with_head(theirs: Any, ours: Any) -> nn.Module:
    theirs.head.weight.copy_(ours.head.linear.weight)
    theirs.head.bias.copy_(ours.head.linear.bias)
    return theirs  # type: ignore[no-any-return]
