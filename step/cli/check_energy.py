"""Check an energy model and see what it says, or a chip and what it can price."""

from __future__ import annotations

import inspect
import math
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from step.cli.base import Plugins, console, escape, guarded, load_plugins
from step.cli.groups import check

if TYPE_CHECKING:
    from pandas import DataFrame

    from energy import Choice, EnergyModel, Record
    from energy.conformance import Result
    from energy.hardware import Hardware

_MOST = 12
"""Layers that are named; a network may have a hundred."""


@check.command("energy")
@guarded
def check_energy(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE.py[:CLASS] | FILE.yaml | NAME",
            help="A file with energy models, a hardware profile, or the name of either.",
        ),
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="An option of the model. Repeatable.")
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(help="Constants: the name of a profile, or a YAML file; the model's own when left out."),
    ] = None,
    on: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A saved record to price; a small example when left out.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All registered models, a line for each.")] = False,
    plugins: Plugins = None,
) -> None:
    """Check an energy model and show what it says; or a hardware profile, and which models it can price.

    Ends with 1 when something is wrong with the model, with 2 when it cannot be found or made.
    """
    from neurons.errors import OptionError

    load_plugins(plugins)
    if all_ == (target is not None):
        raise OptionError("name what to check, as in 'step check energy op-count', or give --all")
    if all_:
        if options or hardware:
            raise OptionError("--all takes neither --set nor --hardware; check one model for that")
        _check_all(_record(on))
        return
    assert target is not None
    if _is_profile(target):
        if options or hardware:
            raise OptionError("--set and --hardware are for energy models, and this is a hardware profile")
        from step.cli.profiles import show_profile

        show_profile(target, _record(on))
        return
    choices = _find(target, options or [], hardware)
    record = _record(on)
    found = []
    for number, choice in enumerate(choices):
        if number:
            console.print()
        with console.status("checking"):
            found.append(_Checked.of(choice, record))
        _show(found[-1], record)
    if any(checked.failed for checked in found):
        raise typer.Exit(1)


def _record(folder: Path | None) -> Record:
    from energy import Record, conformance

    if folder is not None:
        return Record.load(folder)
    with console.status("running the example"):
        return conformance.example()


def _is_profile(target: str) -> bool:
    import energy
    from energy import hardware
    from neurons.errors import OptionError, UnknownNameError, suggest

    if target.endswith((".yaml", ".yml")):
        if not Path(target).is_file():
            raise OptionError(f"{target} does not exist")
        return True
    if target.partition(":")[0].endswith(".py") or target.partition(" ")[0] in energy.names():
        return False
    if target in hardware.names():
        return True
    for suffix in (".py", ".yaml"):
        if Path(f"{target}{suffix}").is_file():
            raise OptionError(
                f"{target!r} is no registered name; for the file write: step check energy {target}{suffix}"
            )
    known = [*energy.names(), *hardware.names()]
    raise UnknownNameError(f"unknown energy model or hardware {target!r}{suggest(target, known)}")


def _find(target: str, options: list[str], hardware: str | None) -> list[Choice]:
    """Return what a user means: each variant of each model, with its options."""
    import energy
    from energy.hardware import load
    from neurons.errors import OptionError, suggest
    from step.suite import parse_override

    if hardware is not None:
        load(hardware)
    chosen = dict(parse_override(text) for text in options)
    file, _, kind = target.partition(":")
    if file.endswith(".py"):
        return [
            choice for cls in _from_file(Path(file), kind)
            for choice in _variants(f"{file}:{cls.__name__}", cls, chosen, hardware)
        ]  # fmt: skip
    name, _, variant = target.partition(" ")
    cls: Any = energy.energy_models.get(name)
    if variant and variant not in cls.variants:
        raise OptionError(f"energy model {name!r} has no variant {variant!r}{suggest(variant, cls.variants)}")
    return _variants(name, cls, chosen, hardware, variant or None)


def _from_file(path: Path, kind: str) -> list[type[EnergyModel]]:
    import energy
    from neurons.errors import OptionError, suggest
    from step.plugins import load_plugin

    if not path.is_file():
        raise OptionError(f"{path} does not exist")
    module = load_plugin(path)
    own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    classes = {
        key: value for key, value in own.items() if isinstance(value, type) and issubclass(value, energy.EnergyModel)
    }
    if kind:
        if kind in classes:
            return [classes[kind]]
        if kind in own:
            raise OptionError(f"{kind} of {path} is no energy model; derive it from energy.EnergyModel")
        raise OptionError(f"{path} has no energy model {kind!r}{suggest(kind, classes)}")
    # A class that is only a base of others need not be a model.
    found = [cls for cls in classes.values() if "registered_name" in vars(cls) or not inspect.isabstract(cls)]
    if not found:
        raise OptionError(
            f"{path} has no energy model; derive one from energy.EnergyModel, or try: step new energy NAME"
        )
    return found


