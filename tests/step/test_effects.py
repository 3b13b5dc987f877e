"""Effects against seed-to-seed noise: the statistics against textbook values, and what suites and pages say."""

import json
import math
import re
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neurons.errors import OptionError
from step.api import place_of
from step.effects import ACCURACY, Metric, as_frame, effects_of, metrics_of
from step.paired import blocked, detectable, hedges, holm, paired, pooled_sd, power
from step.report import ReportData, build_page
from step.report import effects as shown
from step.report.collect import collect
from step.report.effects_figure import forest
from step.report.summary import summary
from step.results import Results
from step.suite import load_suite

SUITE = """
title: An ablation
base:
  dataset: digits
  encoder: {name: direct, T: 4}
  learner: {name: surrogate-gradient, epochs: 1}
grid:
  model:
    - {label: small, value: {name: spikformer, depth: 1, dim: 32, heads: 4}}
    - {label: large, value: {name: spikformer, depth: 2, dim: 32, heads: 4}}
  neuron: [lif, plif, klif]
  seed: [0, 1, 2, 3]
compare: [neuron]
"""


@pytest.fixture
def suite(tmp_path):
    def load(text=SUITE):
        path = tmp_path / "mine.yaml"
        path.write_text(textwrap.dedent(text))
        return load_suite(path)

    return load


def measured(suite, value, **more):
    """Return runs as the store would give them, the accuracy of each by its levels and its seed."""
    rows = {}
    for cell in suite.cells:
        columns = {"test_accuracy": value(cell.levels, cell.seed)}
        columns |= {name: make(cell.levels, cell.seed) for name, make in more.items()}
        rows.setdefault(cell.run, {"run": cell.run, "seed": cell.seed, **columns})
    return pd.DataFrame(rows.values())


def scatter(levels, seed, size=0.002):
    """Return noise that is fixed for a run."""
    return size * np.random.default_rng([seed, *map(ord, "".join(levels.values()))]).standard_normal()


# Paired statistics


def test_paired_t_test_gives_the_textbook_example():
    """Student (1908): additional hours of sleep with two drugs, ten patients; R's sleep data, t = -4.0621, df = 9."""
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired(np.subtract(one, two))
    assert found.n == 10
    assert found.mean == pytest.approx(-1.58)
    assert found.p == pytest.approx(0.002833, abs=1e-6)
    assert (found.low, found.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-6)
    assert found.d_z == pytest.approx(-1.284558, abs=1e-6)  # t / sqrt(n)
    assert found.g_z == pytest.approx(-1.284558 * 0.9139, abs=1e-4)  # c(9) of Hedges (1981)


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=8).filter(lambda values: np.std(values) > 1e-3))
def test_paired_agrees_with_scipy(values):
    found, theirs = paired(values), stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(theirs.pvalue, abs=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=1e-6, abs=1e-9)


def test_few_pairs_and_pairs_without_spread_get_no_p():
    assert all(map(math.isnan, paired([])[1:]))
    assert paired([2.0])[:2] == (1, 2.0)
    assert math.isnan(paired([2.0]).sd)
    even = paired([0.95 - 0.92, 0.96 - 0.93, 0.97 - 0.94])  # the same but for rounding
    assert (even.sd, even.low) == (0.0, even.high)
    assert math.isnan(even.p)
    assert math.isnan(even.d_z)


def test_the_factor_of_hedges():
    """Gamma((n-1)/2) / (sqrt((n-1)/2) Gamma((n-2)/2)); near 1 - 3 / (4 df - 1) from a few degrees of freedom on."""
    assert hedges(1) == 0
    assert hedges(2) == pytest.approx(1 / math.sqrt(math.pi))
    assert hedges(3) == pytest.approx(math.sqrt(math.pi / 6))
    for df in (5, 10, 50):
        assert hedges(df) == pytest.approx(1 - 3 / (4 * df - 1), abs=2e-3)


