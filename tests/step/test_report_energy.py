"""The energy sections of the page: every figure shows the verdict's numbers, and says what it is."""

import json
import math
import re
from dataclasses import replace

import pandas as pd
import pytest
from test_report_page import figures_of, make, read

from energy.measured import Measured, Reading
from energy.verdict import Verdict
from neurons.errors import OptionError
from step.report import Judged, build_page, build_verdict_page, write_verdict_page
from step.report import energy_figures as figures
from step.report.style import looks_of
from step.report.units import EnergyUnit

NAN = math.nan
TWINS = ("ReLU twin", "4-bit twin")
NAMES = {"op-count": "op-count", "lemaire a": "lemaire a *", "far": "far ~", "bits": "bits", "loihi": "loihi"}


def rows() -> list[dict]:
    """Return a win, a loss, a ratio out of sight, one without energy, and a model that does not apply."""
    even = {"break_even_rate": 0.2, "break_even_sps": 0.8, "confidence": "published", "hardware": "45nm", "unit": "pJ"}
    won = {"network_total": 1e3, "twin_total": 4e3, "ratio": 0.25, "winner": "network", "ratio_rate_low": 0.125,
           "ratio_rate_high": 0.375, "break_even": 4.0, "decides": "firing rate", "flip_factor": 4.0}  # fmt: skip
    lost = {"network_total": 6e6, "twin_total": 3e6, "ratio": 2.0, "ratio_memory_low": 1.5, "ratio_memory_high": 2.2,
            "ratio_reuse": 3.0, "ratio_rate_low": 1.4, "break_even": 0.5, "decides": "int8_mul",
            "flip_factor": 3.0, "partial": True}  # fmt: skip
    far = {"network_total": 5.0, "twin_total": 0.0, "ratio": math.inf, "confidence": "reconstruction"}
    bits = {"network_total": 64.0, "twin_total": 128.0, "ratio": 0.5, "winner": "network", "unit": "bit-operations"}
    found = []
    for label, values in {"lemaire a": lost, "op-count": won, "far": far, "bits": bits, "loihi": {}}.items():
        for twin in TWINS:
            row = {"winner": twin if values in (lost, far) else "not applicable", **even, **values}
            found.append({"label": label, "model": label, "twin": twin, "decides": "", "partial": False} | row)
    return found


def verdict(network: str = "LIF", twins: tuple[str, ...] = TWINS) -> Verdict:
    columns = ["label", "model", "hardware", "unit", "confidence", "twin", "network_total", "twin_total", "ratio",
               "winner", "ratio_memory_low", "ratio_memory_high", "ratio_reuse", "ratio_rate_low", "ratio_rate_high",
               "break_even", "break_even_rate", "break_even_sps", "decides", "flip_factor", "partial"]  # fmt: skip
    table = pd.DataFrame([row for row in rows() if row["twin"] in twins], columns=columns)
    parts, layers = [], []
    for place, each in enumerate((network, *twins)):
        scale = 1 + place
        parts += [
            ("op-count", each, "compute", 1e3 * scale, "pJ"),
            ("lemaire a", each, "compute", 1e6 * scale, "pJ"),
            ("lemaire a", each, "memory_weight", 5e6 * scale, "pJ"),
            ("bits", each, "compute", 64.0, "bit"),
        ]
        priced = (("op-count", "embed", 0, 250.0), ("op-count", "head", 2, 750.0), ("op-count", "norm", 1, NAN),
                  ("lemaire a", "norm", 1, NAN), ("lemaire a", "head", 2, 6e6))  # fmt: skip
        layers += [(label, each, layer, order, pJ * scale, "pJ") for label, layer, order, pJ in priced]
    curves = [
        (label, twin, factor, 0.1 * factor, ratio * factor)
        for label, ratio in (("op-count", 0.25), ("lemaire a", 2.0)) for twin in twins for factor in (0.5, 1.0, 2.0)
    ]  # fmt: skip
    synapses = [("embed", 0.0), ("head", 0.4), ("network", 0.3)]
    notes = [
        (label, f"Source of {label}", "reconstruction" if label == "far" else "published", "routing",
         "unconfirmed constants in 45nm: sram" if label == "lemaire a" else "",
         "sram" if label == "lemaire a" else "", "verdict: plausible" if label == "op-count" else "")
        for label in NAMES
    ]  # fmt: skip
    return Verdict(
        network, table, pd.DataFrame(parts, columns=["label", "network", "part", "pJ", "unit"]),
        pd.DataFrame(layers, columns=["label", "network", "layer", "order", "pJ", "unit"]),
        pd.DataFrame(curves, columns=["label", "twin", "factor", "rate", "ratio"]),
        pd.DataFrame(synapses, columns=["layer", "spikes_per_synapse"]),
        pd.DataFrame(notes, columns=["label", "source", "confidence", "ignores", "warnings", "unconfirmed", "figures"]),
    )  # fmt: skip