def _variants(
    name: str, cls: type[EnergyModel], options: dict[str, Any], hardware: str | None, only: str | None = None
) -> list[Choice]:
    from energy import Choice
    from neurons.errors import OptionError, StepError, suggest
    from neurons.registry import options_of

    known = options_of(cls)
    for option in options:
        if option not in known:
            raise OptionError(f"energy model {name!r} has no option {option!r}{suggest(option, known)}")
    text = "".join(f", {key}={value}" for key, value in options.items())
    found: list[Choice] = []
    for variant, given in cls.variants.items():
        if only not in (None, variant):
            continue
        own = {**given, **options}
        profile = own.pop("hardware", None)
        label = f"{name} {variant}".strip() + text
        try:
            model = cls(**own)
        except StepError:
            raise
        except Exception as error:  # whatever a __post_init__ that is being written may raise
            raise OptionError(f"{label} cannot be made: {_one_line(error, cls)}") from None
        same = next((at for at, other in enumerate(found) if hardware and other.model == model), None)
        if same is None:
            found.append(Choice(label, model, hardware or profile))
        else:  # they differ in their hardware only, which is another now
            found[same] = Choice(name + text, model, hardware)
    return found


def _one_line(error: Exception, cls: type) -> str:
    """Return an error as one line, with the line of a user's file that it came through."""
    from neurons.errors import StepError

    text = " ".join(str(error).split())
    own = not cls.__module__.startswith("energy.")
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if own and frame.filename == file]
    place = f" ({Path(str(file)).name}, line {lines[-1]})" if lines else ""
    return (text if isinstance(error, StepError) else f"{type(error).__name__}: {text}") + place


@dataclass(frozen=True)
class _Checked:
    """A model with what was found about it, and its price where it has one."""

    choice: Choice
    hardware: Hardware
    results: list[Result]
    table: DataFrame | None

    @classmethod
    def of(cls, choice: Choice, record: Record) -> _Checked:
        from energy import conformance
        from energy.hardware import load

        model = choice.model
        profile = load(model.profile if choice.hardware is None else choice.hardware)
        try:
            table = model.price(record, profile)
        except Exception as error:  # whatever a price_layer that is being written may raise
            failed = conformance.Result("prices a network", False, _one_line(error, type(model)))
            return cls(choice, profile, [failed], None)
        used = ", ".join(table.attrs["constants"]) or "no constants"
        count = int((table["applicable"] & (table["kind"] != "static")).sum())
        said = f"{count} of {len(record.layers)} layers, with {used}"
        priced = conformance.Result("prices a network", True, said)
        return cls(choice, profile, [priced, *conformance.check(model, profile, record)], table)

    @property
    def failed(self) -> list[str]:
        return [result.name for result in self.results if not result.ok]

    @property
    def total(self) -> float:
        return math.nan if self.table is None else float(self.table["total"].sum(min_count=1))


def _op_count(record: Record) -> float:
    import energy

    return float(energy.price(record, "op-count")["total"].sum(min_count=1))


def _show(checked: _Checked, record: Record) -> None:
    from rich.text import Text

    from step.report.units import format_energy, format_ratio

    choice, table = checked.choice, checked.table
    console.print(Text(f"{choice.label} on {checked.hardware.name}", style="bold"))
    _print_results(checked.results)
    if table is not None:
        console.print()
        _print_price(table, record)
        if choice.model.unit == "pJ":
            other = _op_count(record)
            ratio = format_ratio(checked.total / other) if other else "–"
            said = f"in all {format_energy(checked.total)}; op-count {format_energy(other)}: {ratio}"
            console.print(said, highlight=False)
        for name, value in table.attrs["figures"].items():
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            console.print(f"[dim]also says: {escape(name)} {escape(text)}[/]", highlight=False)
        for warning in table.attrs["warnings"]:
            console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)
    if not hasattr(type(choice.model), "registered_name"):
        console.print("[dim]not registered: only --plugin and a registered name bring it into other commands[/]")
    if checked.failed:
        console.print(Text(f"fails: {', '.join(checked.failed)}", style="bold red"))
    else:
        console.print(Text(f"passes all {len(checked.results)} checks", style="green"))


