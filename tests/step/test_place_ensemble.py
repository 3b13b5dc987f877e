"""Ensembles of spiking modules from images to scores: learning, treatments, more places, states on disk, cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

import energy
from benchmarks.datasets.roots import search_roots
from encoders.view import View
from neurons.errors import OptionError, ShapeError
from step.learners import checkpoint
from step.learners.base import learners
from step.learners.places.base import Calibration
from step.learners.places.ensemble import EnsembleConfig, PlaceEnsemble, hyperactive
from step.learners.places.ensemble import learner as module

REPOSITORY = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"neurons": 60, "epochs": 2, "places_per_module": 6, "dt": 0.25}


def scenes(places: int, seed: int, noise: float = 0.15) -> tuple[Tensor, Tensor]:
    """Two reference traverses [2, P, 1, 12, 12] of random places, and queries [P, 1, 12, 12]."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.rand(places, 1, 12, 12, generator=generator)
    images = [base + noise * torch.randn(base.shape, generator=generator) for _ in range(3)]
    return torch.stack(images[:2]).clamp(0, 1), images[2].clamp(0, 1)


def mapped(seed: int = 0, places: int = 14, calibration: Calibration | None = None, **options: Any) -> PlaceEnsemble:
    learner = PlaceEnsemble(None, EnsembleConfig(**{**SMALL, **options}), seed=seed)
    learner.map_places(scenes(places, 1)[0], calibration)
    return learner


def calibration() -> Calibration:
    references, queries = scenes(8, 2)
    return Calibration(references, queries, torch.eye(8, dtype=torch.bool))


def recall(scores: Tensor) -> float:
    return float((scores.argmax(0) == torch.arange(scores.shape[1])).float().mean())


def test_it_is_a_learner_by_name() -> None:
    assert learners.get("place-ensemble") is PlaceEnsemble


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gate": 2},
        {"query": "mean-field"},
        {"query": "mean-field", "treatment": "none"},
        {"members": 2, "probability": True},
        {"dispersion": 0.5, "membership": "regions", "presynaptic_sign": -1},
    ],
)
def test_places_are_found_again(options: dict[str, Any]) -> None:
    learner = mapped(**options)
    references, queries = scenes(14, 1)
    scores = learner.similarity(queries)
    assert scores.shape == (14, 14)
    assert scores.dtype == torch.float32
    assert recall(scores) > 0.5
    assert recall(learner.similarity(references[0], 100)) > 0.5
    # what is drawn for a query follows from its number, not from those that are asked with it
    parts = [learner.similarity(queries[at : at + 4], at) for at in range(0, 14, 4)]
    assert torch.equal(torch.cat(parts, dim=1), scores)
    assert len(learner.history) == 2 * learner.config.members
    assert all(row["seconds"] > 0 for row in learner.history)
    again = mapped(**options)
    assert torch.equal(again.similarity(queries), scores)


@pytest.mark.parametrize("assignment", ["standard", "weighted"])
def test_assignments_of_training_find_places_of_one_module(assignment: str) -> None:
    learner = mapped(places=6, treatment="none", assignment=assignment, epochs=6)
    assert recall(learner.similarity(scenes(6, 1)[1])) > 0.5


def test_a_threshold_is_chosen_on_calibration_places() -> None:
    learner = mapped(treatment="threshold", calibration=calibration(), members=2)
    assert len(learner.chosen) == 2
    for member, table in zip(learner.members, learner.chosen, strict=True):
        best = max(table.values())
        # the same share of a traverse of 14 images as of one of 8
        chosen = member.threshold * 8 / 14
        assert table[round(chosen)] == best
        assert set(table) == set(hyperactive.GRID)
    details = learner.details()
    assert len(details["thresholds"]) == 2 * len(hyperactive.GRID)
    fixed = mapped(treatment="threshold", threshold=3)
    neurons = fixed.details()["neurons"]
    assert (neurons["hyperactive"] == (neurons["images"] >= 3)).all()
    assert neurons["hyperactive"].any()
    with pytest.raises(OptionError, match="calibration places"):
        mapped(treatment="threshold")


