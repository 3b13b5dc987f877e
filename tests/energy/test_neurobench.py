"""NeuroBench itself on the same networks, its documented examples, its leaderboard, and where its counts mislead."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import energy
import neurons
from energy import Record
from neurons.errors import OptionError

pytest.importorskip("neurobench")
layers_of_neurobench = importlib.import_module("neurobench.metrics.utils.layers")
models = importlib.import_module("neurobench.models")
static = importlib.import_module("neurobench.metrics.static")
workload = importlib.import_module("neurobench.metrics.workload")
snntorch = importlib.import_module("snntorch")
utils = importlib.import_module("snntorch.utils")


def theirs(model: Any, data: Tensor, samples: int) -> dict[str, Any]:
    """Their figures of one run: ``data`` as their wrapper wants it, ``samples`` what they divide by."""
    metrics = [workload.ActivationSparsity(), workload.SynapticOperations()]
    net = model.__net__()
    if any(isinstance(m, snntorch.SpikingNeuron) for m in net.modules()):
        metrics += [workload.MembraneUpdates(), workload.NeuronOperations()]
    model.register_hooks()
    with torch.no_grad():
        predictions = model(data)
    labelled = (torch.empty(samples, 1), torch.empty(samples))
    found = {type(metric).__name__: metric(model, predictions, labelled) for metric in metrics}
    model.cleanup_hooks()
    for metric in (static.Footprint(), static.ParameterCount(), static.ConnectionSparsity()):
        found[type(metric).__name__] = metric(model)
    return found


def ours(record: Record, **options: Any) -> dict[str, Any]:
    return energy.price(record, "neurobench", **options).attrs["figures"]


def synaptic(figures: dict[str, Any]) -> dict[str, float]:
    return {
        "Dense": figures["dense_synaptic_operations"], "Effective_MACs": figures["effective_macs"],
        "Effective_ACs": figures["effective_acs"],
    }  # fmt: skip


def random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


class Rectified(nn.Module):
    """A conventional network: two convolutions with padding and stride, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.first = nn.Conv2d(2, 4, 3, padding=1), neurons.ReLU()
        self.two, self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), neurons.ReLU()
        self.head = nn.Linear(6 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.one(x[0]).unsqueeze(0))
        x = self.second(self.two(x[0]).unsqueeze(0))
        return self.head(x.flatten(2))


B = 3


@pytest.fixture(scope="module")
def rectified() -> tuple[dict[str, Any], dict[str, Any]]:
    network, x = Rectified().eval(), random(1, B, 2, 6, 6) - 0.3
    x[x.abs() < 0.1] = 0.0  # zeros of the input count as well
    model = models.TorchModel(network)
    model.add_activation_module(neurons.ReLU)
    return ours(energy.measure(network, x)), theirs(model, x, B)


def test_conventional_network_agrees(rectified: tuple[dict[str, Any], dict[str, Any]]) -> None:
    mine, found = rectified
    # Their totals are whole numbers over all samples.
    assert synaptic(mine) == pytest.approx(found["SynapticOperations"])
    assert 0 < mine["effective_macs"] < mine["dense_synaptic_operations"]
    assert mine["effective_acs"] == 0
    assert mine["activation_sparsity"] == pytest.approx(found["ActivationSparsity"])
    assert mine["connection_sparsity"] == found["ConnectionSparsity"] == 0
    assert mine["footprint"] == found["Footprint"]
    assert mine["parameter_count"] == found["ParameterCount"]
    assert mine["effective_operations"] == "exact"


