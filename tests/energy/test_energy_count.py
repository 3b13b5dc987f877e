"""The counter: what it sees, how it names it, and what it refuses to pass over."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import energy
import neurons
from neurons.errors import DataError, OptionError, ShapeError


def spikes(*shape: int, rate: float = 0.3, seed: int = 0) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Sequential(nn.Linear(8, 8), neurons.LIF()) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        return (q @ k.transpose(-1, -2)) * 0.125 @ v


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.norm = nn.BatchNorm1d(6)
        self.out = neurons.LIF()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.out(self.attention(x))


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    block = Block()
    with torch.no_grad():
        for p in block.parameters():
            p.mul_(6)
    return block


def test_functional_calls_are_named_after_their_module(block: Block) -> None:
    record = energy.measure(block, spikes(4, 2, 6, 8))
    assert list(record.layers["layer"]) == [
        "attention.query.0", "attention.query.1", "attention.key.0", "attention.key.1", "attention.value.0",
        "attention.value.1", "attention.matmul-1", "attention.mul-1", "attention.matmul-2", "out", "add-1",
    ]  # fmt: skip
    assert record.layers["order"].is_monotonic_increasing
    assert set(record.layers["T"]) == {4}


def test_products_of_two_activations_against_brute_force(block: Block) -> None:
    x = spikes(4, 3, 6, 8)
    record = energy.measure(block, x)
    with torch.no_grad():
        q, k, v = (part(x) for part in (block.attention.query, block.attention.key, block.attention.value))
    scores = q @ k.transpose(-1, -2)
    first, second = (record.products.set_index("layer").loc[f"attention.matmul-{i}"] for i in (1, 2))
    assert scores.sum() > 0
    assert (first["operand"], first["second_operand"]) == ("binary", "binary")
    assert first["exact"] * 3 == scores.sum().item()  # coincidences of spikes
    assert first["dense"] * 3 == 4 * 3 * 6 * 6 * 8
    assert first["nominal"] == pytest.approx(first["dense"] * q.mean().item() * k.mean().item())
    # Scaled by 1/8 the scores are still sums of spikes; each addition of one is gated by a spike of v.
    assert (second["operand"], second["second_operand"]) == ("integer", "binary")
    assert second["exact"] * 3 == ((scores != 0).float() @ v).sum().item()
    assert second["events_exact"] * 3 == (scores @ v).sum().item()
    assert second["magnitude"] * 3 == scores.sum().item()


def test_a_neuron_is_one_row(block: Block) -> None:
    x = spikes(4, 2, 6, 8)
    record = energy.measure(block, x)
    row = record.layers.set_index("layer").loc["attention.query.1"]
    with torch.no_grad():
        sent = block.attention.query(x).sum().item()
    assert (row["kind"], row["neuron"], row["output"], row["states"]) == ("neuron", "lif", "binary", 1)
    assert (row["neurons"], row["updates"]) == (48, 4 * 48)
    assert row["nonzero_outputs"] * 2 == sent
    arithmetic = record.operations[record.operations["layer"] == "attention.query.1"].set_index("op")["dense"]
    assert arithmetic.to_dict() == {op: n * 4 * 48 for op, n in neurons.update_cost(neurons.LIF()).items()}
    state = record.memory[(record.memory["layer"] == "attention.query.1") & (record.memory["role"] == "state")]
    assert list(zip(state["direction"], state["elements"], strict=True)) == [("read", 192), ("write", 192)]


def test_numbers_are_per_inference(block: Block) -> None:
    x = spikes(4, 6, 6, 8)
    whole = energy.measure(block, x)
    halves = energy.measure(block, [x[:, :2], x[:, 2:]])
    repeated = energy.measure(block, torch.cat([x, x], dim=1))
    for other in (halves, repeated):
        for table in ("layers", "operations"):
            a, b = whole.to_frames()[table], other.to_frames()[table]
            columns = [c for c in a.select_dtypes("number") if "nominal" not in c]
            assert torch.allclose(torch.tensor(a[columns].to_numpy(float)), torch.tensor(b[columns].to_numpy(float)),
                                  equal_nan=True)  # fmt: skip
    assert (halves.provenance["samples"], halves.provenance["batches"]) == (6, 2)
    assert energy.measure(block, [(x[:, :2], 0), (x[:, 2:], 1)], batches=1).provenance["samples"] == 2


def test_operand_classes_merge_to_the_widest() -> None:
    layer = nn.Linear(8, 4)
    real = torch.rand(2, 2, 8)
    record = energy.measure(layer, [spikes(2, 2, 8), real])
    assert record.layers.loc[0, "operand"] == "real"
    # What each class of operand costs differs, so the operations keep a row for each.
    assert sorted(record.products["operand"]) == ["binary", "real"]
    assert math.isnan(record.products.set_index("operand").loc["real", "events_exact"])
    sums = energy.measure(layer, [spikes(2, 2, 8), 2 * spikes(2, 2, 8)])
    assert sums.layers.loc[0, "operand"] == "integer"


@pytest.mark.parametrize(
    ("values", "kind", "bits"),
    [([0.0, 1.0], "binary", 1), ([-1.0, 1.0], "ternary", 2), ([0.0, 5.0], "integer", 3), ([0.0, 17.0], "integer", 5),
     ([0.25, 1.0], "real", 32), ([float("inf"), 1.0], "real", 32), ([3e9, 0.0], "real", 32)],
)  # fmt: skip
def test_operand_class_by_value(values: list[float], kind: str, bits: int) -> None:
    x = torch.tensor(values).repeat(50_000).view(1, 10, -1)
    row = energy.measure(nn.Linear(x.shape[-1], 1), x).products.iloc[0]
    assert (row["operand"], row["bits"]) == (kind, bits)


def test_a_late_real_value_is_found() -> None:
    x = torch.zeros(1, 1, 200_000)
    x[0, 0, -1] = 0.5
    assert energy.measure(nn.Linear(200_000, 1), x).products.iloc[0]["operand"] == "real"


def test_declared_real_input() -> None:
    pixels = torch.randint(0, 256, (1, 2, 8)).float()
    assert energy.measure(nn.Linear(8, 2), pixels).products.iloc[0]["operand"] == "integer"
    assert energy.measure(nn.Linear(8, 2), pixels, input_operand="real").products.iloc[0]["operand"] == "real"
    with pytest.raises(OptionError, match="input_operand"):
        energy.measure(nn.Linear(8, 2), pixels, input_operand="binary")


def test_silent_relu_stays_real() -> None:
    network = nn.Sequential(neurons.ReLU(), nn.Linear(8, 4), neurons.ReLU(), nn.Linear(4, 2))
    record = energy.measure(network, -torch.ones(1, 2, 8))
    assert set(record.products["operand"]) == {"real"}
    assert energy.price(record)["total"].sum() == pytest.approx(4.6 * 40)


def test_a_stem_computed_once_counts_once() -> None:
    class Stem(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.neuron = nn.Conv2d(1, 2, 3, padding=1), neurons.IF()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            once = self.conv(x[0])
            return self.neuron(once.unsqueeze(0).expand(x.shape[0], *once.shape))

    x = torch.rand(1, 3, 1, 5, 5).expand(4, 3, 1, 5, 5)
    record = energy.measure(Stem(), x)
    layers = record.layers.set_index("layer")
    assert layers["T"].to_dict() == {"conv": 1, "neuron": 4}
    assert layers.loc["conv", "inputs"] == 25
    assert record.products.iloc[0]["dense_nominal"] == 25 * 9 * 2


def test_single_step_networks_count_all_steps() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.layer(x_t) for x_t in x])

    x = spikes(5, 2, 8)
    looped, folded = energy.measure(Loop(), x), energy.measure(nn.Sequential(nn.Linear(8, 4)), x)
    assert looped.layers.loc[0, ["layer", "T", "calls"]].tolist() == ["layer", 5, 5]
    assert looped.products["exact"].sum() == folded.products["exact"].sum()
    assert looped.spikes_per_synapse == pytest.approx(folded.spikes_per_synapse)


def test_norms_after_products_are_folded_and_others_are_not() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3), nn.GroupNorm(1, 3))
    record = energy.measure(network, torch.rand(3, 2, 6, 6))
    assert record.layers.set_index("layer")["folded"].to_dict() == {
        "0": False, "1": True, "2.relu-1": False, "3": False, "4": False,
    }  # fmt: skip
    assert set(record.operations.loc[record.operations["layer"] == "3", "op"]) == {"mul", "add"}
    assert "1" not in set(record.operations["layer"])


def test_bias_is_a_row_of_additions() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.shift = nn.Parameter(torch.rand(8, 4)), nn.Parameter(torch.rand(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight + self.shift

    x = spikes(2, 3, 8)
    for network in (nn.Linear(8, 4), Shifted()):
        record = energy.measure(network, x)
        assert list(record.operations["op"]) == ["mac", "add"]
        assert list(record.operations["dense"]) == [2 * 8 * 4, 2 * 4]
        assert record.layers.loc[0, "bias"] == 4
        assert record.layers.loc[0, "weights"] == 32


def test_what_depends_on_weights_alone_is_free() -> None:
    class Standardised(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(x, (self.weight - self.weight.mean()) / self.weight.std(), self.bias)

    record = energy.measure(Standardised(8, 4), spikes(2, 3, 8))
    assert list(record.layers["kind"]) == ["linear"]
    assert record.provenance["uncounted"] == {}


def test_library_attention_is_not_hidden_in_a_fused_kernel() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    record = energy.measure(layer, torch.rand(2, 5, 8))
    kinds = list(record.layers["kind"])
    assert kinds.count("linear") >= 4
    assert kinds.count("matmul") == 2
    assert "softmax" in kinds
    assert record.provenance["uncounted"] == {}

    class Fused(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(x, x, x)

    assert list(energy.measure(Fused(), torch.rand(2, 3, 5, 8)).layers["kind"]).count("matmul") == 2


def test_importing_the_package_is_light() -> None:
    code = "import sys, energy; print([m for m in ('pandas', 'spikingjelly', 'snntorch', 'yaml') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_training_flags_come_back() -> None:
    network = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout())
    network[1].eval()
    before = [m.training for m in network.modules()], network[1].running_mean.clone()
    energy.measure(network, torch.rand(4, 8))
    assert [m.training for m in network.modules()] == before[0]
    assert torch.equal(network[1].running_mean, before[1])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_a_silent_layer_is_an_error() -> None:
    class Hidden(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(np.asarray(x) @ self.weight.detach().numpy().T)

    network = nn.Sequential(nn.Linear(8, 8), Hidden(8, 2))
    with pytest.raises(DataError, match=r"'1'.*none of its products was seen"):
        energy.measure(network, torch.rand(2, 3, 8))
    assert not network[1]._forward_hooks  # cleaned up after the error
    assert network.training


def test_a_recurrent_layer_that_the_counter_cannot_see_into_is_an_error() -> None:
    with pytest.raises(DataError, match="LSTM"):
        energy.measure(nn.LSTM(8, 4), torch.rand(2, 3, 8))


def test_a_network_without_operations_is_an_error() -> None:
    with pytest.raises(DataError, match="nothing was counted"):
        energy.measure(nn.Identity(), torch.rand(2, 3, 8))


def test_unknown_arithmetic_is_listed() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.i0(self.layer(x))

    record = energy.measure(Odd(), torch.rand(2, 3, 8))
    assert record.provenance["uncounted"] == {"aten.i0": 8.0}
    assert "aten.i0" in energy.price(record).attrs["warnings"][0]


def test_in_place_operations_are_counted_on_what_they_overwrite() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8, bias=False)
            self.neuron = neurons.IF()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            s = self.neuron(x)
            s += x
            return self.layer(s)

    x = spikes(2, 3, 8, rate=0.5)
    record = energy.measure(InPlace(), x)
    add = record.operations[record.operations["layer"] == "add-1"].iloc[0]
    with torch.no_grad():
        s = neurons.IF()(x)
    assert (add["operand"], add["exact"] * 3) == ("binary", (s.sum() + x.sum()).item())
    assert record.products.iloc[0]["operand"] == "integer"


def test_outputs_written_into_a_buffer_are_no_arithmetic() -> None:
    class Buffered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron, self.layer = neurons.IF(), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            s = self.neuron(x)
            out = torch.zeros_like(s)
            for t in range(x.shape[0]):
                out[t] = s[t]
            out[:, :, s.sum((0, 1)) < 0] = 0
            return self.layer(out)

    record = energy.measure(Buffered(), spikes(2, 3, 8, rate=0.5))
    assert record.provenance["uncounted"] == {}
    assert record.layers.set_index("layer").loc["layer", "operand"] == "binary"


def test_a_neuron_streamed_through_run_is_still_one_row() -> None:
    class Streaming(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.neuron = nn.Linear(8, 4), neurons.LIF()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.neuron.run(self.layer(x))[0]

    network = Streaming()
    record = energy.measure(network, spikes(2, 3, 8))
    assert list(record.layers["layer"]) == ["layer", "neuron"]
    assert "run" not in vars(network.neuron)


@pytest.mark.parametrize(
    "x", [torch.rand(3), torch.rand(0, 2, 3), torch.rand(2, 0, 3), [torch.rand(2, 1, 8), torch.rand(3, 1, 8)], ["a"]]
)
def test_wrong_input(x: object) -> None:
    with pytest.raises(ShapeError):
        energy.measure(nn.Linear(8, 2), x)


def test_no_input() -> None:
    with pytest.raises(DataError, match="no batch"):
        energy.measure(nn.Linear(8, 2), [])
    with pytest.raises(OptionError, match="batches"):
        energy.measure(nn.Linear(8, 2), torch.rand(2, 2, 8), batches=0)
