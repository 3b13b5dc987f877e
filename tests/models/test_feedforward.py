"""Multilayer perceptrons and convolutional networks: sizes, twins, streaming, learning, operations by hand."""

import pytest
import torch
from torch import nn

import energy
import step
from neurons import LeakyIntegrator, Neuron
from neurons.errors import OptionError, ShapeError
from step import models

SMALL = {
    "mlp": {"image_size": 8, "channels": 2, "classes": 5, "hidden": (12, 7)},
    "cnn": {"image_size": 8, "channels": 2, "classes": 5, "widths": (4, 6)},
}


def small(name, neuron="lif", **options):
    """A small network that fires: its weights are larger than those it would begin to learn with."""
    network = models.create(name, neuron=neuron, seed=0, **{**SMALL[name], **options})
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight.data.uniform_(1, 3, generator=generator)
            module.bias.data.uniform_(-0.2, 0.8, generator=generator)
            module.running_var.uniform_(0.01, 0.2, generator=generator)
        elif isinstance(module, (nn.Linear, nn.Conv2d)):
            module.weight.data.mul_(8)
    return network.eval()


def images(T=4, B=3):
    return torch.rand(T, B, 2, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("options", [{}, {"norm": False}, {"norm": False, "bias": False}, {"readout_tau": 3.0}])
def test_shapes_and_life(name, options):
    network = small(name, **options)
    with torch.no_grad():
        scores = network(images())
    assert scores.shape == (4, 3, 5)
    assert scores.std() > 0.01
    rates = energy.measure(network, images()).firing_rates
    assert (rates > 0).all()


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        # 128 inputs; a norm has two values for each channel and stands in for the bias
        ("mlp", {}, (128 * 12 + 24) + (12 * 7 + 14) + (7 * 5 + 5)),
        ("mlp", {"norm": False}, (128 * 12 + 12) + (12 * 7 + 7) + (7 * 5 + 5)),
        ("mlp", {"norm": False, "bias": False}, 128 * 12 + 12 * 7 + 7 * 5),
        ("mlp", {"hidden": (3,), "neuron": "plif"}, (128 * 3 + 6) + 1 + (3 * 5 + 5)),
        # 8x8 maps, halved twice to 2x2
        ("cnn", {}, (2 * 4 * 9 + 8) + (4 * 6 * 9 + 12) + (6 * 4 * 5 + 5)),
        ("cnn", {"norm": False}, (2 * 4 * 9 + 4) + (4 * 6 * 9 + 6) + (6 * 4 * 5 + 5)),
        ("cnn", {"kernel": 5, "pool": "none"}, (2 * 4 * 25 + 8) + (4 * 6 * 25 + 12) + (6 * 64 * 5 + 5)),
    ],
)
def test_parameter_counts_by_hand(name, options, parameters):
    assert models.create(name, **{**SMALL[name], **options}).parameter_count == parameters


def test_a_perceptron_flattens_any_sample():
    network, x = small("mlp"), images()
    with torch.no_grad():
        assert torch.equal(network(x), network(x.flatten(2)))
        assert torch.equal(network(x), network(x.view(4, 3, 4, 32)))


