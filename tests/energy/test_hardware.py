"""Hardware profiles: what is stored, and how wrong files are refused."""

import math
from pathlib import Path

import pytest

import energy
from energy import Record, hardware
from energy.hardware.profile import UNITS
from neurons.errors import DataError, OptionError

GOOD = "title: mine\nconstants:\n  synop: {value: 1.5, source: here}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", hardware.names())
def test_every_profile_is_whole(name: str) -> None:
    profile = hardware.load(name)
    assert profile.title
    assert profile.constants
    for constant in profile.constants.values():
        assert constant.source.strip()
        assert math.isfinite(constant.value)
        assert constant.unit in UNITS


def test_the_profiles() -> None:
    assert {
        "loihi", "truenorth", "spinnaker", "spinnaker2", "seneca", "speck", "odin", "reckon", "tianjic", "ubrain",
        "neuronflow", "darwin", "a100", "h100", "tpuv4", "edge-tpu", "cpu", "gpu-titan-black", "arm", "neuromc-32nm",
        "spikesim-65nm", "45nm",
    } <= set(hardware.names())  # fmt: skip


PUBLISHED = [
    ("loihi", "synop", 23.6, True), ("loihi", "neuron_update", 81, True), ("loihi", "neuron_inactive", 52, False),
    ("loihi", "synapse_dense", 35.5, True), ("loihi", "axon_out", 111, True), ("loihi", "static_power", 0.03, False),
    ("truenorth", "synop", 26, False), ("truenorth", "synop_table", 2.5, True),
    ("spinnaker", "synop", 13_300, True), ("spinnaker2", "synop", 450, True), ("spinnaker2", "synop_2021", 10, True),
    ("seneca", "synop", 2.8, True), ("odin", "synop", 12.7, True), ("reckon", "synop", 5.3, True),
    ("tianjic", "synop", 1.54, True), ("ubrain", "synop", 26, True), ("neuronflow", "synop", 20, True),
    ("darwin", "synop", 4.9, False), ("speck", "static_power", 0.00042, True), ("edge-tpu", "power", 2, False),
    ("cpu", "synop", 8_600, True), ("gpu-titan-black", "synop", 300, True), ("arm", "neuron_update", 900, True),
    ("spikesim-65nm", "htree", 19.64 * 8, True), ("neuromc-32nm", "register_16", 0.14416 / 7.1 * 2, True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "constant", "value", "confirmed"), PUBLISHED)
def test_published_constants(name: str, constant: str, value: float, confirmed: bool) -> None:
    found = hardware.load(name).constants[constant]
    assert found.value == pytest.approx(value)
    assert found.confirmed is confirmed


def test_loihi_has_the_prices_that_sana_fe_ships() -> None:
    sanafe = pytest.importorskip("sanafe")
    yaml = pytest.importorskip("yaml")
    shipped = yaml.safe_load((Path(sanafe.__file__).parent / "examples" / "loihi.yaml").read_text())["architecture"]
    tile, loihi = shipped["tile"][0], hardware.load("loihi")
    core = tile["core"][0]
    for way in ("north", "south", "east", "west"):
        assert loihi[f"hop_{way}"] == pytest.approx(float(tile["attributes"][f"energy_{way}_hop"]) * 1e12)
    for kind, unit in zip(("dense", "sparse", "conv"), core["synapse"], strict=True):
        assert loihi[f"synapse_{kind}"] == pytest.approx(float(unit["attributes"]["energy_process_spike"]) * 1e12)
    soma = core["soma"][0]["attributes"]
    names = {"soma_access": "access_neuron", "soma_update": "update_neuron", "spike_out": "spike_out"}
    for ours, theirs in names.items():
        assert loihi[ours] == pytest.approx(float(soma[f"energy_{theirs}"]) * 1e12)
    assert loihi["core_neurons"] == core["attributes"]["max_neurons_supported"]
    assert (loihi["mesh_width"], loihi["mesh_height"]) == (
        shipped["attributes"]["width"], shipped["attributes"]["height"],
    )  # fmt: skip


