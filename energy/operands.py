"""What an operand is: spikes, sums of spikes, quantised codes or real numbers, decided from its values."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from energy.record import EVENTS, OPERANDS

_PIECE = 2**16


@dataclass(frozen=True)
class Grid:
    """The values of a tensor are integers times a step: spikes and their sums, or quantised codes.

    Parameters
    ----------
    step : float
        Distance of two neighbouring values.
    top : int
        Largest integer that can occur; sets the bits of codes.
    kind : {"spikes", "codes"}
        Sums of spikes reach a layer as so many events; codes as binary words.
    """

    step: float
    top: int
    kind: Literal["spikes", "codes"]

    def scaled(self, factor: float) -> Grid | None:
        """The grid after multiplication by a constant."""
        factor = abs(factor)
        return Grid(self.step * factor, self.top, self.kind) if factor > 0 and math.isfinite(factor) else None

    def plus(self, other: Grid) -> Grid | None:
        """The grid of a sum: fixed-point alignment to the smaller step; spikes of unequal steps have no common grid."""
        step = min(self.step, other.step)
        same = math.isclose(self.step, other.step, rel_tol=1e-6)
        if "codes" not in (self.kind, other.kind) and not same:
            return None
        top = self.top + other.top if same else math.ceil((self.step * self.top + other.step * other.top) / step)
        return Grid(step, top, "codes" if "codes" in (self.kind, other.kind) else "spikes")

    def times(self, other: Grid, terms: int = 1) -> Grid:
        """The grid of a product, or of a sum of ``terms`` products."""
        kind: Literal["spikes", "codes"] = "codes" if "codes" in (self.kind, other.kind) else "spikes"
        return Grid(self.step * other.step, self.top * other.top * terms, kind)


@dataclass
class Operand:
    """A tensor as an operand: class, bits, and totals over all its values.

    ``nonzero``, ``magnitude`` and ``popcount`` count non-zero values, units of the grid, and one-bits; ``largest`` is
    the largest magnitude. All but the first are NaN for real values.
    """

    kind: str
    bits: int
    step: float
    numel: int
    nonzero: float = 0.0
    magnitude: float = float("nan")
    popcount: float = float("nan")
    largest: float = float("nan")

    @property
    def is_events(self) -> bool:
        return self.kind in EVENTS


@dataclass
class Cell:
    """What is known of values, shared by all views of them: description, spike counts, activity of channels."""

    operand: Operand | None = None
    counts: Tensor | None = None
    active: dict[Any, Tensor] = field(default_factory=dict)


@dataclass
class Tag:
    """What is known of a tensor beside its values.

    ``product`` is the layer whose result it is, norm and bias aside; ``origins`` are the products and neurons that
    its values come from; ``binary`` is what a neuron says of its output, and is looked at before it is believed;
    ``pieces`` lie side by side in its last dimension, where that is known.
    """

    version: int
    grid: Grid | None = None
    floor: str | None = None
    product: str | None = None
    fixed: bool = False
    binary: bool = False
    cell: Cell = field(default_factory=Cell)
    origins: frozenset[str] | None = None
    pieces: tuple[Tensor, ...] = ()


class Tags:
    """Tags of live tensors. A tensor that was changed in place loses its tag."""

    def __init__(self) -> None:
        # By identity, with a reference that tells whether it is still that tensor: a weak dictionary of tensors takes
        # several times as long, and every operand of every operation is looked up.
        self._tags: dict[int, tuple[weakref.ref[Tensor], Tag]] = {}

    def of(self, tensor: Tensor) -> Tag:
        """Return the tag of a tensor; an empty one when nothing is known."""
        known = self._tags.get(id(tensor))
        if known is not None and known[1].version == tensor._version and known[0]() is tensor:
            return known[1]
        return self._set(tensor, Tag(tensor._version))

    def _set(self, tensor: Tensor, tag: Tag) -> Tag:
        name, tags = id(tensor), self._tags
        known = tags.get(name)
        if known is not None and known[0]() is tensor:
            tags[name] = (known[0], tag)
            return tag

        def gone(reference: weakref.ref[Tensor]) -> None:
            found = tags.get(name)
            if found is not None and found[0] is reference:
                del tags[name]

        tags[name] = (weakref.ref(tensor, gone), tag)
        return tag

    def put(
        self,
        tensor: Tensor,
        *,
        grid: Grid | None = None,
        floor: str | None = None,
        product: str | None = None,
        fixed: bool = False,
        binary: bool = False,
        origins: frozenset[str] | None = None,
    ) -> None:
        """Replace the tag of a tensor."""
        self._set(tensor, Tag(tensor._version, grid, floor, product, fixed, binary, origins=origins))

    def follow(self, source: Tensor, target: Tensor) -> None:
        """Tag a view, copy or selection of ``source``; the description is shared where the values are the same."""
        tag = self.of(source)
        cell = tag.cell if source.numel() == target.numel() else Cell()
        self._set(
            target, Tag(target._version, tag.grid, tag.floor, tag.product, tag.fixed, tag.binary, cell, tag.origins)
        )

    def operand(self, tensor: Tensor) -> Operand:
        """Describe a tensor as an operand (once; views share the answer)."""
        tag = self.of(tensor)
        if tag.cell.operand is None:
            tag.cell.operand = (_spikes(tensor) if tag.binary else None) or describe(tensor, tag.grid, tag.floor)
        return tag.cell.operand


def flat(x: Tensor) -> Tensor:
    """Return all values in the order of memory: no copy, however the dimensions are permuted."""
    return x.detach().permute(sorted(range(x.dim()), key=x.stride, reverse=True)).reshape(-1)


def _spikes(x: Tensor) -> Operand | None:
    """Describe what should be zeros and ones; None when it is something else."""
    values = flat(x)
    spikes = float(torch.count_nonzero(values))
    if spikes != float(values.sum()) or (len(values) and float(values.max()) > 1):
        return None
    return Operand("binary", 1, 1.0, x.numel(), spikes, spikes, spikes, float(spikes > 0))


def describe(x: Tensor, grid: Grid | None = None, floor: str | None = None) -> Operand:
    """Classify the values of a tensor and count them."""
    width = x.element_size() * 8
    if x.numel() == 0:
        return Operand("binary", 1, 1.0, 0, 0.0, 0.0, 0.0, 0.0)
    # Pieces that fit the cache: several passes over a piece cost little more than one over the tensor.
    pieces = flat(x).split(_PIECE)
    if floor == "real":
        operand = Operand("real", width, 1.0, x.numel())
    elif grid is not None and grid.kind == "codes":
        operand = Operand("quantised", max(1, math.ceil(math.log2(grid.top + 1))), grid.step, x.numel())
    else:
        step = grid.step if grid is not None else 1.0
        kind, bits = _classify(pieces, step)
        operand = Operand(kind, bits or width, step if kind != "real" else 1.0, x.numel())
    counts: dict[str, float] = {}
    largest = 0.0
    for piece in pieces:
        parts = components(piece, operand)
        for name, values in parts.items():
            counts[name] = counts.get(name, 0.0) + float(values.sum())
        if operand.kind in ("integer", "quantised"):
            largest = max(largest, float(parts["magnitude"].max()))
    operand.nonzero = counts["nonzero"]
    operand.magnitude = counts.get("magnitude", float("nan"))
    operand.popcount = counts.get("popcount", float("nan"))
    if operand.kind != "real":
        operand.largest = largest or float(operand.nonzero > 0)
    return operand


def _classify(pieces: tuple[Tensor, ...], step: float) -> tuple[str, int]:
    """Return class and bits; 0 bits stand for the width of the type."""
    if pieces[0].dtype == torch.bool:
        return "binary", 1
    low = high = 0
    for piece in pieces:
        if piece.is_floating_point() and not _on_grid(piece, step):
            return "real", 0  # most real tensors show it in their first piece
        smallest, largest = (float(bound) / step for bound in torch.aminmax(piece))
        if piece.is_floating_point() and max(-smallest, largest) >= 2 / torch.finfo(piece.dtype).eps:
            return "real", 0  # so large that every float of the type is an integer
        low, high = min(low, round(smallest)), max(high, round(largest))
    if low >= 0 and high <= 1:
        return "binary", 1
    if low >= -1 and high <= 1:
        return "ternary", 2
    return "integer", math.ceil(math.log2(max(high, -low) + 1)) + (low < 0)


def _on_grid(x: Tensor, step: float) -> bool:
    if step != 1.0:
        x = x / step
        return bool(((x - x.round()).abs() < 1e-4).all())
    return torch.equal(x, x.round())


def components(x: Tensor, operand: Operand, bits: bool = True) -> dict[str, Tensor]:
    """Return for each value of ``x`` whether it is non-zero, its magnitude and its one-bits, as float tensors.

    Real values have no magnitude or one-bits in units of a step; the sign of an integer is not a one-bit. Without
    ``bits`` the one-bits, which cost most, are left out.
    """
    if operand.kind == "real":
        return {"nonzero": _nonzero(x)}
    if operand.kind in ("binary", "ternary"):
        scaled = operand.step != 1.0 or operand.kind == "ternary"
        plain = x.dtype in (torch.float32, torch.float64)
        ones = _nonzero(x) if scaled or not plain else x
        return {"nonzero": ones, "magnitude": ones, "popcount": ones}
    codes = (x.float() / operand.step).round().abs() if operand.step != 1.0 else x.float().abs()
    return {"nonzero": _nonzero(codes), "magnitude": codes, **({"popcount": popcount(codes)} if bits else {})}


def popcount(codes: Tensor) -> Tensor:
    """Return the number of one-bits of each non-negative integer, as float32."""
    top = int(codes.max()) if codes.numel() else 0
    words = codes.to(torch.int8 if top < 2**7 else torch.int32 if top < 2**31 else torch.int64)
    bits = torch.zeros_like(words)
    for bit in range(top.bit_length()):
        bits += (words >> bit) & 1
    return bits.float()


def _nonzero(x: Tensor) -> Tensor:
    return torch.ne(x, 0, out=torch.empty_like(x, dtype=torch.float32))


def widest(a: str | None, b: str | None) -> str | None:
    """Return the wider of two operand classes."""
    if a is None or b is None:
        return a or b
    return max(a, b, key=OPERANDS.index)
