"""What ``step list models`` shows: papers, sizes, parameters, and what was published about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neurons.errors import StepError

if TYPE_CHECKING:
    import pandas as pd

    from step.models import Network
    from step.models.paper import Published

DATASETS = ("CIFAR-10", "CIFAR-100", "ImageNet")
"""Data sets whose published accuracies stand in the overview."""

OWN_PAPER = "its paper"

CAVEAT = (
    "Accuracies are top-1 as others published them, with their own data, recipes and seeds. None was measured by STEP, "
    "and none belongs beside a result of STEP."
)


def parameters(name: str, size: str | None = None) -> int | None:
    """Return the number of learned values of a model, or None where it cannot be made without options.

    The network is made without memory for its weights, of lif neurons, a conventional one of gelu.
    """
    import torch

    from step import models

    options: dict[str, Any] = {} if size is None else {"size": size}
    try:
        with torch.device("meta"):
            return models.create(name, neuron=_neuron(_kind(name)), **options).parameter_count
    except StepError:
        return None


def _kind(name: str) -> type[Network]:
    from step import models

    return models.models.get(name)  # type: ignore[return-value]


def _neuron(kind: type[Network]) -> str:
    return "gelu" if kind.conventional else "lif"


def reference_size(name: str) -> str | None:
    """Return the name of the size that a model has when no option is given; None where it has no name."""
    config = _kind(name).Config
    try:
        return next((size for size in config.SIZES if config(size=size) == config()), None)  # type: ignore[call-arg]
    except ValueError:  # a model of a plugin that has no defaults
        return None


def overview() -> pd.DataFrame:
    """Return one row for each model.

    Its paper, the size that it has without options with its parameters, the accuracies published for that size on
    CIFAR-10 and CIFAR-100, and the best one published for a size of ImageNet that is here; ``by_others`` names the data
    sets whose figure is not printed in the model's own paper.
    """
    import pandas as pd

    from step import models

    rows = []
    for name in models.names():
        paper, size = _kind(name).paper, reference_size(name)
        found = {data: _figure(name, data, size) for data in DATASETS}
        best = found["ImageNet"]
        rows.append(
            {
                "model": name,
                "title": paper and paper.title,
                "venue": paper and paper.venue,
                "year": paper and paper.year,
                "link": paper and paper.link,
                "size": size,
                "parameters": parameters(name),
                **{data: figure and figure.accuracy for data, figure in found.items()},
                "ImageNet size": best and best.size,
                "by_others": ", ".join(data for data, figure in found.items() if figure and figure.source),
            }
        )
    return pd.DataFrame(rows).astype({"year": "Int64", "parameters": "Int64", **dict.fromkeys(DATASETS, "Float64")})


def _figure(name: str, data: str, size: str | None) -> Published | None:
    kind = _kind(name)
    sizes = list(kind.Config.SIZES) if data == "ImageNet" else [size]
    found = [each for each in (kind.paper.published if kind.paper else ()) if each.dataset == data]
    return max((each for each in found if each.size in sizes), key=lambda each: each.accuracy, default=None)


def overview_shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the overview for the terminal: one line for each model; ``*``: not printed in the model's own paper."""
    import pandas as pd

    from step.report.units import format_count

    def figure(row: dict[str, Any], data: str) -> str | None:
        if pd.isna(row[data]):
            return None
        size = f" ({row['ImageNet size'].removeprefix('imagenet-')})" if data == "ImageNet" else ""
        return f"{row[data]}{size}{' *' * (data in row['by_others'].split(', '))}"

    rows: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    shown = frame[["model", "venue", "year", "size"]].copy()
    shown["year"] = [None if pd.isna(year) else str(year) for year in frame["year"]]
    shown["parameters"] = [None if pd.isna(row["parameters"]) else format_count(row["parameters"]) for row in rows]
    for data in ("CIFAR-10", "ImageNet"):
        shown[data] = [figure(row, data) for row in rows]
    return shown


def sizes(name: str) -> pd.DataFrame:
    """Return the sizes of a model and every figure published for it, one row for each pair.

    A figure whose size is not here has no parameters of ours; a size without figures stands alone.

    Raises
    ------
    UnknownNameError
        With the nearest known names.
    """
    import pandas as pd

    kind = _kind(name)
    published = kind.paper.published if kind.paper else ()
    here: list[str | None] = [*kind.Config.SIZES] or [None]
    rows = []
    for size in [*here, *dict.fromkeys(each.size for each in published if each.size not in here)]:
        own: dict[str, object] = {"size": size, "image": None, "parameters": None}
        if size in here:
            own |= {"image": _image(kind, size), "parameters": parameters(name, size)}
        figures: list[Published | None] = [each for each in published if each.size == size]
        rows += [{**own, **_published(figure)} for figure in figures or [None]]
    types = {"parameters": "Int64", "published M": "Float64", "accuracy": "Float64", "T": "Int64"}
    return pd.DataFrame(rows).astype(types)


def sizes_shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the sizes for the terminal, without columns that say nothing."""
    import pandas as pd

    shown = frame.copy()
    for column, unit in (("accuracy", "%"), ("published M", "M")):
        shown[column] = [None if pd.isna(value) else f"{value} {unit}" for value in frame[column]]
    if not (frame["published by"].dropna() != OWN_PAPER).any():
        shown = shown.drop(columns="published by")
    return shown.dropna(axis="columns", how="all")


def _image(kind: type[Network], size: str | None) -> str | None:
    from step.models.sequence.base import SequenceConfig

    if issubclass(kind.Config, SequenceConfig):  # made for sequences of whatever the data hold
        return None
    try:
        config = kind.Config(**({} if size is None else {"size": size}))
    except ValueError:
        return None
    side, channels = (getattr(config, field, None) for field in ("image_size", "channels"))
    return None if side is None or channels is None else f"{side}x{side}x{channels}"


def _published(figure: Published | None) -> dict[str, object]:
    if figure is None:
        return dict.fromkeys(("published M", "data set", "accuracy", "T", "published by"))
    return {
        "published M": figure.millions,
        "data set": figure.dataset,
        "accuracy": figure.accuracy,
        "T": figure.T,
        "published by": figure.source or OWN_PAPER,
    }
