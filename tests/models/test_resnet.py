"""Residual networks: published sizes, shapes, a restatement of the equations, twins, streaming, operands."""

import pytest
import torch
import torch.nn.functional as F
from restate import Plain, alive
from torch import nn

import energy
from neurons import neurons_in
from neurons.adapters.nir import NIRError
from neurons.errors import OptionError, ShapeError
from step import models
from step.exchange.to_nir import to_nir

TINY = {"image_size": 9, "channels": 2, "classes": 5, "width": 4, "depths": (1, 2)}


def tiny(neuron="lif", **options):
    return alive("resnet", neuron, **{**TINY, **options})


def images(T=4, B=3, dtype=torch.float32):
    return torch.rand(T, B, 2, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(
    ("name", "size", "convolutions", "others"),
    [
        # 20 channels: stem, then (in, out) 3x3 twice in each block, and a 1x1 shortcut where a stage begins
        (
            "resnet",
            "cifar",
            27 * 20
            + 9 * (4 * 20 * 20 + (20 + 3 * 40) * 40 + (40 + 3 * 80) * 80 + (80 + 3 * 160) * 160)
            + (20 * 40 + 40 * 80 + 80 * 160),
            2 * (4 * 20 + 20 + 3 * 40 + 40 + 3 * 80 + 80 + 3 * 160 + 160) + 160 * 10 + 10,
        ),
        ("resnet", "mini-imagenet", 1_090_140 + 75 * 20 - 27 * 20, 2 * 1220 + 160 * 100 + 100),
        ("resnet", "five-datasets", 1_090_140, 2 * 1220 + 160 * 50 + 50),
        ("mlp", "pmnist", 0, 784 * 800 + 800 * 800 + 800 * 10),
        ("cnn", "cifar-hlop", 9 * (3 * 64 + 64 * 128 + 128 * 256), 2 * (64 + 128 + 256) + 100 * (4096 + 1)),
    ],
)
def test_networks_of_hebbian_orthogonal_projection_have_their_published_sizes(name, size, convolutions, others):
    with torch.device("meta"):
        network = models.create(name, size=size)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.weight.numel() for m in layers) == convolutions
    assert all(m.bias is None for m in layers)
    assert network.parameter_count == convolutions + others
    # about 1.1 M; 1.275 M; 0.37 M in the convolutions and 41 k for ten classes (Xiao et al., ICLR 2024)
    millions = {"resnet": 1.1, "mlp": 1.2752, "cnn": 0.37}[name]
    counted = convolutions if name == "cnn" else network.parameter_count
    assert counted / 1e6 == pytest.approx(millions, abs=0.01)


def test_the_usual_width_has_the_size_of_resnet_18():
    with torch.device("meta"):
        assert models.create("resnet", size="cifar-64").parameter_count == 11_171_146 + 2 * 512  # and a last norm


@pytest.mark.parametrize(("size", "sides"), [("cifar", (32, 32, 16, 8, 4)), ("mini-imagenet", (42, 42, 21, 11, 6))])
def test_maps_of_the_published_sizes(size, sides):
    network, seen = models.create("resnet", size=size, depths=(1, 1, 1, 1)), []
    for part in [network.layers[0], *network.segments()]:
        part.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[2:])))
    side = network.config.image_size
    with torch.no_grad():
        scores = network.eval()(torch.rand(1, 1, 3, side, side))
    assert seen == [(c, s, s) for c, s in zip((20, 20, 40, 80, 160), sides, strict=True)]
    assert scores.shape == (1, 1, network.config.classes)


