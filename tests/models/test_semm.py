"""Spikformer with SEMM: published sizes, golden shapes, a restatement of its equations, operands."""

import pytest
import torch
from restate import Plain, alive

import energy
from neurons.errors import OptionError
from step import models

TINY = {
    "image_size": 8, "channels": 1, "classes": 10, "dim": 32, "depth": 2, "heads": 4, "mlp_ratio": 2.0,
    "attention": {"name": "emsa", "scale": 2.0},
}  # fmt: skip


def images(B=4, T=4):
    return torch.rand(T, B, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def busy(**options):
    """A network whose experts and routers fire often."""
    network = alive("semm", **{**TINY, **options})
    for name, value in network.named_parameters():
        if name.startswith("blocks") and name.endswith("norm.bias"):
            value.data += 1.0
    return network


@pytest.mark.parametrize(
    ("size", "millions", "tolerance"), [("cifar-4-384", 7.739, 0.0005), ("imagenet-8-512", 27.55, 0.005)]
)
def test_parameter_counts_equal_those_of_the_platforms_code(size, millions, tolerance):
    with torch.device("meta"):
        assert models.create("semm", size=size).parameter_count / 1e6 == pytest.approx(millions, abs=tolerance)


@pytest.mark.parametrize(
    ("size", "hidden"), [("cifar-4-384", 1536), ("imagenet-8-384", 2048), ("imagenet-8-512", 2720)]
)
def test_hidden_width_of_each_size(size, hidden):
    with torch.device("meta"):
        assert models.create("semm", size=size).hidden == hidden


def test_shapes_of_the_published_size():
    network, seen = models.create("semm", depth=1), {}
    attention = network.blocks[0].attention
    for name in ("key", "value", "router", "neuron"):
        getattr(attention, name).register_forward_hook(
            lambda m, i, out, key=name: seen.update({key: tuple(out.shape[2:])})
        )
    network.embedding.register_forward_hook(lambda m, i, out: seen.update(maps=tuple(out.shape[2:])))
    network(torch.rand(1, 1, 3, 32, 32))
    assert attention.queries(torch.rand(1, 1, 64, 384)).unflatten(2, (64, 4)).shape[2:] == (64, 4, 96)
    assert seen == {
        "maps": (384, 8, 8), "key": (64, 96), "value": (64, 384), "router": (64, 4), "neuron": (64, 4, 384),
    }  # fmt: skip


def restated(network, x, experts, scale):
    """The network from its equations, one step, sample and expert at a time; no code shared."""
    p = Plain(network)
    T, B = x.shape[:2]
    results = torch.zeros(T, B, network.config.classes, dtype=torch.float64)
    for b in range(B):
        p.rest()
        for t in range(T):
            y = x[t, b].double()
            for stage in range(4):
                y = p.lif(f"stage{stage}", p.conv(f"embedding.stages.{stage}.0.layer", y))
            y = p.pool(y)  # an 8x8 image is halved once, after the last stage
            y = y + p.lif("position", p.conv("embedding.position.layer", y))
            side = y.shape[1]
            tokens = y.flatten(1).T
            for block in range(network.config.depth):
                at = f"blocks.{block}.attention"
                q, k, v, r = (
                    p.lif(f"{at}.{o}", p.linear(f"{at}.{o}.layer", tokens)) for o in ("query", "key", "value", "router")
                )
                width = k.shape[1]
                mixed = torch.zeros_like(v)
                for i in range(experts):
                    each = p.lif(f"{at}.expert{i}", q[:, i * width : (i + 1) * width] @ k.T @ v * scale)
                    for n in range(len(tokens)):
                        mixed[n] += r[n, i] * each[n]
                tokens = tokens + p.lif(f"{at}.project", p.linear(f"{at}.project.layer", mixed))
                at = f"blocks.{block}.mlp"
                hidden = p.lif(f"{at}.expand", p.linear(f"{at}.expand.layer", tokens))
                half = hidden.shape[1] // 2
                maps = hidden[:, :half].T.reshape(half, side, side)
                routes = p.lif(f"{at}.route", p.conv(f"{at}.route.layer", maps, groups=half)).flatten(1).T
                masked = routes * hidden[:, half:]
                tokens = tokens + p.lif(f"{at}.reduce", p.linear(f"{at}.reduce.layer", masked))
            results[t, b] = tokens.mean(0) @ p["head.linear.weight"].T + p["head.linear.bias"]
    return results


@pytest.mark.parametrize("order", ["scores", "context", "auto"])
def test_forward_agrees_with_a_restatement_of_the_equations(order):
    network = busy(attention={"name": "emsa", "scale": 2.0, "order": order}).double()
    x = torch.rand(4, 2, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rates = []
    network.blocks[0].attention.project.register_forward_pre_hook(lambda m, i: rates.append(i[0].mean()))
    with torch.no_grad():
        ours = network(x)
    assert ours.std() > 1e-3
    assert rates[0] > 0.01  # the experts are heard
    torch.testing.assert_close(ours, restated(network, x, experts=4, scale=2.0), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("size", ["digits", "fashion"])
def test_experts_of_the_tiny_sizes_fire_from_the_start(size):
    network = models.create("semm", size=size, seed=0).train()
    c, rates = network.config, []
    x = torch.rand(1, 16, 1, c.image_size, c.image_size, generator=torch.Generator().manual_seed(1))
    for block in network.blocks:
        block.attention.neuron.register_forward_hook(lambda m, i, out: rates.append(out.detach().mean()))
    network(x.expand(4, -1, -1, -1, -1))
    assert len(rates) == c.depth
    assert all(0.005 < rate < 0.5 for rate in rates)


def test_operands():
    network = busy()
    layers = energy.measure(network, images()).layers.set_index("layer")
    first = layers.loc["blocks.0.attention.matmul-1"]
    second = layers.loc["blocks.0.attention.matmul-2"]
    assert (first["operand"], first["second_operand"]) == ("binary", "binary")
    assert "real" not in (second["operand"], second["second_operand"])
    for gate in ("attention.mul-2", "mlp.mul-1"):  # R * expert, a * b
        row = layers.loc[f"blocks.0.{gate}"]
        assert (row["operand"], row["second_operand"]) == ("binary", "binary")
    assert layers.loc["blocks.0.mlp.reduce.layer.linear", "operand"] == "binary"
    assert layers.loc["blocks.0.attention.project.layer.linear", "operand"] == "integer"  # up to the experts
    assert layers.loc["blocks.0.attention.query.layer.linear", "operand"] == "integer"  # the stream of sums


def test_attention_map_is_that_of_the_experts_asked():
    network = busy()
    attention = network.blocks[0].attention
    x = torch.randint(0, 3, (3, 2, 16, 32), generator=torch.Generator().manual_seed(1)).float()
    with torch.no_grad():
        shown, q, k, r = attention.attention_map(x), attention.query(x), attention.key(x), attention.router(x)
    assert shown.shape == (3, 2, 4, 16, 16)
    assert 0 < r.mean() < 1
    t, b, i = 1, 1, 2
    for n in range(16):
        want = r[t, b, n, i] * (k[t, b] @ q[t, b, n, i * 8 : (i + 1) * 8]) * 2.0
        torch.testing.assert_close(shown[t, b, i, n], want)


def test_a_perceptron_that_cannot_be_halved_is_refused():
    with pytest.raises(OptionError, match="even number, not 27"):
        models.create("semm", **{**TINY, "dim": 32, "mlp_ratio": 27 / 32})
