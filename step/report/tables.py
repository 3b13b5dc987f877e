"""Tables on the terminal and in files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurons.errors import OptionError
from step.report.files import write_atomically
from step.report.units import MINUS, MISSING, TIMES, format_count, format_energy, format_ratio

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

__all__ = ["export", "format_cell", "format_count", "format_energy", "format_ratio", "is_numeric", "print_table"]

SUFFIXES = (".csv", ".parquet", ".json")

_NUMBER = re.compile(rf"[-+{MINUS}~<>]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?(?=$|[\s%{TIMES}])", re.IGNORECASE)
_TEXT_WIDTH = 40  # a longer text is folded rather than allowed to push the numbers off the screen
_GAP = 3  # columns of the terminal between two columns of the table


def print_table(frame: pd.DataFrame, title: str, console: Console | None = None) -> None:
    """Print a frame: numbers to the right, nothing cut off.

    Parameters
    ----------
    frame : pandas.DataFrame
        Shown as it is, without its index. A frame too wide for the terminal is printed in blocks, each beginning
        with the first column; a text that is too wide alone is folded.
    title : str
        Line above the table.
    console : rich.console.Console, optional
        Where to print; standard output by default.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    console.print(Text(title, style="bold"))
    if frame.empty:
        console.print(Text("no rows", style="dim"))
        return
    for number, columns in enumerate(_blocks(frame, console.width)):
        if number:
            console.print()
        console.print(_block(frame, columns))


def _block(frame: pd.DataFrame, columns: list[int]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for position in columns:
        numeric = is_numeric(frame.iloc[:, position])
        table.add_column(
            Text(str(frame.columns[position])), justify="right" if numeric else "left", overflow="fold",
            max_width=None if numeric else _TEXT_WIDTH,
        )  # fmt: skip
    for row in range(len(frame)):
        # Text and not str: a network called "[red]" is a name, not markup
        table.add_row(*(Text(format_cell(frame.iat[row, position])) for position in columns))
    return table


def _blocks(frame: pd.DataFrame, width: int) -> list[list[int]]:
    """Split the columns so that every block fits; the first column leads each."""
    from rich.cells import cell_len

    def width_of(position: int) -> int:
        cells = [format_cell(value) for value in frame.iloc[:, position]] + [str(frame.columns[position])]
        natural = max(cell_len(line) for cell in cells for line in cell.split("\n"))
        return natural if is_numeric(frame.iloc[:, position]) else min(natural, _TEXT_WIDTH)

    blocks, used = [[0]], width_of(0)
    first = used
    for position in range(1, frame.shape[1]):
        wanted = _GAP + width_of(position)
        if used + wanted > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = first
        blocks[-1].append(position)
        used += wanted
    return blocks


def is_numeric(column: pd.Series) -> bool:
    """Whether a column reads as numbers: a numeric type, or texts such as ``"95.1 ± 0.3 %"`` and ``"12.3 nJ"``."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(column):
        return False
    if pd.api.types.is_numeric_dtype(column):
        return True
    texts = [text for text in map(format_cell, column) if text not in (MISSING, "")]
    return bool(texts) and all(_NUMBER.match(text) for text in texts)


def format_cell(value: object) -> str:
    """Return one value for people: thousands separated, four significant digits, a dash for what is missing."""
    import pandas as pd

    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):  # type: ignore[call-overload]
        return MISSING
    if isinstance(value, str) or pd.api.types.is_bool(value):
        return str(value)
    if pd.api.types.is_integer(value):
        return f"{int(value):,}"  # type: ignore[call-overload]
    if pd.api.types.is_float(value):
        number = float(value)  # type: ignore[arg-type]
        if number.is_integer() and abs(number) < 1e15:
            return f"{number:,.0f}"
        return f"{number:,.0f}" if 1e4 <= abs(number) < 1e15 else f"{number:.4g}"
    return str(value)


def export(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a frame as ``.csv``, ``.parquet`` or ``.json`` (a list of rows), by the suffix.

    The file appears whole or not at all.

    Raises
    ------
    OptionError
        On another suffix, a path that cannot be written, or a frame that Parquet cannot hold.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise OptionError(f"cannot export to {path.name!r}: the suffix must be {', '.join(SUFFIXES[:-1])} or .json")
    if suffix == ".csv":
        return write_atomically(path, lambda part: frame.to_csv(part, index=False))
    if suffix == ".json":
        return write_atomically(
            path, lambda part: frame.to_json(part, orient="records", indent=2, double_precision=15, force_ascii=False)
        )
    from pyarrow import ArrowException

    try:
        return write_atomically(path, lambda part: frame.to_parquet(part, index=False))
    except ArrowException as error:
        reason = str(error).split("\n")[0]
        raise OptionError(f"cannot write {path} as Parquet ({reason}); choose .csv or .json") from None
