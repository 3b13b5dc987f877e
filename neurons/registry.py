"""One registry for every kind of component: the same four verbs in every package.

``catalogue`` keeps the tables, so that an installed package can add names through the entry-point
groups ``step_neurons``, ``step_surrogates``, ``step_encoders`` and so on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import catalogue

from neurons.errors import OptionError, UnknownNameError, suggest

if TYPE_CHECKING:
    from neurons.base import Neuron

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Names of one kind of component and the classes or functions behind them.

    Parameters
    ----------
    kind : str
        Singular, as it stands in messages: ``"neuron"``.
    group : str
        Plural, as it stands in entry points and ``step list``: ``"neurons"``.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._table = catalogue.create("step", group, entry_points=True)

    def register(self, name: str) -> Callable[[C], C]:
        """Decorate a class or function to make it known under ``name``; a taken name is an error."""

        def decorate(maker: C) -> C:
            if self._taken(name, maker.__qualname__):
                raise OptionError(f"{self.kind} {name!r} is already registered; choose another name")
            maker.registered_name = name  # type: ignore[attr-defined]
            self._table.register(name, func=maker)
            return maker

        return decorate

    def _taken(self, name: str, maker: str) -> bool:
        """Whether another maker has the name; one of the same name is the same one, defined anew."""
        if catalogue.check_exists("step", self.group, name):
            return bool(catalogue._get(["step", self.group, name]).__qualname__ != maker)
        # Entry points are compared and not loaded: the one that is being loaded registers itself right now.
        return any(e.name == name and e.value.partition(":")[2] != maker for e in self._table._get_entry_points())

    def names(self) -> list[str]:
        """Return all known names, sorted."""
        return sorted(self._table.get_all())

    def get(self, name: str) -> Callable[..., T]:
        """Return what stands behind ``name``.

        Raises
        ------
        UnknownNameError
            With the nearest known names.
        """
        if name not in self._table:
            raise UnknownNameError(f"unknown {self.kind} {name!r}{suggest(name, self.names())}")
        return self._table.get(name)

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """Return the options that ``name`` takes, those of its base classes included."""
        return options_of(self.get(name))

    def create(self, name: str, /, *args: Any, **options: Any) -> T:
        """Make the component ``name``; an option that it does not have is an error, never ignored."""
        maker = self.get(name)
        known = self.options(name)
        for option in options:
            if option not in known:
                raise OptionError(self.no_option(name, option))
        return maker(*args, **options)

    def no_option(self, name: str, option: str) -> str:
        """Return the message that ``name`` has no such option, with the nearest ones."""
        return f"{self.kind} {name!r} has no option {option!r}{suggest(option, self.options(name))}"

    def describe(self, name: str) -> str:
        """Return the one-line description of ``name``: the first line of its docstring."""
        return (inspect.getdoc(self.get(name)) or "").strip().split("\n")[0]


class NeuronRegistry(Registry["Neuron"]):
    """The registry of neurons, which knows those of other libraries too.

    ``library:Class`` is any neuron class of that library, and a neuron that another library has as well takes one
    option more, ``backend``; see :mod:`neurons.adapters`.
    """

    def get(self, name: str) -> Callable[..., Neuron]:
        """Return what stands behind ``name``, or behind ``library:Class``."""
        if ":" in name and name not in self._table:
            from neurons import adapters

            return adapters.neuron_class(name)
        return super().get(name)

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """Return the options that ``name`` takes, ``backend`` among them where it can run elsewhere."""
        from neurons import adapters

        found = super().options(name)
        others = adapters.backends(name)
        if others:
            words = Literal.__getitem__((adapters.NATIVE, *others))  # type: ignore[attr-defined]
            keyword = inspect.Parameter.KEYWORD_ONLY
            found["backend"] = inspect.Parameter("backend", keyword, default=adapters.NATIVE, annotation=words)
        return found

    def create(self, name: str, /, *args: Any, backend: str | None = None, **options: Any) -> Neuron:
        """Make the neuron ``name``, run by ``backend`` where it says so."""
        from neurons import adapters

        if backend is None or (backend == adapters.NATIVE and adapters.backends(name)):
            return super().create(name, *args, **options)
        self.get(name)
        return adapters.ported(name, backend, lambda: super(NeuronRegistry, self).create(name, *args, **options))

    def no_option(self, name: str, option: str) -> str:
        """Return the message that ``name`` has no such option; one without a counterpart runs native only."""
        from neurons import adapters

        return adapters.no_backend(name) if option == "backend" else super().no_option(name, option)


def options_of(maker: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the keyword options of a class or function; ``**options`` is followed into the base classes."""
    if isinstance(maker, type):
        makers = [vars(base)["__init__"] for base in maker.__mro__ if "__init__" in vars(base)]
    else:
        makers = [maker]
    found: dict[str, inspect.Parameter] = {}
    for function in makers:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
        for parameter in parameters:
            named = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            if named and parameter.name != "self":
                found.setdefault(parameter.name, parameter)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def name_and_options(component: str | Mapping[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    """Split ``"lif"`` or ``{"name": "lif", "tau": 2.0}`` into a name and its options."""
    if isinstance(component, str):
        return component, {}
    if not isinstance(component, Mapping) or not isinstance(component.get("name"), str):
        raise OptionError(f"a {kind} is a name or a mapping with a name, not {component!r}")
    options = dict(component)
    return options.pop("name"), options
