"""Options of training: each against its formula written out."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

import encoders
from benchmarks import datasets, protocols
from benchmarks.protocols import Setting
from benchmarks.protocols.objective import ClassObjective
from neurons.errors import OptionError
from step import models
from step.learners import SurrogateGradient, TrainingError
from step.learners.averaging import WeightAverage
from step.learners.lamb import Lamb
from step.learners.loss import supervised_loss
from step.learners.optimiser import create_optimiser, depths, parameter_groups
from step.learners.recompute import recomputed
from step.learners.schedule import learning_rate
from step.learners.surrogate_gradient import Asked, parts

TINY = {"image_size": 8, "channels": 1, "dim": 16, "depth": 2, "heads": 2, "mlp_ratio": 1.0}
Config = SurrogateGradient.Config


def network(neuron="plif", seed=0, **options):
    return models.create("spikformer", neuron=neuron, seed=seed, **{**TINY, **options})


def mean(outputs):
    return outputs.mean(0)


def gradient(learner, x, labels):
    loss = learner._gradient(Asked(x, labels), ClassObjective())
    return float(loss), {name: p.grad.clone() for name, p in learner.network.named_parameters() if p.grad is not None}


def batch(count=8, T=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(T, count, 1, 8, 8, generator=generator), torch.arange(count) % 10


# Learning rate


def test_cosine_warms_up_from_its_start_and_cools_down():
    c = Config(epochs=10, warmup=2, lr=1.0, min_lr=0.1, warmup_lr=0.2, cooldown=3)
    assert c.all_epochs == 13
    assert learning_rate(c, 1) == pytest.approx(0.6)
    assert learning_rate(c, 2) == 1.0
    assert learning_rate(c, 6) == pytest.approx(0.55)
    assert learning_rate(c, 4) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 2 / 8)) / 2)
    assert [learning_rate(c, p) for p in (10, 11.5, 13)] == pytest.approx([0.1, 0.1, 0.1])
    assert learning_rate(Config(epochs=10, warmup=2, lr=1.0), 1) == 0.5


def test_step_and_constant_schedules():
    c = Config(epochs=10, warmup=0, lr=1.0, schedule="step", decay_epochs=3, decay_rate=0.5)
    assert [learning_rate(c, p) for p in (0.5, 3, 3.01, 6, 6.5, 10)] == [1, 1, 0.5, 0.5, 0.25, 0.125]
    c = Config(epochs=10, warmup=1, lr=1.0, schedule="constant")
    assert [learning_rate(c, p) for p in (0.5, 1, 10)] == [0.5, 1, 1]


# Optimisers


def test_norms_biases_and_neurons_do_not_decay():
    made = network()
    decayed, free = parameter_groups(made, Config(weight_decay=0.1))
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert all(p.dim() >= 2 for p in decayed["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(made.parameters()))


def test_layers_learn_slower_the_deeper_they_lie():
    made = network()
    found = depths(made)
    names = {name: found[p] for name, p in made.named_parameters()}
    assert {d for n, d in names.items() if n.startswith("embedding")} == {0}
    assert {d for n, d in names.items() if n.startswith("blocks.0.")} == {1}
    assert {d for n, d in names.items() if n.startswith("blocks.1.")} == {2}
    assert {d for n, d in names.items() if n.startswith("head")} == {3}
    groups = parameter_groups(made, Config(layer_decay=0.5))
    scales = {p: group["scale"] for group in groups for p in group["params"]}
    assert all(scales[p] == 0.5 ** (3 - found[p]) for p in made.parameters())
    assert len(scales) == len(list(made.parameters()))


def test_what_lies_between_two_blocks_goes_with_the_one_behind_it():
    class Stages(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.first, self.between, self.second = (nn.Linear(2, 2) for _ in range(4))
            self.head = nn.Linear(2, 2)

        def segments(self):
            return [self.first, self.second]

    made = Stages()
    found = depths(made)
    weights = [made.stem, made.first, made.between, made.second, made.head]
    assert [found[layer.weight] for layer in weights] == [0, 1, 2, 2, 3]
    assert [found[layer.bias] for layer in weights] == [0, 1, 2, 2, 3]


def test_layer_decay_scales_the_steps_of_training():
    torch.manual_seed(0)
    made = network()
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    config = Config(optimiser="sgd", momentum=0, weight_decay=0, clip=None, layer_decay=0.5, warmup=0)
    learner = SurrogateGradient(made, config)
    x, labels = batch()
    _, gradients = gradient(learner, x, labels)
    for group in learner.optimiser.param_groups:
        group["lr"] = 0.1 * group["scale"]
    learner._step()
    found = depths(made)
    for name, p in made.named_parameters():
        expected = before[name] - 0.1 * 0.5 ** (3 - found[p]) * gradients[name]
        assert torch.allclose(p, expected, atol=1e-7), name


def test_lamb_is_its_algorithm():
    torch.manual_seed(0)
    weight, bias = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3))
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    optimiser = Lamb(groups, lr=0.01, betas=(0.9, 0.99), eps=1e-6)
    plain = [p.detach().clone() for p in (weight, bias)]
    m, v = [torch.zeros_like(p) for p in plain], [torch.zeros_like(p) for p in plain]
    for step in range(1, 5):
        for i, (p, decay) in enumerate(((weight, 0.1), (bias, 0.0))):
            p.grad = torch.randn_like(p)
            m[i] = 0.9 * m[i] + 0.1 * p.grad
            v[i] = 0.99 * v[i] + 0.01 * p.grad**2
            u = (m[i] / (1 - 0.9**step)) / ((v[i] / (1 - 0.99**step)).sqrt() + 1e-6) + decay * plain[i]
            trust = plain[i].norm() / u.norm() if decay else 1.0
            plain[i] = plain[i] - 0.01 * trust * u
        optimiser.step()
        assert torch.allclose(weight, plain[0], atol=1e-6)
        assert torch.allclose(bias, plain[1], atol=1e-6)


def test_lamb_moves_a_tensor_of_zeros():
    weight = nn.Parameter(torch.zeros(3, 3))
    weight.grad = torch.ones(3, 3)
    Lamb([weight], lr=0.1).step()
    assert torch.allclose(weight, torch.full((3, 3), -0.1), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD), ("lamb", Lamb)],
)
def test_the_named_optimiser_is_made(name, kind):
    made = create_optimiser(network(), Config(optimiser=name), 0.1)
    assert type(made) is kind
    assert made.param_groups[0]["weight_decay"] == 0.05
    if name == "sgd":
        assert made.param_groups[0]["momentum"] == 0.9
        assert made.param_groups[0]["nesterov"]


# Loss


def test_tet_is_the_mean_of_the_losses_of_all_steps_with_its_regularisation():
    outputs = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 1])
    c = Config(loss="tet", tet_lambda=0.3, tet_phi=2.0, label_smoothing=0.1)
    target = 0.9 * nn.functional.one_hot(labels, 4).float() + 0.1 / 4
    entropy = sum(-(target * step.log_softmax(-1)).sum(-1).mean() for step in outputs) / 3
    squares = sum(((step - 2.0) ** 2).mean() for step in outputs) / 3
    assert torch.allclose(supervised_loss(outputs, labels, mean, c), 0.7 * entropy + 0.3 * squares)
    soft = nn.functional.one_hot(labels, 4).float()
    assert torch.allclose(supervised_loss(outputs, soft, mean, c), 0.7 * entropy + 0.3 * squares)


def test_soft_labels_are_smoothed_like_hard_ones():
    outputs = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    soft = torch.tensor([[0.7, 0.3, 0.0], [0, 1, 0], [0.5, 0, 0.5], [0, 0, 1]])
    c = Config(label_smoothing=0.2)
    expected = -((0.8 * soft + 0.2 / 3) * outputs.mean(0).log_softmax(-1)).sum(-1).mean()
    assert torch.allclose(supervised_loss(outputs, soft, mean, c), expected)
    hard = torch.tensor([0, 1, 2, 2])
    one_hot = nn.functional.one_hot(hard, 3).float()
    assert torch.allclose(supervised_loss(outputs, hard, mean, c), supervised_loss(outputs, one_hot, mean, c))


# Averaging


def test_the_average_of_weights_is_its_formula():
    made = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(made, 0.9)
    expected = {name: value.clone() for name, value in made.state_dict().items()}
    for _ in range(3):
        with torch.no_grad():
            made[0].weight += 1.0
        made(torch.randn(4, 2))
        average.update(made)
        for name, value in made.state_dict().items():
            expected[name] = 0.9 * expected[name] + 0.1 * value if value.is_floating_point() else value.clone()
    assert all(torch.allclose(average.tensors[name], expected[name]) for name in expected)
    assert average.tensors["1.num_batches_tracked"] == 3
    own = copy.deepcopy(made.state_dict())
    with average.applied(made):
        assert torch.equal(made[0].weight, average.tensors["0.weight"])
    assert all(torch.equal(own[name], value) for name, value in made.state_dict().items())


def test_the_average_is_what_is_evaluated_and_kept():
    learner = SurrogateGradient(network(), Config(epochs=1, batch=32, ema=0.9))
    setting = Setting(datasets.load("digits"), encoders.create("direct"), 2, 0)
    protocols.create("classification", train_samples=64).run(learner, setting)
    kept = learner.network.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in learner.average.tensors.items())


# Memory


@pytest.mark.parametrize("neuron", ["lif", "plif", "relu"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recomputed_blocks_give_the_same_gradients_and_buffers(neuron, precision):
    x, labels = batch()
    found = []
    for recompute in (False, True):
        made = network(neuron).train()
        learner = SurrogateGradient(made, Config(precision=precision))
        calls = []
        made.blocks[0].attention.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        if recompute:
            with recomputed(made):
                result = gradient(learner, x, labels)
        else:
            result = gradient(learner, x, labels)
        found.append((*result, copy.deepcopy(dict(made.named_buffers())), len(calls), made))
    (loss, kept, buffers, once, _), (again, recomputed_, buffers_again, twice, made) = found
    assert (once, twice) == (1, 2)
    assert loss == again
    assert kept.keys() == recomputed_.keys()
    assert all(torch.equal(kept[name], recomputed_[name]) for name in kept)
    assert all(torch.equal(buffers[name], buffers_again[name]) for name in buffers)
    assert "forward" not in vars(made.blocks[0])


def test_recomputation_sees_the_buffers_of_the_first_pass():
    class Normaliser(nn.Module):
        """Divides by a moving average that each pass moves, as some attention scales do."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.register_buffer("scale", torch.ones(()))

        def forward(self, x):
            with torch.no_grad():
                self.scale.mul_(0.5).add_(0.5 * x.mean())
            return (self.weight * x / self.scale).square()

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([Normaliser(), Normaliser()])

        def segments(self):
            return list(self.parts)

        def forward(self, x):
            for part in self.parts:
                x = part(x)
            return x

    found = []
    for recompute in (False, True):
        made = Chain()
        x = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
        if recompute:
            with recomputed(made):
                made(x).sum().backward()
        else:
            made(x).sum().backward()
        found.append([x.grad, *(p.grad for p in made.parameters()), *made.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(("option", "value"), [("checkpoint", True), ("layer_decay", 0.5)])
def test_networks_without_blocks_are_told(option, value):
    made = models.create("mlp", image_size=8, channels=1)
    with pytest.raises(OptionError, match=rf"{option}.*mlp has n.*leave it out"):
        Config(**{option: value}).check(made, datasets.load("digits"))


def test_accumulated_parts_add_up_to_the_whole_batch():
    x, labels = batch(7)
    found = []
    for accumulate in (1, 3):
        made = network("relu").train()
        made(batch(32)[0])  # statistics for the norms
        made.eval()  # norms that see parts would differ
        learner = SurrogateGradient(made, Config(accumulate=accumulate))
        found.append(gradient(learner, x, labels))
    (loss, whole), (again, summed) = found
    assert again == pytest.approx(loss, rel=1e-6)
    for name in whole:
        assert torch.allclose(whole[name], summed[name], rtol=1e-4, atol=1e-6), name


def test_no_part_of_a_batch_is_a_single_sample():
    assert [s.stop - s.start for s in parts(64, 4)] == [16] * 4
    assert [s.stop - s.start for s in parts(7, 5)] == [2, 2, 3]
    assert [s.stop - s.start for s in parts(2, 4)] == [2]
    with pytest.raises(ValidationError, match="need two samples or more"):
        Config(batch=8, accumulate=5)


# Compiling


def test_a_compiled_network_trains_like_a_plain_one():
    x, labels = batch()
    plain = gradient(SurrogateGradient(network("relu", depth=1).train(), Config()), x, labels)
    compiled = gradient(SurrogateGradient(network("relu", depth=1).train(), Config(compile=True)), x, labels)
    assert compiled[0] == pytest.approx(plain[0], rel=1e-5)
    for name, value in plain[1].items():
        assert torch.allclose(compiled[1][name], value, rtol=1e-3, atol=1e-5), name


def test_a_missing_compiler_is_one_line(monkeypatch):
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def missing(*_):
        raise InvalidCxxCompiler

    torch._dynamo.reset()
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    learner = SurrogateGradient(network("relu", dim=24).train(), Config(compile=True))
    with pytest.raises(TrainingError, match=r"learner.compile: there is no C\+\+ compiler; install one") as error:
        learner._gradient(Asked(*batch()), ClassObjective())
    assert "\n" not in str(error.value)


# Options that would be ignored


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 0.5}, "momentum has no effect without optimiser: sgd"),
        ({"cooldown": 3, "schedule": "step"}, "cooldown has no effect without schedule: cosine"),
        ({"decay_rate": 0.3}, "decay_rate has no effect without schedule: step"),
        ({"tet_phi": 0.0}, "tet_phi has no effect without loss: tet"),
        ({"temperature": 2.0}, "temperature has no effect without a teacher"),
        ({"mixup_off_epoch": 5}, "mixup_off_epoch has no effect without mixup or cutmix"),
        ({"mixup": 1.0, "switch_probability": 0.2}, "switch_probability has no effect without mixup and cutmix"),
        ({"randaugment_std": 0.5}, "randaugment_std has no effect without auto_augment: randaugment"),
        ({"compile": True, "checkpoint": True}, "checkpoint cannot be compiled; give one"),
        ({"warmup": 0, "warmup_lr": 1e-5}, "warmup_lr has no effect without a warmup"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        Config(**options)