def test_more_places_leave_what_is_known_as_it_was() -> None:
    for options in ({}, {"treatment": "threshold", "threshold": 9, "members": 2}, {"gate": 2, "record": 5}):
        learner = mapped(**options)
        _, queries = scenes(14, 1)
        before = learner.similarity(queries)
        kept = {name: tensor.clone() for name, tensor in learner.members[0].tensors().items()}
        references, further = scenes(7, 9)
        learner.add_places(references)
        assert learner.places == 21
        after = learner.similarity(queries)
        assert after.shape == (21, 14)
        if "gate" not in options:  # a gate may ask other modules now
            assert torch.equal(after[:14], before)
        assert torch.equal(learner.members[0].tensors()["modules/weights"][:3], kept["modules/weights"])
        assert torch.equal(learner.members[0].tensors()["slots"][:3], kept["slots"])
        found = learner.similarity(further, 50)
        right = (found.argmax(0) == torch.arange(14, 21)).float().mean()
        if "treatment" not in options:
            assert right > 0.5
        learner.add_places(scenes(3, 11)[0])  # and once more
        assert learner.similarity(further, 50).shape == (24, 7)
    with pytest.raises(ShapeError, match="144 pixels"):
        learner.add_places(torch.zeros(1, 2, 1, 28, 28))


def test_a_map_is_saved_and_read(tmp_path: Path) -> None:
    for options in ({"gate": 2}, {"query": "mean-field"}, {"treatment": "threshold", "threshold": 5, "members": 2}):
        learner = mapped(**options)
        learner.add_places(scenes(4, 9)[0])
        _, queries = scenes(14, 1)
        learner.save(tmp_path / "map.safetensors")
        other = PlaceEnsemble(None, learner.config, seed=0)
        other.load(tmp_path / "map.safetensors")
        assert torch.equal(other.similarity(queries), learner.similarity(queries))
        for name, table in learner.details().items():
            assert table.equals(other.details()[name])
        learner.add_places(scenes(3, 10)[0])
        other.add_places(scenes(3, 10)[0])
        assert torch.equal(other.similarity(queries), learner.similarity(queries))


def test_an_interrupted_run_goes_on_to_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_SECONDS", 0.0)
    references, queries = scenes(14, 1)
    config = EnsembleConfig(**SMALL, members=2, treatment="threshold")
    whole = PlaceEnsemble(None, config, seed=4)
    whole.map_places(references, calibration())

    class Stop(Exception):
        pass

    for after in (1, 4, 6):  # epochs: of the first calibration, the first map, and the second calibration
        file = tmp_path / f"{after}.safetensors"
        done: list[int] = []

        def stop(event: dict[str, Any], after: int = after, done: list[int] = done) -> None:
            if event.get("share") == 1.0:
                done.append(1)
                if len(done) > after:
                    raise Stop

        broken = PlaceEnsemble(None, config, seed=4, checkpoint_file=file, progress=stop)
        with pytest.raises(Stop):
            broken.map_places(references, calibration())
        assert len(checkpoint.read(file)[1]["history"]) == after
        resumed = PlaceEnsemble(None, config, seed=4, checkpoint_file=file)
        resumed.map_places(references, calibration())
        assert torch.equal(resumed.similarity(queries), whole.similarity(queries))
        assert len(resumed.history) == len(whole.history) == 8


def test_members_add_their_scores() -> None:
    learner = mapped(members=2)
    _, queries = scenes(14, 1)
    parts = [member.scores(queries.flatten(1), 0) for member in learner.members]
    torch.testing.assert_close(learner.similarity(queries), sum(parts).float())  # type: ignore[union-attr]
    assert not torch.equal(learner.members[0].modules.weights, learner.members[1].modules.weights)
    assert not torch.equal(learner.members[0].slots, learner.members[1].slots)
    as_probability = mapped(members=2, probability=True).similarity(queries)
    torch.testing.assert_close(as_probability.sum(0), torch.full((14,), 2.0))


def test_places_without_neurons_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = mapped(treatment="none")
    member = learner.members[0]
    place = int(member.slots[0, 2])
    member.responses[0, :, 2] = 0.0
    member._readout = None
    _, queries = scenes(14, 1)
    scores = learner.similarity(queries)
    assert scores.shape == (14, 14)
    assert torch.equal(scores[place], scores.amin(0))
    modules = learner.details()["modules"]
    assert modules["unassigned"].sum() == learner.unassigned()[0] > 0
    with pytest.warns(UserWarning, match="no neuron"):
        learner._warn_of_unassigned()


def test_a_gate_that_is_wide_open_changes_nothing_and_a_narrow_one_costs_less() -> None:
    _, queries = scenes(14, 1)
    wide, without = mapped(gate=3), mapped()
    assert torch.equal(wide.similarity(queries), without.similarity(queries))
    narrow = mapped(gate=1).measure(queries[:4])
    full = without.measure(queries[:4])
    assert full.synaptic_events() > 2 * narrow.synaptic_events()


