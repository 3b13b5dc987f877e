"""A hardware profile on the terminal: its constants, and which energy models can be priced with them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from energy.hardware import Hardware, load
from energy.models import Choice, standard
from energy.record import Record
from neurons.errors import StepError
from step.cli.base import console, escape

_LACKING = 3
"""Lacking constants that are named; a model may want seventeen."""


@dataclass(frozen=True)
class Probe(Hardware):
    """A profile that notes the constants which it lacks, and goes on with 1."""

    lacking: set[str] = field(default_factory=set, compare=False, repr=False)

    @classmethod
    def of(cls, hardware: Hardware) -> Probe:
        """Return a probe with the constants of a profile."""
        return cls(**{each.name: getattr(hardware, each.name) for each in fields(Hardware)})

    def __getitem__(self, constant: str) -> float:
        if constant not in self.constants:
            self.lacking.add(constant)
            return 1.0
        return super().__getitem__(constant)


@dataclass(frozen=True)
class Priced:
    """Whether one model can be priced with a profile: its total, the constants that it used, or what is wrong."""

    label: str
    total: float = math.nan
    unit: str = "pJ"
    used: tuple[str, ...] = ()
    wrong: str = ""


def show_profile(target: str, record: Record) -> None:
    """Print the constants of a profile, and what each registered model makes of them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from step.report.units import format_count, format_energy

    hardware = load(target)
    console.print(Text(f"{hardware.name}: {hardware.title}", style="bold"))
    waits = {True: "event-driven: silence saves work", False: "not event-driven", None: ""}[hardware.event_driven]
    for line in filter(None, (waits, hardware.note)):
        console.print(f"[dim]{escape(line)}[/]", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("constant", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("source", overflow="fold")
    for name, constant in hardware.constants.items():
        source = Text(constant.source)
        if not constant.confirmed:
            source = Text.assemble(("unconfirmed: ", "yellow"), source)
        table.add_row(name, f"{constant.value:g}", constant.unit, source)
    console.print(table)
    console.print()
    with console.status("pricing the example"):
        found = try_models(hardware, record)
    models = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    models.add_column("energy model", no_wrap=True)
    models.add_column("", no_wrap=True)
    models.add_column("finding", overflow="fold")
    for each in found:
        amount = format_energy(each.total) if each.unit == "pJ" else f"{format_count(each.total)} {each.unit}"
        said = each.wrong or f"{amount}, with {', '.join(each.used) or 'no constants'}"
        verdict = Text("no", style="dim") if each.wrong else Text("yes", style="green")
        models.add_row(Text(each.label), verdict, Text(said))
    console.print(models)
    able = [each for each in found if each.used and not each.wrong]
    if able:
        names = ", ".join(each.label for each in able)
        console.print(Text(f"prices {len(able)} of {len(found)} models: {names}", style="green"))
    else:
        console.print(
            Text("no registered energy model can be priced with it; --plugin brings your own", style="yellow")
        )


def try_models(hardware: Hardware, record: Record) -> list[Priced]:
    """Return what each registered model makes of a profile; variants that differ in hardware only are one model."""
    same: list[list[Choice]] = []
    for choice in standard():
        if same and choice.model == same[-1][0].model:
            same[-1].append(choice)
        else:
            same.append([choice])
    return [
        _try(group[0].label if len(group) == 1 else group[0].label.partition(" ")[0], group[0], hardware, record)
        for group in same
    ]


def _try(label: str, choice: Choice, hardware: Hardware, record: Record) -> Priced:
    probe = Probe.of(hardware)
    error = ""
    try:
        table = choice.model.price(record, probe)
    except StepError as refused:
        error = str(refused)
    except Exception as broken:  # a model of one's own may be unfinished, or stumble over the 1 of a probe
        error = f"{type(broken).__name__}: {' '.join(str(broken).split())}"
    if probe.lacking:
        lacking = sorted(probe.lacking)
        more = f" and {len(lacking) - _LACKING} more" if len(lacking) > _LACKING else ""
        return Priced(label, wrong=f"lacks {', '.join(lacking[:_LACKING])}{more}")
    if error:
        return Priced(label, wrong=error)
    if not table["applicable"].any():
        return Priced(label, wrong="no layer has a price")
    total = float(table["total"].sum(min_count=1))
    return Priced(label, total, choice.model.unit, tuple(table.attrs["constants"]))
