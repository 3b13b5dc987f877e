"""Released ELM checkpoints: read as their authors' code runs them, written as safetensors, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from typer.testing import CliRunner

from benchmarks.datasets.roots import search_roots
from neurons import elm
from neurons.elm import ELM, BranchELM, ModifiedELM
from neurons.errors import DataError
from step.cli import app

STATE, CONFIG = "neuronio_best_model_state.pt", "model_config.json"
REPOSITORY = Path(__file__).parents[2]


def released() -> Iterator[Any]:
    """Yield the folder of every released checkpoint that lies in a data folder or beside the repository."""
    roots = [*search_roots(), REPOSITORY / "shared" / "data", REPOSITORY.parent / "shared" / "data"]
    found = next((files for root in roots if (files := sorted((root / "elm").rglob(STATE)))), [])
    for file in found:
        yield pytest.param(file.parent, id=file.parent.name)
    if not found:
        why = f"no {STATE} in elm/ of a data folder: set STEP_DATA to one with the files of AaronSpieler/elmneuron"
        yield pytest.param(Path(), id="none", marks=pytest.mark.skip(reason=why))


def restated(tensors: dict[str, Tensor], config: dict[str, Any], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Version 1 of the neuron from its equations, in NumPy: x [T, B, inputs] to outputs [T, B, outputs]."""
    p = {name: value.numpy().astype(np.float64) for name, value in tensors.items()}
    low, high = config["memory_tau_min"], config["memory_tau_max"]
    kappa_m = np.exp(-1 / (low + (high - low) / (1 + np.exp(-p["_proto_tau_m"]))))
    kappa_s, w_s = np.exp(-1 / p["tau_s"]), np.maximum(p["_proto_w_s"], 0)
    index, mask = tensors["input_to_synapse_indices"].numpy(), p["valid_indices_mask"]
    s, m, rows = np.zeros((x.shape[1], len(w_s))), np.zeros((x.shape[1], len(kappa_m))), []
    for x_t in x:
        s = kappa_s * s + w_s * x_t[:, index] * mask
        b = s.reshape(len(s), config["num_branch"], -1).sum(-1)
        h = np.concatenate([b, kappa_m * m], 1) @ p["mlp.network.0.weight"].T + p["mlp.network.0.bias"]
        h = h / (1 + np.exp(-h)) if config.get("mlp_activation") == "silu" else np.maximum(h, 0)
        z = h @ p["mlp.network.2.weight"].T + p["mlp.network.2.bias"]
        m = kappa_m * m + 5 * (1 - kappa_m) * 1.7159 * np.tanh(2 * z / 3)
        rows.append(m @ p["w_y.weight"].T + p["w_y.bias"])
    return np.stack(rows)


def nerve(T: int, B: int) -> Tensor:
    """Spikes of 639 excitatory and 639 inhibitory inputs, the latter negative."""
    x = (torch.rand(T, B, 1278, generator=torch.Generator().manual_seed(0)) < 0.02).double()
    x[..., 639:] *= -1
    return x


@pytest.mark.parametrize("folder", released())
def test_a_released_neuron_computes_what_its_equations_say(folder: Path, tmp_path: Path) -> None:
    tensors = torch.load(folder / STATE, weights_only=True, map_location="cpu")
    config = json.loads((folder / CONFIG).read_text())
    x = nerve(150, 2)
    right = torch.from_numpy(restated(tensors, config, x.numpy()))
    neuron = elm.from_checkpoint(folder / STATE)
    assert (neuron.version, neuron.output, neuron.routing, neuron.memory) == (
        "v1",
        "real",
        "neuronio",
        config["num_memory"],
    )
    # float32 rounds outputs of up to 16 to about 2e-6
    torch.testing.assert_close(neuron(x.float()).double(), right, rtol=0, atol=1e-5)
    torch.testing.assert_close(neuron.double()(x), right, rtol=0, atol=1e-11)

    elm.save(neuron.float(), tmp_path / "n.safetensors")
    again = elm.load(tmp_path / "n.safetensors")
    assert torch.equal(again(x.float()), neuron(x.float()))
    assert repr(again) == repr(neuron)


