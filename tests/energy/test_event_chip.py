"""Loihi event by event: placement, the fixture, SANA-FE's own example, and SANA-FE itself."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

import energy
import neurons
from energy import Record, hardware
from energy.models.layer import layers_of
from energy.placement import Mesh, place
from neurons.errors import OptionError

LOIHI = Mesh(1024, 131_072, 4, 4)


@pytest.fixture(scope="module")
def golden() -> Record:
    torch.manual_seed(0)
    x = torch.zeros(4 * 5 * 784)
    x[torch.randperm(x.numel())[:1568]] = 1.0
    return energy.measure(nn.Sequential(nn.Linear(784, 128), neurons.IF()), x.view(4, 5, 784))


def chain(*sizes: int, spikes: float = 10.0) -> Record:
    """Dense layers one after the other, each fed by so many spikes."""
    rows = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        before = f"n{number - 1}" if number else ""
        rows += [
            {"layer": f"p{number}", "operand": "binary", "dense": inputs * outputs, "effective": spikes * outputs,
             "nonzero": spikes, "magnitude": spikes, "inputs": inputs, "outputs": outputs, "weights": inputs * outputs,
             "weight_nonzero": inputs * outputs // 2, "sources": before},
            {"layer": f"n{number}", "kind": "neuron", "updates": outputs, "neurons": outputs, "outputs": outputs,
             "nonzero_outputs": spikes, "sources": f"p{number}"},
        ]  # fmt: skip
    return Record.from_layers(rows, T=1)


def test_the_fixture_without_hops(golden: Record) -> None:
    table = energy.price(golden, "event-chip", hops=False).set_index("layer")
    assert table.loc["0", "compute"] == pytest.approx(40_140.8 * 35.5)
    assert table.loc["0", "routing"] == pytest.approx(313.6 * 111)
    sent = golden.spikes
    assert table.loc["1", "neuron"] == pytest.approx(512 * (51.2 + 21.6) + sent * 69.3)
    # The published row takes an output rate of 0.05: 25.6 spikes.
    total = table["total"].sum() + (25.6 - sent) * 69.3
    assert total / 1000 == pytest.approx(1_499, abs=0.5)


def test_inputs_enter_at_the_tile_of_the_first_layer(golden: Record) -> None:
    near, far = (energy.price(golden, "event-chip", hops=hops)["total"].sum() for hops in (True, False))
    assert near == far


def test_layers_fill_cores_in_order() -> None:
    placed = place(layers_of(chain(784, 128, 2500, 10)), LOIHI)
    assert [placed.cores[name] for name in ("n0", "n1", "n2")] == [range(1), range(1, 4), range(4, 5)]
    assert placed.cores["p1"] == placed.cores["n1"]
    # 784 x 1024 weights of 8 bits need more cores than 1024 neurons.
    assert len(place(layers_of(chain(784, 1024)), LOIHI).cores["n0"]) == math.ceil(784 * 1024 / 131_072)


def test_hops_are_counted_between_tiles() -> None:
    inside = LOIHI.hops(range(1), range(1, 4))
    assert set(inside.values()) == {0.0}
    # Tile 0 at (0, 0), tile 5 at (1, 1), and back.
    assert LOIHI.hops(range(1), range(20, 21)) == {"east": 1, "west": 0, "north": 1, "south": 0}
    assert LOIHI.hops(range(20, 21), range(1)) == {"east": 0, "west": 1, "north": 0, "south": 1}
    # Half of the cores in tile 0, half in tile 1.
    assert LOIHI.hops(range(1), range(2, 6))["north"] == 0.5


def test_hops_equal_those_of_all_pairs() -> None:
    source, target = range(3, 30), range(25, 90)
    pairs = [(a, b) for a in source for b in target]
    x = sum(abs(a // 16 - b // 16) for a, b in pairs) / len(pairs)
    y = sum(abs(a // 4 % 4 - b // 4 % 4) for a, b in pairs) / len(pairs)
    hops = LOIHI.hops(source, target)
    assert hops["east"] + hops["west"] == pytest.approx(x)
    assert hops["north"] + hops["south"] == pytest.approx(y)


def test_a_packet_for_every_core_of_the_targets() -> None:
    table = energy.price(chain(100, 2500, 10), "event-chip", hops=False).set_index("layer")
    assert table.loc["p0", "routing"] == pytest.approx(10 * 3 * 111)
    assert table.loc["p1", "routing"] == pytest.approx(10 * 111)
    figures = energy.price(chain(100, 2500, 10), "event-chip").attrs["figures"]
    assert (figures["cores"], figures["packets"]) == (4, 40)
    # 3 cores in tile 0, and a fourth there too.
    assert figures["hops_per_packet"] == 0


def test_hops_between_layers_are_priced() -> None:
    # 5 cores: the second population starts in tile 0 and ends in tile 1; the third lies in tile 1.
    record = chain(10, 100, 5 * 1024, 10)
    with_hops, without = (energy.price(record, "event-chip", hops=h).set_index("layer") for h in (True, False))
    extra = with_hops["routing"] - without["routing"]
    assert extra["p0"] == 0
    assert extra["p1"] == pytest.approx(10 * 5 * (2 / 5) * 4.2)
    assert extra["p2"] == pytest.approx(10 * (3 / 5) * 4.2)


def test_formats_of_synapses() -> None:
    record = chain(100, 10)
    assert energy.price(record, "event-chip").iloc[0]["compute"] == pytest.approx(100 * 35.5)
    sparse = energy.price(record, "event-chip", linear="sparse").iloc[0]["compute"]
    assert sparse == pytest.approx(100 * 33.6 / 2)
    fc = nn.Linear(3, 2, bias=False)
    fc.weight.data = torch.tensor([[1.0, 0, 0], [1, 1, 0]])
    measured = energy.measure(fc, torch.tensor([1.0, 1, 0]).expand(1, 1, 3))
    # Both spikes reach both neurons; one of the four weights that they meet is zero.
    assert energy.price(measured, "event-chip", linear="sparse").iloc[0]["compute"] == pytest.approx(3 * 33.6)
    conv = energy.measure(nn.Conv2d(1, 3, 3, padding=1), torch.ones(1, 1, 4, 4))
    assert energy.price(conv, "event-chip").iloc[0]["compute"] == pytest.approx(3 * 100 * 24.0)


def test_what_cannot_run_on_the_chip_has_no_price() -> None:
    network = nn.Sequential(nn.Linear(4, 4), neurons.ReLU(), nn.Linear(4, 4), neurons.LIF(), nn.Softmax(-1))
    table = energy.price(energy.measure(network, torch.rand(2, 1, 4) + 0.1), "event-chip")
    assert list(table.attrs["unpriced"]) == ["0", "1", "2"]
    assert list(table["total"].isna()) == [True, True, True, False, True]


def test_a_record_without_counts_of_spikes() -> None:
    record = Record.from_layers([{"layer": "fc", "operand": "binary", "dense": 10.0}], T=1)
    row = energy.price(record, "event-chip").iloc[0]
    assert row["compute"] == pytest.approx(355)
    assert math.isnan(row["routing"])
    assert row["note"].startswith("no price for the packets")


@pytest.mark.parametrize("options", [{"hops": 1}, {"linear": "conv"}, {"updates": "never"}])
def test_wrong_options(golden: Record, options: dict) -> None:
    with pytest.raises(OptionError):
        energy.price(golden, "event-chip", **options)


def profile(path: Path, **prices: float) -> Path:
    """A profile with Loihi's constants, some of them replaced."""
    constants = {name: constant.value for name, constant in hardware.load("loihi").constants.items()}
    lines = [f"  {name}: {{value: {value}, source: test}}" for name, value in {**constants, **prices}.items()
             if name != "static_power"]  # fmt: skip
    path.write_text("title: test\nconstants:\n" + "\n".join(lines) + "\n")
    return path


