"""Lemaire et al. 2022: worked example, published errors, and the estimator of SpikingJelly on the same network."""

import importlib
import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

import energy
from energy import Record, derive
from energy.models import standard
from neurons.errors import OptionError

MEMORY = ["memory_weight", "memory_state", "memory_activation"]
THETA, THETA_OUT, T = 313.6, 25.6, 4  # rates 0.1 and 0.05 of 784 inputs and 128 outputs in each of 4 steps


def linear(**values: object) -> dict:
    return {"layer": "fc", "kind": "linear", "in_channels": 784, "out_channels": 128, "weights": 100_352, "bias": 128,
            **values}  # fmt: skip


def spiking(leaky: bool | None = False, **values: object) -> Record:
    product = {"operand": "binary", "dense": T * 100_352, "effective": THETA * 128, "inputs": T * 784,
               "nonzero": THETA, "magnitude": THETA, "outputs": T * 128}  # fmt: skip
    neuron = {"layer": "if", "kind": "neuron", "updates": T * 128, "nonzero_outputs": THETA_OUT, "leaky": leaky}
    return Record.from_layers([linear(**{**product, **values}), neuron], T=T)


def formal() -> Record:
    return Record.from_layers([linear(operand="real", dense=100_352, inputs=784, outputs=128)], T=1)


def sums(table: pd.DataFrame) -> Mapping[str, float]:
    return table.drop(columns=["layer", "kind", "applicable", "note"]).sum().to_dict()


def test_worked_example_of_a_formal_layer() -> None:
    found = sums(energy.price(formal(), "lemaire"))
    assert found["compute"] == pytest.approx(321_139, abs=0.5)
    assert found["addressing"] == pytest.approx(10_035, abs=0.5)
    assert found["memory_weight"] == pytest.approx(4_837_245 + 1_695, abs=1)
    assert found["memory_activation"] == pytest.approx(10_563 + 1_695, abs=1)
    assert found["memory_state"] == 0
    assert found["total"] == pytest.approx(5_182_373, abs=1)


def test_worked_example_of_a_spiking_layer() -> None:
    table = energy.price(spiking(), "lemaire").set_index("layer")
    found = sums(table.reset_index())
    assert found["compute"] + found["neuron"] == pytest.approx(4_068, abs=0.5)
    assert found["addressing"] == pytest.approx(4_014, abs=0.5)
    assert found["memory_weight"] == pytest.approx(1_934_898 + 6_781, abs=1)
    assert found["memory_activation"] == pytest.approx(4_140 + 338, abs=1)
    assert found["memory_state"] == pytest.approx(2 * 538_432, abs=1)
    assert found["total"] == pytest.approx(3_031_103, abs=1)
    # Each count stands on the row that causes it: 512 updates and 25.6 resets of the neurons at 0.1 pJ.
    assert table.loc["if", "neuron"] == pytest.approx(53.76)
    assert table.loc["if", "memory_state"] / table.loc["fc", "memory_state"] == pytest.approx(512 / 40_140.8)


def test_ratio_of_the_worked_example() -> None:
    ratio = energy.price(formal(), "lemaire")["total"].sum() / energy.price(spiking(), "lemaire")["total"].sum()
    assert ratio == pytest.approx(1.71, abs=0.005)


def test_a_leak_is_one_multiply_accumulate_for_each_update() -> None:
    totals = [energy.price(spiking(leaky), "lemaire")["total"].sum() for leaky in (True, False)]
    assert totals[0] - totals[1] == pytest.approx(1_638.4)


@pytest.mark.parametrize(("name", "leaky"), [("if", False), ("IFNode", False), ("lif", True), ("Leaky", True)])
def test_names_tell_whether_a_neuron_leaks_where_the_record_does_not(name: str, leaky: bool) -> None:
    neuron = {"layer": "n", "kind": "neuron", "updates": 10.0, "nonzero_outputs": 0.0, "neuron": name}
    table = energy.price(Record.from_layers([neuron], T=1), "lemaire")
    assert table["neuron"].sum() == pytest.approx(10 * (0.1 + 3.2 * leaky))
    assert not any("leak" in warning for warning in table.attrs["warnings"])


def test_an_unknown_leak_is_said() -> None:
    table = energy.price(spiking(None), "lemaire")
    assert any("no leak is charged" in warning and "if" in warning for warning in table.attrs["warnings"])


