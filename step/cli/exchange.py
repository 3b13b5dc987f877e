"""Exchange networks with other simulators and chips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from step.cli.base import Data, Folder, Name, Overrides, Plugins, StoreUrl, app, console, escape, guarded, load_plugins

if TYPE_CHECKING:
    import pandas as pd

    from step.exchange import NIRNetwork

export_app = typer.Typer(help="Write a trained network in a format that others read.", no_args_is_help=True)
import_app = typer.Typer(help="Read a network that others wrote.", no_args_is_help=True)
app.add_typer(export_app, name="export")
app.add_typer(import_app, name="import")


@export_app.command("nir")
@guarded
def export_nir(
    suite: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    run: Annotated[
        str | None, typer.Option("--run", help="Id of the run, or how it begins. [default: the best on validation]")
    ] = None,
    dt: Annotated[float, typer.Option(help="Seconds of a time step.")] = 1e-4,
    soft: Annotated[
        bool, typer.Option("--soft-reset-in-metadata", help="Export soft resets, as a note that only STEP reads.")
    ] = False,
    folder: Folder = None,
    store: StoreUrl = None,
    data: Data = None,
    overrides: Overrides = None,
    plugins: Plugins = None,
) -> None:
    """Write the trained network of a finished run as NIR, for SpikingJelly, snnTorch, Norse and chips."""
    from step.api import place_of
    from step.exchange import read_nir, write_nir
    from step.exchange.runs import agreement, choose, trained
    from step.results import Results
    from step.suite import load_suite, parse_override

    load_plugins(plugins)
    loaded = load_suite(suite, dict(parse_override(text) for text in overrides or []))
    results = Results(loaded, place_of(folder, store))
    chosen = choose(results, run)
    spec = results.specs[chosen]
    with console.status("exporting"):
        network = trained(results, chosen, data)
        graph = write_nir(network, output, dt=dt, soft_reset_in_metadata=soft)
        same = agreement(network, read_nir(graph), spec, data)
    console.print(
        f"run {chosen} ({escape(loaded.labels[chosen])}, seed {spec.seed}): {len(graph.nodes)} nodes", soft_wrap=True
    )
    folded = sum("folded" in node.metadata for node in graph.nodes.values())
    if folded:
        console.print(f"[dim]{folded} {'norm is' if folded == 1 else 'norms are'} folded into the layer before[/]")
    console.print(f"[dim]read back: the same outputs for {same:.1%} of 64 test samples[/]")
    console.print(f"written to {escape(str(output))}", soft_wrap=True)


@import_app.command("nir")
@guarded
def import_nir(
    file: Annotated[Path, typer.Argument(help="NIR file.")],
    dataset: Annotated[str | None, typer.Option(help="Data set on whose test split it is evaluated.")] = None,
    encoder: Annotated[str, typer.Option(help="Encoder of the data: a name, or {name: ..., ...}.")] = "direct",
    steps: Annotated[int, typer.Option("--T", help="Time steps.")] = 4,
    dt: Annotated[float | None, typer.Option(help="Seconds of a time step. [default: as the file says]")] = None,
    data: Data = None,
    plugins: Plugins = None,
) -> None:
    """Read a network from NIR: show its layers and, with a data set, its accuracy and operations."""
    from benchmarks import datasets
    from step.exchange import read_nir
    from step.report.tables import print_table
    from step.suite import parse_override

    load_plugins(plugins)
    with console.status("reading"):
        network = read_nir(file, dt=dt)
        table = _layers(network)
    print_table(
        table, f"{file.name}: {network.parameter_count:,} parameters, time steps of {network.config.dt:g} s", console
    )
    for note in network.notes:
        console.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)
    if dataset is None:
        return
    with console.status("evaluating"):
        chosen = parse_override(f"encoder={encoder}")[1]
        found = _evaluation(network, datasets.load(dataset, data), chosen, steps)
    print_table(found, f"on the test split of {dataset}, {encoder} encoding, T = {steps}", console)


@import_app.command("elm")
@guarded
def import_elm(
    file: Annotated[Path, typer.Argument(help="Released checkpoint of an ELM neuron: a PyTorch state dict.")],
    config: Annotated[
        Path | None, typer.Option(help="Its configuration. [default: model_config.json beside the checkpoint]")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: safetensors, for neurons.elm.load.")
    ] = None,
) -> None:
    """Read a released ELM neuron: show its sizes and time constants, and write it as safetensors."""
    import pandas as pd

    from neurons import elm
    from neurons.errors import OptionError
    from step.report.tables import print_table

    if output is not None and output.suffix != ".safetensors":
        raise OptionError(f"--output ends in .safetensors, not {output.name}")
    neuron = elm.from_checkpoint(file, config)
    tau = neuron.memory_tau().tolist()
    shown = ", ".join(f"{value:.4g}" for value in tau if len(tau) <= 5) or f"{tau[0]:.4g} to {tau[-1]:.4g}"
    heard = neuron.branches * neuron.synapses if neuron.mask is None else int(neuron.mask.sum())
    rows = [
        ("inputs", f"{neuron.features:,}"),
        ("synapses", f"{neuron.branches} branches of {neuron.synapses}, {heard:,} connected"),
        ("routing", neuron.routing),
        ("branch time constant", f"{neuron.tau:g} ms"),
        ("perceptron", f"{neuron.layers} x {neuron.hidden} hidden units, {neuron.activation}"),
        ("memory units", f"{neuron.memory}"),
        ("memory time constants", f"{shown} ms{', learned' if neuron.learn_memory_tau else ''}"),
        ("outputs", f"{neuron.outputs}"),
        ("time step", f"{neuron.dt:g} ms"),
    ]
    count = sum(p.numel() for p in neuron.parameters())
    title = f"{file.name}: ELM neuron, {neuron.version}, {count:,} parameters"
    print_table(pd.DataFrame(rows, columns=["part", "read as"]), title, console)
    if output is not None:
        elm.save(neuron, output, {"source": file.name})
        console.print(f"written to {escape(str(output))}", soft_wrap=True)


def _layers(network: NIRNetwork) -> pd.DataFrame:
    """Return one row for each layer."""
    import pandas as pd
    import torch

    from neurons import Neuron

    value = torch.zeros(1, 1, *network.config.input_shape)
    rows = [("input", "", "", value)]
    for name, layer in network.layers.named_children():
        with torch.no_grad():
            value = layer(value)
        inner: Any = getattr(layer, "layer", layer)
        text = str(layer).split(", surrogate=")[0] if isinstance(layer, Neuron) else str(inner)
        text = text if text.count("(") == text.count(")") else f"{text})"
        count = sum(p.numel() for p in layer.parameters())
        rows.append((name, text, f"{count:,}" if count else "", value))
    shapes = [" x ".join(map(str, value.shape[2:])) for *_, value in rows]
    frame = pd.DataFrame([row[:3] for row in rows], columns=["node", "read as", "parameters"])
    frame.insert(2, "gives", shapes)
    return frame


def _evaluation(network: NIRNetwork, dataset: Any, encoder: Any, steps: int) -> pd.DataFrame:
    """Return accuracy and operations of one inference."""
    import pandas as pd

    from step.exchange.runs import evaluate
    from step.report.tables import format_count
    from step.results import operations_by_kind

    metrics, record = evaluate(network, dataset, encoder, steps)
    operations = operations_by_kind(record)
    rows = [
        ("test accuracy", f"{metrics['test_accuracy']:.2%}"),
        ("multiply-accumulates", format_count(operations["mac_real"])),
        ("accumulates", format_count(operations["ac"])),
        ("neuron updates", format_count(operations["neuron_updates"])),
        ("spikes", format_count(record.spikes)),
    ]
    return pd.DataFrame(rows, columns=["one inference", "value"])