def test_the_example_of_sana_fe(tmp_path: Path) -> None:
    # Two neurons on one core, 100 steps: two spikes of an input to both, one of a neuron to the other; 198 updates.
    record = Record.from_layers(
        [
            {"layer": "in", "operand": "binary", "dense": 400, "effective": 4, "magnitude": 2, "outputs": 200},
            {"layer": "recurrent", "operand": "binary", "dense": 400, "effective": 1, "magnitude": 1, "outputs": 200},
            {"layer": "out", "kind": "neuron", "updates": 200, "effective_updates": 198, "nonzero_outputs": 1,
             "sources": "in,recurrent"},
        ],
        T=100,
    )  # fmt: skip
    path = profile(
        tmp_path / "demo.yaml", synapse_dense=20, soma_access=20, soma_update=10, spike_out=60, axon_out=100,
        hop_north=2.0, hop_south=2.0, hop_east=2.5, hop_west=1.8, tile_cores=4, mesh_width=2, mesh_height=1,
    )  # fmt: skip
    table = energy.price(record, "event-chip", path, updates="effective")
    found = table[["compute", "neuron", "routing", "total"]].sum() / 1000
    assert list(found) == pytest.approx([0.10, 6.04, 0.30, 6.44])


NETWORK = """
network:
  name: feed forward
  groups:
    - name: in
      attributes: []
      neurons:
        - 0..2: [spikes: [1, 0, 1, 1, 0, 1]]
    - name: hidden
      attributes: [soma_hw_name: loihi_lif, synapse_hw_name: loihi_dense_synapse, dendrite_hw_name: loihi_dendrites]
      neurons:
        - 0..4: [threshold: 2.5]
    - name: out
      attributes: [soma_hw_name: loihi_lif, synapse_hw_name: loihi_dense_synapse, dendrite_hw_name: loihi_dendrites]
      neurons:
        - 0..1: [threshold: 4.5]
  edges:
    - in -> hidden: [type: dense, weight: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]
    - hidden -> out: [type: dense, weight: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]
mappings:
  - in.0: [core: 0.0, soma: "loihi_inputs[0]"]
  - in.1: [core: 0.0, soma: "loihi_inputs[1]"]
  - in.2: [core: 0.0, soma: "loihi_inputs[2]"]
  - hidden.0..1: [core: 0.0]
  - hidden.2..3: [core: 0.1]
  - hidden.4: [core: 1.0]
  - out: [core: 1.1]
"""


