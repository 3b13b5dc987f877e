"""What a record says over time: spike counts, silent channels, steps, loops, sources, updates that change something."""

import importlib

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import energy
import neurons

T, B = 5, 3


def spikes(*shape: int, rate: float = 0.3, seed: int = 0) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def counts_of(record: energy.Record, layer: str) -> dict[int, float]:
    rows = record.counts[record.counts["layer"] == layer]
    return dict(zip(rows["spikes"], rows["values"], strict=True))


class Loop(nn.Module):
    """The single-step form: modules and functional calls inside a loop over time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.weight = nn.Conv2d(2, 4, 3), nn.Parameter(torch.randn(6, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = []
        for x_t in x:
            s = (self.conv(x_t) > 0).float().mean((2, 3)).round()
            outputs.append(
                F.linear(s, self.weight) + F.linear((s[:, None] @ (s[:, :, None] @ s[:, None])).squeeze(1), self.weight)
            )
        return torch.stack(outputs)


class Whole(Loop):
    """The same with all steps at once."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = (self.conv(x.flatten(0, 1)) > 0).float().mean((2, 3)).round().unflatten(0, x.shape[:2])
        return F.linear(s, self.weight) + F.linear(
            (s[:, :, None] @ (s[..., None] @ s[:, :, None])).squeeze(2), self.weight
        )


@pytest.fixture(scope="module")
def pair() -> tuple[energy.Record, energy.Record]:
    torch.manual_seed(0)
    loop, whole = Loop(), Whole()
    whole.load_state_dict(loop.state_dict())
    x = spikes(T, B, 2, 6, 6)
    assert torch.allclose(loop(x), whole(x), atol=1e-5)
    return energy.measure(loop, x, steps=True), energy.measure(whole, x, steps=True)


def test_a_loop_over_time_gives_the_record_of_the_whole(pair: tuple[energy.Record, energy.Record]) -> None:
    loop, whole = pair
    columns = ["layer", "kind", "T", "operand", "inputs", "nonzero", "outputs", "weights"]
    kinds = ("conv", "linear", "matmul")
    ours, theirs = (r.layers.loc[r.layers["kind"].isin(kinds), columns].set_index("layer") for r in (loop, whole))
    assert list(ours.index) == list(theirs.index) == ["conv", "linear-1", "matmul-1", "matmul-2", "linear-2"]
    pd.testing.assert_frame_equal(ours, theirs)
    macs = [r.operations[r.operations["op"] == "mac"].groupby("layer")[["dense", "exact"]].sum() for r in pair]
    pd.testing.assert_frame_equal(*macs)


def test_counts_of_a_loop_and_of_the_whole_agree(pair: tuple[energy.Record, energy.Record]) -> None:
    loop, whole = pair
    for layer in ("conv", "linear-1"):
        assert counts_of(loop, layer) == counts_of(whole, layer) != {}
    assert loop.layers.set_index("layer").loc["conv", "silent_channels"] == 0


def test_steps_of_a_loop_and_of_the_whole_agree(pair: tuple[energy.Record, energy.Record]) -> None:
    def rows(record: energy.Record) -> dict[tuple[str, int], tuple[float, ...]]:
        frame = record.steps[record.steps["layer"].isin(["conv", "linear-1", "matmul-1"])]
        return {(r.layer, r.step): (r.inputs, r.nonzero, r.exact, r.outputs) for r in frame.itertuples()}

    loop, whole = (rows(record) for record in pair)
    assert loop == whole
    assert len(loop) == 3 * T


def test_counts_are_spikes_over_all_steps() -> None:
    x = spikes(T, B, 8)
    record = energy.measure(nn.Linear(8, 2), x)
    expected = torch.bincount(x.sum(0).flatten().long())
    assert counts_of(record, "linear") == {k: n / B for k, n in enumerate(expected.tolist()) if n}


def test_counts_add_up_over_batches_of_unequal_activity() -> None:
    few, many = spikes(T, B, 8, rate=0.1), spikes(T, 2 * B, 8, rate=0.9)
    record = energy.measure(nn.Linear(8, 2), [few, many])
    both = torch.bincount(torch.cat([few.sum(0), many.sum(0)]).flatten().long())
    assert counts_of(record, "linear") == {k: n / (3 * B) for k, n in enumerate(both.tolist()) if n}


def test_steps_add_up_to_the_record() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(8, 16), neurons.LIF(threshold=0.2), nn.Linear(16, 4))
    record = energy.measure(network, torch.rand(T, B, 8) * 2, steps=True)
    layers, steps = record.layers.set_index("layer"), record.steps.groupby("layer").sum()
    for layer, column in (("0", "nonzero"), ("1", "nonzero_outputs"), ("2", "nonzero"), ("2", "inputs")):
        assert steps.loc[layer, column] == pytest.approx(layers.loc[layer, column])
    macs = record.products.set_index("layer")["exact"]
    assert steps.loc["2", "exact"] == pytest.approx(macs["2"])
    assert steps.loc["1", "effective_updates"] == pytest.approx(layers.loc["1", "effective_updates"])
    assert record.spikes > 0


def test_without_steps_none_are_kept() -> None:
    record = energy.measure(nn.Sequential(nn.Linear(8, 4), neurons.LIF()), torch.rand(T, B, 8))
    assert record.steps.empty
    assert record.layers["effective_updates"].isna().all()


def test_silent_channels_and_the_weights_behind_them() -> None:
    x = spikes(T, B, 4, 5, 5, rate=0.5)
    x[:, :, 1] = 0  # silent in all samples
    x[:, 0, 2] = 0  # silent in one of three
    convolution = nn.Conv2d(4, 6, 3)
    record = energy.measure(nn.Sequential(nn.Flatten(0, 1), convolution), x)
    layer = record.layers.iloc[0]
    assert layer["silent_channels"] == pytest.approx((3 + 1) / 12)
    assert layer["weights_used"] == pytest.approx(4 * 6 * 9 * 8 / 12)


