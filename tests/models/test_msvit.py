"""MSViT: published sizes, shapes, a restatement of its equations, operands."""

import pytest
import torch
from restate import Plain, alive

import energy
from step import models

TINY = {
    "image_size": 8, "channels": 1, "classes": 10, "dim": 32, "depths": (1, 1, 1), "heads": 4, "mlp_ratio": 2.0,
}  # fmt: skip


def images(B=4, T=4):
    return torch.rand(T, B, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("size", "millions"),
    # printed 17.69, 30.23 and 69.80; the published code of the second has 31.23
    [("imagenet-10-384", 17.69), ("imagenet-10-512", 31.23), ("imagenet-10-768", 69.80)],
)
def test_parameter_counts_equal_the_published_ones(size, millions):
    with torch.device("meta"):
        assert models.create("msvit", size=size).parameter_count / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize(("size", "grids"), [("cifar-4-384", (32, 16, 8)), ("imagenet-10-384", (56, 28, 14))])
def test_shapes_of_the_published_sizes(size, grids):
    seen = []
    with torch.device("meta"):
        network = models.create("msvit", size=size)
        for stage in network.stages:
            stage.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[2:])))
        side = network.config.image_size
        network(torch.empty(1, 1, 3, side, side))
    assert seen == [(width, side, side) for width, side in zip((192, 192, 384), grids, strict=True)]


def over_three_tokens(p, name, tokens):
    """Convolution over each token and its two neighbours in row order, then norm."""
    weight = p[f"{name}.conv.weight"][:, :, 0]
    y = torch.zeros(len(tokens), len(weight), dtype=torch.float64)
    for n in range(len(tokens)):
        for offset in (-1, 0, 1):
            if 0 <= n + offset < len(tokens):
                y[n] += weight[:, :, offset + 1] @ tokens[n + offset]
    return p.norm(f"{name}.norm", y, 1)


def restated(network, x):
    """The network from its equations, one step and one sample at a time; no code shared."""
    p, c = Plain(network), network.config
    T, B = x.shape[:2]
    results = torch.zeros(T, B, c.classes, dtype=torch.float64)
    for b in range(B):
        p.rest()
        for t in range(T):
            y = x[t, b].double()
            for stage in range(3):
                e = f"stages.{stage}.embedding"
                if stage:
                    first = p.lif(f"{e}.0", p.conv(f"{e}.main.0.layer", y))
                    main = p.lif(f"{e}.1", p.pool(p.conv(f"{e}.main.1.layer.0", first)))
                    y = main + p.lif(f"{e}.2", p.conv(f"{e}.shortcut.layer", y, stride=2))
                else:
                    y = p.lif(f"{e}.0", p.conv(f"{e}.stem.layer", y))
                    main, shortcut = p.conv(f"{e}.main.layer", y), p.conv(f"{e}.shortcut.layer", y)
                    y = p.lif(f"{e}.1", main) + p.lif(f"{e}.2", shortcut)
                side = y.shape[1]
                u = y.flatten(1).T
                a, m = f"stages.{stage}.blocks.0.attention", f"stages.{stage}.blocks.0.mlp"
                q, k = (p.lif(f"{a}.{o}", p.linear(f"{a}.{o}.layer", u)) for o in ("query", "key"))
                width = q.shape[1] // c.heads
                parts = [slice(head * width, (head + 1) * width) for head in range(c.heads)]
                if stage < 2:
                    near = p.lif(f"{a}.local", over_three_tokens(p, f"{a}.local.layer", u))
                    counts = torch.stack([q[:, part].sum(1) + near[:, part].sum(1) for part in parts], dim=1)
                    mask = p.lif(f"{a}.neuron", counts, threshold=0.5)
                    o = torch.cat([mask[:, head, None] * k[:, part] for head, part in enumerate(parts)], dim=1)
                else:
                    v = p.lif(f"{a}.value", p.linear(f"{a}.value.layer", u))
                    mixed = torch.cat([(q[:, part] @ k[:, part].T) @ v[:, part] * 0.125 for part in parts], dim=1)
                    o = p.lif(f"{a}.neuron", mixed, threshold=0.5)
                u = u + p.lif(f"{a}.project", p.linear(f"{a}.project.layer", o))
                hidden = p.lif(f"{m}.0", p.linear(f"{m}.0.layer", u))
                u = u + p.lif(f"{m}.1", p.linear(f"{m}.1.layer", hidden))
                y = u.T.reshape(-1, side, side)
            results[t, b] = y.flatten(1).mean(1) @ p["head.linear.weight"].T + p["head.linear.bias"]
    return results


def test_forward_agrees_with_a_restatement_of_the_equations():
    network = alive("msvit", **TINY).double()
    x = images(B=2).double()
    with torch.no_grad():
        ours = network(x)
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, restated(network, x), rtol=1e-7, atol=1e-9)


def test_the_mask_is_of_bits_and_chooses_keys():
    layers = energy.measure(alive("msvit", **TINY), images()).layers.set_index("layer")
    row = layers.loc["stages.0.blocks.0.attention.mul-1"]
    assert (row["operand"], row["second_operand"]) == ("binary", "binary")
    assert layers.loc["stages.0.blocks.0.attention.project.layer.linear", "operand"] == "binary"
    assert layers.loc["stages.0.blocks.0.attention.local.layer.conv", "operand"] == "integer"  # sums of two spikes


def test_attention_map_is_the_mask():
    network = alive("msvit", **TINY)
    attention = network.stages[0].blocks[0].attention
    x = torch.randint(0, 3, (3, 2, 64, 16), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        shown = attention.attention_map(x)
        heard = []
        attention.project.register_forward_pre_hook(lambda m, i: heard.append(i[0]))
        attention(x)
        key = attention.key(x)
    assert shown.shape == (3, 2, 4, 1, 64)
    assert 0 < shown.mean() < 1
    for channel in (0, 5, 15):
        assert torch.equal(heard[0][..., channel], shown[:, :, channel // 4, 0] * key[..., channel])


@pytest.mark.parametrize("model", ["spikformer", "sdt"])
def test_any_isotropic_model_takes_the_attention(model):
    options = {"image_size": 8, "channels": 1, "dim": 32, "depth": 1, "heads": 4}
    network = alive(model, **options, attention="mssa")
    with torch.no_grad():
        assert network(images()).std() > 1e-3