@pytest.mark.parametrize(("reading", "ann", "snn"), [("a", 5_182, 3_031), ("b", 838.1, 619.6), ("c", 5_255, 2_055)])
def test_three_readings_of_one_paper(reading: str, ann: float, snn: float) -> None:
    found = [energy.price(record, "lemaire", reading=reading)["total"].sum() / 1000 for record in (formal(), spiking())]
    assert found == [pytest.approx(ann, rel=2e-4), pytest.approx(snn, rel=3e-4)]


def test_the_readings_are_variants() -> None:
    assert [choice.label for choice in standard(["lemaire"])] == ["lemaire a", "lemaire b", "lemaire c"]


def test_eight_bits_share_a_bus_access() -> None:
    # 5 pJ for 32 bits and 1.25 pJ for 8 of a 64-bit access at 10 pJ; int8 adders at 0.03 pJ.
    wide, narrow = (sums(energy.price(spiking(), "lemaire", reading="b", bits=bits)) for bits in (32, 8))
    assert wide["memory_weight"] == pytest.approx(5 * (40_140.8 + 512))
    assert narrow["memory_weight"] == pytest.approx(1.25 * (40_140.8 + 512))
    assert narrow["compute"] / wide["compute"] == pytest.approx(0.3)
    # A line of capacity does not share: an access of 8 bits costs the same but for the smaller memory.
    line = sums(energy.price(spiking(), "lemaire", bits=8))
    assert line["memory_weight"] == pytest.approx(
        40_140.8 * (1.09e-5 * 8 * 100_352 + 13.2) + 512 * (1.09e-5 * 8 * 128 + 13.2)
    )


@pytest.mark.parametrize(("reading", "factor"), [("a", 3.45), ("b", 2.0), ("c", 3.29)])
def test_larger_memories_cost_more_but_for_the_bus_reading(reading: str, factor: float) -> None:
    # Twice the layer has twice the counts, and memories of twice the size: only a price by the bus is linear.
    double = spiking(
        dense=2 * T * 100_352, effective=2 * THETA * 128, inputs=2 * T * 784, nonzero=2 * THETA, magnitude=2 * THETA,
        outputs=2 * T * 128, weights=2 * 100_352, bias=256,
    )  # fmt: skip
    one, two = (energy.price(r, "lemaire", reading=reading)["memory_weight"].sum() for r in (spiking(), double))
    assert two / one == pytest.approx(factor, abs=0.01)


def test_size_of_the_queues() -> None:
    small, large = (sums(energy.price(spiking(), "lemaire", fifo=fifo)) for fifo in (0, 1000))
    assert large["memory_activation"] - small["memory_activation"] == pytest.approx(
        (THETA + THETA_OUT) * 1.09e-5 * 32e3
    )


def test_addressing_of_formal_linear_layers() -> None:
    by_product, by_sum = (sums(energy.price(formal(), "lemaire", addressing=each)) for each in ("product", "sum"))
    assert by_product["addressing"] == pytest.approx(0.1 * 784 * 128)
    assert by_sum["addressing"] == pytest.approx(0.1 * (784 + 128))
    assert sums(energy.price(formal(), "lemaire", reading="c"))["addressing"] == pytest.approx(by_sum["addressing"])


SIZES = {"layer": "conv", "kind": "conv", "in_channels": 16, "out_channels": 32, "kernel_size": "3x3", "stride": "1x1",
         "weights": 16 * 32 * 9, "bias": 32}  # fmt: skip
MACS = 16 * 32 * 9 * 1024


def test_convolution_of_real_values() -> None:
    record = Record.from_layers(
        [{**SIZES, "operand": "real", "dense": MACS, "inputs": 16 * 1024, "outputs": 32 * 1024}], T=1
    )
    found = sums(energy.price(record, "lemaire", reading="b"))
    assert MACS == 4_718_592
    assert found["compute"] == pytest.approx(4_718_592 * 3.2 + 32_768 * 0.1)
    assert found["addressing"] == pytest.approx(49_440 * 0.1)
    assert found["memory_weight"] == pytest.approx(5 * (4_718_592 + 32_768))
    assert found["memory_activation"] == pytest.approx(5 * (4_718_592 + 32_768))


