"""Specs and suites: what is filled in, what names a run, and what wrong files get."""

import textwrap

import pytest

import neurons
from neurons.errors import StepError
from step.spec import Spec
from step.suite import load_suite, parse_override, suite_names

GOOD = """
title: A suite
base:
  dataset: digits
  encoder: {name: direct, T: 4}
  model: {name: spikformer, depth: 1, dim: 32, heads: 4}
  neuron: {name: lif, tau: 2.0}
  learner: {name: surrogate-gradient, epochs: 2, lr: 1e-3}
grid:
  neuron: [lif, relu, {name: quantised_relu, bits: 2}]
  seed: [0, 1]
"""


@pytest.fixture
def write(tmp_path):
    def put(text):
        path = tmp_path / "mine.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    return put


def test_the_grid_is_a_product_and_labels_leave_seeds_out(write):
    suite = load_suite(write(GOOD))
    assert len(suite.specs) == 6
    assert list(dict.fromkeys(suite.labels.values())) == ["lif", "relu", "quantised_relu bits=2"]
    assert [spec.seed for spec in suite.specs] == [0, 1] * 3


def test_every_option_is_recorded_with_its_default(write):
    spec = load_suite(write(GOOD)).specs[0]
    assert spec.neuron["tau"] == 2.0
    assert spec.neuron["surrogate"] == {"name": "arctan", "alpha": 2.0}
    assert spec.learner["lr"] == 1e-3  # YAML 1.1 would have read text
    assert spec.learner["label_smoothing"] == 0.1
    assert "image_size" not in spec.model  # the data set decides it


def test_conventional_neurons_get_the_data_themselves_at_one_step(write):
    suite = load_suite(write(GOOD.replace("direct", "rate")))
    by_label = {suite.labels[spec.id]: spec for spec in suite.specs}
    assert by_label["lif"].encoder == {"name": "rate", "T": 4}
    assert by_label["relu"].encoder == {"name": "direct", "T": 1}


def test_runs_that_resolve_to_the_same_spec_are_one_run(write):
    text = GOOD.replace("  seed: [0, 1]", "  encoder.T: [1, 2, 4]").replace(", {name: quantised_relu, bits: 2}", "")
    suite = load_suite(write(text))
    assert len(suite.specs) == 3 + 1


