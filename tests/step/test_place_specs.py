"""Specs of learners that bring their own network, and what is refused about them."""

from pathlib import Path

import pytest
import yaml

from neurons.errors import OptionError
from step.api import place_of, run
from step.exchange.runs import trained_network
from step.report.collect import collect
from step.report.page import write_page
from step.report.summary import notes
from step.results import Results
from step.runner import check, execute
from step.spec import NO_MODEL, Spec, SpecError
from step.store import Store
from step.suite import load_suite

ROUTE = {
    "dataset": {"name": "synthetic-route", "places": 12, "seed": 3},
    "encoder": {"name": "view", "T": 1, "size": 16, "window": 5},
    "protocol": {"name": "place-recognition", "recall_at": [1, 5], "bootstrap": 20, "timed": 2},
    "measure": {"samples": 2},
}


DIRECT = {"name": "direct", "T": 2}


def spec(learner: object = "templates", **changes: object) -> Spec:
    return Spec.parse({**ROUTE, "learner": learner, **changes})


def test_a_learner_that_brings_its_network_has_no_model_and_no_neuron() -> None:
    found = spec()
    assert found.model == {"name": NO_MODEL}
    assert found.neuron == {"name": "identity"}
    assert Spec.parse(found.model_dump(exclude={"code"})).id == found.id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "mlp"}, "model: templates brings its own network; leave mlp out"),
        ({"neuron": "plif"}, "neuron: templates has no place for a neuron such as plif"),
        ({"learner": "surrogate-gradient", "encoder": DIRECT}, "model: this field is missing"),
        ({"learner": "surrogate-gradient", "model": "mlp"}, "encoder: view changes the size of images"),
        ({"learner": "tamplates", "model": "mlp"}, "did you mean 'templates'"),
        ({"learner": "surrogate-gradient", "model": NO_MODEL, "encoder": DIRECT}, "needs a network"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(changes: dict, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec(**{"learner": "templates", **changes})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "classification", "learner": "surrogate-gradient", "model": "mlp", "encoder": DIRECT},
         "protocol: synthetic-route shows places along a route; set protocol: place-recognition"),
        ({"protocol": "continual"}, "protocol: synthetic-route"),
        ({"dataset": "digits"}, "digits"),
        ({"protocol": {"name": "place-recognition", "lengths": [13], "recall_at": [1]}}, "13"),
        ({"learner": {"name": "place-ensemble", "treatment": "threshold"}}, "has none; set learner.threshold"),
        ({"learner": "surrogate-gradient", "model": "mlp", "encoder": DIRECT}, "does not learn as protocol"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_found_before_anything_is_written(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        check(Spec.parse({**ROUTE, "learner": "templates", **changes}), None, place_of(tmp_path))
    assert message in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_a_run_is_kept_with_its_map_its_record_and_its_tables(tmp_path: Path) -> None:
    place, made = place_of(tmp_path), spec({"name": "ridge"})
    assert execute(made, "route", place) == "finished"
    store = Store(place.store)
    metrics = store.metrics([made.id]).loc[made.id]
    assert 0.3 < metrics["recall_at_1"] <= 1
    assert metrics["parameters"] == 12 * (16 * 16 + 1)
    frames = store.frames(made.id)
    assert {"outcome.places", "outcome.matches", "outcome.pr", "outcome.similarity", "record.layers"} <= set(frames)
    assert (place.run_folder(made.id) / "weights.safetensors").is_file()
    with pytest.raises(OptionError, match="is a map of ridge and no network of layers"):
        trained_network(made, made.id, place)


def test_a_suite_of_ensembles_alone_is_shown_and_drawn(tmp_path: Path) -> None:
    suite = tmp_path / "spiking.yaml"
    learner = {"name": "place-ensemble", "places_per_module": 6, "neurons": 24, "epochs": 1}
    suite.write_text(yaml.safe_dump({"title": "Spiking maps", "base": {**ROUTE, "learner": learner}}))
    run(suite, folder=tmp_path / "results")
    results = Results(load_suite(suite), place_of(tmp_path / "results"))
    # 24 excitatory neurons in each of two modules, 7 times each at most, and as many inhibitory ones
    assert 0 < results.runs["spikes"].iloc[0] <= 2 * 2 * 24 * 7
    assert any("by the learner itself" in line for line in notes(results))
    page = write_page(collect(results), tmp_path / "page.html").read_text()
    assert "Place recognition" in page
