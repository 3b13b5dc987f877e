"""Augmentation: what it does to images and labels, and that it is drawn from seed and epoch alone."""

import sys

import pytest
import torch
from pydantic import ValidationError

import encoders
from benchmarks import datasets, protocols
from benchmarks.augment import Augment, AugmentConfig
from benchmarks.augment.images import _RandAugment
from benchmarks.augment.library import AugmentError, transforms
from benchmarks.protocols import Batches, Setting
from neurons.errors import OptionError, ShapeError

PLAIN = [{"crop_padding": 2}, {"crop_scale": (0.3, 0.6)}, {"flip": 1.0}, {"erase": 1.0}]
COLOUR = [
    {"auto_augment": "randaugment"},
    {"auto_augment": "randaugment", "randaugment_std": 2.0, "randaugment_probability": 0.9},
    {"auto_augment": "trivialaugment"},
    {"auto_augment": "autoaugment-cifar10"},
    {"colour_jitter": 0.8},
]
MIXING = [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}]


def images(channels=3, count=12, size=16):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def augment(x, labels=None, epoch=0, seed=0, classes=10, **options):
    labels = torch.arange(len(x)) % classes if labels is None else labels
    return Augment(AugmentConfig(**options), classes)(x, labels, epoch, Augment.generator(seed, epoch))


@pytest.mark.parametrize("options", PLAIN + COLOUR + MIXING)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_transform_keeps_shape_and_range_and_changes_something(options, channels):
    x = images(channels)
    y, _ = augment(x, **options)
    assert y.shape == x.shape
    assert 0 <= float(y.min()) <= float(y.max()) <= 1
    assert not torch.equal(y, x)


def test_images_are_changed_one_by_one():
    x = images(1, count=1).expand(16, -1, -1, -1)
    y, _ = augment(x, crop_padding=4)
    assert len({tuple(image.flatten().tolist()) for image in y}) > 4


@pytest.mark.parametrize("options", PLAIN + MIXING)
def test_two_polarities_are_augmented_where_colour_does_not_matter(options):
    assert augment(images(2), **options)[0].shape == images(2).shape


@pytest.mark.parametrize("options", COLOUR)
def test_colour_transforms_say_why_they_refuse_two_polarities(options):
    with pytest.raises(OptionError, match=f"{next(iter(options))} changes colours and needs images of 1 or 3 channels"):
        augment(images(2), **options)


def test_sequences_are_refused():
    with pytest.raises(ShapeError, match=r"takes images \[B, C, H, W\], not \[4, 100\]"):
        augment(torch.rand(4, 100), flip=0.5)


