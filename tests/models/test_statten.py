"""STAtten on the Spike-driven Transformer: sizes, shapes, and an independent restatement of the whole network."""

import pytest
import torch
from restate import Plain, alive

import energy
from step import models

TINY = {"image_size": 8, "channels": 1, "classes": 10, "dim": 32, "depth": 2, "heads": 4, "mlp_ratio": 2.0}


def test_parameter_counts_equal_the_published_ones():
    """The attention has the layers of the one that it replaces: 66.34 M at 8-768, which the paper prints as 66 M."""
    with torch.device("meta"):
        assert models.create("statten", size="imagenet-8-768").parameter_count / 1e6 == pytest.approx(66.34, abs=0.005)
        for size in ("cifar-2-512", "imagenet-8-512"):
            counts = [models.create(name, size=size).parameter_count for name in ("statten", "sdt")]
            assert counts[0] == counts[1]


def test_shapes_of_the_published_size():
    network, seen = models.create("statten", depth=1, image_size=32), {}
    for index, stage in enumerate(network.embedding.stages):
        stage.register_forward_hook(lambda m, i, out, key=f"stage{index}": seen.update({key: tuple(out.shape[2:])}))
    attention = network.blocks[0].attention
    attention.query.register_forward_hook(lambda m, i, out: seen.update(q=tuple(attention.split(out).shape[2:])))
    network(torch.rand(2, 1, 3, 32, 32))
    assert seen == {
        "stage0": (64, 32, 32), "stage1": (128, 32, 32), "stage2": (256, 16, 16), "stage3": (512, 8, 8),
        "q": (8, 64, 64),
    }  # fmt: skip
    assert attention.scale == 1 / 8


@pytest.mark.parametrize("size", ["digits", "fashion", "cifar-2-256"])
def test_every_size_runs(size):
    network = models.create("statten", size=size)
    c = network.config
    assert network(torch.rand(3, 1, c.channels, c.image_size, c.image_size)).shape == (3, 1, 10)


def restated(network, x, heads, block):
    """One sample at a time, the steps of a block together in the attention; no code shared."""
    p = Plain(network)
    T, B = x.shape[:2]
    results = torch.zeros(T, B, network.config.classes, dtype=torch.float64)
    for b in range(B):
        p.rest()
        stream = []
        for t in range(T):
            y = x[t, b].double()
            for stage in range(3):
                y = p.lif(f"stage{stage}", p.conv(f"embedding.stages.{stage}.0.layer", y))
            y = p.pool(p.conv("embedding.stages.3.0", y))
            y = y + p.conv("embedding.position.1", p.lif("position", y))
            stream.append(y.flatten(1).T)
        for index in range(network.config.depth):
            at = f"blocks.{index}.attention"
            spikes = [p.lif(f"{at}.before", u) for u in stream]
            q, k, v = (
                [p.lif(f"{at}.{o}", linear(p, f"{at}.{o}.layer", s)) for s in spikes] for o in ("query", "key", "value")
            )
            width = network.config.dim // heads
            for t in range(T):
                merged = torch.zeros_like(q[t])
                first = t - t % block
                for head in range(heads):
                    part = slice(head * width, (head + 1) * width)
                    for other in range(first, min(first + block, T)):
                        merged[:, part] += q[t][:, part] @ k[other][:, part].T @ v[other][:, part] / 4
                o = p.lif(f"{at}.neuron", merged, threshold=0.5)
                stream[t] = stream[t] + p.linear(f"{at}.project", o)
                hidden = p.linear(f"blocks.{index}.mlp.1.layer", p.lif(f"{index}.in", stream[t]))
                stream[t] = stream[t] + p.linear(f"blocks.{index}.mlp.2", p.lif(f"{index}.hidden", hidden))
        for t in range(T):
            out = p.lif("head", stream[t].mean(0))
            results[t, b] = out @ p["head.linear.weight"].T + p["head.linear.bias"]
    return results


def linear(p, name, y):
    return p.norm(f"{name}.norm", y @ p[f"{name}.linear.weight"].T, 1)


def test_forward_agrees_with_a_restatement_of_the_equations():
    network = alive("statten", **TINY).double()
    x = torch.rand(5, 2, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        ours = network(x)
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, restated(network, x, heads=4, block=2), rtol=1e-7, atol=1e-9)


def test_every_layer_behind_a_neuron_meets_bits():
    """Membrane residual: all weighted layers but the first read spikes; Q (K^T V) is a bit by an integer."""
    record = energy.measure(alive("statten", **TINY), torch.rand(4, 4, 1, 8, 8))
    weighted = record.layers[record.layers["kind"].isin(["conv", "linear"])]
    assert list(weighted["operand"]) == ["real"] + ["binary"] * (len(weighted) - 1)
    products = record.layers[record.layers["kind"] == "matmul"]
    assert set(products["operand"]) == {"binary"}
    assert set(products["second_operand"]) <= {"binary", "integer"}