class Spiking(nn.Module):
    """snnTorch: a convolution and a head; one step for each call."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.one = nn.Conv2d(1, 3, 3, padding=1), snntorch.Leaky(beta=0.9, threshold=0.3, init_hidden=True)
        self.head, self.two = nn.Linear(48, 4), snntorch.Leaky(beta=0.9, threshold=0.2, init_hidden=True, output=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.two(self.head(self.one(self.conv(x)).flatten(1)))


class Loop(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        utils.reset(self.network)
        return torch.stack([self.network(x_t)[0] for x_t in x])


T = 5


@pytest.fixture(scope="module")
def spiking() -> tuple[Record, dict[str, Any]]:
    network, x = Spiking().eval(), random(T, B, 1, 4, 4)
    record = energy.measure(Loop(network), x, steps=True)  # by step, so that updates are followed
    return record, theirs(models.SNNTorchModel(network), x.transpose(0, 1), B)


def test_spiking_network_agrees(spiking: tuple[Record, dict[str, Any]]) -> None:
    record, found = spiking
    mine = ours(record)
    assert record.spikes > 0
    assert synaptic(mine) == pytest.approx(found["SynapticOperations"])
    assert mine["effective_acs"] > 0 < mine["effective_macs"]
    assert mine["activation_sparsity"] == pytest.approx(found["ActivationSparsity"])
    assert mine["dense_neuron_operations"] == found["NeuronOperations"]["Neuron Dense Ops"]
    assert mine["membrane_updates"] == found["MembraneUpdates"]
    assert mine["effective_neuron_operations"] == found["NeuronOperations"]["Effective Neuron Ops"]
    assert mine["T"] == T


def test_parameters_and_states_of_neurons_are_not_in_the_footprint(spiking: tuple[Record, dict[str, Any]]) -> None:
    # An snnTorch neuron keeps its leak, threshold and reset as buffers, which a record does not hold. Its potential is
    # a buffer too, of the last batch: what NeuroBench calls footprint grows with the batch once the network has run.
    record, found = spiking
    constants = sum(b.numel() * b.element_size() for b in Spiking().buffers())
    potentials = 4 * B * (48 + 4)
    assert constants > 0
    assert ours(record)["footprint"] == found["Footprint"] - constants - potentials
    assert ours(record)["parameter_count"] == found["ParameterCount"]


def test_a_batch_norm_has_parameters_and_buffers() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    found = theirs(models.TorchModel(network), random(2, 1, 5, 5), 2)

    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x[0])

    mine = ours(energy.measure(Folded(), random(1, 2, 1, 5, 5)))
    assert mine["parameter_count"] == found["ParameterCount"]
    # Eight bytes: the counter of batches, which no inference reads.
    assert mine["footprint"] == found["Footprint"] - 8


def given(updates: float, effective: float) -> Record:
    return Record.from_layers(
        [{"layer": "leaky", "kind": "neuron", "neuron": "Leaky", "updates": updates, "effective_updates": effective,
          "nonzero_outputs": 0.0, "output": "binary"}],
        T=10,
    )  # fmt: skip


@pytest.mark.parametrize(("current", "updates", "effective"), [(1.0, 50, 200), (0.0, 5, 20)])
def test_membrane_updates_and_neuron_operations(current: float, updates: int, effective: int) -> None:
    # Five neurons, ten steps: every update counts in the first step, later ones where the potential changes.
    network = nn.Sequential(nn.Identity(), snntorch.Leaky(beta=0.9, threshold=100.0, init_hidden=True, output=True))
    data = torch.full((1, 10, 5), current)
    found = theirs_of_neurons(network, data)
    assert found["MembraneUpdates"] == updates
    assert found["NeuronOperations"] == {"Effective Neuron Ops": effective, "Neuron Dense Ops": 200}
    measured = energy.measure(Loop(network), data.transpose(0, 1), steps=True)
    for mine in (ours(measured), ours(given(50.0, updates))):
        assert mine["membrane_updates"] == updates
        assert (mine["effective_neuron_operations"], mine["dense_neuron_operations"]) == (effective, 200)


def theirs_of_neurons(network: nn.Module, data: Tensor) -> dict[str, Any]:
    model = models.SNNTorchModel(network)
    model.register_hooks()
    predictions = model(data)
    metrics = (workload.MembraneUpdates(), workload.NeuronOperations())
    return {type(m).__name__: m(model, predictions, (data, None)) for m in metrics}


def test_updates_that_were_not_measured_are_unknown() -> None:
    mine = ours(given(50.0, float("nan")))
    assert (mine["membrane_updates"], mine["effective_neuron_operations"]) == ("unknown", "unknown")
    assert mine["dense_neuron_operations"] == 200


@pytest.mark.parametrize(
    ("neuron", "reset", "operations"),
    [("Leaky", "zero", 4), ("Synaptic", "subtract", 6), ("Synaptic", "zero", 8), ("Lapicque", "zero", 11),
     ("Alpha", "subtract", 18), ("Alpha", "zero", 24)],
)  # fmt: skip
def test_operations_of_an_update_are_those_of_its_table(neuron: str, reset: str, operations: int) -> None:
    table = importlib.import_module("neurobench.metrics.workload.neuron_operations").neuron_ops_reset_operations
    assert table[neuron][reset] == operations
    row = {"layer": "n", "kind": "neuron", "neuron": neuron, "updates": 10.0, "effective_updates": 3.0}
    mine = ours(Record.from_layers([row], T=1), reset=reset)
    assert mine["dense_neuron_operations"] == 10 * operations
    assert mine["effective_neuron_operations"] == 3 * operations


def test_a_neuron_without_an_entry_costs_what_its_step_does() -> None:
    record = energy.measure(neurons.LIF(), torch.ones(4, 2, 3))
    assert ours(record)["dense_neuron_operations"] == 4 * 3 * sum(neurons.update_cost(neurons.LIF()).values())


class Single(nn.Module):
    """A layer on its own; ``time`` folds into the batch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layer(x_t) for x_t in x])


