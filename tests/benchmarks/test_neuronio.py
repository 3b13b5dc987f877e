"""NeuronIO: read from miniatures of the published files, made here, and scored."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import datasets
from benchmarks.datasets.neuron_recordings import recording, sliding_windows
from benchmarks.datasets.neuronio import TRAIN, VALIDATION, read_file
from benchmarks.datasets.teacher_neuron import TeacherNeuron
from benchmarks.protocols import Batches
from benchmarks.protocols.neuronio import NeuronIO, NeuronIOObjective
from benchmarks.protocols.neuronio_metrics import millivolts, spike_metrics, voltage_metrics
from encoders import create as encoder
from neurons.errors import DataError, OptionError, ShapeError
from step import models

SEGMENTS, DURATION, SIMULATIONS = 3, 2_000, 4

# The published files


def content(seed: int, spikes: int = 3) -> dict[str, Any]:
    """Return what a file holds, of 4 simulations of 2 s with 3 segments."""
    random = np.random.RandomState(seed)
    simulations = []
    for _ in range(SIMULATIONS):
        inputs = [
            {np.int64(s): [np.int64(t) for t in np.sort(random.choice(DURATION, 20, False))] for s in (0, 2)}
            for _ in range(2)
        ]
        simulations.append(
            {
                "exInputSpikeTimes": inputs[0],
                "inhInputSpikeTimes": inputs[1],
                "outputSpikeTimes": np.sort(random.uniform(1, 1999, spikes)).astype(np.float16),
                "somaVoltageLowRes": random.uniform(-80, 30, DURATION).astype(np.float16),
                "dendriticVoltagesLowRes": random.uniform(-80, 0, (SEGMENTS, DURATION)).astype(np.float16),
            }
        )
    params = {
        "allSegmentsType": ["basal", "basal", "apical"], "totalSimDurationInSec": 2, "listOfISIs": [np.float64(3.5)],
    }  # fmt: skip
    return {"Params": params, "Results": {"listOfSingleSimulationDicts": simulations}}


def old(value: Any) -> Any:
    """Turn text into bytes, as files of Python 2 hold it."""
    if isinstance(value, dict):
        return {old(key): old(each) for key, each in value.items()}
    return (
        [old(each) for each in value]
        if isinstance(value, list)
        else value.encode()
        if isinstance(value, str)
        else value
    )


def write(file: Path, held: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(held, protocol=2))
    return file


def miniature(folder: Path) -> Path:
    for number, part in enumerate((VALIDATION, *TRAIN[:2], "Data_test")):
        for copy in range(2):
            name = f"sim__saved_InputSpikes_DVTs__12_outSpikes__4_simulationRuns__2_secDuration__randomSeed_{copy}.p"
            write(folder / part / name, content(10 * number + copy, spikes=3 if copy else 30))
    return folder


SIZES: dict[str, Any] = {"segments": SEGMENTS, "duration": DURATION, "simulations": SIMULATIONS}


@pytest.mark.parametrize("of_python_2", [False, True])
def test_a_file(tmp_path: Path, of_python_2: bool) -> None:
    held = content(5)
    found = read_file(write(tmp_path / "a.p", old(held) if of_python_2 else held))
    assert found.signs.tolist() == [1, 1, 1, -1, -1, -1]
    simulations = held["Results"]["listOfSingleSimulationDicts"]
    for row, simulation in enumerate(simulations):
        x, y = found.window(row, 0, DURATION)
        wanted = np.zeros((DURATION, 6))
        for sign, first, key in ((1, 0, "exInputSpikeTimes"), (-1, 3, "inhInputSpikeTimes")):
            for segment, times in simulation[key].items():
                wanted[times, first + segment] = sign
        assert np.array_equal(x, wanted)
        spikes = sorted({int(float(t) - 0.5) for t in simulation["outputSpikeTimes"]})
        assert np.flatnonzero(y[:, 0]).tolist() == spikes
        voltage = np.minimum(simulation["somaVoltageLowRes"].astype(float), -55)
        assert np.allclose(y[:, 1], (voltage + 67.7) * 0.1, atol=1e-5)
        assert y[:, 1].max() == pytest.approx(1.27)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/step-test-evil-neuronio",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda h: h["Params"].update(evil=[{1: (Evil(),)}]), r"refused: its pickle asks for .*system"),
        (lambda h: h["Params"].update(evil=np.array(["text"])), "refused: its pickle asks for an array of type 'U4'"),
        (lambda h: h["Results"]["listOfSingleSimulationDicts"][1].pop("outputSpikeTimes"), "lacks outputSpikeTimes"),
        (
            lambda h: h["Results"]["listOfSingleSimulationDicts"][1]["exInputSpikeTimes"].update({9: [3]}),
            "0 to 2, found",
        ),
        (
            lambda h: h["Results"]["listOfSingleSimulationDicts"][0].update(somaVoltageLowRes=np.ones(9)),
            "2000 voltages",
        ),
        (lambda h: h.pop("Params"), "lacks Params"),
    ],
)
def test_what_is_no_file(tmp_path: Path, change: Any, says: str) -> None:
    held = content(5)
    change(held)
    with pytest.raises(DataError, match=says) as error:
        read_file(write(tmp_path / "a.p", held))
    assert "\n" not in str(error.value)
    assert not Path("/tmp/step-test-evil-neuronio").exists()


def test_neuronio(tmp_path: Path, empty_machine: Path) -> None:
    with pytest.raises(DataError, match="kaggle"):
        datasets.load("neuronio")
    miniature(tmp_path / "neuronio")
    data = datasets.load("neuronio", root=tmp_path, windows=40, files=3, **SIZES)
    assert data.shape == (500, 6)
    train: Any = data.train
    first, again, second = (train.training(3, epoch) for epoch in (0, 0, 1))
    assert torch.equal(first.places, again.places)
    assert not torch.equal(first.places, second.places)
    assert 500 <= int(first.places[:, 2].min()) <= int(first.places[:, 2].max()) < DURATION - 500
    assert len(first.places[:, 0].unique()) == 3  # of 4 training files
    x, y = first.batch(torch.arange(8))
    assert x.shape == (8, 500, 6)
    assert not y.isnan().any()
    assert set(x.unique().tolist()) == {-1.0, 0.0, 1.0}
    # Every millisecond from 500 on is asked for once, in simulations with up to 24 spikes, and no other one.
    test: Any = data.test
    asked = np.zeros((2, SIMULATIONS, DURATION + 500), int)
    for (file, simulation, time), targets in zip(test.places.tolist(), test.batch(slice(None))[1], strict=True):
        asked[file, simulation, time : time + 500] += ~targets.isnan().any(-1).numpy()
    assert (asked[:, :, 500:DURATION] == np.array([0, 1])[:, None, None]).all()  # the first file has 30 spikes each
    assert not asked[:, :, :500].any()
    assert not asked[:, :, DURATION:].any()
    assert data.validation is not None
    assert len(data.validation) == len(test) // 2
    wrong = datasets.load("neuronio", path=str(tmp_path / "neuronio"), windows=4, **SIZES | {"simulations": 5})
    with pytest.raises(DataError, match="4 simulations of 2000 steps and 6 inputs, not 5"):
        wrong.test.batch([0])


def test_windows_by_hand() -> None:
    voltage = np.array([[-70.0, -60, -50, -80]])
    events = (np.array([0, 0, 0, 0]), np.array([3, 1, 1, 1]), np.array([0, 1, 1, 0]))
    made = recording(*events, np.array([1.0, -1.0]), voltage > -55, voltage)
    x, y = made.window(0, 1, 4)
    assert x.tolist() == [[1, -1], [0, 0], [1, 0], [0, 0]]
    assert y[:3, 0].tolist() == [0, 1, 0]
    assert y[:3, 1] == pytest.approx([0.77, 1.27, -1.23])
    assert np.isnan(y[3]).all()
    assert millivolts(y[:3, 1]) == pytest.approx([-60, -55, -80])
    windows = sliding_windows(lambda _: made, (1, 1, 4), 2, steps=2, burn_in=1, skip=1, in_memory=True)
    assert windows.places.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2]]
    assert windows.labels[:, 0].isnan().all()
    assert windows.labels[:, 1, 0].tolist() == [0, 1, 0]
    with pytest.raises(OptionError, match="skip"):
        sliding_windows(lambda _: made, (1, 1, 4), 2, steps=2, burn_in=1, skip=0)


# The synthetic neuron


def test_branches_add_up_to_more_than_their_parts() -> None:
    """The same eight spikes set off a plateau on one branch, and none on eight branches."""
    neuron = TeacherNeuron(spread=0.0)
    x = np.zeros((60, 2, neuron.inputs), bool)
    x[10, 0, :8] = True  # all on the first branch
    x[10, 1, : 8 * 8 : 8] = True  # one on each
    drive = np.stack(list(neuron.drive(neuron.synaptic(x)))).sum(-1)
    assert drive[10:30, 0].mean() > 1.5 * drive[10:30, 1].mean()
    linear = replace(neuron, plateau=0.0)
    drive = np.stack(list(linear.drive(linear.synaptic(x)))).sum(-1)
    assert np.allclose(drive[:, 0], drive[:, 1])


def test_the_neuron_by_hand() -> None:
    """One synapse, no plateau: filters, membrane, threshold and refractory time, each by its own formula."""
    neuron = TeacherNeuron(1, 1, spread=0.0, plateau=0.0, fast_gain=400.0)
    x = np.zeros((40, 1, 2), bool)
    x[5, 0, 0] = x[30, 0, 1] = True
    spikes, voltage = neuron.run(neuron.synaptic(x))
    assert voltage[0, :5].tolist() == [-76.0] * 5
    fires = -76 + (1 - np.exp(-1 / 15)) * 400 >= -55
    assert fires
    assert np.flatnonzero(spikes[0]).tolist()[0] == 5
    assert voltage[0, 5] == -55
    assert voltage[0, 6:10].tolist() == [-72.0] * 4
    assert not spikes[0, 6:10].any()
    drive = 400 * np.exp(-5 / 3)
    keep = np.exp(-1 / 15)
    assert voltage[0, 10] == pytest.approx(min(-55, -76 + keep * 4 + (1 - keep) * drive), abs=1e-4)
    before = -76 + keep * (voltage[0, 29] + 76) + (1 - keep) * 400 * np.exp(-25 / 3)
    assert voltage[0, 30] == pytest.approx(before - (1 - keep) * 1.2, abs=1e-3)


SMALL: dict[str, Any] = {"simulations": 12, "validation": 2, "test": 3, "duration": 1_200, "windows": 20}


def test_synthetic_neuronio() -> None:
    data, again, other = (datasets.load("neuronio-synthetic", **SMALL, seed=seed) for seed in (0, 0, 1))
    assert data.shape == (500, 128)
    x, y = data.train.training(0, 1).batch(slice(None))
    assert torch.equal(x, again.train.training(0, 1).batch(slice(None))[0])
    assert torch.equal(y, again.train.training(0, 1).batch(slice(None))[1])
    assert not torch.equal(x, other.train.training(0, 1).batch(slice(None))[0])
    assert set(x[..., :64].unique().tolist()) == {0.0, 1.0}
    assert set(x[..., 64:].unique().tolist()) == {-1.0, 0.0}
    made = [split.read(0) for split in (data.train, data.validation, data.test)]  # type: ignore[union-attr]
    assert 1 < made[0].spikes.mean() * 1000 < 12
    assert made[0].voltage.max() == -55
    assert (np.diff(np.flatnonzero(made[0].spikes)) > 4).all()
    assert len({each.inputs[:200].tobytes() for each in made}) == 3
    assert "synthetic, not NeuronIO" in data.note
    assert not data.test.labels[:, 150:].isnan().all()
    assert data.test.labels[:, :150].isnan().all()


@pytest.mark.parametrize("options", [{"steps": 1_100}, {"burn_in": 500}, {"excitation": -1.0}, {"branches": 0}])
def test_synthetic_options(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        datasets.load("neuronio-synthetic", **SMALL | options)


# Scores


def test_spike_metrics_by_hand() -> None:
    # Scores 4 (spike), 3 (none), 2 (spike), 1 (none): the curve goes (0, .5), (.5, .5), (.5, 1), (1, 1).
    metrics, curve = spike_metrics(np.array([1, 0, 1, 0]), np.array([4.0, 3, 2, 1]))
    assert metrics["auc"] == pytest.approx(0.75)
    assert metrics["tpr_at_fpr_0.01"] == pytest.approx(0.5)
    assert metrics["partial_auc_to_0.0025"] == pytest.approx(0.5)
    assert curve["true_positive_rate"].iloc[-1] == 1
    assert spike_metrics(np.zeros(4), np.arange(4.0))[0].keys() == metrics.keys()
    assert np.isnan(spike_metrics(np.zeros(4), np.arange(4.0))[0]["auc"])


def test_spike_metrics_of_two_normal_distributions() -> None:
    """Scores N(0, 1) without and N(d, 1) with a spike: AUC and hits have closed forms."""
    from scipy.stats import norm

    random = np.random.RandomState(0)
    spikes = random.random_sample(400_000) < 0.1
    metrics, _ = spike_metrics(spikes, random.standard_normal(400_000) + 2 * spikes)
    assert metrics["auc"] == pytest.approx(norm.cdf(2 / np.sqrt(2)), abs=0.004)
    for rate in (0.0025, 0.01):
        assert metrics[f"tpr_at_fpr_{rate}"] == pytest.approx(norm.sf(norm.isf(rate) - 2), abs=0.02)
        grid = norm.sf(norm.isf(np.linspace(1e-7, rate, 2000)) - 2).mean()
        assert metrics[f"partial_auc_to_{rate}"] == pytest.approx(grid, abs=0.02)


def test_voltage_metrics_by_hand() -> None:
    metrics = voltage_metrics(np.array([-70.0, -60, -50]), np.array([-65.0, -60, -55]))
    assert metrics["voltage_rmse"] == pytest.approx(np.sqrt(50 / 3))
    assert metrics["voltage_mae"] == pytest.approx(10 / 3)
    assert metrics["explained_variance"] == pytest.approx(0.75)
    assert metrics["voltage_rmse_restandardised"] == pytest.approx(0, abs=1e-6)
    assert metrics["explained_variance_restandardised"] == pytest.approx(1)
    flat = voltage_metrics(np.array([-70.0, -60, -50]), np.full(3, -60.0))
    assert flat["voltage_rmse_restandardised"] == flat["voltage_rmse"]


def test_objective() -> None:
    outputs = torch.randn(5, 3, 2, requires_grad=True)
    labels = torch.stack([(torch.rand(3, 5) < 0.5).float(), torch.randn(3, 5)], -1)
    spike, voltage = labels.transpose(0, 1).unbind(-1)
    bce, mse = torch.nn.BCEWithLogitsLoss()(outputs[..., 0], spike), torch.nn.MSELoss()(outputs[..., 1], voltage)
    objective = NeuronIOObjective()
    assert torch.allclose(objective.loss(outputs, labels), 0.5 * bce + 0.5 * mse)
    assert torch.allclose(objective.judge(outputs, labels).mean(), objective.loss(outputs, labels))
    unasked = labels.clone()
    unasked[:, :2] = torch.nan
    assert torch.equal(objective.loss(outputs, unasked), NeuronIOObjective(2).loss(outputs, labels))
    objective.loss(outputs, unasked).backward()
    assert outputs.grad is not None
    assert not outputs.grad[:2].any()
    assert outputs.grad[2:].all()
    unasked[0] = torch.nan
    assert objective.judge(outputs, unasked)[0] == 0
    with pytest.raises(ShapeError, match="logit of a spike"):
        objective.loss(outputs[..., :1], labels)


class Oracle:
    """Knows the targets, and is one millivolt off and half as wide in its voltages."""

    batch = 8

    def __init__(self, targets: Tensor) -> None:
        self.left = targets

    def predict(self, x: Tensor, *, last: bool = False, lengths: Tensor | None = None) -> Tensor:
        now, self.left = self.left[: x.shape[1]], self.left[x.shape[1] :]
        return torch.stack([now[..., 0] * 20 - 10, now[..., 1] * 0.5 + 0.1], -1).transpose(0, 1)


def test_protocol() -> None:
    data = datasets.load("neuronio-synthetic", **SMALL)
    test = Batches(data.test, torch.arange(len(data.test)), encoder("sequence"), 500, 8, False, 0, 2)
    outcome = NeuronIO().evaluate(Oracle(data.test.labels), test, 2)  # type: ignore[arg-type]
    metrics = outcome.metrics
    assert metrics["test_auc"] == metrics["test_tpr_at_fpr_0.0025"] == 1
    # Each of 3 simulations is asked for from 200 ms to 1,200 ms.
    assert metrics["test_steps"] == 3_000
    truth = millivolts(data.test.labels[..., 1][~data.test.labels[..., 1].isnan()].double().numpy())
    wanted = np.sqrt(np.mean((truth - ((truth + 67.7) / 2 - 67.7 + 1)) ** 2))
    assert metrics["test_voltage_rmse"] == pytest.approx(wanted, rel=1e-4)
    assert metrics["test_voltage_rmse_restandardised"] == pytest.approx(0, abs=1e-3)
    assert metrics["test_explained_variance"] == pytest.approx(0.75, abs=1e-4)
    assert list(outcome.tables["roc"]) == ["false_positive_rate", "true_positive_rate"]
    assert len(outcome.tables["trace"]) == 500
    late = NeuronIO(burn_in=200).evaluate(Oracle(data.test.labels), test, 2)  # type: ignore[arg-type]
    assert late.metrics["test_steps"] < 3_000
    with pytest.raises(OptionError, match="burn_in"):
        NeuronIO(burn_in=-1)


# The baseline without dendrites


def test_glm_is_a_causal_filter_of_each_input() -> None:
    """Outputs are sums of convolutions with each input's filter, read off from its answer to a single spike."""
    network = models.create("glm", channels=4, classes=2, basis=3, longest=20.0).eval()
    with torch.no_grad():
        network.bias += torch.tensor([0.3, -2.0])
        impulses = torch.zeros(60, 4, 4)
        impulses[0] = torch.eye(4)
        filters = network(impulses) - network.bias
        x = (torch.rand(60, 1, 4, generator=torch.Generator().manual_seed(0)) < 0.2).float()
        wanted = torch.stack([(filters[: t + 1].flip(0) * x[: t + 1, 0, :, None]).sum((0, 1)) for t in range(60)])
        assert torch.allclose(network(x)[:, 0] - network.bias, wanted, atol=1e-5)
        first, state = network.run(x[:25])
        assert torch.allclose(torch.cat([first, network.run(x[25:], state)[0]]), network(x), atol=1e-6)
        # One exponential alone: a spike decays by 1 - 1 / tau, from weight / sqrt(tau).
        network.weights.weight[2:] = 0
        one = network(impulses)[:, 1, 0] - network.bias[0]
        assert one[0] == pytest.approx(network.weights.weight[0, 1].item() / np.sqrt(2), rel=1e-4)
        assert one[3] == pytest.approx(one[0].item() / 8, rel=1e-3)
    with pytest.raises(OptionError, match="longest"):
        models.create("glm", shortest=5.0, longest=3.0)
