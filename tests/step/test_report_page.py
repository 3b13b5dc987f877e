"""The HTML page, the tables and the units of the report."""

import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from neurons.errors import OptionError, ShapeError
from step.report import ReportData, Trace, build_page, export, print_table, write_page
from step.report import tables as report_tables
from step.report.aggregate import over_seeds, seeds_sentence, totals
from step.report.page import figures_json
from step.report.samples import image_uri, pick_units, potentials, raster
from step.report.sections import Sheet, sections
from step.report.style import HUES, PARTS, looks
from step.report.units import energy_unit, format_count, format_energy, format_ratio

NETWORKS = {"LIF": "spiking", "PLIF": "spiking", "ReLU twin": "twin", "4-bit twin": "twin"}
SECTIONS = [
    "results", "accuracy-energy", "ratios", "energy-parts", "energy-layers", "break-even", "synapses", "firing-rates",
    "samples", "learning-curves", "energy-models", "setting", "runs",
]  # fmt: skip
VOID = {"meta", "img", "br", "hr", "link", "input"}


def make(seeds: tuple[int, ...] = (0, 1, 2), rename: dict[str, str] | None = None) -> ReportData:
    rng = np.random.default_rng(0)
    runs, energy, layers, curves = [], [], [], []
    for place, (network, kind) in enumerate(NETWORKS.items()):
        for seed in seeds:
            run = f"{place}-{seed}"
            spikes = 50_000.0 if kind == "spiking" else math.nan
            runs.append((run, network, kind, seed, 0.95 + 0.01 * rng.random(), 106_634, spikes, 20.0))
            compute = (2e6 if kind == "spiking" else 8e6) * (1 + 0.1 * seed)
            energy.append((run, network, seed, "op-count", "compute", compute))
            energy.append((run, network, seed, "memory", "compute", compute))
            energy.append((run, network, seed, "memory", "memory_weight", 4e7))
            energy.append((run, network, seed, "memory", "static", math.nan))
            energy.append((run, network, seed, "events", "compute", 3e6 if kind == "spiking" else math.nan))
            for order, layer in enumerate(("embed", "blocks.0.q", "head")):
                if kind == "spiking":
                    layers.append((run, network, seed, layer, order, "lif", 0.1 + 0.02 * rng.random(), 100.0, 64))
            for epoch in range(3):
                curves.append((run, network, seed, epoch, "train_loss", 2.0 / (1 + epoch) + 0.1 * rng.random()))
                curves.append((run, network, seed, epoch, "validation_accuracy", 0.5 + 0.1 * epoch))
    spikes = (rng.random((4, 40)) < 0.3).astype(np.float32)
    trace = Trace("LIF", "blocks.0.q", 7, 3, 5, rng.random((8, 8)), spikes, rng.random((4, 40)) + spikes, 1.0)
    summary = [(network, "95.1 ± 0.3 %", 106_634, math.nan) for network in NETWORKS]
    frames = {
        "summary": pd.DataFrame(summary, columns=["network", "accuracy", "parameters", "spikes_per_sample"]),
        "runs": pd.DataFrame(
            runs, columns=["run", "network", "kind", "seed", "accuracy", "parameters", "spikes", "seconds"]
        ),
        "energy": pd.DataFrame(energy, columns=["run", "network", "seed", "model", "part", "pJ"]),
        "layers": pd.DataFrame(
            layers, columns=["run", "network", "seed", "layer", "order", "kind", "rate", "spikes", "neurons"]
        ),
        "curves": pd.DataFrame(curves, columns=["run", "network", "seed", "epoch", "name", "value"]),
    }
    if rename:
        trace.network = rename.get(trace.network, trace.network)
        for frame in frames.values():
            if "network" in frame:
                frame["network"] = frame["network"].replace(rename)
    return ReportData("Digits", {"Suite": "quick", "Command": "step run quick"}, **frames, traces=[trace])


def empty() -> ReportData:
    nothing = pd.DataFrame()
    return ReportData("Nothing yet", {}, nothing, nothing, nothing, nothing, nothing)


