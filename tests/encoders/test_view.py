"""The views that place recognition compares: against plain loops, and against what they are for."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import encoders
from neurons.errors import OptionError, ShapeError


def seen(x: torch.Tensor, **options: object) -> torch.Tensor:
    return encoders.create("view", **options)(x, 1)[0]


def images(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def by_hand(image: np.ndarray, window: int) -> np.ndarray:
    """Patch normalisation, pixel by pixel."""
    half, (height, width) = window // 2, image.shape
    found = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            patch = image[max(0, i - half) : i + half + 1, max(0, j - half) : j + half + 1]
            found[i, j] = 0.0 if patch.std() < 1e-6 else (image[i, j] - patch.mean()) / patch.std()
    return (np.clip(found, -1, 1) + 1) / 2


@given(st.integers(0, 2**31), st.integers(3, 9), st.integers(3, 9), st.sampled_from([3, 5, 7]))
def test_patch_normalisation_is_the_plain_loop(seed: int, height: int, width: int, window: int) -> None:
    x = images(seed, 1, 1, height, width)
    expected = by_hand(x[0, 0].double().numpy(), window)
    np.testing.assert_allclose(seen(x, window=window)[0, 0].numpy(), expected, atol=1e-5)


def test_an_even_image_is_the_average_everywhere() -> None:
    assert seen(torch.full((2, 1, 9, 9), 0.3), window=7).unique().tolist() == [0.5]


def test_light_and_contrast_do_not_change_a_patch_normalised_view() -> None:
    x = images(0, 3, 1, 20, 20)
    torch.testing.assert_close(seen(0.25 * x + 0.5, window=7), seen(x, window=7), atol=1e-4, rtol=0)


def test_gamma_is_its_formula_and_leaves_black_images() -> None:
    x = images(1, 2, 1, 6, 6) * torch.tensor([0.2, 0.9]).view(2, 1, 1, 1)
    found = seen(x, gamma=True)
    for image, bright in zip(x, found, strict=True):
        raw = image.double() * 255
        power = math.log(127.5) / math.log(float(raw.mean()))
        torch.testing.assert_close(bright.double(), (raw**power / 255).clamp(max=1), atol=1e-5, rtol=0)
    assert not seen(torch.zeros(1, 1, 4, 4), gamma=True).any()


def test_picking_takes_the_middle_pixel_of_each_block() -> None:
    x = torch.arange(256.0).view(1, 1, 16, 16) / 255
    assert torch.equal(seen(x, pick=8)[0, 0], x[0, 0, 3::8, 3::8])
    assert torch.equal(seen(x, pick=3)[0, 0], x[0, 0, 1::3, 1::3])


def test_smaller_is_the_mean_and_colour_is_grey() -> None:
    x = images(2, 2, 3, 8, 8)
    found = seen(x, size=4)
    assert found.shape == (2, 1, 4, 4)
    torch.testing.assert_close(found[:, 0, 0, 0], x[..., :2, :2].mean(dim=(1, 2, 3)))
    assert seen(x, size=16).shape == (2, 1, 16, 16)


def test_samples_are_seen_alone_and_steps_are_one_memory() -> None:
    x = images(3, 4, 1, 24, 24)
    encoder = encoders.create("view", size=12, gamma=True, window=5)
    out = encoder(x, 3)
    assert out.shape == (3, 4, 1, 12, 12)
    assert out.stride(0) == 0
    for number, image in enumerate(x.split(1)):
        assert torch.equal(encoder(image, 1)[0, 0], out[0, number])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 4}, "window must be odd"),
        ({"window": 1}, "window must be at least 3"),
        ({"pick": 1}, "pick must be at least 2"),
        ({"size": 0}, "size must be at least 1"),
    ],
)
def test_options_outside_their_domain_are_refused(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        encoders.create("view", **options)


def test_what_are_no_images_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"images \[B, C, H, W\], not \[2, 5\]"):
        seen(torch.rand(2, 5))
    with pytest.raises(OptionError, match="blocks of 8 pixels do not fit"):
        seen(torch.rand(1, 1, 5, 5), pick=8)
