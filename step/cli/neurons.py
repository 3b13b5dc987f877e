"""The scientist's path: begin a neuron, check it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from step.cli.base import Plugins, console, escape, guarded, load_plugins
from step.cli.groups import check, class_name, new, new_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from neurons import Neuron
    from neurons.conformance import Response, Result

TEMPLATE = '''\
"""The neuron {name}; after every change: step check neuron {file}:{kind}"""

import neurons


@neurons.register("{name}")
class {kind}(neurons.SpikingNeuron):
    """Leaky integrate-and-fire: h = decay v + x; s = H(h - threshold); v = reset(h, s)."""

    state = {{"v": 0.0}}  # names of the state variables and their values at rest

    def __init__(self, decay=0.9, **options):  # options: threshold, reset, detach_reset, surrogate
        super().__init__(**options)
        self.decay = decay  # what is left of the potential after one time step

    def step(self, x, v):  # one time step, elementwise; x and v have the shape [B, ...]
        h = self.decay * v + x
        s = self.spike(h - self.threshold)
        return s, self.reset(h, s)  # the output, then the state in the order in which it is named above
'''

_COLOURS = {"yes": "green", "no": "bold red", "not applicable": "dim", "measured": "cyan"}
_WIDE = 104
"""Columns of a terminal from which the two pictures stand side by side."""


@new.command("neuron")
@guarded
def new_neuron(
    name: Annotated[str, typer.Argument(help="Name it is registered by, such as my-neuron; writes my_neuron.py.")],
) -> None:
    """Write a small neuron that works, to be made into your own."""
    import neurons

    path = new_file("neuron", name, neurons.names())
    kind = class_name(path)
    path.write_text(TEMPLATE.format(name=name, file=path, kind=kind), encoding="utf-8")
    console.print(f"wrote {path}; next:", highlight=False)
    console.print(f"  step check neuron {path}:{kind}", highlight=False)
    console.print(
        escape(f"  step run quick --plugin {path} --set 'neuron=[{name}, lif, relu]'"), highlight=False, soft_wrap=True
    )


@check.command("neuron")
@guarded
def check_neuron(
    target: Annotated[
        str | None, typer.Argument(metavar="FILE.py[:CLASS] | NAME", help="A file with a neuron, or a registered name.")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="An option of the neuron. Repeatable.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All registered neurons, a line for each.")] = False,
    save: Annotated[Path | None, typer.Option("--save", help="Folder for a page with table and pictures.")] = None,
    timed: Annotated[bool, typer.Option("--speed/--no-speed", help="Whether to measure the speed.")] = True,
    plugins: Plugins = None,
) -> None:
    """Check a neuron: kernels, streaming, gradients, types; with its f-I curve and its answer to a step.

    Ends with 1 when something is wrong with the neuron, with 2 when it cannot be found or made.
    """
    from neurons.errors import OptionError, StepError
    from step.suite import parse_override

    load_plugins(plugins)
    if all_ == (target is not None):
        raise OptionError("name one neuron to check, as in 'step check neuron lif', or give --all")
    chosen = dict(parse_override(text) for text in options or [])
    if all_:
        if chosen or save:
            raise OptionError("--all takes neither --set nor --save; check one neuron for that")
        _check_all()
        return
    assert target is not None
    title, make = _find(target, chosen)
    from neurons import conformance

    with console.status("making it") as status:
        try:
            neuron = make()
        except StepError:
            raise
        except Exception as error:  # whatever an __init__ that is being written may raise
            hint = "; give its options with --set" if isinstance(error, TypeError) else ""
            raise OptionError(f"{target} cannot be made: {conformance.describe(error)}{hint}") from None
        results = conformance.check(neuron, timed=timed, progress=lambda name: status.update(f"checking: {name}"))
        response = None
        if not results[0].failed:
            status.update("drawing")
            response = conformance.respond(neuron)
    _show(title, results, response)
    if save is not None and response is not None:
        from step.report.neuron import write_neuron_page

        stem = re.sub(r"\W+", "-", Path(title.split(",")[0]).name.replace(".py:", "-"))
        page = write_neuron_page(title, results, response, save / f"{stem}.html")
        console.print(f"written to {page}", soft_wrap=True)
    if any(result.failed for result in results):
        raise typer.Exit(1)


def _find(target: str, options: dict[str, Any]) -> tuple[str, Callable[[], Neuron]]:
    """Return a title, and what makes the neuron that a user means."""
    import neurons
    from neurons.errors import OptionError, suggest
    from neurons.registry import options_of

    file, _, kind = target.partition(":")
    text = "".join(f", {key}={value}" for key, value in options.items())
    if not file.endswith(".py"):
        if Path(f"{target}.py").is_file() and target not in neurons.names():
            raise OptionError(
                f"no neuron is registered as {target!r}; for the file write: step check neuron {target}.py"
            )
        neurons.neurons.get(target)
        return target + text, lambda: neurons.create(target, **options)
    maker = _from_file(Path(file), kind)
    known = options_of(maker)
    for option in options:
        if option not in known:
            raise OptionError(f"{maker.__name__} has no option {option!r}{suggest(option, known)}")
    return f"{file}:{maker.__name__}{text}", lambda: maker(**options)


def _from_file(path: Path, kind: str) -> Callable[..., Neuron]:
    import neurons
    from neurons.errors import OptionError, suggest
    from step.plugins import load_plugin

    if not path.is_file():
        raise OptionError(f"{path} does not exist")
    module = load_plugin(path)
    own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    classes = {
        key: value for key, value in own.items() if isinstance(value, type) and issubclass(value, neurons.Neuron)
    }
    if kind:
        if kind in classes:
            return classes[kind]
        if kind in own:
            raise OptionError(f"{kind} of {path} is no neuron; derive it from neurons.SpikingNeuron or neurons.Neuron")
        raise OptionError(f"{path} has no neuron {kind!r}{suggest(kind, classes)}")
    registered = {key: value for key, value in classes.items() if "registered_name" in vars(value)}
    if len(registered) == 1:
        return next(iter(registered.values()))
    found = f"registers {len(registered)} neurons" if registered else "registers no neuron"
    names = " or ".join(f"{path}:{key}" for key in list(registered or classes) or ["CLASS"])
    raise OptionError(f"{path} {found}; say which to check: {names}")


def _colour(result: Result) -> str:
    return "yellow" if result.verdict == "no" and not result.required else _COLOURS[result.verdict]


def _show(title: str, results: list[Result], response: Response | None) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console.print(Text(title, style="bold"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for heading in ("check", "", "finding"):
        table.add_column(heading, no_wrap=heading != "finding", overflow="fold")
    for result in results:
        table.add_row(result.name, Text(result.verdict, style=_colour(result)), Text(result.finding))
    console.print(table)
    if response is not None:
        _draw(response)
    failed = [result.name for result in results if result.failed]
    if failed:
        console.print(Text(f"fails: {', '.join(failed)}", style="bold red"))
    else:
        passed = sum(result.verdict == "yes" for result in results)
        console.print(Text(f"passes all {passed} checks that apply", style="green"))


def _draw(response: Response) -> None:
    from rich.table import Table
    from rich.text import Text

    from step.report.neuron import about_rates, panels

    one, two = panels(response)
    console.print()
    if console.width >= _WIDE:
        grid = Table.grid(padding=(0, 2))
        grid.add_row(Text("\n".join(one), no_wrap=True), Text("\n".join(two), no_wrap=True))
        console.print(grid)
    else:
        console.print(Text("\n".join([*one, "", *two]), no_wrap=True, overflow="ignore"))
    console.print(Text(about_rates(response), style="dim"))
    console.print()


def _check_all() -> None:
    """Print a table with a line for each neuron and a column for each check."""
    import neurons
    from neurons import conformance

    marks = {"yes": "+", "no": "-", "not applicable": "."}
    found: dict[str, list[Result]] = {}
    names = neurons.names()
    with console.status("") as status:
        for number, name in enumerate(names):
            status.update(f"checking {name} ({number + 1} of {len(names)})")
            found[name] = conformance.check(neurons.factory(name), timed=False)
    from rich import box
    from rich.table import Table
    from rich.text import Text

    columns = [result.name for result in next(iter(found.values()))]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("neuron", no_wrap=True)
    for number in range(len(columns)):
        table.add_column(str(number + 1), justify="right", no_wrap=True)
    for name, results in found.items():
        table.add_row(Text(name), *[Text(marks[result.verdict], style=_colour(result)) for result in results])
    console.print(table)
    legend = ", ".join(f"{number + 1} {column}" for number, column in enumerate(columns))
    console.print(Text(f"{legend}. + yes, - no, . not applicable; a no under traces is no fault.", style="dim"))
    failing = False
    for name, results in found.items():
        for result in results:
            if result.failed:
                failing = True
                console.print(Text(f"{name}: {result.name}: {result.finding}", style="red"), soft_wrap=True)
    if failing:
        raise typer.Exit(1)
    console.print(Text(f"all {len(found)} pass", style="green"))
