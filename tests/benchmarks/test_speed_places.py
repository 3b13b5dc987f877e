"""The timings of place modules: who takes part, what is compared first, what is said of who is missing."""

from __future__ import annotations

import pytest
import torch

from benchmarks.speed import places, places_brian2
from neurons.errors import OptionError, StepError


def test_one_module_many_and_another_network_take_part() -> None:
    asked = []
    result = places.measure(
        modules=3, neurons=32, epochs=1, brian=False, tempo=lambda x: asked.append(x.shape), seconds=0.0, rounds=1
    )
    assert [(row.name, row.what, row.modules) for row in result.rows] == [
        (places.OURS, places.LEARN, 1), (places.OURS, places.ANSWER, 1), (places.OURS, places.LEARN, 3),
        (places.OURS, places.ANSWER, 3), (places.TEMPO, places.ANSWER, 0),
    ]  # fmt: skip
    assert all(row.milliseconds > 0 for row in result.rows)
    assert [row.ratio for row in result.rows[:2]] == [1, 1]
    assert result.rows[3].per_module == pytest.approx(result.rows[3].milliseconds / 3)
    assert set(asked) == {torch.Size([1, 784])}
    assert result.missing == "it was not asked for"
    assert result.fires[places.OURS].spikes >= result.fires[places.OURS].active > 1


def test_images_are_like_those_of_the_published_network() -> None:
    shown = places.images(8)
    assert shown.shape == (8, 784)
    assert 0.48 < shown.mean() < 0.52  # mid-grey is the average
    assert (shown.mean(1) - 0.5).abs().max() < 0.05  # in every image
    assert 0.25 < shown.std() < 0.45
    assert torch.equal(places.images(8), shown)
    assert not torch.equal(places.images(8, seed=1), shown)


def test_what_fires_otherwise_is_not_timed() -> None:
    places.compare(places.Fires(17.0, 5.0), places.Fires(18.0, 5.2))
    with pytest.raises(StepError, match=r"17\.0 spikes in ours and 40\.0 in Brian 2"):
        places.compare(places.Fires(17.0, 5.0), places.Fires(40.0, 5.2))
    with pytest.raises(StepError, match="active neurons"):
        places.compare(places.Fires(17.0, 5.0), places.Fires(18.0, 9.0))
    with pytest.raises(OptionError, match="at least 1"):
        places.measure(modules=0)


def test_what_keeps_brian2_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_brian2, "_imported", lambda: "brian2 is not installed: pip install 'brian2>=2.9'")
    result = places.measure(modules=1, neurons=16, epochs=1, seconds=0.0, rounds=1)
    assert "not installed" in result.missing
    assert {row.name for row in result.rows} == {places.OURS}
    with pytest.raises(StepError, match="brian2 is not installed"):
        places_brian2.BrianModule(torch.zeros(2, 2), torch.zeros(2))


@pytest.mark.skipif(bool(places_brian2.why_not()), reason=places_brian2.why_not() or "brian2 is there")
def test_brian2_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    places_brian2.brian().prefs.codegen.target = "numpy"
    monkeypatch.setattr(places, "_COMPARED", 2)
    monkeypatch.setattr(places, "compare", lambda ours, theirs: None)  # two images say little
    result = places.measure(modules=1, neurons=16, epochs=1, seconds=0.0, rounds=1)
    assert result.missing == ""
    assert set(result.fires) == {places.OURS, places.BRIAN}
    rows = {(row.name, row.what): row for row in result.rows}
    assert rows[places.BRIAN, places.LEARN].ratio > 10
    assert rows[places.BRIAN, places.ANSWER].ratio > 10
