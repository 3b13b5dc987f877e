"""QKFormer: published sizes, shapes, a restatement of its equations, SpikingJelly's network, operands."""

import pytest
import torch
from restate import Plain, alive

import energy
from benchmarks.speed import spikingjelly_transformers
from neurons.errors import OptionError
from step import models
from step.models.layers import ConvNorm
from step.models.transformer.attention import attentions

TINY = {
    "image_size": 8, "channels": 1, "classes": 10, "dim": 32, "depths": (1, 1, 2), "heads": 2, "mlp_ratio": 2.0,
}  # fmt: skip
HALF = {  # a larger scale than the published one, or heads of 16 channels would hardly ever fire
    "attention": {"name": "ssa", "order": "context", "bias": False, "scale": 1.0}
}


def busy(neuron="lif", **options):
    """A network whose queries and keys fire often."""
    network = alive("qkformer", neuron, **{**TINY, **HALF, **options})
    for name, value in network.named_parameters():
        if "attention" in name and name.endswith("norm.bias"):
            value.data += 0.8
    return network


@pytest.mark.parametrize(
    ("options", "millions", "tolerance"),
    [
        # built from the platform's published code
        ({"size": "cifar-4-384"}, 6.706, 0.0005),
        ({"size": "imagenet-10-512", "depths": (1, 1, 7)}, 28.35, 0.005),  # that code lacks a block of the second stage
        # printed in the paper; its CIFAR figure is the network with 100 classes
        ({"size": "cifar-4-384", "classes": 100}, 6.74, 0.005),
        ({"size": "imagenet-10-384"}, 16.47, 0.005),
        ({"size": "imagenet-10-512"}, 29.08, 0.005),
        ({"size": "imagenet-10-768"}, 64.96, 0.005),
    ],
)
def test_parameter_counts_equal_the_published_ones(options, millions, tolerance):
    with torch.device("meta"):
        network = models.create("qkformer", **options)
    assert network.parameter_count / 1e6 == pytest.approx(millions, abs=tolerance)


def shapes(network, image):
    seen = {}
    for number, stage in enumerate(network.stages):
        stage.register_forward_hook(lambda m, i, out, key=number: seen.update({key: tuple(out.shape[2:])}))
    with torch.no_grad():
        network(image)
    return list(seen.values())


def test_shapes_of_the_published_sizes():
    network = models.create("qkformer")
    masks = {}
    for number in (0, 1):
        attention = network.stages[number].blocks[0].attention
        attention.register_forward_pre_hook(
            lambda m, inputs, key=number: masks.update({key: tuple(m.attention_map(inputs[0]).shape[2:])})
        )
    last = network.stages[2].blocks[0].attention
    assert shapes(network, torch.rand(1, 1, 3, 32, 32)) == [(96, 32, 32), (192, 16, 16), (384, 8, 8)]
    assert masks == {0: (8, 1, 1024), 1: (8, 1, 256)}
    _, k, v = last.operands(torch.rand(1, 1, 64, 384))
    assert (k.transpose(-2, -1) @ v).shape[2:] == (8, 48, 48)
    # of 224 pixels 56, 28 and 14; here of 64
    imagenet = models.create("qkformer", size="imagenet-10-384", dim=48, depths=(1, 1, 1), image_size=64)
    assert shapes(imagenet, torch.rand(1, 1, 3, 64, 64)) == [(12, 16, 16), (24, 8, 8), (48, 4, 4)]


def convolved(p, name, y, stride=1, pooled=False):
    y = p.conv(name, y, stride=stride)
    return p.pool(y) if pooled else y


def embedded(p, at, y, stage, form):
    """One embedding: the sum of a branch of two or three convolutions and one of a single 1x1."""

    def layer(name, y, stride=1, pooled=False):
        path = f"{at}.{name}.layer"
        return p.lif(f"{at}.{name}", convolved(p, f"{path}.0" if pooled else path, y, stride, pooled))

    if stage == 0:
        a = layer("stem", y, pooled=form == "imagenet")
        if form == "cifar":
            return layer("main", a) + layer("shortcut", a)
        b = layer("main.1", layer("main.0", a, pooled=True))
        return b + layer("shortcut", a, stride=2)
    early = form == "imagenet"
    b = layer("main.1", layer("main.0", y, pooled=early), pooled=not early)
    return b + layer("shortcut", y, stride=2)


