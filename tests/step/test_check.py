"""``step new`` and ``step check`` as a user meets them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import catalogue
import pytest
from typer.testing import CliRunner

import neurons
from step.cli import app
from step.cli.neurons import TEMPLATE
from step.report.braille import curve, framed, raster

PYTHON = [sys.executable, "-m", "step.cli"]


def step(folder: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTHON, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False, cwd=folder
    )


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command line in this process and in the folder, for what needs no process of its own."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(catalogue, "REGISTRY", catalogue.REGISTRY.copy())  # what a file registers is gone afterwards
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a neuron begun by ``step new``."""
    path = tmp_path_factory.mktemp("mine")
    done = step(path, "new", "neuron", "my-neuron")
    assert done.returncode == 0, done.stderr
    assert "step check neuron my_neuron.py:MyNeuron" in done.stdout
    assert "step run quick --plugin my_neuron.py --set 'neuron=[my-neuron, lif, relu]'" in done.stdout
    return path


def test_the_file_is_short_and_passes(folder: Path) -> None:
    text = (folder / "my_neuron.py").read_text()
    assert "class MyNeuron(" in text
    assert text.count("\n") < 25
    done = step(folder, "check", "neuron", "my_neuron.py:MyNeuron", "--save", "pages")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("traces", "kernel on cpu", "gradient right", "times as fast as the eager loop", "f-I curve",
                  "answer to a step", "fires from 0.1", "passes all"):  # fmt: skip
        assert words in " ".join(done.stdout.split())
    page = (folder / "pages" / "my_neuron-MyNeuron.html").read_text()
    for words in ("my_neuron.py:MyNeuron", "gradient right", "figure-2", "Plotly"):
        assert words in page


def test_the_file_runs_in_the_quick_suite(folder: Path) -> None:
    small = [
        "--set",
        "learner.epochs=1",
        "--set",
        "seed=[0]",
        "--set",
        "protocol={name: classification, train_samples: 128}",
    ]
    done = step(
        folder, "run", "quick", "--plugin", "my_neuron.py", "--set", "neuron=[my-neuron, relu]", *small,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "my-neuron" in done.stdout
    assert "energy, op-count" in done.stdout


def test_the_only_neuron_of_a_file_needs_no_name_and_takes_options(inside: Callable[..., Any]) -> None:
    done = inside("check", "neuron", "my_neuron.py", "--set", "decay=0.5", "--set", "reset=soft", "--no-speed")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("my_neuron.py:MyNeuron, decay=0.5, reset=soft")
    assert "times as fast" not in done.stdout


def test_a_registered_name(inside: Callable[..., Any]) -> None:
    done = inside("check", "neuron", "psn", "--set", "T=6", "--no-speed")
    assert done.exit_code == 0, done.output
    assert "it looks at all time steps at once" in done.stdout


def test_a_faulty_neuron_ends_with_one(folder: Path, inside: Callable[..., Any]) -> None:
    (folder / "faulty.py").write_text(
        (folder / "my_neuron.py").read_text().replace("my-neuron", "faulty").replace("h = ", "h = -x.mean(0) + ")
    )
    done = inside("check", "neuron", "faulty.py", "--no-speed")
    assert done.exit_code == 1, done.output
    assert "sample 0 changes with the others of its batch" in " ".join(done.stdout.split())
    assert "fails: samples apart" in done.stdout


WRONG = [
    (["check", "neuron", "none.py"], "none.py does not exist"),
    (["check", "neuron", "my_neuron.py:MyNeuro"], "did you mean 'MyNeuron'?"),
    (["check", "neuron", "broken.py"], "broken.py, line 3: SyntaxError"),
    (["check", "neuron", "two.py"], "two.py registers 2 neurons; say which to check: two.py:One or two.py:Two"),
    (["check", "neuron", "two.py:Three"], "Three of two.py is no neuron"),
    (["check", "neuron", "empty.py"], "empty.py registers no neuron"),
    (["check", "neuron", "liff"], "did you mean 'lif'"),
    (["check", "neuron", "my_neuron"], "for the file write: step check neuron my_neuron.py"),
    (["check", "neuron", "lif", "--set", "tua=2"], "did you mean 'tau'?"),
    (["check", "neuron", "lif", "--set", "tau=1"], "must be greater than 1"),
    (["check", "neuron", "my_neuron.py", "--set", "dcay=2"], "did you mean 'decay'?"),
    (["check", "neuron", "two.py:Two"], "cannot be made"),
    (["check", "neuron"], "or give --all"),
    (["check", "neuron", "lif", "--all"], "or give --all"),
    (["new", "neuron", "my-neuron"], "my_neuron.py exists"),
    (["new", "neuron", "lif"], "already registered"),
    (["new", "neuron", "1st"], "no word of Python"),
    (["new", "neuron", "class"], "no word of Python"),
    (["new", "neuron", "torch"], "would hide the Python module"),
]


@pytest.fixture(scope="module")
def wrong(folder: Path) -> Path:
    (folder / "broken.py").write_text("import neurons\n\nclass Mine(\n")
    (folder / "empty.py").write_text("import neurons\n")
    (folder / "two.py").write_text(
        "import neurons\n\n\n@neurons.register('one')\nclass One(neurons.LIF):\n    '''One.'''\n\n\n"
        "@neurons.register('two')\nclass Two(neurons.LIF):\n    '''Two.'''\n\n"
        "    def __init__(self, tau):\n        super().__init__(tau)\n\n\nclass Three:\n    pass\n"
    )
    return folder


def test_wrong_input_gets_one_line(wrong: Path, inside: Callable[..., Any]) -> None:
    before = sorted(wrong.iterdir())
    for arguments, words in WRONG:
        done = inside(*arguments)
        said = done.stderr.replace("\n", " ")
        assert done.exit_code == 2, (arguments, said)
        assert words in said, (arguments, said)
        assert done.stderr.count("\n") == 1, done.stderr
    assert [path for path in sorted(wrong.iterdir()) if path not in before and path.suffix == ".py"] == []


def test_all_of_them_in_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neurons, "names", lambda: ["lif", "psn", "relu"])
    done = CliRunner().invoke(app, ["check", "neuron", "--all"])
    assert done.exit_code == 0, done.stdout
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert set(lines["lif"]) == {"+"}
    assert set(lines["psn"]) == {"+", "-", "."}


def test_the_template_fits_the_house() -> None:
    text = TEMPLATE.format(name="mine", file="mine.py", kind="Mine")
    assert max(map(len, text.splitlines())) <= 120
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "--stdin-filename", "mine.py", "-"],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_pictures_of_dots() -> None:
    assert curve([0.0, 1.0], 1, 1, 0.0, 1.0) == ["⡸"]
    assert curve([0.0] * 4, 2, 1, 0.0, 1.0) == ["⣀⣀"]
    assert curve([float("nan")] * 4, 2, 1, 0.0, 1.0) == ["  "]
    assert raster([1, 0, 0, 0.5], 2) == "⡇⢠"
    assert raster([0, 0], 2) == "  "
    assert framed(["a", "b"], 0.0, 2.5) == ["     2.5 ┤a", "       0 ┤b"]
