"""Each encoder on cases worked out by hand, and what must hold for all of them."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import encoders
from neurons.errors import OptionError, ShapeError, UnknownNameError

EVERY = [
    ("direct", {}), ("latency", {"amplitude": "inverse"}), ("latency", {"amplitude": "one"}), ("phase", {}),
    ("rate", {}),
    *(
        (name, {}) for name in encoders.names()
        if name not in ("direct", "latency", "phase", "rate")
        and not (encoders.encoders.get(name).own_steps or encoders.encoders.get(name).resizes)
    ),
]  # fmt: skip
"""Encoders of values in [0, 1]; those of sequences and of images have shapes of their own."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encode(name: str, values: list[float], T: int, **options: object) -> list[list[float]]:
    """Encode one sample; return one row per time step."""
    x = torch.tensor([values], dtype=torch.float64)
    return encoders.create(name, **options)(x, T, seeded())[:, 0].tolist()


def test_names_and_descriptions() -> None:
    assert {"direct", "rate", "latency", "phase"} <= set(encoders.names())
    assert encoders.describe("rate").startswith("Rate:")
    with pytest.raises(UnknownNameError, match="did you mean 'phase'"):
        encoders.create("fase")
    with pytest.raises(OptionError, match="did you mean 'amplitude'"):
        encoders.create("latency", amplitud="one")
    assert repr(encoders.Latency(amplitude="one")) == "Latency(amplitude='one')"


# Cases by hand


def test_direct_repeats_without_a_copy_and_passes_gradients() -> None:
    x = torch.tensor([[0.0, 0.25, 1.0]], requires_grad=True)
    out = encoders.Direct()(x, 3)
    assert out.tolist() == [[[0.0, 0.25, 1.0]]] * 3
    assert out.stride(0) == 0
    assert out.data_ptr() == x.data_ptr()
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[3.0, 3.0, 3.0]]


def test_latency_by_hand() -> None:
    # T = 4: t* = 1 + floor((1 - x) 4); 0 would be at step 5, which is never.
    values = [1.0, 0.75, 0.7, 0.5, 0.25, 0.01, 0.0]
    first = [1, 2, 2, 3, 4, 4, None]
    binary = encode("latency", values, 4, amplitude="one")
    assert binary == [[float(t == f) for f in first] for t in range(1, 5)]
    inverse = encode("latency", values, 4)
    assert inverse == [[1 / t if t == f else 0.0 for f in first] for t in range(1, 5)]


def test_latency_of_the_smallest_values_is_the_last_step() -> None:
    # 1 - x rounds to 1 here; the value is not 0 and must spike all the same.
    x = torch.tensor([[1e-12, 1e-30, 0.0]])
    assert encoders.Latency(amplitude="one")(x, 5)[:, 0].tolist() == [[0.0, 0.0, 0.0]] * 4 + [[1.0, 1.0, 0.0]]


@given(st.integers(0, 64), st.integers(1, 40))
def test_latency_follows_its_equation(k: int, T: int) -> None:
    # k / 64 is exact in float32, and so is its product with T: the equation in fractions decides.
    expected = 1 + floor((1 - Fraction(k, 64)) * T)
    out = encoders.Latency(amplitude="one")(torch.tensor([k / 64]), T)[:, 0]
    assert out.nonzero().flatten().tolist() == ([expected - 1] if k else [])


def test_phase_by_hand() -> None:
    # 0.5 = 1000 0000, 0.75 = 1100 0000, 3/256 = 0000 0011, 1 is sent as 1111 1111; 0.9 -> floor(230.4) = 1110 0110
    weights = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    bits = ["00000000", "10000000", "11000000", "00000011", "11111111", "11100110"]
    out = encode("phase", [0.0, 0.5, 0.75, 3 / 256, 1.0, 0.9], 8)
    assert out == [[int(word[t]) * weights[t] for word in bits] for t in range(8)]


def test_phase_is_cut_short_below_a_period_and_starts_again_above() -> None:
    whole = encode("phase", [0.3, 0.9], 8)
    assert encode("phase", [0.3, 0.9], 4) == whole[:4]
    assert encode("phase", [0.3, 0.9], 19) == whole + whole + whole[:3]


@given(st.floats(0, 1, width=32))
def test_phase_adds_up_to_the_value(x: float) -> None:
    total = encoders.Phase()(torch.tensor([x]), 8).sum().item()
    assert total == min(floor(x * 256), 255) / 256


def test_rate_has_the_mean_and_the_spread_of_independent_draws() -> None:
    x = torch.tensor([0.0, 0.02, 0.3, 0.5, 0.9, 1.0], dtype=torch.float64)
    T, B = 200, 500
    out = encoders.Rate()(x.expand(B, 6), T, seeded(1))
    sd = (x * (1 - x) / (T * B)).sqrt()
    assert ((out.mean((0, 1)) - x).abs() <= 4.5 * sd).all()
    assert (out[..., 0] == 0).all()
    assert (out[..., -1] == 1).all()
    # Independent over steps and over samples: the variance of a mean is p(1 - p) / n.
    for axis, n in ((0, T), (1, B)):
        variance = out.mean(axis)[:, 1:5].var(0)
        torch.testing.assert_close(variance, (x * (1 - x) / n)[1:5], rtol=0.4, atol=0)


