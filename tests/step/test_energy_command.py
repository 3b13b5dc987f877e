"""``step energy``: whatever a user names is priced, and what cannot be is refused in one line."""

import io

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import energy
from step.api import place_of
from step.cli import app
from step.targets import Input, Twins, resolve

COUNTS = """layer,kind,operand,dense,effective,inputs,nonzero,weights,updates,states,ops.add,ops.cmp
conv1,conv,real,1000000,,3072,,1728,,,,
lif1,neuron,,,,,,,65536,1,2,1
fc,linear,binary,1003520,100352,3136,313.6,250880,,,,
lif2,neuron,,,,,,,512,1,2,1
"""
NETWORK = """
import torch
from torch import nn
import neurons

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(2), nn.Linear(64, 32), neurons.IF(), nn.Linear(32, 10), neurons.IF())

def broken():
    raise RuntimeError("no such\\nfile")

def number():
    return 3
"""
FEW = ("--models", "op-count,step")


def step(*arguments):
    return CliRunner().invoke(app, ["energy", *map(str, arguments)])


def refused(*arguments) -> str:
    done = step(*arguments)
    text = done.output.strip()
    assert done.exit_code == 2, done.output
    assert text.startswith("error: ")
    assert "\n" not in text
    return text


@pytest.fixture
def counts(tmp_path):
    path = tmp_path / "paper.csv"
    path.write_text(COUNTS)
    return path


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(NETWORK)
    return path


def test_a_table_of_counts(counts, tmp_path):
    done = step(counts, "--T", 4, *FEW, "--twins", "relu", "--export", tmp_path / "v.csv")
    assert done.exit_code == 0, done.output
    assert "cheaper than relu under" in done.output
    assert "step ~" in done.output  # a reconstruction is marked where it is shown, and the sign explained
    assert "~ equations put together" in done.output
    assert "limit: " in done.output  # spikes per synapse stand among published limits
    assert max(map(len, done.output.splitlines())) <= 110
    table = pd.read_csv(tmp_path / "v.csv").set_index("label")
    assert table.loc["op-count", "network_total"] == pytest.approx(4.6e6 + 0.9 * 100_352)
    # The twin runs every layer once; the counts are of four steps.
    assert table.loc["op-count", "twin_total"] == pytest.approx(4.6 * (1e6 + 1_003_520) / 4)


def test_a_column_T_takes_the_place_of_the_option(tmp_path):
    path = tmp_path / "paper.csv"
    frame = pd.read_csv(io.StringIO(COUNTS)).assign(T=4)
    frame.to_csv(path, index=False)
    assert step(path, *FEW, "--twins", "relu").exit_code == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (COUNTS, "does not say its time steps"),
        ("", "cannot be read"),
        ("layer,dense,operand,T\n", "no rows"),
        ("layer,dense,operand,T\nfc,10,binary,0\n", "whole numbers from 1"),
        ("layer,dense,operand,T\nfc,ten,binary,4\n", "number"),
        ("layer,dense,operand,T\nfc,-1,binary,4\n", "must not be negative"),
        ("layer,dense,oprand,T\nfc,1,binary,4\n", "did you mean 'operand'"),
        ("layer,kind,T\nlif,neuron,4\n", "needs 'updates'"),
    ],
)
def test_counts_that_cannot_be_used(tmp_path, content, words):
    path = tmp_path / "paper.csv"
    path.write_text(content)
    assert words in refused(path)


def test_a_function_in_a_file_on_random_and_on_given_input(network, tmp_path):
    done = step(f"{network}:build", "--shape", "4,2,8,8", *FEW, "--record", tmp_path / "record")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[1].startswith("RANDOM INPUT")
    again = step(tmp_path / "record", *FEW)
    assert again.exit_code == 0, again.output
    np.save(tmp_path / "x.npy", (np.random.default_rng(0).random((4, 3, 8, 8)) < 0.3).astype("uint8"))
    given = step(f"{network}:build", "--input", tmp_path / "x.npy", *FEW, "--twins", "matched,8")
    assert given.exit_code == 0, given.output
    assert "RANDOM" not in given.output
    assert "cheaper than quantised 3-bit (matched) under" in given.output
    assert "cheaper than quantised 8-bit under" in given.output
    assert "cheaper than relu" not in given.output