def test_agrees_with_sana_fe(tmp_path: Path) -> None:
    sanafe = pytest.importorskip("sanafe")
    (tmp_path / "net.yaml").write_text(NETWORK)
    architecture = sanafe.load_loihi()
    network = sanafe.load_net(tmp_path / "net.yaml", architecture)
    chip = sanafe.SpikingChip(architecture)
    chip.load(network)
    steps = 10
    theirs = chip.sim(steps, perf_trace=True)
    # All inputs fire together, and so do all hidden neurons and all outputs: 4 x 3 + 5 h + 2 o spikes, of which
    # each from the inputs meets 5 targets, each from the hidden ones 2.
    inputs = 12
    hidden = (theirs["spikes"] - 5 * inputs) // 2
    out = theirs["neurons_fired"] - inputs - hidden
    assert hidden == 4 * 5
    assert out > 0
    record = Record.from_layers(
        [
            {"layer": "p0", "operand": "binary", "dense": 15 * steps, "effective": 5 * inputs, "magnitude": inputs,
             "outputs": 5 * steps, "weights": 15, "sources": ""},
            {"layer": "hidden", "kind": "neuron", "updates": 5 * steps, "effective_updates": 5 * 4,
             "nonzero_outputs": hidden, "sources": "p0"},
            {"layer": "p1", "operand": "binary", "dense": 10 * steps, "effective": 2 * hidden, "magnitude": hidden,
             "outputs": 2 * steps, "weights": 10, "sources": "hidden"},
            {"layer": "out", "kind": "neuron", "updates": 2 * steps, "effective_updates": 2 * 4,
             "nonzero_outputs": out, "sources": "p1"},
        ],
        T=steps,
    )  # fmt: skip
    # Two neurons for each core and two cores for each tile make the placement that the file spells out.
    path = profile(tmp_path / "small.yaml", core_neurons=2, tile_cores=2)
    table = energy.price(record, "event-chip", path, updates="effective")
    ours = dict(zip(("synapse", "soma", "network"), table[["compute", "neuron", "routing"]].sum(), strict=True))
    assert table.attrs["figures"]["packets"] == theirs["packets_sent"] == 3 * inputs + hidden
    found = {part: value * 1e12 for part, value in theirs["energy"].items()}
    assert ours["synapse"] == pytest.approx(found["synapse"])
    assert ours["soma"] == pytest.approx(found["soma"])
    assert ours["network"] == pytest.approx(found["network"])
