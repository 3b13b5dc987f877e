"""Task streams: what their tasks share and what they do not, and the data sets they are made of, in miniature."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import encoders
from benchmarks import datasets
from benchmarks.datasets import Joined, Split, Task, TaskStream, View, cifar, fashion_mnist, mini_imagenet, mnist, svhn
from benchmarks.datasets.base import Dataset, Samples
from benchmarks.datasets.five_datasets import fit
from benchmarks.datasets.image_files import labelled_files
from benchmarks.datasets.reading import Reading
from benchmarks.datasets.rotated_tasks import rotate
from neurons.errors import DataError, OptionError, ShapeError
from step.runner import setting_of
from step.spec import Spec, SpecError

ALL = slice(None)


def stream(name: str, root: Path | None = None, **options: object) -> TaskStream:
    found = datasets.load(name, root, **options)
    assert isinstance(found, TaskStream)
    return found


def content(split: Samples) -> Tensor:
    return split.batch(ALL)[0]


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# Joined splits and views


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Samples, ...]:
    """Splits of all kinds: in memory, in files, a view of one."""
    made = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (12, 1, 4, 4), generator=made, dtype=torch.uint8)
    for number in range(5):
        Image.fromarray(pixels[number, 0].numpy()).save(tmp_path / f"{number}.png")
    files = labelled_files(tmp_path, [f"{number}.png" for number in range(5)], range(5), Reading(4, 1))
    memory = Split(pixels, torch.arange(12) % 3)
    view = View(memory, torch.tensor([7, 0, 11]), torch.tensor([5, 6, 7]), lambda x: 1 - x)
    return memory, files, view, files.subset([4, 1])


def test_joined_is_the_concatenation(parts: tuple[Samples, ...]) -> None:
    joined = Joined(parts)
    x, labels = (torch.cat(each) for each in zip(*(part.batch(ALL) for part in parts), strict=True))
    assert len(joined) == 22
    assert joined.sample_shape == (1, 4, 4)
    assert torch.equal(joined.labels, labels)
    order = torch.randperm(22, generator=torch.Generator().manual_seed(1))
    some = joined.subset(order[:15]).subset(slice(2, None, 2))
    for found, places in ((joined, torch.arange(22)), (some, order[2:15:2])):
        assert torch.equal(found.labels, labels[places])
        chunks = [torch.tensor([5, 0, 5]), [3], slice(1, 4), torch.tensor([], dtype=torch.int64), slice(-2, None)]
        for (got, said), chunk in zip(found.batches(chunks), chunks, strict=True):
            assert torch.equal(got, x[places][chunk])
            assert torch.equal(said, labels[places][chunk])
            assert (got.dtype, said.dtype) == (torch.float32, torch.int64)
            assert all(map(torch.equal, found.batch(chunk), (got, said)))
    with pytest.raises(ShapeError, match="only splits with samples of one shape"):
        Joined((parts[0], Split(torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64))))


def test_training_reaches_the_parts(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    files = labelled_files(tmp_path, ["a.png", "a.png"], [0, 1], Reading(6, 1, random_crop=True))
    joined = Joined((files, View(files, change=lambda x: 1 - x)))
    first, again, second = (content(joined.training(0, epoch)) for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(first[2:], 1 - first[:2])
    assert torch.equal(content(joined.subset([3, 0]).training(0, 1)), first[[3, 0]])


def test_a_view_is_what_is_asked_for(parts: tuple[Samples, ...]) -> None:
    memory, view = parts[0], parts[2]
    assert view.labels.tolist() == [6, 5, 7]
    assert torch.equal(content(view), 1 - content(memory)[[7, 0, 11]])
    assert torch.equal(content(view.subset([2, 0])), 1 - content(memory)[[11, 7]])
    assert all(map(torch.equal, next(view.batches([[1]])), view.batch([1])))


# Permuted and rotated tasks


def test_permutations_differ_by_task_and_are_those_of_training_and_test() -> None:
    plain, found = datasets.load("digits-28"), stream("permuted-tasks", tasks=3)
    assert (found.scenario, found.classes, len(found.tasks)) == ("domain", 10, 3)
    orders = []
    for number, task in enumerate(found.tasks):
        assert task.outputs is None
        key = np.random.RandomState([0, 0, number, 0])  # the seed and the task as pairs of 32-bit halves
        orders.append(torch.from_numpy(key.permutation(784)))
        for split, original in ((task.train, plain.train), (task.test, plain.test)):
            assert torch.equal(content(split).flatten(1), content(original).flatten(1)[:, orders[-1]])
            assert torch.equal(split.labels, original.labels)
    moved = [(order != torch.arange(784)).float().mean() for order in orders]
    assert min(moved) > 0.9  # the first task too
    agreement = [(one == other).float().mean() for i, one in enumerate(orders) for other in orders[:i]]
    assert max(agreement) < 0.02
    assert torch.equal(content(found.test), torch.cat([content(task.test) for task in found.tasks]))


def test_streams_are_the_same_ones_again() -> None:
    first, again = (content(stream("permuted-tasks", of="digits", tasks=2, seed=3).train) for _ in range(2))
    assert torch.equal(first, again)
    longer = stream("permuted-tasks", of="digits", tasks=3, seed=3)
    assert torch.equal(content(longer.train)[: len(first)], first)  # a task does not depend on how many there are
    assert not torch.equal(content(stream("permuted-tasks", of="digits", tasks=2, seed=4).train), first)
    names = [[task.name for task in stream("split-tasks", seed=5).tasks] for _ in range(2)]
    assert names[0] == names[1] != [task.name for task in stream("split-tasks").tasks]


def test_rotations() -> None:
    plain, found = datasets.load("digits-28"), stream("rotated-tasks", angles=[0, 90, 30])
    x = content(plain.test)
    assert [task.name for task in found.tasks] == ["0 degrees", "90 degrees", "30 degrees"]
    assert torch.equal(content(found.tasks[0].test), x)
    assert torch.equal(content(found.tasks[1].test), x.rot90(1, (2, 3)))
    turned = content(found.tasks[2].test)
    assert 0 <= turned.min() <= turned.max() <= 1
    for close in (90.0, -90.0, 180.0, 450.0):  # the way between pixels comes from the same side
        torch.testing.assert_close(rotate(x, close - 1e-4), rotate(x, close), rtol=0, atol=1e-3)
    blob = torch.zeros(1, 1, 15, 15)
    blob[0, 0, 7, 12] = 1  # right of the middle: counter-clockwise means upwards
    assert divmod(int(rotate(blob, 45).argmax()), 15)[0] < 7


# Split tasks


def test_the_three_scenarios() -> None:
    digits = datasets.load("digits")
    for scenario in ("task", "domain", "class"):
        found = stream("split-tasks", of="digits", scenario=scenario)
        assert (found.scenario, found.classes) == (scenario, 2 if scenario == "domain" else 10)
        assert (len(found.train), len(found.test)) == (len(digits.train), len(digits.test))
        for number, task in enumerate(found.tasks):
            for split, original in ((task.train, digits.train), (task.test, digits.test)):
                members = (original.labels // 2 == number).nonzero().flatten()
                assert torch.equal(content(split), original.batch(members)[0])
                expected = original.labels[members]
                assert torch.equal(split.labels, expected % 2 if scenario == "domain" else expected)
            assert task.outputs == (None if scenario == "domain" else (2 * number, 2 * number + 2))
            opened = [found.open_outputs(number, learned) for learned in (1, 3, 5)]
            own = (2 * number, 2 * number + 2)
            assert opened == {"task": [own] * 3, "domain": [(0, 2)] * 3, "class": [(0, 2), (0, 6), (0, 10)]}[scenario]
    with pytest.raises(OptionError, match="1 to 5 tasks can have been learned, not 0"):
        found.open_outputs(0, 0)
    with pytest.raises(OptionError, match="has the tasks 0 to 4, not 5"):
        found.open_outputs(5, 1)


def test_classes_in_a_random_order() -> None:
    digits, found = datasets.load("digits"), stream("split-tasks", of="digits", tasks=2, scenario="class", seed=1)
    originals = []
    for task in found.tasks:
        x, labels = task.test.batch(ALL)
        place = {image.numpy().tobytes(): int(label) for image, label in zip(*digits.test.batch(ALL), strict=True)}
        pairs = {(int(label), place[image.numpy().tobytes()]) for image, label in zip(x, labels, strict=True)}
        originals += [old for _, old in sorted(pairs)]
        assert task.name == f"classes {', '.join(str(old) for old in originals[-5:])}"
    assert sorted(originals) == list(range(10)) != originals


def test_streams_check_their_tasks() -> None:
    split = Split(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 2, 3]))
    said = {"name": "made", "classes": 4, "channels": 1, "image_size": 2, "source": "", "licence": "", "note": ""}
    low, high = split.subset([0, 1]), split.subset([2, 3])

    def made(tasks: list[Task], scenario: str = "class") -> TaskStream:
        return TaskStream.of(tasks, scenario, **said)  # type: ignore[arg-type]

    good = [Task("a", low, low, (0, 2)), Task("b", high, high, (2, 4))]
    assert made(good).open_outputs(0, 2) == (0, 4)
    with pytest.raises(DataError, match="labels of b must be 2 to 3, found 0 to 1"):
        made([good[0], Task("b", low, low, (2, 4))])
    with pytest.raises(DataError, match="the outputs of a are 0 to 1, expected from 2"):
        made([good[0], good[0]])
    with pytest.raises(DataError, match="share all outputs, not a"):
        made(good, "domain")
    with pytest.raises(DataError, match="have outputs of their own, not c"):
        made([Task("c", split, split)], "task")
    with pytest.raises(OptionError, match="task, domain or class, not 'blocks'"):
        made(good, "blocks")


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("permuted-tasks", {"tasks": 0}, "dataset.tasks must be at least 1, not 0"),
        ("permuted-tasks", {"seed": -1}, "dataset.seed must be from 0"),
        ("permuted-tasks", {"of": "split-tasks"}, "split-tasks is not a set of images"),
        ("permuted-tasks", {"of": "digits-adding"}, "digits-adding is not a set of images"),
        ("rotated-tasks", {"of": "image-folder"}, "image-folder needs options of its own"),
        ("rotated-tasks", {"angles": ()}, "dataset.angles must be one or more finite numbers"),
        ("rotated-tasks", {"angles": (float("nan"),)}, "dataset.angles must be one or more finite numbers"),
        ("split-tasks", {"tasks": 3}, "10 classes of digits-28 cannot be split into 3 equal parts"),
        ("split-tasks", {"tasks": 20}, "cannot be split into 20"),
        ("split-tasks", {"scenario": "none"}, "dataset.scenario is task, domain or class"),
        ("five-offline", {"per_class": 0}, "dataset.per_class must be at least 1"),
        ("drawn-letters", {"train": 3}, "dataset.train must be at least 10, not 3"),
    ],
)
def test_options_are_refused_in_one_line(name: str, options: dict[str, object], problem: str) -> None:
    with pytest.raises(OptionError) as error:
        datasets.load(name, **options)
    assert problem in one_line(error)


# Standardised input, through a spec


def test_standardised_digits_through_a_spec() -> None:
    train = datasets.load("digits-28").train
    (mean,), (sd,) = datasets.moments(train)
    pixels = content(train).double()
    assert (mean, sd) == pytest.approx((pixels.mean().item(), pixels.std(correction=0).item()), rel=1e-5)
    data = {"name": "permuted-tasks", "tasks": 2}
    said = datasets.load(**data).note
    assert f"mean {mean:.4f} and standard deviation {sd:.4f}" in said
    spec = Spec.parse(
        {"dataset": data, "encoder": {"name": "standardised", "T": 3, "mean": mean, "sd": sd}, "model": "mlp"}
    )
    setting, _ = setting_of(Spec.parse(spec.model_dump(mode="json")), None)
    x = setting.encoder(setting.dataset.train.batch(ALL)[0], setting.T)
    assert x.shape == (3, 2_600, 1, 28, 28)
    assert (x.mean().item(), x[0].std().item()) == pytest.approx((0, 1), abs=1e-3)
    assert x.stride(0) == 0


def test_standardised_by_hand() -> None:
    colour = torch.rand(2, 3, 4, 4)
    mean, sd = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    found = encoders.create("standardised", mean=mean, sd=sd)(colour, 2)
    for channel in range(3):
        torch.testing.assert_close(found[1, :, channel], (colour[:, channel] - mean[channel]) / sd[channel])
    assert encoders.create("standardised")(torch.tensor([[0.0, 0.25, 1.0]]), 1).tolist() == [[[-1.0, -0.5, 1.0]]]
    with pytest.raises(ShapeError, match="has 3 channels"):
        encoders.create("standardised", mean=mean, sd=1.0)(colour[:, :2], 1)
    for options, problem in (({"sd": 0.0}, "sd must be"), ({"mean": []}, "mean must be"),
                             ({"mean": mean, "sd": [1.0, 1.0]}, "as many channels")):  # fmt: skip
        with pytest.raises(SpecError, match=problem):
            Spec.parse({"dataset": "digits", "model": "mlp", "encoder": {"name": "standardised", "T": 1, **options}})


def test_streams_in_specs() -> None:
    def parsed(**dataset: object) -> Spec:
        return Spec.parse({"dataset": dataset, "model": "mlp"})

    angles = parsed(name="rotated-tasks", angles=[0, 45])
    assert Spec.parse(angles.model_dump(mode="json")).id == angles.id
    assert parsed(name="rotated-tasks", angles=[0, 45.0]).id == angles.id != parsed(name="rotated-tasks").id
    assert parsed(name="split-tasks").id == parsed(name="split-tasks", seed=None, scenario="task", tasks=5).id
    with pytest.raises(SpecError, match=r"dataset\.scenario: .*'task', 'domain' or 'class'"):
        parsed(name="split-tasks", scenario="blocks")


# Made-up images


@pytest.mark.parametrize("name", ["digits-28", "drawn-letters", "drawn-shapes", "speech-pictures"])
def test_images_of_28_pixels(name: str) -> None:
    small = {"drawn-letters": {"train": 40, "test": 20}, "drawn-shapes": {"train": 40, "test": 20}}
    small["speech-pictures"] = {"speakers": 2, "takes": 1}
    first, again = (datasets.load(name, **small.get(name, {})) for _ in range(2))
    assert (first.classes, first.shape) == (10, (1, 28, 28))
    for part, split in first.splits.items():
        x, labels = split.batch(ALL)
        assert torch.equal(x, content(again.splits[part]))
        assert 0 <= x.min() < x.max() <= 1
        assert labels.bincount(minlength=10).min() > 0
        assert (x.flatten(1).std(1) > 0.03).all()  # no picture is empty
        assert len(x.flatten(1).unique(dim=0)) == len(x)
    if name == "digits-28":
        assert (len(first.train), len(first.test)) == (1_300, 497)
        small_one = torch.nn.functional.avg_pool2d(content(first.train), 7, stride=7)  # 4x4 of both sizes agree
        digits = torch.cat([content(part) for part in datasets.load("digits").splits.values()])
        distances = torch.cdist(small_one.flatten(1), torch.nn.functional.avg_pool2d(digits, 2).flatten(1))
        assert distances.min(1).values.max() < 0.3 < distances.median()
    elif name != "drawn-letters":
        assert not torch.equal(x, content(datasets.load(name, seed=1, **small[name]).test))


# Users' files, in miniature and in the formats in which they come


def write_gz(path: Path, shape: tuple[int, ...], payload: bytes) -> str:
    """Write an IDX file; return the sha256 of its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    idx = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + payload
    path.write_bytes(gzip.compress(idx, mtime=0))
    return hashlib.sha256(idx).hexdigest()