def test_holm_by_hand_and_its_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_lies_between_the_plain_p_and_bonferroni_and_keeps_the_order(p):
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert all(a <= min(1, len(p) * b) + 1e-12 for a, b in zip(adjusted, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert all(np.diff(np.array(adjusted)[order]) >= 0)


@pytest.mark.parametrize(
    ("effect", "n", "expected"), [(0.5, 34, 0.8077775), (0.8, 15, 0.8213105), (0.5, 33, 0.7953658)]
)
def test_power_of_the_paired_t_test(effect, n, expected):
    """As G*Power 3 gives it (Faul et al., 2007: d_z = 0.5, power 0.8, two-tailed, n = 34)."""
    assert power(effect, n) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("effect", [0.0, 0.5, 1.5])
def test_power_is_that_of_the_non_central_t(n, effect):
    limit, shift = stats.t.isf(0.025, n - 1), effect * math.sqrt(n)
    exact = stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift)
    assert power(effect, n) == pytest.approx(exact, abs=3e-6)


def test_the_detectable_difference_is_found_in_four_cases_of_five():
    rng = np.random.default_rng(0)
    for n, sd in ((3, 0.4), (5, 2.0)):
        difference = detectable(sd, n)
        assert power(difference / sd, n) == pytest.approx(0.8, abs=1e-5)
        drawn = rng.normal(difference, sd, (20_000, n))
        assert (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)
    assert detectable(1.0, 3) > detectable(1.0, 4) > detectable(1.0, 10)
    assert detectable(1.0, 3, 0.05 / 12) > detectable(1.0, 3)
    assert math.isnan(detectable(1.0, 1))
    assert math.isnan(detectable(math.nan, 3))


def test_pooled_sd_by_hand():
    assert pooled_sd([(3, 1.0), (2, 2.0)]) == pytest.approx(math.sqrt((2 * 1 + 1 * 4) / 3))
    assert math.isnan(pooled_sd([(1, math.nan)]))


def test_blocks_by_hand():
    """Blocks (1, 2, 3) and (2, 3, 5): means 2 and 10/3, variance within (2 + 14/3) / 4, four degrees of freedom."""
    found = blocked([[1.0, 2.0, 3.0], [2.0, 3.0, 5.0]])
    variance = (2 + 14 / 3) / 4
    error = math.sqrt(variance * (1 / 3 + 1 / 3)) / 2
    assert (found.blocks, found.n) == (2, 6)
    assert found.mean == pytest.approx(8 / 3)
    assert found.p == pytest.approx(2 * stats.t.sf(8 / 3 / error, 4))
    assert found.high - found.mean == pytest.approx(stats.t.isf(0.025, 4) * error)
    assert found.p_differs == pytest.approx(stats.f_oneway([1, 2, 3], [2, 3, 5]).pvalue)
    assert found.p_everywhere == pytest.approx(paired([1.0, 2.0, 3.0]).p)  # the weaker of the two


def test_blocks_of_opposite_sign_hold_nowhere_and_differ():
    found = blocked([[1.0, 1.1, 0.9], [-1.0, -1.1, -0.9]])
    assert found.mean == pytest.approx(0)
    assert found.p == pytest.approx(1)
    assert found.p_everywhere == 1
    assert found.p_differs < 1e-4


def test_blocks_of_unequal_size_agree_with_analysis_of_variance():
    groups = [[1.0, 2.0, 4.0, 1.5], [2.0, 3.0], [0.5, -0.5, 0.25]]
    assert blocked(groups).p_differs == pytest.approx(stats.f_oneway(*groups).pvalue)


# Effects of a suite


def test_an_effect_above_the_noise_is_found_and_one_below_is_not(suite):
    loaded = suite()
    runs = measured(loaded, lambda at, seed: 0.9 + 0.03 * (at["neuron"] == "plif") + 0.01 * seed + scatter(at, seed))
    (found,) = effects_of(loaded, runs)
    rows = found.table.set_index(["within", "level"])
    assert list(rows.index) == [("small", "plif"), ("small", "klif"), ("large", "plif"), ("large", "klif")]
    assert set(rows.xs("plif", level="level")["exceeds"]) == {"yes"}
    assert set(rows.xs("klif", level="level")["exceeds"]) == {"within noise"}
    assert (found.tests, found.n, found.seeds) == (4, 4, [0, 1, 2, 3])
    by_hand = [
        100 * (value(runs, loaded, "small", "plif", seed) - value(runs, loaded, "small", "lif", seed))
        for seed in range(4)
    ]
    row = rows.loc[("small", "plif")]
    assert row["mean"] == pytest.approx(np.mean(by_hand))
    assert row["sd"] == pytest.approx(np.std(by_hand, ddof=1))
    assert row["p"] == pytest.approx(stats.ttest_1samp(by_hand, 0).pvalue)
    # pairing takes the part of the seed out: it is in the baseline's scatter, not in that of the differences
    assert row["noise"] > 1 > row["sd"]
    assert found.pooled.set_index("level").loc["plif", ["exceeds", "everywhere"]].tolist() == ["yes", "yes"]
    assert found.pooled.set_index("level").loc["klif", ["exceeds", "everywhere"]].tolist() == ["within noise"] * 2


def value(runs, suite, model, neuron, seed):
    (run,) = [c.run for c in suite.cells if c.levels == {"model": model, "neuron": neuron} and c.seed == seed]
    return float(runs.set_index("run").loc[run, "test_accuracy"])


@settings(deadline=None, max_examples=25)
@given(shift=st.floats(-0.5, 0.5), by_seed=st.floats(-0.5, 0.5))
def test_shifting_all_values_or_all_of_a_seed_leaves_effects(tmp_path_factory, shift, by_seed):
    path = tmp_path_factory.getbasetemp() / "shifted.yaml"
    path.write_text(SUITE)
    loaded = load_suite(path)
    before, after = (
        effects_of(loaded, measured(loaded, lambda at, seed: 0.5 + scatter(at, seed, 0.05) + moved(seed)))[0]  # noqa: B023
        for moved in (lambda seed: 0.0, lambda seed: shift + by_seed * seed)
    )
    columns = ["mean", "sd", "low", "high", "p", "d_z", "p_holm"]
    np.testing.assert_allclose(before.table[columns], after.table[columns], rtol=1e-6, atol=1e-9)
    assert list(before.table["exceeds"]) == list(after.table["exceeds"])
    assert before.detectable == pytest.approx(after.detectable)


def test_noise_alone_is_seldom_called_an_effect(suite):
    """The correction keeps the chance of any false yes in a factor at 5 % or below (of 150 here, 7.5 are expected)."""
    loaded = suite()
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(150):
        runs = measured(loaded, lambda at, seed: 0.9 + 0.01 * rng.standard_normal())
        wrong += "yes" in set(effects_of(loaded, runs)[0].table["exceeds"])
    assert wrong <= 17  # more than 17 come by chance once in a thousand times


def test_one_seed_says_so(suite):
    loaded = suite(SUITE.replace("[0, 1, 2, 3]", "[5]"))
    (found,) = effects_of(loaded, measured(loaded, lambda at, seed: 0.9))
    assert set(found.table["exceeds"]) == {"too few seeds"}
    assert found.n == found.tests == 0
    assert math.isnan(found.detectable)
    assert shown.sentences(found) == [
        "One seed (5): no difference between levels of neuron can be told from seed-to-seed noise; at least 3 seeds "
        "are needed."
    ]


def test_two_seeds_give_intervals_but_no_verdict(suite):
    loaded = suite(SUITE.replace("[0, 1, 2, 3]", "[0, 1]"))
    (found,) = effects_of(loaded, measured(loaded, lambda at, seed: 0.9 + scatter(at, seed)))
    assert set(found.table["exceeds"]) == {"too few seeds"}
    assert found.table["low"].notna().all()
    assert found.table["p_holm"].isna().all()
    assert found.pooled.empty


def test_runs_that_are_missing_are_left_out_of_the_pairs(suite):
    loaded = suite()
    runs = measured(loaded, lambda at, seed: 0.9 + scatter(at, seed))
    gone = {c.run for c in loaded.cells if c.levels == {"model": "small", "neuron": "plif"}}
    one = next(c.run for c in loaded.cells if c.levels == {"model": "large", "neuron": "lif"} and c.seed == 2)
    (found,) = effects_of(loaded, runs[~runs["run"].isin({*gone, one})])
    rows = found.table.set_index(["within", "level"])
    assert rows.loc[("small", "plif"), "exceeds"] == "not finished"
    assert list(rows.loc["large", "n"]) == [3, 3]
    assert rows.loc[("small", "klif"), "n"] == 4
    assert found.tests == 3


def test_equal_runs_are_not_applicable_and_said_to_be_shared(suite):
    """A conventional network is one run whatever the encoder."""
    encoders = "  encoder: [{name: direct, T: 4}, {name: rate, T: 4}]"
    text = SUITE.replace("neuron: [lif, plif, klif]", f"neuron: [lif, relu]\n{encoders}")
    loaded = suite(text.replace("compare: [neuron]", "compare: {encoder: rate T=4, neuron: lif}"))
    encoder, neuron = effects_of(loaded, measured(loaded, lambda at, seed: 0.9 + scatter(at, seed)))
    assert encoder.baseline == "rate T=4"
    verdicts = dict(zip(encoder.table["within"], encoder.table["exceeds"], strict=True))
    assert verdicts["small, relu"] == verdicts["large, relu"] == "not applicable"
    assert verdicts["small, lif"] == "within noise"
    assert encoder.table.set_index("within").loc["small, relu", "n"] == 0
    assert encoder.tests == 2
    assert neuron.table["shared"].all()
    assert not encoder.table.set_index("within").loc["small, lif", "shared"]
    assert "†" in shown.table(neuron)["neuron"].iloc[0]
    assert any("do not confirm each other" in sentence for sentence in shown.sentences(neuron))


def test_differences_without_spread_are_no_proof(suite):
    loaded = suite()
    (found,) = effects_of(
        loaded, measured(loaded, lambda at, seed: 0.9 + 0.01 * seed + 0.01 * (at["neuron"] == "plif"))
    )
    verdicts = dict(zip(found.table["level"], found.table["exceeds"], strict=True))
    assert verdicts == {"plif": "no spread", "klif": "within noise"}
    assert any(sentence.startswith("No spread") for sentence in shown.sentences(found))
    assert found.pooled["exceeds"].tolist() == ["no spread"] * 2


def test_other_metrics_are_relative_to_the_baseline(suite):
    loaded = suite()

    def spikes(at, seed):
        return math.nan if at["neuron"] == "klif" else (1000 + seed) * (2 if at["neuron"] == "plif" else 1)

    runs = measured(loaded, lambda at, seed: 0.9, spikes=spikes, **{"energy_pJ.op-count": lambda at, seed: 3.0 + seed})
    (metric,) = metrics_of(runs, "spikes")
    assert metric == Metric("spikes", "spikes", "%")
    (found,) = effects_of(loaded, runs, metric)
    rows = found.table.set_index(["within", "level"])
    assert rows.loc[("small", "plif"), "mean"] == pytest.approx(100.0)
    assert rows.loc[("small", "klif"), "exceeds"] == "not applicable"
    assert [m.name for m in metrics_of(runs, "energy")] == ["energy, op-count"]
    assert metrics_of(runs, "accuracy") == [ACCURACY]
    with pytest.raises(OptionError, match="no metric 'spkes'; did you mean 'spikes'"):
        metrics_of(runs, "spkes")
    with pytest.raises(OptionError, match="does not compare levels of 'nueron'; did you mean 'neuron'"):
        effects_of(loaded, runs, factors=["nueron"])
    frame = as_frame([found])
    assert list(frame.columns[:3]) == ["metric", "factor", "baseline"]
    assert len(frame) == 4


def test_grids_that_lack_a_level_or_a_field_are_compared_where_they_can(suite):
    text = SUITE[: SUITE.index("grid:")] + textwrap.dedent("""
    grid:
      - model: [{name: spikformer, depth: 1, dim: 32, heads: 4}]
        neuron: [lif, plif]
        encoder.T: [4, 2]
        seed: [0, 1, 2]
      - model: [mlp]
        neuron: [relu, plif]
        seed: [0, 1, 2]
    """)
    loaded = suite(text)
    assert loaded.factors["neuron"] == ["lif", "plif", "relu"]
    runs = measured(loaded, lambda at, seed: 0.9 + scatter(at, seed))
    model, neuron, steps = effects_of(loaded, runs)
    assert list(neuron.table["within"].str.startswith("spikformer")) == [True, True]  # the mlp has no lif
    assert list(steps.table["within"]) == ["spikformer, lif", "spikformer, plif"]
    assert "differ in nothing else" in shown.unjudged(model)
    assert model.table.empty  # nothing else is equal: the mlp has no time steps in its grid


# What people see

PUBLISHED = """
published:
  - title: Neurons in somebody's network
    source: Somebody et al. (2024), table 3
    note: A single seed.
    columns: [model, lif, Somebody's neuron]
    rows:
      - [Spikformer, 77.123, 78.987]
"""


@pytest.fixture
def quoted(tiny_suite, tmp_path):
    """The tiny suite, whose runs are finished, with a published table."""
    path = tmp_path / "quoted.yaml"
    path.write_text(tiny_suite.read_text() + PUBLISHED)
    return path


def page_with(effects):
    return ReportData("Nothing but effects", {}, *[pd.DataFrame()] * 5, effects=effects)


def step(*arguments):
    command = [sys.executable, "-m", "step.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def text_of(page):
    return re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL))


