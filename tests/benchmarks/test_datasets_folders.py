"""Data sets of image files in miniature, in the folders and lists in which they are published and kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from benchmarks import datasets
from benchmarks.datasets import Dataset, imagenet, tiny_imagenet
from benchmarks.datasets.image_files import ImageFiles
from neurons.errors import DataError, OptionError

pytestmark = pytest.mark.usefixtures("empty_machine")


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def picture(path: Path, value: int, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> None:
    """Write a picture of one brightness, by which it can be told from others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, value, value)).save(path, quality=95)


def brightness(split: Any) -> list[int]:
    images, _ = split.batch(slice(None))
    return [round(float(value) * 255) for value in images.mean((1, 2, 3))]


# Tiny ImageNet: 3 classes, listed in another order than that of their names

WNIDS = ["n02124075", "n01443537", "n04067472"]
SORTED = sorted(WNIDS)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tiny_imagenet, "CLASSES", 3)
    monkeypatch.setattr(tiny_imagenet, "TRAIN", 6)
    monkeypatch.setattr(tiny_imagenet, "TEST", 3)
    folder = tmp_path / "tiny-imagenet-200"
    for label, wnid in enumerate(SORTED):
        for number in range(2):
            mode = "L" if number else "RGB"
            picture(
                folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", 60 * label + 20 * number + 10, mode=mode
            )
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t9\t9\n")
    lines = []
    for number, label in enumerate((2, 0, 1)):
        picture(folder / "val" / "images" / f"val_{number}.JPEG", 60 * label + 5)
        lines.append(f"val_{number}.JPEG\t{SORTED[label]}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(WNIDS))
    (folder / "words.txt").write_text("n00001740\tentity\n")
    picture(folder / "test" / "images" / "test_0.JPEG", 0)
    return folder


def check_tiny(data: Dataset) -> None:
    assert (data.classes, data.channels, data.image_size) == (3, 3, 64)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert brightness(data.train) == [10, 30, 70, 90, 130, 150]
    assert [60 * label + 5 for label in data.test.labels.tolist()] == brightness(data.test)
    assert sorted(data.test.labels.tolist()) == [0, 1, 2]
    assert isinstance(data.train, ImageFiles)


@pytest.mark.parametrize("named", [".", "..", "tiny-imagenet-200"])
def test_tiny_imagenet_as_published(tiny: Path, named: str) -> None:
    if named == "tiny-imagenet-200":  # <root>/tiny-imagenet/tiny-imagenet-200
        (tiny.parent / "root" / "tiny-imagenet").mkdir(parents=True)
        tiny = tiny.rename(tiny.parent / "root" / "tiny-imagenet" / tiny.name)
        check_tiny(datasets.load("tiny-imagenet", tiny.parent.parent))
    else:
        data = datasets.load("tiny-imagenet", tiny / named)
        check_tiny(data)
        assert data.test.labels.tolist() == [2, 0, 1]
        assert "validation split is the test split" in data.note


@pytest.mark.parametrize("inner", ["", "images"])
def test_tiny_imagenet_with_a_sorted_validation_split(tiny: Path, inner: str) -> None:
    for number, label in enumerate((2, 0, 1)):
        target = tiny / "val" / SORTED[label] / inner
        target.mkdir(parents=True)
        (tiny / "val" / "images" / f"val_{number}.JPEG").rename(target / f"val_{number}.JPEG")
    check_tiny(datasets.load("tiny-imagenet", tiny.parent))  # the lists are still there, the folder is empty
    shutil.rmtree(tiny / "val" / "images")
    (tiny / "val" / "val_annotations.txt").unlink()
    check_tiny(datasets.load("tiny-imagenet", tiny.parent))


def test_tiny_imagenet_sorted_without_inner_folders(tiny: Path) -> None:
    for wnid in SORTED:
        for path in (tiny / "train" / wnid / "images").iterdir():
            path.rename(tiny / "train" / wnid / path.name)
        (tiny / "train" / wnid / "images").rmdir()
    check_tiny(datasets.load("tiny-imagenet", tiny.parent))


def test_tiny_imagenet_that_is_not_complete(tiny: Path) -> None:
    def problem(message: str) -> None:
        with pytest.raises(DataError, match=message) as error:
            datasets.load("tiny-imagenet", tiny.parent)
        one_line(error)

    annotations = tiny / "val" / "val_annotations.txt"
    lines = annotations.read_text()
    annotations.write_text(lines.replace(SORTED[1], SORTED[0]))
    problem(rf"val is not complete: {SORTED[0]} has 2 images, not 1, and 1 more classes are wrong")
    annotations.write_text(lines.replace(SORTED[1], "n99999999"))
    problem("val_annotations.txt has the class n99999999, which train lacks")
    annotations.write_text(lines.split("\n")[0])
    problem("val_annotations.txt names no class for val_1.JPEG and 1 more")
    annotations.write_text("val_0.JPEG n02124075\n")
    problem(r"val_annotations\.txt, line 1: needs two fields divided by '\\t'")
    annotations.write_bytes(b"\xff\xfe\xff")
    problem("val_annotations.txt is not a text file")
    annotations.write_text(lines)
    (tiny / "train" / SORTED[2] / "images" / f"{SORTED[2]}_0.JPEG").unlink()
    problem(rf"train is not complete: {SORTED[2]} has 1 images, not 2")
    shutil.rmtree(tiny / "train" / SORTED[2])
    problem(r"train has 2 classes, other than the 3 of wnids\.txt")
    (tiny / "wnids.txt").unlink()
    problem(r"train has 2 classes, not 3; for a part or another set use: image-folder")
    shutil.rmtree(tiny / "val")
    problem(r"tiny-imagenet-200 \(lacks val\).*; run: step fetch tiny-imagenet")


def test_a_picture_of_another_size_is_brought_to_64(tiny: Path) -> None:
    picture(tiny / "train" / SORTED[0] / "images" / f"{SORTED[0]}_0.JPEG", 10, (100, 80))
    check_tiny(datasets.load("tiny-imagenet", tiny.parent))


# ImageNet: 3 classes, 2 validation images of each

TRUTH = [1, 2, 0, 0, 2, 1]


@pytest.fixture
def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(imagenet, "CLASSES", 3)
    monkeypatch.setattr(imagenet, "TRAIN", 7)
    monkeypatch.setattr(imagenet, "TEST", 6)
    folder = tmp_path / "imagenet"
    for label, wnid in enumerate(SORTED):
        for number in range(2 + (label == 1)):
            picture(folder / "train" / wnid / f"{wnid}_{number}.JPEG", 60 * label + 10, (80, 60))
    for number, label in enumerate(TRUTH):
        picture(folder / "val" / f"ILSVRC2012_val_{number + 1:08d}.JPEG", 60 * label + 5, (60, 80))
    return folder


def devkit(folder: Path) -> None:
    """Write the tables of the development kit: numbers in an order of their own, and a synset above the classes."""
    kinds: list[tuple[str, Any]] = [
        (key, object) for key in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")
    ]
    synsets = np.empty((4, 1), dtype=kinds)
    numbers = {SORTED[0]: 3, SORTED[1]: 1, SORTED[2]: 2, "n00001740": 4}
    for place, (wnid, number) in enumerate(sorted(numbers.items(), key=lambda pair: pair[1])):
        synsets[place, 0] = (number, wnid, "a, b", "a thing", 3 if wnid == "n00001740" else 0)
    folder.mkdir(parents=True)
    scipy.io.savemat(folder / "meta.mat", {"synsets": synsets})
    lines = [f"{numbers[SORTED[label]]}\n" for label in TRUTH]
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(lines))


