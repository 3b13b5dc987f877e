"""``step new energy``, ``step new hardware`` and ``step check energy`` as a user meets them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import catalogue
import pytest
from typer.testing import CliRunner

import energy
from energy import conformance
from energy.hardware import load
from step.cli import app
from step.cli.new_energy import HARDWARE, MODEL
from step.cli.profiles import try_models


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command line in this process and in a folder of its own, with a model and a chip begun by ``step new``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalogue, "REGISTRY", catalogue.REGISTRY.copy())  # what a file registers is gone afterwards

    def run(*arguments: Any) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    assert run("new", "energy", "my-model").exit_code == 0
    assert run("new", "hardware", "my-chip").exit_code == 0
    # A plugin runs once in a process: another text is another module, which registers anew.
    mine = tmp_path / "my_model.py"
    mine.write_text(mine.read_text() + f"# {tmp_path}\n")
    return run


def flat(done: Any) -> str:
    return " ".join(done.output.split())


def rows(done: Any) -> dict[str, list[str]]:
    """Return the words of each line behind its first one."""
    return {line.split()[0]: line.split()[1:] for line in done.output.splitlines() if line.strip()}


def change(old: str, new: str, to: str = "changed.py") -> None:
    text = Path("my_model.py").read_text().replace('"my-model"', f'"{Path(to).stem}"')
    assert old in text
    Path(to).write_text(text.replace(old, new))


def test_the_begun_model_is_short_passes_and_is_priced(inside: Callable[..., Any]) -> None:
    assert len(Path("my_model.py").read_text().splitlines()) <= 32
    done = inside("check", "energy", "my_model.py")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("my_model.py:MyModel on 45nm")
    assert f"passes all {len(conformance.CHECKS) + 1} checks" in done.output
    found = rows(done)
    assert found["prices"][-4:] == ["with", "fp32_add,", "fp32_mul,", "sram_8kb"]
    # What the table shows is what the model says.
    table = energy.price(conformance.example(), "my-model")
    total, other = _total("my-model"), _total("op-count")
    assert float(found["conv"][-2]) == pytest.approx(table.set_index("layer").loc["conv", "total"] / 1e3, rel=5e-3)
    assert f"in all {total / 1e3:.0f} nJ; op-count {other / 1e3:.0f} nJ: {total / other:.2f}×" in done.output
    assert "outside its scope or folded: norm, one, two" in done.output


def test_options_change_the_price(inside: Callable[..., Any]) -> None:
    def weights(*options: str) -> float:
        done = inside("check", "energy", "my_model.py:MyModel", *options)
        assert done.exit_code == 0, done.output
        return float(rows(done)["head"][3])

    assert weights("--set", "weight_bits=64") == pytest.approx(2 * weights(), rel=1e-2)


def test_the_begun_chip_is_listed_and_priced(inside: Callable[..., Any]) -> None:
    done = inside("check", "energy", "my_chip.yaml")
    assert done.exit_code == 0, done.output
    found = rows(done)
    assert found["synop"][:2] == ["10", "pJ"]
    assert found["neuron_update"][:3] == ["50", "pJ", "unconfirmed:"]
    assert found["device-table"][0] == "yes"
    assert found["syops"][0] == "no"
    assert "lacks fp32_add, fp32_mul" in flat(done)
    assert "models: device-table" in done.output
    priced = inside("check", "energy", "device-table", "--hardware", "my_chip.yaml")
    assert priced.exit_code == 0, priced.output
    assert priced.output.count("on my_chip\n") == 1  # its variants are chips, and here is one chip
    assert "unconfirmed constants in my_chip: neuron_update" in priced.output


def test_a_shipped_profile_and_its_models(inside: Callable[..., Any]) -> None:
    done = inside("check", "energy", "seneca")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("seneca: ")
    assert "models: device-table" in done.output
    silent = inside("check", "energy", "speck")
    assert silent.exit_code == 0
    assert "no registered energy model can be priced with it" in silent.output


def test_what_is_lacking_is_all_that_is_lacking(tmp_path: Path) -> None:
    record, full = conformance.example(), load("45nm")
    names = ("fp32_add", "memory_bit")
    poor = tmp_path / "poor.yaml"
    constants = "".join(f"  {name}: {{value: 1, source: here}}\n" for name in names)
    poor.write_text(f"title: poor\nconstants:\n{constants}")
    found = {each.label: each for each in try_models(load(poor), record)}
    assert found["step"].wrong == "lacks fp32_mul"
    for name in ("op-count", "typed-horowitz"):
        used = set(energy.price(record, name, full).attrs["constants"])
        assert set(found[name].wrong.removeprefix("lacks ").split(", ")[:2]) <= used - set(names)
    whole = {each.label: each for each in try_models(full, record)}
    assert whole["step"].total == pytest.approx(energy.price(record, "step", full)["total"].sum())
    assert whole["roofline"].wrong.startswith("lacks ")  # three variants with one model
    assert "roofline h100" not in whole
    assert "does not say whether it is event-driven" in whole["device-table"].wrong


def test_every_variant_of_a_name_or_one(inside: Callable[..., Any]) -> None:
    both = inside("check", "energy", "bit-budget")
    assert both.exit_code == 0, both.output
    assert "bit-budget S-ACE on 45nm" in both.output
    assert "bit-budget NS-ACE on 45nm" in both.output
    assert "op-count 1" not in both.output  # bit-operations have no ratio to joules
    one = inside("check", "energy", "bit-budget S-ACE")
    assert "NS-ACE on" not in one.output


def test_a_saved_record_takes_the_place_of_the_example(inside: Callable[..., Any], tmp_path: Path) -> None:
    layers = [{"layer": f"fc{n}", "dense": 1000, "operand": "binary", "effective": 100, "inputs": 40, "nonzero": 4,
               "weights": 250} for n in range(20)]  # fmt: skip
    record = energy.Record.from_layers(layers, T=4, data="a paper")
    done = inside("check", "energy", "op-count", "--on", record.save(tmp_path / "record"))
    assert done.exit_code == 0, done.output
    assert "T = 4 (a paper)" in done.output
    assert "in all 1.80 nJ; op-count 1.80 nJ: 1.00×" in done.output
    assert "8 cheaper ones" in done.output
    assert inside("check", "energy", "my_chip.yaml", "--on", tmp_path / "record").exit_code == 0


def test_all_in_one_table(inside: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy.energy_models, "names", lambda: ["bit-budget", "syops", "changed"])
    change("work * (", "-work * (")
    done = inside("check", "energy", "--all", "--plugin", "changed.py")
    assert done.exit_code == 1, done.output
    found = rows(done)
    checks = len(conformance.CHECKS) + 1
    assert found["syops"][:checks] == ["+"] * checks
    assert found["changed"].count("-") >= 1
    ratio = _total("syops") / _total("op-count")
    assert found["syops"][-1] == f"{ratio:.2f}×"
    assert "NS-ACE" in found["bit-budget"]
    assert "changed: total is the sum of parts: layer conv: a part is negative" in done.output


def _total(name: str) -> float:
    return float(energy.price(conformance.example(), name)["total"].sum())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("work * (hardware", "work / layer.T * (hardware", "fails: linear in time"),
        ('source = "my own"', 'source = ""', "describes itself no it has no source"),
        ('"sram_8kb"]', '"sram_8k"]', "no constant 'sram_8k'; did you mean 'sram_8kb'"),
        ('"sram_8kb"]', '"nothing"]', "sram_8kb (changed.py, line 26)"),
        ("return Price(parts)", "return Price(parts) / 0", "TypeError"),
        ("return Price(parts)", "return None", "no layer of the network has a price"),
    ],
)
def test_a_faulty_model_ends_with_one(inside: Callable[..., Any], old: str, new: str, words: str) -> None:
    change(old, new)
    done = inside("check", "energy", "changed.py")
    assert done.exit_code == 1, done.output
    assert words in flat(done)
    assert "fails: " in done.output


WRONG = [
    (["check", "energy"], "or give --all"),
    (["check", "energy", "op-count", "--all"], "or give --all"),
    (["check", "energy", "--all", "--hardware", "45nm"], "--all takes neither"),
    (["check", "energy", "none.py"], "none.py does not exist"),
    (["check", "energy", "none.yaml"], "none.yaml does not exist"),
    (["check", "energy", "op-cont"], "did you mean 'op-count'"),
    (["check", "energy", "loihy"], "did you mean 'loihi'"),
    (["check", "energy", "my_model"], "for the file write: step check energy my_model.py"),
    (["check", "energy", "my_chip"], "for the file write: step check energy my_chip.yaml"),
    (["check", "energy", "lemaire d"], "no variant 'd'"),
    (["check", "energy", "op-count", "--set", "precison=int8"], "did you mean 'precision'?"),
    (["check", "energy", "op-count", "--set", "precision=int9"], "precision is"),
    (["check", "energy", "op-count", "--hardware", "44nm"], "did you mean '45nm'"),
    (["check", "energy", "op-count", "--on", "nowhere"], "no readable operation record"),
    (["check", "energy", "loihi", "--hardware", "45nm"], "this is a hardware profile"),
    (["check", "energy", "my_model.py:MyModl"], "did you mean 'MyModel'?"),
    (["check", "energy", "my_model.py", "--set", "weight_bit=2"], "did you mean 'weight_bits'?"),
    (["check", "energy", "syntax.py"], "syntax.py, line 3: SyntaxError"),
    (["check", "energy", "raises.py"], "raises.py, line 2: ZeroDivisionError"),
    (["check", "energy", "empty.py"], "empty.py has no energy model; derive one from energy.EnergyModel"),
    (["check", "energy", "empty.py:other"], "other of empty.py is no energy model"),
    (["check", "energy", "unmade.py"], "cannot be made: ValueError: no (unmade.py, line"),
    (["check", "energy", "unsourced.yaml"], "lacks 'source'"),
    (["new", "energy", "my-model"], "my_model.py exists"),
    (["new", "energy", "op-count"], "already registered"),
    (["new", "energy", "torch"], "would hide the Python module"),
    (["new", "energy", "1st"], "such as my-model"),
    (["new", "hardware", "my-chip"], "my_chip.yaml exists"),
    (["new", "hardware", "loihi"], "already registered"),
    (["new", "hardware", "class"], "no word of Python"),
]


def test_wrong_input_gets_one_line(inside: Callable[..., Any], tmp_path: Path) -> None:
    Path("syntax.py").write_text("import energy\n\nclass Mine(\n")
    Path("raises.py").write_text("import energy\n1 / 0\n")
    Path("empty.py").write_text("import energy\n\n\ndef other():\n    pass\n")
    change("    def price_layer", "    def __post_init__(self):\n        raise ValueError('no')\n\n    def price_layer",
           "unmade.py")  # fmt: skip
    Path("unsourced.yaml").write_text("title: x\nconstants:\n  synop: {value: 1}\n")
    before = sorted(tmp_path.iterdir())
    for arguments, words in WRONG:
        done = inside(*arguments)
        assert done.exit_code == 2, (arguments, done.output)
        assert words in done.stderr.replace("\n", " "), (arguments, done.stderr)
        assert done.stderr.count("\n") == 1, done.stderr
    assert [path for path in sorted(tmp_path.iterdir()) if path not in before and path.suffix != ""] == []


def test_several_models_in_one_file(inside: Callable[..., Any]) -> None:
    change("class MyModel(EnergyModel):", "class Base(EnergyModel):\n    '''One.'''\n\n\n@dataclass(frozen=True, "
           "kw_only=True)\nclass Two(Base):", "several.py")  # fmt: skip
    text = Path("several.py").read_text().replace('@energy_models.register("several")\n', "")
    Path("several.py").write_text(text)
    done = inside("check", "energy", "several.py")
    assert done.exit_code == 0, done.output
    assert "several.py:Two on 45nm" in done.output
    assert "several.py:Base" not in done.output  # what prices nothing is a base, not a model
    assert "not registered" in done.output


def test_the_templates_fit_the_house() -> None:
    text = MODEL.format(name="mine", file="mine.py", kind="Mine")
    assert max(map(len, [*text.splitlines(), *HARDWARE.splitlines()])) <= 120
    ruff = shutil.which("ruff") or str(Path(sys.executable).with_name("ruff"))
    done = subprocess.run(
        [ruff, "format", "--check", "--line-length", "120", "--stdin-filename", "mine.py", "-"],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
