"""Drives as folders of images: order, what is picked, ground truths, the layouts of published sets, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import datasets
from benchmarks.datasets.fetch import by_hand
from benchmarks.datasets.places import PlaceDataset
from benchmarks.datasets.route_images import RouteImages, natural
from neurons.errors import DataError, OptionError


def drive(folder: Path, names: list[str], first: int = 0, size: tuple[int, int] = (12, 8)) -> None:
    """Write images of one grey each: the i-th is of grey ``first + i``."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, first):
        Image.new("RGB", size, (number,) * 3).save(folder / name)


def greys(dataset: PlaceDataset, split: str = "train") -> list[int]:
    """The grey of each image."""
    images, _ = getattr(dataset, split).batch(slice(None))
    assert (images == images[:, :1, :1, :1]).all()
    return [round(255 * float(grey)) for grey in images[:, 0, 0, 0]]


def frames(count: int, pattern: str = "images-{:05d}.png") -> list[str]:
    return [pattern.format(number) for number in range(1, count + 1)]


def load(path: Path, **options: Any) -> PlaceDataset:
    data = datasets.load("route-folders", path=str(path), **{"references": ["a", "b"], "query": "q", **options})
    assert isinstance(data, PlaceDataset)
    return data


def refused(words: str, path: Path, kind: type[Exception] = DataError, **options: Any) -> None:
    with pytest.raises(kind, match=words) as error:
        load(path, **options)
    assert "\n" not in str(error.value)


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    """Two references of ten places and as many queries, whose numbers are not padded."""
    for first, name in ((0, "a"), (50, "b"), (100, "q")):
        drive(tmp_path / name, frames(10, "{}.png"), first)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    return tmp_path


def test_images_are_read_whole_in_natural_order(drives: Path) -> None:
    data = load(drives)
    assert (data.shape, data.places, data.traverses, len(data.test)) == ((1, 64, 64), 10, 2, 10)
    assert greys(data) == [*range(10), *range(50, 60)]
    assert greys(data, "test") == list(range(100, 110))
    assert torch.equal(data.truth, torch.eye(10, dtype=torch.bool))
    assert torch.equal(data.references(1).batch([3])[0], data.train.batch([13])[0])
    assert natural(["a10", "a2", "b1", "a"]) == ["a", "a2", "a10", "b1"]


def test_images_are_read_once_and_when_they_are_asked_for(drives: Path) -> None:
    data = load(drives, size=4, channels=3)
    assert data.shape == (3, 4, 4)
    assert isinstance(data.train, RouteImages)
    assert not data.train.kept
    data.train.batch([2, 13])
    assert sorted(data.train.kept) == [b"a/3.png", b"b/4.png"]
    assert all(image.dtype == np.uint8 for image in data.train.kept.values())
    (drives / "a" / "3.png").unlink()
    (drives / "a" / "4.png").unlink()
    data.references(0).batch([2])
    with pytest.raises(DataError, match=r"4\.png does not exist"):
        data.train.batch([3])


def test_the_sides_of_an_image_stay_in_it(tmp_path: Path) -> None:
    picture = np.zeros((10, 40), np.uint8)
    picture[:, -10:] = 200
    for name in ("a", "q"):
        (tmp_path / name).mkdir()
        Image.fromarray(picture).save(tmp_path / name / "1.png")
    image, _ = load(tmp_path, references="a", size=8).train.batch([0])
    assert image[0, 0, :, :5].max() < 0.01
    assert image[0, 0, :, 7].min() > 0.7


def test_every_third_of_the_first_places(drives: Path) -> None:
    data = load(drives, skip=3)
    assert greys(data) == [0, 3, 6, 9, 50, 53, 56, 59]
    data = load(drives, skip=3, places=3, calibration=1)
    assert (greys(data), greys(data, "test")) == ([3, 6, 53, 56], [103, 106])
    assert data.calibration is not None
    assert (greys(data.calibration), greys(data.calibration, "test")) == ([0, 50], [100])


def test_ground_truths(drives: Path) -> None:
    drive(drives / "q", frames(14, "{}.png"), 100)  # now there are more queries than places
    refused("q has 14 queries for 10 places and no ground truth says", drives)
    truth = np.zeros((10, 14), int)
    truth[np.arange(10), np.arange(10)] = 1
    truth[4, 5] = 1
    for name, matrix in (("t", truth), ("turned", truth.T)):
        np.save(drives / f"{name}.npy", matrix)
        np.savetxt(drives / f"{name}.csv", matrix, fmt="%d", delimiter=",")
    rows = "\n".join(f"{query},{place}" for place, query in np.argwhere(truth))
    (drives / "pairs.csv").write_text(f"query,place\n{rows}\n")
    for file in ("t.npy", "turned.npy", "t.csv", "turned.csv", "pairs.csv"):
        data = load(drives, truth=file)
        assert torch.equal(data.truth, torch.from_numpy(truth > 0)), file
        assert data.test.labels.tolist() == [0, 1, 2, 3, 4, 4, 6, 7, 8, 9, -1, -1, -1, -1]
    # of all images, where every second is used
    assert torch.equal(load(drives, truth="t.npy", skip=2).truth, torch.from_numpy(truth[::2, ::2] > 0))
    # queries of places that are left out are no queries; those that show none stay
    data = load(drives, truth="t.npy", places=5)
    assert greys(data, "test") == [100, 101, 102, 103, 104, 105, 110, 111, 112, 113]


