"""Max-Former: published sizes, shapes, a restatement of its equations, operands."""

import pytest
import torch
import torch.nn.functional as F
from restate import Plain, alive

import energy
from neurons.errors import OptionError
from step import models

TINY = {
    "image_size": 8, "channels": 1, "classes": 10, "dim": 32, "depths": (1, 2, 1), "heads": 4, "mlp_ratio": 2.0,
}  # fmt: skip


def images(B=4, T=4, side=8):
    return torch.rand(T, B, 1, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("size", "millions", "tolerance"),
    [
        ("imagenet-10-768", 63.99, 0.005),  # printed in the paper
        # built from SpikingJelly 2.0; it has biases before norms in the ImageNet form
        ("cifar-4-384", 6.568, 0.0005),
        ("imagenet-10-384", 16.239, 0.003),
    ],
)
def test_parameter_counts_equal_the_published_ones(size, millions, tolerance):
    with torch.device("meta"):
        assert models.create("maxformer", size=size).parameter_count / 1e6 == pytest.approx(millions, abs=tolerance)


@pytest.mark.parametrize(("size", "grids"), [("cifar-4-384", (32, 16, 8)), ("imagenet-10-384", (56, 28, 14))])
def test_shapes_of_the_published_sizes(size, grids):
    seen = []
    with torch.device("meta"):
        network = models.create("maxformer", size=size)
        for stage in network.stages:
            stage.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[2:])))
        side = network.config.image_size
        network(torch.empty(1, 1, 3, side, side))
    assert seen == [(width, side, side) for width, side in zip((96, 192, 384), grids, strict=True)]


def depthwise(p, name, y):
    weight = p[f"{name}.conv.weight"]
    around = weight.shape[-1] // 2
    mixed = torch.cat([F.conv2d(y[None, c : c + 1], weight[c : c + 1], padding=around)[0] for c in range(len(y))])
    return p.norm(f"{name}.norm", mixed, 0)


def restated(network, x):
    """The network from its equations, one step and one sample at a time; no code shared."""
    p, c = Plain(network), network.config
    imagenet = c.form == "imagenet"
    T, B = x.shape[:2]
    results = torch.zeros(T, B, c.classes, dtype=torch.float64)
    for b in range(B):
        p.rest()
        for t in range(T):
            y = x[t, b].double()
            for stage in range(3):
                e = f"stages.{stage}.embedding"
                if stage:
                    spikes = p.lif(f"{e}.stem", y)
                    main = p.lif(f"{e}.main", p.pool(p.conv(f"{e}.main.0.layer.0", spikes)))
                    y = p.conv(f"{e}.main.1", main) + p.pool(p.conv(f"{e}.shortcut.0", spikes))
                elif imagenet:
                    spikes = p.lif(f"{e}.stem", p.conv(f"{e}.stem.layer", y, stride=2))
                    main = p.lif(f"{e}.main", p.conv(f"{e}.main.0.layer", spikes, stride=2))
                    y = p.conv(f"{e}.main.1", main) + p.conv(f"{e}.shortcut", spikes, stride=2)
                else:
                    spikes = p.lif(f"{e}.stem", p.conv(f"{e}.stem.layer", y))
                    y = p.conv(f"{e}.main", spikes) + p.conv(f"{e}.shortcut", spikes)
                side = y.shape[1]
                for block in range(c.depths[stage]):
                    at = f"stages.{stage}.blocks.{block}"
                    a = f"{at}.attention"
                    if stage == 1 or (stage == 0 and imagenet):
                        y = y + depthwise(p, f"{a}.conv", p.lif(f"{a}.neuron", y))
                    u = y.flatten(1).T
                    if stage == 2:
                        spikes = p.lif(f"{a}.before", u)
                        q, k, v = (
                            p.lif(f"{a}.{o}", p.linear(f"{a}.{o}.layer", spikes)) for o in ("query", "key", "value")
                        )
                        width = q.shape[1] // c.heads
                        parts = [slice(head * width, (head + 1) * width) for head in range(c.heads)]
                        mixed = torch.cat([(q[:, part] @ k[:, part].T) @ v[:, part] * 0.125 for part in parts], dim=1)
                        u = u + p.linear(f"{a}.project", p.lif(f"{a}.neuron", mixed, threshold=0.5))
                    hidden = p.linear(f"{at}.mlp.1.layer", p.lif(f"{at}.mlp.0", u))
                    u = u + p.linear(f"{at}.mlp.2", p.lif(f"{at}.mlp.1", hidden))
                    y = u.T.reshape(-1, side, side)
            out = p.lif("head", y.flatten(1).mean(1))
            results[t, b] = out @ p["head.linear.weight"].T + p["head.linear.bias"]
    return results


@pytest.mark.parametrize(("form", "side"), [("cifar", 8), ("imagenet", 16)])
def test_forward_agrees_with_a_restatement_of_the_equations(form, side):
    network = alive("maxformer", **{**TINY, "form": form, "image_size": side}).double()
    x = images(B=2, side=side).double()
    with torch.no_grad():
        ours = network(x)
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, restated(network, x), rtol=1e-7, atol=1e-9)


def test_kernels_and_pools_are_what_the_config_says():
    network = models.create("maxformer", **{**TINY, "kernels": (5, 0), "pools": (False, True)})
    assert network.stages[0].blocks[0].attention.conv.conv.kernel_size == (5, 5)
    assert not hasattr(network.stages[1].blocks[0], "attention")
    assert [stage.grid for stage in network.stages] == [(8, 8), (8, 8), (4, 4)]


def test_every_layer_but_the_first_hears_bits():
    layers = energy.measure(alive("maxformer", **TINY), images()).layers.set_index("layer")
    weighted = layers[layers["kind"].isin(["conv", "linear"])]
    assert list(weighted["operand"]) == ["real"] + ["binary"] * (len(weighted) - 1)
    first, second = layers[layers["kind"] == "matmul"][["operand", "second_operand"]].to_numpy()
    assert list(first) == ["binary", "binary"]  # K^T V
    assert second[0] == "binary"  # Q times the counts
    assert second[1] in ("binary", "integer")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 5}, "multiple of heads"),
        ({"dim": 20}, "multiple of 8"),
        ({"kernels": (4, 3)}, "kernels must be odd"),
        ({"image_size": 2}, "lower pools"),
        ({"depths": (0, 0, 0)}, "depths must be"),
        ({"kernel": 3}, "did you mean 'kernels'"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(options, words):
    with pytest.raises(OptionError, match=words):
        models.create("maxformer", **{**TINY, **options})
