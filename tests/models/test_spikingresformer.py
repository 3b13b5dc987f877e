"""SpikingResformer: published sizes, shapes, a restatement of its equations, firing rates, operands."""

import math

import pytest
import torch
import torch.nn.functional as F
from restate import Plain, alive

import energy
from neurons.errors import OptionError
from step import models

TINY = {
    "image_size": 8, "channels": 1, "classes": 10, "widths": (8, 16), "heads": (1, 2), "patches": (2, 1),
    "depths": (1, 2), "mlp_ratio": 2.0, "group": 8,
}  # fmt: skip


def attentions_of(network):
    return [block.attention for stage in network.stages for block in stage.blocks]


def busy(neuron="lif", **options):
    """A network with firing rates that differ from head to head."""
    network = alive("spikingresformer", neuron, **{**TINY, **options})
    generator = torch.Generator().manual_seed(9)
    for attention in attentions_of(network):
        attention.input_rate.uniform_(0.05, 0.5, generator=generator)
        attention.attention_rate.uniform_(0.05, 0.5, generator=generator)
    return network


@pytest.mark.parametrize(
    ("size", "millions", "tolerance"),
    [
        ("cifar-ti", 10.793, 0.0005),
        ("imagenet-l", 60.38, 0.005),
    ],  # built from the platform's code; printed in the paper
)
def test_parameter_counts_equal_the_published_ones(size, millions, tolerance):
    with torch.device("meta"):
        network = models.create("spikingresformer", size=size)
    assert network.parameter_count / 1e6 == pytest.approx(millions, abs=tolerance)


def test_shapes_of_the_published_size():
    network, seen, maps = models.create("spikingresformer", depths=(1, 1, 1)), [], []
    network.stages[0].embedding.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[2:])))
    for stage in network.stages:
        stage.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[2:])))
    for attention in attentions_of(network):
        attention.register_forward_pre_hook(lambda m, i: maps.append(tuple(m.attention_map(i[0]).shape[2:])))
    with torch.no_grad():
        network.eval()(torch.rand(1, 1, 3, 32, 32))
    assert seen == [(64, 32, 32), (64, 32, 32), (192, 16, 16), (384, 8, 8)]
    assert maps == [(1, 64, 1024), (3, 64, 256), (6, 64, 64)]


