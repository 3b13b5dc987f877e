"""Embeddings that ablations exchange: published sizes, grids, and restatements from their equations."""

import pytest
import torch
import torch.nn.functional as F
from restate import Plain, alive

from neurons import factory
from neurons.errors import OptionError
from step import models
from step.models.transformer.embedding import embeddings

KINDS = ["sps", "patch", "conv2", "sequence", "tokenizer"]
TINY = {"image_size": 16, "channels": 2, "dim": 32, "depth": 1, "heads": 4, "mlp_ratio": 2.0, "pools": 2}
MODELS = {"spike": "spikformer", "membrane": "sdt"}


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ({"embedding": "patch"}, 7.17),
        ({"embedding": "conv2"}, 8.79),
        ({"size": "scifar-10"}, 4.49),
        ({"size": "smnist"}, 4.49),
    ],
)
def test_parameter_counts_equal_those_of_the_platforms_code(options, millions):
    with torch.device("meta"):
        assert models.create("spikformer", **options).parameter_count / 1e6 == pytest.approx(millions, abs=0.005)


def made(name, image_size, pools, residual="spike", **options):
    return embeddings.create(
        name,
        channels=1,
        dim=16,
        image_size=image_size,
        pools=pools,
        neuron=factory("lif"),
        residual=residual,
        **options,
    )


@pytest.mark.parametrize("residual", ["spike", "membrane"])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("image_size", "pools"), [(8, (False, True, False, False)), (28, 2), (32, 0), (32, 3), (32, 4), (12, 1)]
)
def test_the_grid_is_that_of_what_comes_out(name, image_size, pools, residual):
    embedding = made(name, image_size, pools, residual)
    maps = embedding(torch.rand(2, 3, 1, image_size, image_size))
    assert maps.shape == (2, 3, 16, *embedding.grid)
    if name != "sequence":
        times = pools if isinstance(pools, int) else sum(pools)
        assert embedding.grid == (-(-image_size // 2**times),) * 2


@pytest.mark.parametrize(("image_size", "tokens"), [(32, 64), (28, 64), (8, 8), (5, 4), (40, 64), (1, 1)])
def test_a_sequence_has_64_tokens_or_as_many_as_it_is_long(image_size, tokens):
    assert made("sequence", image_size, 0).grid == (1, tokens)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("patch", {"image_size": 30, "pools": 2}, "whole patches of 4"),
        ("sps", {"image_size": 8, "pools": 5}, "0 to 4"),
    ],
)
def test_what_does_not_fit_is_refused(name, options, words):
    with pytest.raises(OptionError, match=words):
        made(name, **options)
    with pytest.raises(OptionError, match="multiple of 8"):
        embeddings.create("sequence", channels=1, dim=12, image_size=8, pools=1, neuron=factory("lif"))


def patch(p, x, residual, norm=False):
    key = "embedding.patches" + (".layer" if residual == "spike" else "") + (".0" if norm else "")
    weight = p[f"{key}.layer.weight"]
    rows = x.shape[1] // 4
    y = torch.zeros(len(weight), rows, rows, dtype=torch.float64)
    for i in range(rows):
        for j in range(rows):
            y[:, i, j] = (weight * x[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]).sum((1, 2, 3))
    y = p.norm(key.removesuffix(".0") + ".1.layer", y, 0) if norm else y + p[f"{key}.layer.bias"][:, None, None]
    y = p.lif("patch", y) if residual == "spike" else y
    return y + p["embedding.position"]


def conv2(p, x, residual):
    y = p.pool(p.lif("first", p.conv("embedding.first.0.layer", x)))
    if residual == "spike":
        y = p.pool(p.lif("second", p.conv("embedding.second.0.layer", y)))
        return y + p.lif("position", p.conv("embedding.position.layer", y))
    y = p.pool(p.conv("embedding.second.0", y))
    return y + p.conv("embedding.position.1", p.lif("position", y))


def tokenizer(p, x, residual):
    y = x
    for stage in range(4):
        y = p.lif(f"stage{stage}", p.conv(f"embedding.stages.{stage}.0.layer", y))
        y = p.pool(y) if stage > 1 else y
    return p.conv("embedding.last", y) if residual == "membrane" else p.lif("last", p.conv("embedding.last.layer", y))


def along(p, name, y, stride=1):
    """Conv1d and norm on [C, L]."""
    weight = p[f"{name}.conv.weight"].squeeze(2)
    return p.norm(f"{name}.norm", F.conv1d(y[None], weight, stride=stride, padding=weight.shape[-1] // 2)[0], 0)


def sequence(p, x, residual):
    y = torch.stack([torch.cat(list(channel)) for channel in x])  # row after row
    for stage, stride in enumerate((1, 2, 2, 2)):
        name = f"embedding.stages.{stage}"
        if stage == 3 and residual == "membrane":
            y = along(p, name, y, stride)
        else:
            y = p.lif(f"stage{stage}", along(p, f"{name}.layer", y, stride))
    if y.shape[1] > 64:
        y = F.adaptive_avg_pool1d(y[None], 64)[0]
    if residual == "membrane":
        y = y + along(p, "embedding.position.1", p.lif("position", y))
    else:
        y = y + p.lif("position", along(p, "embedding.position.layer", y))
    return y.unsqueeze(1)


@pytest.mark.parametrize("residual", ["spike", "membrane"])
@pytest.mark.parametrize("restated", [patch, conv2, tokenizer, sequence])
@pytest.mark.parametrize("image_size", [16, 28])
def test_agrees_with_a_restatement(restated, residual, image_size):
    network = alive(MODELS[residual], embedding=restated.__name__, **{**TINY, "image_size": image_size}).double()
    if restated is patch:
        network.embedding.position.data.normal_(generator=torch.Generator().manual_seed(2))
    agree(network, lambda p, x: restated(p, x, residual), image_size)


def test_patches_with_a_norm_agree_with_a_restatement():
    network = alive("spikformer", embedding={"name": "patch", "norm": True}, **TINY).double()
    agree(network, lambda p, x: patch(p, x, "spike", norm=True), 16)


def agree(network, restated, image_size):
    x = torch.rand(4, 2, 2, image_size, image_size, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3
    with torch.no_grad():
        ours = network.embedding(x)
    assert ours.std() > 0.01
    p = Plain(network)
    for b in range(2):
        p.rest()
        for t in range(4):
            torch.testing.assert_close(ours[t, b], restated(p, x[t, b]), rtol=1e-7, atol=1e-9)
