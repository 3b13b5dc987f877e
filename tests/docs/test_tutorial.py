"""The tutorial is run as it stands: every file written, every command given, every output compared.

Blocks of ``python`` are run in one interpreter, and what they print must be the ``text`` block that follows; one that
begins with ``# file: NAME`` is written to that file instead, and so is one of ``toml``. Of ``console`` blocks the lines
after ``$`` are given to a shell, the others must be what it answers. Numbers may differ, but for those that Python
prints; ``...`` stands for lines left out. Training is cut to one epoch on few samples, and of its tables only the
names of the rows are compared, because units change with the numbers.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "new-neuron.md"
SMALL = "--set learner.epochs=1 --set seed=[0] --set 'protocol={name: classification, train_samples: 128}'"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def normal(text: str) -> str:
    """Return a text without what may differ: numbers, drawings, the places where lines are folded."""
    text = re.sub(r"[\u2500-\u257f\u2800-\u28ff]", " ", text)
    text = re.sub(r"(?<![\w.])-?\d[\d.,]*(e[-+]?\d+)?", "#", text)
    return "".join(text.split())


def rows(text: str) -> list[str]:
    """Return the names of a table's rows."""
    return [line.strip().split("  ")[0] for line in text.splitlines() if re.search(r"\S {2,}\S", line.strip())]


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Give a command to a shell in which ``step`` is this one, and pip installs here and asks no server."""
    if command.startswith(("step run", "step energy")):
        command = f"{command} {SMALL}"
    pip = "install --quiet --no-deps --no-build-isolation --no-index --target site"
    tools = f'step() {{ "{sys.executable}" -m step.cli "$@"; }}; pip() {{ "{sys.executable}" -m pip {pip} "$2"; }}; '
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        ["bash", "-c", tools + command], cwd=folder, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "110"},
    )  # fmt: skip


def test_every_block_does_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import catalogue

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(catalogue, "REGISTRY", catalogue.REGISTRY.copy())  # what the page registers is gone afterwards
    names: dict[str, Any] = {}
    printed = ""
    for kind, text in blocks():
        file = re.match(r"# file: (\S+)\n", text)
        if file:
            path = tmp_path / file[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text[file.end() :], encoding="utf-8")
        elif kind == "python":
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(compile(text, str(PAGE), "exec"), names)
            printed = said.getvalue()
        elif kind == "text":
            assert printed == text
        elif kind == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, expected = part.partition("\n")
                compare(command, expected, shell(command, tmp_path))
        else:
            raise AssertionError(f"the test knows no block of {kind!r}")


def compare(command: str, expected: str, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == (1 if "fails:" in expected else 0), command + done.stdout + done.stderr
    if command.startswith(("step run", "step energy")):
        found = rows(done.stdout)
        missing = [row for row in rows(expected) if row not in found]
        assert not missing, done.stdout
        return
    rest = normal(done.stdout)
    for piece in re.split(r"^\.\.\.$", expected, flags=re.MULTILINE):
        wanted = normal(piece)
        assert wanted in rest, f"{command}\n{piece}\nis not in\n{done.stdout}"
        rest = rest[rest.index(wanted) + len(wanted) :]


def test_the_page_follows_the_path() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for words in ("step new neuron", "step check neuron", "--plugin", "step energy", "nn.Parameter", "neuron.run(",
                  "step_neurons"):  # fmt: skip
        assert words in text or words.replace("neuron.run(", ".run(") in text
