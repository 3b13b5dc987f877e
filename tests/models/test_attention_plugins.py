"""A2OS2A, BSA, alpha-XNOR and STAtten: each against its equations with explicit loops, and what energy sees of it."""

import math

import pytest
import torch
from restate import Plain, alive

import energy
from neurons import Neuron
from neurons.errors import OptionError, ShapeError, StepError
from step import models
from step.models.transformer.attention.bsa import shiftmax
from step.models.transformer.attention.statten import block_sums
from step.models.transformer.attention.xnor import xnor_product, xnor_scores

TINY = {"image_size": 8, "channels": 1, "classes": 10, "dim": 32, "depth": 1, "heads": 4, "mlp_ratio": 2.0}
HEADS, WIDTH = 4, 8
PLUGINS = ["a2os2a", "bsa", "alpha-xnor", "statten"]
MODELS = ["spikformer", "sdt"]  # spike and membrane residual


def network(name, attention, neuron="lif", **options):
    return alive(name, neuron, **{**TINY, "attention": attention, **options})


def stream(name, T=4, B=2, seed=5):
    """What an attention reads: sums of spikes in the stream of a spike residual, real numbers in the other."""
    generator = torch.Generator().manual_seed(seed)
    if name == "spikformer":
        return torch.randint(0, 3, (T, B, 16, 32), generator=generator).double()
    return torch.randn(T, B, 16, 32, generator=generator, dtype=torch.float64)


def ternary(p, name, h, threshold=1.0, tau=2.0):
    """Decay towards the input, a signed spike at either threshold, hard reset."""
    v = p.potentials.get(name, torch.zeros_like(h))
    v = v + (h - v) / tau
    s = (v >= threshold).double() - (v <= -threshold).double()
    p.potentials[name] = v * (1 - s.abs())
    return s


def layer(p, name, y):
    bias = p.weights.get(f"{name}.linear.bias", 0.0)
    return p.norm(f"{name}.norm", y @ p[f"{name}.linear.weight"].T + bias, 1)


def per_head(operands, rule):
    """Apply a rule on lists [N][d] of one head, q, k, v, to each head; put the results side by side."""
    out = torch.zeros_like(operands[0])
    for head in range(HEADS):
        part = slice(head * WIDTH, (head + 1) * WIDTH)
        out[:, part] = torch.tensor(rule(*(x[:, part].tolist() for x in operands)), dtype=torch.float64)
    return out


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def weighted(weights, v):
    return [[sum(w * row[c] for w, row in zip(line, v, strict=True)) for c in range(WIDTH)] for line in weights]


def addition_only(q, k, v):
    return weighted([[dot(a, b) for b in k] for a in q], v)


def bipolar(q, k, v):
    lines = []
    for a in q:
        powers = [2.0 ** dot(a, b) for b in k]
        divisor = 1.0
        while divisor < sum(powers):
            divisor *= 2
        while divisor / 2 >= sum(powers):
            divisor /= 2
        lines.append([power / divisor for power in powers])
    return weighted(lines, v)


def alike(q, k, v, alpha=0.125):
    def similarity(a, b):
        return sum(1.0 if x == y == 1 else alpha if x == y == 0 else 0.0 for x, y in zip(a, b, strict=True))

    return weighted([[0.125 * similarity(a, b) for b in k] for a in q], v)


RULES = {
    # attention: kinds of Q, K, V, product of one head, threshold of the neuron behind it
    "a2os2a": (("lif", "relu", "ternary"), addition_only, 1.0),
    "bsa": (("ternary", "ternary", "lif"), bipolar, 0.125),
    "alpha-xnor": (("lif", "lif", "lif"), alike, 0.5),
}


def operand(p, kind, name, y):
    h = layer(p, f"{name}.layer", y)
    return h.clamp(min=0) if kind == "relu" else ternary(p, name, h) if kind == "ternary" else p.lif(name, h)


def last(p, name, o):
    if name == "sdt":
        return layer(p, "project", o)
    return p.lif("project", layer(p, "project.layer", o))


def restated(attention, name, x, kinds, rule, threshold):
    p, result = Plain(attention), torch.zeros_like(x)
    for b in range(x.shape[1]):
        p.rest()
        for t in range(x.shape[0]):
            y = p.lif("before", x[t, b]) if name == "sdt" else x[t, b]
            operands = [operand(p, kind, o, y) for kind, o in zip(kinds, ("query", "key", "value"), strict=True)]
            o = p.lif("neuron", per_head(operands, rule), threshold)
            result[t, b] = last(p, name, o)
    return result


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("plugin", RULES)
def test_attention_agrees_with_a_restatement_of_its_equations(name, plugin):
    attention = network(name, plugin).double().blocks[0].attention
    x = stream(name)
    with torch.no_grad():
        ours = attention(x)
    assert ours.std() > 1e-2  # alive, so that the comparison says something
    torch.testing.assert_close(ours, restated(attention, name, x, *RULES[plugin]), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("T", "block"), [(4, 2), (5, 2), (3, 8), (4, 1)])