def test_unconfirmed_constants_are_shown_with_the_price() -> None:
    record = Record.from_layers([{"layer": "fc", "operand": "binary", "dense": 10.0}], T=1)
    shown = energy.price(record, "device-table", "truenorth").attrs["warnings"]
    assert "unconfirmed constants in truenorth: synop" in shown


WRONG = {
    "missing source": ("title: m\nconstants:\n  a: {value: 1}\n", "'a' .* lacks 'source': a text"),
    "empty source": ("title: m\nconstants:\n  a: {value: 1, source: ''}\n", "'a' .* source must be a text"),
    "no value": ("title: m\nconstants:\n  a: {source: here}\n", "'a' .* lacks 'value': a finite number"),
    "negative": ("title: m\nconstants:\n  a: {value: -1, source: s}\n", "'a' .* value must be a finite number.*not -1"),
    "nan": ("title: m\nconstants:\n  a: {value: .nan, source: s}\n", "'a' .* value must be a finite number"),
    "infinite": ("title: m\nconstants:\n  a: {value: .inf, source: s}\n", "'a' .* value must be a finite number"),
    "text": ("title: m\nconstants:\n  a: {value: '1', source: s}\n", "'a' .* value must be a finite number.*not '1'"),
    "true": ("title: m\nconstants:\n  a: {value: true, source: s}\n", "'a' .* value must be a finite number"),
    "confirmed": ("title: m\nconstants:\n  a: {value: 1, source: s, confirmed: 'no'}\n", "confirmed must be true"),
    "key of a constant": ("title: m\nconstants:\n  a: {value: 1, source: s, units: W}\n", "'a' .*'units'.*mean 'unit'"),
    "unit": ("title: m\nconstants:\n  a: {value: 1, source: s, unit: nJ}\n", "'a' .* unit must be one of pJ"),
    "no mapping": ("title: m\nconstants:\n  a: 1\n", "'a' .* must be a mapping with value, source"),
    "empty constants": ("title: m\nconstants: {}\n", "constants must be a mapping of at least one constant"),
    "no constants": ("title: m\n", "lacks 'constants': a mapping of at least one"),
    "no title": ("constants:\n  a: {value: 1, source: s}\n", "lacks 'title': a text"),
    "key": ("title: m\nnode: 3\nconstants:\n  a: {value: 1, source: s}\n", "key 'node'; did you mean .*'node_nm'"),
    "node": ("title: m\nnode_nm: small\nconstants:\n  a: {value: 1, source: s}\n", "node_nm must be a positive number"),
    "twice": (GOOD + "  synop: {value: 2, source: there}\n", "line 4 is not YAML: key 'synop' stands twice"),
    "twice inside": ("title: m\nconstants:\n  a: {value: 1, value: 2, source: s}\n", "key 'value' stands twice"),
    "power": ("title: m\nconstants:\n  static_power: {value: 1, source: s}\n", "must be in unit W, not pJ"),
    "list": ("- 1\n", "must be a mapping with title and constants"),
    "empty": ("", "must be a mapping with title and constants"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_profile_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=message) as refused:
        hardware.load(path)
    told = str(refused.value)
    assert "\n" not in told
    assert f"hardware profile 'mine' ({path})" in told


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a readable text file"):
        hardware.load(path)


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    assert hardware.load(write(tmp_path, GOOD.replace("1.5", "2e-3")))["synop"] == 0.002


def test_a_missing_constant_is_one_line(tmp_path: Path) -> None:
    profile = hardware.load(write(tmp_path, GOOD))
    with pytest.raises(OptionError, match="hardware 'mine' has no constant 'synops'; did you mean 'synop'"):
        profile["synops"]
    assert "synop" in profile
    assert profile.used == set()


def test_scaled_constants(tmp_path: Path) -> None:
    profile = hardware.load(write(tmp_path, GOOD))
    assert profile.scaled("synop", 2)["synop"] == 3.0
    assert profile["synop"] == 1.5
    with pytest.raises(OptionError, match="no constant 'other'"):
        profile.scaled("other", 2)
    for factor in (-1.0, math.inf, math.nan):
        with pytest.raises(OptionError, match="finite factor"):
            profile.scaled("synop", factor)