LIMITS = pd.DataFrame(
    [("fp32 MAC, fp32 AC", 5.11, NAN, True, "Horowitz"), ("Dampfhoffer et al.", 1.38, 0.15, False, "TETCI 2023")],
    columns=["name", "limit", "lower", "confirmed", "source"],
)
STEPS = pd.DataFrame(
    [(layer, step, 0.1 * (1 + step)) for layer in ("embed", "q") for step in range(3)],
    columns=["layer", "step", "rate"],
)
FACTS = {"Counting": "digits, 16 samples; accumulates: valid taps only", "Command": "step energy quick"}
LOOKS = looks_of(["LIF"], TWINS)


@pytest.fixture(scope="module")
def page() -> str:
    return build_verdict_page(verdict(), "Spikformer", FACTS, steps=STEPS, thresholds=LIMITS)


def ids(page: str) -> list[str]:
    return [value for tag, name, value in read(page).attributes if tag == "section" and name == "id"]


def test_a_page_of_one_verdict_has_every_section_and_loads_nothing(page):
    assert ids(page) == ["ratios", "energy-parts", "energy-layers", "break-even", "synapses", "firing", "energy-models",
                         "setting"]  # fmt: skip
    loads = [v for _, name, v in read(page).attributes if name in ("src", "href", "srcset", "data")]
    assert all(value.startswith("#") for value in loads)


def test_every_figure_is_valid_has_a_place_and_an_alternative_text(page):
    import plotly.graph_objects as go

    attributes = read(page).attributes
    places = {value for _, name, value in attributes if name == "id"}
    variables = set(re.findall(r"(--[a-z-]+):", re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]))
    found = figures_of(page)
    # two twins; two models in pJ; layers; two twins; synapses; time
    assert len(found) == 2 + 2 + 1 + 2 + 1 + 1
    assert set(found) <= places
    described = [value for _, name, value in attributes if name == "aria-label" and value != "Sections"]
    assert len(set(described)) >= len(found)
    for figure in found.values():
        text = json.dumps(figure)
        assert set(re.findall(r"var\((--[a-z-]+)\)", text)) <= variables
        go.Figure(json.loads(re.sub(r"var\(--[a-z-]+\)", "#123456", text)))


def test_captions_say_what_is_estimated_and_how_it_was_counted(page):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert len(captions) == 6
    assert all("Counted on digits, 16 samples; accumulates: valid taps only." in caption for caption in captions)
    assert sum("estimates by published models, not measurements" in caption for caption in captions) == 4


def test_models_are_sorted_by_ratio_with_the_best_case_on_top():
    of_twin = verdict().table.query("twin == 'ReLU twin'")
    assert list(figures.drawable(of_twin)["label"]) == ["op-count", "bits", "lemaire a"]
    figure = figures.ratios(of_twin, NAMES, LOOKS[0], LOOKS[1])
    assert figure["layout"]["xaxis"]["type"] == "log"
    assert figure["layout"]["yaxis"]["ticktext"] == ["op-count", "bits", "lemaire a *"]
    assert figure["layout"]["yaxis"]["range"][0] > figure["layout"]["yaxis"]["range"][1]
    assert [note["text"] for note in figure["layout"]["annotations"]] == ["0.25×", "0.50×", "2.00×"]
    assert figure["layout"]["shapes"][0]["x0"] == 1


