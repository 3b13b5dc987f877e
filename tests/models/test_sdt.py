"""Spike-driven Transformer: published sizes, golden shapes, a restatement of its equations, operands."""

import pytest
import torch
from restate import Plain, alive

import energy
from step import models

TINY = {"image_size": 8, "channels": 1, "classes": 10, "dim": 32, "depth": 2, "heads": 4, "mlp_ratio": 2.0}


def images(B=4, T=4):
    return torch.rand(T, B, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("size", "millions", "tolerance"),
    [
        # built from the platform's published code, which also has 2 x 64 weights over heads that nothing calls
        ("cifar-2-512", 10.234 - 0.000128, 0.0005),
        ("imagenet-8-512", 29.69, 0.005),
        ("imagenet-8-768", 66.34, 0.005),  # printed in the paper
    ],
)
def test_parameter_counts_equal_the_published_ones(size, millions, tolerance):
    with torch.device("meta"):
        assert models.create("sdt", size=size).parameter_count / 1e6 == pytest.approx(millions, abs=tolerance)


def test_shapes_of_the_published_size():
    network, seen = models.create("sdt", depth=1), {}
    for index, stage in enumerate(network.embedding.stages):
        stage.register_forward_hook(lambda m, i, out, key=index: seen.update({key: tuple(out.shape[2:])}))
    attention = network.blocks[0].attention
    attention.query.register_forward_hook(lambda m, i, out: seen.update(q=tuple(attention.split(out).shape[2:])))
    attention.neuron.register_forward_hook(lambda m, i, out: seen.update(g=tuple(attention.split(out).shape[2:])))
    network(torch.rand(1, 1, 3, 32, 32))
    assert seen == {
        0: (64, 32, 32), 1: (128, 32, 32), 2: (256, 16, 16), 3: (512, 8, 8), "q": (8, 64, 64), "g": (8, 1, 64),
    }  # fmt: skip


def restated(network, x):
    """The network from its equations, one step, sample, token and channel at a time; no code shared."""
    p = Plain(network)
    T, B = x.shape[:2]
    results = torch.zeros(T, B, network.config.classes, dtype=torch.float64)
    for b in range(B):
        p.rest()
        for t in range(T):
            y = x[t, b].double()
            for stage in range(3):
                y = p.lif(f"stage{stage}", p.conv(f"embedding.stages.{stage}.0.layer", y))
            y = p.pool(p.conv("embedding.stages.3.0", y))  # an 8x8 image is halved once, after the last stage
            y = y + p.conv("embedding.position.1", p.lif("position", y))
            u = y.flatten(1).T
            for block in range(network.config.depth):
                at = f"blocks.{block}.attention"
                spikes = p.lif(f"{at}.before", u)
                q, k, v = (p.lif(f"{at}.{o}", p.linear(f"{at}.{o}.layer", spikes)) for o in ("query", "key", "value"))
                votes = torch.zeros(q.shape[1], dtype=torch.float64)
                for n in range(len(q)):
                    for c in range(q.shape[1]):
                        votes[c] += k[n, c] * v[n, c]
                g = p.lif(f"{at}.neuron", votes, threshold=0.5)
                masked = torch.stack([row * g for row in q])
                u = u + p.linear(f"{at}.project", masked)
                hidden = p.linear(f"blocks.{block}.mlp.1.layer", p.lif(f"{block}.in", u))
                u = u + p.linear(f"blocks.{block}.mlp.2", p.lif(f"{block}.hidden", hidden))
            out = p.lif("head", u.mean(0))
            results[t, b] = out @ p["head.linear.weight"].T + p["head.linear.bias"]
    return results


def test_forward_agrees_with_a_restatement_of_the_equations():
    network = alive("sdt", **TINY).double()
    x = torch.rand(4, 2, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        ours = network(x)
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, restated(network, x), rtol=1e-7, atol=1e-9)


def test_heads_change_nothing():
    x = images(2)
    with torch.no_grad():
        first, second = (alive("sdt", **{**TINY, "heads": heads})(x) for heads in (1, 8))
    assert torch.equal(first, second)


def test_every_product_is_of_bits():
    record = energy.measure(alive("sdt", **TINY), images())
    layers = record.layers.set_index("layer")
    weighted = layers[layers["kind"].isin(["conv", "linear"])]
    assert list(weighted["operand"]) == ["real"] + ["binary"] * (len(weighted) - 1)
    assert "matmul" not in set(layers["kind"])
    for product in ("mul-1", "mul-2"):  # K * V, Q * g
        row = layers.loc[f"blocks.0.attention.{product}"]
        assert (row["operand"], row["second_operand"]) == ("binary", "binary")


def test_attention_map_counts_votes_for_open_channels():
    network = alive("sdt", **TINY)
    attention = network.blocks[0].attention
    for part in (attention.query, attention.key, attention.value):
        part.layer.norm.bias.data += 0.8  # many votes
    u = torch.randn(3, 2, 16, 32, generator=torch.Generator().manual_seed(1)) * 2
    with torch.no_grad():
        shown = attention.attention_map(u)
        spikes = attention.before(u)
        k, v = attention.key(spikes), attention.value(spikes)
        gate = attention.neuron((k * v).sum(2, keepdim=True))
    assert shown.shape == (3, 2, 4, 1, 16)
    assert shown.std() > 0.1
    assert 0 < gate.mean() < 1
    for t, head, token in ((0, 0, 1), (2, 3, 5), (1, 2, 15)):
        channels = range(8 * head, 8 * head + 8)
        want = sum(float(k[t, 1, token, c] * v[t, 1, token, c] * gate[t, 1, 0, c]) for c in channels)
        assert float(shown[t, 1, head, 0, token]) == want