@pytest.mark.parametrize("name", SMALL)
def test_wrong_input_is_refused(name):
    with pytest.raises(ShapeError, match=rf"this {name} takes \[T, B, 2, 8, 8\]"):
        small(name)(torch.rand(4, 3, 1, 8, 8))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mlp", {"hidden": ()}, "at least 1 item"),
        ("mlp", {"hidden": (0,)}, "greater than or equal to 1"),
        ("mlp", {"hiden": (3,)}, "did you mean 'hidden'"),
        ("mlp", {"readout_tau": 1.0}, "greater than 1"),
        ("cnn", {"kernel": 4}, "kernel must be odd"),
        ("cnn", {"widths": (2, 2, 2, 2)}, "cannot be halved by 4 stages"),
        ("cnn", {"pool": "maximum"}, "'average', 'max' or 'none'"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(name, options, words):
    with pytest.raises(OptionError, match=words):
        models.create(name, **{**SMALL[name], **options})


@pytest.mark.parametrize("name", SMALL)
def test_a_repeated_input_meets_its_first_layer_once(name):
    network, x = small(name), images(B=2)[:1]
    first = next(m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    sizes = []
    first.register_forward_hook(lambda m, i, o: sizes.append(len(o)))
    with torch.no_grad():
        once, plain = network(x.expand(4, -1, -1, -1, -1)), network(x.repeat(4, 1, 1, 1, 1))
    assert sizes == [2, 8]
    torch.testing.assert_close(once, plain)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("neuron", ["lif", "plif", "cuba", "alif"])
def test_streaming_equals_the_whole(name, neuron):
    network, x = small(name, neuron, readout_tau=2.0), images(T=5)
    with torch.no_grad():
        whole = network(x)
        first, state = network.run(x[:2])
        second, _ = network.run(x[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)


@pytest.mark.parametrize("name", SMALL)
def test_a_twin_carries_the_weights_and_no_integrator(name):
    network = small(name, readout_tau=2.0)
    twin = network.twin("relu")
    assert isinstance(network.layers[-1], LeakyIntegrator)
    assert not any(isinstance(m, LeakyIntegrator) for m in twin.modules())
    mine, its = dict(network.named_parameters()), dict(twin.named_parameters())
    assert mine.keys() == its.keys()
    assert all(torch.equal(mine[key], its[key]) for key in mine)
    assert twin(images(T=1)).shape == (1, 3, 5)


@pytest.mark.parametrize("name", SMALL)
def test_gradient_reaches_every_parameter(name):
    network = small(name, "plif").train()
    network(images(B=8)).square().sum().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_operations_of_a_perceptron_by_hand():
    network, x = small("mlp"), images(T=4, B=3)
    fired = []
    for layer in network.layers:
        if isinstance(layer, Neuron):
            layer.register_forward_hook(lambda m, i, o: fired.append(o.sum().item() / 3))
    record = energy.measure(network, x)
    rows = record.products.set_index("layer")
    assert rows["operand"].to_list() == ["real", "binary", "binary"]
    assert rows["dense"].to_list() == [4 * 128 * 12, 4 * 12 * 7, 4 * 7 * 5]
    # every spike of a layer reaches all neurons of the next one
    assert rows["exact"].to_list() == pytest.approx([4 * 128 * 12, fired[0] * 7, fired[1] * 5])
    assert record.summary()["macs"] == 4 * 128 * 12
    assert record.spikes == pytest.approx(sum(fired))
    repeated = energy.measure(network, x[:1].expand(4, -1, -1, -1, -1))
    assert repeated.summary()["macs"] == 128 * 12  # a repeated input is computed once


def test_operations_of_a_convolutional_network_by_hand():
    network, x = small("cnn", pool="max"), images(T=4, B=1)
    maps = []
    network.layers[2].register_forward_hook(lambda m, i, o: maps.append(o))
    record = energy.measure(network, x)
    rows = record.products.set_index("layer")
    taps = (3 * 8 - 2) ** 2  # of 3x3 kernels on an 8x8 map: the outermost rows and columns lose a third each
    assert rows["operand"].to_list() == ["real", "binary", "binary"]
    assert rows.loc["layers.0.conv", "dense"] == 4 * taps * 2 * 4
    assert rows.loc["layers.3.conv", "dense"] == 4 * (3 * 4 - 2) ** 2 * 4 * 6
    assert rows.loc["layers.7", "dense"] == 4 * 24 * 5
    # a spike reaches the kernels that cover it (9, 6 at an edge, 4 in a corner), in each of 6 output channels
    cover = nn.functional.conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3), padding=1)[0, 0]
    assert rows.loc["layers.3.conv", "exact"] == pytest.approx((maps[0] * cover).sum().item() * 6)


@pytest.mark.parametrize("name", SMALL)
def test_learns_digits_in_a_suite(name, tmp_path):
    sizes = {"mlp": "hidden: [48]", "cnn": "widths: [8, 16]"}
    suite = tmp_path / "suite.yaml"
    suite.write_text(f"""
title: Feed-forward networks on digits
base:
  dataset: digits
  encoder: {{name: direct, T: 4}}
  model: {{name: {name}, {sizes[name]}}}
  learner: {{name: surrogate-gradient, epochs: 8, batch: 64, lr: 8e-3}}
  measure: {{samples: 8, batch: 8}}
grid:
  neuron: [lif, relu]
""")
    runs = step.run(suite, folder=tmp_path / "out")
    assert (runs["test_accuracy"] > 0.9).all(), runs[["network", "test_accuracy"]]
    assert (runs["spikes"].fillna(1) > 0).all()
    assert (runs["energy_pJ.op-count"] > 0).all()