def test_convolution_of_spikes() -> None:
    theta, steps = 6_553.6, 4
    synapses = theta * 32 * 9
    assert synapses == pytest.approx(1_887_436.8)
    layer = {**SIZES, "operand": "binary", "dense": steps * MACS, "effective": synapses, "inputs": steps * 16 * 1024,
             "magnitude": theta, "outputs": steps * 32 * 1024}  # fmt: skip
    neuron = {"layer": "if", "kind": "neuron", "updates": 131_072, "nonzero_outputs": 100.0, "leaky": False}
    table = energy.price(Record.from_layers([layer, neuron], T=steps), "lemaire", reading="b").set_index("layer")
    assert table.loc["conv", "compute"] == pytest.approx(0.1 * 1_887_436.8)
    assert table.loc["if", "neuron"] == pytest.approx(0.1 * (131_072 + 100))
    assert table.loc["conv", "addressing"] == pytest.approx(3.2 * 13_107.2 + 0.1 * 1_887_436.8)
    assert table["memory_state"].sum() == pytest.approx(2 * 5 * (1_887_436.8 + 131_072))
    # Qualia drops Co from (16.3): its addressing is 32 times cheaper in the additions.
    assert table.loc["conv", "addressing"] - 3.2 * 13_107.2 == pytest.approx(32 * 0.1 * theta * 9)


def test_strides_shorten_the_fan_out_of_operations_but_not_of_memory() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False)
    table = energy.price(energy.measure(EveryStep(network), torch.ones(1, 1, 1, 4, 4)), "lemaire", reading="b")
    # One map of 16 spikes: 64 additions, 144 weights; the four sums of this readout are kept once more.
    assert table["compute"].sum() == pytest.approx(0.1 * (64 + 4))
    assert table["memory_weight"].sum() == pytest.approx(5 * 144)
    assert table["memory_state"].sum() == pytest.approx(2 * 5 * (144 + 4))


def test_the_published_additions_of_linear_layers_are_not_used() -> None:
    table = energy.price(spiking(), "lemaire")
    additions = (table["compute"].sum() + table["neuron"].sum()) / 0.1
    published = THETA * 784 * 128 + T * 128  # (2.4): Nin once too often, no reset
    assert additions == pytest.approx(THETA * 128 + T * 128 + THETA_OUT)
    assert published / additions == pytest.approx(773.6, abs=0.1)


def test_qualia_addresses_linear_layers_by_the_spikes_of_one_input() -> None:
    # It multiplies Nout by the spikes of one input (here 0.4) where (17.2) has all theta: a factor Nin.
    found = sums(energy.price(spiking(), "lemaire"))["addressing"]
    assert found == pytest.approx(0.1 * THETA * 128)
    assert found / (0.1 * (THETA / 784) * 128) == pytest.approx(784)


def test_a_sum_of_spikes_is_as_many_spikes() -> None:
    plain = energy.price(spiking(), "lemaire")
    sums_of_two = spiking(
        operand="integer", effective=THETA * 64, nonzero=THETA / 2, bits=2, events_exact=THETA * 128,
        events_nominal=THETA * 128,
    )  # fmt: skip
    assert sums(energy.price(sums_of_two, "lemaire")) == pytest.approx(sums(plain), nan_ok=True)


def test_real_values_before_spiking_neurons() -> None:
    # Ten of 784 values are not zero, in a layer that is computed once; potentials are updated at all four steps.
    product = linear(operand="real", dense=100_352, effective=10 * 128, inputs=784, nonzero=10.0, outputs=128)
    neuron = {"layer": "if", "kind": "neuron", "T": T, "updates": T * 128, "nonzero_outputs": 5.0, "leaky": False}
    record = Record.from_layers([{**product, "T": 1}, neuron], T=T)
    row = energy.price(record, "lemaire", reading="b").set_index("layer").loc["fc"]
    assert row["compute"] == pytest.approx(3.2 * 10 * 128)
    assert row["memory_weight"] == pytest.approx(5 * (10 * 128 + T * 128))
    assert row["memory_state"] == pytest.approx(2 * 5 * T * 10 * 128)
    assert row["memory_activation"] == pytest.approx(5 * 10)
    dense = energy.price(record, "lemaire", reading="b", hybrid="dense").set_index("layer").loc["fc"]
    assert dense["compute"] == pytest.approx(3.2 * 100_352)
    assert math.isnan(dense["memory_state"])
    assert dense["memory_activation"] == pytest.approx(5 * 784)  # its output goes to the neurons, not to memory