def restated(network, x, form):
    """QKFormer from its equations, one step, sample, head and token at a time; no code shared."""
    p = Plain(network)
    c = network.config
    T, B = x.shape[:2]
    results = torch.zeros(T, B, c.classes, dtype=torch.float64)
    fired = []
    for b in range(B):
        p.rest()
        for t in range(T):
            y = x[t, b].double()
            for stage in range(3):
                y = embedded(p, f"stages.{stage}.embedding", y, stage, form)
                side, tokens = y.shape[1], y.flatten(1).T
                for block in range(c.depths[stage]):
                    at = f"stages.{stage}.blocks.{block}"
                    q = p.lif(f"{at}.q", p.linear(f"{at}.attention.query.layer", tokens))
                    k = p.lif(f"{at}.k", p.linear(f"{at}.attention.key.layer", tokens))
                    width = q.shape[1] // c.heads
                    o = torch.zeros_like(q)
                    if stage < 2:
                        counts = torch.stack([q[:, h * width : (h + 1) * width].sum(1) for h in range(c.heads)], 1)
                        mask = p.lif(f"{at}.mask", counts, threshold=0.5)
                        for n in range(len(o)):
                            for h in range(c.heads):
                                o[n, h * width : (h + 1) * width] = mask[n, h] * k[n, h * width : (h + 1) * width]
                    else:
                        v = p.lif(f"{at}.v", p.linear(f"{at}.attention.value.layer", tokens))
                        for h in range(c.heads):
                            part = slice(h * width, (h + 1) * width)
                            o[:, part] = (q[:, part] @ k[:, part].T) @ v[:, part] * c.attention["scale"]
                        o = p.lif(f"{at}.o", o, threshold=0.5)
                    fired.append(float(o.mean()))
                    tokens = tokens + p.lif(f"{at}.out", p.linear(f"{at}.attention.project.layer", o))
                    hidden = p.lif(f"{at}.hidden", p.linear(f"{at}.mlp.0.layer", tokens))
                    tokens = tokens + p.lif(f"{at}.mlp", p.linear(f"{at}.mlp.1.layer", hidden))
                y = tokens.T.unflatten(1, (side, side))
            results[t, b] = tokens.mean(0) @ p["head.linear.weight"].T + p["head.linear.bias"]
    assert 0.01 < sum(fired) / len(fired) < 0.9  # the attentions are alive
    return results


@pytest.mark.parametrize(("form", "size"), [("cifar", 8), ("imagenet", 16)])
def test_forward_agrees_with_a_restatement_of_the_equations(form, size):
    network = busy(form=form, image_size=size).double()
    x = torch.rand(4, 2, 1, size, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        ours = network(x)
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, restated(network, x, form), rtol=1e-5, atol=1e-8)


def layers_of(module):
    return [part for part in module.modules() if isinstance(part, ConvNorm)]


def copy_weights(layers, product, norm):
    """Copy layers of ours, one behind the other along the outputs, into one of SpikingJelly's."""
    with torch.no_grad():
        own = [getattr(layer, "conv", None) or layer.linear for layer in layers]
        product.weight.copy_(torch.cat([each.weight for each in own]).view_as(product.weight))
        bias = torch.cat([torch.zeros(len(each.weight)) if each.bias is None else each.bias for each in own])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(norm, name).copy_(torch.cat([getattr(layer.norm, name) for layer in layers]))
        if product.bias is not None:
            product.bias.copy_(bias)
        else:
            norm.running_mean -= bias  # a bias before the norm is a shift of its mean


SPIKINGJELLY = {"name": "lif", "surrogate": {"name": "sigmoid", "alpha": 4.0}}