def _print_results(results: Iterable[Result]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for heading in ("check", "", "finding"):
        table.add_column(heading, no_wrap=heading != "finding", overflow="fold")
    for result in results:
        verdict = Text("yes", style="green") if result.ok else Text("no", style="bold red")
        table.add_row(result.name, verdict, Text(result.message))
    console.print(table)


def _print_price(table: DataFrame, record: Record) -> None:
    """Print the parts of every layer that has a price, and which have none."""
    import pandas as pd

    from energy.models import PARTS
    from step.report.tables import print_table
    from step.report.units import energy_unit, format_count, format_energy

    unit = str(table.attrs["unit"])
    shared = energy_unit(table["total"].dropna())
    parts = [part for part in PARTS if table[part].notna().any()]

    def amount(value: float) -> str:
        return format_energy(value, shared) if unit == "pJ" else format_count(value)

    shown = table[table["applicable"] | table["note"].str.startswith("no price")]
    rows = shown if len(shown) <= _MOST else shown.loc[shown["total"].nlargest(_MOST).index.sort_values()]
    cells = [
        {"layer": row["layer"], "kind": row["kind"], **{part: amount(row[part]) for part in (*parts, "total")}}
        for row in rows.to_dict("records")
    ]
    for name, found in ((f"{len(shown) - len(rows)} cheaper ones", shown.drop(rows.index)), ("all", shown)):
        if len(found):
            sums = {part: amount(found[part].sum(min_count=1)) for part in (*parts, "total")}
            cells.append({"layer": name, "kind": "", **sums})
    network = str(record.provenance.get("data") or "record")
    title = f"one inference, T = {record.T} ({network})" + ("" if unit == "pJ" else f", in {unit}")
    print_table(pd.DataFrame(cells), title, console)
    for note, group in shown[shown["note"] != ""].groupby("note", sort=False):
        console.print(f"[dim]{escape(_few(group['layer']))}: {escape(str(note))}[/]", highlight=False)
    left = table.loc[~table["layer"].isin(shown["layer"]), "layer"]
    if len(left):
        console.print(f"[dim]outside its scope or folded: {escape(_few(left))}[/]", highlight=False)


def _few(names: Iterable[Any]) -> str:
    every = [str(name) for name in names]
    rest = len(every) - _MOST
    return ", ".join(every[:_MOST]) + (f" and {rest} more" if rest > 0 else "")


def _check_all(record: Record) -> None:
    """Print a table with a line for each variant of each registered model and a column for each check."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from energy import conformance
    from energy.models import standard
    from step.report.units import format_count, format_energy, format_ratio

    choices = standard()
    found = []
    with console.status("") as status:
        for number, choice in enumerate(choices):
            status.update(f"checking {choice.label} ({number + 1} of {len(choices)})")
            found.append(_Checked.of(choice, record))
    other = _op_count(record)
    columns = ["prices a network", *conformance.CHECKS]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("energy model", no_wrap=True)
    for heading in (*[str(number + 1) for number in range(len(columns))], "example", "/ op-count"):
        table.add_column(heading, justify="right", no_wrap=True)
    for checked in found:
        verdicts = {result.name: result.ok for result in checked.results}
        cells = [_mark(verdicts.get(column)) for column in columns]
        unit = checked.choice.model.unit
        total = format_energy(checked.total) if unit == "pJ" else f"{format_count(checked.total)} {unit}"
        ratio = format_ratio(checked.total / other) if other and unit == "pJ" else "–"
        table.add_row(Text(checked.choice.label), *cells, total, ratio)
    console.print(table)
    legend = ", ".join(f"{number + 1} {column}" for number, column in enumerate(columns))
    console.print(Text(f"{legend}. + yes, - no, . not reached.", style="dim"))
    failing = False
    for checked in found:
        for result in checked.results:
            if not result.ok:
                failing = True
                text = f"{checked.choice.label}: {result.name}: {result.message}"
                console.print(Text(text, style="red"), soft_wrap=True)
    if failing:
        raise typer.Exit(1)
    console.print(Text(f"all {len(found)} pass", style="green"))


def _mark(verdict: bool | None) -> Any:
    from rich.text import Text

    if verdict is None:
        return Text(".", style="dim")
    return Text("+", style="green") if verdict else Text("-", style="bold red")