def test_real_values_at_every_step_count_once_as_sparse_values() -> None:
    once = linear(operand="real", dense=100_352, effective=1280, inputs=784, nonzero=10.0, outputs=128, T=1)
    often = {**once, "T": T, **{key: T * once[key] for key in ("dense", "effective", "inputs", "nonzero", "outputs")}}
    neuron = {"layer": "if", "kind": "neuron", "updates": T * 128, "nonzero_outputs": 5.0, "leaky": False}
    rows = [energy.price(Record.from_layers([row, neuron], T=T), "lemaire")["total"].sum() for row in (once, often)]
    assert rows[0] == pytest.approx(rows[1])


def test_outside_the_scope_there_is_no_price() -> None:
    two = {"layer": "two", "kind": "neuron", "updates": 8.0, "states": 2, "nonzero_outputs": 0.0}
    product = {"layer": "qk", "kind": "matmul", "operand": "binary", "second_operand": "binary", "dense": 8.0}
    table = energy.price(Record.from_layers([product, two], T=1), "lemaire")
    assert table["total"].isna().all()
    assert not table["applicable"].any()
    assert table.attrs["unpriced"] == ["two"]
    assert any("products of two activations" in warning and "qk" in warning for warning in table.attrs["warnings"])


def test_sizes_that_a_record_lacks_leave_a_part_without_a_price() -> None:
    table = energy.price(Record.from_layers([{"layer": "fc", "operand": "binary", "dense": 100.0}], T=1), "lemaire")
    row = table.iloc[0]
    assert math.isnan(row["memory_weight"])
    assert math.isnan(row["memory_state"])
    assert table.attrs["unpriced"] == ["fc"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"reading": "d"}, "reading is"), ({"bits": 16}, "bits is 8 or 32"), ({"fifo": -1}, "fifo must not be negative"),
     ({"addressing": "x"}, "addressing is"), ({"hybrid": "x"}, "hybrid is")],
)  # fmt: skip
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        energy.price(formal(), "lemaire", **options)


def test_the_line_of_capacity_belongs_to_one_technology() -> None:
    with pytest.raises(OptionError, match="no constant 'lemaire_sram_per_bit'"):
        energy.price(formal(), "lemaire", hardware="7nm")
    assert energy.price(formal(), "lemaire", hardware="7nm", reading="c")["total"].sum() > 0


def test_prices_come_from_the_profile(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    constant = "  {}: {{value: {}, source: here}}\n"
    path.write_text("title: mine\nconstants:\n" + "".join(
        constant.format(*each) for each in (("int32_add", 1), ("int32_mul", 2), ("sram_8kb", 2))
    ))  # fmt: skip
    found = sums(energy.price(formal(), "lemaire", hardware=path, reading="b"))
    assert found["compute"] == 3 * 100_352 + 128
    assert found["memory_weight"] == 100_352 + 128


# SpikingJelly's own estimator of the paper ---------------------------------------------------------------------------


def theirs(network: nn.Module, x: torch.Tensor) -> object:
    counter = importlib.import_module("spikingjelly.activation_based.op_counter")
    functional = importlib.import_module("spikingjelly.activation_based.functional")
    config = counter.LemaireEnergyConfig(strict=False)
    profiler = counter.LemaireEnergyProfiler(config=config)
    profiler.bind_model(network)
    functional.reset_net(network)
    with profiler, torch.no_grad():
        for step in x:
            network(step)
    return profiler.get_report()


class EveryStep(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.network(step) for step in x])


def ours(network: nn.Module, x: torch.Tensor) -> pd.DataFrame:
    return energy.price(energy.measure(EveryStep(network), x), "lemaire", reading="c")