def check_big(data: Dataset) -> None:
    assert (data.classes, data.channels, data.image_size) == (3, 3, 32)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert [60 * label + 10 for label in data.train.labels.tolist()] == brightness(data.train)
    assert sorted(data.test.labels.tolist()) == sorted(TRUTH)
    assert [60 * label + 5 for label in data.test.labels.tolist()] == brightness(data.test)


def load(folder: Path, **options: Any) -> Dataset:
    return datasets.load("imagenet", folder, image_size=32, **options)


def test_imagenet_with_a_sorted_validation_split(big: Path) -> None:
    for number, label in enumerate(TRUTH):
        (big / "val" / SORTED[label]).mkdir(exist_ok=True)
        file = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        (big / "val" / file).rename(big / "val" / SORTED[label] / file)
    for named in (big, big.parent):
        check_big(load(named))
    shutil.rmtree(big / "val" / SORTED[1])
    with pytest.raises(DataError, match=f"val lacks classes of train: {SORTED[1]}"):
        load(big)


@pytest.mark.parametrize("place", imagenet.DEVKIT[:2])
def test_imagenet_flat_with_the_development_kit(big: Path, place: str) -> None:
    devkit(big / place)
    data = load(big)
    check_big(data)
    assert data.test.labels.tolist() == TRUTH
    truth = big / place / imagenet.TRUTH
    lines = truth.read_text()
    for text, problem in (
        (lines + "1\n", "has 7 labels, but .*val has 6 images"),
        (lines.replace("3", "4"), "line 3: '4' is no class number of"),  # stands above the classes
        (lines.replace("3", "x"), "line 3: 'x' is no class number"),
    ):
        truth.write_text(text)
        with pytest.raises(DataError, match=problem) as error:
            load(big)
        one_line(error)
    (big / place / "meta.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(300))
    with pytest.raises(DataError, match=r"meta\.mat is not the table of classes"):
        load(big)
    (big / place / "meta.mat").unlink()
    with pytest.raises(DataError, match=r"meta\.mat is missing"):
        load(big)


def test_imagenet_flat_with_lists(big: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="val is flat, and no file says its classes: put ILSVRC2012_devkit_t12/data"):
        load(big)
    wnids = "".join(f"{SORTED[label]}\n" for label in TRUTH)
    (tmp_path / "mine.txt").write_text(wnids)
    check_big(load(big, val_labels=str(tmp_path / "mine.txt")))
    (big / "imagenet_2012_validation_synset_labels.txt").write_text(wnids)
    check_big(load(big))
    check_big(load(big, val_labels="imagenet_2012_validation_synset_labels.txt"))
    with pytest.raises(DataError, match=r"dataset\.val_labels: .*none\.txt does not exist"):
        load(big, val_labels="none.txt")
    (tmp_path / "mine.txt").write_text(wnids.replace(SORTED[1], "fish", 1))
    with pytest.raises(DataError, match=r"mine\.txt, line 1: 'fish' is not a WordNet id such as n01440764"):
        load(big, val_labels=str(tmp_path / "mine.txt"))
    (tmp_path / "mine.txt").write_text(wnids.replace(SORTED[1], "n99999999"))
    with pytest.raises(DataError, match=r"mine\.txt has the class n99999999, which .*train lacks"):
        load(big, val_labels=str(tmp_path / "mine.txt"))
    (tmp_path / "mine.txt").write_text(wnids.replace(SORTED[1], SORTED[0]))
    with pytest.raises(DataError, match=rf"val is not complete: {SORTED[0]} has 4 images, not 2"):
        load(big, val_labels=str(tmp_path / "mine.txt"))


def test_imagenet_as_kaggle_has_it(big: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / "ILSVRC" / "Data" / "CLS-LOC"
    folder.parent.mkdir(parents=True)
    big.rename(folder)
    rows = [
        f"ILSVRC2012_val_{n + 1:08d},{SORTED[label]} 85 1 499 272 \n" for n, label in reversed(list(enumerate(TRUTH)))
    ]
    table = tmp_path / "elsewhere" / "LOC_val_solution.csv"
    table.write_text("ImageId,PredictionString\n" + "".join(rows))
    data = load(tmp_path / "elsewhere")
    check_big(data)
    assert data.test.labels.tolist() == TRUTH
    table.write_text("ImageId,PredictionString\n" + "".join(rows[1:]))
    with pytest.raises(DataError, match=r"LOC_val_solution\.csv names no class for ILSVRC2012_val_00000006\.JPEG"):
        load(tmp_path / "elsewhere")


def test_imagenet_reads_random_parts_in_training_only(big: Path) -> None:
    devkit(big / "devkit" / "data")
    gradient = Image.fromarray(np.arange(80 * 60, dtype=np.uint32).reshape(60, 80).astype(np.uint8))
    gradient.save(big / "train" / SORTED[0] / f"{SORTED[0]}_0.JPEG")
    data, still = load(big), load(big, random_crop=False)
    plain = data.train.batch([0])[0]
    assert not torch.equal(data.train.training(0, 0).batch([0])[0], plain)
    assert not torch.equal(data.train.training(0, 0).batch([0])[0], data.train.training(0, 1).batch([0])[0])
    assert torch.equal(still.train.training(0, 0).batch([0])[0], plain)


def test_imagenet_says_what_is_missing(big: Path, tmp_path: Path) -> None:
    devkit(big / "devkit" / "data")
    (big / "train" / SORTED[0] / f"{SORTED[0]}_0.JPEG").unlink()
    assert "6 training images, where 7 are published" in load(big).note
    shutil.rmtree(big / "train" / SORTED[0])
    with pytest.raises(DataError, match=r"train has 2 classes, not 3; for a part or another set use: image-folder"):
        load(big)
    shutil.rmtree(big / "val")
    with pytest.raises(
        DataError, match=r"imagenet \(lacks val\).*; get ILSVRC2012 from https://image-net.org"
    ) as error:
        load(tmp_path)
    one_line(error)
    with pytest.raises(
        DataError, match=r"imagenet cannot be fetched: get ILSVRC2012 from https://image-net.org/download"
    ):
        datasets.fetch("imagenet")
    with pytest.raises(OptionError, match=r"dataset\.image_size must be at least 1"):
        datasets.load("imagenet", image_size=0)


# A user's own folders


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for label, name in enumerate(("apple", "pear")):
        for number in range(4):
            picture(tmp_path / "fruit" / "train" / name / f"{number}.png", 100 * label + number, (20, 30))
        picture(tmp_path / "fruit" / "val" / name / "a b.PNG", 100 * label + 50, (40, 30), "L")
    return tmp_path / "fruit"


def test_image_folder(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = datasets.load("image-folder", path=str(own), image_size=16)
    assert (data.classes, data.channels, data.image_size) == (2, 3, 16)
    assert brightness(data.train) == [0, 1, 2, 3, 100, 101, 102, 103]
    assert brightness(data.test) == [50, 150]
    assert data.note == "the folder val is the test split; classes in the order of their names: apple, pear"
    grey = datasets.load("image-folder", path=str(own), channels=1)
    assert grey.train.batch([0])[0].shape == (1, 1, 64, 64)
    # Not absolute: below a data folder, or in the working folder.
    assert len(datasets.load("image-folder", own.parent, path="fruit").train) == 8
    monkeypatch.chdir(own)
    assert len(datasets.load("image-folder", path=".").train) == 8
    picture(own / "test" / "apple" / "a.png", 7)
    picture(own / "test" / "pear" / "a.png", 8)
    assert brightness(datasets.load("image-folder", path=".").test) == [7, 8]


def test_image_folders_that_do_not_fit(own: Path) -> None:
    def problem(message: str, **options: Any) -> None:
        with pytest.raises(DataError, match=message) as error:
            datasets.load("image-folder", **{"path": str(own), **options})
        one_line(error)

    problem("dataset.path: no folder 'nowhere' with a folder 'train' in it; looked at ", path="nowhere")
    picture(own / "val" / "plum" / "a.png", 0)
    problem("val has folders of no class of train: plum")
    shutil.rmtree(own / "val" / "plum")
    shutil.rmtree(own / "val" / "pear")
    problem("val lacks classes of train: pear")
    shutil.rmtree(own / "val")
    problem("fruit has no test split: no folder of each class in test or val")
    (own / "test").mkdir()
    problem("fruit has no test split")
    shutil.rmtree(own / "train" / "apple")
    shutil.rmtree(own / "train" / "pear")
    problem("train has no folders; it needs one for each class")
    for options, message in (
        ({}, "dataset 'image-folder' needs 'path'"),
        ({"path": ".", "size": 3}, "no option 'size'"),
    ):
        with pytest.raises(OptionError, match=message):
            datasets.load("image-folder", **options)
    with pytest.raises(DataError, match="image-folder cannot be fetched: give your own folder as its option 'path'"):
        datasets.fetch("image-folder")
    with pytest.raises(DataError, match="has no place of its own; give your own folder as its option 'path'"):
        datasets.where("image-folder")


# Permuted pixels


def test_permuted_pixels() -> None:
    plain, data = datasets.load("digits"), datasets.load("permuted-pixels", of="digits")
    order = np.random.RandomState(92916).permutation(64)
    for ours, theirs in ((data.train, plain.train), (data.test, plain.test)):
        images, labels = ours.batch(slice(0, 9))
        assert torch.equal(images.flatten(2), theirs.batch(slice(0, 9))[0].flatten(2)[:, :, order])
        assert torch.equal(labels, theirs.batch(slice(0, 9))[1])
    assert (data.classes, data.channels, data.image_size) == (10, 1, 8)
    assert "numpy.random.RandomState(92916).permutation(64)" in data.note
    other = datasets.load("permuted-pixels", of="digits", seed=1)
    assert not torch.equal(other.train.batch([0])[0], data.train.batch([0])[0])


def test_the_published_order_of_784_pixels() -> None:
    """The numbers of NumPy's old generator never change, so neither does the task."""
    order = np.random.RandomState(92916).permutation(784)
    assert order[:8].tolist() == [319, 576, 323, 107, 355, 716, 197, 20]
    assert sorted(order.tolist()) == list(range(784))


def test_what_cannot_be_permuted(own: Path) -> None:
    for of, message in (
        ("permuted-pixels", "cannot be made of itself"),
        ("image-folder", "image-folder does not lie in memory"),
    ):
        with pytest.raises(OptionError, match=message):
            datasets.load("permuted-pixels", of=of)
    with pytest.raises(OptionError, match=r"dataset\.seed must be from 0"):
        datasets.load("permuted-pixels", of="digits", seed=-1)
    with pytest.raises(DataError, match="fetch that one"):
        datasets.fetch("permuted-pixels")
