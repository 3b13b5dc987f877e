"""Tables that others have published, quoted in a suite beside its own results and never mixed with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, ValidationError

from neurons.errors import suggest
from step.suite_file import SuiteFile, Where

if TYPE_CHECKING:
    import pandas as pd


class Published(BaseModel):
    """One published table.

    Attributes
    ----------
    title : str
    source : str
        Citation: who published it, where, when.
    note : str
        What a reader must know before comparing.
    columns : list of str
    rows : list of list
        Texts and numbers, as many in each row as there are columns; None where the source gives nothing. A number
        whose last zero counts is written as a text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: StrictStr = Field(min_length=1)
    source: StrictStr = Field(min_length=1)
    note: StrictStr = ""
    columns: list[StrictStr] = Field(min_length=1)
    rows: list[list[StrictStr | StrictInt | StrictFloat | None]] = Field(min_length=1)

    def frame(self) -> pd.DataFrame:
        """Return the table as it was published."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=self.columns, dtype=object)


def read_published(given: Any, file: SuiteFile) -> list[Published]:
    """Validate the ``published`` key of a suite; errors name the file and the line."""
    if not isinstance(given, list):
        file.fail(("published",), "a list of tables, each with 'title', 'source', 'columns' and 'rows'")
    return [_table(entry, ("published", number), file) for number, entry in enumerate(given)]


def _table(entry: Any, at: Where, file: SuiteFile) -> Published:
    if not isinstance(entry, dict):
        file.fail(at, "a table is a mapping with 'title', 'source', 'columns' and 'rows'")
    try:
        table = Published(**{str(key): value for key, value in entry.items()})
    except ValidationError as error:
        first = error.errors()[0]
        # below a cell pydantic names the types that it tried; those are no part of the path
        path = first["loc"][:3] if first["loc"][0] == "rows" else first["loc"]
        file.fail((*at, *path), _message(str(path[0]), len(path), first))
    wide = len(table.columns)
    for number, row in enumerate(table.rows):
        if len(row) != wide:
            file.fail((*at, "rows", number), f"{len(row)} cells, where there are {wide} columns")
    if len(set(table.columns)) < wide:
        file.fail((*at, "columns"), "each column needs a name of its own")
    return table


def _message(key: str, depth: int, first: Any) -> str:
    if first["type"] == "extra_forbidden":
        return f"a published table has no {key!r}{suggest(key, Published.model_fields)}"
    if first["type"] == "missing":
        return f"a published table needs {key!r}"
    if key == "rows" and depth == 3:
        return "a cell is a text, a number, or ~ where the source gives nothing"
    return str(first["msg"])
