"""Neurons made of matrix products: what is inside them is counted, by hand-computed numbers."""

import math
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import energy
import neurons
import step
from energy.models import standard
from energy.twins import compare_records
from neurons import Neuron, State
from neurons.elm.population import ELMPopulation
from neurons.synapses import fan_out, synapse_sums


class LSTM(Neuron):
    """A cell of 3 inputs and 2 units; its input half can be worked out for some steps at a time."""

    state: ClassVar = {"h": 0.0, "c": 0.0}
    output = "real"
    counted_inside = True

    def __init__(self, ahead: int = 0) -> None:
        super().__init__()
        self.ahead = ahead
        self.inputs, self.bias = nn.Parameter(torch.randn(8, 3)), nn.Parameter(torch.randn(8))
        self.recurrent = nn.Parameter(torch.randn(8, 2))

    def resting_state(self, x: torch.Tensor) -> State:
        return {name: x.new_zeros(x.shape[1], 2) for name in self.state}

    def _checked(self, state: State, x: torch.Tensor) -> None:
        pass

    def gates(self, u: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        i, f, g, o = (u + F.linear(h, self.recurrent)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h, h, c

    def step(self, x: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.gates(F.linear(x, self.inputs, self.bias), *state)

    def run(self, x: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
        if not self.ahead:
            return super().run(x, state)
        h, c = (state or self.resting_state(x)).values()
        outputs = []
        for part in x.split(self.ahead):
            for u in F.linear(part, self.inputs, self.bias).unbind(0):
                _, h, c = self.gates(u, h, c)
                outputs.append(h)
        return torch.stack(outputs), {"h": h, "c": c}


def by_op(record: energy.Record, layer: str) -> dict[str, float]:
    rows = record.operations[record.operations["layer"] == layer]
    return dict(rows.groupby("op")["dense"].sum())


def weighted(record: energy.Record) -> dict[str, tuple[int, float, int]]:
    """Time steps, dense operations and weights of every product."""
    dense = record.products.groupby("layer", sort=False)["dense"].sum()
    rows = record.layers.set_index("layer")
    return {name: (int(rows.loc[name, "T"]), count, int(rows.loc[name, "weights"])) for name, count in dense.items()}


@pytest.mark.parametrize("ahead", [0, 3, 6], ids=["step by step", "in chunks", "at once"])
@pytest.mark.parametrize("batch", [2, 4])
def test_an_lstm_cell(ahead: int, batch: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(LSTM(ahead), nn.Linear(2, 5))
    x = (torch.rand(6, batch, 3) < 0.5).float()
    record = energy.measure(network, x, steps=True)
    # 6 steps of 4 gates x 2 units: 3 inputs each, 2 units each
    assert weighted(record) == {"0.linear-1": (6, 6 * 8 * 3, 24), "0.linear-2": (6, 6 * 8 * 2, 16), "1": (6, 60, 10)}
    assert by_op(record, "0.linear-1")["add"] == 6 * 8
    inputs = record.products.set_index("layer").loc["0.linear-1"]
    assert (inputs["operand"], inputs["exact"] * batch) == ("binary", x.sum() * 8)
    # of the recurrent product the first step meets zeros, the others real numbers
    recurrent = record.products[record.products["layer"] == "0.linear-2"].set_index("operand")
    assert recurrent["dense"].to_dict() == {"binary": 16, "real": 80}
    assert recurrent.loc["binary", "exact"] == 0
    # a step of a unit: 3 sigmoids and 2 tanh, 3 products, one sum of the cell and 4 of the two halves
    assert {op: count / 12 for op, count in by_op(record, "0").items()} == {
        "exp": 5, "mul": 3, "div": 5, "add": 1 + 4 + 3 + 2 * 2,
    }  # fmt: skip
    row = record.layers.set_index("layer").loc["0"]
    assert (row["kind"], row["output"], bool(row["conventional"])) == ("neuron", "real", True)
    assert row[["updates", "neurons", "states"]].tolist() == [12, 2, 2]
    moved = record.memory[(record.memory["layer"] == "0") & (record.memory["role"] == "state")]
    assert moved[["elements", "resident"]].to_numpy().tolist() == [[24, 4], [24, 4]]
    assert not len(record.spiking)
    by_step = record.steps[record.steps["layer"] == "0.linear-1"].set_index("step")["exact"]
    assert (by_step * batch).tolist() == (x.sum((1, 2)) * 8).tolist()


def elm(**options: object) -> Neuron:
    torch.manual_seed(1)
    return neurons.create("elm", features=6, memory=3, hidden=4, outputs=2, **options)


def spikes(T: int, B: int) -> torch.Tensor:
    return (torch.rand(T, B, 6, generator=torch.Generator().manual_seed(3)) < 0.3).float()


def test_an_elm_neuron_is_counted_as_its_equations_have_it() -> None:
    x = spikes(5, 4)
    record = energy.measure(nn.Sequential(elm(), nn.Linear(2, 3)), x)
    assert weighted(record) == {
        "0.synapses-1": (5, 5 * 6, 6),
        "0.linear-1": (5, 5 * 4 * 6, 24),  # branches to hidden units
        "0.linear-2": (5, 5 * 4 * 3, 12),  # memory to hidden units
        "0.linear-3": (5, 5 * 3 * 4, 12),
        "0.w_y": (5, 5 * 2 * 3, 6),
        "1": (5, 5 * 3 * 2, 6),
    }
    products = record.products.set_index("layer")
    synapses = products.loc["0.synapses-1"]
    # without routing every input feeds one synapse: an accumulate for each spike
    assert (synapses["operand"], synapses["exact"] * 4, synapses["nonzero"] * 4) == ("binary", x.sum(), x.sum())
    assert set(products.loc["0.linear-1", "operand"]) == set("real")
    assert {layer: by_op(record, layer)["add"] for layer in ("0.linear-1", "0.linear-3", "0.w_y")} == {
        "0.linear-1": 5 * 4, "0.linear-3": 5 * 3, "0.w_y": 5 * 2,
    }  # fmt: skip
    inside = by_op(record, "0")
    assert inside["exp"] == 5 * 3  # one tanh for each memory unit
    assert inside["cmp"] == 5 * (4 + 2)  # hidden units and thresholds
    # leak of branches, decay, the two factors of the squashing function, write gain
    assert inside["mul"] == 5 * (6 + 4 * 3)
    row = record.layers.set_index("layer").loc["0"]
    assert (row["output"], bool(row["conventional"]), row["updates"], row["sources"]) == ("binary", False, 10, "0.w_y")
    assert row["states"] * row["neurons"] == 6 + 3
    assert products.loc["1", "operand"] == "binary"
    assert row["nonzero_outputs"] == products.loc["1", "nonzero"] == record.spikes


@pytest.mark.parametrize("signed", [False, True])
def test_routed_synapses_cost_one_operation_each_that_a_spike_feeds(signed: bool) -> None:
    neuron = elm(routing="random", branches=3, synapses=5)
    x = spikes(5, 4) * (torch.tensor([1.0, -1.0]).repeat(3) if signed else 1.0)
    record = energy.measure(nn.Sequential(neuron), x)
    row = record.products.set_index("layer").loc["0.synapses-1"]
    fed = torch.bincount(neuron.index.flatten(), minlength=6)
    assert row["operand"] == ("ternary" if signed else "binary")
    assert row["exact"] * 4 == (x.abs().sum((0, 1)) * fed).sum()
    assert row["dense"] == 5 * 15
    assert row["weights"] == 15
    assert energy.price(record).set_index("layer").loc["0.synapses-1", "total"] == pytest.approx(0.9 * row["nominal"])
    read = record.memory[(record.memory["layer"] == "0.synapses-1") & (record.memory["policy"] == "event")]
    assert read.set_index("role").loc["weight", "elements"] == row["exact"]
    # one address for every spike that comes in, one for every synapse that it reaches
    assert read.set_index("role").loc["index", "elements"] == row["nonzero"] + row["exact"]


def test_synapse_sums() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 2, 6), (4, 5)))
    index = torch.randint(6, (4, 5), generator=generator)
    mask = torch.rand(4, 5, generator=generator) < 0.7
    assert torch.allclose(synapse_sums(x, weight, index, mask), (x[..., index] * (weight * mask)).sum(-1))
    assert torch.allclose(synapse_sums(x, weight[:2, :3]), (x.unflatten(-1, (2, 3)) * weight[:2, :3]).sum(-1))
    assert fan_out(6, weight, index, mask).tolist() == [int((mask & (index == i)).sum()) for i in range(6)]
    with pytest.raises(neurons.errors.ShapeError, match="one synapse for each of the 6 inputs"):
        synapse_sums(x, weight)


def test_masked_synapses_are_not_there() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
            self.register_buffer("index", torch.tensor([[0, 0], [0, 1]]))
            self.register_buffer("mask", torch.tensor([[True, False], [True, True]]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return synapse_sums(x, self.weight, self.index, self.mask)

    row = energy.measure(Masked(), torch.tensor([[[1.0, 0.0]]])).products.iloc[0]
    assert row[["dense", "exact", "sparse", "weights", "weight_nonzero"]].tolist() == [3, 2, 1, 3, 2]


def test_a_population_adds_spikes_and_multiplies_activities() -> None:
    torch.manual_seed(2)
    T, B, N = 5, 4, 7
    neuron = ELMPopulation(6, neurons=N, memory=3, hidden=4, branches=2, synapses=5)
    x = spikes(T, B)
    record = energy.measure(nn.Sequential(neuron), x)
    fed = torch.bincount(neuron.index.flatten().long(), minlength=6 + N)
    own = record.products[record.products["layer"] == "0.synapses-1"].set_index("operand")
    assert own["dense"].sum() == T * N * 2 * 5
    assert own.loc["real", "dense"] == (T - 1) * fed[6:].sum()  # of the first step all activities are zero
    assert own.loc["binary", "exact"] * B == (x.sum((0, 1)) * fed[:6]).sum()
    # every neuron has a perceptron and a read-out of its own
    sizes = {name: (count / T, weights) for name, (_, count, weights) in weighted(record).items()}
    assert sizes == {"0.synapses-1": (70, 70), "0.linear-1": (N * 8, N * 8), "0.linear-2": (N * 12, N * 12),
                     "0.linear-3": (N * 12, N * 12), "0.linear-4": (N * 3, N * 3)}  # fmt: skip


def test_a_network_of_elm_neurons_has_twins_and_a_price_under_every_model() -> None:
    neuron = {"name": "elm", "memory": 4, "tau_max": 20}
    network = step.models.create("mlp", channels=1, image_size=4, classes=3, hidden=(8,), seed=0, neuron=neuron)
    with torch.no_grad():
        for _ in range(10):
            network(torch.rand(4, 8, 1, 4, 4))
    x = (torch.rand(4, 5, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    records = energy.twin_records(network.eval(), x)
    record, relu = records["network"], records["relu"]
    assert list(records) == ["network", "relu", "quantised 3-bit (matched)"]
    inner = [name for name in record.layers["layer"] if ".synapses-" in name or ".linear-" in name]
    assert inner
    # without time the neuron is one activation, and reads what its synapses read
    assert not set(inner) & set(relu.layers["layer"])
    twins = relu.layers.set_index("layer")
    activation = twins[twins["kind"] == "neuron"].iloc[0]
    assert (activation["neuron"], activation["states"]) == ("relu", 0)
    assert twins.loc[activation["sources"], "kind"] == "linear"
    table = compare_records(records)
    for choice in standard():
        priced = choice.model.price(record, choice.hardware)
        own = table[(table["model"] == choice.label) & (table["network"] == "network")]
        assert len(own) == 1
        for row in priced.itertuples():
            assert row.total > 0 or row.note, f"{choice.label}: {row.layer} is priced {row.total} without a word"
    ratios = table[table["network"] == "network"].set_index("model")["ratio_to_relu"]
    assert ratios["op-count"] > 1  # its perceptron costs far more than an activation
    verdict = energy.judge(records, ["step"]).table
    assert list(verdict["winner"]) == list(records)[1:]


def test_a_network_without_spikes_is_priced_alone() -> None:
    network = step.models.create("lstm", channels=3, classes=2, hidden=4)
    x = torch.rand(7, 2, 3)
    assert list(energy.twin_records(network, x)) == ["network"]
    table = energy.compare(network, x)
    assert table.loc[table["model"] == "op-count", "total"].item() == pytest.approx(
        4.6 * (7 * 16 * 3 + 6 * 16 * 4 + 7 * 2 * 4)
    )
    assert table.loc[table["model"] == "dampfhoffer", "memory_state"].item() > 0
    assert math.isfinite(energy.judge({"network": energy.measure(network, x)}).parts["pJ"].sum())