def test_statten_agrees_with_a_restatement_over_merged_steps(name, T, block):
    """All tokens of the steps of a block in one list: out_i = scale sum_j (q_i . k_j) v_j over the block."""
    attention = network(name, {"name": "statten", "block": block}).double().blocks[0].attention
    x, p = stream(name, T), Plain(attention)
    expected = torch.zeros_like(x)
    for b in range(x.shape[1]):
        p.rest()
        inputs = [p.lif("before", x[t, b]) if name == "sdt" else x[t, b] for t in range(T)]
        q, k, v = ([operand(p, "lif", o, y) for y in inputs] for o in ("query", "key", "value"))
        for start in range(0, T, block):
            merged = [torch.cat(part[start : start + block]) for part in (q, k, v)]
            product = per_head(merged, addition_only) / 4  # the map is 4 high
            for t, o in enumerate(product.split(16), start):
                expected[t, b] = last(p, name, p.lif("neuron", o, 0.5))
    with torch.no_grad():
        ours = attention(x)
    assert ours.std() > 1e-2
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("plugin", PLUGINS)
def test_attention_map_is_what_mixes_the_values(name, plugin):
    """The product behind the neuron is the map times the values; in STAtten with one step in a block."""
    part = {"name": plugin, "block": 1} if plugin == "statten" else plugin
    attention = network(name, part).double().blocks[0].attention
    x, seen = stream(name), []
    attention.neuron.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        attention(x)
        weights = attention.attention_map(x)
        values = attention.split(attention.value(attention.before(x)))
    assert weights.shape == (4, 2, HEADS, 16, 16)
    torch.testing.assert_close(attention.merge(weights @ values), seen[0])


def test_shiftmax_is_a_shift_of_shifts():
    scores = torch.randint(-6, 7, (5, 9), generator=torch.Generator().manual_seed(0)).double()
    weights = shiftmax(scores)
    assert torch.equal(weights.log2(), weights.log2().round())
    assert ((weights.sum(-1) > 0.5) & (weights.sum(-1) <= 1)).all()
    assert torch.equal(weights, shiftmax(scores + 40))
    torch.testing.assert_close(shiftmax(torch.zeros(8)), torch.full((8,), 1 / 8))
    assert shiftmax(torch.tensor([300.0, 300.0, -300.0])).tolist() == [0.5, 0.5, 0.0]  # no power overflows
    with torch.no_grad():
        assert torch.equal(shiftmax(scores), weights)


def test_shiftmax_passes_the_gradient_of_a_softmax_of_base_two():
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    towards = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    (shiftmax(scores) * towards).sum().backward()
    again = scores.detach().clone().requires_grad_()
    smooth = torch.softmax(again * math.log(2), -1)
    share = (shiftmax(again) / smooth).detach()
    (smooth * share * towards).sum().backward()
    torch.testing.assert_close(scores.grad, again.grad)


@pytest.mark.parametrize("alpha", [1.0, 0.125, 0.3])
def test_xnor_scores_count_shared_spikes_and_shared_silence(alpha):
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randint(0, 2, (3, 7, 5), generator=generator).double() for _ in range(3))
    both = q.unsqueeze(2) * k.unsqueeze(1)
    neither = (1 - q).unsqueeze(2) * (1 - k).unsqueeze(1)
    expected = (both + alpha * neither).sum(-1)
    torch.testing.assert_close(alpha * xnor_scores(q, k, alpha), expected)
    for order in ("scores", "context", "auto"):
        torch.testing.assert_close(alpha * xnor_product(q, k, v, alpha, order), expected @ v)


def test_xnor_needs_spikes():
    for neuron in ("relu", {"name": "quantised_relu", "bits": 4}, "integer-lif", "ternary-lif"):
        with pytest.raises(OptionError, match="needs a neuron that sends 0 or 1"):
            network("spikformer", "alpha-xnor", neuron)
    with pytest.raises(OptionError, match="needs a neuron that sends 0 or 1"):
        network("spikformer", "alpha-xnor").twin("relu")
    with pytest.raises(OptionError, match="'ssa' is alpha 0"):
        network("spikformer", {"name": "alpha-xnor", "alpha": 0.0})


@pytest.mark.parametrize("T", [1, 2, 3, 5])
def test_block_sums(T):
    x = torch.arange(1.0, T + 1)
    expected = {1: [1], 2: [3, 3], 3: [3, 3, 3], 5: [3, 3, 7, 7, 5]}[T]
    assert block_sums(x, 2).tolist() == expected


def test_statten_mixes_steps_of_a_block_only():
    attention = network("sdt", "statten", "if").double().blocks[0].attention
    x, seen = stream("sdt"), []
    attention.neuron.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    later = x.clone()
    later[2:] = later[2:].flip(0)
    with torch.no_grad():
        attention(x), attention(later)
    assert torch.equal(seen[0][:2], seen[1][:2])
    last_step = x.clone()
    last_step[1] = -last_step[1]
    with torch.no_grad():
        attention(last_step)
    assert not torch.equal(seen[0][0], seen[2][0])  # step 0 hears step 1


