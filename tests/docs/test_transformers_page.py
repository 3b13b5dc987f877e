"""The page on transformers says what the registry says, and every block of it runs, by the rules of the tutorials."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import test_tutorial
import torch
import yaml

from step import models
from step.learners import recipes
from step.models.transformer.attention import Attention, attentions
from step.models.transformer.base import ImageNetwork
from step.models.transformer.embedding import embeddings
from step.models.transformer.parts import _ATTENTION, _EMBEDDING
from step.report.units import format_count
from step.spec import normalise
from step.suite import load_suite, suite_names
from step.zoo import parameters, reference_size

PAGE = Path(__file__).parents[2] / "docs" / "transformers.md"
TEXT = PAGE.read_text(encoding="utf-8")
README = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
FIXED = (*_ATTENTION, *_EMBEDDING)
TINY = ("digits", "fashion")


def own(registry: Any) -> list[str]:
    """Names that come with the package; other tests register theirs."""
    return [name for name in registry.names() if registry.get(name).__module__.startswith("step.models.")]


ZOO = [name for name in own(models.models) if issubclass(models.models.get(name), ImageNetwork)]


def section(title: str) -> str:
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^## |^### |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/transformers.md has no section {title!r}"
    return found[1]


def code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def residual(network: models.Network) -> str:
    """Say what the stream between blocks holds, from what it holds in a pass in training mode."""
    if network.conventional:
        return "real"
    streams: list[torch.Tensor] = []
    for block in network.segments():
        block.register_forward_hook(lambda module, given, out: streams.append(out.detach()))
    with torch.no_grad():
        network.train()(torch.rand(4, 8, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert all(stream.any() for stream in streams)
    whole = [torch.equal(stream, stream.round()) for stream in streams]
    assert len(set(whole)) == 1
    return "spike" if whole[0] else "membrane"


def row(name: str) -> str:
    """Return the row of a model in the table of the page."""
    kind: Any = models.models.get(name)
    network = models.create(name, size="digits", neuron="gelu" if kind.conventional else "lif", seed=0)
    mixers = [type(module).registered_name for module in network.modules() if isinstance(module, Attention)]
    chosen = "" if any(field.endswith("attention") for field in kind.Config.model_fields) else ", fixed"
    idea = re.sub(r"^[^(:]*\([^)]*\): ", "", models.describe(name)).rstrip(".")  # without name, venue and year
    sizes = [size for size in kind.Config.SIZES if size not in TINY]
    count = parameters(name)
    assert count is not None
    cells = [
        f"`{name}`", f"{kind.paper.venue} {kind.paper.year}", idea, residual(network),
        code(list(dict.fromkeys(mixers))) + chosen, f"{format_count(count)} ({reference_size(name)})", code(sizes),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("name", ZOO)
def test_the_row_of_a_model_is_what_the_model_is(name: str) -> None:
    assert row(name) in section("What is here").splitlines(), f"docs/transformers.md needs the row\n{row(name)}"
    assert set(TINY) <= set(models.models.get(name).Config.SIZES)


def test_the_table_has_no_other_rows() -> None:
    named = re.findall(r"^\| `([\w-]+)` \|", section("What is here"), re.MULTILINE)
    assert named == sorted(ZOO)


@pytest.mark.parametrize("name", ZOO)
def test_deviations_are_those_that_the_model_notes(name: str) -> None:
    found = re.search(rf"^\*\*`{name}`\*\* (.*?)\n\n", section("Where paper and code differ"), re.MULTILINE | re.DOTALL)
    note = models.models.get(name).paper.note
    assert (found is not None) == bool(note), f"{name}: {note}"
    if found:
        assert " ".join(found[1].split()) == note


@pytest.mark.parametrize(("title", "registry"), [("Attentions", attentions), ("Embeddings", embeddings)])
def test_every_part_has_a_row(title: str, registry: Any) -> None:
    found = re.findall(r"^\| `([\w-]+)` \|.*\| ([^|]*) \|$", section(title), re.MULTILINE)
    assert [name for name, _ in found] == sorted(own(registry))
    for name, options in found:
        given = [option for option in registry.options(name) if option not in FIXED]
        assert options == (code(given) or "none"), name


def test_recipes_and_suites_are_named() -> None:
    missing = [name for name in recipes.names() if f"`{name}`" not in section("Training")]
    assert not missing
    named = re.findall(r"^\| `([\w-]+)` \|", section("Does a choice matter?"), re.MULTILINE)
    assert named
    assert set(named) <= set(suite_names())


def test_the_readme_counts_right_and_its_example_runs() -> None:
    spiking = [name for name in ZOO if not models.models.get(name).conventional]
    counted = f"{len(spiking)} spiking transformers with {len(own(attentions))} attentions and {len(own(embeddings))}"
    assert f"| {counted} embeddings, ViT" in README
    words = {12: "Twelve", 13: "Thirteen", 14: "Fourteen", 15: "Fifteen", 16: "Sixteen"}[len(spiking)]
    part = README.split("## Spiking transformers\n")[1].split("\n## ")[0]
    assert part.strip().startswith(words)
    assert TEXT.startswith(f"# Spiking transformers\n\n{words} ")
    (block,) = [text for kind, text in test_tutorial.BLOCK.findall(part) if kind == "python"]
    exec(compile(block, "README.md", "exec"), {})


def test_every_block_of_yaml_is_valid(tmp_path: Path) -> None:
    found = [text for kind, text in test_tutorial.BLOCK.findall(TEXT) if kind == "yaml"]
    assert found
    for text in found:
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
    monkeypatch.setattr(test_tutorial, "PAGE", PAGE)
    monkeypatch.setattr(test_tutorial, "blocks", lambda: blocks)
    test_tutorial.test_every_block_does_what_the_page_says(tmp_path, monkeypatch)