def restated(network, x, form):
    """The network from its equations, one step, sample, head, patch and token at a time; no code shared."""
    p, c = Plain(network), network.config
    T, B = x.shape[:2]
    results = torch.zeros(T, B, c.classes, dtype=torch.float64)
    fired = []
    for b in range(B):
        p.rest()
        for t in range(T):
            y = x[t, b].double()
            if form == "imagenet":
                y = p.pool(p.conv("stages.0.embedding.0", y, stride=2))
            else:
                y = p.conv("stages.0.embedding", y)
            for stage, (heads, patch, depth) in enumerate(zip(c.heads, c.patches, c.depths, strict=True)):
                if stage:
                    at = f"stages.{stage}.embedding"
                    y = p.conv(f"{at}.1", p.lif(at, y), stride=2)
                for block in range(depth):
                    at = f"stages.{stage}.blocks.{block}.attention"
                    spikes = p.lif(f"{at}.s", y)
                    dual = F.conv2d(spikes[None], p[f"{at}.dual.conv.weight"], stride=patch)[0]
                    dual = p.norm(f"{at}.dual.norm", dual, 0).flatten(1)
                    s = spikes.flatten(1)
                    width, patches, tokens = len(s) // heads, dual.shape[1], s.shape[1]
                    assert patches == (y.shape[1] // patch) ** 2
                    scores, o = torch.zeros(heads, patches, tokens).double(), torch.zeros_like(s)
                    for h in range(heads):
                        y1 = dual[2 * h * width : (2 * h + 1) * width]
                        mine = s[h * width : (h + 1) * width]
                        f = p[f"{at}.input_rate"][h]
                        for m in range(patches):
                            for n in range(tokens):
                                scores[h, m, n] = (y1[:, m] * mine[:, n]).sum() / torch.sqrt(f * width)
                    a = p.lif(f"{at}.a", scores)
                    for h in range(heads):
                        y2 = dual[(2 * h + 1) * width : (2 * h + 2) * width]
                        f = p[f"{at}.attention_rate"][h]
                        o[h * width : (h + 1) * width] = y2 @ a[h] / torch.sqrt(f * patches)
                    o = p.lif(f"{at}.o", o)
                    fired += [float(a.mean()), float(o.mean())]
                    y = y + p.linear(f"{at}.project", o.T).T.unflatten(1, y.shape[1:])
                    at = f"stages.{stage}.blocks.{block}.mlp"
                    hidden = p.linear(f"{at}.up.1", p.lif(f"{at}.up", y).flatten(1).T).T.unflatten(1, y.shape[1:])
                    groups = len(hidden) // c.group
                    hidden = hidden + p.conv(f"{at}.local.1", p.lif(f"{at}.local", hidden), groups=groups)
                    last = p.linear(f"{at}.down.1", p.lif(f"{at}.down", hidden).flatten(1).T)
                    y = y + last.T.unflatten(1, y.shape[1:])
            results[t, b] = y.flatten(1).mean(1) @ p["head.linear.weight"].T + p["head.linear.bias"]
    assert 0.01 < sum(fired) / len(fired) < 0.9  # the attentions are alive
    return results


@pytest.mark.parametrize(("form", "size"), [("cifar", 8), ("cifar", 7), ("imagenet", 16)])
def test_forward_agrees_with_a_restatement_of_the_equations(form, size):
    network = busy(form=form, image_size=size).double()
    x = torch.rand(4, 2, 1, size, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        ours = network(x)
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, restated(network, x, form), rtol=1e-5, atol=1e-8)


def observed(attention, run):
    """Firing rates of the two operands, by head, in one pass."""
    seen = {}
    hooks = [
        attention.before.register_forward_hook(
            lambda m, i, out: seen.update(input=out.unflatten(-1, (attention.heads, -1)).mean((0, 1, 2, 4)))
        ),
        attention.attend.register_forward_hook(lambda m, i, out: seen.update(attention=out.mean((0, 1, 3, 4)))),
    ]
    run()
    for hook in hooks:
        hook.remove()
    return seen["input"].detach(), seen["attention"].detach()


def test_rates_start_at_the_first_training_batch_and_then_move_slowly():
    network = alive("spikingresformer", **TINY).train()
    attention = attentions_of(network)[1]
    rates = attention.input_rate, attention.attention_rate
    x = torch.rand(4, 3, 1, 8, 8)
    assert all(torch.equal(rate, torch.zeros(2)) for rate in rates)
    first = observed(attention, lambda: network(x))
    for rate, now in zip(rates, first, strict=True):
        assert (now > 0).all()
        torch.testing.assert_close(rate, now)
    second = observed(attention, lambda: network(x.square()))
    assert not torch.allclose(second[0], first[0])
    for rate, before, now in zip(rates, first, second, strict=True):
        torch.testing.assert_close(rate, 0.999 * before + 0.001 * now)
    kept = [rate.clone() for rate in rates]
    attention.attention_map(torch.rand(2, 1, 16, 16))  # to look is not to learn
    network.eval()(x)
    assert all(torch.equal(rate, was) for rate, was in zip(rates, kept, strict=True))
    assert "stages.1.blocks.0.attention.attention_rate" in network.state_dict()


def test_a_silent_head_waits_for_its_first_spikes():
    attention = attentions_of(alive("spikingresformer", **TINY))[1].train()
    x = torch.rand(2, 3, 16, 16) * 6
    x[..., :8] = 0
    out = attention(x)
    assert out.isfinite().all()
    assert attention.input_rate[0] == 0 < attention.input_rate[1]
    late = observed(attention, lambda: attention(torch.rand(2, 3, 16, 16) * 6))[0]
    torch.testing.assert_close(attention.input_rate[0], late[0])


def test_a_rate_not_yet_set_counts_as_one():
    network, x = alive("spikingresformer", **TINY), torch.rand(3, 2, 1, 8, 8)
    with torch.no_grad():
        unset = network(x)
        for attention in attentions_of(network):
            attention.input_rate.fill_(1)
            attention.attention_rate.fill_(1)
        assert torch.equal(network(x), unset)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_scores_and_outputs_have_unit_scale_at_every_image_size(size):
    # Both products divide by the root of how many spikes they add up: the number of patches and channels at hand.
    network = models.create("spikingresformer", seed=0, **{**TINY, "image_size": size, "patches": (4, 2)}).train()
    spread = []
    for attention in attentions_of(network):
        for place in (attention.attend, attention.neuron):
            place.register_forward_pre_hook(lambda m, i: spread.append(float(i[0].detach().std())))
    network(torch.rand(2, 4, 1, size, size))
    assert len(spread) == 6
    assert all(0.3 < each < 3 for each in spread), spread


def test_operands():
    record = energy.measure(busy(), torch.rand(4, 2, 1, 8, 8))
    layers, operations = record.layers.set_index("layer"), record.operations.set_index("layer")
    assert record.provenance["uncounted"] == {}
    for stage, width, patches, tokens in ((0, 8, 16, 64), (1, 16, 16, 16)):
        at = f"stages.{stage}.blocks.0.attention"
        first, second = layers.loc[f"{at}.matmul-1"], layers.loc[f"{at}.matmul-2"]
        assert (first["operand"], first["second_operand"]) == ("real", "binary")
        assert (second["operand"], second["second_operand"]) == ("binary", "real")
        for number in (1, 2):
            assert operations.loc[f"{at}.matmul-{number}", "dense"] == 4 * patches * tokens * width
            scale = operations.loc[f"{at}.mul-{number}"]
            assert (scale["op"], scale["dense"]) == ("mul", 4 * width * patches)
        assert not [name for name in layers.index if name.startswith(at) and ("rsqrt" in name or "add" in name)]
    weighted = layers[layers["kind"].isin(["conv", "linear"])]["operand"]
    real = [name for name, kind in weighted.items() if kind != "binary"]
    assert real == ["stages.0.embedding.conv", "head.linear"]  # pixels, and the mean of a real-valued stream


@pytest.mark.parametrize("neuron", ["relu", {"name": "quantised_relu", "bits": 4}, "gelu"])
def test_rates_of_activations_without_spikes_are_their_mean_magnitude(neuron):
    network = models.create("spikingresformer", seed=0, neuron=neuron, **TINY).train()
    attention = attentions_of(network)[1]
    seen = []
    attention.before.register_forward_hook(lambda m, i, out: seen.append(out.detach()))
    assert network(torch.rand(1, 4, 1, 8, 8)).isfinite().all()
    heads = seen[0].unflatten(-1, (2, -1)).abs().mean((0, 1, 2, 4))
    torch.testing.assert_close(attention.input_rate, heads)
    assert math.isfinite(float(attention.attention_rate.sum()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": (1, 3)}, "multiple of its heads"),
        ({"group": 12}, "multiple of group, and 16"),
        ({"patches": (2,)}, "one entry for each stage"),
        ({"patches": (2, 5)}, "does not fit a map of side 4"),
        ({"depths": (0, 0)}, "depths"),
        ({"size": "imagenet-x"}, "imagenet-"),
        ({"planes": (8, 16)}, "no option 'planes'"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(options, words):
    with pytest.raises(OptionError, match=words):
        models.create("spikingresformer", **{**TINY, **options})
