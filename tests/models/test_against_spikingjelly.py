"""Our transformers against SpikingJelly's with the same weights: outputs and gradients."""

import pytest
import torch
from restate import alive
from spikingjelly.activation_based import functional

from benchmarks.speed import spikingjelly_transformers as theirs

LIF = {"name": "lif", "tau": 2.0, "surrogate": {"name": "sigmoid", "alpha": 4.0}}
SMALL = {"image_size": 32, "channels": 3, "dim": 48, "mlp_ratio": 2.0}

PAIRS = {
    "spikformer": (
        {"depth": 2, "heads": 4, "embedding": {"name": "sps", "pooling": "currents"}},
        theirs.spikformer,
    ),
    "sdt": ({"depth": 2, "heads": 4}, theirs.spike_driven_transformer),
    "qkformer": (
        {"depths": (1, 2, 2), "heads": 4, "form": "imagenet"},
        theirs.qkformer,
    ),
    "maxformer": ({"depths": (1, 1, 2), "heads": 8}, theirs.maxformer),
}


def both(name, training):
    options, make = PAIRS[name]
    ours = alive(name, LIF, **SMALL, **options)
    other = make(ours)
    for network in (ours, other):
        network.double().train(training)  # in float32 a sum in another order can flip a spike, and then all behind it
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    functional.reset_net(other)
    return ours, other, ours(images.expand(4, -1, -1, -1, -1)), other(images)


def over_time(outputs):
    return outputs.mean(0) if outputs.dim() == 3 else outputs


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("training", [False, True])
def test_outputs_agree(name, training):
    _, _, ours, other = both(name, training)
    assert over_time(ours).std() > 1e-3
    torch.testing.assert_close(over_time(ours), over_time(other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_agree(name):
    ours, other, a, b = both(name, training=True)
    for outputs in (a, b):
        torch.nn.functional.cross_entropy(over_time(outputs), torch.tensor([0, 3, 7])).backward()
    torch.testing.assert_close(ours.head.linear.weight.grad, other.head.weight.grad, rtol=1e-3, atol=1e-5)
    first, their_first = (next(p for p in network.parameters() if p.dim() == 4) for network in (ours, other))
    scale = their_first.grad.abs().max()
    assert scale > 1e-5
    torch.testing.assert_close(first.grad / scale, their_first.grad / scale, rtol=1e-3, atol=1e-3)
