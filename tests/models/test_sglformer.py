"""SGLFormer: published size, shapes, a restatement of its equations, windows, the read-out over time, operands."""

import pytest
import torch
from restate import Plain, alive

import energy
from neurons import factory
from neurons.errors import OptionError, ShapeError
from step import models
from step.models.transformer.attention import attentions
from step.models.transformer.attention.local import windows_of

TINY = {
    "image_size": 8, "channels": 1, "classes": 10, "dim": 24, "heads": 2, "mlp_ratio": 2.0,
    "attention": {"name": "ssa", "bias": False, "scale": 1.0},
    "local_attention": {"name": "local-ssa", "bias": False, "scale": 1.0},
}  # fmt: skip


def busy(**options):
    """A network whose queries, keys and values fire often."""
    network = alive("sglformer", **{**TINY, **options})
    for name, value in network.named_parameters():
        if "attention" in name and name.endswith("norm.bias"):
            value.data += 0.8
    return network


def test_parameter_count_equals_the_published_one():
    with torch.device("meta"):
        network = models.create("sglformer", size="cifar-1-384")
    # Built from the platform's code 8.853 M, printed 8.85 M. The shared perceptrons, and the last layers of the shared
    # attentions, have biases here, which the norms behind them make idle.
    idle = sum(
        p.numel()
        for name, p in network.named_parameters()
        if name.endswith("linear.bias") and name != "head.linear.bias"
    )
    assert idle == 3 * (384 + 1536 + 384)
    assert (network.parameter_count - idle) / 1e6 == pytest.approx(8.853, abs=0.0006)
    assert network.parameter_count / 1e6 == pytest.approx(8.85, abs=0.01)


def test_shapes_of_the_published_size():
    network, seen = models.create("sglformer"), []
    for stage in (network.embedding.stem, *network.embedding.stages, network.embedding):
        stage.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[2:])))
    block = network.blocks[0]
    local, everywhere = block[1].attention, block[2].attention
    q = everywhere.operands(torch.rand(1, 1, 64, 384))[0]
    assert q.shape[2:] == (16, 64, 24)
    assert local.to_windows(q).shape[2:] == (16, 4, 16, 24)
    network(torch.rand(4, 2, 3, 32, 32))
    assert seen == [(64, 32, 32), (96, 32, 32), (192, 32, 32), (384, 16, 16), (384, 8, 8), (384, 8, 8)]


def attended(p, at, tokens, heads, scale, near):
    """SSA in which token n hears the tokens ``near[n]``, one token at a time."""
    q, k, v = (p.lif(f"{at}.{o}", p.linear(f"{at}.{o}.layer", tokens)) for o in ("query", "key", "value"))
    width, o = q.shape[1] // heads, torch.zeros_like(q)
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        for n in range(len(tokens)):
            for m in near[n]:
                o[n, part] += scale * (q[n, part] * k[m, part]).sum() * v[m, part]
    o = p.lif(f"{at}.o", o, threshold=0.5)
    return p.lif(f"{at}.out", p.linear(f"{at}.project.layer", o)), float(o.mean())


