"""Timings beside other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from step.cli.base import Export, app, console, escape, guarded

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from benchmarks.speed.neurons import Row

speed = typer.Typer(help="Time STEP beside other libraries, side by side in one run.", no_args_is_help=True)
app.add_typer(speed, name="speed")


@speed.command("neurons")
@guarded
def neurons(
    neuron: Annotated[list[str] | None, typer.Option(help="lif, plif, clif or izhikevich. Repeatable.")] = None,
    shape: Annotated[
        list[str] | None, typer.Option(metavar="T,B,N", help="Time steps, batch, neurons. Repeatable.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Implementation, such as 'torch.compile, whole'. Repeatable.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time for the turns of each neuron and shape.")] = 5.0,
    threads: Annotated[int | None, typer.Option(help="Threads. [default: those of torch]")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    export: Export = None,
) -> None:
    """Time a neuron layer, forward and with backward: fused, eager, torch.compile and other libraries."""
    import torch

    from benchmarks.speed.layers import NEURONS
    from benchmarks.speed.neurons import SHAPES, chosen, measure
    from neurons.errors import OptionError
    from step.machine import machine
    from step.report.tables import export as write
    from step.report.tables import print_table

    kinds = chosen(neuron, list(NEURONS), "neuron", list(NEURONS))
    shapes = [_shape(text) for text in shape or ()] or list(SHAPES)
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise OptionError(f"--device is cpu, or cuda where there is a GPU, not {device!r}")
    if threads is not None:
        if threads < 1:
            raise OptionError(f"--threads must be at least 1, not {threads}")
        torch.set_num_threads(threads)
    rows: list[Row] = []
    with console.status("starting") as status:
        for kind in kinds:
            for each in shapes:
                rows += measure(
                    kind, each, only, seconds=seconds, device=device, progress=lambda text: status.update(escape(text))
                )
    facts = machine()
    where = facts.get("gpu") if device == "cuda" else f"{facts['processor']}, {torch.get_num_threads()} threads"
    console.print(f"{where}, torch {torch.__version__}; medians of turns; ratios: times longer than STEP's fused loop")
    for kind in kinds:
        for each in shapes:
            found = [row for row in rows if row.neuron == kind and row.shape == each]
            title = f"{kind}, T={each[0]} B={each[1]} N={each[2]}, copy {found[0].copy:.0f} GB/s"
            print_table(table(found), title, console)
    if export is not None:
        import pandas as pd

        console.print(f"written to {write(pd.DataFrame([_flat(row) for row in rows]), export)}", soft_wrap=True)


@speed.command("counting")
@guarded
def counting(
    network: Annotated[list[str] | None, typer.Option(help="Network, such as 'snntorch mlp'. Repeatable.")] = None,
    seconds: Annotated[float, typer.Option(help="Time for the turns of each network.")] = 10.0,
    threads: Annotated[int | None, typer.Option(help="Threads. [default: those of torch]")] = None,
    export: Export = None,
) -> None:
    """Time the operation record beside the plain forward pass and SpikingJelly's counters."""
    import pandas as pd
    import torch

    from benchmarks.speed.counting import NETWORKS, measure
    from neurons.errors import OptionError
    from step.report.tables import export as write
    from step.report.tables import print_table

    if threads is not None:
        if threads < 1:
            raise OptionError(f"--threads must be at least 1, not {threads}")
        torch.set_num_threads(threads)
    rows = []
    for each in network or NETWORKS:
        with console.status(f"counting {escape(each)}"):
            rows += measure(each, seconds=seconds)
    shown = pd.DataFrame(
        {"network": row.network, "input": "x".join(map(str, row.shape)), "": row.name,
         "ms": f"{row.seconds * 1e3:.1f}", "times forward": f"{row.ratio:.2f}"} for row in rows
    )  # fmt: skip
    print_table(shown, f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians of turns", console)
    if export is not None:
        console.print(f"written to {write(shown, export)}", soft_wrap=True)


@speed.command("transformers")
@guarded
def transformers(
    network: Annotated[list[str] | None, typer.Option(help="Network, such as spikformer-4-384. Repeatable.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Implementation, such as spikingjelly. Repeatable.")] = None,
    batch: Annotated[int, typer.Option(min=2, help="Images in a batch.")] = 8,
    seconds: Annotated[float, typer.Option(help="Time for the turns of each network.")] = 60.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads. [default: those of torch]")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    memory: Annotated[bool, typer.Option(help="Measure memory too, each in a process of its own.")] = True,
    export: Export = None,
) -> None:
    """Time whole spiking transformers beside SpikingJelly's with the same weights: training step, inference, memory."""
    import pandas as pd
    import torch

    from benchmarks.speed.transformer_contestants import CASES
    from benchmarks.speed.transformers import measure
    from neurons.errors import OptionError
    from step.machine import machine
    from step.models import create
    from step.report.tables import export as write
    from step.report.tables import print_table

    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise OptionError(f"--device is cpu, or cuda where there is a GPU, not {device!r}")
    if threads is not None:
        torch.set_num_threads(threads)
    facts = machine()
    where = facts.get("gpu") if device == "cuda" else f"{facts['processor']}, {torch.get_num_threads()} threads"
    console.print(f"{where}, torch {torch.__version__}; batch {batch}; medians of turns; ratios to STEP")
    found = []
    for each in network or list(CASES):
        with console.status("starting") as status:
            result = measure(
                each, create, batch=batch, only=only, seconds=seconds, device=device, memory=memory,
                progress=lambda text: status.update(escape(text)),
            )  # fmt: skip
        first = result.rows[0]
        shown = pd.DataFrame(
            {
                "": row.name,
                "train ms": f"{row.train * 1e3:.0f}",
                "ratio": f"{row.train / first.train:.2f}",
                "infer ms": f"{row.infer * 1e3:.0f}",
                "infer ratio": f"{row.infer / first.infer:.2f}",
                "MiB": f"{row.memory:.0f}",
                "first s": f"{row.first:.1f}",
            }
            for row in result.rows
        )
        print_table(shown, f"{each}, {result.rate:.1%} of the neurons' outputs are spikes", console)
        shares = pd.DataFrame(result.shares).rename_axis("share of the time of STEP").reset_index()
        for what in result.shares:
            shares[what] = [f"{value:.0%}" for value in shares[what]]
        print_table(shares, "", console)
        found += [{"batch": batch, "rate": result.rate, **vars(row)} for row in result.rows]
    if export is not None:
        console.print(f"written to {write(pd.DataFrame(found), export)}", soft_wrap=True)


@speed.command("elm")
@guarded
def elm(
    shape: Annotated[list[str] | None, typer.Option(metavar="T,B", help="Time steps and batch. Repeatable.")] = None,
    population: Annotated[
        str | None, typer.Option(metavar="T,B,N,M", help="Population, in place of its usual.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time for the turns of each shape.")] = 10.0,
    rounds: Annotated[int, typer.Option(min=1, help="Turns at least.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads. [default: those of torch]")] = None,
    export: Export = None,
) -> None:
    """Time ELM neurons beside their released loops, LSTM and GRU of equal size, and a loop of batched products."""
    import pandas as pd
    import torch

    from benchmarks.speed.elm import POPULATION, SHAPES, measure, measure_population
    from step.machine import machine
    from step.report.tables import export as write
    from step.report.tables import print_table

    if threads is not None:
        torch.set_num_threads(threads)
    shapes = [_shape(text, "T,B, such as 200,8") for text in shape or ()] or list(SHAPES)
    many = POPULATION if population is None else _shape(population, "T,B,N,M, such as 1000,8,57,9", "--population")
    console.print(
        f"{machine()['processor']}, {torch.get_num_threads()} threads, torch {torch.__version__}; medians of turns; "
        "ratios: times longer than STEP"
    )
    found = []
    for each in (*shapes, many):
        with console.status(f"timing {each}"):
            run = measure_population if each is many else measure
            rows = run(each, seconds=seconds, rounds=rounds)
        shown = pd.DataFrame(
            {
                "": row.name,
                "parameters": f"{row.parameters:,}",
                "train ms": f"{row.train:.1f}",
                "ratio": f"{row.train_ratio:.2f}",
                "infer ms": f"{row.infer:.1f}",
                "infer ratio": f"{row.infer_ratio:.2f}",
                "MiB held": f"{row.held:.1f}",
            }
            for row in rows
        )
        more = f", N={each[2]} M={each[3]}, recurrence only" if each is many else ""
        print_table(shown, f"T={each[0]} B={each[1]}{more}", console)
        found += [vars(row) for row in rows]
    if export is not None:
        console.print(f"written to {write(pd.DataFrame(found), export)}", soft_wrap=True)


@speed.command("continual")
@guarded
def continual(
    network: Annotated[list[str] | None, typer.Option(help="mlp or cnn. Repeatable.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Way to take a step, such as 'as released'. Repeatable.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images in a batch. [default: 64 mlp, 16 cnn]")] = None,
    seconds: Annotated[float, typer.Option(help="Time for the turns of each network.")] = 30.0,
    rounds: Annotated[int, typer.Option(min=1, help="Turns at least.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads. [default: those of torch]")] = None,
    memory: Annotated[bool, typer.Option(help="Measure memory too, each in a process of its own.")] = True,
    export: Export = None,
) -> None:
    """Time a step of Hebbian orthogonal projection beside the way of its release and beside an unprotected step."""
    import pandas as pd
    import torch

    from benchmarks.speed.continual import measure
    from benchmarks.speed.continual_contestants import CASES, T, Tools
    from step.machine import machine
    from step.models import create
    from step.report.tables import export as write
    from step.report.tables import print_table

    if threads is not None:
        torch.set_num_threads(threads)
    console.print(
        f"{machine()['processor']}, {torch.get_num_threads()} threads, torch {torch.__version__}; medians of turns"
    )
    tools = Tools(create, _subspace, _rule, _guarded)
    found = []
    for each in network or list(CASES):
        with console.status("starting") as status:
            result = measure(
                each, tools, batch=batch, only=only, seconds=seconds, rounds=rounds, memory=memory,
                progress=lambda text: status.update(escape(text)),
            )  # fmt: skip
        shown = pd.DataFrame(
            {
                "": row.name,
                "step ms": f"{row.train * 1e3:.1f}",
                "times STEP": f"{row.slower:.2f}",
                "times unprotected": f"{row.overhead:.2f}",
                "MiB": f"{row.memory:.0f}",
            }
            for row in result.rows
        )
        size = batch or CASES[each].batch
        title = f"{each}, T={T} B={size}, {result.rate:.1%} of the neurons' outputs are spikes"
        print_table(shown, f"{title}; gradients and rows agree to {result.difference:.0e}", console)
        found += [{"batch": size, "rate": result.rate, **vars(row)} for row in result.rows]
    if export is not None:
        console.print(f"written to {write(pd.DataFrame(found), export)}", soft_wrap=True)


@speed.command("places")
@guarded
def places(
    modules: Annotated[int, typer.Option(min=1, help="Modules at once, of 25 places each.")] = 20,
    dt: Annotated[float, typer.Option(help="Time step of ours in ms: 0.1 or 0.25.")] = 0.1,
    seconds: Annotated[float, typer.Option(help="Time for all turns.")] = 30.0,
    rounds: Annotated[int, typer.Option(min=1, help="Turns at least.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads. [default: those of torch]")] = None,
    export: Export = None,
) -> None:
    """Time modules of a place-recognition ensemble, learning and answering, beside the same module in Brian 2."""
    import pandas as pd
    import torch

    from benchmarks.speed.places import images, measure
    from step.machine import machine
    from step.report.tables import export as write
    from step.report.tables import print_table

    if threads is not None:
        torch.set_num_threads(threads)
    console.print(
        f"{machine()['processor']}, {torch.get_num_threads()} threads, torch {torch.__version__}; medians of turns"
    )
    with console.status("VPRTempo learns its map") as status:
        result = measure(
            modules=modules, dt=dt, tempo=_tempo(images(25 * modules)), seconds=seconds, rounds=rounds,
            threads=threads, progress=lambda text: status.update(escape(text)),
        )  # fmt: skip
    for name, fires in result.fires.items():
        console.print(f"{name}: {fires.spikes:.1f} spikes of {fires.active:.1f} neurons in a presentation")
    if result.missing:
        console.print(f"Brian 2 took no part: {escape(result.missing)}")
    shown = pd.DataFrame(
        {
            "": row.name,
            "image for": row.what,
            "modules": row.modules or None,
            "ms": f"{row.milliseconds:.3g}",
            "ms a module": f"{row.per_module:.3g}" if row.modules else None,
            "a second": f"{1e3 / row.milliseconds:.3g}",
            "times STEP, by module": f"{row.ratio:.3g}" if row.modules else None,
        }
        for row in result.rows
    )
    print_table(shown, f"One image of 350 ms, {25 * modules} places for many modules and for VPRTempo", console)
    if export is not None:
        console.print(f"written to {write(pd.DataFrame(vars(row) for row in result.rows), export)}", soft_wrap=True)


def _tempo(places: Tensor) -> Any:
    """Return how a map of these places [P, pixels] answers by the rule of VPRTempo."""
    from step.learners import VPRTempo
    from step.learners.places.vprtempo import VPRTempoConfig

    side = round(places.shape[1] ** 0.5)
    learner = VPRTempo(None, VPRTempoConfig.model_validate({"epochs": 1}))
    learner.map_places(places.view(1, -1, 1, side, side))
    return lambda x: learner.similarity(x.view(-1, 1, side, side))


def _subspace(*given: Any, **options: Any) -> Any:
    from step.learners.continual import subspaces

    return subspaces.create(*given, **options)


def _rule(*given: Any, **options: Any) -> Any:
    from step.learners.continual import rules

    return rules.create(*given, **options)


def _guarded(*given: Any, **options: Any) -> Any:
    from step.learners.continual.guarded import guarded_gradients

    return guarded_gradients(*given, **options)


def table(rows: list[Row]) -> pd.DataFrame:
    """Return the rows of one neuron and shape as they are shown."""
    import pandas as pd

    from benchmarks.speed.neurons import OURS

    ours = next((row for row in rows if row.name == OURS), None)
    return pd.DataFrame(
        {
            "": row.name,
            "forward ms": f"{row.forward:.2f}",
            "+ backward ms": f"{row.both:.2f}",
            "ratio": f"{row.forward / ours.forward:.1f}" if ours else None,
            "+ backward ratio": f"{row.both / ours.both:.1f}" if ours else None,
            "x floor": f"{row.floor_forward:.1f}",
            "+ backward x floor": f"{row.floor_both:.1f}",
            "MiB held": f"{row.held:.0f}",
            "first s": f"{row.first:.2f}",
            "differs": row.differs,
        }
        for row in rows
    )


def _flat(row: Row) -> dict[str, object]:
    from dataclasses import asdict

    values = asdict(row)
    steps, batch, width = values.pop("shape")
    return {"T": steps, "B": batch, "N": width, **values}


def _shape(text: str, right: str = "T,B,N, such as 4,64,16384", option: str = "--shape") -> tuple[int, ...]:
    from neurons.errors import OptionError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{option} is {right}, not {text!r}") from None