def test_statten_does_not_stream_and_says_so():
    net, x = network("sdt", "statten"), torch.rand(4, 2, 1, 8, 8)
    assert not net.streams
    assert network("sdt", "ssa").streams
    with torch.no_grad():
        whole, state = net.run(x)
        assert torch.equal(whole, net(x))
    with pytest.raises(ShapeError, match="mixes time steps and cannot go on from a state"):
        net.run(x, state)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("plugin", PLUGINS)
def test_gradient_reaches_every_parameter(name, plugin):
    net = network(name, plugin, "plif").train()
    net(torch.rand(4, 8, 1, 8, 8)).square().sum().backward()
    assert [key for key, p in net.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("T", [1, 3, 4])
def test_a_sample_does_not_depend_on_its_batch_mates(name, plugin, T):
    net, x = network(name, plugin), torch.rand(T, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net(x)[:, :1], net(x[:, :1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("plugin", ["a2os2a", "bsa", "statten"])
@pytest.mark.parametrize("neuron", ["relu", {"name": "quantised_relu", "bits": 3}])
def test_conventional_twins(plugin, neuron):
    net = network("spikformer", plugin)
    twin = net.twin(neuron)
    theirs = twin.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in net.state_dict().items())  # lif has no weights
    with torch.no_grad():
        assert twin(torch.rand(1, 2, 1, 8, 8)).isfinite().all()


@pytest.mark.parametrize(("plugin", "place"), [("a2os2a", "value"), ("bsa", "query"), ("bsa", "key")])
def test_operands_with_a_sign(plugin, place):
    """Ternary spikes with the network's own threshold, surrogate and time constant; codes, or nothing, in twins."""
    own = {"name": "lif", "tau": 3.0, "threshold": 0.7, "surrogate": "sigmoid"}
    made = getattr(network("spikformer", plugin, own).blocks[0].attention, place).neuron
    assert (made.registered_name, made.tau, made.threshold) == ("ternary-lif", 3.0, 0.7)
    assert type(made.surrogate).__name__ == "Sigmoid"
    codes = getattr(network("spikformer", plugin, {"name": "quantised_relu", "bits": 3}).blocks[0].attention, place)
    assert (codes.neuron.registered_name, codes.neuron.bits) == ("quantised", 3)
    real = getattr(network("spikformer", plugin, "relu").blocks[0].attention, place)
    assert not any(isinstance(module, Neuron) for module in real.modules())
    itself = getattr(network("spikformer", plugin, "ternary-lif").blocks[0].attention, place).neuron
    assert itself.registered_name == "ternary-lif"


OPERANDS = {
    "a2os2a": {"matmul-1": ("binary", "real"), "matmul-2": ("real", "ternary")},
    "bsa": {"matmul-1": ("ternary", "ternary"), "matmul-2": ("real", "binary")},
    "alpha-xnor": {"matmul-1": ("binary", "binary"), "matmul-2": ("integer", "binary")},
    "statten": {"matmul-1": ("binary", "binary"), "matmul-2": ("binary", "integer")},
}


@pytest.mark.parametrize("plugin", PLUGINS)
def test_operand_classes_in_the_energy_record(plugin):
    part = plugin if plugin == "statten" else {"name": plugin, **({} if plugin == "bsa" else {"order": "scores"})}
    net = network("sdt", part)
    for name, bias in (("query", 0.0), ("key", 0.0), ("value", 0.5)):  # spikes of both signs where there are any
        placed = getattr(net.blocks[0].attention, name)
        norm = placed.layer.norm
        norm.weight.data.fill_(4.0), norm.bias.data.fill_(0.0 if plugin == "a2os2a" else bias)
    record = energy.measure(net, torch.rand(4, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert record.provenance["uncounted"] == {}
    rows = record.layers.set_index("layer")
    for name, operands in OPERANDS[plugin].items():
        row = rows.loc[f"blocks.0.attention.{name}"]
        assert (row["operand"], row["second_operand"]) == operands
    macs = record.operations[record.operations["layer"] == "blocks.0.attention.matmul-1"]
    assert 0 < macs["exact"].sum() < macs["dense"].sum()  # coincidences, not all pairs


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"name": "bsa", "scale": 0.0}, "scale of the attention bsa must be positive"),
        ({"name": "statten", "block": 0}, "block of the attention statten"),
        ({"name": "a2os2a", "scale": 0.1}, "has no option 'scale'"),
        ({"name": "a2os2a", "ternary": "ternry-lif"}, "did you mean 'ternary-lif'"),
        ({"name": "bsa", "ternary": "lif"}, "it sends binary values"),
    ],
)
def test_wrong_options_are_refused(part, words):
    with pytest.raises(StepError, match=words):
        models.create("spikformer", **{**TINY, "attention": part})
