"""Attentions that ablations exchange: published sizes, RepConv as one convolution, random queries and keys."""

import pytest
import torch
import torch.nn.functional as F
from restate import Plain, alive

from neurons.errors import OptionError
from step import models
from step.models.transformer.attention import attention_product
from step.models.transformer.attention.sdsa3 import RepConv

TINY = {"image_size": 8, "channels": 1, "classes": 10, "dim": 32, "depth": 2, "heads": 4, "mlp_ratio": 2.0}
ATTENTIONS = ["ssa", "sdsa", "sdsa-3", "emsa"]
NETWORKS = ["spikformer", "sdt"]  # spike and membrane residual


def images():
    return torch.rand(4, 2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "millions"), [("spikformer", 11.75), ("sdt", 12.37)])
def test_parameter_counts_with_rep_conv_equal_those_of_the_platforms_code(name, millions):
    with torch.device("meta"):
        count = models.create(name, attention="sdsa-3").parameter_count
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


def lively(layer, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for module in layer.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.weight.data.uniform_(0.5, 2, generator=generator)
            module.bias.data.normal_(generator=generator)
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.1, 2, generator=generator)
    return layer


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (1, 7), (1, 1)])
def test_rep_conv_is_one_convolution_of_its_input(grid):
    """Its three pieces multiplied out: a 3x3 kernel and a bias, zeros beyond the border."""
    layer = lively(RepConv(6, 5, grid).double().eval())

    def affine(norm):
        scale = norm.weight / (norm.running_var + 1e-5).sqrt()
        return scale, norm.bias - norm.running_mean * scale

    (scale1, shift1), (scale2, shift2) = affine(layer.first.norm), affine(layer.last.norm)
    first, last = layer.first.linear.weight * scale1[:, None], layer.last.linear.weight * scale2[:, None]
    kernel = torch.einsum("oc,cyx,ci->oiyx", last, layer.depthwise.weight[:, 0], first)
    bias = last @ (layer.depthwise.weight.sum((1, 2, 3)) * shift1) + shift2
    tokens = torch.randn(2, 3, grid[0] * grid[1], 6, dtype=torch.float64)
    maps = tokens.transpose(2, 3).reshape(6, 6, *grid)
    want = F.conv2d(maps, kernel, bias, padding=1).reshape(2, 3, 5, -1).transpose(2, 3)
    torch.testing.assert_close(layer(tokens), want)


@pytest.mark.parametrize("name", NETWORKS)
def test_sdsa_3_agrees_with_a_restatement(name):
    network = alive(name, attention="sdsa-3", **TINY).double()
    attention, membrane = network.blocks[0].attention, name == "sdt"
    x = torch.randint(-1, 4, (4, 2, 16, 32), generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        ours, shown = attention(x), attention.attention_map(x)
    p = Plain(network)
    at = "blocks.0.attention"

    def rep_conv(name, tokens):
        weight = p[f"{name}.first.linear.weight"]
        inner = p.norm(f"{name}.first.norm", tokens @ weight.T, 1).T.reshape(-1, 4, 4)
        border = p.norm(f"{name}.first.norm", torch.zeros(1, len(weight), dtype=torch.float64), 1)[0]
        padded = border[:, None, None].repeat(1, 6, 6)
        padded[:, 1:5, 1:5] = inner
        spread = F.conv2d(padded[None], p[f"{name}.depthwise.weight"], groups=len(padded))[0].flatten(1).T
        return p.norm(f"{name}.last.norm", spread @ p[f"{name}.last.linear.weight"].T, 1)

    for b in range(2):
        p.rest()
        for t in range(4):
            spikes = p.lif("before", x[t, b]) if membrane else x[t, b]
            q, k, v = (p.lif(o, rep_conv(f"{at}.{o}.layer", spikes)) for o in ("query", "key", "value"))
            merged = torch.zeros_like(q)
            for head in range(4):
                part = slice(8 * head, 8 * head + 8)
                merged[:, part] = q[:, part] @ (k[:, part].T @ v[:, part]) * 0.125
                torch.testing.assert_close(shown[t, b, head], q[:, part] @ k[:, part].T * 0.125)
            o = p.lif("neuron", merged, threshold=0.5)
            want = rep_conv(f"{at}.project", o) if membrane else p.lif("out", rep_conv(f"{at}.project.layer", o))
            torch.testing.assert_close(ours[t, b], want, rtol=1e-7, atol=1e-9)
    assert ours.std() > 0.01


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_any_attention_in_any_network(name, attention):
    network, x = alive(name, attention=attention, **TINY), images()
    with torch.no_grad():
        y, folded = network(x), network.folded()(x)
    assert y.std() > 1e-3
    torch.testing.assert_close(folded, y, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(12, 7, 3, 20), (3, 30, 8, 2), (16, 16, 8, 8), (8, 8, 16, 16)])
