"""SWFormer: sizes, shapes, a restatement of its equations, the Haar matrix, ternary neurons, operands."""

import math

import pytest
import torch
import torch.nn.functional as F
from restate import Plain, alive

import energy
from neurons import Neuron, TernaryLIF
from neurons.errors import OptionError
from step import models
from step.models.transformer.attention.wavelet import along, haar_matrix

TINY = {"image_size": 8, "channels": 1, "classes": 10, "dim": 32, "depth": 2, "heads": 4, "mlp_ratio": 2.0}


def tiny(neuron="lif", **options):
    return alive("swformer", neuron, **{**TINY, **options})


@pytest.mark.parametrize(
    ("options", "millions", "tolerance"),
    [
        ({"size": "cifar-4-384"}, 7.023, 0.0006),  # built from the platform's code: 16 blocks, 10 classes
        # printed in the paper, for both data sets: what 4 blocks and 100 classes take
        ({"size": "cifar-4-384", "heads": 4, "classes": 100}, 7.51, 0.005),
    ],
)
def test_parameter_counts(options, millions, tolerance):
    with torch.device("meta"):
        network = models.create("swformer", **options)
    assert network.parameter_count / 1e6 == pytest.approx(millions, abs=tolerance)


def test_shapes_of_the_published_size():
    network, seen = models.create("swformer", depth=1), []
    for stage in (*network.embedding.stages, network.embedding):
        stage.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[2:])))
    mixer = network.blocks[0].attention
    assert mixer.haar.width.shape == mixer.haar.height.shape == (8, 8)
    assert mixer.haar.mix.conv.weight.squeeze().unflatten(0, (16, -1)).shape == (16, 24, 24)
    assert float(mixer.haar.mix.conv.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert mixer.attention_map(torch.rand(1, 1, 64, 384)) is None
    network(torch.rand(1, 1, 3, 32, 32))
    assert seen == [(48, 32, 32), (96, 32, 32), (192, 16, 16), (384, 8, 8), (384, 8, 8)]


def recursive_haar(n):
    """The textbook recursion for powers of two."""
    if n == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    up = torch.kron(recursive_haar(n // 2), torch.tensor([[1.0, 1.0]], dtype=torch.float64))
    down = torch.kron(torch.eye(n // 2, dtype=torch.float64), torch.tensor([[1.0, -1.0]], dtype=torch.float64))
    both = torch.cat([up, down])
    return both / both.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("side", [1, 2, 4, 8, 16])
def test_of_a_power_of_two_the_matrix_is_haars(side):
    torch.testing.assert_close(haar_matrix(side), recursive_haar(side))


@pytest.mark.parametrize("side", [1, 2, 3, 5, 6, 7, 12, 14, 27])
def test_of_every_side_the_matrix_is_orthonormal_and_its_rows_are_steps_without_mean(side):
    H = haar_matrix(side)
    torch.testing.assert_close(H @ H.T, torch.eye(side, dtype=torch.float64))
    torch.testing.assert_close(H[0], torch.full((side,), 1 / math.sqrt(side), dtype=torch.float64))
    for row in H[1:]:
        assert row.sum().abs() < 1e-12
        assert len({round(float(value), 9) for value in row if value}) == 2  # one height up, one down


@pytest.mark.parametrize("grid", [(4, 4), (7, 7), (3, 5)])
def test_transform_and_inverse_give_back_the_maps(grid):
    x = torch.rand(2, 3, *grid, 6, dtype=torch.float64)
    height, width = (haar_matrix(side) for side in grid)
    there = along(height, along(width, x, 3), 2)
    torch.testing.assert_close(there[1, 2, :, :, 5], height @ x[1, 2, :, :, 5] @ width.T)
    torch.testing.assert_close(along(height.T, along(width.T, there, 3), 2), x)


def signed(p, name, h, threshold, ternary):
    """LIF that fires both ways, or up only."""
    if not ternary:
        return p.lif(name, h)
    v = p.potentials.get(name, torch.zeros_like(h))
    v = v + (h - v) / 2
    s = torch.where(v >= threshold, 1.0, 0.0) - torch.where(-v >= threshold, 1.0, 0.0)
    p.potentials[name] = torch.where(s == 0, v, 0.0)
    return s.double()


def mixed(p, at, spikes, H, blocks, ternary):
    """FATM on one map of spikes [C, h, h], channel by channel and block by block."""
    C = len(spikes)
    width = C // blocks
    rows = signed(p, f"{at}.rows", torch.stack([each @ H.T for each in spikes]), 0.5, ternary)
    coefficients = torch.stack([H @ each for each in rows])
    coefficients = p.lif(f"{at}.F", p.norm(f"{at}.haar.coefficients.layer.norm", coefficients, 0))
    weight = p[f"{at}.haar.mix.conv.weight"][:, :, 0, 0]
    mix = torch.zeros_like(coefficients)
    for out in range(C):
        block = out // width
        for inner in range(width):
            mix[out] += weight[out, inner] * coefficients[block * width + inner]
    mix = signed(p, f"{at}.M", p.norm(f"{at}.haar.mix.norm", mix, 0), 0.5, ternary)
    back = signed(p, f"{at}.back", torch.stack([each @ H for each in mix]), 0.5, ternary)
    out = p.norm(f"{at}.haar.norm.norm", torch.stack([H.T @ each for each in back]), 0)
    for name, padding in (("point", 0), ("local", 1)):
        each = [
            F.conv2d(
                spikes[None, block * width : (block + 1) * width], p[f"{at}.{name}.shared.weight"],
                p[f"{at}.{name}.shared.bias"], padding=padding,
            )[0]
            for block in range(blocks)
        ]  # fmt: skip
        out = out + p.norm(f"{at}.{name}.norm", torch.cat(each), 0)
    return out, [float(part.abs().mean()) for part in (rows, coefficients, mix, back)]


def restated(network, x, blocks, ternary=True):
    """The network from its equations, one step and sample at a time; no code shared."""
    p, c = Plain(network), network.config
    T, B = x.shape[:2]
    results, fired = torch.zeros(T, B, c.classes, dtype=torch.float64), []
    for b in range(B):
        p.rest()
        for t in range(T):
            y = x[t, b].double()
            for stage in range(3):
                y = p.lif(f"stage{stage}", p.conv(f"embedding.stages.{stage}.0.layer", y))
            y = p.pool(p.conv("embedding.stages.3.0", y))  # a small image is halved once
            y = y + p.conv("embedding.position.1", p.lif("position", y))
            side = y.shape[1]
            for block in range(c.depth):
                at = f"blocks.{block}.attention"
                spikes = p.lif(f"{at}.S", y)
                out, rates = mixed(p, at, spikes, haar_matrix(side), blocks, ternary)
                fired.append(rates)
                tokens = (y + out).flatten(1).T
                at = f"blocks.{block}.mlp"
                hidden = p.lif(f"{at}.hidden", p.linear(f"{at}.1.layer", p.lif(f"{at}.in", tokens)))
                y = (tokens + p.linear(f"{at}.2", hidden)).T.unflatten(1, (side, side))
            mean = y.flatten(1).mean(1)
            mean = p.lif("head", mean) if c.head_neuron else mean
            results[t, b] = mean @ p["head.linear.weight"].T + p["head.linear.bias"]
    assert torch.tensor(fired).mean(0).min() > (0.01 if ternary else 0)  # every neuron of the Haar branch is alive
    return results


@pytest.mark.parametrize(("size", "ternary", "head_neuron"), [(8, True, False), (8, False, True), (14, True, True)])
def test_forward_agrees_with_a_restatement_of_the_equations(size, ternary, head_neuron):
    network = tiny(
        image_size=size, attention={"name": "fatm", "ternary": ternary}, head_neuron=head_neuron
    ).double()  # fmt: skip
    for block in network.blocks:  # buffers were made in single precision
        block.attention.haar.height.copy_(haar_matrix(len(block.attention.haar.height)))
        block.attention.haar.width.copy_(haar_matrix(len(block.attention.haar.width)))
    x = torch.rand(4, 2, 1, size, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        ours = network(x)
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, restated(network, x, 4, ternary), rtol=1e-5, atol=1e-8)


def coefficient_neurons(network):
    haar = network.blocks[0].attention.haar
    return [haar.forward_neuron, haar.mixed_neuron, haar.inverse_neuron]


@pytest.mark.parametrize("neuron", ["lif", "plif", "if", "ternary-lif"])
def test_coefficients_of_spiking_networks_keep_their_signs(neuron):
    network = tiny({"name": neuron, "threshold": 0.8})
    inside = coefficient_neurons(network)
    assert all(isinstance(each, TernaryLIF) and each.threshold == pytest.approx(0.4) for each in inside)
    seen = []
    for each in inside:
        each.register_forward_hook(lambda m, i, out: seen.append(set(out.unique().tolist())))
    network(torch.rand(4, 2, 1, 8, 8))
    assert seen == [{-1.0, 0.0, 1.0}] * 3
    others = [m for m in network.modules() if isinstance(m, Neuron) and m not in [*inside]]
    assert sum(isinstance(m, TernaryLIF) for m in others) == (3 if neuron != "ternary-lif" else len(others))


def test_without_the_ternary_option_the_networks_own_neuron_stands_there():
    inside = coefficient_neurons(tiny(attention={"name": "fatm", "ternary": False}))
    assert {type(each).__name__ for each in inside} == {"LIF"}
    assert {each.threshold for each in inside} == {1.0}


def test_a_quantised_twin_has_signed_codes_and_a_real_one_no_activation():
    network, x, seen = tiny(), torch.rand(1, 4, 1, 8, 8), []
    for neuron in ("relu", {"name": "quantised_relu", "bits": 4}):
        twin = network.twin(neuron)
        for each in coefficient_neurons(twin):
            each.register_forward_hook(lambda m, i, out: seen.append(bool((out < 0).any())))
        with torch.no_grad():
            assert twin(x).isfinite().all()
    assert seen == [True] * 6
    assert not any(isinstance(each, Neuron) for each in coefficient_neurons(network.twin("relu")))


def test_operands():
    record = energy.measure(tiny(), torch.rand(4, 2, 1, 8, 8))
    layers = record.layers.set_index("layer")
    assert record.provenance["uncounted"] == {}
    at = "blocks.0.attention"
    kinds = [layers.loc[f"{at}.haar.linear-{number}", "operand"] for number in (1, 2, 3, 4)]
    assert kinds == ["binary", "ternary", "ternary", "ternary"]
    products = record.products.set_index("layer")
    for number in (1, 2, 3, 4):  # a row or column of 4 for each of 16 tokens of 32 channels, 4 steps
        assert products.loc[f"{at}.haar.linear-{number}", "dense"] == 4 * 16 * 32 * 4
        assert layers.loc[f"{at}.haar.linear-{number}", "weights"] == 16
    for name, weights, dense in (("haar.mix.conv", 32 * 8, 32 * 8), ("point.shared", 8 * 8, 32 * 8)):
        assert layers.loc[f"{at}.{name}", ["operand", "weights"]].tolist() == ["binary", weights]
        assert products.loc[f"{at}.{name}", "dense"] == 4 * 16 * dense
    assert layers.loc[f"{at}.local.shared", ["operand", "weights"]].tolist() == ["binary", 9 * 8 * 8]
    weighted = layers[layers["kind"].isin(["conv", "linear"])]["operand"]
    real = [name for name, kind in weighted.items() if kind == "real"]
    assert real == ["embedding.stages.0.0.layer.conv", "head.linear"]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"heads": 5}, "multiple of heads"), ({"head_neurons": True}, "did you mean 'head_neuron'"), ({"dim": 12}, "8")],
)
def test_wrong_options_are_refused_with_a_reason(options, words):
    with pytest.raises(OptionError, match=words):
        models.create("swformer", **{**TINY, **options})
