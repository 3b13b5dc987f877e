"""Image files: what becomes of them, what is said of broken ones, and random crops that can be had again."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.augment.library import transforms
from benchmarks.datasets.image_files import AHEAD, ImageFiles, sorted_files
from benchmarks.datasets.reading import Reading, decode, random_box
from neurons.errors import DataError, OptionError, ShapeError


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a smooth picture, which JPEG keeps nearly as it is."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


# Decoding


def test_every_kind_becomes_colour_or_grey(tmp_path: Path) -> None:
    colour = picture(20, 12)
    for number, (mode, file) in enumerate(
        [("RGB", "a.JPEG"), ("L", "a.jpg"), ("CMYK", "a.jpeg"), ("RGBA", "a.png"), ("P", "a.gif"), ("1", "a.bmp")]
    ):
        exact = {"quality": 98, "subsampling": 0} if file != "a.png" and number < 4 else {}
        path = save(tmp_path / str(number) / file, colour.convert(mode), **exact)
        got = decode(path, "RGB")
        assert (got.mode, got.size) == ("RGB", (20, 12))
        if mode not in ("P", "1"):
            want = np.asarray(colour.convert(mode).convert("RGB"), float)
            assert np.abs(np.asarray(got, float) - want).mean() < 6, mode
        assert decode(path, "L").mode == "L"
        assert Reading(8).read(path).shape == (3, 8, 8)
        assert Reading(8, channels=1).read(path).shape == (1, 8, 8)


def test_a_grey_jpeg_has_three_equal_channels(tmp_path: Path) -> None:
    path = save(tmp_path / "grey.JPEG", picture(16, 16).convert("L"))
    pixels = Reading(16).read(path)
    assert (pixels[0] == pixels[1]).all()
    assert (pixels[0] == pixels[2]).all()
    assert np.array_equal(pixels[0], np.asarray(Image.open(path)))


def test_a_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    red = save(tmp_path / "red.JPEG", Image.new("RGB", (8, 8), (200, 30, 30)).convert("CMYK"), quality=98)
    assert Image.open(red).mode == "CMYK"
    assert Reading(8).read(red).reshape(3, -1).mean(1) == pytest.approx([200, 30, 30], abs=6)


def test_what_a_file_holds_counts_and_not_its_name(tmp_path: Path) -> None:
    """One training image of ImageNet is a PNG that is called JPEG."""
    path = tmp_path / "n02105855_2933.JPEG"
    picture(9, 9).save(path, format="PNG")
    assert Reading(9).read(path).shape == (3, 9, 9)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    picture(64, 64).save(buffer, format="JPEG")
    return buffer.getvalue()


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not an image, or is damaged at its start"),
        (b"<html>not found</html>", "is not an image"),
        (jpeg()[:300], r"cannot be read|is not an image"),
        (jpeg()[:-200], "cannot be read as an image: image file is truncated"),
        (png()[:1000], "cannot be read as an image"),
        (png()[:60] + bytes(400) + png()[460:], "cannot be read as an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),  # would start another program
    ],
)
def test_broken_images_are_one_line_with_the_path(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "n01440764_1.JPEG"
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem) as error:
        Reading(8).read(path)
    assert one_line(error).startswith(f"{path} ")


def test_other_images_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = save(tmp_path / "deep.png", Image.fromarray(np.full((8, 8), 40_000, np.uint16)))
    with pytest.raises(DataError, match=r"deep\.png has more than 8 bits a channel \(I;16\)"):
        Reading(8).read(deep)
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        Reading(8).read(tmp_path / "none.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    huge = save(tmp_path / "huge.png", picture(8, 8))
    with pytest.raises(DataError, match="decompression bomb") as error:
        Reading(8).read(huge)
    one_line(error)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"image_size": 0}, "dataset.image_size must be at least 1, not 0"),
        ({"image_size": 8, "channels": 2}, "dataset.channels is 1 for grey or 3 for colour, not 2"),
        ({"image_size": 8, "crop_ratio": 0}, "dataset.crop_ratio must be above 0"),
        ({"image_size": 8, "min_area": 1.5}, "dataset.min_area must be above 0 and at most 1, not 1.5"),
        ({"image_size": 8, "interpolation": "cubic"}, "dataset.interpolation is bilinear or bicubic, not 'cubic'"),
    ],
)
def test_numbers_outside_their_domain(options: dict, problem: str) -> None:
    with pytest.raises(OptionError, match=problem):
        Reading(**options)


# Cropping and resizing: torchvision's transforms are the reference


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("width", "height", "size", "ratio"),
    [(500, 375, 224, 0.875), (375, 500, 224, 0.875), (64, 64, 64, 1.0), (33, 50, 32, 0.9), (7, 300, 10, 0.5)],
)
def test_evaluation_reads_as_torchvision(
    tmp_path: Path, width: int, height: int, size: int, ratio: float, interpolation: str
) -> None:
    v2 = transforms()
    path = save(tmp_path / "a.png", picture(width, height))
    how = v2.InterpolationMode(interpolation)
    reference = v2.Compose([v2.Resize(int(size / ratio), how), v2.CenterCrop(size), v2.PILToTensor()])
    got = Reading(size, crop_ratio=ratio, interpolation=interpolation).read(path)  # type: ignore[arg-type]
    assert torch.equal(torch.from_numpy(got), reference(decode(path, "RGB")))


def test_a_random_part_reads_as_torchvision(tmp_path: Path) -> None:
    v2 = transforms()
    path = save(tmp_path / "a.png", picture(90, 60))
    reading = Reading(32, random_crop=True, interpolation="bilinear")
    for seed in range(5):
        left, upper, right, lower = random_box(90, 60, np.random.default_rng(seed), 0.08)
        want = v2.functional.resized_crop(decode(path, "RGB"), upper, left, lower - upper, right - left, [32, 32])
        got = reading.read(path, np.random.default_rng(seed))
        assert torch.equal(torch.from_numpy(got), v2.functional.pil_to_tensor(want))


@pytest.mark.parametrize(("width", "height"), [(500, 375), (100, 100), (40, 300), (300, 40), (3, 3), (1, 1)])
def test_random_parts_are_distributed_as_those_of_torchvision(width: int, height: int) -> None:
    from scipy.stats import ks_2samp

    v2, random = transforms(), np.random.default_rng(0)
    image, count = Image.new("L", (width, height)), 1500
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(8)
    theirs = [crop.make_params([image]) for _ in range(count)]
    ours = np.array([random_box(width, height, random, 0.08) for _ in range(count)])
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 2:] <= (width, height)).all()
    assert (ours[:, 2:] > ours[:, :2]).all()
    boxes = np.array([[p["left"], p["top"], p["left"] + p["width"], p["top"] + p["height"]] for p in theirs])
    for column in range(4):
        assert ks_2samp(ours[:, column], boxes[:, column]).pvalue > 1e-4
    if width == 500:
        share = (ours[:, 2] - ours[:, 0]) * (ours[:, 3] - ours[:, 1]) / (width * height)
        assert 0.078 < share.min() < 0.1
        assert share.max() <= 1.0


# A split of files


@pytest.fixture
def split(tmp_path: Path) -> ImageFiles:
    for number in range(10):
        save(tmp_path / ("cat" if number < 6 else "dög") / f"{number}.JPEG", picture(40, 30, number))
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "cat" / "._0.JPEG").write_bytes(b"left by another system")
    return sorted_files(tmp_path, ["cat", "dög"], Reading(16, random_crop=True))


def test_a_split_reads_what_it_is_asked_for(split: ImageFiles) -> None:
    assert len(split) == 10
    assert split.labels.tolist() == [0] * 6 + [1] * 4
    assert split.sample_shape == (3, 16, 16)
    images, labels = split.batch([7, 0])
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert labels.tolist() == [1, 0]
    for image, index in zip(images, (7, 0), strict=True):
        want = torch.from_numpy(split.reading.read(split.path(index)))
        assert torch.equal((image * 255).round().to(torch.uint8), want)
    for indices in (slice(2, 5), torch.tensor([2, 3, 4])):
        assert torch.equal(split.batch(indices)[0], split.batch([2, 3, 4])[0])
    assert split.batch([])[0].shape == (0, 3, 16, 16)
    part = split.subset(torch.tensor([9, 1]))
    assert part.labels.tolist() == [1, 0]
    assert torch.equal(part.batch(slice(None))[0], split.batch([9, 1])[0])
    with pytest.raises(ShapeError, match=r"labels must be an int64 tensor \[10\]"):
        ImageFiles(split.folder, split.files, split.labels[:3], split.reading)


def test_random_crops_depend_on_seed_epoch_and_image_alone(split: ImageFiles) -> None:
    every = slice(None)
    plain, first = split.batch(every)[0], split.training(0, 0)
    crops = first.batch(every)[0]
    assert torch.equal(crops, split.training(0, 0).batch(every)[0])
    # In another order, in other batches, in a part of the split.
    assert torch.equal(first.batch([8, 2])[0], crops[[8, 2]])
    assert torch.equal(torch.cat([images for images, _ in first.batches([[4], [5, 6]])]), crops[[4, 5, 6]])
    assert torch.equal(split.subset([3, 9]).training(0, 0).batch([1])[0], crops[[9]])
    assert torch.equal(split.subset([3, 9]).subset([1]).training(0, 0).batch([0])[0], crops[[9]])
    for other in (plain, split.training(0, 1).batch(every)[0], split.training(1, 0).batch(every)[0]):
        assert not any(torch.equal(a, b) for a, b in zip(crops, other, strict=True))
    assert torch.equal(split.batch(every)[0], plain)  # evaluation stays as it is


def test_threads_change_nothing(split: ImageFiles) -> None:
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 4):
            torch.set_num_threads(threads)
            found.append(torch.cat([images for images, _ in split.training(0, 3).batches(torch.arange(10).split(3))]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_batches_are_read_ahead_and_no_further(split: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    done = threading.Semaphore(0)
    plain = Reading.read

    def counted(self: Reading, path: Path, random: object = None) -> np.ndarray:
        read.append(path)
        done.release()
        return plain(self, path, None)

    monkeypatch.setattr(Reading, "read", counted)
    batches = split.batches([[n] for n in range(10)])
    next(batches)
    for _ in range(1 + AHEAD):
        assert done.acquire(timeout=10)
    assert len(read) == 1 + AHEAD
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]
    assert len(read) == 1 + AHEAD


def test_a_broken_image_ends_the_reading_in_one_line(split: ImageFiles) -> None:
    split.path(4).write_bytes(b"broken")
    assert len(split.batch([0, 1, 2, 3])[1]) == 4
    with pytest.raises(DataError, match="is not an image") as error:
        list(split.batches(torch.arange(10).split(2)))
    assert str(split.path(4)) in one_line(error)


def test_a_class_without_images(split: ImageFiles) -> None:
    (split.folder / "emu").mkdir()
    with pytest.raises(DataError, match=r"emu has no images \(\.jpg, "):
        sorted_files(split.folder, ["cat", "emu"], split.reading)