def test_the_cheaper_order_of_an_oblong_product_is_chosen(shape):
    from torch.utils.flop_counter import FlopCounterMode

    M, N, d, e = shape
    q, k, v = torch.ones(1, M, d), torch.ones(1, N, d), torch.ones(1, N, e)

    def flops(order):
        with FlopCounterMode(display=False) as counter:
            attention_product(q, k, v, order)
        return counter.get_total_flops()

    assert flops("auto") == min(flops("scores"), flops("context"))


def chance(attention, random):
    # With 8 channels and 16 tokens an expert would not fire at the scale of the paper, and its router not learn.
    options = {"name": attention, "random": random, **({"scale": 8.0} if attention == "emsa" else {})}
    return models.create("spikformer", attention=options, seed=3, **TINY)


@pytest.mark.parametrize("random", [True, "norms"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_random_queries_and_keys_stay_what_they_were(attention, random):
    network = chance(attention, random).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.5)
    for seed in range(3):
        x = torch.rand(4, 8, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        network(x).square().sum().backward()
        optimiser.step()
    after = network.state_dict()
    still = [name for name in before if torch.equal(before[name], after[name])]
    made = [name for name in before if ".query." in name or ".key." in name]
    weights = [name for name in made if "norm" not in name]
    affine = [name for name in made if name.endswith(("norm.weight", "norm.bias"))]
    assert weights
    assert set(still) == {*weights, *(affine if random == "norms" else [])}
    learned = dict(network.named_parameters())
    assert not learned.keys() & set(still)
    assert all(parameter.grad is not None for parameter in learned.values())


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_random_weights_are_the_initial_ones_and_are_not_counted(attention):
    free, frozen = chance(attention, False), chance(attention, True)
    assert free.state_dict().keys() == frozen.state_dict().keys()
    for name, value in free.state_dict().items():
        assert torch.equal(value, frozen.state_dict()[name])
    fixed = sum(free.get_parameter(name).numel() for name, _ in frozen.named_buffers() if name in _names(free))
    assert frozen.parameter_count == free.parameter_count - fixed
    assert fixed >= 2 * 2 * 32 * 8  # queries and keys of two blocks, an expert's key being the smallest


def _names(network):
    return {name for name, _ in network.named_parameters()}


def test_random_weights_are_copied_saved_and_folded():
    network = alive("spikformer", attention={"name": "ssa", "random": True}, **TINY)
    other = models.create("spikformer", attention={"name": "ssa", "random": True}, seed=9, **TINY).eval()
    other.load_state_dict(network.state_dict())
    x = images()
    with torch.no_grad():
        y = network(x)
        assert torch.equal(y, other(x))
        assert torch.equal(y, network.twin("lif")(x))
        torch.testing.assert_close(network.folded()(x), y, rtol=1e-3, atol=1e-4)


def test_another_word_for_random_is_refused():
    with pytest.raises(OptionError, match="'norms', not 'yes'"):
        chance("ssa", "yes")
