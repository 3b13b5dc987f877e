"""Learning rules: their gradients against autograd and against plain restatements, activity, projections, refusals."""

import copy
import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import neurons
from neurons.errors import OptionError
from step import models
from step.learners.continual import rules
from step.learners.continual.rules.product import Back, product
from step.learners.continual.rules.taps import rows_of

RULES = ["bptt", "ottt", "dsr", "feedback-alignment", "sign-symmetric"]
LABELS = torch.arange(6) % 4


def cross_entropy(outputs):
    return F.cross_entropy(outputs.mean(0), LABELS)


def network(kind="mlp", neuron="lif", **options):
    sizes = {
        "mlp": {"image_size": 4, "hidden": [9, 8], "norm": False, "bias": False},
        "cnn": {"image_size": 8, "widths": [5, 6], "channels": 2},
        "resnet": {"image_size": 8, "width": 4, "depths": [1, 1], "channels": 2, "stem_kernel": 3, "stem_stride": 2},
        "spikformer": {
            "image_size": 8,
            "channels": 2,
            "dim": 16,
            "depth": 1,
            "heads": 2,
            "pools": [False, True, False, False],
        },
    }
    if neuron == "lif":
        neuron = {"name": "lif", "threshold": 0.2}
    return models.create(kind, **{**sizes[kind], "classes": 4, **options}, neuron=neuron, seed=1).double()


def images(kind="mlp", T=5, *, constant=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 4, 4) if kind == "mlp" else (2, 8, 8)
    if constant:
        x = torch.rand(6, *shape, generator=generator, dtype=torch.float64) * 2
        return x.expand(T, *x.shape)
    return (torch.rand(T, 6, *shape, generator=generator, dtype=torch.float64) < 0.4).double() * 2


def rule(name, net, **options):
    return rules.create(name, net, rules.protected_layers(net, True), **options)


def gradients(net):
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def by_rule(name, net, x, loss=cross_entropy, *, options=None, **more):
    net = copy.deepcopy(net)
    result = rule(name, net, **(options or {})).gradients(x, loss, **more)
    return gradients(net), result


def by_autograd(net, x):
    net = copy.deepcopy(net)
    outputs = net(x)
    cross_entropy(outputs).backward()
    return gradients(net), outputs


def neuron_for(name):
    return {"name": "dsr-lif", "dt": 0.3} if name == "dsr" else "lif"


def same(found, right, near=1e-9):
    assert set(found) == set(right)
    for name, value in right.items():
        torch.testing.assert_close(
            found[name], value, rtol=near, atol=near * float(value.abs().max()), msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("kind", ["mlp", "cnn", "resnet", "spikformer"])
@pytest.mark.parametrize("projected", [False, True])
def test_bptt_is_autograd(kind, projected):
    """The second time through the products that projections need, with a projection that changes nothing."""
    net, x = network(kind), images(kind, T=3)
    project = {path: lambda r: r for path in rules.protected_layers(net, True)} if projected else None
    found, result = by_rule("bptt", net, x, project=project)
    right, outputs = by_autograd(net, x)
    same(found, right)
    assert float(found["layers.1.linear.weight" if kind == "mlp" else next(iter(found))].abs().sum()) > 0
    torch.testing.assert_close(result.outputs, outputs.detach())
    torch.testing.assert_close(result.loss, cross_entropy(outputs).detach())


@pytest.mark.parametrize("constant", [True, False])
def test_activity_of_bptt_is_what_the_layers_see(constant):
    net = network()
    _, result = by_rule("bptt", net, images(constant=constant), taps=True)
    first, second, last = result.activity.values()
    assert first.shape == ((6 if constant else 30), 16)
    assert second.shape == (30, 9)
    assert last.shape == (30, 8)
    assert set(second.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(result.outputs, (last @ net.layers[-1].weight.T).view(5, 6, 4))


def test_a_constant_input_is_found_out_where_every_step_has_memory_of_its_own():
    for name in ("bptt", "ottt", "dsr"):
        net, x = network(neuron=neuron_for(name)), images(T=3)
        found, one = by_rule(name, net, x, taps=True)
        again, two = by_rule(name, net, x.contiguous(), taps=True)
        same(again, found)
        assert next(iter(one.activity.values())).shape == next(iter(two.activity.values())).shape == (6, 16)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"stride": 2, "padding": (0, 1)},
        {"dilation": 2, "padding": "same"},
        {"padding": 1, "padding_mode": "circular", "stride": (1, 2)},
    ],
)
def test_patches_times_the_weights_are_the_convolution(options):
    layer = nn.Conv2d(2, 3, (3, 2), bias=False, **options).double()
    x = torch.randn(4, 2, 7, 6, dtype=torch.float64)
    rows = rows_of(layer, x)
    right = layer(x)
    torch.testing.assert_close(rows @ layer.weight.flatten(1).T, right.permute(0, 2, 3, 1).flatten(0, 2))
    drawn = rows_of(layer, x, 17, torch.Generator().manual_seed(3))
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(3))[:17]
    assert torch.equal(drawn, rows[chosen])


