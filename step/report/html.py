"""HTML elements as nested calls; every text is escaped unless it is markup already."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = frozenset({"meta", "img", "br", "hr"})


class Markup(str):
    """A text that is HTML already and is not escaped again."""

    __slots__ = ()


def element(name: str, /, *children: str | Iterable[str], **attributes: str | None) -> Markup:
    """Return ``<name attribute="…">children</name>``.

    Parameters
    ----------
    name : str
        Tag name.
    *children : str, Markup or iterables of them
        A plain string is escaped, markup is not.
    **attributes : str or None
        ``class_`` stands for ``class``, other underscores for hyphens; None leaves the attribute out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: str | Iterable[str]) -> Markup:
    """Concatenate strings (escaped), markup (as it is) and iterables of both."""
    parts = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(str(child))
        elif isinstance(child, str):
            parts.append(html.escape(child))
        else:
            parts.append(str(join(*child)))
    return Markup("".join(parts))


def table(head: Iterable[str], rows: Iterable[Iterable[str]], numeric: Iterable[bool], class_: str = "") -> Markup:
    """Return a table that scrolls sideways on a narrow screen; the first cell of a row is its header."""
    align = ["number" if is_number else None for is_number in numeric]
    header = element("tr", [element("th", cell, scope="col", class_=a) for cell, a in zip(head, align, strict=True)])
    body = []
    for row in rows:
        first, *rest = row
        cells = [element("td", cell, class_=a) for cell, a in zip(rest, align[1:], strict=True)]
        body.append(element("tr", element("th", first, scope="row", class_=align[0]), cells))
    inner = element("table", element("thead", header), element("tbody", body), class_=class_ or None)
    return element("div", inner, class_="scroll")
