"""ELM neurons as files: released checkpoints read, and neurons written and read again as safetensors.

The released checkpoints are those of Spieler et al., ICLR 2024 (github.com/AaronSpieler/elmneuron): a PyTorch state
dict beside a ``model_config.json``. Both hold plain tensors and numbers, and nothing else is taken from them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurons.base import neurons
from neurons.elm.base import LeakyMemory
from neurons.elm.cell import ELM
from neurons.errors import DataError, OptionError

_OPTIONS = {
    "num_input": "features",
    "num_output": "outputs",
    "num_memory": "memory",
    "lambda_value": "gain",
    "mlp_num_layers": "layers",
    "mlp_hidden_size": "hidden",
    "mlp_activation": "activation",
    "memory_tau_min": "tau_min",
    "memory_tau_max": "tau_max",
    "learn_memory_tau": "learn_memory_tau",
    "num_branch": "branches",
    "num_synapse_per_branch": "synapses",
    "delta_t": "dt",
}
"""Entries of a released configuration that are options under another name; what they leave out is our default too."""
_READ = {"input_to_synapse_routing", "tau_s_value", "tau_b_value", "w_s_value"}
"""Entries that need a second look, or that the weights themselves answer."""
_NEEDED = ("num_input", "num_output", "num_memory")
_ROUTINGS = {None: "none", "random_routing": "random", "neuronio_routing": "neuronio"}
_INDEX, _MASK = "input_to_synapse_indices", "valid_indices_mask"

Tensors = dict[str, Tensor]


def from_checkpoint(file: str | Path, config: str | Path | None = None) -> ELM:
    """Read a released checkpoint.

    Parameters
    ----------
    file : path
        State dict, such as ``neuronio_best_model_state.pt``.
    config : path, optional
        Its configuration; ``model_config.json`` beside it when left out.

    Returns
    -------
    ELM
        Of version 1, or 2 where the file is of the second form, with real outputs; the checkpoint's routing is kept.

    Raises
    ------
    DataError
        When a file cannot be read, or file and configuration do not describe one ELM neuron.
    """
    file = Path(file)
    config = file.with_name("model_config.json") if config is None else Path(config)
    tensors = _state_dict(file)
    entries = _entries(config)
    options: dict[str, Any] = {option: entries[key] for key, option in _OPTIONS.items() if entries.get(key) is not None}
    routing = entries.get("input_to_synapse_routing")
    if routing not in _ROUTINGS:
        known = ", ".join(str(word) for word in _ROUTINGS)
        raise DataError(f"{config}: input_to_synapse_routing is one of {known}, not {routing!r}")
    tau = "tau_b" if "tau_b" in tensors else "tau_s"
    version = "v2" if tau == "tau_b" else "v1"
    options |= {"routing": _ROUTINGS[routing], "version": version, "readout": "real"}
    try:
        neuron = ELM(**options, tau=_shared_tau(tensors, tau, file))
    except (OptionError, TypeError, ValueError) as error:
        raise DataError(f"{config} does not describe an ELM neuron: {error}") from None
    names = _names(neuron, tau)
    _compare(file, tensors, {key: neuron.state_dict()[name] for key, name in names.items()}, tau, routing is not None)
    if routing is not None:
        _routing(file, neuron, tensors)
    neuron.load_state_dict({name: tensors[key] for key, name in names.items()}, strict=False)
    return neuron


def save(neuron: LeakyMemory, file: str | Path, facts: dict[str, str] | None = None) -> None:
    """Write a registered leaky memory neuron as safetensors; its name and options stand in the header.

    Parameters
    ----------
    neuron : ELM, BranchELM or ModifiedELM
    file : path
    facts : dict of str to str, optional
        Entries that go into the header as well, such as where the weights come from.
    """
    from safetensors.torch import save_file

    held = {name: value.detach().cpu().contiguous() for name, value in neuron.state_dict().items()}
    header = {"neuron": neuron.registered_name, "options": json.dumps(_options(neuron))}
    save_file(held, str(file), {**(facts or {}), **header})


def load(file: str | Path) -> LeakyMemory:
    """Read what :func:`save` wrote.

    Raises
    ------
    DataError
        When the file is not such a neuron.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as opened:
            held = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            header = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file} is not a readable safetensors file: {error}") from None
    if "neuron" not in header or "options" not in header:
        raise DataError(f"{file} holds no ELM neuron: its header names none; write one with neurons.elm.save")
    try:
        neuron = neurons.create(header["neuron"], **json.loads(header["options"]))
    except (OptionError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: the neuron of its header cannot be made: {error}") from None
    if not isinstance(neuron, LeakyMemory):
        raise DataError(f"{file} holds the neuron {header['neuron']!r}, which is no ELM neuron")
    wanted = neuron.state_dict()
    wrong = sorted({name for name in {*held, *wanted} if _shape(held, name) != _shape(wanted, name)})
    if wrong:
        raise DataError(f"{file} does not fit its header: {_differences(wrong, held, wanted)}")
    neuron.to(held["synapse_weight"].dtype).load_state_dict(held)
    return neuron


def _state_dict(file: Path) -> Tensors:
    try:
        # Tensors only: an ordinary reader would run whatever a pickle names. The released ones were on a GPU.
        found = torch.load(file, weights_only=True, map_location="cpu")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from None
    except Exception:  # a damaged archive fails in any way
        raise DataError(f"{file} is no PyTorch state dict: it is damaged, or holds more than named tensors") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(f"{file} is no PyTorch state dict: it holds something else than named tensors")
    return dict(found)


def _entries(config: Path) -> dict[str, Any]:
    try:
        found = json.loads(config.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{config} is not a readable model_config.json: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"{config} is no mapping; a configuration names num_input, num_output, num_memory and more")
    lacking = [key for key in _NEEDED if key not in found]
    unknown = sorted(set(found) - set(_OPTIONS) - _READ)
    if lacking or unknown:
        what = f"lacks {', '.join(lacking)}" if lacking else f"has unknown entries: {', '.join(unknown)}"
        raise DataError(f"{config} is no configuration of an ELM neuron: it {what}")
    return found


def _shared_tau(tensors: Tensors, key: str, file: Path) -> float:
    tau = tensors.get(key)
    if tau is None or not tau.numel():
        raise DataError(f"{file} is no checkpoint of an ELM neuron: it lacks tau_s")
    if not bool((tau == tau.flatten()[0]).all()):
        raise DataError(f"{file}: {key} holds different time constants; all synapses must share one")
    return float(tau.flatten()[0])


def _names(neuron: ELM, tau: str) -> dict[str, str]:
    """Return the checkpoint's names of what our neuron holds."""
    # A released perceptron counts its activations as layers.
    layers = {
        f"mlp.network.{2 * i}.{part}": f"mlp.{i}.{part}" for i in range(len(neuron.mlp)) for part in ("weight", "bias")
    }
    own = {"_proto_w_s": "synapse_weight", "_proto_tau_m": "memory_rho"}
    return {**own, **layers, "w_y.weight": "w_y.weight", "w_y.bias": "w_y.bias"}


def _compare(file: Path, tensors: Tensors, wanted: Tensors, tau: str, routed: bool) -> None:
    """Refuse missing, unknown and misshapen tensors."""
    sizes = len(wanted["_proto_w_s"])
    everything = dict(wanted)
    if routed:
        everything |= {_INDEX: torch.empty(sizes), _MASK: torch.empty(sizes)}
    if tau == "tau_s":
        everything[tau] = torch.empty(sizes)
    given = {name: value for name, value in tensors.items() if name != "tau_b"}
    # Without routing, the release keeps two empty parameters.
    given = {name: value for name, value in given.items() if routed or name not in (_INDEX, _MASK) or value.numel()}
    wrong = sorted(name for name in {*given, *everything} if _shape(given, name) != _shape(everything, name))
    if wrong:
        raise DataError(f"{file} does not fit its configuration: {_differences(wrong, given, everything)}")


def _routing(file: Path, neuron: ELM, tensors: Tensors) -> None:
    """Take over the checkpoint's routing, after a check."""
    index, mask = tensors[_INDEX].long(), tensors[_MASK].bool()
    if int(index.min()) < 0 or int(index.max()) >= neuron.features:
        raise DataError(f"{file}: {_INDEX} must name inputs from 0 to {neuron.features - 1}")
    if neuron.routing == "neuronio":
        ours = torch.ones_like(mask) if neuron.mask is None else neuron.mask
        if not torch.equal(mask, ours) or not torch.equal(index, _number(neuron.index)):
            raise DataError(f"{file}: its routing is not the one that its configuration names, 'neuronio_routing'")
    neuron.index = index
    neuron.mask = None if bool(mask.all()) else mask


def _number(index: Tensor | None) -> Tensor:
    return torch.empty(0, dtype=torch.int64) if index is None else index


def _shape(tensors: Tensors, name: str) -> list[int] | None:
    return list(tensors[name].shape) if name in tensors else None


def _differences(names: list[str], given: Tensors, wanted: Tensors) -> str:
    def said(tensors: Tensors, name: str) -> str:
        return "is absent" if name not in tensors else f"has the shape {_shape(tensors, name)}"

    name = names[0]
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    if name not in wanted:
        return f"{name} has no place in it{more}"
    return f"{name} {said(given, name)}, where {_shape(wanted, name)} is wanted{more}"


def _options(neuron: LeakyMemory) -> dict[str, Any]:
    """Return the options that make a neuron like this one, as JSON takes them."""
    named = {
        option: getattr(neuron, option) for option in neurons.options(neuron.registered_name) if option != "weight"
    }
    named["surrogate"] = {"name": neuron.surrogate.registered_name, **asdict(neuron.surrogate)}  # type: ignore
    return named
