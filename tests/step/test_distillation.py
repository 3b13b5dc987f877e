"""Knowledge distillation: its formula, its own encoding for the teacher, and teachers found by run id."""

import pytest
import torch
from torch import nn

import encoders
import step
from benchmarks import datasets, protocols
from benchmarks.protocols import Setting
from benchmarks.protocols.objective import ClassObjective
from neurons.errors import OptionError, StepError
from step import models
from step.api import place_of
from step.learners import SurrogateGradient, Teacher
from step.learners.distillation import distillation_loss
from step.learners.surrogate_gradient import Asked
from step.runner import _taught_by
from step.suite import load_suite

TINY = {"image_size": 8, "channels": 1, "dim": 16, "depth": 1, "heads": 2, "mlp_ratio": 1.0}
Config = SurrogateGradient.Config


def teacher():
    return Teacher(
        models.create("cnn", neuron="relu", seed=5, image_size=8, channels=1, widths=(4,)), encoders.Direct(), 1
    )


def mean(outputs):
    return outputs.mean(0)


def scores(seed, count=5, classes=4):
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))


def test_soft_distillation_is_hinton_s_formula():
    student, taught = scores(0), scores(1)
    p, log_q = (taught / 2.5).softmax(-1), (student / 2.5).log_softmax(-1)
    expected = 2.5**2 * (p * (p.log() - log_q)).sum(-1).mean()
    found = distillation_loss(student, taught, Config(teacher="x", temperature=2.5))
    assert torch.allclose(found, expected, atol=1e-6)
    assert float(distillation_loss(taught, taught, Config(teacher="x"))) == pytest.approx(0, abs=1e-6)


def test_hard_distillation_is_the_loss_on_the_teacher_s_answers():
    student, taught = scores(0), scores(1)
    found = distillation_loss(student, taught, Config(teacher="x", distillation="hard"))
    assert torch.allclose(found, -student.log_softmax(-1)[torch.arange(5), taught.argmax(-1)].mean())


@pytest.mark.parametrize("options", [{}, {"distillation": "hard", "distillation_weight": 0.2}, {"loss": "tet"}])
def test_the_loss_of_a_taught_network_is_that_of_labels_and_teacher(options):
    config = Config(teacher="x", **options)
    network = models.create("spikformer", neuron="plif", seed=0, **TINY)
    learner = SurrogateGradient(network, config, teacher=teacher())
    network.train()
    images, labels = torch.rand(6, 1, 8, 8), torch.arange(6)
    x, taught = images.expand(3, *images.shape), images.unsqueeze(0)
    loss = learner._gradient(Asked(x, labels, taught=taught), ClassObjective())
    with torch.no_grad():
        outputs, answers = network(x), learner.teacher.network(taught).mean(0)
    target = 0.9 * nn.functional.one_hot(labels, 10).float() + 0.01
    if config.loss == "tet":
        entropy = sum(-(target * step.log_softmax(-1)).sum(-1).mean() for step in outputs) / 3
        supervised = (1 - 1e-3) * entropy + 1e-3 * (outputs - 1).square().mean()
    else:
        supervised = -(target * mean(outputs).log_softmax(-1)).sum(-1).mean()
    w = config.distillation_weight
    expected = (1 - w) * supervised + w * distillation_loss(mean(outputs), answers, config)
    assert torch.allclose(loss, expected, atol=1e-5)
    assert all(p.grad is None and not p.requires_grad for p in learner.teacher.network.parameters())
    assert not learner.teacher.network.training


def test_the_teacher_sees_the_same_augmented_images_in_its_own_encoding():
    seen = []
    made = teacher()
    made.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network = models.create("spikformer", neuron="lif", seed=0, **TINY)
    given = []
    network.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]) if module.training else None)
    config = Config(epochs=1, batch=32, teacher="x", flip=0.5, mixup=0.5, crop_padding=1)
    setting = Setting(datasets.load("digits"), encoders.Direct(), 4, 0)
    protocols.create("classification", train_samples=64).run(SurrogateGradient(network, config, teacher=made), setting)
    assert len(seen) == len(given) == 2
    for ours, theirs in zip(given, seen, strict=True):
        assert (len(ours), len(theirs)) == (4, 1)
        assert torch.equal(ours[0], theirs[0])


def test_a_random_encoding_for_the_teacher_leaves_the_student_s_stream_as_it_was():
    given = []
    for made in (
        None,
        Teacher(models.create("mlp", neuron="lif", image_size=8, channels=1), encoders.create("rate"), 3),
    ):
        network = models.create("spikformer", neuron="lif", seed=0, **TINY)
        network.register_forward_pre_hook(
            lambda module, inputs, to=given: to.append(inputs[0]) if module.training else None
        )
        config = Config(epochs=1, batch=32, teacher=None if made is None else "x")
        setting = Setting(datasets.load("digits"), encoders.create("rate"), 2, 0)
        learner = SurrogateGradient(network, config, teacher=made)
        protocols.create("classification", train_samples=64).run(learner, setting)
    alone, taught = given[:2], given[2:]
    assert all(torch.equal(a, b) for a, b in zip(alone, taught, strict=True))


def test_a_teacher_must_be_named_and_given():
    network = models.create("spikformer", neuron="lif", seed=0, **TINY)
    with pytest.raises(OptionError, match="named in the learner's options and given to it"):
        SurrogateGradient(network, Config(teacher="x"))
    with pytest.raises(OptionError, match="named in the learner's options and given to it"):
        SurrogateGradient(network, Config(), teacher=teacher())


SUITE = """
title: A student
base:
  dataset: digits
  encoder: {{name: rate, T: 2}}
  model: {{name: mlp, hidden: [12]}}
  neuron: {neuron}
  learner: {{name: surrogate-gradient, epochs: 1, batch: 32{teacher}}}
  protocol: {{name: classification, train_samples: 64}}
  measure: {{samples: 4, batch: 4}}
"""


def suite(folder, name, neuron, teacher=""):
    path = folder / f"{name}.yaml"
    path.write_text(SUITE.format(neuron=neuron, teacher=teacher))
    return path


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught")
    step.run(suite(folder, "teacher", "relu"), folder=folder / "results")
    (run_id,) = (entry.name for entry in (folder / "results" / "runs").iterdir())
    return folder, run_id


def test_a_finished_run_teaches_by_its_id_or_its_weights(taught):
    folder, run_id = taught
    weights = folder / "results" / "runs" / run_id / "weights.safetensors"
    accuracies = []
    for number, name in enumerate((run_id, str(weights))):
        student = suite(folder, f"student{number}", "lif", f", teacher: '{name}', temperature: 2.0")
        table = step.run(student, folder=folder / "results")
        accuracies.append(float(table["test_accuracy"].iloc[0]))
    assert accuracies[0] == accuracies[1]


def test_a_teacher_that_is_not_there_is_named_before_anything_runs(taught):
    folder, run_id = taught
    with pytest.raises(StepError, match=r"learner.teacher: .*has no finished run 'abc'"):
        step.run(suite(folder, "lost", "lif", ", teacher: abc"), folder=folder / "results")
    with pytest.raises(StepError, match=r"learner.teacher: .*has no finished run"):
        step.run(suite(folder, "empty", "lif", f", teacher: '{run_id}'"), folder=folder / "elsewhere")
    path = suite(folder, "other", "lif", f", teacher: '{run_id}'")
    (spec,) = load_suite(path, {"dataset": "fashion-mnist"}).specs
    with pytest.raises(StepError, match=r"run \w+ learned digits, not fashion-mnist"):
        _taught_by(spec, place_of(folder / "results"))