def test_rows_are_drawn_by_the_generator_that_is_kept_in_the_state():
    net, x = network("cnn"), images("cnn", T=2)
    drawn = rule("bptt", net, rows=50, seed=4)
    drawn.gradients(x, cross_entropy)
    kept = {key: value.clone() for key, value in drawn.state_dict().items()}
    first = drawn.gradients(x, cross_entropy, taps=True).activity
    assert {len(rows) for rows in list(first.values())[:-1]} == {50}
    second = drawn.gradients(x, cross_entropy, taps=True).activity
    drawn.load_state_dict(kept)
    again = drawn.gradients(x, cross_entropy, taps=True).activity
    assert all(torch.equal(first[path], again[path]) for path in first)
    assert not all(torch.equal(first[path], second[path]) for path in first)


@pytest.mark.parametrize("kind", ["mlp", "cnn", "spikformer"])
def test_one_step_online_is_one_step_through_time(kind):
    net, x = network(kind), images(kind, T=1)
    same(by_rule("ottt", net, x)[0], by_rule("bptt", net, x)[0])


@pytest.mark.parametrize("constant", [True, False])
def test_ottt_is_its_equations(constant):
    """Two hidden layers in a plain loop: v = (1 - 1/tau) v + i / tau, soft reset, traces, error of the step alone."""
    tau, threshold = 2.5, 0.4
    net = network(neuron={"name": "lif", "tau": tau, "threshold": threshold, "reset": "soft", "surrogate": "sigmoid"})
    x = images(constant=constant)
    found, result = by_rule("ottt", net, x, taps=True)
    w1, w2, w3 = (p.detach() for p in net.parameters())
    right = [torch.zeros_like(w) for w in (w1, w2, w3)]
    v1, v2, a0, a1, a2 = (torch.zeros(6, n, dtype=torch.float64) for n in (9, 8, 16, 9, 8))
    losses = 0.0
    for x_t in x.flatten(2):
        h1 = (1 - 1 / tau) * v1 + x_t @ w1.T / tau
        s1 = (h1 >= threshold).double()
        v1 = h1 - threshold * s1
        h2 = (1 - 1 / tau) * v2 + s1 @ w2.T / tau
        s2 = (h2 >= threshold).double()
        v2 = h2 - threshold * s2
        y = s2 @ w3.T
        a0 = x_t if constant else (1 - 1 / tau) * a0 + x_t
        a1, a2 = (1 - 1 / tau) * a1 + s1, (1 - 1 / tau) * a2 + s2
        losses += float(F.cross_entropy(y, LABELS)) / len(x)
        d3 = (y.softmax(-1) - F.one_hot(LABELS, 4)) / 6 / len(x)
        p2, p1 = torch.sigmoid(4 * (h2 - threshold)), torch.sigmoid(4 * (h1 - threshold))
        d2 = d3 @ w3 * 4 * p2 * (1 - p2) / tau
        d1 = d2 @ w2 * 4 * p1 * (1 - p1) / tau
        for total, delta, trace in zip(right, (d1, d2, d3), (a0, a1, a2), strict=True):
            total += delta.T @ trace
    assert all(float(value.abs().max()) > 0 for value in right)
    same(found, dict(zip(found, right, strict=True)), near=1e-6)  # a fused loop rounds its sigmoid otherwise
    assert float(result.loss) == pytest.approx(losses)
    rows = list(result.activity.values())
    assert rows[0].shape == ((6 if constant else 30), 16)
    torch.testing.assert_close(rows[1][-6:], a1)
    torch.testing.assert_close(rows[2][-6:], a2)