def of_layer(layer: nn.Module, x: Tensor) -> tuple[dict[str, float], dict[str, float]]:
    """Our figures and theirs of a layer on its own, per sample."""
    single = layers_of_neurobench.single_layer_MACs
    mine = synaptic(ours(energy.measure(Single(layer), x.unsqueeze(0))))
    effective, spiking = single(x, layer)
    dense, _ = single(x, layer, total=True)
    found = {"Dense": dense, "Effective_MACs": 0, "Effective_ACs": 0}
    found["Effective_ACs" if spiking else "Effective_MACs"] = effective
    return mine, {name: count / len(x) for name, count in found.items()}


def test_documented_example_of_a_matrix_with_zeros() -> None:
    # Three by three with three zero weights, input (0, 1.3, -1): four effective operations of nine. Not accumulates,
    # since 1.3 is no spike.
    layer = nn.Linear(3, 3, bias=False)
    layer.weight.data = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    mine, found = of_layer(layer, torch.tensor([[0.0, 1.3, -1.0]]))
    assert mine == pytest.approx(found)
    assert found == {"Dense": 9, "Effective_MACs": 4, "Effective_ACs": 0}
    # With the zeros elsewhere it is another number.
    layer.weight.data = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    mine, found = of_layer(layer, torch.tensor([[0.0, 1.3, -1.0]]))
    assert mine == found
    assert found["Effective_MACs"] == 3


@pytest.mark.parametrize(
    ("layer", "shape", "operations"),
    [(nn.Conv2d(1, 1, 3), (1, 1, 3, 3), 9), (nn.Conv2d(1, 1, 3), (1, 1, 12, 12), 900),
     (nn.Conv1d(1, 5, 5), (1, 1, 10), 150), (nn.Linear(20, 5), (5, 20), 100)],
)  # fmt: skip
def test_documented_sizes(layer: nn.Module, shape: tuple[int, ...], operations: int) -> None:
    mine, found = of_layer(layer, torch.ones(shape))
    assert mine == found == {"Dense": operations, "Effective_MACs": 0, "Effective_ACs": operations}


def test_ten_steps_of_a_linear_layer_are_a_thousand_accumulates_a_sample() -> None:
    # "Per execution" there is per sample of the batch, so that a call over T steps gives T times as many.
    mine = ours(energy.measure(Single(nn.Linear(20, 5)), torch.ones(10, 5, 20)))
    assert mine["effective_acs"] == 1000
    assert mine["T"] == 10