def section_of(page, anchor):
    found = re.search(rf'<section id="{anchor}"[^>]*>(.*?)</section>', page, re.DOTALL)
    return found and found[1]


def test_published_tables_stand_apart_and_never_in_our_own(quoted, finished):
    results = Results(load_suite(quoted), place_of(finished))
    own = [summary(results), results.runs, *(effect.table for effect in effects_of(results.suite, results.runs))]
    for frame in own:
        assert not any("77.12" in str(cell) or "78.98" in str(cell) for cell in frame.to_numpy().ravel())
        assert "Somebody's neuron" not in frame.columns
    page = build_page(collect(results))
    section = text_of(section_of(page, "published"))
    for words in (
        "Published by others, not measured here",
        "Somebody et al. (2024), table 3",
        "A single seed.",
        "78.99",
    ):
        assert words in section
    assert text_of(page).count("Somebody et al.") == 1
    assert "78.99" not in text_of(page.replace(section_of(page, "published"), ""))


def test_the_page_has_no_sections_without_anything_to_say(suite, finished):
    loaded = suite()
    (found,) = effects_of(loaded, measured(loaded, lambda at, seed: 0.9 + scatter(at, seed)))
    assert found.n == 4
    page = build_page(page_with([found]))
    assert section_of(page, "published") is None
    assert section_of(build_page(page_with([])), "effects") is None
    words = " ".join(text_of(section_of(page, "effects")).split())
    for part in (
        "Holm&#x27;s correction over the tested effects of this factor (4)", "Within noise means not shown, not equal",
        "in 80 % of cases", "Seeds 0, 1, 2, 3", "percentage points", "intersection-union", "klif, large",
    ):  # fmt: skip
        assert part in words
    assert "nan" not in words