def test_rate_keeps_small_probabilities_in_half_precision() -> None:
    x = torch.full((1, 100_000), 1 / 1024, dtype=torch.float16)
    assert encoders.Rate()(x, 4, seeded()).float().mean().item() == pytest.approx(1 / 1024, rel=0.25)


def test_sequences_are_handed_on_with_their_steps_first() -> None:
    x = torch.tensor([[[1.0, -2.0], [3.0, 4.5], [0.0, 7.0]]])  # one sample, three steps, two channels
    assert encoders.Sequence()(x, 3)[:, 0].tolist() == x[0].tolist()
    with pytest.raises(ShapeError, match="of T = 4 steps, not"):
        encoders.Sequence()(x, 4)
    for bad in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(OptionError, match="found NaN or infinity"):
            encoders.Sequence()(torch.where(x == 7, bad, x), 3)


# Bad input


@pytest.mark.parametrize(("name", "options"), EVERY)
@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([0.2, -0.5], "values from -0.5 to 0.2"),
        ([0.0, 2.64], "values from 0 to 2.64"),
        ([float("nan"), 0.3], "NaN among the values"),
        ([0.1, float("inf")], "values from 0.1 to inf"),
    ],
)
def test_values_outside_the_domain_are_refused(name: str, options: dict, values: list[float], found: str) -> None:
    with pytest.raises(OptionError) as error:
        encoders.create(name, **options)(torch.tensor([values]), 4, seeded())
    message = str(error.value)
    assert found in message
    assert message.endswith("scale the data to [0, 1] first, normalise after encoding or not at all")
    assert "\n" not in message


@pytest.mark.parametrize(("name", "options"), EVERY)
@pytest.mark.parametrize("T", [0, -1, 1.5, True])
def test_too_few_steps_are_refused(name: str, options: dict, T: int) -> None:
    with pytest.raises(OptionError, match=f"T >= 1, not {T}$"):
        encoders.create(name, **options)(torch.rand(2, 3), T, seeded())


@pytest.mark.parametrize(("name", "options"), EVERY)
@pytest.mark.parametrize("x", [torch.zeros(2, 3, dtype=torch.uint8), torch.tensor(0.5), torch.zeros(0, 3)])
def test_tensors_that_are_no_samples_are_refused(name: str, options: dict, x: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"takes a floating-point tensor \[B, ...\]"):
        encoders.create(name, **options)(x, 2, seeded())


def test_a_random_encoder_asks_for_a_generator() -> None:
    with pytest.raises(OptionError, match="needs an explicit generator"):
        encoders.Rate()(torch.rand(2, 3), 4)


def test_an_unknown_amplitude_is_refused() -> None:
    with pytest.raises(OptionError, match="'inverse' or 'one', not 'two'"):
        encoders.create("latency", amplitude="two")


# What holds for all

samples = st.tuples(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.integers(1, 10),
    st.integers(0, 2**31),
)
VALUES = {
    "binary": lambda out: ((out == 0) | (out == 1)).all(),
    "ternary": lambda out: ((out == 0) | (out.abs() == 1)).all(),
    "integer": lambda out: (out == out.round()).all(),
    "real": lambda out: out.isfinite().all(),
}


@pytest.mark.parametrize(("name", "options"), EVERY)
@given(case=samples)
def test_what_holds_for_every_encoder(name: str, options: dict, case: tuple) -> None:
    shape, dtype, T, seed = case
    encoder = encoders.create(name, **options)
    x = torch.rand(shape, generator=seeded(seed)).to(dtype)  # rounding in half precision may give 1: in the domain
    x.flatten()[0] = seed % 2
    before = x.clone()
    out = encoder(x, T, seeded(seed))
    assert out.shape == (T, *shape)
    assert out.dtype == dtype
    assert VALUES[encoder.value](out)
    assert torch.equal(x, before)
    assert torch.equal(out, encoder(x, T, seeded(seed)))
    if encoder.repeats:
        assert (out == out[:1]).all()
        assert T == 1 or out.stride(0) == 0
    if not encoder.random:
        alone = torch.cat([encoder(sample, T) for sample in x.split(1)], dim=1)
        assert torch.equal(out, alone)
        # Nor does a step depend on how many follow, where all steps are alike.
        assert not encoder.repeats or torch.equal(encoder(x, T + 3)[:T], out)


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_declarations_are_as_tight_as_the_output(name: str, options: dict) -> None:
    # An encoder that calls itself "real", or not repeating, must show it on some input.
    encoder = encoders.create(name, **options)
    out = encoder(torch.rand(8, 50, generator=seeded(3)), 8, seeded(4))
    tighter = {"binary": [], "ternary": ["binary"], "integer": ["binary", "ternary"], "real": ["integer"]}
    assert not any(VALUES[kind](out) for kind in tighter[encoder.value])
    assert encoder.repeats == bool((out == out[:1]).all())


@pytest.mark.parametrize(("name", "options"), [case for case in EVERY if encoders.create(case[0], **case[1]).random])
def test_other_seeds_give_other_spikes(name: str, options: dict) -> None:
    x = torch.full((2, 50), 0.5)
    encoder = encoders.create(name, **options)
    assert not torch.equal(encoder(x, 4, seeded(0)), encoder(x, 4, seeded(1)))