@pytest.mark.parametrize("folder", released())
def test_the_command_reads_a_released_neuron(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "neuron.safetensors"
    result = CliRunner().invoke(app, ["import", "elm", str(folder / STATE), "-o", str(output)])
    assert result.exit_code == 0, result.output
    neuron = elm.load(output)
    count = sum(p.numel() for p in neuron.parameters())
    for words in (
        f"{count:,} parameters",
        "1,278",
        "45 branches of 100, 4,282 connected",
        "150 ms" * (neuron.memory > 1),
    ):
        assert words in result.output


def write(folder: Path, *, tensors: dict[str, Any] | None = None, **config: Any) -> Path:
    """Write a checkpoint of a neuron with 4 inputs, 2 outputs and 3 memory units, in the released form."""
    neuron = ELM(4, outputs=2, memory=3, readout="real")
    held = {
        "_proto_w_s": neuron.synapse_weight, "_proto_tau_m": neuron.memory_rho, "tau_s": torch.full((4,), 5.0),
        "mlp.network.0.weight": neuron.linears[0].weight, "mlp.network.0.bias": neuron.linears[0].bias,
        "mlp.network.2.weight": neuron.linears[1].weight, "mlp.network.2.bias": neuron.linears[1].bias,
        "w_y.weight": neuron.w_y.weight, "w_y.bias": neuron.w_y.bias,
    }  # fmt: skip
    held |= tensors or {}
    torch.save({name: value.detach() for name, value in held.items() if value is not None}, folder / STATE)
    entries = {"num_input": 4, "num_output": 2, "num_memory": 3, **config}
    (folder / CONFIG).write_text(json.dumps({key: value for key, value in entries.items() if value is not None}))
    return folder / STATE


def test_a_neuron_without_routing_and_one_of_the_second_form(tmp_path: Path) -> None:
    first = elm.from_checkpoint(write(tmp_path, lambda_value=3.0, delta_t=0.5, memory_tau_max=1000.0))
    assert (first.version, first.gain, first.dt, first.index) == ("v1", 3.0, 0.5, None)
    second = elm.from_checkpoint(write(tmp_path, tensors={"tau_s": None, "tau_b": torch.full((4,), 7.0)}))
    assert (second.version, second.tau) == ("v2", 7.0)


def test_random_routing_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    index = torch.tensor([3, 3, 0, 1])
    table = {"input_to_synapse_indices": index, "valid_indices_mask": torch.ones(4, dtype=torch.int64)}
    neuron = elm.from_checkpoint(
        write(tmp_path, tensors=table, input_to_synapse_routing="random_routing", num_branch=4)
    )
    assert neuron.index is not None
    assert torch.equal(neuron.index, index)
    elm.save(neuron, tmp_path / "n.safetensors")
    again = elm.load(tmp_path / "n.safetensors")
    assert again.index is not None
    assert torch.equal(again.index, index)


TABLE = {"input_to_synapse_indices": torch.tensor([0, 2, 1, 9]), "valid_indices_mask": torch.ones(4, dtype=torch.bool)}
SWAPPED = {**TABLE, "input_to_synapse_indices": torch.tensor([2, 0, 1, 3])}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_memory": None}, "it lacks num_memory"),
        ({"num_memorise": 3}, "unknown entries: num_memorise"),
        ({"num_memory": 0}, "does not describe an ELM neuron: memory of elm"),
        ({"num_memory": 4}, r"_proto_tau_m has the shape \[3\], where \[4\] is wanted"),
        ({"mlp_num_layers": 2}, "does not fit its configuration: mlp.network.2.bias"),
        ({"tensors": {"w_y.bias": None}}, r"w_y.bias is absent, where \[2\] is wanted"),
        ({"tensors": {"w_z": torch.ones(2)}}, "w_z has no place in it"),
        ({"tensors": {"tau_s": None}}, "lacks tau_s"),
        ({"tensors": {"tau_s": torch.arange(4.0)}}, "different time constants"),
        ({"input_to_synapse_routing": "some"}, "input_to_synapse_routing is one of"),
        ({"input_to_synapse_routing": "random_routing"}, "input_to_synapse_indices is absent"),
        ({"input_to_synapse_routing": "random_routing", "tensors": TABLE}, "inputs from 0 to 3"),
        ({"input_to_synapse_routing": "neuronio_routing", "tensors": SWAPPED}, "is not the one that its configuration"),
    ],
)
def test_wrong_checkpoints_are_refused_in_one_line(given: dict[str, Any], words: str, tmp_path: Path) -> None:
    file = write(tmp_path, **given)
    with pytest.raises(DataError, match=words) as raised:
        elm.from_checkpoint(file)
    assert "\n" not in str(raised.value)


def test_wrong_files_are_refused_in_one_line(tmp_path: Path) -> None:
    file = write(tmp_path)
    (tmp_path / "text.pt").write_text("no archive")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    torch.save({"call": re.compile("x")}, tmp_path / "code.pt")
    (tmp_path / "list.json").write_text("[]")
    wrong = [
        (tmp_path / "none.pt", None, "none.pt cannot be read: No such file"),
        (tmp_path / "text.pt", None, "text.pt is no PyTorch state dict"),
        (tmp_path / "code.pt", None, "code.pt is no PyTorch state dict"),
        (tmp_path / "list.pt", None, "something else than named tensors"),
        (file, tmp_path / "none.json", "none.json is not a readable"),
        (file, tmp_path / "list.json", "list.json is no mapping"),
        (file, tmp_path / "text.pt", "text.pt is not a readable"),
    ]
    for path, config, words in wrong:
        with pytest.raises(DataError, match=words) as raised:
            elm.from_checkpoint(path, config)
        assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match="not a readable safetensors file"):
        elm.load(file)
    result = CliRunner().invoke(app, ["import", "elm", str(file), "-o", "x.pt"])
    assert result.exit_code != 0
    assert not Path("x.pt").exists()


@pytest.mark.parametrize(
    "neuron",
    [
        BranchELM(12, routing="neuronio", branches=5, surrogate={"name": "sigmoid", "alpha": 3.0}),
        ModifiedELM(6, outputs=2, tau=3.0, high_pass=4.0, learn_memory_tau=True, rectifier="abs", layers=2).double(),
    ],
)
def test_every_form_is_written_and_read_again(neuron: Any, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    file = tmp_path / "n.safetensors"
    elm.save(neuron, file, {"source": "a test"})
    again = elm.load(file)
    x = torch.randn(8, 2, neuron.features, dtype=neuron.synapse_weight.dtype)
    assert torch.equal(again(x), neuron(x))
    assert (type(again), again.surrogate) == (type(neuron), neuron.surrogate)
    with safe_open(file, "pt") as opened:
        header = opened.metadata()
    assert (header["source"], header["neuron"]) == ("a test", neuron.registered_name)

    held = load_file(file)
    save_file({**held, "w_y.weight": torch.ones(1)}, file, header)
    with pytest.raises(DataError, match=r"w_y\.weight has the shape"):
        elm.load(file)
    save_file(held, file, {**header, "neuron": "lif"})
    with pytest.raises(DataError, match="cannot be made"):
        elm.load(file)
    save_file(held, file)
    with pytest.raises(DataError, match="its header names none"):
        elm.load(file)
