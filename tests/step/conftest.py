"""A suite small enough to be run for real in tests."""

import pytest

SUITE = """
title: Tiny networks on digits
description: Real runs, too short to mean anything.
base:
  dataset: digits
  encoder: {name: direct, T: 2}
  model: {name: spikformer, depth: 1, dim: 32, heads: 2, mlp_ratio: 1.0, pools: [true, true, false, false]}
  learner: {name: surrogate-gradient, epochs: 3, batch: 16, lr: 1e-2}
  protocol: {name: classification, train_samples: 480}
  measure: {samples: 16, batch: 8}
grid:
  neuron: [lif, relu, {name: quantised_relu, bits: 2}]
  seed: [0, 1]
"""


@pytest.fixture(scope="session")
def tiny_suite(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="session")
def finished(tiny_suite, tmp_path_factory):
    """The folder of a finished run of the tiny suite, made by two worker processes."""
    import step

    folder = tmp_path_factory.mktemp("results")
    step.run(tiny_suite, folder=folder, workers=2)
    return folder
