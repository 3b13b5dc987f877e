"""What one run is: a spec, validated in full, whose hash names the run."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator, model_validator

import encoders
import neurons
from benchmarks import datasets, protocols
from neurons.adapters.options import LIBRARY_DEFAULT
from neurons.errors import OptionError, StepError, suggest
from neurons.registry import Registry, name_and_options
from neurons.surrogate import surrogates
from step import learners, models
from step.learners.continual.methods import methods
from step.learners.continual.rules import rules
from step.learners.continual.subspaces import subspaces
from step.models.transformer.attention import attentions
from step.models.transformer.embedding import embeddings

Component = dict[str, Any]
"""A mapping with a name and the options of what stands behind the name."""

# What a data set decides about a network: filled in when it is built, so it is no part of the spec unless given.
FROM_DATA = ("image_size", "channels", "classes")


NO_NEURON = "identity"
"""The neuron of networks that have no place for one."""

NO_MODEL = "none"
"""The network of learners that bring their own."""


class SpecError(OptionError):
    """A field of a spec that cannot be used; ``path`` says which."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.message = path, message


class Measure(BaseModel):
    """On how many test samples operations are counted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int = Field(default=256, ge=1)
    batch: int = Field(default=64, ge=1)


class Spec(BaseModel):
    """One run: data, encoder, network, neuron, learner, protocol, seed.

    Components are names or mappings with a name and options; all options are validated against what stands
    behind the name, and defaults are filled in, so that the spec says everything that made the result.
    A conventional neuron has no time: it gets the data themselves (direct encoding, or another that repeats them) at
    T = 1, unless the samples are sequences. A network without a place for a neuron, such as an LSTM, has the neuron
    ``identity``. A learner that brings its own network, as those of places do, has no model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: Component
    encoder: Component = {"name": "direct", "T": 4}
    model: Component
    neuron: Component = {"name": "lif"}
    learner: Component = {"name": "surrogate-gradient"}
    protocol: Component = {"name": "classification"}
    measure: Measure = Field(default_factory=Measure)
    seed: int = Field(0, ge=0, lt=2**31)
    code: dict[str, str] = {}
    """SHA-256 of the plugin files that define components of this run or parts of its network, by component."""

    @field_validator("dataset", "model", "neuron", "learner", "protocol", "encoder", mode="before")
    @classmethod
    def _component(cls, value: Any, info: Any) -> Component:
        return normalise(info.field_name, value)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        # Defaults pass through the validators too, so that they are filled in like everything else.
        fields = {name: field.get_default() for name, field in cls.model_fields.items() if not field.is_required()}
        filled = {**{k: v for k, v in fields.items() if isinstance(v, dict)}, **data}
        if "model" not in filled and brings_network(filled["learner"]):
            filled["model"] = NO_MODEL
        return filled

    @model_validator(mode="after")
    def _conventional(self) -> Self:
        if brings_network(self.learner):
            self._no_network()
            return self
        if getattr(encoders.encoders.get(self.encoder["name"]), "resizes", False):
            message = f"{self.encoder['name']} changes the size of images, which only learners of places take"
            raise SpecError("encoder", message)
        if self.model["name"] == NO_MODEL:
            raise SpecError("model", f"{self.learner['name']} needs a network; name one (step list models)")
        try:
            check = getattr(models.models.get(self.model["name"]), "check_neuron", lambda name: None)
            check(self.neuron["name"])
        except OptionError as error:
            raise SpecError("neuron", str(error)) from None
        takes_neuron = getattr(models.models.get(self.model["name"]), "takes_neuron", True)
        if not takes_neuron:
            self._no_neuron()
        conventional = getattr(neurons.neurons.get(self.neuron["name"]), "conventional", False)
        if takes_neuron and conventional and not self.own_steps:
            repeats = getattr(encoders.encoders.get(self.encoder["name"]), "repeats", False)
            still = {**self.encoder, "T": 1} if repeats else {"name": "direct", "T": 1}
            object.__setattr__(self, "encoder", normalise("encoder", still))
        self._same_steps()
        object.__setattr__(self, "code", _plugin_code(self))
        return self

    def _no_network(self) -> None:
        """See that a learner that brings its own network gets neither another nor a neuron for it."""
        name = self.learner["name"]
        if self.model["name"] != NO_MODEL:
            raise SpecError("model", f"{name} brings its own network; leave {self.model['name']} out")
        self._no_neuron()
        object.__setattr__(self, "code", _plugin_code(self))

    def _no_neuron(self) -> None:
        """Give a network that has no place for a neuron the one that stands for none."""
        none, default = normalise("neuron", NO_NEURON), normalise("neuron", "lif")
        if self.neuron not in (none, default):
            model = self.learner["name"] if self.model["name"] == NO_MODEL else self.model["name"]
            raise SpecError("neuron", f"{model} has no place for a neuron such as {self.neuron['name']}; leave it out")
        object.__setattr__(self, "neuron", none)

    def _same_steps(self) -> None:
        """Give a neuron and a network that are made for a number of time steps that of the encoder."""
        if self.own_steps:
            return
        for kind in ("neuron", "model"):
            component = getattr(self, kind)
            field = _checker(kind, component["name"], _REGISTRIES[kind].get(component["name"])).model_fields.get("T")
            if field is None or component["T"] == self.T:
                continue
            if component["T"] != field.default:
                message = f"{component['T']} time steps, where the encoder has {self.T}; leave it out"
                raise SpecError(f"{kind}.T", message)
            object.__setattr__(self, kind, normalise(kind, {**component, "T": self.T}))

    @property
    def own_steps(self) -> bool:
        """Whether the samples are sequences, whose number of time steps the data set says."""
        return bool(getattr(encoders.encoders.get(self.encoder["name"]), "own_steps", False))

    @property
    def T(self) -> int | None:
        """Time steps; None where the data set says them."""
        return None if self.own_steps else int(self.encoder["T"])

    @property
    def id(self) -> str:
        """Name of the run: a hash over everything above."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Spec:
        """Validate a mapping; the first thing wrong becomes a SpecError with its path."""
        try:
            return cls(**data)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(part) for part in first["loc"])
            cause = (first.get("ctx") or {}).get("error")
            if isinstance(cause, SpecError):
                raise cause from None
            if first["type"] == "extra_forbidden":
                known = [name for name in cls.model_fields if name != "code"]
                raise SpecError(path, f"no such field{suggest(path, known)}") from None
            if first["type"] == "missing":
                raise SpecError(path, "this field is missing") from None
            raise SpecError(path, first["msg"].removeprefix("Value error, ")) from None


_REGISTRIES: dict[str, Registry[Any]] = {
    "dataset": datasets.datasets,
    "encoder": encoders.encoders,
    "model": models.models,
    "neuron": neurons.neurons,
    "surrogate": surrogates,
    "learner": learners.learners,
    "protocol": protocols.protocols,
}


def brings_network(learner: Any) -> bool:
    """Return whether a learner, by its name or mapping, brings its own network; False where there is none such."""
    try:
        return bool(getattr(learners.learners.get(name_and_options(learner, "learner")[0]), "brings_network", False))
    except StepError:
        return False


def normalise(kind: str, value: Any) -> Component:
    """Return ``{"name": ..., <all options with their values>}`` for a component of ``kind``.

    Raises
    ------
    SpecError
        With the path of what is wrong below ``kind``.
    """
    try:
        name, given = name_and_options(value, kind)
        if kind == "model" and name == NO_MODEL and not given:
            return {"name": name}
        maker = _REGISTRIES[kind].get(name)
    except StepError as error:
        raise SpecError(kind, str(error)) from None
    checker = _checker(kind, name, maker)
    try:
        options = checker(**given)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        path = ".".join([kind, *(str(part) for part in first["loc"] if isinstance(part, str) and "[" not in part)])
        if first["type"] == "extra_forbidden":
            message = f"{kind} {name!r} has no option {key!r}{suggest(key, checker.model_fields)}"
            raise SpecError(path, _REGISTRIES[kind].no_option(name, key) if kind == "neuron" else message) from None
        if first["type"] == "missing":
            raise SpecError(kind, f"{kind} {name!r} needs {key!r}: write {{name: {name}, {key}: ...}}") from None
        raise SpecError(path, first["msg"].removeprefix("Value error, ")) from None
    filled = {field: getattr(options, field) for field in checker.model_fields}
    if kind == "neuron" and filled.get("surrogate", LIBRARY_DEFAULT) != LIBRARY_DEFAULT:
        try:
            filled["surrogate"] = normalise("surrogate", filled["surrogate"])
        except SpecError as error:
            raise SpecError(f"{kind}.{error.path}", error.message) from None
    if kind == "model":
        filled = {k: v for k, v in filled.items() if k not in FROM_DATA or k in given}
    _try(kind, name, filled)
    return {"name": name, **filled}


def _checker(kind: str, name: str, maker: Any) -> type[BaseModel]:
    """Return a pydantic model of the options: the component's own config, or one made of its signature."""
    config = getattr(maker, "Config", None)
    if config is not None:
        return config
    fields: dict[str, Any] = {}
    if kind == "encoder" and not getattr(maker, "own_steps", False):
        fields["T"] = (int, Field(ge=1))
    for option, parameter in _REGISTRIES[kind].options(name).items():
        if kind == "dataset" and option == "root":
            continue
        required = parameter.default is inspect.Parameter.empty
        annotation = parameter.annotation
        if annotation is inspect.Parameter.empty:  # a plugin need not annotate: the default tells the type
            annotation = Any if required or parameter.default is None else type(parameter.default)
        fields[option] = (annotation, ... if required else parameter.default)
    settings = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return create_model(f"{kind}_options", __config__=settings, **fields)


