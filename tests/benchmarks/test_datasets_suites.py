"""Options of data sets in suites: part of the spec of a run, checked before anything runs, given to the loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import datasets
from step.catalogue import diagnosis, rows
from step.runner import Place, _dataset, check, execute, setting_of
from step.spec import Spec, SpecError
from step.store import Store


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Write dark and bright pictures."""
    random = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 6)):
        for name, low in (("bright", 128), ("dark", 0)):
            (tmp_path / "mine" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(low, low + 128, (12, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "mine" / part / name / f"{number}.png")
    return tmp_path / "mine"


def spec(dataset: Any, **changes: Any) -> Spec:
    rest = {"model": "mlp", "encoder": {"name": "direct", "T": 2}, "learner": {"name": "surrogate-gradient"}}
    rest["learner"] |= {"epochs": 1, "batch": 8}  # type: ignore[operator]
    return Spec.parse({"dataset": dataset, **rest, **changes})


def test_options_are_part_of_the_run(own: Path) -> None:
    small, large = (spec({"name": "image-folder", "path": str(own), "image_size": size}) for size in (8, 10))
    assert small.dataset["image_size"] == 8
    assert small.dataset["channels"] == 3  # defaults are filled in
    assert small.id != large.id
    assert small.id == Spec.parse(small.model_dump(mode="json", exclude={"code"})).id
    assert spec("digits").dataset == {"name": "digits"}
    assert spec("cifar100").dataset == {"name": "cifar100", "labels": "fine"}


@pytest.mark.parametrize(
    ("dataset", "path", "message"),
    [
        ("image-folder", "dataset", "dataset 'image-folder' needs 'path': write {name: image-folder, path: ...}"),
        (
            {"name": "image-folder", "path": "x", "size": 3},
            "dataset.size",
            "dataset 'image-folder' has no option 'size'",
        ),
        ({"name": "image-folder", "path": "x", "root": "y"}, "dataset.root", "has no option 'root'"),
        ({"name": "image-folder", "path": "x", "image_size": "big"}, "dataset.image_size", "valid integer"),
        ({"name": "image-folder", "path": "x", "channels": 2}, "dataset.channels", "Input should be 1 or 3"),
        ({"name": "cifar100", "labels": "finer"}, "dataset.labels", "Input should be 'fine' or 'coarse'"),
        ({"name": "cifar10", "labels": "fine"}, "dataset.labels", "dataset 'cifar10' has no option 'labels'"),
        ({"name": "imagenet", "interpolation": "lanczos"}, "dataset.interpolation", "'bilinear' or 'bicubic'"),
        ("cifar-10", "dataset", "unknown dataset 'cifar-10'; did you mean 'cifar10'"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(dataset: Any, path: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        spec(dataset)
    assert error.value.path == path
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_network_takes_its_size_from_the_data(own: Path) -> None:
    run = spec({"name": "image-folder", "path": str(own), "image_size": 8, "channels": 1})
    check(run, None)
    setting, _ = setting_of(run, None)
    assert setting.dataset.train.batch([0, 1])[0].shape == (2, 1, 8, 8)
    assert setting.dataset is setting_of(run, None)[0].dataset  # listed once for all runs
    assert _dataset.cache_info().maxsize == 2


def test_a_run_on_files_can_be_done_again(own: Path, tmp_path: Path) -> None:
    dataset = {"name": "image-folder", "path": "mine", "image_size": 8, "random_crop": True, "min_area": 0.5}
    run = spec(dataset, protocol={"name": "classification", "validation": 0.25})
    weights = []
    for folder in ("first", "second"):
        place = Place(tmp_path / folder, str(tmp_path / folder / "results.sqlite"), own.parent)
        assert execute(run, "made", place) == "finished"
        assert len(Store(place.store).runs([run.id])) == 1
        weights.append((place.run_folder(run.id) / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]
    from step.exchange.runs import agreement, trained_network

    network = trained_network(run, run.id, place, own.parent)
    assert agreement(network, network, run, own.parent, samples=12) == 1.0


def test_two_epochs_see_different_parts(own: Path) -> None:
    run = spec({"name": "image-folder", "path": str(own), "image_size": 8, "random_crop": True})
    setting, protocol = setting_of(run, None)
    train, validation = protocol.parts(setting.dataset.train, 0)
    batches = protocol._batches(setting, setting.dataset.train, train, 8, shuffle=True)
    first, again, second = (torch.cat([x[0] for x, _ in batches.epoch(number)]) for number in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first.sort(0).values, second.sort(0).values)
    held = protocol._batches(setting, setting.dataset.train, validation, 8)
    assert torch.equal(*(torch.cat([x[0] for x, _ in held.epoch(number)]) for number in (0, 1)))


def test_list_and_doctor(empty_machine: Path) -> None:
    listed = dict(rows("datasets"))
    assert listed["cifar10"].startswith("CIFAR-10: 60,000 colour pictures")
    assert {"cifar100", "image-folder", "imagenet", "permuted-pixels", "tiny-imagenet"} <= set(listed)
    assert all(len(text) < 120 and text.endswith(".") for text in listed.values())
    found = dict(diagnosis()["data"])
    assert found["digits"] == "comes with an installed package"
    for name in ("cifar10", "cifar100", "fashion-mnist", "tiny-imagenet"):
        assert found[name] == f"not here; run: step fetch {name}"
    assert found["imagenet"].startswith("not here; get ILSVRC2012 from https://image-net.org/download")
    assert found["image-folder"] == "not here; give your own folder as its option 'path'"
    assert set(found) == set(datasets.names())