@pytest.fixture(scope="module")
def spikes() -> torch.Tensor:
    return (torch.rand(3, 1, 2, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()


def network(neuron: str, bias: bool = True, head: bool = True) -> nn.Module:
    layer = importlib.import_module("spikingjelly.activation_based.layer")
    neurons = importlib.import_module("spikingjelly.activation_based.neuron")
    torch.manual_seed(1)
    make = getattr(neurons, neuron)
    layers = [
        layer.Conv2d(2, 4, 3, stride=2, padding=1, bias=bias), make(v_threshold=0.1), nn.Flatten(),
        layer.Linear(36, 5, bias=bias),
    ]  # fmt: skip
    return nn.Sequential(*layers, *([make(v_threshold=0.1)] if head else []))


@pytest.mark.filterwarnings("ignore:Lemaire formulas do not support Flatten")
@pytest.mark.parametrize("neuron", ["IFNode", "LIFNode"])
def test_spikingjelly_agrees_on_spikes(neuron: str, spikes: torch.Tensor) -> None:
    report, found = theirs(network(neuron), spikes), sums(ours(network(neuron), spikes))
    assert report.counts["write_out_bytes"] > 0
    assert found["compute"] + found["neuron"] == pytest.approx(report.breakdown_pj["ops_pj"])
    assert found["addressing"] == pytest.approx(report.breakdown_pj["addressing_pj"])
    assert found["memory_weight"] == pytest.approx(report.breakdown_pj["params_pj"])
    assert found["memory_state"] == pytest.approx(report.breakdown_pj["potential_pj"])
    assert found["memory_activation"] == pytest.approx(report.breakdown_pj["inout_pj"])
    assert found["total"] == pytest.approx(report.total_pj)


@pytest.mark.filterwarnings("ignore:Lemaire formulas do not support Flatten")
def test_spikingjelly_agrees_on_real_input(spikes: torch.Tensor) -> None:
    x = spikes * 0.7
    report, found = theirs(network("LIFNode"), x), sums(ours(network("LIFNode"), x))
    assert report.counts["mac"] > 0
    assert found["total"] == pytest.approx(report.total_pj)
    assert found["addressing"] == pytest.approx(report.breakdown_pj["addressing_pj"])


@pytest.mark.filterwarnings("ignore:Lemaire formulas do not support Flatten")
def test_spikingjelly_takes_the_additions_of_updates_for_biases(spikes: torch.Tensor) -> None:
    # T Co Ho Wo of (1.4) and T Nout of (2.4): there only with a bias, here for every update, as in the paper.
    report, table = theirs(network("IFNode", bias=False), spikes), ours(network("IFNode", bias=False), spikes)
    assert table["total"].sum() - report.total_pj == pytest.approx(0.1 * 3 * (36 + 5))


@pytest.mark.filterwarnings("ignore:Lemaire formulas do not support Flatten")
def test_spikingjelly_does_not_keep_the_sums_of_a_readout(spikes: torch.Tensor) -> None:
    report, table = theirs(network("IFNode", head=False), spikes), ours(network("IFNode", head=False), spikes)
    # Five sums of 4 bytes: a line from 0 to 10 pJ at 8 KB, for T reads and writes each.
    assert table["total"].sum() - report.total_pj == pytest.approx(2 * 3 * 5 * 10 * 20 / 8192)


def test_spikingjelly_counts_a_formal_network_alike() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 1, 784) + 0.1
    report = theirs(nn.Sequential(nn.Linear(784, 128)), x)
    assert report.total_pj / 1000 == pytest.approx(5_255, rel=2e-4)
    assert ours(nn.Sequential(nn.Linear(784, 128)), x)["total"].sum() == pytest.approx(report.total_pj)


def test_spikingjelly_keeps_all_samples_of_a_call_in_one_buffer() -> None:
    # One call on four samples: its memories of inputs (12,544 bytes instead of 3,136) and outputs are four times as
    # large, and dearer for it; here every sample has an inference of its own.
    x = torch.rand(1, 4, 784, generator=torch.Generator().manual_seed(0)) + 0.1
    report = theirs(nn.Sequential(nn.Linear(784, 128)), x)
    found = ours(nn.Sequential(nn.Linear(784, 128)), x)["memory_activation"].sum()
    assert found == pytest.approx(784 * 10 * 3136 / 8192 + 128 * 10 * 512 / 8192)
    assert report.breakdown_pj["inout_pj"] / 4 == pytest.approx(
        784 * (10 + 10 * (12_544 - 8192) / 24_576) + 128 * 10 * 2048 / 8192
    )


def test_the_derived_twin_of_the_worked_example_is_its_formal_layer() -> None:
    twin = energy.price(derive.twin(spiking()), "lemaire")
    assert twin["total"].sum() == pytest.approx(5_182_373, abs=1)
