"""Learning task after task: every method keeps its promise, resumes exactly, and stops at nonsense in one line."""

import json
from functools import cache

import pytest
import torch

import encoders
from benchmarks import datasets
from benchmarks.protocols import Batches
from neurons.errors import OptionError, StepError
from step import models
from step.learners import Continual, TrainingError
from step.learners.continual.methods.memory import Memory, ranges_now
from step.spec import Spec, SpecError

NEURON = {"name": "lif", "threshold": 0.5, "reset": "soft", "surrogate": "sigmoid"}
"""Fires from the first batch on, without a norm."""


@cache
def stream(scenario="domain"):
    name = "permuted-tasks" if scenario == "domain" else "split-tasks"
    options = {"tasks": 3} if scenario == "domain" else {"scenario": scenario}
    return datasets.load(name, of="digits", **options)


def learner(*, scenario="domain", file=None, model="mlp", norm=False, hidden=(32,), progress=None, **options):
    sizes = {"hidden": hidden} if model == "mlp" else {"widths": (4,)}
    data = stream(scenario)
    network = models.create(
        model, neuron=NEURON, seed=0, image_size=8, channels=1, classes=data.classes, norm=norm, **sizes
    )
    config = Continual.Config(**{"batch": 32, **options})
    config.check(network, data)
    return Continual(network, config, seed=0, checkpoint_file=file, progress=progress)


def batches(scenario, number, samples=96):
    task = stream(scenario).tasks[number]
    encoder = encoders.create("standardised", mean=0.3, sd=0.37)
    return Batches(task.train, torch.arange(samples), encoder, 3, 32, True, number, stream(scenario).classes)


def teach(pupil, scenario="domain", until=2, samples=96):
    for number in range(pupil.done, until):
        outputs = stream(scenario).open_outputs(number, number + 1)
        pupil.learn(number, batches(scenario, number, samples), outputs)
        pupil.finish()
    return pupil


def accuracy(pupil, number, scenario="domain", learned=None):
    outputs = stream(scenario).open_outputs(number, learned or number + 1)
    task = stream(scenario).tasks[number]
    x, labels = task.test.batch(slice(None))
    x = encoders.create("standardised", mean=0.3, sd=0.37)(x, 3, generator=torch.Generator())
    return float((pupil.scores(x, outputs).argmax(-1) == labels).float().mean())


