"""What holds for every model that is registered: properties of the pass forward, of training and of what is kept."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo import CASES, CLASSES, NAMES, SPIKING, has_depth, images, network, options

from neurons import Neuron
from neurons.errors import ShapeError
from neurons.plain import plain
from step import models
from step.learners.config import SurrogateGradientConfig
from step.learners.surrogate_gradient import SurrogateGradient

CASE = pytest.mark.parametrize(("name", "neuron"), CASES, ids=lambda value: value if isinstance(value, str) else "")


@CASE
@pytest.mark.parametrize("T", [1, 2, 3, 4, 8])
def test_a_sample_does_not_depend_on_its_batch_mates(name, neuron, T):
    net = network(name, neuron, T).double()
    x = images(T, 6, dtype=torch.float64)
    others = x.clone()
    others[:, 1:] = images(T, 5, seed=1, dtype=torch.float64)
    with torch.no_grad():
        together, alone, elsewhere = net(x), net(x[:, :1]), net(others)
    assert together.shape == (T, 6, CLASSES)
    torch.testing.assert_close(alone[:, 0], together[:, 0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(elsewhere[:, 0], together[:, 0], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(together[:, :1], together)  # what is the same for all images would pass too


@CASE
@pytest.mark.parametrize(("size", "channels", "deeper"), [(8, 2, 0), (12, 1, 1), (28, 1, 0), (28, 2, 2), (32, 3, 0)])
def test_image_sizes_channels_and_depths(name, neuron, size, channels, deeper):
    key = has_depth(name)
    depth = models.models.get(name).Config.SIZES["digits"][key]
    depth = depth + deeper if isinstance(depth, int) else tuple(d + deeper for d in depth)
    made = options(name, 2, image_size=size, channels=channels, **{key: depth})
    net = models.create(name, neuron=neuron, seed=0, **made)
    least = models.create(name, neuron=neuron, **options(name, 2, image_size=size, channels=channels))
    assert (net.parameter_count > least.parameter_count) == (deeper > 0)
    y = net(images(2, 2, channels=channels, size=size))
    assert y.shape == (2, 2, CLASSES)
    assert y.isfinite().all()
    with pytest.raises(ShapeError) as caught:
        net(images(2, 2, channels=channels, size=size + 1))
    assert "\n" not in str(caught.value)


def _shifts(net):
    """Names of the biases whose gradient is zero by the equations, so that what comes out is rounding."""
    # A batch norm takes the mean away, and softmax what is the same for all keys.
    names = {f"{path}.layer.linear.bias" for path, _ in net.named_modules() if path.endswith("attention.1.key")}
    for path, module in net.named_modules():
        for name, layer in module.named_children():
            if name in ("conv", "linear", "shared") and _has_norm(module) and layer.bias is not None:
                names.add(f"{path}.{name}.bias")
    return names


def _has_norm(module):
    return any(isinstance(child, nn.modules.batchnorm._BatchNorm) for child in module.modules())


@CASE
def test_one_step_of_training_reaches_every_parameter(name, neuron):
    net = network(name, neuron).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    y = net(images(4, 8))
    F.cross_entropy(y.mean(0), torch.arange(8)).backward()
    gradients = {key: p.grad for key, p in net.named_parameters() if p.requires_grad}
    assert [key for key, gradient in gradients.items() if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert [key for key, gradient in gradients.items() if not gradient.any() and key not in _shifts(net)] == []
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    after = net.state_dict()
    same = [key for key in gradients if torch.equal(before[key], after[key]) and key not in _shifts(net)]
    # A gradient of a step size can be lost in the rounding of its value.
    assert [key for key in same if not key.endswith("step_size")] == []


@CASE
def test_weights_are_saved_and_loaded(name, neuron, tmp_path):
    net, x = network(name, neuron), images()
    fresh = models.create(name, neuron=neuron, seed=7, **options(name))
    learner = SurrogateGradient(fresh, SurrogateGradientConfig())
    with torch.no_grad():
        want = net(x)
        assert not torch.allclose(fresh.eval()(x), want)
        copied = models.create(name, neuron=neuron, seed=8, **options(name))
        copied.load_state_dict(net.state_dict())
        torch.testing.assert_close(copied.eval()(x), want, rtol=0, atol=0)
    SurrogateGradient(copy.deepcopy(net), SurrogateGradientConfig()).save(tmp_path / "weights.safetensors")
    learner.load(tmp_path / "weights.safetensors")
    torch.testing.assert_close(learner.predict(x), want, rtol=1e-4, atol=1e-4)  # channels last: sums in another order
    saved, loaded = net.state_dict(), fresh.state_dict()
    assert list(saved) == list(loaded)
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)


TWINS = ["relu", {"name": "quantised_relu", "bits": 3}]


@pytest.mark.parametrize("neuron", TWINS, ids=["relu", "quantised"])
@pytest.mark.parametrize("name", SPIKING)
def test_twins_have_the_weights_and_run_one_step(name, neuron):
    net = network(name)
    twin = net.twin(neuron).train()  # the statistics of spikes are not those of reals
    x = images(1, 8)
    y = twin(x)
    assert y.shape == (1, 8, CLASSES)
    assert y.isfinite().all()
    assert float(y.detach().std(1).min()) > 0
    kinds = {type(m).__name__ for m in twin.modules() if isinstance(m, Neuron)}
    assert "LIF" not in kinds
    own = dict(twin.named_parameters())
    shared = [key for key in dict(net.named_parameters()) if key in own]
    assert len(shared) > 10
    assert all(torch.equal(own[key], p) for key, p in net.named_parameters() if key in own)
    F.cross_entropy(y[0], torch.arange(8)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in own.values())


def test_twins_of_other_weights_are_refused():
    class Moody(models.models.get("mlp")):
        """Has one more layer with some neurons."""

        def __init__(self, config, neuron):
            super().__init__(config, neuron)
            if neuron.name == "relu":
                self.more = nn.Linear(2, 2)

    from neurons import factory

    net = Moody(Moody.Config(), factory("lif"))
    assert net.twin("plif").neuron.name == "plif"  # its own parameters are no other weights
    with pytest.raises(ShapeError, match=r"relu has other weights: missing \['more.bias', 'more.weight'\]"):
        net.twin("relu")


def test_twins_of_quantised_weights_keep_weights_and_not_their_steps():
    net = network("vit", {"name": "quantised_relu", "bits": 4})
    for neuron in ("gelu", {"name": "quantised_relu", "bits": 2}):
        twin = net.twin(neuron)
        weights = dict(twin.named_parameters())
        assert all(torch.equal(weights[key], p) for key, p in net.named_parameters() if key.endswith(".weight"))


@CASE
def test_streamed_halves_are_the_whole_or_refused(name, neuron):
    net = network(name, neuron).double()
    x = images(4, 2, dtype=torch.float64)
    with torch.no_grad():
        whole = net(x)
        if not net.streams:
            # What mixes time steps is a whole of all of them: it says so instead of going on.
            state = {path: {} for path, module in net.named_modules() if isinstance(module, Neuron)}
            with pytest.raises(ShapeError, match="mixes time steps") as caught:
                net.run(x[2:], state)
            assert "\n" not in str(caught.value)
            return
        first, state = net.run(x[:2])
        second, _ = net.run(x[2:], state)
        again, _ = net.run(x[:2])
    torch.testing.assert_close(torch.cat((first, second)), whole, rtol=1e-9, atol=1e-9)
    assert torch.equal(again, first)  # nothing was kept


@pytest.mark.parametrize("name", SPIKING)
def test_models_that_do_not_stream_mix_steps_and_others_are_causal(name):
    net = network(name).double()
    x = images(4, 2, dtype=torch.float64)
    later = x.clone()
    later[2:] = images(2, 2, seed=1, dtype=torch.float64)
    with torch.no_grad():
        before, after = net(x), net(later)
    assert not torch.allclose(before[2:], after[2:])
    if net.streams:
        torch.testing.assert_close(before[:2], after[:2], rtol=1e-9, atol=1e-9)


@CASE
def test_folded_networks_equal_the_network(name, neuron):
    net = network(name, neuron).double()
    folded = net.folded()
    norms = [sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in n.modules()) for n in (net, folded)]
    if not (isinstance(neuron, dict) and neuron["name"] == "quantised_relu"):  # codes are left on their grid
        assert norms[1] < norms[0]
    x = images(dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), net(x), rtol=1e-6, atol=1e-6)


@CASE
def test_the_fast_form_equals_the_plain_one(name, neuron):
    net, x = network(name, neuron), images()
    with torch.no_grad():
        fast = net(x)
        with plain():
            torch.testing.assert_close(fast, net(x), rtol=1e-4, atol=1e-4)
    learning = copy.deepcopy(net).train()
    with plain():
        want = net.train()(x)
    torch.testing.assert_close(learning(x), want, rtol=1e-4, atol=1e-4)


def test_all_transformers_are_here():
    assert len(NAMES) >= 14
    assert {"vit"} == set(NAMES) - set(SPIKING)