def most_saved(name, T):
    """Return the largest number of values that autograd holds at a time."""
    alive, peak = weakref.WeakSet(), [0]

    class Held:
        def __init__(self, tensor):
            self.tensor = tensor

    def pack(tensor):
        held = Held(tensor)
        alive.add(held)
        peak[0] = max(peak[0], sum(h.tensor.numel() for h in alive))
        return held

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
        rule(name, network("cnn")).gradients(images("cnn", T=T), cross_entropy)
    return peak[0]


def test_ottt_keeps_no_more_for_more_steps():
    assert 0 < most_saved("ottt", 9) <= most_saved("ottt", 2)
    assert most_saved("bptt", 9) > 3 * most_saved("bptt", 2)


def test_the_optimiser_may_step_while_ottt_is_under_way():
    net = network()
    before = copy.deepcopy(net.state_dict())
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    steps = 0
    for result in rule("ottt", net).online(images(), cross_entropy):
        assert result.outputs.shape == (1, 6, 4)
        optimiser.step()
        optimiser.zero_grad()
        steps += 1
    assert steps == 5
    assert all(not torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("kind", ["mlp", "resnet", "cnn"])
def test_layers_with_a_constant_input_run_once_and_learn_the_same(kind):
    """All at once, and step by step; two of them in the cnn, with a norm in training mode between."""
    net, x = network(kind), images(kind, T=3)
    if kind == "cnn":
        net.layers[1] = nn.Identity()
    made, stepped = rule("ottt", net), copy.deepcopy(net)
    made.gradients(x, cross_entropy)
    for _ in rule("ottt", stepped).online(x, cross_entropy):
        pass
    same(gradients(net), gradients(stepped))
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), stepped.buffers(), strict=True))


def test_each_trace_decays_as_the_neuron_behind_it():
    net = network(neuron={"name": "plif", "tau": 3.0})
    with torch.no_grad():
        net.layers[2].w.fill_(0.0)  # sigmoid 0.5
    found = rule("ottt", net)._decays()
    assert [round(value, 6) for value in found.values()] == [0.5, round(2 / 3, 6), round((0.5 + 2 / 3) / 2, 6)]
    assert set(rule("ottt", net, tau=4.0)._decays().values()) == {0.75}


@pytest.mark.parametrize(
    "neuron", ["if", "lif", "plif", "alif", "recurrent-lif", "dense-recurrent-lif", "clif", "cuba"]
)
def test_ottt_takes_any_neuron_with_a_state(neuron):
    kind = "resnet" if neuron in ("if", "dense-recurrent-lif") else "mlp"
    net, x = network(kind, neuron=neuron), images(kind, constant=False)
    found, _ = by_rule("ottt", net, x)
    assert set(found) == {name for name, _ in net.named_parameters()}
    assert all(value.isfinite().all() for value in found.values())


