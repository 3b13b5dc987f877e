"""Recipes: each fills in values that stand in a spec, and trains."""

import pytest
import torch

from benchmarks import datasets
from benchmarks.protocols import Batches
from benchmarks.protocols.objective import ClassObjective
from encoders import Direct
from neurons.errors import UnknownNameError
from step import models
from step.learners import SurrogateGradient, recipes
from step.spec import Spec, SpecError

RUN = {"dataset": "digits", "model": {"name": "spikformer", "depth": 1, "dim": 16, "heads": 2}}


def spec(**learner):
    return Spec.parse({**RUN, "learner": {"name": "surrogate-gradient", **learner}})


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_builds_and_takes_a_step(name):
    options = {k: v for k, v in spec(recipe=name).learner.items() if k != "name"}
    recipe = recipes.get(name)
    assert {k: options[k] for k in recipe.values} == dict(recipe.values)
    assert recipe.source in recipes.describe(name)
    network = models.create("spikformer", neuron="lif", seed=0, depth=1, dim=16, heads=2, image_size=8, channels=1)
    before = {k: v.clone() for k, v in network.named_parameters()}
    learner = SurrogateGradient(network, SurrogateGradient.Config(**{**options, "batch": 8, "epochs": 25}), seed=0)
    data = datasets.load("digits")
    train = Batches(data.train, torch.arange(8), Direct(), 2, 8, True, 0, 10)
    loss, rate = learner._epoch(0, learner._augmented(train), ClassObjective())
    assert 0 < loss < 5
    assert 0 < rate <= options["lr"]
    assert any(not torch.equal(before[k], v) for k, v in network.named_parameters())


def test_the_same_values_are_the_same_run_however_they_are_named():
    named = spec(recipe="qkformer-cifar")
    assert "recipe" not in named.learner
    written = spec(**recipes.get("qkformer-cifar").values)
    assert named.id == written.id
    assert Spec.parse(named.model_dump(mode="json", exclude={"code"})).id == named.id
    assert named.id != spec(recipe="spikformer-cifar").id


def test_what_is_given_goes_before_the_recipe():
    learner = spec(recipe="spikformer-cifar", epochs=7, lr=1e-2, erase=0.0).learner
    assert (learner["epochs"], learner["lr"], learner["erase"]) == (7, 1e-2, 0.0)
    assert learner["mixup"] == 0.5


def test_turning_a_thing_off_takes_along_what_the_recipe_says_about_it():
    learner = spec(recipe="spikformer-cifar", mixup=0, auto_augment=None, schedule="constant", warmup=0).learner
    assert learner["mixup_off_epoch"] is None
    assert learner["randaugment_std"] == 0
    assert (learner["cooldown"], learner["min_lr"], learner["warmup_lr"]) == (0, 1e-5, 0.0)
    with pytest.raises(SpecError, match="mixup_off_epoch has no effect without mixup or cutmix"):
        spec(recipe="spikformer-cifar", mixup=0, mixup_off_epoch=5)


def test_unknown_recipes_get_near_names():
    with pytest.raises(SpecError, match=r"unknown recipe 'spikformer-cfar'; did you mean .*'spikformer-cifar'"):
        spec(recipe="spikformer-cfar")
    with pytest.raises(UnknownNameError, match="did you mean"):
        recipes.get("sdt-imagnet")


def test_unknown_options_are_still_refused():
    with pytest.raises(SpecError, match=r"has no option 'mixupp'; did you mean 'mixup'"):
        spec(recipe="spikformer-cifar", mixupp=1)


def test_defaults_change_no_image_and_keep_no_average():
    learner = spec().learner
    config = SurrogateGradient.Config(**{k: v for k, v in learner.items() if k != "name"})
    assert not config.changes_images
    assert not config.mixes
    assert config == SurrogateGradient.Config()
    assert (config.optimiser, config.loss, config.ema, config.layer_decay) == ("adamw", "cross-entropy", None, 1.0)