def test_wrong_ground_truths(drives: Path) -> None:
    refused(r"none\.npy does not exist", drives, truth="none.npy")
    refused("a is no ground truth: it is a .npy or a .csv file", drives, truth="a")
    np.save(drives / "t.npy", np.ones((3, 10)))
    refused(r"t\.npy has 3 x 10 entries for 10 places and 10 queries", drives, truth="t.npy")
    np.save(drives / "t.npy", np.zeros((10, 10)))
    refused("the ground truth is empty", drives, truth="t.npy")
    np.save(drives / "t.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused(r"t\.npy is not a readable .npy file of numbers", drives, truth="t.npy")
    (drives / "t.csv").write_text("query,place\n1,10\n")
    refused("must number queries from 0 to 9 and places from 0 to 9", drives, truth="t.csv")
    (drives / "t.csv").write_text("image,place\n1,10\n")
    refused("neither a matrix of numbers nor a table with the header query,place", drives, truth="t.csv")


def test_what_does_not_fit(drives: Path) -> None:
    refused("has no folder c", drives, references=["a", "c"])
    (drives / "empty").mkdir()
    refused(r"empty has no images \(\.jpg", drives, query="empty")
    refused("must name at least one traverse", drives, OptionError, references=[])
    refused("a traverse is a folder in .*, not '/tmp'", drives, OptionError, query="/tmp")
    for option in ("skip", "places", "size"):
        refused(f"dataset.{option} must be at least 1, not 0", drives, OptionError, **{option: 0})
    refused("a has 10 of 11 places", drives, places=11)
    refused(r"a has 4 of 5 places \(every 3\. image is one\)", drives, places=5, skip=3)
    refused("leave at least one of the 10 places", drives, OptionError, calibration=10)
    refused("channels is 1 for grey or 3 for colour, not 2", drives, OptionError, channels=2)
    (drives / "b" / "10.png").unlink()
    refused("must show the same places in the same order, but differ in number: a 10, b 9", drives)
    with pytest.raises(DataError, match=r"dataset.path: no folder 'nowhere' with the folders a, q; looked at"):
        datasets.load("route-folders", path="nowhere", references="a", query="q")
    with pytest.raises(OptionError, match="needs 'references'"):
        datasets.load("route-folders", path=str(drives), query="q")


def test_images_at_their_own_size(drives: Path) -> None:
    refused(r"dataset.size is needed: .*1\.png has 12x8 pixels and is not square", drives, OptionError, size=None)
    drive(drives / "square", frames(10, "{}.png"), size=(9, 9))
    drive(drives / "mixed", frames(9, "{}.png"), size=(9, 9))
    drive(drives / "mixed", ["10.png"], size=(8, 9))
    data = load(drives, references="square", query="mixed", size=None)
    assert data.shape == (1, 9, 9)
    with pytest.raises(DataError, match=r"10\.png has 8x9 pixels, others 9x9; bring all images to one size with"):
        data.test.batch(slice(None))


def test_lists_of_frames(drives: Path) -> None:
    (drives / "list.csv").write_text("Image name,index\n9.png,0\n2.png,1\n2.png,2\n")  # an order of its own, twice
    assert greys(load(drives, frames="list.csv")) == [8, 1, 1, 58, 51, 51]
    for name, numbers in (("a", (1, 2)), ("b", (3, 4)), ("q", (5, 6))):
        (drives / f"of_{name}.txt").write_text("".join(f"./route/{name}/{number}.jpg\n" for number in numbers))
    data = load(drives, frames="of_{traverse}.txt")
    assert (greys(data), greys(data, "test")) == ([0, 1, 52, 53], [104, 105])
    refused(r"none\.txt cannot be read as a list of images: No such file", drives, frames="none.txt")
    (drives / "list.csv").write_text("11.png\n12.png\n13.png\n14.png\n1.png\n")
    refused(r"a lacks images that .*list\.csv names: 11, 12, 13 and 1 more", drives, frames="list.csv")
    (drives / "list.csv").write_text("nothing\n")
    refused("names no images", drives, frames="list.csv")
    drive(drives / "p1", ["1.png"])
    drive(drives / "p2", ["1.png"])
    (drives / "list.csv").write_text("1.png\n")
    refused("cannot tell them apart", drives, references="p[12]", frames="list.csv")


def test_a_relative_path_lies_in_a_data_folder(drives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = datasets.load("route-folders", root=drives.parent, path=drives.name, references="a", query="q")
    assert isinstance(data, PlaceDataset)
    assert data.places == 10
    assert data.note == "references: a; queries: q"


# Published sets, in miniature


@pytest.mark.parametrize("folder", ["nordland", "Nordland", "."])
def test_nordland(folder: str, tmp_path: Path) -> None:
    seasons = ("spring", "summer", "fall", "winter")
    for number, season in enumerate(seasons):
        drive(tmp_path / folder / season, frames(40), 50 * number, (32, 18))
    data = datasets.load("nordland", root=tmp_path, places=5, calibration=2)
    assert isinstance(data, PlaceDataset)
    assert greys(data) == [16, 24, 32, 116, 124, 132]
    assert greys(data, "test") == [66, 74, 82]
    assert data.calibration is not None
    assert greys(data.calibration, "test") == [50, 58]
    assert "every 8. frame; frames where the train is slow" in data.note
    winter = datasets.load("nordland", root=tmp_path, query="winter", skip=1, places=40, calibration=0)
    assert greys(winter, "test") == list(range(150, 190))  # type: ignore[arg-type]
    found = by_hand["nordland"].find
    assert found is not None
    assert found(tmp_path) == tmp_path / folder
    for season in ("spring", "fall", "summer"):
        lines = [f"./nordland/{season}/images-{number:05d}.png" for number in range(21, 40)]
        (tmp_path / folder / f"nordland_imageNames_{season}.txt").write_text("\n".join(lines))
    listed = datasets.load(
        "nordland", root=tmp_path, places=3, calibration=1, frames="nordland_imageNames_{traverse}.txt"
    )
    assert greys(listed) == [28, 36, 128, 136]  # type: ignore[arg-type]


def test_nordland_is_refused(tmp_path: Path, empty_machine: Path) -> None:
    with pytest.raises(OptionError, match="nordland has the traverses spring, summer, fall, winter, not 'autumn'"):
        datasets.load("nordland", query="autumn")
    with pytest.raises(DataError, match=r"data set 'nordland' not found: .*get the images .* in a folder 'nordland'"):
        datasets.load("nordland")
    with pytest.raises(DataError, match="nordland cannot be fetched: get the images"):
        datasets.fetch("nordland")
    for season in ("spring", "fall", "summer"):
        drive(tmp_path / "nordland" / season, frames(16))
    with pytest.raises(DataError, match=r"spring has 2 of 3300 places \(every 8\. image is one\)"):
        datasets.load("nordland", root=tmp_path)


def test_oxford_robotcar(tmp_path: Path) -> None:
    stamps = {"sun": 1439388271000000, "rain": 1446121092000000, "dusk": 1416586027583964}
    for number, (name, stamp) in enumerate(stamps.items()):
        images = [f"{stamp + 62_500 * frame}.png" for frame in range(20)]
        drive(tmp_path / "ORC" / name.capitalize(), images, 50 * number)
        # matched by hand: the last frames first, one of them twice
        chosen = [*range(19, 9, -1), 10]
        lines = "".join(f"{images[frame]},{index}\n" for index, frame in enumerate(chosen))
        (tmp_path / "ORC" / f"orc-{name}.csv").write_text(f"Image name,index\n{lines}")
    data = datasets.load("oxford-robotcar", root=tmp_path, frames="orc-{traverse}.csv", skip=5, places=3, calibration=1)
    assert isinstance(data, PlaceDataset)
    assert greys(data) == [14, 10, 64, 60]
    assert greys(data, "test") == [114, 110]
    raw = tmp_path / "raw" / "oxford-robotcar"
    for name in ("2015-08-12-15-04-18", "2014-11-21-16-07-03"):
        drive(raw / name / "stereo" / "left", ["1.png", "2.png"])
    data = datasets.load("oxford-robotcar", root=tmp_path / "raw", references="sun", skip=1, places=None, calibration=0)
    assert isinstance(data, PlaceDataset)
    assert data.places == 2


def test_sfu_mountain(tmp_path: Path) -> None:
    for condition, first in (("dry", 0), ("dusk", 100)):
        for number, part in enumerate("ab"):
            folder = tmp_path / "SFU-Mountain" / f"part_{part}" / "stereo_right" / condition / "frames"
            drive(folder, frames(6, part + "{:03d}.jpg"), first + 50 * number)
    data = datasets.load("sfu-mountain", root=tmp_path, places=10, calibration=5)
    assert isinstance(data, PlaceDataset)
    assert (data.traverses, data.places) == (1, 5)
    assert greys(data) == [5, 50, 51, 52, 53]
    assert greys(data, "test") == [105, 150, 151, 152, 153]