def _try(kind: str, name: str, options: Component) -> None:
    """Build cheap components once, so that a value outside its domain is found before anything runs."""
    if kind in ("neuron", "surrogate", "protocol", "encoder"):
        try:
            _REGISTRIES[kind].create(name, **{k: v for k, v in options.items() if not (kind == "encoder" and k == "T")})
        except (StepError, TypeError) as error:
            raise SpecError(kind, str(error)) from None


_PARTS: dict[str, dict[str, Registry[Any]]] = {
    "model": {"attention": attentions, "embedding": embeddings},
    "learner": {"method": methods, "rule": rules, "subspace": subspaces},
}
"""Where the parts of a component are registered, by the ends of the names of their fields."""


def _plugin_code(spec: Spec) -> dict[str, str]:
    kinds = ("dataset", "encoder", "model", "neuron", "learner", "protocol")
    named = {kind: getattr(spec, kind)["name"] for kind in kinds}
    makers = {kind: _REGISTRIES[kind].get(name) for kind, name in named.items() if (kind, name) != ("model", NO_MODEL)}
    for kind, registries in _PARTS.items():
        makers |= _parts(kind, getattr(spec, kind), registries)
    found = {kind: getattr(sys.modules.get(m.__module__), "__step_plugin__", None) for kind, m in makers.items()}
    return {kind: digest for kind, digest in found.items() if digest}


def _parts(path: str, component: Mapping[str, Any], registries: Mapping[str, Registry[Any]]) -> dict[str, Any]:
    """Return what stands behind the parts that a component names, and behind the parts of these, by path."""
    found: dict[str, Any] = {}
    for field, part in component.items():
        registry = next((each for end, each in registries.items() if field.endswith(end)), None)
        if registry is not None and isinstance(part, Mapping) and "name" in part:
            found[f"{path}.{field}"] = registry.get(part["name"])
            found |= _parts(f"{path}.{field}", part, registries)
    return found
