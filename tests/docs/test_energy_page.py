"""The page on energy names every model and profile, and what its code prints is what it does."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

import energy
from energy import hardware
from energy.models import standard

PAGE = Path(__file__).parents[2] / "docs" / "energy.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """Return the text under a heading, subsections included."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/energy.md has no section {title!r}"
    return found[1]


def own_models() -> list[str]:
    """Names of the models that come with the package; other tests register theirs."""
    return [n for n in energy.names() if energy.energy_models.get(n).__module__.startswith("energy.models.")]


@pytest.mark.parametrize("name", own_models())
def test_every_model_has_a_paragraph(name: str) -> None:
    paragraphs = [part for part in section("The models").split("\n\n") if part.startswith(f"**`{name}`**")]
    assert len(paragraphs) == 1, f"docs/energy.md, section The models, needs one paragraph on {name}"
    said = paragraphs[0].lower()
    assert "ignores" in said, f"{name}: say what it ignores"
    assert "source:" in said, f"{name}: say where it was published"
    model: Any = energy.energy_models.get(name)
    assert ("reconstruction" in said) == (model.confidence == "reconstruction"), name
    for variant in filter(None, model.variants):
        assert f"`{variant}`" in paragraphs[0], f"{name}: name the variant {variant}"


def test_the_number_of_models_is_right() -> None:
    words = {15: "Fifteen", 16: "Sixteen", 17: "Seventeen", 18: "Eighteen", 19: "Nineteen", 20: "Twenty"}
    assert section("The models").strip().startswith(f"{words[len(own_models())]} models")


@pytest.mark.parametrize("name", hardware.names())
def test_every_profile_has_a_row(name: str) -> None:
    rows = [line for line in section("Hardware profiles").splitlines() if line.startswith("|")]
    found = [row for row in rows if f"`{name}`" in row.split("|")[1]]
    assert len(found) == 1, f"docs/energy.md, section Hardware profiles, needs one row for {name}"
    unconfirmed = found[0].split("|")[4].strip()
    constants = hardware.load(name).constants.values()
    weak = [each for each in constants if not each.confirmed]
    expected = "none" if not weak else "all" if len(weak) == len(constants) else None
    if expected is None:
        assert not unconfirmed.startswith(("none", "all")), f"{name}: {len(weak)} constants are unconfirmed"
    else:
        assert unconfirmed.startswith(expected), f"{name}: {unconfirmed}"


def test_every_reading_in_the_table_of_the_trained_network_exists() -> None:
    rows = [line for line in section("The same trained network under every model").splitlines() if line[:2] == "| "]
    shown = {row.split("|")[1].strip(" ~*") for row in rows} - {"model"}
    # Those that cannot price a conventional twin have no ratio to show.
    assert shown <= {choice.label for choice in standard()}
    assert {choice.label.partition(" ")[0] for choice in standard(sorted(shown))} >= {*own_models()} - {"event-chip"}


def test_every_block_of_python_runs_and_prints_what_the_page_says() -> None:
    names: dict[str, Any] = {}
    blocks = BLOCK.findall(TEXT)
    assert any(expected for _, expected in blocks)
    for code, expected in blocks:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(code, str(PAGE), "exec"), names)
        assert said.getvalue() == expected