def test_bands_are_the_ratios_under_other_prices_and_rates():
    of_twin = verdict().table.query("twin == 'ReLU twin'")
    memory, rate, reuse, ratio = figures.ratios(of_twin, NAMES, LOOKS[0], LOOKS[1])["data"]
    assert memory["x"] == [1.5, 2.2, None]
    assert memory["y"] == [2, 2, None]
    # lemaire cannot be drawn at 1.5 times the rates, so that its band ends at the ratio itself
    assert rate["x"] == [0.125, 0.375, None, 1.4, 2.0, None]
    assert reuse["x"] == [None, None, 3.0]
    assert ratio["x"] == [0.25, 0.5, 2.0]
    assert ratio["marker"]["color"] == [LOOKS[0].colour, LOOKS[0].colour, LOOKS[1].colour]


def test_models_without_a_finite_ratio_are_named_beneath(page):
    caption = re.search(r'id="ratios".*?<figcaption>(.*?)</figcaption>', page, re.DOTALL)[1]
    assert "Not applicable, or without a finite ratio: far ~, loihi." in caption
    assert "Ratios of counts, not of energies: bits (bit-operations)." in caption


def test_the_table_says_who_wins_where_it_breaks_even_and_what_decides(page):
    section = re.search(r'id="ratios".*?</section>', page, re.DOTALL)[0]
    text = re.sub(r"<[^>]+>", "|", section)
    assert "cheaper than ReLU twin under 2 of 4 readings; 1 do not apply" in text
    assert re.search(r"lemaire a \*\|+&gt;6\.00 µJ", text)
    assert "firing rate × 4.00" in text
    assert "int8_mul × 3.00" in text


def test_parts_stack_to_the_total_in_the_unit_of_the_model():
    of_model = verdict().parts.query("label == 'lemaire a'")
    colours = {"compute": "var(--part-compute)", "memory_weight": "var(--part-memory-weight)"}
    figure = figures.energy_by_part(of_model, LOOKS, colours, EnergyUnit("µJ", 1e6))
    assert figure["layout"]["barmode"] == "stack"
    compute, weights, totals = figure["data"]
    assert (compute["x"], weights["x"]) == ([1, 2, 3], [5, 10, 15])
    assert totals["x"] == [6, 12, 18]
    assert totals["text"] == [" 6.00 µJ", " 12.0 µJ", " 18.0 µJ"]
    assert compute["marker"]["pattern"]["shape"] == ["", "/", "/"]  # twins are hatched


def test_a_model_of_another_unit_is_left_out_of_the_parts_and_named(page):
    section = re.search(r'id="energy-parts".*?</section>', page, re.DOTALL)[0]
    assert re.findall(r"<h3>(.*?)</h3>", section) == ["op-count", "lemaire a *"]
    assert "Without a price in units of energy: far ~, bits, loihi." in section


def test_the_heat_map_holds_shares_of_each_models_total():
    own = verdict().layers.query("network == 'LIF'")
    figure = figures.layer_shares(own, NAMES)
    heat = figure["data"][0]
    assert figure["layout"]["yaxis"]["ticktext"] == ["embed", "head"]  # the norm has no price and no row
    assert figure["layout"]["xaxis"]["ticktext"] == ["op-count", "lemaire a *"]
    assert heat["z"][0][0] == pytest.approx(25)
    assert math.isnan(heat["z"][0][1])
    assert [row[0] for row in heat["z"]] == pytest.approx([25, 75])
    assert heat["z"][1][1] == pytest.approx(100)


def test_curves_cross_one_at_the_break_even_rate_and_mark_the_network():
    figure = figures.break_even(verdict().curves.query("twin == 'ReLU twin'"), NAMES)
    lines = [trace for trace in figure["data"] if trace["mode"] == "lines"]
    points = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    assert [line["name"] for line in lines] == ["op-count", "lemaire a *"]
    assert lines[1]["x"] == pytest.approx([0.05, 0.1, 0.2])
    assert lines[1]["y"][0] == pytest.approx(1.0)  # even at half the rates, as its row says
    assert [(point["x"], point["y"]) for point in points] == [([0.1], [0.25]), ([0.1], [2.0])]
    one, here = figure["layout"]["shapes"]
    assert (one["y0"], one["y1"]) == (1, 1)
    assert here["x0"] == pytest.approx(0.1)
    strokes = [(line["line"]["color"], line["line"]["dash"]) for line in lines]
    assert len(set(strokes)) == 2