def plain_dsr(w1, w2, x, V, tau, dt, alpha):
    """One hidden layer by the equations of Meng et al., number by number."""
    T, B = x.shape[:2]
    w = [math.exp(-(T - i) * dt / tau) for i in range(1, T + 1)]
    beta = math.exp(-dt / tau)
    spikes = torch.zeros(T, B, len(w1), dtype=torch.float64)
    a = torch.zeros(B, len(w1), dtype=torch.float64)
    for b in range(B):
        for n in range(len(w1)):
            m = 0.0
            for t in range(T):
                current = float(w1[n] @ x[t, b])
                a[b, n] += w[t] * current / sum(w)
                m = beta * m + (1 - beta) * current
                if m >= alpha * V:
                    m -= V
                    spikes[t, b, n] = V / dt
    out = sum(w[t] * spikes[t] @ w2.T for t in range(T)) / sum(w)
    dout = (out.softmax(-1) - F.one_hot(LABELS[:B], len(w2))) / B
    dw1, dw2, mean = torch.zeros_like(w1), torch.zeros_like(w2), torch.zeros_like(a)
    for t in range(T):
        d = w[t] / sum(w) * dout
        dw2 += d.T @ spikes[t]
        mean += w[t] / sum(w) * (d @ w2)
    g = T * mean
    moves = (a > 0) & (a < V * tau / dt)
    for t in range(T):
        dw1 += (g / tau / T * moves).T @ x[t]
    dV = dt * float((g * (a > V * tau / dt)).sum())
    rates = sum(w[t] * spikes[t] for t in range(T)) / sum(w)
    return out, dw1, dw2, dV, rates, moves


@pytest.mark.parametrize("constant", [True, False])
def test_dsr_is_its_equations(constant):
    options = {"tau": 1.2, "dt": 0.1, "threshold": 0.3, "alpha": 0.4, "learn_threshold": True}
    net = network(hidden=[7], neuron={"name": "dsr-lif", **options})
    w1, w2 = net.layers[1].linear.weight, net.layers[-1].weight
    with torch.no_grad():
        w1.mul_(8)  # some neurons silent, some saturated
    x = images(T=12, constant=constant)
    found, result = by_rule("dsr", net, x, taps=True)
    threshold = net.layers[2].threshold
    out, dw1, dw2, dV, rates, moves = plain_dsr(w1.detach(), w2.detach(), x.flatten(2), threshold.item(), 1.2, 0.1, 0.4)
    assert moves.any()
    assert not moves.all()
    assert dV != 0
    torch.testing.assert_close(result.outputs[0], out)
    assert float(result.loss) == pytest.approx(float(F.cross_entropy(out, LABELS)))
    same(
        found,
        {
            "layers.1.linear.weight": dw1,
            "layers.2.threshold": torch.tensor(dV, dtype=torch.float64),
            "layers.3.weight": dw2,
        },
    )
    first, last = result.activity.values()
    assert first.shape == (6, 16)
    torch.testing.assert_close(last, rates)
    assert by_rule("dsr", net, x, taps=True, options={"activity": "spikes"})[1].activity["layers.3"].shape == (72, 7)
    torch.testing.assert_close(rule("dsr", net).readout(net(x)), out)


@pytest.mark.parametrize(("kind", "mode"), [("mlp", True), ("cnn", True), ("cnn", False), ("resnet", False)])
def test_dsr_takes_one_step_where_the_error_is_the_same_at_all(kind, mode):
    """Against autograd through the same neurons, with norms that depend on time (training) and that do not."""
    net, x = network(kind, neuron={"name": "dsr-lif", "dt": 0.3}).train(mode), images(kind, constant=False)
    plain = copy.deepcopy(net)
    neuron = next(n for _, n in neurons.neurons_in(plain))
    cross_entropy(neuron.rate(plain(x))[None]).backward()
    same(by_rule("dsr", net, x)[0], gradients(plain))


def test_the_same_error_at_all_steps_is_one_small_product(monkeypatch):
    from step.learners.continual.rules import product as products

    seen = []
    right = products._weight_gradient
    monkeypatch.setattr(products, "_weight_gradient", lambda *a: seen.append(len(a[1])) or right(*a))
    by_rule("dsr", network(hidden=[9, 8], neuron="dsr-lif"), images(constant=False))
    assert seen == [5, 6, 6]  # the read-out, whose steps are weighted, by time step; hidden layers by sample