def test_the_hash_sees_every_field_and_only_values(write):
    base = {"dataset": "digits", "model": {"name": "spikformer", "depth": 1}}
    first = Spec.parse(base)
    assert first.id == Spec.parse({**base, "neuron": {"name": "lif", "tau": 2}}).id  # the default, written out
    for change in ({"seed": 1}, {"neuron": "if"}, {"encoder": {"name": "direct", "T": 2}},
                   {"neuron": {"name": "lif", "surrogate": "sigmoid"}}, {"measure": {"samples": 8}}):  # fmt: skip
        assert Spec.parse({**base, **change}).id != first.id
    assert first.id == Spec.parse(first.model_dump(exclude={"code"})).id


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epochs: 2", "epoch: 2", "line 8, base.learner.epoch: .*no option 'epoch'; did you mean 'epochs'"),
        ("tau: 2.0}", "tua: 2.0}", None),  # the grid over neurons takes the place of base.neuron
        ("[lif, relu", "[liff, relu", r"line 10, grid.neuron\[0\]: unknown neuron 'liff'; did you mean 'lif'"),
        ("bits: 2", "bits: 99", r"grid.neuron\[2\].*bits of quantised_relu must be 1 to 16"),
        ("name: direct", "name: dirct", "base.encoder: unknown encoder 'dirct'; did you mean 'direct'"),
        ("dataset: digits", "dataset: didgits", "base.dataset: unknown dataset 'didgits'; did you mean 'digits'"),
        (
            "name: spikformer",
            "name: spikeformer",
            "base.model: unknown model 'spikeformer'; did you mean .*'spikformer'",
        ),
        ("T: 4", "T: 0", "base.encoder.T: Input should be greater than or equal to 1"),
        ("depth: 1", "depth: one", "base.model.depth: .*integer"),
        ("heads: 4", "heads: 5", "base.model: dim must be a multiple of heads"),
        ("grid:", "gird:", "line 9, gird: no such key; did you mean 'grid'"),
        ("  dataset: digits\n", "", "base.dataset: this field is missing"),
        ("seed: [0, 1]", "seed: []", "grid.seed: needs a list"),
        ("seed: [0, 1]", "sead: [0, 1]", "grid.sead.*no such field; did you mean 'seed'"),
        ("seed: [0, 1]", "seed: [0, -1]", r"grid.seed\[1\]: .*greater than or equal to 0"),
        ("title: A suite", "title: A suite\ntitle: B", "key 'title' stands twice"),
        ("base:", "base: [", "not valid YAML"),
        (GOOD, "just words", "a suite is a YAML mapping"),
    ],
)
def test_one_line_says_what_is_wrong_where(write, old, new, words):
    path = write(GOOD.replace(old, new, 1))
    if words is None:
        assert load_suite(path).specs
        return
    with pytest.raises(StepError, match=words) as caught:
        load_suite(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_binary_files_and_missing_files_get_one_line(tmp_path):
    path = tmp_path / "noise.yaml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(StepError, match=r"not a text file|not valid YAML"):
        load_suite(path)
    with pytest.raises(StepError, match="does not exist"):
        load_suite(tmp_path / "none.yaml")
    with pytest.raises(StepError, match="unknown suite 'quik'; did you mean 'quick'"):
        load_suite("quik")


def test_overrides_take_the_place_of_base_and_grid(write):
    overrides = dict(map(parse_override, ["seed=7", "neuron.tau=[2.0, 4.0]", "learner.lr=5e-4"]))
    suite = load_suite(write(GOOD.replace("  neuron: [lif, relu, {name: quantised_relu, bits: 2}]\n", "")), overrides)
    assert {spec.seed for spec in suite.specs} == {7}
    assert [spec.neuron["tau"] for spec in suite.specs] == [2.0, 4.0]
    assert suite.specs[0].learner["lr"] == 5e-4
    assert list(suite.labels.values()) == ["tau=2.0", "tau=4.0"]
    with pytest.raises(StepError, match="FIELD=VALUE"):
        parse_override("nonsense")


def labels(suite):
    return list(dict.fromkeys(suite.labels.values()))


def test_labels_of_models_with_many_options_stay_short_and_unique(write):
    suite = load_suite(write(GOOD.replace("neuron: [lif, relu, {name: quantised_relu, bits: 2}]", """model:
    - {name: spikformer, depth: 1, dim: 32, heads: 4, mlp_ratio: 2.0}
    - {name: spikformer, depth: 2, dim: 32, heads: 4, mlp_ratio: 2.0}
    - {name: spikformer, depth: 2, dim: 64, heads: 4, mlp_ratio: 2.0}
    - {name: mlp, hidden: [32]}
  neuron:
    - {name: lif, surrogate: {name: sigmoid, alpha: 2.0}}
    - {name: lif, surrogate: {name: sigmoid, alpha: 4.0}}""")))  # fmt: skip
    assert labels(suite)[:2] == [
        "spikformer depth=1 dim=32, lif surrogate=sigmoid(alpha=2.0)",
        "spikformer depth=1 dim=32, lif surrogate=sigmoid(alpha=4.0)",
    ]
    assert suite.factors["model"] == [
        "spikformer depth=1 dim=32", "spikformer depth=2 dim=32", "spikformer depth=2 dim=64", "mlp hidden=[32]",
    ]  # fmt: skip
    assert len(labels(suite)) == 8


def test_entries_may_have_labels_and_may_leave_a_field_alone(write):
    text = GOOD.replace("[lif, relu, {name: quantised_relu, bits: 2}]", """
    - {label: leaky, value: {name: lif, tau: 3.0}}
    - {label: as in base}
    - lif""")  # fmt: skip
    suite = load_suite(write(text))
    assert labels(suite) == ["leaky", "as in base"]  # the last is the same run as the one before
    assert [spec.neuron["tau"] for spec in suite.specs] == [3.0, 3.0, 2.0, 2.0]
    assert suite.factors == {"neuron": ["leaky", "as in base", "lif"]}
    assert len(suite.cells) == 6


def test_a_whole_component_is_set_before_its_options_whatever_their_order(write):
    text = GOOD.replace("  neuron: [lif, relu, {name: quantised_relu, bits: 2}]", """  model.depth: [1, 3]
  model: [{name: spikformer, dim: 32, heads: 4}, {name: spikformer, dim: 64, heads: 4}]""")  # fmt: skip
    suite = load_suite(write(text))
    assert [spec.model["depth"] for spec in suite.specs] == [1] * 4 + [3] * 4


def test_a_list_of_grids_is_their_union(write):
    text = (
        GOOD[: GOOD.index("grid:")]
        + """
grid:
  - {neuron: [lif], encoder.T: [2, 4], seed: [0, 1]}
  - {neuron: [relu], seed: [0, 1]}
"""
    )
    suite = load_suite(write(text))
    assert labels(suite) == ["lif, T=2", "lif, T=4", "relu"]
    assert suite.factors == {"neuron": ["lif", "relu"], "encoder.T": ["2", "4"]}
    assert {spec.seed for spec in load_suite(write(text), {"seed": [7]}).specs} == {7}
    with pytest.raises(StepError, match=r"line 12, grid\[1\].neuron\[0\]: unknown neuron 'rleu'; did you mean 'relu'"):
        load_suite(write(text.replace("relu", "rleu")))


def test_two_networks_never_share_a_label(write):
    """Results are averaged over what has one label."""
    text = GOOD.replace("[lif, relu,", "[{label: same, value: lif}, {label: same, value: relu},")
    with pytest.raises(StepError, match=r"line 10, grid.neuron\[1\].*another entry of this field is called 'same'"):
        load_suite(write(text))
    text = (
        GOOD[: GOOD.index("grid:")]
        + """
grid:
  - {neuron: [{label: x, value: lif}], seed: [0]}
  - {encoder.T: [{label: x, value: 2}], seed: [0]}
"""
    )
    with pytest.raises(StepError, match="line 10, grid: two networks are called 'x'"):
        load_suite(write(text))


def test_baselines_are_the_first_levels_or_those_that_compare_names(write):
    assert load_suite(write(GOOD)).baselines == {"neuron": "lif"}
    more = GOOD.replace("  seed:", "  encoder.T: [2, 4]\n  seed:")
    assert load_suite(write(more)).baselines == {"neuron": "lif", "encoder.T": "2"}
    assert load_suite(write(more + "compare: [encoder.T]\n")).baselines == {"encoder.T": "2"}
    named = write(more + "compare: {encoder.T: 4, neuron: {name: quantised_relu, bits: 2}}\n")
    assert load_suite(named).baselines == {"encoder.T": "4", "neuron": "quantised_relu bits=2"}
    # the command line narrows the grid: what is left is compared
    assert load_suite(named, {"encoder.T": 4}).baselines == {"neuron": "quantised_relu bits=2"}
    assert load_suite(named, {"encoder.T": [8, 1]}).baselines["encoder.T"] == "8"


PUBLISHED = """
published:
  - title: Neurons
    source: Somebody (2024), table 3
    note: One seed.
    columns: [model, lif, plif]
    rows:
      - [Spikformer, 95.12, "96.10"]
      - [SDT, ~, 95.91]
"""


def test_published_tables_keep_every_figure_as_written(write):
    (table,) = load_suite(write(GOOD + PUBLISHED)).published
    assert table.source == "Somebody (2024), table 3"
    frame = table.frame()
    assert list(frame.columns) == ["model", "lif", "plif"]
    assert frame["plif"].tolist() == ["96.10", 95.91]
    assert frame["lif"].tolist() == [95.12, None]


@pytest.mark.parametrize(
    ("added", "words"),
    [
        ("compare: [nueron]", r"line 12, compare\[0\]: the grid has no field 'nueron'; did you mean 'neuron'"),
        ("compare: {neuron: plif}", "line 12, compare.neuron: no level 'plif' in the grid; did you mean 'lif'"),
        ("compare:\n  seed: 0", "line 13, compare.seed: seeds are what effects are judged against"),
        ("compare: neuron", "line 12, compare: a list of fields of the grid, or a mapping"),
        ("comparre: [neuron]", "line 12, comparre: no such key; did you mean 'compare'"),
        ("published: none", "line 12, published: a list of tables"),
        ("published: [1]", r"line 12, published\[0\]: a table is a mapping"),
        (PUBLISHED.replace("source", "sources"), r"published\[0\].source: a published table needs 'source'"),
        (PUBLISHED + "    year: 2024", r"line 21, published\[0\].year: a published table has no 'year'"),
        (PUBLISHED.replace(", 95.91]", "]"), r"line 20, published\[0\].rows\[1\]: 2 cells, where there are 3 columns"),
        (PUBLISHED.replace("95.91", "[1]"), r"line 20, published\[0\].rows\[1\]\[2\]: a cell is a text, a number"),
        (PUBLISHED.replace("95.91", "true"), r"line 20, published\[0\].rows\[1\]\[2\]: a cell is a text, a number"),
        (PUBLISHED.replace("plif]", "lif]"), r"published\[0\].columns: each column needs a name of its own"),
        (PUBLISHED.replace("One seed.", "7"), r"line 16, published\[0\].note: .*string"),
    ],
)
def test_wrong_comparisons_and_published_tables_have_their_line(write, added, words):
    with pytest.raises(StepError, match=words) as caught:
        load_suite(write(GOOD + added + "\n"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{label: x, valeu: lif}", r"grid.neuron\[0\].valeu: an entry with a label is \{label: ..., value: ...\}"),
        ("{label: 3, value: lif}", r"grid.neuron\[0\].label: a label is a text"),
        ("{label: x, value: liff}", r"line 10, grid.neuron\[0\].value: unknown neuron 'liff'"),
        ("{label: x, value: {name: lif, tua: 2}}", r"line 10, grid.neuron\[0\].value.tua"),
    ],
)
def test_wrong_entries_with_labels_have_their_line(write, entry, words):
    with pytest.raises(StepError, match=words):
        load_suite(write(GOOD.replace("[lif, relu", f"[{entry}, relu")))


@pytest.mark.parametrize("name", suite_names())
def test_every_packaged_suite_is_valid(name):
    suite = load_suite(name)
    assert suite.specs
    assert suite.title
    assert suite.description


def test_the_suite_of_all_neurons_has_all_of_them():
    suite = load_suite("neurons")
    have = {spec.neuron["name"] for spec in suite.specs}
    own = {name for name in neurons.names() if neurons.neurons.get(name).__module__.startswith("neurons.")}
    # no spikes; one step late in each layer; a quantiser of operands, not an activation; gradients of firing rates
    assert own - have == {"leaky-integrator", "identity", "alpha", "quantised", "dsr-lif", "dsr-if"}
