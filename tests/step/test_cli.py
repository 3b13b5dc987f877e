"""The command line as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from step import models

PYTHON = [sys.executable, "-m", "step.cli"]


def step(*arguments, **options):
    return subprocess.run(
        [*PYTHON, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False, **options
    )


def test_show_energy_report_and_export(tiny_suite, finished, tmp_path):
    shown = step("show", tiny_suite, "--folder", finished, "--export", tmp_path / "t.csv")
    assert shown.returncode == 0, shown.stderr
    for words in ("test accuracy", "±", "quantised_relu bits=2", "energy, op-count", "energy, step",
                  "energy, typed-horowitz", "/ relu", "accumulates", "spikes"):  # fmt: skip
        assert words in shown.stdout
    assert list(pd.read_csv(tmp_path / "t.csv").columns)[1:] == ["lif", "relu", "quantised_relu bits=2"]
    each = step("show", tiny_suite, "--folder", finished, "--runs", "--export", tmp_path / "runs.parquet")
    assert each.returncode == 0, each.stderr
    assert len(pd.read_parquet(tmp_path / "runs.parquet")) == 6
    for by in ("model", "part", "layer"):
        priced = step("energy", tiny_suite, "--folder", finished, "--by", by, "--export", tmp_path / f"{by}.json")
        assert priced.returncode == 0, priced.stderr
        assert json.loads((tmp_path / f"{by}.json").read_text())
    page = step("report", tiny_suite, "--folder", finished, "--output", tmp_path / "page.html")
    assert page.returncode == 0, page.stderr
    text = (tmp_path / "page.html").read_text()
    assert "Tiny networks on digits" in text
    assert "membrane" in text.lower()


def test_lists_and_doctor():
    listed = step("list")
    for word in ("plif", "arctan", "latency", "fashion-mnist", "spikformer", "surrogate-gradient", "quick", "op-count"):
        assert word in listed.stdout
    assert "lif" in step("list", "neurons").stdout
    assert "spikformer" not in step("list", "neurons").stdout
    found = step("doctor")
    assert found.returncode == 0, found.stderr
    for word in ("torch", "kernels", "fashion-mnist", "spikingjelly"):
        assert word in found.stdout


def test_plugins_are_listed(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        'import neurons\n\n@neurons.register("mine")\nclass Mine(neurons.LIF):\n    """My own neuron."""\n'
    )
    assert "mine  My own neuron." in step("list", "neurons", "--plugin", plugin).stdout
    plugin.write_text("import neurons\n\nraise ValueError('no')\n")
    wrong = step("list", "neurons", "--plugin", plugin)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "line 3: ValueError: no" in wrong.stderr


def test_models_are_listed_with_papers_and_parameters(tmp_path):
    done = step("list", "models", "--export", tmp_path / "models.json")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("spikformer ")]
    assert [line.split() for line in lines] == [
        ["spikformer", "ICLR", "2023", "cifar-4-384", "9.32", "M", "95.51", "74.81", "(8-768)"]
    ]
    for words in ("mlp", "cnn", "96.79 *", "published", "None was measured by STEP", "step list models NAME"):
        assert words in done.stdout
    rows = {row["model"]: row for row in json.loads((tmp_path / "models.json").read_text())}
    assert set(rows) == set(models.names())
    assert rows["spikformer"]["parameters"] == models.create("spikformer").parameter_count
    assert rows["qkformer"]["ImageNet size"] == "imagenet-10-768"  # not the figure of larger images
    assert rows["maxformer"]["by_others"] == "CIFAR-10, CIFAR-100"
    assert rows["mlp"]["venue"] is None


def test_one_model_is_shown_with_its_sizes_and_sources(tmp_path):
    done = step("list", "models", "sdt", "--export", tmp_path / "sdt.csv")
    assert done.returncode == 0, done.stderr
    for words in ("arXiv:2307.01694", "Here: The neuron of the mask", "66.34 M", "STEP, arXiv:2505.11151", "97.8 %"):
        assert words in done.stdout
    rows = pd.read_csv(tmp_path / "sdt.csv")
    kind = models.models.get("sdt")
    assert len(rows) == len(kind.paper.published) + len(set(kind.Config.SIZES) - set(_sizes(kind)))
    large = rows[rows["size"] == "imagenet-8-768"].iloc[0]
    assert (large["image"], large["accuracy"], large["T"]) == ("224x224x3", 76.32, 4)
    assert round(large["parameters"] / 1e6, 2) == large["published M"] == 66.34
    # a published size that is not here has no parameters of ours
    assert rows[rows["size"] == "dvs-2-256"]["parameters"].isna().all()
    plain = step("list", "models", "cnn")
    assert plain.returncode == 0, plain.stderr
    assert "published" not in plain.stdout.splitlines()[3]


def _sizes(kind):
    return [figure.size for figure in kind.paper.published]


def test_parts_and_recipes_are_listed_and_explained():
    assert "sdsa-3" in step("list", "attentions").stdout
    assert "tokenizer" in step("list", "embeddings").stdout
    assert "arXiv 2505.11151" in step("list", "recipes").stdout
    assert "Q K^T V" in step("list", "attentions", "ssa").stdout
    recipe = step("list", "recipes", "sdt-imagenet").stdout
    for words in ("From 8_512_300E_t4.yml", "optimiser: lamb", "Unsure: clipping at 1"):
        assert words in recipe
    assert "12,000 training images" in step("list", "suites", "attention").stdout
    listed = step("list").stdout
    for words in ("methods\n", "  hlop  Hebb", "rules\n", "  ottt  Online", "subspaces\n", "  ccipca  Candid"):
        assert words in listed
    assert 'subspace: {"name": "hebbian"}' in step("list", "methods", "hlop").stdout


def test_a_model_of_a_plugin_is_listed(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from step import models\n\n\nclass Config(models.MLP.Config):\n    bottleneck: int\n\n\n"
        '@models.register("mine")\nclass Mine(models.MLP):\n    """Mine: an idea."""\n\n    Config = Config\n'
    )
    listed = step("list", "models", "--plugin", plugin)
    assert listed.returncode == 0, listed.stderr
    assert any(line.split()[0] == "mine" for line in listed.stdout.splitlines())
    shown = step("list", "models", "mine", "--plugin", plugin)
    assert shown.returncode == 0, shown.stderr
    assert "Mine: an idea." in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quik"], "did you mean 'quick'"),
        (["run", "quick", "--set", "neuron=[liff]"], "did you mean 'lif'"),
        (["run", "quick", "--set", "encoder.T=0"], "encoder.T"),
        (["run", "quick", "--set", "encoder=dirct"], "did you mean 'direct'"),
        (["run", "quick", "--set", "encoder=rate"], "encoder 'rate' needs 'T': write {name: rate, T: ...}"),
        (["run", "quick", "--set", "dataset=didgits"], "did you mean 'digits'"),
        (["run", "quick", "--set", "model.name=spikfromer"], "did you mean 'spikformer'"),
        (["run", "quick", "--set", "learner.epcohs=3"], "did you mean 'epochs'"),
        (["run", "quick", "--set", "learner.batch=99999"], "larger than"),
        (["run", "quick", "--workers", "0"], "--workers must be at least 1"),
        (["run", "quick", "--store", "/proc/none/r.sqlite"], "results database"),
        (["run", "quick", "--plugin", "none.py"], "does not exist"),
        (["show", "quick"], "run: step run quick"),
        (["fetch", "cifar"], "unknown"),
        (["list", "models", "spikfromer"], "did you mean 'spikformer'"),
        (["list", "recipes", "sdt-cifra"], "did you mean 'sdt-cifar'"),
        (["list", "suites", "atention"], "did you mean 'attention'"),
        (["list", "methods", "hlpo"], "did you mean 'hlop'"),
        (["list", "--export", "all.csv"], "--export takes a table"),
        (["list", "attentions", "ssa", "--export", "ssa.csv"], "--export takes a table"),
    ],
)
def test_wrong_input_gets_one_line_and_nothing_is_written(tmp_path, arguments, words):
    done = step(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_suite_that_is_no_yaml(tmp_path):
    (tmp_path / "s.yaml").write_text("base: [1, 2\n")
    done = step("run", "s.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "s.yaml, line 2: not valid YAML" in done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_cleanly(tiny_suite, tmp_path, workers):
    options = ["--set", "learner.epochs=500", "--workers", str(workers), "--folder", str(tmp_path)]
    process = subprocess.Popen(
        [*PYTHON, "run", str(tiny_suite), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/checkpoint.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines() == [
        "stopped; finished runs are kept, the others go on from their last epoch next time"
    ]


def test_help_and_imports_are_quick():
    """Not timed: what makes them slow is what they import."""
    code = "import sys; import {}; print([m for m in {} if m in sys.modules])"
    heavy = ["torch", "pandas", "plotly", "sklearn", "spikingjelly", "snntorch", "tonic", "torchvision", "sqlalchemy"]
    for module, allowed in (("step", set()), ("step.cli", set()), ("neurons", {"torch"}), ("encoders", {"torch"})):
        done = subprocess.run(
            [sys.executable, "-c", code.format(module, heavy)], capture_output=True, text=True, check=True
        )
        assert set(json.loads(done.stdout.replace("'", '"'))) <= allowed, module


def test_speed_is_shown_as_ratios_and_exported(tmp_path):
    few = ["--neuron", "lif", "--shape", "4,3,40", "--seconds", "0", "--only", "step, fused", "--only", "spikingjelly"]
    shown = step("speed", "neurons", *few, "--export", tmp_path / "t.csv")
    assert shown.returncode == 0, shown.stderr
    for words in ("step, fused", "step, eager", "spikingjelly", "x floor", "MiB held", "GB/s"):
        assert words in shown.stdout
    rows = pd.read_csv(tmp_path / "t.csv")
    assert set(rows["name"]) == {"step, fused", "step, eager", "spikingjelly"}
    assert (rows["T"] == 4).all()
    wrong = step("speed", "neurons", "--shape", "4,3")
    assert wrong.returncode == 2
    assert "T,B,N" in wrong.stderr
    assert "Traceback" not in wrong.stderr
