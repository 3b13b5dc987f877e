"""The conventional control: sizes, restatements of float and quantised form, what it refuses, what energy sees."""

import math

import pytest
import torch
import torch.nn.functional as F
from restate import Plain, alive

import energy
from neurons.errors import OptionError
from step import models
from step.models.transformer.quantised import QuantisedConv2d, QuantisedLinear
from step.spec import Spec, SpecError

TINY = {"image_size": 8, "channels": 1, "classes": 10, "dim": 32, "depth": 2, "heads": 4, "mlp_ratio": 2.0}
CODES = {"name": "quantised_relu", "bits": 4}
NEURONS = ["gelu", "relu", CODES]


def images(B=3, seed=0, dtype=torch.float32):
    return torch.randn(1, B, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_parameter_count_is_that_of_the_layers_and_near_spikformers():
    with torch.device("meta"):
        network = models.create("vit", neuron="gelu", size="cifar-4-384")
        spiking = models.create("spikformer", size="cifar-4-384")
    dim, hidden = 384, 4 * 384
    convs = [(3, 48), (48, 96), (96, 192), (192, 384), (384, 384)]
    embedding = sum(9 * inputs * outputs + 2 * outputs for inputs, outputs in convs)
    block = 4 * (dim * dim + dim) + dim * hidden + hidden + hidden * dim + dim + 4 * dim
    assert network.parameter_count == embedding + 4 * block + 2 * dim + 10 * dim + 10
    assert network.parameter_count == pytest.approx(spiking.parameter_count, rel=0.005)
    assert network.config.SIZES is spiking.config.SIZES


class Quantising(Plain):
    """Layers whose operands pass ``q``: with codes where the network is quantised, as they are elsewhere."""

    def __init__(self, network, bits=None):
        super().__init__(network)
        self.bits = bits

    def q(self, name, x, signed=True, bits=None):
        if self.bits is None:
            return x
        bits = bits or self.bits
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        step = self[f"{name}.step_size"].abs()
        return step * torch.round((x / step).clamp(low, high))

    def weight(self, name, bits=None):
        weight = self[f"{name}.weight"]
        if self.bits is None:
            return weight
        high = 2 ** ((bits or self.bits) - 1) - 1
        step = self[f"{name}.weight_step"].abs()
        return step * torch.round((weight / step).clamp(-high, high))

    def activation(self, name, x):
        return self.q(name, x, signed=False) if self.bits else 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))

    def stage(self, name, y, bits=None):
        y = F.conv2d(y[None], self.weight(f"{name}.layer.conv", bits), padding=1)[0]
        return self.activation(f"{name}.neuron", self.norm(f"{name}.layer.norm", y, 0))

    def dense(self, name, y, bits=None):
        return y @ self.weight(name, bits).T + self[f"{name}.bias"]

    def layer_norm(self, name, y):
        centred = y - y.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
        return scaled * self[f"{name}.weight"] + self[f"{name}.bias"]


def restated(network, x, heads, bits=None):
    """One sample at a time, one head at a time, softmax written out; no code shared."""
    p = Quantising(network, bits)
    results = torch.zeros(1, x.shape[1], network.config.classes, dtype=torch.float64)
    for b in range(x.shape[1]):
        y = p.q("input", x[0, b], bits=8)
        for stage in range(4):
            y = p.stage(f"embedding.stages.{stage}.0", y, 8 if stage == 0 else None)
            y = p.pool(y) if stage == 3 else y
        y = y + p.stage("embedding.position", y)
        tokens = y.flatten(1).T
        for block in range(network.config.depth):
            at = f"blocks.{block}.attention.1"
            n = p.q(f"{at}.before", p.layer_norm(f"blocks.{block}.attention.0", tokens))
            q, k, v = (p.q(f"{at}.{o}.neuron", p.dense(f"{at}.{o}.layer.linear", n)) for o in ("query", "key", "value"))
            merged, width = torch.zeros_like(q), q.shape[1] // heads
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                e = torch.exp(q[:, part] @ k[:, part].T / math.sqrt(width))
                merged[:, part] = p.q(f"{at}.weights", e / e.sum(1, keepdim=True), signed=False) @ v[:, part]
            tokens = tokens + p.dense(f"{at}.project.layer.linear", p.q(f"{at}.merged", merged))
            mlp = f"blocks.{block}.mlp"
            hidden = p.dense(f"{mlp}.2", p.q(f"{mlp}.1", p.layer_norm(f"{mlp}.0", tokens)))
            tokens = tokens + p.dense(f"{mlp}.4", p.activation(f"{mlp}.3", hidden))
        out = p.q("head.neuron", p.layer_norm("norm", tokens).mean(0), bits=8)
        results[0, b] = p.dense("head.linear", out, 8)
    return results


