"""Where a model comes from and what was published about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One published accuracy; quoted, never measured here.

    Attributes
    ----------
    size : str
        Name of the size it belongs to, one of ``SIZES`` of the model's config where we have that size.
    dataset : str
    accuracy : float
        Top-1 accuracy in percent.
    T : int or None
        Time steps, where known.
    millions : float or None
        Published number of parameters in millions, where known.
    source : str
        Who published the figure, when it is not the model's own paper.
    """

    size: str
    dataset: str
    accuracy: float
    T: int | None = 4
    millions: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Paper:
    """The paper that a model restates.

    Attributes
    ----------
    title, venue : str
    year : int
    link : str
        arXiv number or DOI.
    published : tuple of Published
    note : str
        Where the model here deviates, or follows the paper against its code.
    """

    title: str
    venue: str
    year: int
    link: str
    published: tuple[Published, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        return f"{self.title}, {self.venue} {self.year}, {self.link}"