VARIANTS = {
    "sequential": {"method": "sequential", "later_lr": 0.05, "clip": 1.0},
    "hlop": {"method": {"name": "hlop", "rows": [8, 6], "more": {"layers.1.linear": 4, "layers.3": 2}}},
    "hlop lateral": {"method": {"name": "hlop", "subspace": {"name": "hebbian", "lateral_steps": 40}}},
    "hlop and replay": {"method": "hlop", "replay_after": {"per_class": 3, "epochs": 2}, "schedule": "cosine"},
    "hlop by ottt": {"method": "hlop", "rule": "ottt"},
    "gpm": {"method": {"name": "gpm", "samples": 64}, "optimiser": "adam", "lr": 0.01},
    "sgp": {"method": "sgp", "momentum": 0.9, "warmup": 0.5},
    "ewc": {"method": {"name": "ewc", "samples": 8, "strength": 10}},
    "ewc online": {"method": {"name": "ewc", "samples": 8, "labels": "true", "online": True, "decay": 0.9}},
    "si": {"method": "si"},
    "er": {"method": {"name": "er", "size": 20, "keep": "balanced"}, "head": "prototype"},
    "der++": {"method": {"name": "der++", "size": 20, "replay_batch": 8}, "weight_decay": 1e-3},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_is_killed_in_a_task_begins_it_anew_and_ends_the_same(tmp_path, name):
    class Killed(Exception):
        pass

    def kill(event):
        if event.get("task") == 3 and event.get("share") == 2 / 3:
            raise Killed

    whole = teach(learner(**VARIANTS[name]), until=3)
    file = tmp_path / "state.safetensors"
    cut = learner(file=file, progress=kill, **VARIANTS[name])
    cut.notes["protocol"] = {"rows": [1, 2]}
    with pytest.raises(Killed):
        teach(cut, until=3)
    resumed = learner(file=file, **VARIANTS[name])
    assert resumed.done == 2
    assert resumed.notes == cut.notes
    teach(resumed, until=3)
    for ours, theirs in (
        (resumed.network.state_dict(), whole.network.state_dict()),
        (resumed.method.tensors(), whole.method.tensors()),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert resumed.report() == whole.report()
    assert accuracy(resumed, 2) == accuracy(whole, 2)
    assert all(isinstance(value, int | float) for row in whole.history for value in row.values())
    assert [row["task"] for row in resumed.history] == [1, 2, 3]


def test_hebbian_projection_forgets_less_and_learns_as_much():
    options = {"hidden": (128,), "epochs": 4, "lr": 0.1}
    fallen, learned = {}, {}
    for method in ("sequential", {"name": "hlop", "rows": [20, 30], "more": [12, 16]}):
        pupil = learner(method=method, **options)
        teach(pupil, until=1, samples=480)
        before = accuracy(pupil, 0)
        teach(pupil, until=3, samples=480)
        name = method if isinstance(method, str) else method["name"]
        fallen[name], learned[name] = before - accuracy(pupil, 0), accuracy(pupil, 2)
    assert fallen["sequential"] > 0.15
    assert fallen["hlop"] < fallen["sequential"] / 3
    assert learned["hlop"] > learned["sequential"] - 0.1


def drift(pupil, monkeypatch=None):
    """Return how far a second task moves the answers of each layer to the activity that is protected, at most."""
    if monkeypatch is not None:
        kept = []
        make = pupil._optimiser
        monkeypatch.setattr(pupil, "_optimiser", lambda *a: kept[0] if kept else kept.append(make(*a)) or kept[0])
    teach(pupil, until=1)
    frozen = {path: s.frozen.clone() for path, s in pupil.method.subspaces.items()}
    before = {path: p.detach().clone() for path, p in pupil.network.named_parameters()}
    teach(pupil, until=2)
    worst = 0.0
    for path, rows in frozen.items():
        old = before[f"{path}.weight"].flatten(1)
        new = pupil.network.get_parameter(f"{path}.weight").detach().flatten(1)
        assert len(rows) > 1
        assert not torch.equal(new, old)
        worst = max(worst, float(((new - old) @ rows.T).norm() / (old @ rows.T).norm()))
    return worst


def test_answers_to_old_activity_stay_and_stale_momentum_would_move_them(monkeypatch):
    gpm = {"method": "gpm", "epochs": 3}
    assert drift(learner(momentum=0.9, **gpm)) < 1e-5
    assert drift(learner(momentum=0.9, **gpm), monkeypatch) > 1e-3


@pytest.mark.parametrize(
    "options", [{"optimiser": "adam", "lr": 0.01}, {"weight_decay": 0.01}, {"model": "cnn"}], ids=str
)
def test_every_optimiser_and_convolutions_leave_old_activity_alone(options):
    assert (
        drift(learner(method={"name": "gpm", "subspace": {"name": "svd", "threshold": 0.9}}, epochs=3, **options))
        < 1e-5
    )


def test_what_is_frozen_stays_and_the_bias_of_the_present_head_learns():
    pupil = teach(learner(scenario="task", norm=True, method="hlop"), "task", until=1)
    before = {key: value.clone() for key, value in pupil.network.state_dict().items()}
    teach(pupil, "task", until=2)
    after = pupil.network.state_dict()
    moved = {key for key in after if not torch.equal(before[key], after[key])}
    assert moved == {"layers.1.linear.weight", "layers.3.weight", "layers.3.bias"}
    changed = (after["layers.3.bias"] != before["layers.3.bias"]).nonzero().flatten().tolist()
    assert changed == [2, 3]
    assert [row["layer"] for row in pupil.report()] == ["layers.1.linear"]  # heads of their own need no protection


@pytest.mark.parametrize(("method", "stays"), [("hlop", True), ("sequential", False)])
def test_weights_that_no_subspace_covers_stay_and_the_report_names_them(method, stays):
    data = stream()
    network = models.create(
        "maxformer", size="digits", classes=data.classes, neuron={**NEURON, "threshold": 0.1}, seed=0
    )
    grouped = {
        f"{path}.weight" for path, m in network.named_modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1
    }
    assert grouped
    pupil = teach(Continual(network, Continual.Config(batch=32, method=method), seed=0), until=1, samples=32)
    before = {path: p.detach().clone() for path, p in network.named_parameters()}
    teach(pupil, until=2, samples=32)
    moved = {path for path, p in network.named_parameters() if not torch.equal(p, before[path])}
    assert moved
    assert grouped.isdisjoint(moved) == stays
    named = {row["layer"] for row in pupil.report() if any("frozen" in text for text in row["warnings"])}
    assert named >= grouped if stays else not named


def test_ewc_sums_the_penalties_of_all_tasks():
    pupil = learner(method={"name": "ewc", "samples": 16, "strength": 3.0})
    seen = []
    own = pupil.method._fisher
    pupil.method._fisher = lambda task: (
        seen.append((own(task), {path: p.detach().clone() for path, p in pupil.network.named_parameters()}))
        or seen[-1][0]
    )
    teach(pupil, until=1)
    assert float(pupil.method.penalty()) == 0
    assert pupil.history[0]["penalty"] == 0
    teach(pupil, until=2)
    assert pupil.history[1]["penalty"] > 0
    with torch.no_grad():
        pupil.network.get_parameter("layers.3.weight").add_(0.1)
    direct = sum(
        (fisher[path] * (pupil.network.get_parameter(path) - weights[path]).detach().square()).sum()
        for fisher, weights in seen
        for path in fisher
    )
    assert float(pupil.method.penalty()) == pytest.approx(1.5 * float(direct), rel=1e-4)


def test_synaptic_intelligence_finds_importance_that_is_never_negative():
    pupil = learner(method="si", lr=0.5)
    before = {path: p.detach().clone() for path, p in pupil.network.named_parameters()}
    teach(pupil, until=1, samples=32)
    for path, p in pupil.network.named_parameters():
        way = (p.detach() - before[path]).square()  # of the one step of SGD, -0.5 g
        assert torch.allclose(pupil.method.importance[path], way / 0.5 / (way + 0.1), rtol=1e-4, atol=1e-9)
    teach(pupil, until=3)
    assert min(float(value.min()) for value in pupil.method.importance.values()) >= 0
    assert pupil.history[-1]["penalty"] > 0


def test_a_reservoir_keeps_every_sample_alike_and_a_balanced_store_every_class():
    labels = torch.tensor([0] * 180 + [1] * 20)
    generator = torch.Generator().manual_seed(0)
    plain, balanced = Memory(20), Memory(20, balanced=True)
    kept = torch.zeros(200)
    for _ in range(100):
        plain = Memory(20)
        plain.add(torch.arange(200.0)[:, None], labels, (0, 2), torch.zeros(200, 2), generator)
        assert len(plain) == 20
        kept[plain.kept.images[:, 0].long()] += 1
    assert kept[:100].sum() == pytest.approx(1000, abs=100)  # half of what is kept came in the first half
    for part in labels.split(7):
        balanced.add(torch.zeros(len(part), 1), part, (0, 2), torch.zeros(len(part), 2), generator)
    assert balanced.kept.labels.bincount().tolist() == [10, 10]


def test_stored_samples_keep_their_head_and_share_competing_outputs():
    kept = torch.tensor([[0, 2], [2, 4]])
    assert ranges_now(kept, (4, 6)).tolist() == [[0, 2], [2, 4]]
    assert ranges_now(kept, (0, 6)).tolist() == [[0, 6], [0, 6]]


def test_hat_leaves_the_answers_of_old_tasks_alone():
    pupil = learner(scenario="task", method={"name": "hat", "sparsity": 0.1}, epochs=4)
    teach(pupil, "task", until=1)
    x = next(batches("task", 0).epoch())[0]
    before, weights = (
        pupil.scores(x, (0, 2))[:, :2],
        pupil.network.get_parameter("layers.1.linear.weight").detach().clone(),
    )
    teach(pupil, "task", until=3)
    after = pupil.network.get_parameter("layers.1.linear.weight").detach()
    rows = pupil.method.learned[0][0] > 0.1  # gates that are open to the first task: sigmoid(40) is 1 in float32
    assert 0 < int(rows.sum()) < len(rows)
    assert torch.equal(after[rows], weights[rows])
    assert not torch.equal(after[~rows], weights[~rows])
    assert torch.allclose(pupil.scores(x, (0, 2))[:, :2], before, atol=1e-4)
    taken = [row["rank"] for row in pupil.report()]
    assert taken == [int((pupil.method.open[0] > 0.5).sum())]


def test_prototypes_answer_among_the_classes_learned_so_far():
    pupil = learner(scenario="class", method="hlop", head="prototype", epochs=2, hidden=(64,))
    teach(pupil, "class", until=3, samples=160)
    x = next(batches("class", 0).epoch())[0]
    scores = pupil.scores(x, (0, 6))
    assert torch.isfinite(scores[:, :6]).all()
    assert torch.isinf(scores[:, 6:]).all()
    by_means = [accuracy(pupil, number, "class", learned=3) for number in range(3)]
    pupil.prototypes = None
    by_readout = [accuracy(pupil, number, "class", learned=3) for number in range(3)]
    assert sum(by_means) / 3 > 0.8
    assert sum(by_means) > sum(by_readout)


def test_the_row_schedule_of_permuted_mnist_is_that_of_the_paper():
    method = {"name": "hlop", "rows": [80, 200, 100], "more": [70, 70, 70], "less": 20, "eta": "paper"}
    config = Continual.Config(method=method).method_config()
    paths = ["a", "b", "c"]
    rows = [config.rows_for(number, paths) for number in range(10)]
    assert [row["a"] for row in rows] == [80, 70, 70, 50, 50, 50, 30, 30, 30, 10]
    assert [sum(row[path] for row in rows) for path in paths] == [470, 590, 490]
    later = {"name": "hlop", "rows": [24], "more": [2], "changes": {7: [0]}}
    config = Continual.Config(method=later).method_config()
    assert [config.rows_for(number, ["a"])["a"] for number in range(8)] == [24, 2, 2, 2, 2, 2, 0, 0]


def test_rows_beyond_the_inputs_are_cut_and_the_report_says_so():
    pupil = teach(learner(method={"name": "hlop", "rows": [60, 20]}), until=2)
    first, second = pupil.report()
    assert (first["rank"], first["capacity"]) == (64, 64)
    assert any("task 2 asks for 60 rows and" in text for text in first["warnings"])
    assert any("all 64 dimensions are taken" in text for text in first["warnings"])
    assert second["capacity"] == 32


WRONG = [
    ({"method": "hlopp"}, "learner.method", "did you mean 'hlop'?"),
    ({"method": {"name": "hlop", "row": [1]}}, "learner.method", "no option 'row'; did you mean 'rows'"),
    ({"method": {"name": "hlop", "subspace": {"name": "hebian"}}}, "learner.method", "did you mean 'hebbian'?"),
    ({"method": {"name": "hlop", "subspace": {"name": "hebbian", "eta": -1}}}, "learner.method", "positive"),
    ({"method": {"name": "hlop", "eta": 0.1, "subspace": "svd"}}, "learner.method", "has no learning rate"),
    ({"method": {"name": "ewc", "strength": -1}}, "learner.method", "strength"),
    ({"rule": "btt"}, "learner.rule", "did you mean 'bptt'"),
    ({"rule": {"name": "bptt", "row": 3}}, "learner.rule", "did you mean 'rows'"),
    ({"replay_after": {"per_clas": 3}}, "learner.replay_after", "did you mean 'per_class'"),
    ({"optimiser": "adam", "momentum": 0.9}, "learner", "momentum has no effect"),
    ({"method": "gpm", "freeze": False}, "learner", "freeze"),
    ({"method": "joint", "replay_after": {}}, "learner", "replay_after has no effect"),
    ({"method": {"name": "hlop", "start_epoch": 2}, "epochs": 2}, "learner", "never begin"),
]


@pytest.mark.parametrize(("options", "path", "words"), WRONG, ids=str)
def test_a_wrong_option_is_found_when_the_spec_is_read(options, path, words):
    with pytest.raises(SpecError) as error:
        Spec.parse({"dataset": "permuted-tasks", "model": "mlp", "learner": {"name": "continual", **options}})
    assert error.value.path.startswith(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_spec_says_all_that_a_method_does():
    def parse(method):
        return Spec.parse(
            {"dataset": "permuted-tasks", "model": "mlp", "learner": {"name": "continual", "method": method}}
        )

    short = parse("hlop")
    assert short.learner["method"]["subspace"]["iterations"] == 5
    assert parse(short.learner["method"]).id == short.id
    changing = parse({"name": "hlop", "rows": [9, 9], "changes": {7: [1, 1]}})
    assert Spec.parse(json.loads(changing.model_dump_json(exclude={"code"}))).id == changing.id
    assert parse({"name": "hlop", "subspace": {"name": "hebbian", "iterations": 4}}).id != short.id


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": {"name": "hlop", "rows": [1, 2, 3]}}, "3 numbers for 2 protected layers"),
        ({"method": {"name": "hlop", "rows": {"layers.1.linear": 1, "layers.4": 2}}}, "did you mean 'layers.3'"),
        ({"method": {"name": "hlop", "rows": [1, 2]}, "scenario": "task"}, "2 numbers for 1 protected layers"),
        ({"method": "hat"}, "domain-incremental"),
        ({"method": "hat", "scenario": "task", "rule": "ottt"}, "rule: bptt"),
        (
            {"method": {"name": "hlop", "subspace": {"name": "hebbian", "lateral_steps": 9}}, "weight_decay": 0.1},
            "take optimiser: sgd",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_the_network_or_the_data_is_found_before_anything_runs(options, words):
    with pytest.raises(OptionError, match=words):
        learner(**options)


def test_it_wants_a_stream_and_stops_when_the_loss_is_no_number():
    pupil = learner(method={"name": "ewc", "strength": 1e30, "samples": 2}, lr=10.0)
    with pytest.raises(OptionError, match="one task"):
        pupil.config.check(pupil.network, datasets.load("digits"))
    with pytest.raises(OptionError, match="in order"):
        pupil.learn(1, batches("domain", 1), (0, 10))
    with pytest.raises(TrainingError, match=r"lower learner\.lr") as error:
        teach(pupil, until=3)
    assert isinstance(error.value, StepError)