def test_crop_with_padding_is_a_window_of_the_padded_image():
    x = images(1, size=8)
    y, _ = augment(x, crop_padding=2)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    for before, after in zip(padded, y, strict=True):
        windows = [before[:, i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
        assert any(torch.equal(window, after) for window in windows)


def test_flip_mirrors_columns():
    x = images()
    assert torch.equal(augment(x, flip=1.0)[0], x.flip(-1))


def test_erasing_blackens_a_rectangle():
    x = images().clamp_min(0.1)
    erased = augment(x, erase=1.0)[0] == 0
    for image in erased:
        rows, columns = image[0].any(1), image[0].any(0)
        assert torch.equal(image[0], rows[:, None] & columns[None, :])
        assert 0 < image[0].float().mean() < 0.4


def test_randaugment_is_torchvision_s_on_a_scale_to_ten():
    x = images()[0]
    ours = _RandAugment(AugmentConfig(auto_augment="randaugment", randaugment_magnitude=9), transforms())
    theirs = transforms().RandAugment(num_ops=2, magnitude=9, num_magnitude_bins=11)
    for seed in range(30):
        torch.manual_seed(seed)
        expected = theirs(x)
        torch.manual_seed(seed)
        # Posterize rounds its bits, and a shift of a pixel is rounded too: nearly all pixels agree.
        assert torch.isclose(ours(x), expected, atol=1e-4).float().mean() > 0.97


def test_randaugment_draws_its_strength_and_which_operations_are_applied():
    config = AugmentConfig(auto_augment="randaugment", randaugment_magnitude=9, randaugment_std=0.5)
    policy = _RandAugment(config, transforms())
    used = []

    def spy(image):
        used.append(policy.one.magnitude / 100)
        return image

    spy.magnitude = 0
    policy.one = spy
    torch.manual_seed(0)
    for _ in range(500):
        policy(images()[0])
    drawn = torch.tensor(used)
    assert len(drawn) == 1000
    assert float(drawn.max()) == 10  # limited to the scale: 2.3 % lie above
    assert float(drawn.mean()) == pytest.approx(9, abs=0.06)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.05)
    policy.config = config.model_copy(update={"randaugment_probability": 0.5})
    used.clear()
    for _ in range(500):
        policy(images()[0])
    assert len(used) == pytest.approx(500, abs=60)


def test_mixup_blends_images_as_it_blends_labels():
    x, labels = images(), torch.arange(12) % 10
    y, soft = augment(x, labels, mixup=0.5)
    assert soft.shape == (12, 10)
    assert torch.allclose(soft.sum(1), torch.ones(12))
    share = float(soft[0, labels[0]])  # of the image itself; its neighbour in the batch has the rest
    assert torch.allclose(y, share * x + (1 - share) * x.roll(1, 0), atol=1e-6)
    one_hot = torch.nn.functional.one_hot(labels, 10).float()
    assert torch.allclose(soft, share * one_hot + (1 - share) * one_hot.roll(1, 0), atol=1e-6)


def test_cutmix_labels_have_the_share_of_the_area():
    x, labels = images(), torch.arange(12) % 10
    y, soft = augment(x, labels, cutmix=1.0)
    assert torch.allclose(soft.sum(1), torch.ones(12))
    own = (y == x).all(1).float().mean((1, 2))
    assert torch.allclose(own, soft.gather(1, labels[:, None])[:, 0], atol=1e-6)
    assert torch.equal(torch.where((y == x), x, x.roll(1, 0)), y)


def test_mixing_stops_at_its_epoch_and_keeps_to_its_probabilities():
    labels = torch.arange(12) % 10
    assert augment(images(), labels, epoch=2, mixup=1.0, mixup_off_epoch=3)[1].dim() == 2
    assert torch.equal(augment(images(), labels, epoch=3, mixup=1.0, mixup_off_epoch=3)[1], labels)
    assert torch.equal(augment(images(), labels, mixup=1.0, mixup_probability=0)[1], labels)
    both = {"mixup": 1.0, "cutmix": 1.0}
    cut, _ = augment(images(), switch_probability=1, **both)
    blended, _ = augment(images(), switch_probability=0, **both)
    assert ((cut == images()) | (cut == images().roll(1, 0))).all()
    assert not ((blended == images()) | (blended == images().roll(1, 0))).all()


ALL = {
    "crop_padding": 1,
    "flip": 0.5,
    "auto_augment": "randaugment",
    "randaugment_std": 0.5,
    "erase": 0.5,
    "mixup": 0.5,
}


def test_an_epoch_of_augmented_batches_depends_on_seed_and_number_alone():
    data = datasets.load("digits")

    def batches(seed):
        augmented = Augment(AugmentConfig(**ALL), 10)
        return Batches(data.train, torch.arange(64), encoders.create("rate"), 2, 32, True, seed, 10, augmented)

    def epoch(number, seed=5, before=()):
        made = batches(seed)
        for earlier in before:
            list(made.epoch(earlier))
        torch.manual_seed(torch.seed())  # what the global generator holds must not matter
        return list(made.epoch(number))

    for (x, y), (x_again, y_again) in zip(epoch(1), epoch(1, before=(0, 3)), strict=True):
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)
    assert not torch.equal(epoch(1)[0][0], epoch(2)[0][0])
    assert not torch.equal(epoch(1)[0][0], epoch(1, seed=6)[0][0])


def test_the_global_generator_is_left_as_it_was():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    augment(images(), **ALL)
    assert torch.equal(torch.get_rng_state(), before)


def test_only_training_batches_are_augmented_and_the_plain_stream_stays_as_it_was():
    data = datasets.load("digits")
    plain = Batches(data.train, torch.arange(64), encoders.create("rate"), 2, 32, True, 0)
    idle = Batches(
        data.train, torch.arange(64), encoders.create("rate"), 2, 32, True, 0, 10, Augment(AugmentConfig(), 10)
    )
    for (x, y), (x_idle, y_idle) in zip(plain.epoch(2), idle.epoch(2), strict=True):
        assert torch.equal(x, x_idle)
        assert torch.equal(y, y_idle)
    setting = Setting(data, encoders.create("direct"), 1, 0)
    probe = protocols.create("classification").probe(setting, samples=16, batch=8)
    assert probe.augment is None
    assert probe.classes == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_scale": (0.5, 0.2)}, "a smallest and a largest share"),
        ({"crop_scale": (0.5, 1.0), "crop_padding": 4}, "two ways to crop"),
        ({"auto_augment": "randaugment", "colour_jitter": 0.4}, "changes colours already"),
        ({"auto_augment": "randaug"}, "Input should be"),
        ({"flip": 1.5}, "less than or equal to 1"),
        ({"mixupp": 1.0}, "Extra inputs"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        AugmentConfig(**options)


def test_a_missing_torchvision_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(AugmentError, match=r"augmentation needs torchvision: pip install torchvision"):
        transforms()