@pytest.mark.parametrize(("neuron", "bits"), [("gelu", None), (CODES, 4), ({**CODES, "bits": 2}, 2)])
def test_forward_agrees_with_a_restatement_of_the_equations(neuron, bits):
    network = alive("vit", neuron, **TINY).double()
    x = images(dtype=torch.float64)
    with torch.no_grad():
        ours = network(x)
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, restated(network, x, heads=4, bits=bits), rtol=1e-7, atol=1e-9)


def test_attention_map_is_a_distribution_over_tokens():
    attention = models.create("vit", neuron="gelu", seed=0, **TINY).double().blocks[0].attention[1]
    tokens, seen = torch.randn(1, 2, 16, 32, dtype=torch.float64), []
    attention.merged.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        attention(tokens)
        weights = attention.attention_map(tokens)
        mixed = attention.merge(weights @ attention.split(attention.value(tokens)))
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 4, 16, dtype=torch.float64))
    torch.testing.assert_close(mixed, seen[0])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_both_operands_of_every_product_are_quantised(bits):
    """Each operand takes at most 2^bits values, 2^8 in the first and the last layer."""
    network = models.create("vit", neuron={**CODES, "bits": bits}, seed=0, **TINY).eval()
    wide = []
    layers = [m for m in network.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]
    assert all(isinstance(m, (QuantisedLinear, QuantisedConv2d)) for m in layers)
    assert [m.weight_bits for m in layers] == [8, *[bits] * (len(layers) - 2), 8]
    for index, layer in enumerate(layers):
        limit = 2 ** (8 if index in (0, len(layers) - 1) else bits)
        assert len(layer.quantised_weight().unique()) <= limit - 1  # symmetric about 0

        def look(module, inputs, index=index, limit=limit):
            if len(inputs[0].unique()) > limit:
                wide.append(index)

        layer.register_forward_pre_hook(look)
    with torch.no_grad():
        network(images())
    position = layers.index(network.embedding.position.layer.conv)
    assert wide in ([], [position])  # behind a pool, codes of the last stage and its border


def test_energy_record_of_a_quantised_network():
    network = alive("vit", CODES, **TINY)
    record = energy.measure(network, images())
    assert record.provenance["uncounted"] == {}
    rows = record.layers[record.layers["kind"].isin(["conv", "linear", "matmul"])]
    assert set(rows["operand"]) == {"quantised"}
    assert list(rows["bits"]) == [8, *[4] * (len(rows) - 2), 8]
    products = rows[rows["kind"] == "matmul"]
    assert len(products) == 2 * 2
    assert set(products["second_operand"]) == {"quantised"}
    assert set(products["second_bits"]) == {4}


def test_energy_record_of_a_float_network():
    record = energy.measure(models.create("vit", neuron="gelu", **TINY), images())
    assert record.provenance["uncounted"] == {}
    rows = record.layers[record.layers["kind"].isin(["conv", "linear", "matmul"])]
    assert set(rows["operand"]) == {"real"}
    assert len(rows[rows["kind"] == "matmul"]) == 2 * 2