def test_largest_value_of_sums_of_spikes() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x + x + x)

    layer = energy.measure(Sum(), spikes(T, B, 8)).layers.set_index("layer").loc["layer"]
    assert (layer["operand"], layer["largest"]) == ("integer", 3)


def test_sources_are_the_products_and_neurons_behind_a_value() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.s = nn.Linear(8, 8), nn.BatchNorm1d(8), neurons.LIF(threshold=0.1)
            self.b, self.r = nn.Linear(8, 8), neurons.LIF(threshold=0.1)
            self.head = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            s = self.s(self.norm(self.a(x).flatten(0, 1)).unflatten(0, x.shape[:2]))
            return self.head(self.r(self.b(s)) + s)

    sources = energy.measure(Net(), torch.rand(T, B, 8)).layers.set_index("layer")["sources"]
    assert sources.to_dict() == {"a": "", "norm": "a", "s": "a", "b": "s", "r": "b", "add-1": "r,s", "head": "r,s"}


@pytest.mark.parametrize(("neuron", "expected"), [("lif", True), ("if", False), ("plif", True), ("izhikevich", True)])
def test_leaky_is_found_from_the_step(neuron: str, expected: bool) -> None:
    assert neurons.leaky(neurons.create(neuron), torch.zeros(2, 3, 4)) is expected
    record = energy.measure(nn.Sequential(nn.Linear(4, 4), neurons.create(neuron)), torch.rand(T, B, 4))
    assert record.layers.set_index("layer").loc["1", "leaky"] == expected


def test_leaky_is_unknown_for_activations() -> None:
    assert neurons.leaky(neurons.ReLU(), torch.zeros(2, 3, 4)) is None


def test_updates_that_change_nothing_are_not_effective() -> None:
    x = torch.zeros(T, 1, 4)
    x[:, :, 0] = 0.1  # one of four neurons gets a current
    record = energy.measure(neurons.IF(), x, steps=True)
    layer = record.layers.iloc[0]
    assert (layer["updates"], layer["effective_updates"]) == (4 * T, 4 + (T - 1))


def test_effective_updates_of_a_foreign_neuron() -> None:
    snntorch = importlib.import_module("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = snntorch.Leaky(beta=1.0, threshold=10.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mem, outputs = self.neuron.init_leaky(), []
            for x_t in x:
                s, mem = self.neuron(x_t, mem)
                outputs.append(s)
            return torch.stack(outputs)

    x = torch.zeros(T, 1, 4)
    x[:, :, 0] = 0.1
    layer = energy.measure(Net(), x, steps=True).layers.set_index("layer").loc["neuron"]
    assert (layer["effective_updates"], layer["leaky"]) == (4 + (T - 1), False)


def test_zero_weights_are_left_out_of_the_sparse_count() -> None:
    torch.manual_seed(0)
    for layer, x in (
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), spikes(T * B, 4, 7, 7)),
        (nn.Linear(10, 6), spikes(T, B, 10)),
    ):
        with torch.no_grad():
            layer.weight[torch.rand_like(layer.weight) < 0.5] = 0
            layer.bias.zero_()
        found = energy.measure(layer, x.unflatten(0, (T, B)).flatten(0, 1) if x.dim() == 4 else x).products.iloc[0]
        plain = type(layer)(4, 6, 3, stride=2, padding=1, groups=2) if x.dim() == 4 else nn.Linear(10, 6)
        with torch.no_grad():
            plain.weight.copy_(layer.weight.ne(0).float())
            plain.bias.zero_()
            expected = plain(x).sum().item()
        samples = T * B if x.dim() == 2 else x.shape[1]
        assert found["sparse"] * samples == pytest.approx(expected)
        assert found["sparse"] < found["exact"]


def test_buffers_and_addresses() -> None:
    network = nn.Sequential(neurons.LIF(threshold=0.1), nn.Linear(100, 10))
    record = energy.measure(network, torch.rand(T, B, 100))
    memory = record.memory.set_index(["layer", "role", "direction", "policy"])
    assert memory.loc[("1", "weight", "read", "event"), "resident"] == 1000
    assert memory.loc[("1", "input", "read", "dense"), "resident"] == 100
    assert memory.loc[("0", "state", "write", "dense"), "resident"] == 100
    index = memory.loc[("1", "index", "read", "event")]
    assert (index["bits"], index["elements"]) == (7, record.layers.set_index("layer").loc["1", "nonzero"])
    sums = memory.loc[("1", "partial_sum", "write", "event"), "elements"]
    assert sums == record.products.iloc[0]["exact"]


def test_average_pooling_keeps_spikes() -> None:
    network = nn.Sequential(nn.Flatten(0, 1), nn.AvgPool2d(2), nn.Conv2d(2, 3, 3))
    x = spikes(T, B, 2, 8, 8)
    product = energy.measure(network, x).products.iloc[0]
    assert product["operand"] == "integer"
    # Every spike reaches the convolution as one event: 1 to 4 of them in a window.
    pooled = F.avg_pool2d(x.flatten(0, 1), 2) * 4
    expected = F.conv2d(pooled, torch.ones(3, 2, 3, 3)).sum().item() / B
    assert product["events_exact"] == pytest.approx(expected)


def test_average_pooling_with_uncounted_padding_is_real() -> None:
    network = nn.Sequential(nn.Flatten(0, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.Conv2d(2, 3, 3))
    assert energy.measure(network, spikes(T, B, 2, 8, 8)).products.iloc[0]["operand"] == "real"