def test_a_single_seed_is_one_sentence_on_the_page(suite):
    loaded = suite(SUITE.replace("[0, 1, 2, 3]", "[5]"))
    page = build_page(page_with(effects_of(loaded, measured(loaded, lambda at, seed: 0.9))))
    section = section_of(page, "effects")
    assert "One seed (5): no difference between levels of neuron can be told" in text_of(section)
    assert "<table" not in section
    assert "figure-1" not in section


def test_the_forest_plot_fills_what_exceeds_the_noise_and_leaves_gaps_between_settings(suite):
    loaded = suite()
    runs = measured(loaded, lambda at, seed: 0.9 + 0.03 * (at["neuron"] == "plif") + 0.002 * seed + scatter(at, seed))
    (found,) = effects_of(loaded, runs)
    figure, cut = forest(found)
    marks = [trace for trace in figure["data"] if trace.get("mode") == "markers"]
    assert [mark["marker"]["symbol"] for mark in marks] == ["circle", "circle-open"] * 2
    assert [mark["y"][0] for mark in marks] == pytest.approx([0.0, 1.0, 2.6, 3.6])
    assert [mark["x"][0] for mark in marks] == pytest.approx(list(found.table["mean"]))
    lines = [trace for trace in figure["data"][1:] if trace["mode"] == "lines"]
    assert [tuple(line["x"]) for line in lines] == list(zip(found.table["low"], found.table["high"], strict=True))
    band = figure["data"][0]
    assert band["x"][:2] == pytest.approx([-found.table["noise"][0], found.table["noise"][0]])
    assert not cut
    wide = measured(loaded, lambda at, seed: 0.9 + scatter(at, seed))
    few = wide[wide["seed"] < 2]  # two seeds: intervals of 12.7 standard errors
    assert forest(effects_of(loaded, few)[0])[1]
    text = json.dumps(figure, allow_nan=False)
    go.Figure(json.loads(re.sub(r"var\(--[a-z-]+\)", "#123456", text)))  # validates every property