@pytest.mark.parametrize("neuron", NEURONS)
def test_gradient_reaches_every_parameter(neuron):
    network = models.create("vit", neuron=neuron, seed=0, **TINY)
    network(images(8)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []


@pytest.mark.parametrize("neuron", NEURONS)
def test_training_lowers_the_loss(neuron):
    network, x = models.create("vit", neuron=neuron, seed=0, **TINY), images(32)
    labels = torch.randint(0, 10, (32,), generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(network(x)[0], labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_twins_share_their_weights_and_refit_their_steps():
    network = models.create("vit", neuron="gelu", seed=0, **TINY)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    twin = network.twin(CODES)
    theirs = twin.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in network.state_dict().items())
    layer, mine = twin.blocks[0].mlp[2], network.blocks[0].mlp[2]
    assert layer.weight_step.item() == pytest.approx(2 * mine.weight.abs().mean().item() / math.sqrt(7))
    same, back = twin.twin(CODES), twin.twin("gelu")
    assert torch.equal(same.blocks[0].mlp[2].weight_step, layer.weight_step)
    with torch.no_grad():
        torch.testing.assert_close(back(images()), network(images()))


def test_with_many_bits_it_comes_near_the_float_network():
    """What is left at 14 bits are the 8 bits of first and last layer, with steps that nothing has trained."""
    network = alive("vit", "relu", **TINY)
    with torch.no_grad():
        exact = network(images())
        off = [(network.twin({**CODES, "bits": bits})(images()) - exact).abs().max() for bits in (4, 14)]
    assert off[1] < 0.3 * off[0]


@pytest.mark.parametrize("neuron", NEURONS)
def test_saved_and_loaded(neuron, tmp_path):
    network = alive("vit", neuron, **TINY)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = models.create("vit", neuron=neuron, seed=5, **TINY).eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(other(images()), network(images()))


@pytest.mark.parametrize("neuron", ["gelu", CODES])
def test_norms_are_folded_exactly_or_kept(neuron):
    network = alive("vit", neuron, **TINY)
    with torch.no_grad():
        torch.testing.assert_close(network.folded()(images()), network(images()), rtol=1e-4, atol=1e-5)


def test_random_queries_and_keys_stay_random():
    attention = {"name": "softmax", "random": True}
    for neuron in NEURONS:
        network = models.create("vit", neuron=neuron, seed=0, **{**TINY, "attention": attention})
        learned = {name for name, _ in network.named_parameters()}
        assert not any("query" in name and name.endswith("linear.weight") for name in learned)
        assert any("value" in name and name.endswith("linear.weight") for name in learned)
        network(images()).sum().backward()


@pytest.mark.parametrize("embedding", ["patch", "conv2"])
@pytest.mark.parametrize("neuron", NEURONS)
def test_other_embeddings(embedding, neuron):
    network = models.create("vit", neuron=neuron, seed=0, **{**TINY, "embedding": embedding})
    assert network(images()).shape == (1, 3, 10)


@pytest.mark.parametrize("neuron", ["lif", "integer-lif", "psn"])
def test_a_spiking_neuron_is_refused_before_anything_runs(neuron):
    with pytest.raises(OptionError, match=r"vit is a conventional network.*take gelu, relu or quantised_relu"):
        models.create("vit", neuron=neuron, **TINY)
    with pytest.raises(SpecError, match=r"^neuron: vit is a conventional network"):
        Spec.parse({"dataset": "digits", "model": {"name": "vit", "size": "digits"}, "neuron": neuron})
    assert Spec.parse({"dataset": "digits", "model": {"name": "vit", "size": "digits"}, "neuron": "gelu"}).T == 1


def test_other_refusals():
    with pytest.raises(OptionError, match="needs 2 bits or more"):
        models.create("vit", neuron={"name": "quantised_relu", "bits": 1}, **TINY)
    with pytest.raises(OptionError, match="attention 'softmax' multiplies real numbers"):
        models.create("spikformer", **{**TINY, "attention": "softmax"})


def test_softmax_attention_serves_conventional_twins_of_spiking_models():
    for name in ("spikformer", "sdt"):
        for neuron in ("relu", CODES):
            network = models.create(name, neuron=neuron, seed=0, **{**TINY, "attention": "softmax"})
            assert network(images()).shape == (1, 3, 10)
