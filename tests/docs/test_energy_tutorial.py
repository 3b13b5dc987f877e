"""The tutorial on energy models is run as it stands, by the rules of the tutorial on neurons."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_tutorial

PAGE = Path(__file__).parents[2] / "docs" / "new-energy-model.md"


def test_every_block_does_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_tutorial, "PAGE", PAGE)
    monkeypatch.setattr(test_tutorial, "SMALL", "")  # nothing is trained
    test_tutorial.test_every_block_does_what_the_page_says(tmp_path, monkeypatch)


def test_the_page_names_every_check() -> None:
    from energy import conformance

    page = PAGE.read_text(encoding="utf-8")
    for check in ("prices a network", *conformance.CHECKS):
        assert f"| {check} |" in page
    for words in ("step new energy", "step new hardware", "step energy ", "--plugin", "step_energy_models"):
        assert words in page
