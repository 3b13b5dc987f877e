"""The page on ELM neurons: its code runs, and all that its tables name can be named in a suite."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import test_tutorial
import torch

import neurons
from benchmarks import datasets
from step import models
from step.spec import normalise
from step.suite import suite_names

PAGE = Path(__file__).parents[2] / "docs" / "elm.md"
TEXT = PAGE.read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]+)`")


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/elm.md has no section {title!r}"
    return found[1]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table of a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    assert len(lines) > 2, title
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_neurons_and_networks_exist_and_no_elm_is_left_out() -> None:
    named = [name for cells in rows("The neuron") for name in CODE.findall(cells[0])]
    known = neurons.neurons.names()
    assert set(named) == {n for n in known if neurons.neurons.get(n).__module__.startswith("neurons.elm")}
    shown = {name for cells in rows("Networks") for name in CODE.findall(cells[0])}
    assert shown <= set(models.names())
    assert {name for name in models.names() if name.startswith("elm")} <= shown


def test_data_and_protocols_go_together() -> None:
    asked: list[str] = []
    for data, _, protocol in rows("Tasks"):
        known = set(datasets.names())
        assert set(CODE.findall(data)) <= known, data
        asked = asked if protocol == "same" else CODE.findall(protocol)
        for text in asked:
            name, _, options = text.strip("{}").removeprefix("name: ").partition(", ")
            given = dict(option.split(": ") for option in filter(None, options.split(", ")))
            assert normalise("protocol", {"name": name, **given})["name"] == name


def test_suites_exist() -> None:
    named = {name for name in CODE.findall(section("Suites")) if "-" in name}
    assert {"elm-adding", "elm-tradeoff", "neuronio-synthetic"} <= named <= set(suite_names())


def test_its_code_runs_and_streams() -> None:
    (block,) = [text for kind, text in test_tutorial.BLOCK.findall(TEXT) if kind == "python"]
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), names)
    y, first, second = names["y"], names["first"], names["second"]
    assert list(y.shape) == [120, 8, 9]
    assert torch.allclose(torch.cat([first, second]), y, atol=1e-5)
    assert torch.allclose(names["answer"][3], y[59, 3], atol=1e-5)
    assert (y[0] != y[-1]).any()