def test_a_function_that_does_not_build_a_network(network, tmp_path):
    assert "failed: RuntimeError: no such file" in refused(f"{network}:broken", "--shape", "4,2,8,8")
    assert "returned int, not an nn.Module" in refused(f"{network}:number")
    assert "did you mean 'build'" in refused(f"{network}:biuld")
    assert "which function" in refused(network)
    assert "does not exist" in refused(tmp_path / "none.py:build")
    assert "say what the network is run on" in refused(f"{network}:build")
    assert "does not run on an input [4, 2, 7]" in refused(f"{network}:build", "--shape", "4,2,7")


def test_inputs_that_cannot_be_used(network, tmp_path):
    target = f"{network}:build"
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.savez(tmp_path / "two.npz", a=np.zeros((4, 1, 8, 8)), b=np.zeros(1))
    np.save(tmp_path / "nan.npy", np.full((4, 1, 8, 8), np.nan))
    (tmp_path / "text.npy").write_text("no array")
    words = {"flat.npy": "must hold numbers", "two.npz": "2 arrays", "nan.npy": "not finite",
             "text.npy": "cannot be read", "none.npy": "does not exist", "x.mat": "takes"}  # fmt: skip
    for name, text in words.items():
        assert text in refused(target, "--input", tmp_path / name)
    assert "give one input" in refused(target, "--input", tmp_path / "flat.npy", "--dataset", "digits")
    assert "--shape" in refused(target, "--shape", "4,x")
    assert "--rate" in refused(target, "--shape", "4,2,8,8", "--rate", 2)
    assert "--twins takes" in refused(target, "--twins", "rleu")
    assert "did you mean 'op-count'" in refused(target, "--shape", "4,2,8,8", "--models", "op-cout")


def test_a_registered_network_on_a_data_set():
    done = step("mlp", "--dataset", "digits", "--set", "model.hidden=[16]", "--set", "neuron=if", *FEW)
    assert done.exit_code == 0, done.output
    assert "UNTRAINED WEIGHTS" in done.output
    assert "digits, 64 test samples" in done.output
    assert "did you mean 'hidden'" in refused("mlp", "--set", "model.hiden=[3]")
    assert "model.FIELD" in refused("mlp", "--set", "learner.lr=1")


def test_a_nir_file(tmp_path):
    pytest.importorskip("nir")
    from step.exchange import write_nir
    from step.models import create

    write_nir(create("mlp", neuron="if", seed=0, hidden=(16,), image_size=8), tmp_path / "net.nir")
    done = step(tmp_path / "net.nir", "--rate", 0.5, *FEW)
    assert done.exit_code == 0, done.output
    assert "random spikes of rate 0.5" in done.output


def test_a_suite_and_one_of_its_runs(tiny_suite, finished, tmp_path):
    suite = step(tiny_suite, "--folder", finished, *FEW)
    assert suite.exit_code == 0, suite.output
    assert "trained: run" in suite.output
    assert "the verdict is of seed 0 of 0, 1" in suite.output
    target = resolve(str(tiny_suite), twins=Twins.parse("relu"), given=Input(), place=place_of(finished))
    assert list(target.networks["lif"]) == ["lif", "relu", "quantised_relu bits=2", "relu (derived)"]
    run = next(run for run in target.results.specs if target.results.suite.labels[run] == "lif")
    one = step(run[:8], "--folder", finished, *FEW, "--by", "layer", "--export", tmp_path / "l.csv")
    assert one.exit_code == 0, one.output
    assert f"run {run}" in one.output
    rows = pd.read_csv(tmp_path / "l.csv")
    total = rows[(rows["label"] == "op-count") & (rows["network"] == "network")]["pJ"].sum()
    assert total == pytest.approx(energy.price(target.results.records[run])["total"].sum())


def test_names_of_nothing(tmp_path):
    assert "did you mean 'spikformer'" in refused("spikfromer")
    assert "does not exist" in refused("abcdef123456", "--folder", tmp_path)
    assert "does not exist" in refused(tmp_path)
    assert "unknown hardware 'noen'" in refused("mlp", "--hardware", "noen")
