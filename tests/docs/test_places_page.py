"""The page on place recognition says what the registries say, and every block of it runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_tutorial
import torch
import yaml

from benchmarks import datasets, protocols
from benchmarks.datasets.places import PlaceDataset
from benchmarks.protocols.place_metrics import answers, measures
from neurons.registry import Registry
from step.learners import learners
from step.learners.places import PlaceConfig
from step.learners.places.ensemble.config import EnsembleConfig
from step.spec import normalise
from step.suite import load_suite, suite_names

PAGE = Path(__file__).parents[2] / "docs" / "places.md"
TEXT = PAGE.read_text(encoding="utf-8")


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/places.md has no section {title!r}"
    return found[1]


def table(title: str, head: str) -> dict[str, list[str]]:
    """Return the rows of the table whose first column is called ``head``: cells by the name in the first."""
    found = re.search(rf"^\| {head} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", section(title), re.MULTILINE)
    assert found, f"docs/places.md, section {title!r}, has no table of {head}s"
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]
    return {row[0].strip("`"): row[1:] for row in rows}


def own(registry: Registry[Any]) -> set[str]:
    """Names that come with the package; other tests register theirs."""
    return {name for name in registry.names() if registry.get(name).__module__.startswith(("step.", "benchmarks."))}


def options_in(cell: str) -> list[str]:
    return [] if cell == "none" else re.findall(r"`([\w-]+)`", cell)


def test_every_data_set_has_a_row_with_its_options() -> None:
    registry = datasets.datasets
    places = {
        n for n in own(registry) if inspect.get_annotations(registry.get(n), eval_str=True)["return"] is PlaceDataset
    }
    rows = table("Data sets", "data set")
    assert set(rows) == places
    for name, cells in rows.items():
        assert options_in(cells[-1]) == [option for option in registry.options(name) if option != "root"], name
        # what a program made is called so, and nothing else
        assert cells[0].startswith("synthetic") == name.startswith("synthetic"), name


def test_every_learner_has_a_row_with_its_options() -> None:
    mapping = {name for name in own(learners) if hasattr(learners.get(name), "map_places")}
    rows = table("Learners", "learner")
    assert set(rows) == mapping
    for name, cells in rows.items():
        named = options_in(cells[-1])
        # one may have all that another has, and more
        all_of = [option for other in named if other in rows for option in options_in(rows[other][-1])]
        kind: Any = learners.get(name)
        expected = set(kind.Config.model_fields) - set(PlaceConfig.model_fields)
        assert {*named, *all_of} - set(rows) == expected, name


def test_treatments_and_metrics_are_those_there_are() -> None:
    annotation: Any = EnsembleConfig.model_fields["treatment"].annotation
    assert tuple(table("Ensembles and hyperactive neurons", "treatment")) == annotation.__args__
    scores, truth = torch.rand(4, 5, generator=torch.Generator().manual_seed(0)), torch.eye(4, 5, dtype=torch.bool)
    found = answers(scores, [truth], [1])
    known = measures(found, 0, found.score, [1])
    assert [name.replace("at_1", "at_N") if name == "recall_at_1" else name for name in known] == list(
        table("What is measured", "metric")
    )
    assert np.isfinite(list(known.values())).all()
    protocol: Any = protocols.protocols.get("place-recognition")
    assert protocol.headline in known


def test_suites_of_the_quick_start_exist() -> None:
    start = TEXT.split("## ")[0]
    named = set(re.findall(r"step (?:run|show|report) ([\w-]+)", start))
    assert named == {"places-quick", "places-scale"}
    assert named <= set(suite_names())


def test_every_block_of_yaml_is_valid(tmp_path: Path) -> None:
    for text in (text for kind, text in test_tutorial.BLOCK.findall(TEXT) if kind == "yaml"):
        if text.startswith("# file:"):
            path = tmp_path / "suite.yaml"
            path.write_text(text, encoding="utf-8")
            suite = load_suite(path)
            assert len(suite.specs) == 4 * 3
            continue
        for line in text.splitlines():
            for kind, value in yaml.safe_load(line).items():
                normalise(kind, value)


def test_every_block_does_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [(kind, text) for kind, text in test_tutorial.BLOCK.findall(TEXT) if kind != "yaml"]
    assert [kind for kind, _ in blocks] == ["python", "text"]
    # what is drawn for a data set is not kept where others would find it
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(test_tutorial, "PAGE", PAGE)
    monkeypatch.setattr(test_tutorial, "blocks", lambda: blocks)
    test_tutorial.test_every_block_does_what_the_page_says(tmp_path, monkeypatch)
