"""Events from frames: against plain loops, on films whose events are known, and what noise adds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from encoders.events import PRESETS, V2E, Events, counts, esim, v2e
from encoders.events.stream import thresholds
from encoders.events.v2e import lin_log, linearised
from neurons.errors import DataError, OptionError, ShapeError, StepError

Plain = list[tuple[int, int, int, int]]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def walk(T: int, H: int, W: int, seed: int = 0, scale: float = 0.3) -> Tensor:
    """Log intensity that wanders, with pauses."""
    steps = torch.randn(T, H, W, generator=seeded(seed), dtype=torch.float64) * scale
    return (steps * (torch.rand(T, H, W, generator=seeded(seed + 1)) < 0.8)).cumsum(0)


def listed(events: Events) -> Plain:
    return sorted(zip(*(column.tolist() for column in events), strict=True))


def plain_esim(film: Tensor, times: list[float], on: Tensor, off: Tensor, refractory: float) -> Plain:
    """ESIM pixel by pixel and event by event."""
    found = []
    for y in range(film.shape[1]):
        for x in range(film.shape[2]):
            values, level, last = film[:, y, x].tolist(), float(film[0, y, x]), -math.inf
            up, down = float(on[y * film.shape[2] + x]), float(off[y * film.shape[2] + x])
            for i in range(1, len(values)):
                before, now = values[i - 1], values[i]
                while now != before:
                    sign = 1 if now > before else -1
                    reached = level + up if sign > 0 else level - down
                    if sign * (now - reached) < -1e-12:
                        break
                    time = times[i - 1] + (times[i] - times[i - 1]) * (reached - before) / (now - before)
                    level = reached
                    if time - last >= refractory:
                        found.append((round(time), x, y, sign))
                        last = time
    return sorted(found)


@pytest.mark.parametrize("refractory", [0.0, 1500.0])
@pytest.mark.parametrize("sd", [0.0, 0.04])
def test_esim_is_the_plain_loop(sd: float, refractory: float) -> None:
    film, times = walk(40, 4, 5), [1000.0 * t + 37.0 * (t % 3) for t in range(40)]
    on, off = thresholds(0.21, sd, 20, seeded(3), "esim")
    expected = plain_esim(film, times, on, off, refractory)
    assert len(expected) > 100
    assert listed(esim(film, times, 0.21, sd, refractory=refractory, generator=seeded(3))) == expected


@pytest.mark.parametrize(("change", "threshold"), [(1.0, 0.3), (1.0, 0.25), (-2.0, 0.4), (0.1, 0.3), (0.6, 0.2)])
def test_a_ramp_of_log_intensity(change: float, threshold: float) -> None:
    film = torch.linspace(0, change, 9, dtype=torch.float64)[:, None, None]
    events = esim(film, torch.arange(9) * 1000, threshold)
    number = math.floor(abs(change) / threshold + 1e-9)
    assert events.p.tolist() == [int(math.copysign(1, change))] * number
    assert events.t.tolist() == [round(8000 * k * threshold / abs(change)) for k in range(1, number + 1)]


def test_esim_takes_the_logarithm_of_intensity() -> None:
    film = walk(12, 3, 3)
    times = list(range(0, 12_000, 1000))
    assert listed(esim(film.exp(), times, log=False)) == listed(esim(film, times))


def test_events_come_in_the_order_of_time_then_row_then_column() -> None:
    t, x, y, _ = esim(torch.ones(2, 3, 2).cumsum(0), [0, 1000], 0.3)
    keys = list(zip(t.tolist(), y.tolist(), x.tolist(), strict=True))
    assert keys == sorted(keys)
    assert len(keys) == 18


def plain_v2e(film: Tensor, times: list[float], chosen: V2E, on: Tensor, off: Tensor) -> Plain:
    """Follow v2e without shot noise pixel by pixel."""
    found = []
    for y in range(film.shape[1]):
        for x in range(film.shape[2]):
            lights = film[:, y, x].tolist()
            logs = [light * math.log(20) / 20 if light <= 20 else math.log(light) for light in lights]
            value = level = logs[0]
            pixel = y * film.shape[2] + x
            for i in range(1, len(lights)):
                seconds = (times[i] - times[i - 1]) / 1e6
                share = 1.0
                if chosen.cutoff:
                    share = min(1.0, 2 * math.pi * chosen.cutoff * seconds * (lights[i] + 20) / 275)
                value += share * (logs[i] - value)
                level -= chosen.leak * chosen.threshold * seconds
                step = float(on[pixel] if value > level else off[pixel])
                number = math.floor(abs(value - level) / step + 1e-9)
                sign = 1 if value > level else -1
                level += sign * number * step
                gap = times[i] - times[i - 1]
                found += [(round(times[i - 1] + gap * k / number), x, y, sign) for k in range(1, number + 1)]
    return sorted(found)


@pytest.mark.parametrize(
    "chosen",
    [
        PRESETS["clean"],
        V2E(threshold_sd=0.05, cutoff=30.0, leak=20.0, shot=0.0),
        V2E(threshold=0.3, threshold_sd=0.0, cutoff=20.0, leak=0.0, shot=0.0),
    ],
)
def test_v2e_is_the_plain_loop(chosen: V2E) -> None:
    film = (walk(30, 4, 4, scale=40) + 90).clamp(0, 255)
    times = [2000.0 * t for t in range(30)]
    on, off = thresholds(chosen.threshold, chosen.threshold_sd, 16, seeded(5), "v2e")
    expected = plain_v2e(film, times, chosen, on, off)
    assert len(expected) > 30
    assert listed(v2e(film, times, chosen, generator=seeded(5))) == expected


def test_the_map_is_linear_in_the_dark_and_joins_the_logarithm() -> None:
    x = torch.tensor([0.0, 10.0, 20.0, 20.0001, 255.0], dtype=torch.float64)
    expected = [0.0, math.log(20) / 2, math.log(20), math.log(20.0001), math.log(255)]
    assert lin_log(x).tolist() == pytest.approx(expected)
    assert linearised(torch.tensor([0.0, 255.0])).tolist() == pytest.approx([0.0, 255.0])
    assert linearised(torch.tensor([127.5])).item() == pytest.approx(54.58, abs=0.01)


def test_grey_values_are_made_linear_first() -> None:
    film = (walk(10, 3, 3, scale=40) + 90).clamp(0, 255)
    times = list(range(0, 10_000, 1000))
    exact = V2E(threshold_sd=0.0, cutoff=0.0, leak=0.0, shot=0.0)
    assert listed(v2e(film, times, exact, srgb=True)) == listed(v2e(linearised(film), times, exact))


def test_a_dark_pixel_is_slow() -> None:
    film = torch.tensor([[[10.0, 150.0]], *[[[15.0, 225.0]]] * 20])
    slow = V2E(threshold=0.05, threshold_sd=0.0, cutoff=20.0, leak=0.0, shot=0.0)
    t, x, _, _ = v2e(film, list(range(0, 21_000, 1000)), slow)
    dark, bright = (int(t[x == column].min()) for column in (0, 1))
    assert dark > 2 * bright


def test_leak_sends_brighter_events_at_its_rate() -> None:
    film, second = torch.full((201, 2, 2), 100.0), torch.arange(201) * 10_000
    events = v2e(film, second, V2E(threshold_sd=0.0, cutoff=0.0, leak=5.0, shot=0.0))
    assert counts(events, 1, 2, 2, start=0, end=2_000_000).flatten().tolist() == [10] * 4
    assert set(events.p.tolist()) == {1}


def test_shot_noise_has_its_rate_and_is_rarer_in_the_light() -> None:
    film = torch.zeros(41, 40, 80)
    film[:, :, 40:] = 255
    quiet = V2E(threshold_sd=0.0, cutoff=0.0, leak=0.0, shot=4.0)
    events = v2e(film, torch.arange(41) * 50_000, quiet, generator=seeded())
    dark, bright = (int((events.x < 40).sum()), int((events.x >= 40).sum()))
    expected = 4.0 * 2.0 * 1600  # rate, seconds, pixels
    shares = (1 - 0.75 * 20 / 275, 0.25)
    for found, share in zip((dark, bright), shares, strict=True):
        assert abs(found - expected * share) < 5 * math.sqrt(expected * share)
    assert abs(float(events.p.to(torch.float64).mean())) < 5 / math.sqrt(len(events.p))


def test_noise_comes_from_the_generator() -> None:
    film, times = (walk(6, 5, 5, scale=40) + 90).clamp(0, 255), list(range(0, 60_000, 10_000))
    first, again, other = (listed(v2e(film, times, "noisy", generator=seeded(seed))) for seed in (1, 1, 2))
    assert first == again != other


def test_counts_sort_events_into_bins() -> None:
    t, x, y, p = (
        torch.tensor(values) for values in ([0, 10, 19, 20, 40], [0, 1, 1, 0, 2], [0, 0, 0, 1, 1], [1, -1, 1, 1, -1])
    )
    events = Events(t, x, y, p)
    merged = counts(events, 2, 2, 3, start=0, end=40)
    assert merged[:, 0].tolist() == [[[1, 2, 0], [0, 0, 0]], [[0, 0, 0], [1, 0, 1]]]
    apart = counts(events, 2, 2, 3, start=0, end=40, polarities=True)
    assert torch.equal(apart.sum(1, keepdim=True), merged)
    assert apart[0, 1].tolist() == [[0, 1, 0], [0, 0, 0]]
    assert int(counts(events, 1, 2, 3, start=10, end=20).sum()) == 3
    assert int(counts(events, 3, 2, 3).sum()) == 5


def test_nothing_happens_in_a_still_film() -> None:
    events = esim(torch.full((5, 2, 2), 0.7), range(0, 5000, 1000), 0.1)
    assert len(events.t) == 0
    assert counts(events, 2, 2, 2).tolist() == [[[[0, 0], [0, 0]]]] * 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: esim(torch.zeros(3, 2), [0, 1, 2]), ShapeError, "frames"),
        (lambda: esim(torch.zeros(3, 2, 2), [0, 1]), ShapeError, "time"),
        (lambda: esim(torch.zeros(3, 2, 2), [0, 1, 1]), DataError, "increase"),
        (lambda: esim(torch.full((3, 2, 2), torch.nan), [0, 1, 2]), DataError, "NaN"),
        (lambda: esim(torch.zeros(3, 2, 2), [0, 1, 2], 0.0), OptionError, "threshold"),
        (lambda: esim(torch.zeros(3, 2, 2), [0, 1, 2], 0.2, 0.1), OptionError, "generator"),
        (lambda: esim(torch.zeros(3, 2, 2), [0, 1, 2], refractory=-1), OptionError, "refractory"),
        (lambda: esim(torch.zeros(3, 2, 2), [0, 1, 2], log=False), OptionError, "above 0"),
        (lambda: v2e(torch.full((3, 2, 2), 300.0), [0, 1, 2]), OptionError, "255"),
        (lambda: v2e(torch.zeros(3, 2, 2), [0, 1, 2], "loud"), OptionError, "clean, noisy"),
        (lambda: v2e(torch.zeros(3, 2, 2), [0, 1, 2], V2E(threshold_sd=0.0)), OptionError, "shot noise"),
        (lambda: V2E(leak=-1.0), OptionError, "leak"),
        (lambda: counts(esim(torch.ones(2, 2, 2).cumsum(0), [0, 1]), 0, 2, 2), OptionError, "bins"),
        (lambda: counts(esim(torch.ones(2, 2, 2).cumsum(0), [0, 1]), 1, 1, 1), DataError, "lie"),
        (lambda: counts(esim(torch.ones(2, 2, 2).cumsum(0), [0, 1]), 1, 2, 2, start=5, end=5), OptionError, "after"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Any, error: type[StepError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
