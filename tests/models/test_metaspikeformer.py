"""Meta-SpikeFormer: published sizes, shapes, a restatement of its equations, operands."""

import pytest
import torch
import torch.nn.functional as F
from restate import Plain, alive

import energy
from neurons.errors import OptionError
from step import models

TINY = {
    "image_size": 8, "channels": 1, "classes": 10, "widths": (4, 8, 12, 16, 24), "depths": (1, 1, 1, 2, 1), "heads": 4,
    "mlp_ratio": 2.0,
}  # fmt: skip


def images(B=4, T=4, side=8, channels=1):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(T, B, channels, side, side, generator=generator)


@pytest.mark.parametrize(
    ("size", "millions"), [("imagenet-8-256", 15.1), ("imagenet-8-384", 31.3), ("imagenet-8-512", 55.4)]
)
def test_parameter_counts_equal_the_published_ones(size, millions):
    with torch.device("meta"):
        network = models.create("metaspikeformer", size=size)
    # The published code has one norm more behind each of the four RepConvs of an attention, and biases before the
    # norms of the convolutions between stages; neither changes what the network can compute.
    widths, depths = network.config.widths, network.config.depths
    idle = sum(4 * 2 * width * depth for width, depth in zip(widths[3:], depths[3:], strict=True)) + sum(widths)
    assert idle < 0.04e6
    assert round((network.parameter_count + idle) / 1e6, 1) == millions


def test_shapes_of_the_published_sizes():
    def trace(**options):
        seen = []
        with torch.device("meta"):
            network = models.create("metaspikeformer", depths=(1, 1, 1, 1, 1), **options)
            for stage in network.stages:
                stage.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[2:])))
            side = network.config.image_size
            assert network(torch.empty(1, 1, 3, side, side)).shape == (1, 1, network.config.classes)
        return seen

    assert trace(size="imagenet-8-512") == [
        (64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (640, 14, 14),
    ]  # fmt: skip
    assert trace() == [(32, 32, 32), (64, 16, 16), (128, 8, 8), (256, 8, 8), (360, 8, 8)]


def repconv(p, name, tokens, side):
    """1x1, norm, depth-wise 3x3 that sees norm(0) around the map, 1x1, norm."""
    y = p.linear(f"{name}.first", tokens).T.reshape(-1, side, side)
    zero = p.norm(f"{name}.first.norm", torch.zeros(1, len(y), dtype=torch.float64), 1)[0]
    weight = p[f"{name}.depthwise.weight"]
    mixed = torch.zeros_like(y)
    for c in range(len(y)):
        padded = torch.full((side + 2, side + 2), float(zero[c]), dtype=torch.float64)
        padded[1:-1, 1:-1] = y[c]
        for row in range(side):
            for column in range(side):
                mixed[c, row, column] = (padded[row : row + 3, column : column + 3] * weight[c, 0]).sum()
    return p.linear(f"{name}.last", mixed.flatten(1).T)


def separable(p, name, y):
    wide = p.lif(f"{name}.1", p.conv(f"{name}.1.layer", p.lif(f"{name}.0", y)))
    weight = p[f"{name}.2.conv.weight"]
    mixed = torch.cat([F.conv2d(wide[None, c : c + 1], weight[c : c + 1], padding=3)[0] for c in range(len(wide))])
    return p.conv(f"{name}.3", mixed)


def restated(network, x):
    """The network from its equations, one step and one sample at a time; no code shared."""
    p = Plain(network)
    T, B = x.shape[:2]
    heads, depths = network.config.heads, network.config.depths
    results = torch.zeros(T, B, network.config.classes, dtype=torch.float64)
    for b in range(B):
        p.rest()
        for t in range(T):
            y = x[t, b].double()
            for stage in range(5):  # an 8x8 image is halved once, before the third
                at = f"stages.{stage}"
                if stage:
                    spikes = p.lif(f"{at}.in", y)
                    y = p.conv(f"{at}.embedding.1", spikes, stride=2 if stage == 2 else 1)
                else:
                    y = p.conv(f"{at}.embedding", y)
                side = y.shape[1]
                for block in range(depths[stage]):
                    if stage < 3:
                        branch = f"{at}.blocks.{block}.branches"
                        y = y + separable(p, f"{branch}.0", y)
                        hidden = p.conv(f"{branch}.1.1.layer", p.lif(f"{branch}.1.0", y))
                        y = y + p.conv(f"{branch}.1.2", p.lif(f"{branch}.1.1", hidden))
                        continue
                    u = y.flatten(1).T
                    a, m = f"{at}.blocks.{block}.attention", f"{at}.blocks.{block}.mlp"
                    spikes = p.lif(f"{a}.before", u)
                    q, k, v = (
                        p.lif(f"{a}.{o}", repconv(p, f"{a}.{o}.layer", spikes, side)) for o in ("query", "key", "value")
                    )
                    width = q.shape[1] // heads
                    parts = [slice(head * width, (head + 1) * width) for head in range(heads)]
                    mixed = torch.cat([q[:, part] @ (k[:, part].T @ v[:, part]) * 0.125 for part in parts], dim=1)
                    u = u + repconv(p, f"{a}.project", p.lif(f"{a}.neuron", mixed, threshold=0.5), side)
                    hidden = p.lif(f"{m}.1", p.linear(f"{m}.1.layer", p.lif(f"{m}.0", u)))
                    u = u + p.linear(f"{m}.2", hidden)
                    y = u.T.reshape(-1, side, side)
            out = p.lif("head", y.flatten(1).mean(1))
            results[t, b] = out @ p["head.linear.weight"].T + p["head.linear.bias"]
    return results


def test_forward_agrees_with_a_restatement_of_the_equations():
    network = alive("metaspikeformer", **TINY).double()
    x = images(B=2, T=3).double()
    with torch.no_grad():
        ours = network(x)
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, restated(network, x), rtol=1e-7, atol=1e-9)


def test_first_convolution_is_7x7_where_it_halves():
    kernels = [
        models.create("metaspikeformer", **{**TINY, "halves": halves}).stages[0].embedding.conv.kernel_size
        for halves in ((True, False, False, False, False), (False, True, False, False, False))
    ]
    assert kernels == [(7, 7), (3, 3)]


def test_spikes_enter_every_layer_that_a_neuron_precedes():
    record = energy.measure(alive("metaspikeformer", **TINY), images())
    layers = record.layers.set_index("layer")
    weighted = layers[layers["kind"].isin(["conv", "linear"])]
    # The real ones are the image and what stands behind a linear layer without a neuron, which it can be merged with.
    real = [name for name in weighted.index if weighted.loc[name, "operand"] == "real"]
    merged = ("branches.0.3.conv", "depthwise", "last.linear")
    assert real[0] == "stages.0.embedding.conv"
    assert all(name.endswith(merged) for name in real[1:])
    assert set(weighted["operand"]) == {"real", "binary"}
    products = layers[layers["kind"] == "matmul"]
    assert len(products) == 2 * 3
    assert set(products["operand"]) | set(products["second_operand"]) <= {"binary", "integer"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 5}, "multiples of heads"),
        ({"widths": (8, 8, 8)}, "one entry for each stage"),
        ({"halves": (True,) * 5}, "lower halves"),
        ({"convolutional": 6}, "more than there are"),
        ({"depths": (0,) * 5}, "depths 0 or more"),
        ({"width": 3}, "did you mean 'widths'"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(options, words):
    with pytest.raises(OptionError, match=words):
        models.create("metaspikeformer", **{**TINY, **options})