def write_idx_set(folder: Path, seed: int, counts: dict[str, int]) -> dict[str, str]:
    random, hashes = np.random.default_rng(seed), {}
    for part, count in counts.items():
        pixels = random.integers(0, 256, count * 784, dtype=np.uint8)
        name = f"{part}-images-idx3-ubyte.gz"
        hashes[name] = write_gz(folder / name, (count, 28, 28), pixels.tobytes())
        name = f"{part}-labels-idx1-ubyte.gz"
        hashes[name] = write_gz(folder / name, (count,), bytes(place % 10 for place in range(count)))
    return hashes


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    (root / "svhn").mkdir()
    for file, count in (("train_32x32.mat", 20), ("test_32x32.mat", 10)):
        x = np.random.default_rng(count).integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        y = (np.arange(count, dtype=np.uint8) % 10 + 1)[:, None]  # 1 to 10, where 10 is the digit 0
        savemat(root / "svhn" / file, {"X": x, "y": y})
        digest = hashlib.md5((root / "svhn" / file).read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setitem(svhn.FILES, file, digest)


def write_letters(folder: Path, count: int) -> None:
    for label, letter in enumerate("ABCDEFGHIJ"):
        (folder / letter).mkdir(parents=True)
        for number in range(count):
            picture = np.full((28, 28), 10 * label + number, np.uint8)
            Image.fromarray(picture).save(folder / letter / f"{number:02}.png")


@pytest.fixture
def five(tmp_path: Path, empty_machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for number, file in enumerate((*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin")):
        random = np.random.default_rng(number)
        records = [bytes([label]) + random.integers(0, 256, 3072, dtype=np.uint8).tobytes() for label in range(10)]
        (folder / file).write_bytes(b"".join(records))
    monkeypatch.setattr(cifar, "CIFAR10", replace(cifar.CIFAR10, train=50, test=10))
    counts = {"train": 20, "t10k": 10}
    write_idx_set(tmp_path / "MNIST" / "raw", 1, counts)
    monkeypatch.setattr(mnist, "COUNTS", {"train": (2,) * 10, "t10k": (1,) * 10})
    for file, digest in write_idx_set(tmp_path / "fashion-mnist", 2, counts).items():
        monkeypatch.setitem(fashion_mnist.FILES, file, digest)
    write_svhn(tmp_path, monkeypatch)
    write_letters(tmp_path / "notMNIST_small", 12)
    (tmp_path / "notMNIST_small" / "A" / "RGVtb2NyYXRpY2FCb2xkT2xkc3R5bGUgQm9sZC50dGY=.png").write_bytes(b"")
    return tmp_path


def test_five_data_sets(five: Path) -> None:
    found = stream("five-datasets", five)
    assert (found.classes, found.shape, found.scenario) == (50, (3, 32, 32), "task")
    assert [task.name for task in found.tasks] == ["cifar10", "mnist", "svhn", "fashion-mnist", "notmnist"]
    assert [len(task.train) for task in found.tasks] == [50, 20, 20, 20, 110]
    assert [len(task.test) for task in found.tasks] == [10] * 5
    for number, task in enumerate(found.tasks):
        assert task.outputs == (10 * number, 10 * number + 10)
        part = datasets.load(task.name, five)
        x, labels = part.test.batch(ALL)
        assert torch.equal(task.test.labels, labels + 10 * number)
        seen = content(task.test)
        if part.channels == 3:
            assert torch.equal(seen, x)
        else:
            assert torch.equal(seen[:, :, 2:-2, 2:-2], x.expand(-1, 3, -1, -1))
            assert seen.dtype == torch.float32
            assert seen.count_nonzero() == 3 * x.count_nonzero()  # the border is 0
    shared = stream("five-datasets", five, scenario="domain")
    assert shared.classes == 10
    assert shared.open_outputs(4, 1) == (0, 10)
    assert datasets.where("five-datasets", five) == five / "notMNIST_small"
    (five / "svhn" / "test_32x32.mat").unlink()
    for read in (datasets.load, datasets.where):
        with pytest.raises(DataError) as error:
            read("five-datasets", five)
        assert "'svhn'" in one_line(error)
        assert "run: step fetch svhn" in one_line(error)


def test_svhn_and_mnist_and_notmnist(five: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import loadmat

    numbers = datasets.load("svhn", five)
    raw = loadmat(five / "svhn" / "train_32x32.mat")
    x, labels = numbers.train.batch([3, 9])
    assert torch.equal(x[0], torch.from_numpy(raw["X"][:, :, :, 3]).permute(2, 0, 1) / 255)
    assert labels.tolist() == [4, 0]  # the label 10 is the digit 0
    letters = datasets.load("notmnist", five)
    x, labels = letters.test.batch(ALL)  # the tenth of twelve files of each letter
    assert labels.tolist() == list(range(10))
    assert (x[:, 0, 0, 0] * 255).round().tolist() == [10 * label + 9 for label in range(10)]
    (five / "svhn" / "train_32x32.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(DataError, match="is not the published file"):
        datasets.load("svhn", five)
    digest = hashlib.md5(b"MATLAB 5.0", usedforsecurity=False).hexdigest()
    monkeypatch.setitem(svhn.FILES, "train_32x32.mat", digest)
    with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
        datasets.load("svhn", five)
    monkeypatch.setattr(mnist, "COUNTS", {"train": (1, 3, *(2,) * 8), "t10k": (1,) * 10})
    with pytest.raises(DataError, match="is not that of MNIST: it has other numbers of the ten digits"):
        datasets.load("mnist", five)
    write_letters(five / "notMNIST" / "Train", 2)
    (five / "notMNIST_small").rename(five / "elsewhere")
    with pytest.raises(DataError, match=r"lacks Test/A, .* get notMNIST_small"):
        datasets.load("notmnist", five)
    write_letters(five / "notMNIST" / "Test", 1)
    assert [len(split) for split in datasets.load("notmnist", five).splits.values()] == [20, 10]


def test_five_offline(five: Path) -> None:
    found = stream("five-offline", five, scenario="class", per_class=1)
    assert (found.classes, found.shape) == (50, (1, 28, 28))
    assert [len(task.train) for task in found.tasks] == [10] * 5
    clothes = datasets.load("fashion-mnist", five)
    assert torch.equal(content(found.tasks[0].train), content(clothes.train)[:10])
    assert [task.test.labels.unique().numel() for task in found.tasks] == [10] * 5
    assert found.open_outputs(0, 3) == (0, 30)
    with pytest.raises(DataError) as error:
        datasets.load("five-offline", five / "elsewhere")
    assert one_line(error).endswith("run: step fetch fashion-mnist")


def test_images_that_do_not_fit() -> None:
    assert fit(torch.ones(1, 1, 4, 4), 3, 6).sum() == 48
    for shape in ((1, 1, 5, 5), (1, 1, 8, 8), (1, 2, 6, 6)):
        with pytest.raises(DataError, match="cannot become"):
            fit(torch.ones(shape), 3, 6)


@pytest.fixture
def mini(tmp_path: Path, empty_machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two, one and one classes of three pictures of 4x4, the members of a class scattered over the file."""
    monkeypatch.setattr(mini_imagenet, "PARTS", {"train": 2, "val": 1, "test": 1})
    for name, value in (("EACH", 3), ("TRAIN", 2), ("SIZE", 4)):
        monkeypatch.setattr(mini_imagenet, name, value)
    names = iter(["n03", "n01", "n04", "n02"])
    (tmp_path / "mini-imagenet").mkdir()
    for number, (part, classes) in enumerate(mini_imagenet.PARTS.items()):
        data = np.random.default_rng(number).integers(0, 256, (3 * classes, 4, 4, 3), dtype=np.uint8)
        members = {next(names): list(range(first, 3 * classes, classes)) for first in range(classes)}
        value = {"image_data": data, "class_dict": members}
        (tmp_path / "mini-imagenet" / f"mini-imagenet-cache-{part}.pkl").write_bytes(pickle.dumps(value, protocol=2))
    return tmp_path


def test_mini_imagenet(mini: Path) -> None:
    data: Dataset = datasets.load("mini-imagenet", mini)
    assert (data.classes, data.shape, len(data.train), len(data.test)) == (4, (3, 4, 4), 8, 4)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    first = pickle.loads((mini / "mini-imagenet" / "mini-imagenet-cache-train.pkl").read_bytes())["image_data"]
    pictures = torch.from_numpy(first).permute(0, 3, 1, 2) / 255  # n03, n01, n03, n01, n03, n01
    assert torch.equal(content(data.train)[[0, 1, 4, 5]], pictures[[1, 3, 0, 2]])
    assert torch.equal(content(data.test)[[0, 2]], pictures[[5, 4]])
    tasks = stream("split-tasks", mini, of="mini-imagenet", tasks=2, seed=2022).tasks
    assert [(len(task.train), len(task.test), task.outputs) for task in tasks] == [(4, 2, (0, 2)), (4, 2, (2, 4))]


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("run",)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"image_data": Harmful()}, "is refused: its pickle asks for"),
        ({"image_data": np.zeros((3, 4, 4, 1), np.uint8)}, "image_data must be bytes [3, 4, 4, 3], found [3, 4, 4, 1]"),
        ({"class_dict": {}}, "class_dict must name the pictures of 1 classes"),
        ({"class_dict": {"n09": [0, 1]}}, "class_dict must name 3 pictures of n09"),
        ({"class_dict": {"n09": [0, 1, 1]}}, "class_dict must put each of the 3 pictures in one class"),
        ({"class_dict": {"n01": [0, 1, 2]}}, "has the class n01, which another of the files has too"),
    ],
)
def test_mini_imagenet_refuses(mini: Path, change: dict[str, object], problem: str) -> None:
    path = mini / "mini-imagenet" / "mini-imagenet-cache-val.pkl"
    good = {"image_data": np.zeros((3, 4, 4, 3), np.uint8), "class_dict": {"n09": [0, 1, 2]}}
    path.write_bytes(pickle.dumps({**good, **change}, protocol=2))
    with pytest.raises(DataError) as error:
        datasets.load("mini-imagenet", mini)
    assert problem in one_line(error)
    path.unlink()
    with pytest.raises(DataError, match=r"'mini-imagenet' not found: .*; put mini-imagenet-cache-train\.pkl"):
        datasets.load("mini-imagenet", mini)