def test_the_cost_of_a_query_is_that_of_its_spikes() -> None:
    learner = mapped()
    _, queries = scenes(14, 1)
    record = learner.measure(queries[:3])
    counts = learner.members[0].counts(queries[:3].flatten(1), 0)
    rows = record.layers.set_index("layer")
    assert rows.loc["excitatory", "nonzero_outputs"] == pytest.approx(float(counts.sum()) / 3)
    assert rows.loc["input", "weights"] == 3 * 144 * 60
    events = record.products.set_index("layer")["exact"]
    # 144 inputs of mean rate 32 Hz or so for 350 ms, each spike to 3 modules of 60
    assert events["input"] == pytest.approx(float(queries[:3].sum()) / 3 * 63.75 * 0.35 * 180, rel=0.1)
    assert events["lateral"] == pytest.approx(rows.loc["inhibitory", "nonzero_outputs"] * 59)
    assert events["partner"] == pytest.approx(rows.loc["excitatory", "nonzero_outputs"])
    for model in ("op-count", "typed-horowitz", "event-chip"):
        assert float(energy.price(record, model)["total"].sum()) > 0
    linear = mapped(query="mean-field").measure(queries[:3])
    assert set(linear.layers["layer"]) == {"templates"}
    assert linear.summary()["macs"] == 3 * 144 * 6
    two = mapped(members=2).measure(queries[:3])
    assert two.summary()["weights"] == 2 * record.summary()["weights"]


def test_size_and_tables() -> None:
    learner = mapped()
    plastic = 3 * (144 * 60 + 60)
    assert learner.parameter_count > plastic
    assert learner.memory > 4 * plastic
    assert mapped(treatment="none").parameter_count < learner.parameter_count
    assert mapped(query="mean-field").parameter_count == 3 * 6 * (144 + 2)
    neurons, modules = learner.details()["neurons"], learner.details()["modules"]
    assert list(neurons) == ["member", "module", "neuron", "place", "places", "images", "hyperactive"]
    assert len(neurons) == 180
    assert neurons["place"].between(-1, 13).all()
    assert neurons["images"].between(0, 14).all()
    assert modules["places"].tolist() == [6, 6, 2]
    assert (modules["spikes"] >= modules["active"]).all()
    assert (modules["active"] > 0).all()
    assert mapped(treatment="none").details()["neurons"]["images"].isna().all()


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 5},
        {"assignment": "weighted"},
        {"treatment": "none", "smoothing": 2.0},
        {"treatment": "none", "record": 5},
        {"query": "mean-field", "gate": 2},
        {"query": "mean-field", "treatment": "none", "assignment": "weighted"},
        {"query": "mean-field", "treatment": "threshold", "threshold": 5},
        {"epochs": 0},
        {"dt": 3.0},
        {"unknown": 1},
    ],
)
def test_options_without_effect_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EnsembleConfig(**options)


def test_images_that_are_too_small_are_refused() -> None:
    learner = PlaceEnsemble(None, EnsembleConfig(**SMALL))
    with pytest.raises(ShapeError, match="more than 78 pixels"):
        learner.map_places(torch.rand(1, 3, 1, 7, 7))
    with pytest.raises(OptionError, match="map places"):
        learner.similarity(torch.rand(1, 1, 12, 12))


def frames(name: str, count: int) -> Tensor:
    """Event frames [count, 1, 80, 80] of the traverse ``name`` that LENS ships."""
    roots = [*search_roots(), REPOSITORY / "shared" / "data", REPOSITORY.parent / "shared" / "data"]
    for root in roots:
        folder = root / "lens" / "dataset" / "example" / "davis128" / name
        if folder.is_dir():
            files = sorted(folder.glob("*.png"))[:count]
            return torch.stack([torch.from_numpy(np.array(Image.open(file).convert("L"))) for file in files])[:, None]
    pytest.skip("no lens/dataset/example in a data folder: set STEP_DATA to one with the files of AdamDHines/LENS")


def test_real_event_frames_are_recognised() -> None:
    view = View(size=28, window=7, gamma=True)
    references = view(frames("example-reference", 50).float() / 255, 1)[0].unsqueeze(0)
    queries = view(frames("example-query", 50).float() / 255, 1)[0]
    learner = PlaceEnsemble(None, EnsembleConfig(epochs=4, dt=0.25), seed=0)
    learner.map_places(references)
    best = learner.similarity(queries).argmax(0)
    near = ((best - torch.arange(50)).abs() <= 3).float().mean()
    # chance is 7 of 50; the two drives differ by about one frame
    assert near > 0.45
    spikes = learner.members[0].counts(queries.flatten(1), 0)
    assert int(spikes.max()) <= 7