class Cell(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state = torch.ones(x.shape[1], 5)
        found = self.cell(x[0], (state, state) if isinstance(self.cell, nn.LSTMCell) else state)
        return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize(
    ("cell", "published", "matrices", "products"),
    [(nn.LSTMCell(25, 5), 615, 600, 15), (nn.RNNCell(25, 5), 150, 150, 0), (nn.GRUCell(25, 5), 465, 450, 10)],
    ids=["lstm", "rnn", "gru"],
)  # fmt: skip
def test_recurrent_cells(cell: nn.Module, published: int, matrices: int, products: int) -> None:
    for p in cell.parameters():
        p.data.fill_(1.0)
    state = torch.ones(2, 5)
    inputs = (torch.ones(2, 25), (state, state) if isinstance(cell, nn.LSTMCell) else state)
    dense, _ = layers_of_neurobench.single_layer_MACs(inputs, cell, total=True)
    assert dense / 2 == published
    record = energy.measure(Cell(cell), torch.ones(1, 2, 25))
    assert ours(record)["dense_synaptic_operations"] == matrices
    # The rest there are products of a cell's gates and states. In our record they are elementwise products, and in
    # a GRU only two for each unit where the formula has three: torch computes n + z (h - n).
    gates = record.operations.query("op == 'mul'")["dense"].sum()
    assert gates == products
    assert matrices + gates == published - (5 if isinstance(cell, nn.GRUCell) else 0)


def test_taps_on_padding_are_not_dense_operations() -> None:
    mine, found = of_layer(nn.Conv2d(1, 1, 3, padding=1), torch.ones(1, 1, 4, 4))
    assert mine["Dense"] == found["Dense"] == 100  # 144 with the border


def test_signed_spikes_count_as_accumulates() -> None:
    ternary = torch.tensor([[1.0, -1.0, 0.0, 1.0]])
    mine, found = of_layer(nn.Linear(4, 3), ternary)
    assert mine == found == {"Dense": 12, "Effective_MACs": 0, "Effective_ACs": 9}


def test_a_black_and_white_image_counts_as_accumulates() -> None:
    image = (random(1, 1, 1, 5, 5) > 0.5).float()
    layer = nn.Conv2d(1, 2, 3)
    mine, found = of_layer(layer, image[0])
    assert mine == found
    assert mine["Effective_ACs"] > 0 == mine["Effective_MACs"]
    declared = ours(energy.measure(Single(layer), image, input_operand="real"))
    assert declared["effective_macs"] == mine["Effective_ACs"]


def test_each_call_is_decided_on_its_own() -> None:
    # One step of spikes, one of reals: the first counts as accumulates, the second as multiply-accumulates.
    layer, x = nn.Linear(4, 3), torch.stack([torch.ones(2, 4), torch.full((2, 4), 0.5)])
    mine = synaptic(ours(energy.measure(Single(layer), x)))
    assert mine == {"Dense": 24, "Effective_MACs": 12, "Effective_ACs": 12}
    single = layers_of_neurobench.single_layer_MACs
    assert [single(x_t, layer) for x_t in x] == [(24, True), (24, False)]


@pytest.fixture(scope="module")
def pruned() -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(20, 20, bias=False)
    with torch.no_grad():
        layer.weight.view(-1)[torch.randperm(400)[:80]] = 0.0
    return layer


def test_zero_weights_save_effective_operations_and_no_dense_ones(pruned: nn.Linear) -> None:
    mine, found = of_layer(pruned, (random(64, 20) > 0.7) * random(64, 20))
    assert mine == pytest.approx(found)
    assert mine["Dense"] == 400
    convolution = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    with torch.no_grad():
        convolution.weight[:, 0, 1] = 0.0
    mine, found = of_layer(convolution, (random(4, 2, 6, 6) > 0.6).float())
    assert mine == pytest.approx(found)
    assert mine["Effective_ACs"] > 0


def test_without_sparse_operations_zero_weights_count_in_the_mean_only(pruned: nn.Linear) -> None:
    x = (random(256, 20) > 0.7) * random(256, 20)
    measured = energy.measure(Single(pruned), x.unsqueeze(0))
    tables = measured.to_frames()
    tables["operations"] = tables["operations"].assign(sparse=float("nan"))
    lacking = Record(tables, measured.provenance)
    assert ours(measured)["effective_operations"] == "exact"
    assert ours(lacking)["effective_operations"].startswith("approximate")
    assert energy.price(lacking, "neurobench").loc[0, "note"].startswith("effective operations approximate")
    assert ours(lacking)["effective_macs"] == pytest.approx(ours(measured)["effective_macs"], rel=0.01)
    assert ours(lacking)["effective_macs"] != ours(measured)["effective_macs"]
    assert ours(lacking)["connection_sparsity"] == 0.2


def test_given_weights_are_not_taken_for_zeros() -> None:
    row = {"operand": "binary", "dense": 400.0, "effective": 100.0, "weights": 100}
    mine = ours(Record.from_layers([row], T=4))
    assert (mine["effective_acs"], mine["connection_sparsity"], mine["effective_operations"]) == (100, 0, "exact")
    pruned = ours(Record.from_layers([{**row, "weight_nonzero": 40}], T=4))
    assert (pruned["effective_acs"], pruned["connection_sparsity"]) == (pytest.approx(40), 0.6)
    counted = ours(Record.from_layers([{**row, "weight_nonzero": 40, "sparse": 52.0}], T=4))
    assert (counted["effective_acs"], counted["effective_operations"]) == (52, "exact")


def test_products_of_activations_and_functional_calls_are_not_counted() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            y = nn.functional.linear(x, self.weight)
            return y @ y.transpose(-1, -2)

    record = energy.measure(Functional(), random(1, 2, 3, 4))
    assert len(record.products) == 2
    assert not energy.price(record, "neurobench")["applicable"].any()


def test_torch_rectifiers_count_as_activations() -> None:
    network, x = nn.Sequential(nn.Linear(4, 30), nn.ReLU()), random(1, 2, 4)
    silent = (network(x) == 0).float().mean().item()
    assert 0 < silent < 1
    assert ours(energy.measure(Single(network), x))["activation_sparsity"] == pytest.approx(silent)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(OptionError):
        energy.create("neurobench", reset="none")
    with pytest.raises(OptionError):
        energy.create("neurobench", ac=-1)
