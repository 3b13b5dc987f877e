"""What one inference costs under every energy model, a spiking network beside its twins."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from step.cli.base import (
    Data,
    Export,
    Folder,
    Overrides,
    Plugins,
    StoreUrl,
    app,
    console,
    escape,
    guarded,
    load_plugins,
)

if TYPE_CHECKING:
    import pandas as pd

    from energy import Record, Verdict
    from energy.measured import Measured
    from energy.models import Choice
    from step.targets import Target

_ABREAST = 2
"""Twins that stand side by side in a table of 110 columns."""


class By(StrEnum):
    """What ``step energy`` shows."""

    verdict = "verdict"
    model = "model"
    part = "part"
    layer = "layer"


_TARGET = (
    "A suite, a run id, a network ('step list models'), FILE.py:FUNCTION, a .nir file, a .csv table of counts, or a "
    "folder with a saved record."
)


@app.command()
@guarded
def energy(
    target: Annotated[str, typer.Argument(metavar="TARGET", help=_TARGET)],
    by: Annotated[By, typer.Option(help="Who wins and why; or energies by model, by part, or by layer.")] = By.verdict,
    models: Annotated[str | None, typer.Option(help="Energy models, e.g. op-count,step. [default: all]")] = None,
    hardware: Annotated[
        str | None, typer.Option(help="Constants for all models: the name of a profile, or a YAML file.")
    ] = None,
    twins: Annotated[
        str | None, typer.Option(help="Twins beside it: relu, matched, and bits, e.g. relu,matched,8,4,2.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Time of one inference, for static power.")] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", help="Tensor [T, B, ...] that a network is run on: .npy, .safetensors.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="Random input of this shape, T,B,..., e.g. 4,8,3,32,32.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Random spikes of this rate. [default: one random image at all steps]")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set whose test samples a network is run on.")] = None,
    encoder: Annotated[str, typer.Option(help="Encoder of the data set: a name, or {name: ..., ...}.")] = "direct",
    steps: Annotated[int | None, typer.Option("--T", help="Time steps.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of random input and untrained weights.")] = 0,
    record: Annotated[Path | None, typer.Option(help="Folder to save the operation record in.")] = None,
    export: Export = None,
    page: Annotated[Path | None, typer.Option(help="Also write one HTML page with plots of all of it.")] = None,
    measure: Annotated[
        bool, typer.Option("--measured", help="Also measure what this computer uses while it simulates (NVML, RAPL).")
    ] = False,
    folder: Folder = None,
    store: StoreUrl = None,
    data: Data = None,
    overrides: Overrides = None,
    plugins: Plugins = None,
) -> None:
    """Price a spiking network and its twins under every energy model: who wins, by how much, and what decides."""
    from energy import judge
    from energy.models import standard
    from neurons.errors import OptionError
    from step.api import place_of
    from step.suite import parse_override
    from step.targets import Input, Twins, resolve

    load_plugins(plugins)
    choices = standard(_list(models) if models is not None else None)
    given = Input(
        input_file, dataset, parse_override(f"encoder={encoder}")[1], steps, _shape(shape), rate, seed, data
    )  # fmt: skip
    with console.status("counting operations"):
        found = resolve(
            target, twins=Twins.parse(twins), given=given, place=place_of(folder, store, data),
            overrides=overrides or [],
        )  # fmt: skip
    if record is not None:
        _save(found, record)
    if page is not None and len(found.networks) > 1:
        raise OptionError(
            f"--page shows one network, and here are {len(found.networks)}: name the id of a run, or use: step report"
        )
    if page is not None and by is not By.verdict:
        raise OptionError("--page shows the verdict; leave --by out")
    if measure and (found.network is None or found.x is None):
        raise OptionError("--measured runs a network here: name one ('step list models'), FILE.py:FUNCTION, or .nir")
    if found.results is not None and by is not By.verdict and hardware is None and seconds is None:
        _suite(found, by, choices, export)
        return
    verdicts = {}
    with console.status("pricing"):
        for name, records in found.networks.items():
            verdicts[name] = judge(records, choices, hardware=hardware, seconds=seconds)
    loud = [note for note in found.notes if note.startswith(("RANDOM", "UNTRAINED"))]
    for note in loud:
        console.print(f"[bold yellow]{escape(note)}[/]", soft_wrap=True)
    for name, verdict in verdicts.items():
        title = found.title if len(verdicts) == 1 else f"{found.title}: {name}"
        _print(verdict, title, by, found.networks[name])
    for note in found.notes:
        if note not in loud:
            console.print(f"[dim]{escape(note)}[/]")
    joules = _measured(found) if measure else None
    if export is not None:
        _export(verdicts, by, export)
    if page is not None:
        _page(found, next(iter(verdicts.values())), joules, page)


def _list(text: str) -> list[str]:
    from neurons.errors import OptionError

    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise OptionError("--models needs at least one name; see: step list energy")
    return names


def _shape(text: str | None) -> tuple[int, ...] | None:
    from neurons.errors import OptionError

    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"--shape is T,B,... in whole numbers, for example 4,8,3,32,32, not {text!r}") from None


def _measured(found: Target) -> Measured:
    """Measure and print what this computer uses, apart from all estimates."""
    from energy.measured import measured
    from step.report.tables import print_table

    assert found.network is not None
    assert found.x is not None
    with console.status("measuring this computer"):
        joules = measured(found.network, found.x)
    console.print()
    if joules.readings:
        print_table(joules.table(), "this computer, simulating (measured; not to be compared with estimates)", console)
    for line in joules.notes:
        console.print(f"[dim]{escape(line)}[/]", soft_wrap=True)
    return joules


def _page(found: Target, verdict: Verdict, joules: Measured | None, path: Path) -> None:
    from energy.thresholds import thresholds
    from step.report.collect import steps_of
    from step.report.page import write_verdict_page
    from step.report.summary import counted

    record = next(iter(found.networks.values()))[verdict.network]
    facts = {"Counting": counted(record), **{f"Note {n}": text for n, text in enumerate(found.notes, 1)}}
    written = write_verdict_page(
        verdict, found.title, facts, path, steps=steps_of(record), thresholds=thresholds(record.T), measured=joules
    )
    console.print(f"page: {escape(str(written))}", soft_wrap=True)


def _save(found: Target, folder: Path) -> None:
    from neurons.errors import OptionError

    if len(found.networks) > 1:
        raise OptionError(f"--record saves one network, and here are {len(found.networks)}: name the id of a run")
    own = next(iter(next(iter(found.networks.values())).values()))
    try:
        own.save(folder)
    except OSError as error:
        raise OptionError(f"--record {folder} cannot be written: {error.strerror}") from None
    console.print(f"record written to {escape(str(folder))}", soft_wrap=True)


def _suite(found: Target, by: By, choices: list[Choice], export: Path | None) -> None:
    """Show the means over seeds of a suite."""
    from step.report.collect import energy_notes
    from step.report.summary import energy_table
    from step.report.tables import export as write
    from step.report.tables import print_table
    from step.report.verdict_table import legend
    from step.results import Results

    assert found.results is not None
    results = Results(found.results.suite, found.results.place, choices)
    with console.status("pricing"):
        table, notes = energy_table(results, by.value), energy_notes(results)
    print_table(table, f"{results.title}: energy per inference by {by.value}", console)
    if export is not None:
        console.print(f"written to {write(table, export)}", soft_wrap=True)
    for line in legend([table]):
        console.print(f"[dim]{escape(line)}[/]")
    for row in notes.itertuples():
        console.print(f"[bold]{escape(str(row.model))}[/] ({escape(str(row.confidence))}): {escape(str(row.source))}")
        console.print(f"[dim]  leaves out: {escape(str(row.ignores))}[/]")
        if row.warnings:
            console.print(f"  [yellow]warning:[/] {escape(str(row.warnings))}")


def _print(verdict: Verdict, title: str, by: By, records: dict[str, Record]) -> None:
    from step.report import verdict_table as tables
    from step.report.tables import print_table

    shown = _tables(verdict, title, by, records[verdict.network].T)
    for number, (heading, table) in enumerate(shown):
        if number:
            console.print()
        print_table(table, heading, console)
    console.print()
    for twin in verdict.twins:
        console.print(f"[bold]{escape(verdict.summary(twin))}[/]")
    for twin in verdict.twins:
        made = records[twin].provenance.get("made", "measured")
        console.print(f"[dim]{escape(twin)}: {escape(str(made))}[/]")
    for line in tables.legend(table for _, table in shown):
        console.print(f"[dim]{escape(line)}[/]")
    for who, source, ignores in tables.sources(verdict):
        console.print(f"[bold]{escape(who)}[/]: {escape(source)}")
        console.print(f"[dim]  leaves out: {escape(ignores)}[/]")
    for row in verdict.notes.itertuples():
        if row.figures:
            console.print(f"[dim]{escape(str(row.label))} also says: {escape(str(row.figures))}[/]")
    for who, text in tables.warnings(verdict):
        console.print(f"[yellow]warning:[/] {escape(text)} [dim]({escape(who)})[/]")


def _tables(verdict: Verdict, title: str, by: By, T: int) -> list[tuple[str, pd.DataFrame]]:
    """Return what is shown, each table with its heading."""
    from energy.thresholds import thresholds
    from step.report import verdict_table as tables

    whole = f"{title}: energy per inference"
    if by is not By.verdict:
        table = {By.model: tables.by_model, By.part: tables.by_part, By.layer: tables.by_layer}[by](verdict)
        return [(f"{whole} by {by.value}", table)]
    found = []
    for at in range(0, len(verdict.twins), _ABREAST):
        twins = verdict.twins[at : at + _ABREAST]
        found.append((whole, tables.energies(verdict, twins, in_pJ=True)))
        counts = tables.energies(verdict, twins, in_pJ=False)
        if len(counts):
            found.append((f"{title}: what models count that give no energy", counts))
    for twin in verdict.twins:
        heading = f"{twin}: ratio to it, below 1 where the spiking network is cheaper"
        found.append((heading, tables.sensitivities(verdict, twin)))
    if not verdict.twins:
        found.append((whole, tables.by_model(verdict)))
    if len(verdict.synapses.dropna()):
        heading = "spikes per synapse and inference, among the limits below which spikes may win"
        found.append((heading, tables.synapses(verdict, thresholds(T))))
    return found


def _export(verdicts: dict[str, Verdict], by: By, path: Path) -> None:
    import pandas as pd

    from step.report.tables import export as write

    def frame(verdict: Verdict) -> pd.DataFrame:
        if by is By.verdict:
            return verdict.table
        if by is By.layer:
            return verdict.layers
        if by is By.part:
            return verdict.parts
        return verdict.parts.groupby(["label", "network", "unit"], sort=False)["pJ"].sum().reset_index()

    frames = [frame(verdict) for verdict in verdicts.values()]
    if len(frames) > 1:
        frames = [each.assign(of=name) for name, each in zip(verdicts, frames, strict=True)]
    console.print(f"written to {write(pd.concat(frames, ignore_index=True), path)}", soft_wrap=True)