@pytest.mark.parametrize("training", [False, True])
def test_spikingjellys_network_with_the_same_weights_returns_the_same(training):
    from spikingjelly.activation_based import functional

    # The published scale: it is the one that SpikingJelly's network has.
    options = {"channels": 3, "image_size": 32, "form": "imagenet", "depths": (1, 2, 2)}
    attention = {**HALF["attention"], "scale": 0.125}
    ours = busy(SPIKINGJELLY, attention=attention, **options).train(training)
    theirs = spikingjelly_transformers.qkformer(ours).train(training)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    functional.reset_net(theirs)
    a, b = ours(images.expand(4, -1, -1, -1, -1)).mean(0), theirs(images)
    assert a.std() > 1e-3
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    for outputs in (a, b):
        torch.nn.functional.cross_entropy(outputs, torch.tensor([0, 3, 7])).backward()
    pairs = [
        (ours.stages[0].embedding.stem.layer[0].conv.weight, theirs.patch_embed1.conv1.weight),
        (ours.stages[1].blocks[0].attention.project.layer.linear.weight, theirs.stage2[0].attn.proj_conv_bn[0].weight),
        (ours.head.linear.weight, theirs.head.weight),
    ]
    for mine, its in pairs:
        scale = its.grad.abs().max()
        assert scale > 1e-6
        torch.testing.assert_close(mine.grad / scale, its.grad.view_as(mine) / scale, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mask", ["token", "channel"])
def test_spikingjellys_attention_with_the_same_weights_returns_the_same(mask):
    from spikingjelly.activation_based.layer.attention import QKAttention

    network = busy(heads=4, token_attention={"name": "qk", "mask": mask})
    ours = network.stages[1].blocks[0].attention
    theirs = QKAttention(16, num_heads=4, qka_type=mask).eval()
    copy_weights([ours.query.layer, ours.key.layer], *theirs.qk_conv_bn)
    copy_weights([ours.project.layer], *theirs.proj_conv_bn)
    for module in theirs.modules():
        if hasattr(module, "step_mode"):
            module.step_mode = "m"
    x = (torch.rand(4, 2, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    with torch.no_grad():
        out = ours(x)
        torch.testing.assert_close(out, theirs(x.transpose(2, 3)).transpose(2, 3))
        kept = ours.attention_map(x)
    assert 0.05 < out.mean() < 0.95
    if mask == "channel":
        assert kept is None
    else:
        assert kept.shape == (4, 2, 4, 1, 16)
        assert 0 < kept.mean() < 1


@pytest.mark.parametrize("residual", ["spike", "membrane"])
def test_the_attention_keeps_the_order_of_tokens(residual):
    from neurons import factory

    attention = attentions.create("qk", 16, 4, factory("lif"), grid=(3, 3), residual=residual).eval()
    for module in attention.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.bias.data.fill_(1.0)
    x, order = torch.rand(3, 2, 9, 16) * 3, torch.randperm(9)
    with torch.no_grad():
        torch.testing.assert_close(attention(x)[:, :, order], attention(x[:, :, order]))
        assert set(attention(x).unique().tolist()) <= {0.0, 1.0} or residual == "membrane"


def test_operands():
    network = busy()
    record = energy.measure(network, torch.rand(4, 2, 1, 8, 8))
    layers, operations = record.layers.set_index("layer"), record.operations.set_index("layer")
    assert record.provenance["uncounted"] == {}
    for stage in (0, 1):
        at = f"stages.{stage}.blocks.0.attention"
        tokens, width = 64 >> 2 * stage, 8 << stage
        sums = operations.loc[f"{at}.sum-1"]
        assert (sums["op"], sums["dense"]) == ("add", 4 * tokens * (width - 2))  # channels of two heads to one sum each
        mask = operations.loc[f"{at}.mul-1"]
        assert (mask["operand"], mask["second_operand"], mask["dense"]) == ("binary", "binary", 4 * tokens * width)
        assert mask["exact"] == layers.loc[f"{at}.project.layer.linear", "nonzero"] > 0
        assert layers.loc[f"{at}.project.layer.linear", "operand"] == "binary"
        assert layers.loc[f"{at}.query.layer.linear", "operand"] == "integer"  # the stream of sums
    at = "stages.2.blocks.0.attention"
    first, second = layers.loc[f"{at}.matmul-1"], layers.loc[f"{at}.matmul-2"]
    assert (first["operand"], first["second_operand"]) == ("binary", "binary")
    assert (second["operand"], second["second_operand"]) == ("binary", "integer")


def test_the_form_follows_the_image_size_unless_it_is_given():
    config = models.models.get("qkformer").Config
    assert [config(image_size=size).chosen_form for size in (28, 32, 64, 224)] == ["cifar"] * 2 + ["imagenet"] * 2
    assert config(image_size=64, form="cifar").chosen_form == "cifar"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 3}, "multiple of its heads"),
        ({"heads": (1, 2, 3)}, "32 is not one of 3"),
        ({"dim": 20}, "multiple of 8"),
        ({"depths": (0, 0, 0)}, "depths"),
        ({"image_size": 2, "form": "imagenet"}, "lower pools"),
        ({"token_attention": "qq"}, "unknown attention 'qq'"),
        ({"token_attention": {"name": "qk", "mask": "head"}}, "'token' or 'channel'"),
        ({"form": "cifr"}, "cifar"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(options, words):
    with pytest.raises(OptionError, match=words):
        models.create("qkformer", **{**TINY, **options})