def test_a_suite_without_trained_twins_has_a_page(quoted, finished):
    """Ablations compare spiking networks with each other; their twins are derived, and have no run."""
    results = Results(load_suite(quoted, {"neuron": "lif"}), place_of(finished))
    assert set(results.networks.values()) == {"spiking"}
    page = build_page(collect(results))
    assert "derived from its record, not trained" in text_of(page)
    assert section_of(page, "effects") is None


def test_the_command_line_shows_effects_and_published_tables(quoted, finished, tmp_path):
    shown_ = step("show", quoted, "--folder", finished)
    assert shown_.returncode == 0, shown_.stderr
    own, others = shown_.stdout.split("Published by others, not measured here")
    assert "Effect of neuron on test accuracy" in own
    assert "too few seeds" in own
    assert "78.99" in others
    assert "78.99" not in own
    done = step("effects", quoted, "--folder", finished, "--metric", "energy", "--export", tmp_path / "e.csv")
    assert done.returncode == 0, done.stderr
    assert "Effect of neuron on energy, op-count" in done.stdout
    frame = pd.read_csv(tmp_path / "e.csv")
    assert set(frame["baseline"]) == {"lif"}
    assert frame["metric"].nunique() * 2 == len(frame)
    wrong = step("effects", quoted, "--folder", finished, "--factor", "encoder")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "does not compare levels of 'encoder'" in wrong.stderr
    flat = step("effects", quoted, "--folder", finished, "--set", "neuron=lif")
    assert flat.returncode == 2
    assert "no field with several levels" in flat.stderr