class Reader(HTMLParser):
    """Collects what the tests ask for, and fails on tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def figures_of(page: str) -> dict:
    return json.loads(read(page).scripts[0])


@pytest.fixture(scope="module")
def page() -> str:
    return build_page(make())


def test_page_is_balanced_and_has_every_section_in_order(page):
    reader = read(page)
    assert [value for tag, name, value in reader.attributes if tag == "section" and name == "id"] == SECTIONS
    words = " ".join(reader.text)
    assert "Mean ± s.d. over n = 3 seeds (0, 1, 2)." in words
    assert words.count("Figure ") == 4
    assert words.count("No spiking network here has been judged against a twin.") == 5
    ids = [value for _, name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_page_loads_nothing(page):
    reader = read(page)
    loads = [value for _, name, value in reader.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert loads
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in loads)
    assert not any(tag in ("link", "iframe", "object", "base") for tag, _, _ in reader.attributes)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    policy = [v for t, n, v in reader.attributes if t == "meta" and n == "content" and "default-src" in v]
    assert policy
    assert "http" not in policy[0]
    assert page.count("plotly.js v") == 1


def test_every_figure_has_its_place_and_is_a_valid_plotly_figure(page):
    import plotly.graph_objects as go

    reader = read(page)
    ids = {value for _, name, value in reader.attributes if name == "id"}
    variables = set(re.findall(r"(--[a-z-]+):", re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]))
    figures = figures_of(page)
    # three models; rates; raster, potential; two curves
    assert len(figures) == 3 + 1 + 2 + 2
    for name, figure in figures.items():
        assert name in ids
        text = json.dumps(figure)
        assert set(re.findall(r"var\((--[a-z-]+)\)", text)) <= variables
        go.Figure(json.loads(re.sub(r"var\(--[a-z-]+\)", "#123456", text)))  # validates every property


def test_page_is_deterministic(page):
    assert build_page(make()) == page


def test_names_are_escaped_everywhere():
    evil = "<script>alert('x')</script>\"&"
    page = build_page(make(rename={"LIF": evil}))
    reader = read(page)
    assert len(reader.scripts) == 3
    assert "<script>alert" not in page
    assert evil in "".join(reader.text)
    # Plotly reads some HTML in texts, so that the figures hold the escaped name
    assert "&lt;script&gt;" in json.dumps(figures_of(page))


def test_text_with_line_separators_and_markup_survives_in_script():
    text = figures_json({"a": {"text": "</script>\u2028", "x": [math.nan, math.inf, np.float32(0.5), np.int64(3)]}})
    assert "<" not in text
    assert json.loads(text) == {"a": {"text": "</script>\u2028", "x": [None, None, 0.5, 3]}}


def test_headline_table_puts_networks_side_by_side(page):
    table = re.search(r'<table class="headline">(.*?)</table>', page, re.DOTALL)[1]
    head = re.sub(r"<[^>]+>", " ", re.search(r"<thead>(.*?)</thead>", table, re.DOTALL)[1])
    assert head.split() == ["LIF", "spiking", "PLIF", "spiking", "ReLU", "twin", "twin", "4-bit", "twin", "twin"]
    rows = [re.sub(r"<[^>]+>", "|", row) for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]]
    assert "95.1 ± 0.3 %" in rows[0]
    assert "106,634" in rows[1]
    assert "spikes per sample" in rows[2]
    assert "–" in rows[2]
    assert "nan" not in table.lower()


def test_one_seed_shows_no_error_bars_and_no_bands():
    page = build_page(make(seeds=(4,)))
    assert "One seed (4) per network, so there are no error bars." in " ".join(read(page).text)
    for figure in figures_of(page).values():
        for trace in figure["data"]:
            assert trace.get("error_x", {"visible": False}) == {"visible": False}
            assert trace.get("error_y", {"visible": False}) == {"visible": False}
            assert "fill" not in trace


def test_three_seeds_show_their_standard_deviation():
    figures = figures_of(build_page(make()))
    means = [trace for trace in figures["figure-1"]["data"] if "error_x" in trace]
    lif = means[0]
    assert lif["x"] == [pytest.approx(2.2)]  # µJ, of 2.0, 2.2 and 2.4
    assert lif["error_x"]["array"] == [pytest.approx(0.2)]
    assert sum(trace.get("opacity") == 0.35 for trace in figures["figure-1"]["data"]) == 4


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        ("energy", "No run has both an accuracy and an energy"),
        ("layers", "No firing rates were recorded"),
        ("curves", "No learning curves were recorded."),
        ("summary", "There is no summary"),
    ],
)
def test_a_missing_frame_leaves_a_line_in_its_section(frame, line):
    reader = read(build_page(replace(make(), **{frame: pd.DataFrame()})))
    assert line in " ".join(reader.text)
    assert [value for tag, name, value in reader.attributes if tag == "section" and name == "id"] == SECTIONS


def test_no_traces_and_no_runs_at_all():
    assert "No sample was traced" in " ".join(read(build_page(replace(make(), traces=[]))).text)
    page = build_page(empty())
    assert figures_of(page) == {}
    assert sum(name == "class" and value == "missing" for _, name, value in read(page).attributes) == 14


def test_a_network_without_any_price_is_called_not_applicable():
    data = make()
    data.energy.loc[data.energy["model"] == "events", "pJ"] = math.nan
    text = " ".join(read(build_page(data)).text)
    assert "Not applicable to these networks." in text


def test_nan_accuracies_and_values_do_not_reach_the_page():
    data = make()
    data.runs["accuracy"] = math.nan
    data.curves["value"] = math.nan
    page = build_page(data)
    assert "No run has both an accuracy and an energy" in page
    assert "No learning curves were recorded." in page
    assert not re.search(r">\s*nan\b", page)


def test_many_networks_fall_back_to_one_row_each():
    data = make()
    data.summary = pd.concat([data.summary] * 3, ignore_index=True)
    body = sections(Sheet(data))[0].body
    assert body.count("<tr>") == 1 + 12


def test_data_that_do_not_fit_are_refused_in_one_line():
    with pytest.raises(OptionError, match="'energy' lacks the column 'pJ'"):
        build_page(replace(make(), energy=make().energy.drop(columns="pJ")))
    with pytest.raises(OptionError, match="'LIFF', which has no run; did you mean 'LIF'"):
        build_page(replace(make(), layers=make().layers.replace({"network": {"LIF": "LIFF"}})))
    with pytest.raises(OptionError, match="'spiking', 'twin' or 'other', not 'hybrid'"):
        build_page(replace(make(), runs=make().runs.replace({"kind": {"twin": "hybrid"}})))
    trace = make().traces[0]
    with pytest.raises(ShapeError, match=r"potential \[4, 3\] must have the shape of the spikes, \[4, 40\]"):
        build_page(replace(make(), traces=[replace(trace, potential=np.zeros((4, 3)))]))
    with pytest.raises(ShapeError, match=r"\[H, W\] or \[C, H, W\]"):
        build_page(replace(make(), traces=[replace(trace, image=np.zeros(8))]))


def test_write_page_replaces_the_file_whole(tmp_path):
    path = tmp_path / "new" / "report.html"
    assert write_page(make(), path) == path
    assert path.read_text(encoding="utf-8") == build_page(make())
    before = path.read_bytes()
    with pytest.raises(OptionError):
        write_page(replace(make(), energy=make().energy.drop(columns="pJ")), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(OptionError, match="cannot write"):
        write_page(empty(), path / "below-a-file.html")


def test_looks_keep_networks_apart():
    found = looks(make())
    assert [look.name for look in found] == list(NETWORKS)
    assert len({look.colour for look in found}) == len({look.symbol for look in found}) == 4
    for look in found:
        assert look.spiking == (look.dash == "solid") == (look.pattern == "") == (not look.symbol.endswith("-open"))
    assert all(re.fullmatch("#[0-9a-f]{6}", code) for hue in HUES + PARTS for code in hue[1:])


def test_over_seeds_and_totals():
    frame = pd.DataFrame({"network": ["a", "a", "b", "c"], "value": [1.0, 3.0, 5.0, math.nan]})
    stats = over_seeds(frame, ["network"], "value").set_index("network")
    assert list(stats.index) == ["a", "b"]
    assert stats.loc["a", "mean"] == 2
    assert stats.loc["a", "sd"] == pytest.approx(math.sqrt(2))
    assert math.isnan(stats.loc["b", "sd"])
    total = totals(make().energy).set_index(["network", "seed", "model"])["pJ"]
    assert total["LIF", 0, "memory"] == pytest.approx(4.2e7)
    assert math.isnan(total["ReLU twin", 0, "events"])


def test_seeds_sentence_names_unequal_counts():
    runs = make().runs
    assert "LIF n = 3, PLIF n = 1" in seeds_sentence(runs[(runs["network"] != "PLIF") | (runs["seed"] == 0)])


def test_image_is_a_png_of_the_right_size_and_pixels():
    import base64
    import struct
    import zlib

    png = base64.b64decode(image_uri(np.array([[0.0, 0.5, 1.0], [2.0, -1.0, math.nan]])).split(",")[1])
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">IIBB", png[16:26]) == (3, 2, 8, 0)
    size = struct.unpack(">I", png[33:37])[0]
    assert zlib.decompress(png[41 : 41 + size]) == bytes([0, 0, 128, 255, 0, 255, 0, 0])
    assert image_uri(np.zeros((1, 4, 4))) == image_uri(np.zeros((4, 4)))
    for channels in (2, 3):
        colour = base64.b64decode(image_uri(np.zeros((channels, 4, 4))).split(",")[1])
        assert colour[25] == 2


def test_raster_leaves_out_evenly_and_says_so():
    trace = make().traces[0]
    look = looks(make())[0]
    figure, left_out = raster(trace, look)
    assert left_out == ""
    assert np.array_equal(np.array(figure["data"][0]["z"]).T, trace.spikes)
    wide = replace(trace, spikes=np.full((2, 1000), -3.0), potential=None)
    figure, left_out = raster(wide, look)
    assert left_out == "128 of 1,000 units, evenly spaced; darker is larger"
    assert figure["data"][0]["y"][0] == 0
    assert figure["data"][0]["y"][-1] == 999
    assert figure["data"][0]["zmin"] == -figure["data"][0]["zmax"]
    with pytest.raises(ShapeError, match="no potential"):
        potentials(wide, look)


def test_units_shown_are_active_ones_from_most_to_least():
    spikes = np.zeros((4, 6))
    spikes[:4, 1], spikes[:2, 4] = 1, 1
    assert pick_units(spikes, 3) == [1, 4, 0]
    assert pick_units(np.zeros((3, 1))) == [0]


def test_trace_without_threshold_or_potential():
    trace = make().traces[0]
    figure = potentials(replace(trace, threshold=None), looks(make())[0])
    assert figure["layout"]["shapes"] == []
    page = build_page(replace(make(), traces=[replace(trace, potential=None)]))
    assert "No membrane potential was recorded for this layer." in page


@pytest.mark.parametrize(
    ("pJ", "text"),
    [(12345, "12.3 nJ"), (0.9, "900 fJ"), (999.9, "1.00 nJ"), (1.0, "1.00 pJ"), (461_619_200, "462 µJ"), (0, "0 pJ"),
     (math.nan, "–"), (2.5e9, "2.50 mJ"), (-1500, "-1.50 nJ"), (3e12, "3.00 J")],
)  # fmt: skip
def test_format_energy(pJ, text):
    assert format_energy(pJ) == text


def test_energies_share_one_unit():
    unit = energy_unit([2e6, 8e6, 0, math.nan])
    assert unit.name == "µJ"
    assert format_energy(381_000, unit) == "0.381 µJ"
    assert energy_unit([]).name == "pJ"


@pytest.mark.parametrize(
    ("count", "text"),
    [(1_234_567, "1.23 M"), (512, "512"), (999, "999"), (1000, "1.00 k"), (999_999, "1.00 M"), (0, "0"),
     (0.25, "0.250"), (math.nan, "–"), (5.5e9, "5.50 G"), (-2500, "-2.50 k")],
)  # fmt: skip
def test_format_count(count, text):
    assert format_count(count) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.3125, "0.31×"), (0.0123, "0.012×"), (12.84, "12.8×"), (1, "1.00×"), (math.nan, "–")]
)
def test_format_ratio(ratio, text):
    assert format_ratio(ratio) == text


def printed(frame: pd.DataFrame, width: int = 100) -> str:
    out = io.StringIO()
    print_table(frame, "Title", Console(file=out, width=width))
    return out.getvalue()


def test_table_aligns_numbers_right_and_reads_no_markup():
    text = printed(pd.DataFrame({"network": ["[red]LIF", "b"], "energy": ["2.10 µJ", "381 nJ"], "n": [12345, 1]}))
    assert "[red]LIF" in text
    lines = [line.rstrip() for line in text.splitlines()]
    first, second = (line for line in lines if "µJ" in line or "nJ" in line)
    assert first.endswith("12,345")
    assert len(first) == len(second)
    assert first.index("µJ") == second.index("nJ")


def test_wide_table_is_split_and_never_cut():
    frame = pd.DataFrame({"network": ["LIF"], **{f"quantity number {i}": [f"{i}.25 µJ"] for i in range(12)}})
    text = printed(frame)
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "…" not in text
    for i in range(12):
        assert f"quantity number {i}" in text
        assert f" {i}.25 µJ" in text
    assert text.count("LIF") > 1


@pytest.mark.parametrize("width", range(48, 100, 3))
def test_a_table_that_just_fits_or_just_does_not_keeps_every_cell_in_one_piece(width):
    frame = pd.DataFrame({"network": ["4-bit twin"], **{f"q{i}": ["1,234.5 ± 0.1"] for i in range(6)}})
    text = printed(frame, width)
    assert text.count("1,234.5 ± 0.1") == 6
    assert text.count("4-bit twin") == sum("network" in line for line in text.splitlines())
    assert all(len(line.rstrip()) <= width for line in text.splitlines())


def test_long_text_is_folded_and_nothing_is_lost():
    words = [f"word{i}" for i in range(60)]
    text = printed(pd.DataFrame({"model": ["m"], "ignores": [" ".join(words)]}))
    assert all(word in text for word in words)
    assert "no rows" in printed(pd.DataFrame({"a": []}))


def test_numeric_columns():
    assert report_tables.is_numeric(pd.Series(["95.1 ± 0.3 %", None]))
    assert report_tables.is_numeric(pd.Series([1.0, math.nan]))
    assert report_tables.is_numeric(pd.Series(["0.31×", "–"]))
    assert not report_tables.is_numeric(pd.Series(["4-bit twin", "ReLU"]))
    assert not report_tables.is_numeric(pd.Series(["3fa9c1", "12ab"]))
    assert not report_tables.is_numeric(pd.Series([True]))


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_export_round_trips(tmp_path, suffix):
    frame = pd.DataFrame({"network": ["LIF", "ReLU twin, µ"], "pJ": [0.1 + 0.2, math.nan], "seed": [0, 1]})
    path = export(frame, tmp_path / "sub" / f"table.{suffix}")
    reader = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": pd.read_json}[suffix]
    pd.testing.assert_frame_equal(reader(path), frame, check_dtype=suffix == "parquet", rtol=1e-14)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_export_refuses_in_one_line_and_leaves_nothing(tmp_path):
    frame = pd.DataFrame({"a": [1]})
    with pytest.raises(OptionError, match=r"'table\.xlsx': the suffix must be \.csv, \.parquet or \.json"):
        export(frame, tmp_path / "table.xlsx")
    with pytest.raises(OptionError, match=r"as Parquet .* choose \.csv or \.json"):
        export(pd.DataFrame({"a": [1, "–"]}), tmp_path / "mixed.parquet")
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot write"):
        export(frame, tmp_path / "file" / "table.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
