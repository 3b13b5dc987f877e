"""What the attentions of a network attend to, for a few samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neurons.errors import ShapeError
from step.inspection.data import AttentionMap


def attentions_in(network: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that can show how they mix tokens, by path: those with a method ``attention_map``."""
    return {
        name: module for name, module in network.named_modules() if callable(getattr(module, "attention_map", None))
    }


@contextmanager
def keeping_maps(attentions: dict[str, nn.Module]) -> Iterator[dict[str, AttentionMap]]:
    """Fill a dictionary, in the order of execution, with the maps of one forward pass that runs inside."""
    found: dict[str, AttentionMap] = {}
    busy = False

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            nonlocal busy
            # an attention made of attentions may run them to make its map: those runs are not of the network
            if busy or name in found:
                return
            busy = True
            try:
                show: Any = module.attention_map
                maps = show(inputs[0])
            finally:
                busy = False
            if maps is not None:
                found[name] = _reduced(name, module, maps)

        return keep

    handles = [module.register_forward_pre_hook(hook(name)) for name, module in attentions.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _reduced(name: str, module: nn.Module, maps: Tensor) -> AttentionMap:
    """Average maps [T, K, heads, N or 1, N] over time, and over the tokens that ask."""
    if maps.dim() != 5:
        raise ShapeError(f"attention_map of {name!r} must be [T, B, heads, N, N], not {list(maps.shape)}")
    mean = maps.detach().float().mean(0)
    asking, heard = mean.shape[-2:]
    grid = grid_of(getattr(module, "grid", None), heard)
    # one weight for each token has no row for a token that asks; of other shapes no row could be placed on the image
    queries = middle_first(grid) if asking == heard > 1 else ()
    return AttentionMap(
        name=name,
        kind=type(module).__name__,
        grid=grid,
        received=mean.mean(-2).cpu().numpy(),
        queries=queries,
        rows=mean[:, :, list(queries)].cpu().numpy(),
    )


def grid_of(grid: tuple[int, int] | None, tokens: int) -> tuple[int, int]:
    """Return height and width of so many tokens: those given, else a square, else a row."""
    if grid is not None and grid[0] * grid[1] == tokens:
        return int(grid[0]), int(grid[1])
    side = math.isqrt(tokens)
    return (side, side) if side * side == tokens else (1, tokens)


def middle_first(grid: tuple[int, int]) -> tuple[int, ...]:
    """Return tokens to ask: that in the middle, then those in the middle of the four quarters; each once."""
    height, width = grid
    places = [(2, 2), (1, 1), (1, 3), (3, 1), (3, 3)]
    return tuple(dict.fromkeys((height * y // 4) * width + width * x // 4 for y, x in places))


def shrunk(maps: Tensor, most: int) -> Tensor:
    """Average maps [..., H, W] over whole blocks of pixels until no side is longer than ``most``."""
    block = math.ceil(max(maps.shape[-2:]) / most)
    if block <= 1:
        return maps
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    small = torch.nn.functional.avg_pool2d(flat, block, ceil_mode=True, count_include_pad=False)
    return small.reshape(*maps.shape[:-2], *small.shape[-2:])