def test_forty_eight_lines_have_strokes_of_their_own():
    curves = pd.DataFrame(
        [(str(place), factor, 0.1 * factor, 1.0 + place) for place in range(48) for factor in (1.0, 2.0)],
        columns=["label", "factor", "rate", "ratio"],
    )
    figure = figures.break_even(curves, {str(place): f"model {place}" for place in range(48)})
    lines = [trace["line"] for trace in figure["data"] if trace["mode"] == "lines"]
    assert len({(line["color"], line["dash"]) for line in lines}) == len(lines) == 48


def test_limits_and_layers_share_one_axis():
    figure = figures.spikes_per_synapse(verdict().synapses, LIMITS)
    certain, band, ends, points = figure["data"]
    assert certain["x"][1] == 5.11
    assert certain["x"][4] == 0.15  # up to the lower end of the band
    assert band["x"][3:5] == [0.15, 1.38]
    assert ends["text"] == ["  5.11", "  0.15 to 1.38"]
    assert points["x"] == [0.4, 0.3]
    assert points["marker"]["symbol"] == ["circle", "diamond"]
    assert figure["layout"]["yaxis"]["ticktext"] == [
        "fp32 MAC, fp32 AC", "Dampfhoffer et al. *", "head", "<b>network</b>",
    ]  # fmt: skip
    alone = figures.spikes_per_synapse(verdict().synapses)
    assert alone["layout"]["yaxis"]["ticktext"] == ["head", "<b>network</b>"]


def test_a_silent_layer_is_named_because_a_logarithmic_axis_has_no_zero(page):
    section = re.search(r'id="synapses".*?</section>', page, re.DOTALL)[0]
    assert "Without a spike: embed." in section
    assert "Dampfhoffer et al.: TETCI 2023" in section
    assert "* not found in the source itself." in section


def test_firing_over_time_counts_steps_from_one():
    figure = figures.firing_over_time(STEPS)
    assert [trace["name"] for trace in figure["data"]] == ["embed", "q"]
    assert figure["data"][0]["x"] == [1, 2, 3]
    assert figure["data"][0]["y"] == pytest.approx([10, 20, 30])


def test_without_steps_there_is_no_section_on_time():
    assert "firing" not in ids(build_verdict_page(verdict(), "t", FACTS))
    one = STEPS[STEPS["step"] == 0]
    assert "firing" not in ids(build_verdict_page(verdict(), "t", FACTS, steps=one))


def test_measured_energy_stands_apart_and_is_labelled():
    found = Measured((Reading("GPU 0 (Test)", "NVML total energy, read by zeus", 0.125, 0.0625),), 320, 32, 2.0, ())
    page = build_verdict_page(verdict(), "t", FACTS, measured=found)
    section = re.search(r'<section id="measured">.*?</section>', page, re.DOTALL)[0]
    assert section.count("this computer, simulating") >= 3
    assert "0.125" in section
    assert "Not to be compared with estimates" in section
    rest = page.replace(section, "")
    assert "GPU 0" not in rest
    nothing = build_verdict_page(
        verdict(), "t", FACTS, measured=Measured((), 0, 1, 0.0, ("no processor counter: none",))
    )
    assert "this computer, simulating: nothing was measured." in nothing
    assert "no processor counter: none." in nothing


def test_notes_carry_source_confidence_and_unconfirmed_constants(page):
    section = re.search(r'id="energy-models".*?</section>', page, re.DOTALL)[0]
    text = re.sub(r"<[^>]+>", "|", section)
    for said in ("Source of lemaire a", "reconstruction", "routing", "sram", "verdict: plausible",
                 "unconfirmed constants in 45nm: sram"):  # fmt: skip
        assert said in text


def test_a_network_without_twins_and_spikes_leaves_lines():
    alone = verdict(twins=())
    alone = replace(alone, synapses=alone.synapses.assign(spikes_per_synapse=NAN), curves=alone.curves.iloc[:0])
    text = " ".join(read(build_verdict_page(alone, "t", FACTS)).text)
    assert "No spiking network here has been judged against a twin." in text
    assert "has no twin, or meets no spikes" in text
    assert "No layer meets spikes" in text