def restated(network, x, interleaved):
    """The network from its equations, one step, sample, head and token at a time; no code shared."""
    p, c = Plain(network), network.config
    T, B = x.shape[:2]
    results, fired = torch.zeros(B, c.classes, dtype=torch.float64), []
    for b in range(B):
        p.rest()
        pooled = torch.zeros(c.dim, dtype=torch.float64)
        for t in range(T):
            y = p.lif("stem", p.conv("embedding.stem.layer", x[t, b].double()))
            for stage in range(4):
                at = f"embedding.stages.{stage}.layer"
                y = p.pool(p.conv(f"{at}.0", y)) if stage == 3 else p.conv(at, y)  # a small image is halved once
                y = p.lif(f"stage{stage}", y)
            side = y.shape[1]

            def window(n, side=side):
                half = (side + 1) // 2
                i, j = divmod(n, side)
                return (i % 2, j % 2) if interleaved else (i // half, j // half)

            for block in range(c.depth):
                at = f"blocks.{block}.0"
                y = y + p.lif(f"{at}.local", p.conv(f"{at}.local.layer", y, groups=c.dim))
                up = p.lif(f"{at}.up", p.linear(f"{at}.up.layer", y.flatten(1).T)).T.unflatten(1, (side, side))
                inner = p.lif(f"{at}.inner", p.conv(f"{at}.inner.layer", up, groups=len(up)))
                down = p.lif(f"{at}.down", p.linear(f"{at}.down.layer", inner.flatten(1).T))
                tokens = y.flatten(1).T + down
                every = range(len(tokens))
                for number in (1, 2, 3):
                    at = f"blocks.{block}.{number}"
                    near = [[m for m in every if number > 1 or window(m) == window(n)] for n in every]
                    o, rate = attended(p, f"{at}.attention", tokens, c.heads, 1.0, near)
                    fired.append(rate)
                    tokens = tokens + o
                    hidden = p.lif(f"{at}.hidden", p.linear(f"{at}.mlp.0.layer", tokens))
                    tokens = tokens + p.lif(f"{at}.mlp", p.linear(f"{at}.mlp.1.layer", hidden))
                y = tokens.T.unflatten(1, (side, side))
            for n in range(len(tokens)):
                pooled += p["head.pool.weight"][:, 0, n, t] * tokens[n]
        pooled = p.norm("head.pool_norm", pooled, 0)
        results[b] = p["head.linear.weight"] @ pooled + p["head.linear.bias"]
    assert 0.01 < sum(fired) / len(fired) < 0.9  # the attentions are alive
    return results


@pytest.mark.parametrize(("size", "interleaved"), [(8, False), (8, True), (5, False), (5, True)])
def test_forward_agrees_with_a_restatement_of_the_equations(size, interleaved):
    local = {**TINY["local_attention"], "interleaved": interleaved}
    network = busy(image_size=size, local_attention=local, T=3, depth=2).double()
    x = torch.rand(3, 2, 1, size, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        ours = network(x)
    assert ours.std() > 1e-3
    assert torch.equal(ours, ours[:1].expand_as(ours))  # every step holds the scores of all
    torch.testing.assert_close(ours[0], restated(network, x, interleaved), rtol=1e-5, atol=1e-8)


def test_windows_by_number():
    assert windows_of((4, 4), 2, False).tolist() == [0, 0, 1, 1] * 2 + [2, 2, 3, 3] * 2
    assert windows_of((4, 4), 2, True).tolist() == ([0, 1] * 2 + [2, 3] * 2) * 2
    assert windows_of((3, 3), 2, False).tolist() == [0, 0, 1, 0, 0, 1, 2, 2, 3]
    assert windows_of((1, 1), 2, False).tolist() == [0]


@pytest.mark.parametrize("grid", [(8, 8), (7, 7), (4, 6), (3, 2), (1, 1)])
@pytest.mark.parametrize("windows", [1, 2, 3])
@pytest.mark.parametrize("interleaved", [False, True])
def test_windows_hold_each_token_once_and_give_it_back_to_its_place(grid, windows, interleaved):
    attention = attentions.create(
        "local-ssa", 8, 2, factory("lif"), grid=grid, windows=windows, interleaved=interleaved
    )  # fmt: skip
    tokens = grid[0] * grid[1]
    x = torch.arange(1.0, tokens + 1).view(1, 1, 1, tokens, 1)
    inside = attention.to_windows(x)
    assert sorted(inside[inside > 0].tolist()) == x.flatten().tolist()
    assert torch.equal(attention.to_tokens(inside), x)


def test_the_map_is_zero_between_windows_and_ssas_within():
    network = busy()
    local, x = network.blocks[0][1].attention, (torch.rand(2, 3, 16, 24) < 0.5).float()
    plain = attentions.create("ssa", 24, 2, factory("lif"), grid=(4, 4), scale=1.0, bias=False).eval()
    plain.load_state_dict(local.state_dict())
    with torch.no_grad():
        maps, all_maps = local.attention_map(x), plain.attention_map(x)
        assert maps.shape == (2, 3, 2, 16, 16)
        near = windows_of((4, 4), 2, False)
        same = near.unsqueeze(1) == near
        assert torch.equal(maps[..., same], all_maps[..., same])
        assert not maps[..., ~same].any()
        assert all_maps[..., ~same].any()
        one = attentions.create("local-ssa", 24, 2, factory("lif"), grid=(4, 4), windows=1, scale=1.0, bias=False)
        one.load_state_dict(local.state_dict())
        torch.testing.assert_close(one.eval()(x), plain(x))
        assert not torch.equal(local(x), plain(x))


def test_another_number_of_steps_is_refused_and_so_are_parts():
    network = busy(T=4)
    for steps in (1, 2, 8):
        with pytest.raises(ShapeError, match=f"made for T = 4 time steps, not {steps}; set its option T"):
            network(torch.rand(steps, 2, 1, 8, 8))
    x = torch.rand(4, 2, 1, 8, 8)
    with torch.no_grad():
        out, state = network.run(x)
        assert torch.equal(out, network(x))
    assert not network.streams
    with pytest.raises(ShapeError, match="cannot go on from a state"):
        network.run(x, state)


@pytest.mark.parametrize("neuron", ["relu", {"name": "quantised_relu", "bits": 4}])
def test_a_network_without_time_reads_its_one_step_as_if_it_were_repeated(neuron):
    network = models.create("sglformer", seed=0, **{**TINY, "T": 3})
    x = torch.rand(1, 4, 1, 8, 8)
    twin = network.twin(neuron).eval()
    with torch.no_grad():
        once = twin(x)
        assert once.shape == (1, 4, 10)
        torch.testing.assert_close(once, twin(x.expand(3, -1, -1, -1, -1))[:1], rtol=1e-4, atol=1e-5)
        records = energy.twin_records(network.eval(), x.expand(3, -1, -1, -1, -1))
    assert len(records) > 1
    products = {name: record.products for name, record in records.items()}
    dense = {name: float(rows[rows["layer"] == "head.conv-1"]["dense"].sum()) for name, rows in products.items()}
    assert dense.pop("network") == 3 * 16 * 24
    assert set(dense.values()) == {16 * 24}


def test_operands():
    orders = {name: {**TINY[name], "order": "scores"} for name in ("attention", "local_attention")}
    record = energy.measure(busy(**orders), torch.rand(4, 2, 1, 8, 8))
    layers = record.layers.set_index("layer")
    assert record.provenance["uncounted"] == {}
    for number in (1, 2, 3):
        at = f"blocks.0.{number}.attention"
        first, second = layers.loc[f"{at}.matmul-1"], layers.loc[f"{at}.matmul-2"]
        assert (first["operand"], first["second_operand"]) == ("binary", "binary")
        assert "real" not in (second["operand"], second["second_operand"])
        assert layers.loc[f"{at}.project.layer.linear", "operand"] == "binary"
    local, everywhere = (record.products.set_index("layer").loc[f"blocks.0.{n}.attention.matmul-1"] for n in (1, 2))
    assert local["dense"] * 4 == everywhere["dense"]  # a quarter of the pairs of tokens is in the same window
    assert layers.loc["blocks.0.0.local.layer.conv", "operand"] == "binary"
    assert layers.loc["blocks.0.0.up.layer.linear", "operand"] == "integer"
    assert layers.loc["head.conv-1", ["operand", "T"]].tolist() == ["integer", 4]
    assert record.products.query("layer == 'head.conv-1'")["dense"].sum() == 4 * 16 * 24


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"local_attention": {"name": "local-ssa", "windows": 0}}, "windows .* at least 1"),
        ({"heads": 5}, "multiple of heads"),
        ({"T": 0}, "option 'T'"),
        ({"embedding": "sglx"}, "unknown embedding"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(options, words):
    with pytest.raises(OptionError, match=words):
        models.create("sglformer", **{**TINY, **options})
