"""The page on continual learning says what the registries say, and every block of it runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import test_tutorial
import torch
import yaml

from benchmarks import datasets
from benchmarks.datasets.stream import Scenario, TaskStream
from benchmarks.protocols import continual_metrics
from neurons.registry import Registry
from step import models
from step.continual import METRICS
from step.learners.continual.methods import methods
from step.learners.continual.rules import Rule, rules
from step.learners.continual.subspaces import Subspace, subspaces
from step.spec import normalise
from step.suite import load_suite

PAGE = Path(__file__).parents[2] / "docs" / "continual.md"
TEXT = PAGE.read_text(encoding="utf-8")
README = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
SMALL = (
    "--set learner.epochs=1 --set seed=[0] --set measure.samples=8 "
    "--set 'dataset={name: permuted-tasks, of: digits, tasks: 2}' "
    "--set 'protocol={name: continual, train_samples: 64, measured: 2}'"
)


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/continual.md has no section {title!r}"
    return found[1]


def table(title: str, head: str) -> dict[str, list[str]]:
    """Return the rows of the table whose first column is called ``head``: cells by the name in the first."""
    found = re.search(rf"^\| {head} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", section(title), re.MULTILINE)
    assert found, f"docs/continual.md, section {title!r}, has no table of {head}s"
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]
    return {row[0].strip("`"): row[1:] for row in rows}


def own(registry: Registry[Any]) -> set[str]:
    """Names that come with the package; other tests register theirs."""
    return {name for name in registry.names() if registry.get(name).__module__.startswith(("step.", "benchmarks."))}


def options_in(cell: str) -> list[str]:
    return [] if cell == "none" else re.findall(r"`([\w-]+)`", cell)


def test_every_method_has_a_row_with_its_options() -> None:
    rows = table("Methods", "method")
    assert set(rows) == own(methods)
    for name, cells in rows.items():
        kind: Any = methods.get(name)
        assert set(options_in(cells[-1])) == set(kind.Config.model_fields), name
        assert ("needs `freeze`" in cells[2] or name == "hat") == kind.needs_frozen, name


@pytest.mark.parametrize(
    ("title", "head", "registry", "base", "fixed"),
    [("Rules", "rule", rules, Rule, ()), ("Subspaces", "subspace", subspaces, Subspace, ("generator", "device"))],
)
def test_every_rule_and_subspace_has_a_row_with_its_options(
    title: str, head: str, registry: Registry[Any], base: type, fixed: tuple[str, ...]
) -> None:
    rows = table(title, head)
    assert set(rows) == own(registry)
    common = inspect.signature(base.__init__).parameters  # type: ignore[misc]
    for name, cells in rows.items():
        assert options_in(cells[-1]) == [o for o in registry.options(name) if o not in common], name
    after = section(title).split(f"| {head} |")[1]
    shared = [n for n, p in common.items() if p.kind is p.KEYWORD_ONLY and n not in (*fixed, "seed")]
    assert all(f"`{option}`" in after for option in shared), shared


def test_every_stream_has_a_row_with_its_scenarios() -> None:
    title = "Streams of tasks"
    assert set(table(title, "scenario")) == set(get_args(Scenario))
    rows = table(title, "stream")
    registry = datasets.datasets
    streams = {
        n for n in own(registry) if inspect.get_annotations(registry.get(n), eval_str=True)["return"] is TaskStream
    }
    assert set(rows) == streams
    for name, cells in rows.items():
        options = [option for option in registry.options(name) if option != "root"]
        assert options_in(cells[-1]) == options, name
        assert cells[1] == ("any" if "scenario" in options else "domain"), name


def test_metrics_are_those_that_are_stored() -> None:
    rows = table("What is measured", "metric")
    assert tuple(rows) == METRICS
    assert set(continual_metrics(torch.rand(4, 3).numpy())) | {"intransigence"} == set(rows)


def test_the_readme_counts_right() -> None:
    streams = table("Streams of tasks", "stream")
    counted = f"{len(own(methods))} methods, {len(own(rules))} learning rules, {len(own(subspaces))} subspace learners"
    assert f"| {counted}, {len(streams)} streams of tasks" in README
    words = {5: "five", 10: "ten", 11: "eleven"}
    start = " ".join(TEXT.split("## ")[0].split())
    assert f"{words[len(own(methods))]} methods against forgetting, {words[len(own(rules))]} rules" in start


def test_sizes_of_networks_exist() -> None:
    (text,) = re.findall(r"^Their networks are sizes of ours: (.*?)\n\n", TEXT, re.MULTILINE | re.DOTALL)
    *first, third = re.findall(r"`([\w-]+)`(?: and `([\w-]+)`)? of `([\w-]+)`", text)
    for one, other, name in (*first, third):
        kind: Any = models.models.get(name)
        assert {one, other} - {""} <= set(kind.Config.SIZES)


def test_every_block_of_yaml_is_valid(tmp_path: Path) -> None:
    for text in (text for kind, text in test_tutorial.BLOCK.findall(TEXT) if kind == "yaml"):
        if text.startswith("# file:"):
            path = tmp_path / "suite.yaml"
            path.write_text(text, encoding="utf-8")
            assert load_suite(path).specs
            continue
        for line in text.splitlines():
            for kind, value in yaml.safe_load(line).items():
                normalise(kind, value)


def test_every_block_does_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [(kind, text) for kind, text in test_tutorial.BLOCK.findall(TEXT) if kind != "yaml"]
    assert {"python", "text", "console"} == {kind for kind, _ in blocks}
    monkeypatch.setattr(test_tutorial, "PAGE", PAGE)
    monkeypatch.setattr(test_tutorial, "SMALL", SMALL)
    monkeypatch.setattr(test_tutorial, "blocks", lambda: blocks)
    test_tutorial.test_every_block_does_what_the_page_says(tmp_path, monkeypatch)