def test_names_are_escaped():
    evil = "<script>alert(1)</script>"
    found = verdict()
    for frame in (found.table, found.parts, found.layers, found.curves, found.notes):
        frame["label"] = frame["label"].replace({"op-count": evil})
    page = build_verdict_page(found, evil, {evil: evil}, thresholds=LIMITS, steps=STEPS)
    assert "<script>alert" not in page
    assert len(read(page).scripts) == 3


def test_the_page_is_written_whole_or_not_at_all(tmp_path):
    path = write_verdict_page(verdict(), "t", FACTS, tmp_path / "new" / "energy.html", thresholds=LIMITS)
    assert path.read_text(encoding="utf-8") == build_verdict_page(verdict(), "t", FACTS, thresholds=LIMITS)
    with pytest.raises(OptionError, match="cannot write"):
        write_verdict_page(verdict(), "t", FACTS, path / "below.html")


def suite(*networks: str):
    data = make()
    data.verdicts = [Judged(verdict(each), "Of the run with the lowest seed (0).", STEPS, LIMITS) for each in networks]
    return data


def test_the_suite_report_shows_the_first_network_in_full_and_the_ratios_of_all():
    page = build_page(suite("LIF", "PLIF"))
    sections = {name: re.search(rf'id="{name}".*?</section>', page, re.DOTALL)[0] for name in ids(page)}
    assert sections["ratios"].count('role="img"') == 4
    assert "PLIF against ReLU twin" in sections["ratios"]
    assert sections["energy-parts"].count('role="img"') == 2
    assert "Shown for the first spiking network; not for PLIF." in sections["energy-parts"]
    assert "Of the run with the lowest seed (0)." in sections["break-even"]
    assert sections["firing-rates"].count('role="img"') == 3  # by layer, and over time for both
    assert re.search(
        r"LIF</b>: [+−]\d\.\d points of accuracy; cheaper than ReLU twin under 2 of 4", sections["results"]
    )
    assert "accuracy-energy" in sections


def test_a_verdict_on_a_network_without_a_run_is_refused():
    with pytest.raises(OptionError, match="a verdict of network 'LIFF', which has no run"):
        build_page(suite("LIFF"))


def test_a_suite_is_judged_by_the_lowest_seed_against_its_trained_twins(tiny_suite, finished):
    import energy
    from step.api import place_of
    from step.report.collect import collect
    from step.results import Results
    from step.suite import load_suite

    results = Results(load_suite(tiny_suite), place_of(finished))
    data = collect(results)
    (judged,) = data.verdicts
    kinds = results.networks
    assert judged.verdict.network == "lif"
    assert judged.verdict.twins == [name for name, kind in kinds.items() if kind == "twin"]
    assert judged.basis.startswith("Of the run with the lowest seed (0), not a mean over seeds; twins trained as such.")
    first = {results.suite.labels[run]: run for run, spec in results.specs.items() if spec.seed == 0}
    mine = energy.price(results.records[first["lif"]], "op-count")["total"].sum()
    row = judged.verdict.table.set_index(["label", "twin"]).loc[("op-count", "relu")]
    assert row["network_total"] == pytest.approx(mine)
    assert {"name", "limit"} <= set(judged.thresholds.columns)
    text = " ".join(read(build_page(data)).text)
    assert "Of the run with the lowest seed (0)" in text
    assert judged.verdict.summary("relu") in text


def test_steps_of_a_record_are_rates_of_its_spiking_layers():
    import torch

    import energy
    import step
    from step.report.collect import steps_of

    network = step.models.create("mlp", image_size=4, channels=1, classes=2, hidden=[32], norm=False, neuron="lif")
    x = torch.rand(3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 8
    assert steps_of(energy.measure(network, x)).empty
    record = energy.measure(network, x, steps=True)
    assert record.spikes > 0
    found = steps_of(record)
    assert list(found["step"].unique()) == [0, 1, 2]
    assert found.groupby("layer")["rate"].mean().to_dict() == pytest.approx(record.firing_rates.to_dict())