def test_the_if_of_dsr_is_its_equations():
    neuron = neurons.DSRIF(threshold=0.8, alpha=0.5, learn_threshold=True).double()
    x = (torch.randn(9, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.6).requires_grad_()
    y = neuron(x)
    weights = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (y * weights).sum().backward()
    a, g = x.detach().mean(0), weights.sum(0)
    gate = (a >= 0) & (a <= neuron.threshold.item())
    assert gate.any()
    assert (a > neuron.threshold.item()).any()
    torch.testing.assert_close(x.grad, (g / 9 * gate).expand(9, 4, 5))
    assert neuron.threshold.grad.item() == pytest.approx(float((g * (a > neuron.threshold.item())).sum()))
    v, expected = torch.zeros(4, 5, dtype=torch.float64), []
    for x_t in x.detach():
        v = v + x_t
        s = (v >= 0.5 * neuron.threshold.item()).double()
        v = v - neuron.threshold.item() * s
        expected.append(s * neuron.threshold.item())
    torch.testing.assert_close(y.detach(), torch.stack(expected))


def test_a_learned_threshold_stops_at_its_floor():
    neuron = neurons.DSRLIF(learn_threshold=True)
    with torch.no_grad():
        neuron.threshold.fill_(-1.0)
    x = torch.full((4, 1, 1), 100.0)
    assert neuron.level.item() == pytest.approx(0.0005)
    assert neuron(x).max().item() == pytest.approx(0.0005 / 0.05)
    neuron(x).sum().backward()
    assert neuron.threshold.grad.item() == 0


def hand(net, x, back):
    """Return the gradients of one time step of a LIF network with other weights on the way back."""
    w1, w2, w3 = (p.detach() for p in net.parameters())
    b2, b3 = back
    neuron = net.layers[2]
    x = x[0].flatten(1)
    h1 = x @ w1.T / neuron.tau
    s1 = (h1 >= neuron.threshold).double()
    h2 = s1 @ w2.T / neuron.tau
    s2 = (h2 >= neuron.threshold).double()
    d3 = ((s2 @ w3.T).softmax(-1) - F.one_hot(LABELS, 4)) / 6
    d2 = d3 @ b3 * neuron.surrogate.derivative(h2 - neuron.threshold) / neuron.tau
    d1 = d2 @ b2 * neuron.surrogate.derivative(h1 - neuron.threshold) / neuron.tau
    return [d1.T @ x, d2.T @ s1, d3.T @ s2]


@pytest.mark.parametrize("through", ["bptt", "ottt"])
@pytest.mark.parametrize("name", ["feedback-alignment", "sign-symmetric"])
def test_feedback_goes_through_other_weights(name, through):
    net, x = network(), images(T=1)
    made = rule(name, net, through=through, seed=7)
    if name == "sign-symmetric":
        w2, w3 = list(net.parameters())[1:]
        back = [w2.detach().sign() / 3, w3.detach().sign() / math.sqrt(8)]
    else:
        again = rule(name, net, seed=7).feedback
        assert all(torch.equal(value, again[path]) for path, value in made.feedback.items())
        assert float(made.feedback["layers.3.linear"].abs().max()) <= 1 / math.sqrt(9)
        back = list(made.feedback.values())[1:]
    net.zero_grad()
    made.gradients(x, cross_entropy)
    same(gradients(net), dict(zip(gradients(net), hand(net, x, back), strict=True)))


def test_feedback_of_convolutions_and_its_state():
    net, x = network("cnn"), images("cnn", T=2)
    made = rule("feedback-alignment", net, seed=1)
    other = rule("feedback-alignment", net, seed=2)
    layer = net.layers[3].conv
    expected = layer.weight.detach().sign() * math.sqrt(2 / (9 * 6))
    torch.testing.assert_close(rule("sign-symmetric", net).error_weight("layers.3.conv", layer), expected)
    # with the forward weights as feedback weights, both are backpropagation
    made.feedback = {path: layer.weight.detach() for path, layer in made.every.items()}
    net.zero_grad()
    made.gradients(x, cross_entropy)
    same(gradients(net), by_rule("bptt", net, x)[0])
    other.load_state_dict(made.state_dict())
    assert all(torch.equal(value, made.feedback[path]) for path, value in other.feedback.items())


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("kind", ["mlp", "resnet"])
@pytest.mark.parametrize("name", RULES)
def test_projecting_the_input_is_projecting_the_gradient(name, kind, constant):
    """Linear layers, and convolutions with stride and padding; biases, norms and other layers are left alone."""
    net, x = network(kind, neuron=neuron_for(name)), images(kind, T=3, constant=constant)
    layers = rules.protected_layers(net, True)
    generator = torch.Generator().manual_seed(5)
    bases = {}
    for path, layer in layers.items():
        n = layer.weight[0].numel()
        bases[path] = torch.linalg.qr(torch.randn(n, n // 2, generator=generator, dtype=torch.float64))[0]
    project = {path: lambda r, h=h: r - (r @ h) @ h.T for path, h in bases.items()}
    found, _ = by_rule(name, net, x, project=project)
    right, _ = by_rule(name, net, x)
    moved = 0
    for path, h in bases.items():
        g = right[f"{path}.weight"].flatten(1)
        moved += float((g @ h).abs().max()) > 1e-6
        right[f"{path}.weight"] = (g - (g @ h) @ h.T).view_as(right[f"{path}.weight"])
    assert moved > len(layers) / 2
    same(found, right, near=1e-5)


@pytest.mark.parametrize("name", sorted(set(RULES) - {"dsr"}))  # rates span less than the spikes of all steps
def test_activity_is_what_the_weight_gradient_is_made_of(name):
    """No gradient is left where the space that all activity lies in is taken out."""
    net, x = network(), images(constant=False)
    before, result = by_rule(name, net, x, taps=True)
    project = {}
    for path, rows in result.activity.items():
        _, size, directions = torch.linalg.svd(rows, full_matrices=False)
        h = directions[size > 1e-9 * size[0]]
        project[path] = lambda r, h=h: r - (r @ h.T) @ h
    after, _ = by_rule(name, net, x, project=project)
    assert all(float(after[key].abs().max()) < 1e-9 < float(before[key].abs().max()) for key in before)


@pytest.mark.parametrize("form", ["plain", "trace", "projected", "steps"])
@pytest.mark.parametrize(
    "options", [{"padding": "same", "dilation": 2}, {"padding": 1, "padding_mode": "circular", "stride": 2}]
)
def test_other_paddings_go_back_as_in_autograd(options, form):
    layer = nn.Conv2d(2, 3, (3, 2), **options).double()
    x = torch.randn(6, 2, 6, 5, dtype=torch.float64).requires_grad_()
    delta = torch.randn(layer(x).shape, dtype=torch.float64)
    if form == "steps":
        delta = delta[:2].repeat(3, 1, 1, 1)
    leaves = [x, layer.weight, layer.bias]
    back = {
        "plain": Back(),
        "trace": Back(presynaptic=2 * x.detach()),
        "projected": Back(project=lambda r: 2 * r),
        "steps": Back(steps=3),
    }[form]
    right = torch.autograd.grad(layer(x), leaves, delta)
    found = torch.autograd.grad(product(layer, x, back), leaves, delta)
    factor = 2 if form in ("trace", "projected") else 1
    for one, other, times in zip(found, right, (1, factor, 1), strict=True):
        torch.testing.assert_close(one, times * other)


@pytest.mark.parametrize("name", RULES)
def test_the_network_is_left_as_it_was(name):
    net = network("cnn", neuron=neuron_for(name))
    before = {path: set(vars(module)) for path, module in net.named_modules()}
    weights = copy.deepcopy(net.state_dict())
    x = images("cnn", T=2)
    made = rule(name, net)
    with pytest.raises(ZeroDivisionError):
        made.gradients(x, lambda outputs: 1 / 0)
    made.gradients(x, cross_entropy, taps=True)
    assert before == {path: set(vars(module)) for path, module in net.named_modules()}
    assert net.training
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items() if k.endswith("weight"))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_gradients_add_up():
    net, x = network(), images()
    once, _ = by_rule("bptt", net, x)
    made = rule("bptt", net)
    for _ in range(2):
        made.gradients(x, cross_entropy)
    same(gradients(net), {name: 2 * value for name, value in once.items()})


def test_protected_are_layers_outside_neurons_and_a_shared_readout():
    net = network("cnn", neuron="dense-recurrent-lif")
    assert list(rules.protected_layers(net, True)) == ["layers.0.conv", "layers.3.conv", "layers.7"]
    assert list(rules.protected_layers(net, False)) == ["layers.0.conv", "layers.3.conv"]
    assert rules.readout_path(network("spikformer")).startswith("head")


@pytest.mark.parametrize(
    ("name", "neuron", "options", "words"),
    [
        ("ottt", {"name": "psn", "T": 5}, {}, "'psn' .* all time steps at once; use bptt"),
        ("ottt", "relu", {}, "'relu' .* has none; use bptt"),
        ("ottt", "dsr-lif", {}, "'dsr-lif' .* whole sequences; use dsr"),
        ("ottt", {"name": "elm", "memory": 4}, {}, "'elm' .* no leak .* tau"),
        ("dsr", "lif", {}, "'lif' .* use bptt"),
        ("feedback-alignment", "relu", {"through": "ottt"}, "has none; use bptt"),
        ("sign-symmetric", "lif", {"through": "dsr"}, "'lif' .* use bptt"),
    ],
)
def test_neurons_that_a_rule_cannot_train_are_refused(name, neuron, options, words):
    made = rule(name, network(neuron=neuron), **options)
    for call in (made.check, lambda: made.gradients(images(), cross_entropy)):
        with pytest.raises(OptionError, match=words) as refusal:
            call()
        assert "\n" not in str(refusal.value)


def test_wrong_layers_and_options_are_refused():
    net = network()
    with pytest.raises(OptionError, match="tau of rule 'ottt'"):
        rule("ottt", net, tau=1.0)
    with pytest.raises(OptionError, match="not of 'bptt'"):
        rule("sign-symmetric", net, tau=2.0)
    with pytest.raises(OptionError, match="through of rule 'sign-symmetric' is one of bptt, ottt, dsr"):
        rule("sign-symmetric", net, through="stdp")
    with pytest.raises(OptionError, match="no option 'row'; did you mean 'rows'"):
        rule("bptt", net, row=3)
    with pytest.raises(OptionError, match="rows of rule 'bptt'"):
        rule("bptt", net, rows=0)
    with pytest.raises(OptionError, match="is a ReLU; protected are"):
        rules.create("bptt", net, {"layers.0": nn.ReLU()})
    with pytest.raises(OptionError, match="not that of its network"):
        rules.create("bptt", net, {"layers.1.linear": nn.Linear(2, 2)}).check()
    with pytest.raises(OptionError, match=r"'layers\.9' is no protected layer"):
        rule("bptt", net).gradients(images(), cross_entropy, project={"layers.9": lambda r: r})
    net.unused = nn.Linear(3, 3)
    with pytest.raises(OptionError, match="'unused' was not called"):
        rule("bptt", net).gradients(images(), cross_entropy, taps=True)


def test_layers_that_compute_more_than_a_product_are_refused():
    from step.models.transformer.quantised import QuantisedLinear

    net = network()
    net.layers[1].linear = QuantisedLinear(nn.Linear(16, 9), bits=4).double()
    rule("bptt", net).gradients(images(), cross_entropy)
    with pytest.raises(OptionError, match=r"'layers\.1\.linear' is a QuantisedLinear"):
        rule("ottt", net).check()