def restated(network, x):
    """The network from its equations, one step and one sample at a time; no code shared."""
    p, c = Plain(network), network.config
    T, B = x.shape[:2]
    results, fired = torch.zeros(T, B, c.classes, dtype=torch.float64), []

    def conv(name, y, stride=1):
        weight = p[f"{name}.conv.weight"]
        return F.conv2d(y[None], weight, stride=stride, padding=weight.shape[-1] // 2)[0]

    for b in range(B):
        p.rest()
        for t in range(T):
            y = conv("layers.0", x[t, b].double(), c.stem_stride)
            number = 1
            for stage, depth in enumerate(c.depths):
                for block in range(depth):
                    at, stride = f"layers.{number}", 2 if stage > 0 and block == 0 else 1
                    s = p.lif(f"{at}.1", p.norm(f"{at}.before.norm.layer", y, 0))
                    h = p.norm(f"{at}.first.norm", conv(f"{at}.first", s, stride), 0)
                    shortcut = conv(f"{at}.shortcut", s, stride) if stride == 2 else y
                    hidden = p.lif(f"{at}.2", h)
                    y = conv(f"{at}.second", hidden) + shortcut
                    fired += [float(s.mean()), float(hidden.mean())]
                    number += 1
            last = p.lif("last", p.norm(f"layers.{number}.norm.layer", y, 0))
            fired.append(float(last.mean()))
            results[t, b] = p[f"layers.{number + 3}.weight"] @ last.mean((1, 2)) + p[f"layers.{number + 3}.bias"]
    assert 0.01 < sum(fired) / len(fired) < 0.9
    return results


@pytest.mark.parametrize("stem", [{}, {"stem_kernel": 5, "stem_stride": 2}])
def test_forward_agrees_with_a_restatement_of_the_equations(stem):
    network, x = tiny(**stem).double(), images(dtype=torch.float64)
    with torch.no_grad():
        ours = network(x)
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, restated(network, x), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("neuron", ["lif", "plif", "cuba", "psn"])
def test_streaming_equals_the_whole_and_every_parameter_learns(neuron):
    network, x = tiny(neuron if neuron != "psn" else {"name": "psn", "T": 5}).double(), images(5, dtype=torch.float64)
    with torch.no_grad():
        whole = network(x)
        if network.streams:
            first, state = network.run(x[:2])
            second, _ = network.run(x[2:], state)
            torch.testing.assert_close(torch.cat([first, second]), whole)
        torch.testing.assert_close(network.folded()(x), whole)
    network.train()(x).square().sum().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


@pytest.mark.parametrize("neuron", ["relu", {"name": "quantised_relu", "bits": 3}])
def test_twins_carry_the_weights(neuron):
    network = tiny(readout_tau=2.0)
    twin = network.twin(neuron)
    its = dict(twin.named_parameters())
    assert all(torch.equal(its[key], p) for key, p in network.named_parameters() if key in its)
    assert {key for key in its if not key.endswith("step_size")} == set(dict(network.named_parameters()))
    assert twin(images(T=1)).std() > 0
    # two in each block and the last; the integrator of the read-out is not one of the twin's
    assert len(list(neurons_in(twin))) == 7
    assert len(list(neurons_in(network))) == 8


def test_convolutions_read_spikes():
    network = tiny()
    record = energy.measure(network, images())
    assert record.provenance["uncounted"] == {}
    operands = record.products.set_index("layer")["operand"]
    real = [layer for layer, kind in operands.items() if kind != "binary"]
    assert real == ["layers.0.conv", "layers.7"]  # pixels, and means over the last map
    assert len(operands) == 1 + 3 * 2 + 1 + 1
    rows = record.products.set_index("layer")
    assert rows.loc["layers.2.shortcut.conv", "dense"] == 4 * 25 * 4 * 8  # 9x9 in steps of 2: 5x5
    assert record.spikes > 0


def test_a_repeated_input_meets_the_stem_once():
    network, x, seen = tiny(), images()[:1], []
    network.layers[0].conv.register_forward_hook(lambda m, i, out: seen.append(len(out)))
    with torch.no_grad():
        once, plain = network(x.expand(4, -1, -1, -1, -1)), network(x.repeat(4, 1, 1, 1, 1))
    assert seen == [3, 12]
    torch.testing.assert_close(once, plain)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stem_kernel": 4}, "stem_kernel must be odd, not 4"),
        ({"depths": ()}, "at least 1 item"),
        ({"depths": (1, 0)}, "greater than or equal to 1"),
        ({"witdh": 3}, "did you mean 'width'"),
        ({"size": "cifr"}, "did you mean 'cifar'"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(options, words):
    with pytest.raises(OptionError, match=words):
        models.create("resnet", **{**TINY, **options})


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match=r"this resnet takes \[T, B, 2, 9, 9\]"):
        tiny()(torch.rand(4, 3, 1, 9, 9))
    with pytest.raises(NIRError, match="cannot be said in NIR"):  # a sum of branches is no chain
        to_nir(tiny(), (2, 9, 9))
