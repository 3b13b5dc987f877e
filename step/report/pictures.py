"""Small pictures side by side: samples, and maps laid over them.

An image stands once in the page and is referred to, so that many maps over it cost little; a map keeps its own few
pixels and is enlarged by the browser, without smoothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from step.report.html import Markup, element, join
from step.report.samples import image_uri, png_uri
from step.report.units import MINUS

if TYPE_CHECKING:
    import numpy as np

_POSITIVE, _NEGATIVE = (213, 94, 0), (0, 114, 178)  # vermillion and blue of Okabe and Ito
_OPACITY = 0.85
_STRIP = (120, 30)  # size at which a row of tokens is drawn, for which no image is there


class Album:
    """The images of some samples, under names that no other album of the page has.

    Parameters
    ----------
    name : str
    images : numpy.ndarray or None, shape [K, C, H, W]
        In [0, 1]; None where the input is no image.
    """

    def __init__(self, name: str, images: np.ndarray | None) -> None:
        self.name = name
        self.images = images
        self.size = _STRIP if images is None else (int(images.shape[-1]), int(images.shape[-2]))

    def kept(self) -> Markup:
        """Return the images themselves, not shown; they must stand on the page once."""
        if self.images is None:
            return Markup("")
        images = [
            # a picture of its own: what refers to it takes its attributes along, but no rule of a style sheet
            element("image", id=f"{self.name}-{k}", href=image_uri(image), image_rendering="pixelated", **self._whole())
            for k, image in enumerate(self.images)
        ]
        return element("svg", element("defs", images), class_="kept", aria_hidden="true")

    def image(self, k: int, note: str = "") -> Markup:
        """Return the tile of one sample as it is."""
        return self._tile([self._use(k)], note) if self.images is not None else Markup("")

    def overlay(self, k: int, grid: np.ndarray, note: str, mark: int | None = None) -> Markup:
        """Return a map [h, w] laid over a sample in grey, from transparent at 0 to full colour at its largest value.

        Parameters
        ----------
        k : int
            Which sample.
        grid : numpy.ndarray, shape [h, w]
        note : str
            What stands beneath, before the range of the map.
        mark : int, optional
            Token to frame, row by row.
        """
        parts = [self._use(k, "grey")] if self.images is not None else []
        parts.append(element("image", href=heat_uri(grid), preserveAspectRatio="none", **self._whole()))
        if mark is not None:
            parts.append(self._frame(mark, grid.shape[0], grid.shape[1]))
        return self._tile(parts, note, span(grid))

    def grey(self, grid: np.ndarray, note: str) -> Markup:
        """Return a map of counts [h, w] alone, from black at 0 to white at its largest value."""
        uri = image_uri(grid / max(float(grid.max()), 1e-12))
        return self._tile([element("image", href=uri, preserveAspectRatio="none", **self._whole())], note, span(grid))

    def _use(self, k: int, class_: str | None = None) -> Markup:
        return element("use", href=f"#{self.name}-{k}", class_=class_)

    def _frame(self, token: int, rows: int, columns: int) -> Markup:
        width, height = self.size[0] / columns, self.size[1] / rows
        y, x = divmod(token, columns)
        place = {"x": f"{x * width:g}", "y": f"{y * height:g}", "width": f"{width:g}", "height": f"{height:g}"}
        # white around dark, so that the frame is seen on any image
        look = f"fill:none;stroke:#fff;stroke-width:{max(self.size) / 36:.3g};paint-order:stroke"
        inner = f"fill:none;stroke:#111;stroke-width:{max(self.size) / 90:.3g}"
        return join(element("rect", style=look, **place), element("rect", style=inner, **place))

    def _whole(self) -> dict[str, str]:
        return {"width": str(self.size[0]), "height": str(self.size[1])}

    def _tile(self, parts: Iterable[Markup], note: str, more: str = "") -> Markup:
        box = f"0 0 {self.size[0]} {self.size[1]}"
        drawn = element("svg", parts, viewBox=box, role="img", aria_label=note or "input")
        # a path may be folded after its dots
        lines = [element("div", line) for line in (note.replace(".", ".\N{ZERO WIDTH SPACE}"), more) if line]
        return element("div", drawn, lines)


def tiles(title: str, shown: Iterable[Markup]) -> Markup:
    """Return tiles in a row that wraps, under a title."""
    return join(element("h4", title) if title else "", element("div", shown, class_="tiles"))


def heat_uri(grid: np.ndarray) -> str:
    """Return a map [h, w] as a PNG: opacity in proportion to the size of a value, blue where it is negative."""
    import numpy as np

    largest = float(np.abs(grid).max())
    share = np.abs(grid) / largest if largest else np.zeros_like(grid)
    pixels = np.empty((*grid.shape, 4), np.uint8)
    pixels[..., :3] = np.where(grid[..., None] < 0, _NEGATIVE, _POSITIVE)
    pixels[..., 3] = np.round(255 * _OPACITY * share)
    return png_uri(pixels)


def span(grid: np.ndarray) -> str:
    """Return the range of a map, in which 0 always is."""
    low, high = min(0.0, float(grid.min())), max(0.0, float(grid.max()))
    return f"{low:.3g} to {high:.3g}".replace("-", MINUS) if low < high else "0 everywhere"
