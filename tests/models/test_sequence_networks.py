"""Networks for sequences: what holds for all that are registered, each against its reference, and what they cost."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import energy
import neurons
from neurons.errors import OptionError, ShapeError, StepError
from neurons.plain import plain
from step import models
from step.models.sequence.base import SequenceNetwork
from step.models.sequence.budget import BudgetConfig, fit_width
from step.models.sequence.causal_transformer import CausalAttention
from step.models.sequence.gru import GRUCell
from step.models.sequence.lstm import LSTMCell
from step.models.sequence.recurrent import Recurrent
from step.models.sequence.ssm import DiagonalStateSpace
from step.models.sequence.tcn import CausalConv, TCNConfig

T, B, CHANNELS, CLASSES = 9, 3, 5, 4


def _known(name):
    kind = models.models.get(name)
    return isinstance(kind, type) and issubclass(kind, SequenceNetwork) and kind.__module__.startswith("step.models.")


NAMES = [name for name in models.names() if _known(name)]
SIZED = [name for name in NAMES if issubclass(models.models.get(name).Config, BudgetConfig)]
SMALL = {
    "tcn": {"filters": 6, "depth": 3, "kernel": 3},
    "diagonal-ssm": {"dim": 8, "states": 6, "depth": 2},
    "elm-network": {"neurons": 12, "input_dropout": 0.0, "recurrent_dropout": 0.0},  # runs in training are compared
}
FORMS = [
    ("lstm", {"hidden": 8, "layers": 2, "chrono": 20}),
    ("gru", {"hidden": 8, "layers": 2}),
    ("tcn", {"filters": 6, "depth": 3, "kernel": 2, "first_kernel": 4, "growth": 1, "residual": False}),
    ("causal-transformer", {"dim": 7, "heads": 1, "positions": "none"}),
    ("recurrent-snn", {"hidden": 12, "layers": 2, "readout": "linear"}),
    ("recurrent-snn", {"hidden": 12, "recurrent": False, "norm": False}),
    ("recurrent-snn", {"hidden": 12, "neuron": "alif"}),
    *((name, SMALL.get(name, {})) for name in NAMES),
]
FORM = pytest.mark.parametrize(("name", "options"), FORMS)


def network(name, options):
    # Sensitive neurons, as norms have the statistics of no data yet.
    neuron = {"neuron": {"name": "lif", "threshold": 0.1}} if models.models.get(name).takes_neuron else {}
    sizes = {"channels": CHANNELS, "classes": CLASSES, **neuron}
    return models.create(name, seed=0, **{**sizes, **options}).double()


def sequences(steps=T, batch=B, channels=CHANNELS, seed=0):
    return torch.randn(steps, batch, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_all_baselines_are_here():
    assert {"lstm", "gru", "tcn", "diagonal-ssm", "causal-transformer", "recurrent-snn"} <= set(SIZED)


@FORM
def test_outputs_depend_on_their_sample_and_on_steps_before_only(name, options):
    net, x = network(name, options).eval(), sequences()
    other = sequences(seed=1)
    with torch.no_grad():
        y = net(x)
        assert y.shape == (T, B, CLASSES)
        assert float(y[-1].std(0).min()) > 0
        torch.testing.assert_close(net(x[:, :1]), y[:, :1], rtol=1e-9, atol=1e-9)
        mixed = net(torch.cat((x[:, :1], other[:, 1:]), 1))
        torch.testing.assert_close(mixed[:, :1], y[:, :1], rtol=1e-9, atol=1e-9)
        later = net(torch.cat((x[:5], other[5:])))
        torch.testing.assert_close(later[:5], y[:5], rtol=1e-9, atol=1e-9)
        assert not torch.allclose(later[5:], y[5:])


@FORM
def test_chunks_are_the_whole_and_last_steps_are_gathered(name, options):
    net, x = network(name, options).eval(), sequences()
    with torch.no_grad():
        whole, state, found = net(x), None, []
        for chunk in (x[:4], x[4:5], x[5:]):
            y, state = net.run(chunk, state)
            found.append(y)
        torch.testing.assert_close(torch.cat(found), whole, rtol=1e-9, atol=1e-9)
        lengths = torch.tensor([T, 1, 4])
        torch.testing.assert_close(net.last(x), whole[-1:])
        torch.testing.assert_close(net.last(x, lengths), whole[lengths - 1, torch.arange(B)].unsqueeze(0))
        with pytest.raises(ShapeError):
            net.last(x, torch.tensor([T, 0, 4]))
        with pytest.raises(ShapeError):
            net(x[..., :2])


@FORM
def test_the_fast_form_equals_the_reference_with_all_gradients(name, options):
    net, x = network(name, options).train(), sequences()
    with torch.no_grad():
        _, start = net.run(sequences(3, seed=2))
    results = []
    for reference in (False, True):
        given = {path: {key: v.clone().requires_grad_() for key, v in each.items()} for path, each in start.items()}
        values = [v for each in given.values() for v in each.values()]
        inputs = x.clone().requires_grad_()
        torch.manual_seed(1)  # of dropout
        if reference:
            with plain():
                y, state = net.run(inputs, given)
        else:
            y, state = net.run(inputs, given)
        reached = [v for each in state.values() for v in each.values()]
        loss = y.square().sum() + sum(v.square().sum() for v in reached)
        wanted = [inputs, *net.parameters(), *values]
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
        assert all(g.isfinite().all() for g in gradients)
        assert gradients[0].any()
        results.append([y, *reached, *gradients])
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_training_reaches_every_parameter_and_drops_inputs_in_training_only(name):
    net = network(name, {**SMALL.get(name, {}), "input_dropout": 0.25}).train()
    net(sequences(20, 6)).square().sum().backward()
    assert [key for key, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    seen = net.inputs(torch.ones(50, 8, CHANNELS))
    torch.testing.assert_close(seen.unique(), torch.tensor([0, 1 / 0.75]))
    assert abs(float(seen.mean()) - 1) < 0.1  # 2000 draws: deviation 0.013
    torch.testing.assert_close(net.eval().inputs(torch.ones(2, 1, CHANNELS)), torch.ones(2, 1, CHANNELS))


def test_images_are_flattened():
    net = models.create("lstm", channels=2, image_size=3, hidden=4)
    assert net(torch.rand(2, 5, 2, 3, 3)).shape == (2, 5, 10)


# Equal sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [6_000, 30_011])
@pytest.mark.parametrize("name", SIZED)
def test_the_width_is_the_largest_within_the_parameters(name, target):
    sizes = {"channels": 64, "classes": 9}
    net = models.create(name, parameters=target, **sizes)
    config = net.config
    wider = config.width + config.multiple
    assert net.parameter_count <= target
    assert models.create(name, **{config.WIDTH: wider}, **sizes).parameter_count > target
    assert config.parameters is None
    asked = type(config)(parameters=target)
    assert getattr(asked, config.WIDTH) is None  # a spec keeps what was asked for
    assert type(config)(**asked.model_dump()) == asked
    with pytest.raises(OptionError, match="not both"):
        models.create(name, parameters=target, **{config.WIDTH: wider})
    with pytest.raises(OptionError, match="has at least") as caught:
        models.create(name, parameters=70, **sizes)
    assert "\n" not in str(caught.value)
    assert models.create(name).config.width == config.WIDTH_DEFAULT


def test_the_parameters_of_neurons_count_and_a_twin_has_the_width_of_its_network():
    target = 5_000
    net = models.create("recurrent-snn", parameters=target, neuron="lif", channels=8, layers=2)
    twin = net.twin("plif")
    assert twin.config == net.config
    assert twin.parameter_count == net.parameter_count + 2  # a time constant for each layer
    shared = dict(twin.named_parameters())
    assert all(torch.equal(shared[key], p) for key, p in net.named_parameters())
    assert any("recurrent" in key for key in shared)


def test_a_width_without_influence_is_refused():
    class Deaf(models.LSTM):
        def __init__(self, config, neuron):
            super().__init__(config.model_copy(update={"hidden": 3}), neuron)

    with pytest.raises(OptionError, match="does not grow with hidden"):
        fit_width(Deaf, models.LSTM.Config(hidden=2), "hidden", 10_000)


# One by one -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "theirs"), [(LSTMCell, nn.LSTM), (GRUCell, nn.GRU)])
def test_gated_cells_equal_those_of_torch(cell, theirs):
    ours, x = cell(CHANNELS, 7).double(), sequences()
    other = theirs(CHANNELS, 7).double()
    other.load_state_dict(dict(zip(other.state_dict(), ours.weights, strict=True)))
    with torch.no_grad():
        y, (h, *_) = other(x)
        with plain():
            slow, state = ours.run(x)
        torch.testing.assert_close(slow, y, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ours(x), y, rtol=0, atol=0)
        torch.testing.assert_close(state["h"], h if cell is GRUCell else h[0], rtol=1e-9, atol=1e-9)


def test_chrono_biases_spread_over_the_span():
    torch.manual_seed(0)
    cell, usual = LSTMCell(3, 1000, chrono=100), LSTMCell(3, 1000)
    i, f, g, o = (cell.input.bias + cell.recurrent.bias).detach().chunk(4)
    torch.testing.assert_close(i, -f)
    spans = f.exp()
    assert 1 <= float(spans.min()) < 1.5
    assert 98.5 < float(spans.max()) <= 99.001
    assert abs(float(spans.mean()) - 50) < 3  # uniform in [1, 99]; deviation of the mean 0.9
    assert max(float(g.abs().max()), float(o.abs().max())) <= 2 / math.sqrt(1000)
    assert float((usual.input.bias + usual.recurrent.bias).detach().abs().max()) <= 2 / math.sqrt(1000)


def test_state_spaces_equal_their_equations():
    cell, x = DiagonalStateSpace(2, 6, 0.01, 0.5).double(), sequences(12, 2, 2)
    with torch.no_grad():
        dt = cell.log_dt.exp().numpy()[:, None]
        a = -cell.log_decay.exp().numpy() + 1j * cell.frequency.numpy()
        c = torch.view_as_complex(cell.output_weight).numpy()
        np.testing.assert_allclose(a, np.tile(-0.5 + 1j * np.pi * np.arange(3), (2, 1)))
        s, want = np.zeros((2, 2, 3), complex), []
        for x_t in x.numpy():
            s = np.exp(a * dt) * s + (np.exp(a * dt) - 1) / a * x_t[..., None]
            want.append(2 * (c * s).real.sum(-1) + cell.skip.numpy() * x_t)
        np.testing.assert_allclose(cell(x).numpy(), np.stack(want), rtol=1e-9, atol=1e-9)
        single = cell.float()(x.float())
        np.testing.assert_allclose(single.numpy(), np.stack(want), rtol=1e-3, atol=1e-4)


def test_attention_equals_that_of_torch():
    ours, x = CausalAttention(8, 2).double(), sequences(channels=8)
    theirs = nn.MultiheadAttention(8, 2).double()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    later = torch.ones(T, T, dtype=torch.bool).triu(1)
    with torch.no_grad():
        want, _ = theirs(x, x, x, attn_mask=later, need_weights=False)
        torch.testing.assert_close(ours(x), want, rtol=1e-9, atol=1e-9)
        with pytest.raises(ShapeError, match="keys and values"):
            ours.run(x, {"keys": torch.zeros(B, 2, 8), "values": torch.zeros(B, 3, 8)})


@pytest.mark.parametrize("residual", [False, True])
def test_convolutions_hear_exactly_the_receptive_field(residual):
    options = {"depth": 3, "kernel": 3, "first_kernel": 4, "growth": 2, "residual": residual}
    net, field = network("tcn", {"filters": 16, **options}).eval(), TCNConfig(**options).receptive_field
    assert field == 1 + (3 + 4 + 8) * (1 + residual)
    x = sequences(field + 5, 8).requires_grad_()
    net(x)[-1].square().sum().backward()
    assert x.grad.abs().sum((1, 2)).ne(0).tolist() == [False] * 5 + [True] * field
    cell = CausalConv(2, 3, 3, 2).double()
    x = sequences(channels=2)
    taps = [F.pad(x, (0, 0, 0, 0, lag, 0))[:T] for lag in (4, 2, 0)]
    want = sum(F.linear(tap, cell.conv.weight[:, :, i]) for i, tap in enumerate(taps)) + cell.conv.bias
    torch.testing.assert_close(cell(x), want, rtol=1e-9, atol=1e-9)


def test_spikes_come_back_one_step_later():
    neuron = neurons.create("lif", tau=2.0)
    layer, x = Recurrent(6, neuron).double(), 2 * sequences(channels=6)
    v, s, want = torch.zeros(B, 6), torch.zeros(B, 6), []
    with torch.no_grad():
        for x_t in x:
            h = v + (x_t + s.double() @ layer.recurrent.weight.T - v) / 2
            s = (h >= 1).double()
            v = h * (1 - s)
            want.append(s)
        y = layer(x)
    assert torch.equal(y, torch.stack(want))
    assert 0 < float(y.mean()) < 1
    assert layer.output == "binary"
    with pytest.raises(OptionError, match="set recurrent to false") as caught:
        models.create("recurrent-snn", neuron={"name": "psn", "T": 4})
    assert "\n" not in str(caught.value)


def test_networks_without_a_neuron_take_the_identity():
    x = sequences().requires_grad_()
    y = neurons.create("identity")(x)
    assert torch.equal(y, x)
    assert models.create("gru", neuron="identity").takes_neuron is False
    with pytest.raises(StepError):
        models.create("gru", neuron="idenity")


# Operations -----------------------------------------------------------------------------------------------------------

F_, H = CHANNELS, 8
ATTENTION = 4 * H * H * T + 2 * H * T * (T + 1) // 2
MACS = {
    "lstm": ({"hidden": H, "layers": 2}, T * 4 * H * (F_ + H + 2 * H) + T * H * CLASSES),
    "gru": ({"hidden": H, "layers": 2}, T * 3 * H * (F_ + H + 2 * H) + T * H * CLASSES),
    "tcn": (
        {"filters": H, "depth": 3, "kernel": 3, "residual": False, "growth": 2},
        T * 3 * H * (F_ + 2 * H) + T * H * CLASSES,
    ),
    "diagonal-ssm": (
        {"dim": H, "states": 6, "depth": 2},
        T * F_ * H + 2 * T * (H * 6 + 2 * H * H) + T * H * CLASSES,
    ),
    "causal-transformer": (
        {"dim": H, "heads": 2, "depth": 2, "ratio": 3.0},
        T * F_ * H + 2 * (ATTENTION + 2 * 3 * T * H * H) + T * H * CLASSES,
    ),
    "recurrent-snn": ({"hidden": H, "layers": 2}, T * H * (F_ + H + 2 * H) + T * H * CLASSES),
}


@pytest.mark.parametrize("name", MACS)
def test_multiply_accumulates_are_those_of_the_formula(name):
    options, want = MACS[name]
    net = network(name, options).eval()
    record = energy.measure(net, sequences())
    operations = record.operations
    assert record.provenance["uncounted"] == {}
    assert operations[operations["op"] == "mac"]["dense"].sum() == want
    products = record.layers[record.layers["kind"].isin(["linear", "conv", "matmul"])]
    assert (products["T"] == T).all()
    if name == "diagonal-ssm":  # s = turn s + x: a complex product and a sum for each pair; then D x
        own = operations[operations["layer"].str.endswith(".states")].groupby("op")["dense"].sum()
        assert (own["mul"], own["add"]) == (2 * T * (4 * 3 * H + H), 2 * T * (3 * 3 * H + H))
    if name == "recurrent-snn":
        with torch.no_grad():
            spikes = sum(net.layers[:k](net.inputs(sequences())).sum() for k in (2, 4)) / B
        assert record.spikes == pytest.approx(float(spikes))
        assert float(spikes) > 0
        recurrent = operations[operations["layer"].str.endswith(".recurrent") & (operations["op"] == "mac")]
        assert set(recurrent["operand"]) == {"binary"}
        assert recurrent["exact"].sum() < recurrent["dense"].sum()
