"""Inspection of networks: counts against a plain computation, planted faults, attention maps, pages, the command."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from test_report_page import figures_of, read
from torch import nn
from typer.testing import CliRunner

import neurons
from neurons.errors import DataError, OptionError, ShapeError
from step.api import place_of
from step.cli import app
from step.inspection import (
    Inspection,
    Layer,
    Shown,
    findings,
    inspect_network,
    load_inspection,
    save_inspection,
)
from step.inspection.activity import is_map
from step.inspection.attention import grid_of, middle_first, shrunk
from step.inspection.data import BINS
from step.inspection.run import inspect_run
from step.models import create
from step.report.collect import collect
from step.report.inspection_table import by_step, extremes, percent, rates
from step.report.page import build_inspection_page, build_page
from step.report.pictures import Album, heat_uri, span
from step.results import Results
from step.suite import load_suite


class Given(nn.Module):
    """A network whose one neuron gets exactly the input: current 1 makes IF fire, 0 does not."""

    def __init__(self, neuron: str = "if", **options) -> None:
        super().__init__()
        self.neuron = neurons.create(neuron, **options)

    def forward(self, x):
        return self.neuron(x).flatten(2)


class Mixing(nn.Module):
    """An attention that keeps the agreed contract and nothing else: its map is a fixed function of its input."""

    def __init__(self, form: str, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.form, self.grid, self.heads = form, grid, 2
        self.neuron = neurons.create("if")

    def attention_map(self, x):
        q = self.neuron(x).unflatten(-1, (2, -1)).transpose(2, 3)
        if self.form == "pairs":
            return 0.5 * q @ q.transpose(-2, -1)
        return q.sum(-1).unsqueeze(-2) if self.form == "tokens" else None

    def forward(self, x):
        return x + self.neuron(x)


class Attentive(nn.Module):
    """Tokens of images, two attentions, and class scores."""

    def __init__(self, *forms: str, grid: tuple[int, int] | None = (3, 4)) -> None:
        super().__init__()
        self.first = neurons.create("if")
        self.blocks = nn.Sequential(*(Mixing(form, grid) for form in forms))

    def forward(self, x):
        return self.blocks(self.first(x).flatten(3).transpose(2, 3)).mean(2)


def only(found: Inspection) -> Layer:
    (layer,) = found.layers
    return layer


def spikes(T=3, samples=10, shape=(4, 2, 2), seed=0) -> torch.Tensor:
    return (torch.rand(T, samples, *shape, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def test_counts_are_those_of_a_plain_computation_whatever_the_batch():
    x = spikes()
    x[:, :, 0] = 0  # a dead channel
    x[:, :, 1, 0, 0] = 1  # a saturated neuron
    found = inspect_network(Given(), x.split(3, dim=1))
    layer = only(found)
    assert found == inspect_network(Given(), [x])
    assert (found.samples, found.T) == (10, 3)
    rate = x.mean((0, 1))
    assert (layer.neurons, layer.channels, layer.shape) == (16, 4, (4, 2, 2))
    assert layer.rate == pytest.approx(float(x.mean()))
    assert layer.by_step == pytest.approx(x.flatten(1).mean(1).tolist())
    assert layer.spikes == pytest.approx(float(x.sum()) / 10 / 16)
    assert layer.spread == pytest.approx(float(x.mean((0, 2, 3, 4)).double().std(correction=0)))
    assert layer.dead == int((rate == 0).sum()) == 4
    assert layer.saturated == int((rate == 1).sum()) == 1
    assert layer.nearly == int((rate > 0.9).sum())
    assert (layer.dead_channels, layer.saturated_channels) == (1, 0)
    alive = rate[rate > 0].double()
    edges = [float(((alive > b / BINS + 1e-6) & (alive <= (b + 1) / BINS + 1e-6)).sum()) for b in range(BINS)]
    assert list(layer.histogram) == edges
    assert sum(layer.histogram) + layer.dead == layer.neurons


def test_rates_on_the_edge_of_a_bin_fall_into_the_lower_one():
    x = torch.zeros(20, 1, 20)
    for neuron in range(20):
        x[: neuron + 1, 0, neuron] = 1  # rates 1/20 ... 20/20, all of them edges
    assert only(inspect_network(Given(), [x])).histogram == (1,) * 20


def test_dead_and_saturated_neurons_are_found_where_they_were_planted():
    network = create("mlp", image_size=4, channels=1, classes=3, hidden=(12,), norm=False, neuron="if", seed=0)
    linear = network.layers[1].linear
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias[:5] = -1.0  # never
        linear.bias[5:8] = 1.5  # at every step
        linear.bias[8:] = 0.5  # at every second step
    found = inspect_network(network, [torch.rand(4, 6, 1, 4, 4)])
    layer = only(found)
    assert (layer.dead, layer.saturated, layer.nearly) == (5, 3, 3)
    assert layer.by_step == pytest.approx((3 / 12, 7 / 12, 3 / 12, 7 / 12))
    assert layer.spikes == pytest.approx((3 * 4 + 4 * 2) / 12)
    assert layer.spread == 0
    assert findings(found) == []
    with torch.no_grad():
        linear.bias[8:] = -1.0
    (said,) = findings(inspect_network(network, [torch.rand(4, 6, 1, 4, 4)]))
    assert said == "Mostly dead (at least half of the neurons never fired): layers.2 (75 %)."
    with torch.no_grad():
        linear.bias.fill_(2.0)
    said = findings(inspect_network(network, [torch.rand(4, 6, 1, 4, 4)]))
    assert len(said) == 1
    assert said[0].startswith("Mostly saturated")


def test_silence_is_told_by_layer_step_sample_and_head():
    x = torch.zeros(3, 4, 2, 3, 4)
    network = Attentive("pairs", "tokens")
    said = " ".join(findings(inspect_network(network, [x], shown=[0])))
    assert "Silent in all 4 samples, so that nothing passes through: first." in said
    assert "inside an attention, which so hears nothing there: blocks.0.neuron, blocks.1.neuron." in said
    assert "Heads without weight in the 1 shown samples: blocks.0: no head gives weight to any token" in said
    x[1:, :3, 0] = 1  # not at the first step, not for the last sample, and for the channels of the first head only
    said = " ".join(findings(inspect_network(network, [x], shown=[0])))
    assert "Silent at first, so that fewer than the 3 time steps are used: first (until step 2)" in said
    assert "Silent for some samples: first (25 %)" in said
    assert "blocks.0: not head 2 gives weight to any token" in said


@pytest.mark.parametrize(
    ("neuron", "options", "unit"),
    [("integer-lif", {"levels": 4}, 1), ("ni-lif", {"levels": 4}, 0.25), ("ternary-lif", {}, 1)],
)
def test_spikes_of_counting_and_signed_neurons_are_counted_in_full(neuron, options, unit):
    x = 4 * torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    y = neurons.create(neuron, **options)(x)
    layer = only(inspect_network(Given(neuron, **options), [x]))
    assert layer.spikes == pytest.approx(float(y.abs().sum()) / unit / 5 / 8, rel=1e-6)
    assert layer.rate == pytest.approx(float((y != 0).float().mean()))


@pytest.mark.parametrize("neuron", ["relu", "gelu", "quantised_relu"])
def test_conventional_units_are_active_where_positive(neuron):
    x = torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(0))
    x[..., 0], x[..., 1] = -1, 1
    found = inspect_network(Given(neuron), [x])
    layer = only(found)
    y = neurons.create(neuron)(x).detach()
    assert layer.conventional
    assert found.conventional
    assert layer.rate == pytest.approx(float((y > 0).float().mean()))
    assert layer.dead == int((y <= 0).all(1).sum()) >= 1
    assert layer.saturated == int((y > 0).all(1).sum()) >= 1
    assert math.isnan(layer.spikes)
    with torch.no_grad():
        (said,) = findings(inspect_network(Given(neuron), [-1 - x.abs()]))
    assert said.startswith("Silent in all 6 samples")


def test_a_neuron_that_runs_twice_is_two_layers_and_a_real_one_is_left_out():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron, self.readout = neurons.create("if"), neurons.create("leaky-integrator")

        def forward(self, x):
            return self.readout(self.neuron(0.5 * self.neuron(x)))

    found = inspect_network(Twice(), [torch.ones(4, 2, 3)] * 2)
    assert {layer.name: layer.rate for layer in found.layers} == {"neuron": 1, "neuron-2": 0.5}
    assert found.left_out == ["readout"]


def test_channels_of_maps_tokens_and_heads():
    attention = Mixing("pairs", (3, 4))
    assert is_map((5, 4, 4), None)
    assert is_map((8, 3, 4), attention)
    assert not is_map((2, 12, 4), attention)  # [heads, N, d]
    assert not is_map((2, 3, 12), attention)  # [heads, patches, N]
    assert not is_map((12, 8), attention)
    x = torch.zeros(2, 3, 6, 5)  # tokens [N, C]
    x[:, :, :, 1] = 1
    x[0, 0, 2, 3] = 1
    layer = only(inspect_network(Given(), [x]))
    assert (layer.channels, layer.dead_channels, layer.saturated_channels, layer.dead) == (5, 3, 1, 23)


def test_the_network_is_left_as_it_was():
    network = create("cnn", image_size=8, channels=1, neuron="lif", seed=0).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    inspect_network(network, [torch.rand(2, 3, 1, 8, 8)], shown=[1])
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_what_cannot_be_inspected_is_refused():
    with pytest.raises(DataError, match="no samples"):
        inspect_network(Given(), [])
    with pytest.raises(DataError, match="Linear has no spiking neurons and no activations"):
        inspect_network(nn.Linear(3, 3), [torch.ones(2, 2, 3)])
    with pytest.raises(ShapeError, match="same number of time steps: 2, then 3"):
        inspect_network(Given(), [torch.ones(2, 2, 3), torch.ones(3, 2, 3)])
    with pytest.raises(ShapeError, match=r"layer 'neuron' gave \[3\] for one sample and step, then \[4\]"):
        inspect_network(Given(), [torch.ones(2, 2, 3), torch.ones(2, 2, 4)])
    wrong = Mixing("pairs")
    wrong.attention_map = lambda x: x
    with pytest.raises(ShapeError, match=r"must be \[T, B, heads, N, N\]"):
        inspect_network(wrong, [torch.ones(2, 2, 12, 4)], shown=[0])


def test_attention_maps_are_those_of_the_modules():
    x = spikes(4, 6, (4, 3, 4))
    network = Attentive("pairs", "tokens", "none")
    found = inspect_network(network, x.split(4, dim=1), shown=[1, 5])
    first, second = found.attention
    tokens = x[:, [1, 5]].flatten(3).transpose(2, 3)
    q = tokens.unflatten(-1, (2, 2)).transpose(2, 3)
    maps = (0.5 * q @ q.transpose(-2, -1)).mean(0)
    assert (first.name, first.kind, first.grid, first.heads) == ("blocks.0", "Mixing", (3, 4), 2)
    np.testing.assert_allclose(first.received, maps.mean(-2).numpy(), rtol=1e-6)
    assert first.queries[0] == 1 * 4 + 2  # the middle
    np.testing.assert_allclose(first.rows, maps[:, :, list(first.queries)].numpy(), rtol=1e-6)
    heard = network.blocks[1].attention_map(network.blocks[0](tokens)).mean(0)[:, :, 0]
    np.testing.assert_allclose(second.received, heard.numpy(), rtol=1e-6)
    assert second.queries == ()
    assert second.rows.shape == (2, 2, 0, 12)
    # that the maps ran the neurons once more is not counted
    alone = inspect_network(network, [x])
    assert alone.layers == found.layers
    assert alone.attention == []


def test_spikformers_map_is_the_scaled_product_of_its_queries_and_keys():
    network = create("spikformer", image_size=8, channels=1, depth=2, dim=16, heads=2, pools=1, neuron="if", seed=0)
    seen = {}
    attention = network.blocks[1].attention
    for part in ("query", "key"):
        getattr(attention, part).register_forward_hook(lambda m, i, y, part=part: seen.setdefault(part, y))
    x = 3 * torch.rand(2, 3, 1, 8, 8)
    found = inspect_network(network, [x], shown=[0, 1, 2])
    q, k = (seen[part].unflatten(-1, (2, 8)).transpose(2, 3) for part in ("query", "key"))
    maps = attention.scale * (q @ k.transpose(-2, -1)).mean(0)
    assert found.attention[1].name == "blocks.1.attention"
    assert found.attention[1].grid == (4, 4)
    np.testing.assert_allclose(found.attention[1].received, maps.mean(-2).detach().numpy(), rtol=1e-5, atol=1e-7)
    assert {layer.attention for layer in found.layers} == {"", "blocks.0.attention", "blocks.1.attention"}
    assert all(name.startswith("embedding") for name in found.maps)


def test_maps_over_the_image_are_means_over_channels():
    x = spikes(3, 4, (5, 4, 6))
    found = inspect_network(Given(), [x], shown=[0, 3])
    np.testing.assert_allclose(found.maps["neuron"], x[:, [0, 3]].sum(0).mean(1).numpy(), rtol=1e-6)
    np.testing.assert_allclose(found.images, x[:, [0, 3]].mean(0).numpy(), rtol=1e-6)
    assert [each.sample for each in found.shown] == [0, 3]
    outside = inspect_network(Given(), [10 * x - 5], shown=[0])
    assert outside.images.min() == 0
    assert outside.images.max() == pytest.approx(1)
    assert inspect_network(Given(), [x.flatten(2)], shown=[0]).images is None


def test_grids_tokens_that_ask_and_smaller_maps():
    assert grid_of((2, 6), 12) == (2, 6)
    assert grid_of(None, 16) == (4, 4)
    assert grid_of((2, 2), 7) == (1, 7)
    assert middle_first((4, 4)) == (10, 5, 7, 13, 15)
    assert middle_first((1, 8))[0] == 4
    assert middle_first((1, 1)) == (0,)
    assert all(0 <= token < 15 for token in middle_first((3, 5)))
    x = torch.rand(2, 3, 10, 7)
    assert shrunk(x, 10) is x
    small = shrunk(x, 4)
    assert small.shape == (2, 3, 4, 3)
    assert torch.allclose(small[1, 2, 0, 0], x[1, 2, :3, :3].mean())
    assert torch.allclose(small[1, 2, 3, 2], x[1, 2, 9:, 6:].mean())


@pytest.fixture
def found() -> Inspection:
    return inspect_network(
        Attentive("pairs", "tokens"), [(spikes(3, 6, (4, 3, 4)), torch.arange(6))], shown=[2, 4]
    )  # fmt: skip


def test_an_inspection_survives_its_file(found, tmp_path):
    save_inspection(found, tmp_path / "i.safetensors")
    back = load_inspection(tmp_path / "i.safetensors")
    assert (back.layers, back.shown, back.samples, back.T) == (found.layers, found.shown, found.samples, found.T)
    assert [each.label for each in back.shown] == [2, 4]
    np.testing.assert_allclose(back.images, found.images, atol=1 / 255)
    for mine, theirs in zip(back.attention, found.attention, strict=True):
        assert (mine.name, mine.grid, mine.queries) == (theirs.name, theirs.grid, theirs.queries)
        np.testing.assert_array_equal(mine.received, theirs.received)
        np.testing.assert_array_equal(mine.rows, theirs.rows)
    np.testing.assert_array_equal(back.maps["first"], found.maps["first"])
    (tmp_path / "i.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="not a readable inspection"):
        load_inspection(tmp_path / "i.safetensors")


def test_arrays_that_do_not_fit_are_refused(found):
    found.check()
    for broken, words in (
        (replace(found, images=found.images[:1]), r"images must be \[2, C, H, W\]"),
        (replace(found, maps={"first": found.maps["first"][0]}), "maps of 'first'"),
        (replace(found, attention=[replace(found.attention[0], grid=(5, 5))]), r"\[2, heads, 25\]"),
        (replace(found, attention=[replace(found.attention[0], queries=(1,))]), r"rows of 'blocks.0' must be"),
    ):
        with pytest.raises(ShapeError, match=words):
            broken.check()


def test_the_page_has_a_place_and_a_valid_figure_for_everything(found):
    import plotly.graph_objects as go

    page = build_inspection_page(found, "t", {"Run": "abc"})
    reader = read(page)
    assert [value for tag, name, value in reader.attributes if tag == "section" and name == "id"] == [
        "layers", "by-step", "dead-saturated", "distribution", "spike-counts", "spike-maps", "attention-maps",
        "setting",
    ]  # fmt: skip
    ids = [value for _, name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    variables = set(re.findall(r"(--[a-z-]+):", re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]))
    figures = figures_of(page)
    for name, figure in figures.items():
        assert name in ids
        text = json.dumps(figure)
        assert set(re.findall(r"var\((--[a-z-]+)\)", text)) <= variables
        go.Figure(json.loads(re.sub(r"var\(--[a-z-]+\)", "#123456", text)))
    heat = figures["figure-1"]["data"][0]
    np.testing.assert_allclose(heat["z"], [[100 * rate for rate in layer.by_step] for layer in found.layers], rtol=1e-6)
    bars = figures["figure-2"]["data"]
    assert [bar["name"] for bar in bars] == ["dead", "in between", "above 90 %", "saturated"]
    np.testing.assert_allclose(np.sum([bar["x"] for bar in bars], 0), 100)
    links = [value for _, name, value in reader.attributes if name == "href" and not value.startswith("data:")]
    assert {link[1:] for link in links} <= set(ids)
    loads = [value for _, name, value in reader.attributes if name in ("src", "href")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in loads)
    text = " ".join(reader.text)
    assert "without a softmax rows do not sum to one" in text
    assert "Test sample 2: class 2" in text
    assert "Counted on 6 test samples in eval mode." in text
    assert "head 2" in text
    assert build_inspection_page(found, "t", {"Run": "abc"}) == page


def test_a_page_without_pictures_and_of_a_twin():
    plain = build_inspection_page(inspect_network(Given(), [spikes()]), "t", {})
    assert 'id="attention-maps"' not in plain
    assert 'id="spike-maps"' not in plain
    twin = build_inspection_page(inspect_network(Given("relu"), [spikes(1)], shown=[0]), "t", {})
    assert 'id="spike-counts"' not in twin
    assert "saturated ones never gate" in twin
    sequence = inspect_network(Mixing("pairs"), [spikes(2, 3, (5, 4))], shown=[0])
    assert sequence.attention[0].grid == (1, 5)
    assert 'id="attention-maps"' in build_inspection_page(sequence, "t", {})


def test_overlays_grow_opaque_with_the_weight_and_blue_where_negative():
    import base64
    import io

    from PIL import Image

    uri = heat_uri(np.array([[0.0, 1.0], [-2.0, 2.0]]))
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))
    assert pixels[..., 3].tolist() == [[0, 108], [217, 217]]
    assert pixels[0, 1, :3].tolist() == pixels[1, 1, :3].tolist() == [213, 94, 0]
    assert pixels[1, 0, :3].tolist() == [0, 114, 178]
    assert span(np.array([0.25, 2.0])) == "0 to 2"
    assert span(np.array([-0.5, 2.0])) == "−0.5 to 2"
    assert span(np.zeros(3)) == "0 everywhere"
    assert 'x="2" y="0" width="2" height="4"' in Album("a", np.zeros((1, 1, 8, 8))).overlay(0, np.ones((2, 4)), "n", 1)
    assert not np.isnan(pixels).any()


def test_tables_say_what_is_small_and_draw_what_is_long():
    assert [percent(share) for share in (0, 1e-5, 0.25, 0.9999, 1)] == [
        "0.0 %",
        "<0.1 %",
        "25.0 %",
        ">99.9 %",
        "100.0 %",
    ]
    x = spikes(12, 4, (9,))
    found = inspect_network(Given(), [x])
    assert "by step" in rates(found)
    assert len(by_step(only(found))) == 6
    assert rates(inspect_network(Given(), [x[:3]]))["by step, %"][0].count(" ") == 2
    assert extremes(found)["dead channels"][0] == "–"  # every neuron is its own channel
    assert "by step" not in " ".join(rates(inspect_network(Given("relu"), [x[:1]])))


def test_a_run_keeps_its_inspection_and_the_report_shows_it(tiny_suite, finished):
    results = Results(load_suite(tiny_suite), place_of(finished))
    kept = collect(results)
    assert list(kept.inspections) == ["lif", "relu", "quantised_relu bits=2"]
    lif = kept.inspections["lif"]
    record = results.records[results.first["lif"]]
    assert {layer.name: layer.rate for layer in lif.layers} == pytest.approx(record.firing_rates.to_dict())
    assert sum(layer.spikes * layer.neurons for layer in lif.layers) == pytest.approx(record.spikes)
    steps = record.steps.set_index(["layer", "step"])
    for layer in lif.layers:
        for step, rate in enumerate(layer.by_step):
            row = steps.loc[(layer.name, step)]
            assert rate == pytest.approx(row["nonzero_outputs"] / row["outputs"])
    assert (lif.samples, len(lif.shown)) == (16, 2)
    assert all(isinstance(each, Shown) and each.label is not None for each in lif.shown)
    page = build_page(kept)
    sections = {name: re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)[0] for name in
                ("firing-rates", "by-step", "dead-saturated", "attention-maps")}  # fmt: skip
    assert sections["by-step"].count('role="img"') == 1  # the twins have no time
    assert sections["dead-saturated"].count('role="img"') == 3
    assert sections["firing-rates"].count('role="img"') == 1  # rates over time stand in their own section
    assert sections["attention-maps"].count("<svg") >= 3 * 2 * 2
    for file in finished.glob("runs/*/inspection.safetensors"):
        assert file.stat().st_size < 100_000


def test_an_inspection_of_a_network_without_a_run_is_refused(tiny_suite, finished):
    data = collect(Results(load_suite(tiny_suite), place_of(finished)))
    with pytest.raises(OptionError, match="an inspection of network 'LIFF', which has no run"):
        build_page(replace(data, inspections={"LIFF": data.inspections["lif"]}))


def test_a_run_is_inspected_with_the_weights_that_it_learned(tiny_suite, finished):
    place = place_of(finished)
    results = Results(load_suite(tiny_suite), place)
    run = results.first["lif"]
    stored = load_inspection(place.run_folder(run) / "inspection.safetensors")
    for target in (run, run[:8], f"{tiny_suite}/lif", str(tiny_suite)):
        seen = inspect_run(target, place, samples=16, batch=5, images=2)
        assert seen.run == run
        for mine, theirs in zip(seen.found.layers, stored.layers, strict=True):
            assert mine.name == theirs.name
            assert mine.rate == pytest.approx(theirs.rate, rel=1e-3)
        assert [each.sample for each in seen.found.shown] == [each.sample for each in stored.shown]
    assert "for another" in seen.notes[0]


def command(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def test_the_command_prints_tables_and_writes_them(tiny_suite, finished, tmp_path):
    page, table = tmp_path / "i.html", tmp_path / "i.csv"
    done = command(f"{tiny_suite}/lif", "--folder", finished, "--samples", 20, "--page", page, "--export", table)
    assert done.exit_code == 0, done.output
    assert "lif, seed 0: firing rates on 20 test samples" in done.output
    assert "blocks.0.attention.query" in done.output
    assert "by step, %" in done.output
    tables = done.output[: done.output.index("rate: share of outputs")].splitlines()
    assert max(len(line) for line in tables if not line.startswith("warning: ")) <= 110
    assert "20 test samples evenly over the split" in page.read_text(encoding="utf-8")
    rows = pd.read_csv(table)
    assert {"rate_step_1", "rate_step_2", "dead", "saturated", "neurons_to_1.00"} <= set(rows)
    assert (rows["dead"] <= rows["neurons"]).all()
    twin = command(f"{tiny_suite}/relu", "--folder", finished, "--samples", 20, "--images", 0)
    assert twin.exit_code == 0, twin.output
    assert "active outputs" in twin.output
    assert "spikes/neuron" not in twin.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["quik"], "did you mean 'quick'"),
        (["quick"], "no finished run of quick"),
        (["{suite}/liff"], "no finished run of 'liff'; did you mean 'lif'"),
        (["0123456789ab"], "no runs in"),
        (["0123456789ab", "--set", "seed=1"], "a run stays as it was"),
        (["none.yaml"], "does not exist"),
        (["{suite}", "--samples", "0"], "--samples must be at least 1"),
        (["{suite}", "--images", "-1"], "--images must be at least 0"),
        (["{suite}", "--batch", "0"], "--batch must be at least 1"),
        (["{suite}", "--export", "t.xlsx"], "the suffix must be .csv"),
        (["{suite}", "--page", "/proc/none/page.html"], "cannot write"),
    ],
)
def test_wrong_input_gets_one_line(tiny_suite, finished, arguments, words):
    done = command(*(each.format(suite=tiny_suite) for each in arguments), "--folder", finished)
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert words in line
    assert "Traceback" not in done.output


def test_lost_weights_are_named(tiny_suite, finished, tmp_path):
    done = command(tiny_suite, "--folder", tmp_path, "--store", finished / "results.sqlite")
    assert done.exit_code == 2
    assert "the weights of run" in done.output
