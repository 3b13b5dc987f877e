"""Quantised codes and sums of spikes: followed through a network, counted in bits and events."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import energy
import neurons
from energy.operands import Grid, Tags, describe, popcount


class Probe(nn.Module):
    """Neuron, some function, linear layer: the linear layer's row tells what reached it."""

    def __init__(self, neuron: neurons.Neuron, function: Callable[..., torch.Tensor], second: bool = False) -> None:
        super().__init__()
        self.neuron, self.function = neuron, function
        self.other = neurons.QuantisedReLU(4) if second else None
        self.layer = nn.LazyLinear(3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.neuron(x)
        return self.layer(self.function(y, self.other(x.flip(-1))) if self.other is not None else self.function(y))


def reached(neuron: neurons.Neuron, function: Callable[..., torch.Tensor], second: bool = False, T: int = 1) -> dict:
    torch.manual_seed(0)
    x = torch.randn(T, 2, 4, 6, 6)
    probe = Probe(neuron, function, second)
    with torch.no_grad():
        probe(x)
    record = energy.measure(probe, x)
    return record.layers.set_index("layer").loc["layer"].to_dict()


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y.flatten(2), lambda y: y.reshape(2, -1), lambda y: y.permute(0, 1, 3, 4, 2).contiguous(),
        lambda y: y.transpose(2, 3)[:, :, 1:].clone(), lambda y: F.max_pool2d(y.flatten(0, 1), 2), lambda y: y * 0.125,
        lambda y: y / 8, lambda y: y.unsqueeze(0).expand(2, 1, 2, 4, 6, 6), lambda y: torch.stack([y, y]),
        lambda y: y.detach().unbind(0)[0],
    ],
    ids=["flatten", "reshape", "permute", "slice", "max pool", "scale", "divide", "expand", "stack", "unbind"],
)  # fmt: skip
def test_codes_are_followed(function: Callable[..., torch.Tensor]) -> None:
    row = reached(neurons.QuantisedReLU(4), function)
    assert (row["operand"], row["bits"]) == ("quantised", 4)
    neuron = neurons.QuantisedReLU(4)
    torch.manual_seed(0)
    with torch.no_grad():
        codes = (function(neuron(torch.randn(1, 2, 4, 6, 6))) / neuron.step_size).round()
        scale = codes.max() / 15 if 0 < codes.max() < 4 else 1
    if scale == 1:  # unscaled: the codes can be recomputed here
        bits = sum(((codes.int() >> b) & 1).sum().item() for b in range(4))
        assert row["popcount"] * 2 == bits
        assert row["magnitude"] * 2 == codes.sum().item()


@pytest.mark.parametrize(
    "function", [lambda y: y.mean(0), lambda y: y + 0.3, torch.sigmoid, lambda y: F.avg_pool2d(y.flatten(0, 1), 2)]
)
def test_other_functions_make_codes_real(function: Callable[..., torch.Tensor]) -> None:
    assert reached(neurons.QuantisedReLU(4), function)["operand"] == "real"


def test_sum_of_two_codes_of_one_step_takes_one_bit_more() -> None:
    row = reached(neurons.QuantisedReLU(4), lambda y, z: y + z, second=True)
    assert (row["operand"], row["bits"]) == ("quantised", 5)  # top 30


def test_sum_of_codes_is_aligned_to_the_smaller_step() -> None:
    neuron = neurons.QuantisedReLU(4)
    with torch.no_grad():
        neuron.step_size.mul_(4)
    row = reached(neuron, lambda y, z: y + z, second=True)
    assert (row["operand"], row["bits"]) == ("quantised", 7)  # top 4 * 15 + 15


def test_product_of_codes() -> None:
    row = reached(neurons.QuantisedReLU(4), lambda y, z: y @ z.transpose(-1, -2), second=True)
    assert (row["operand"], row["bits"]) == ("quantised", 11)  # top 6 * 15 * 15 = 1350


def test_residual_sums_of_spikes_are_integers() -> None:
    row = reached(neurons.LIF(), lambda y: y + y.flip(-1) + y, T=4)
    assert (row["operand"], row["bits"]) == ("integer", 2)
    assert row["magnitude"] > row["nonzero"]


def test_scaled_spikes_stay_spikes() -> None:
    row = reached(neurons.LIF(), lambda y: y * 0.3, T=4)
    assert (row["operand"], row["bits"]) == ("binary", 1)
    assert row["magnitude"] == row["nonzero"]


def test_spikes_shifted_off_their_grid_are_real() -> None:
    assert reached(neurons.LIF(), lambda y: y * 0.3 + 0.1, T=4)["operand"] == "real"


def test_popcount() -> None:
    codes = torch.arange(300).float()
    assert popcount(codes).tolist() == [float(bin(i).count("1")) for i in range(300)]
    assert describe(codes).popcount == sum(bin(i).count("1") for i in range(300))


def test_a_tensor_changed_in_place_loses_its_tag() -> None:
    tags = Tags()
    x = torch.zeros(4)
    tags.put(x, grid=Grid(0.5, 3, "codes"))
    assert tags.operand(x).kind == "quantised"
    x.add_(0.3)
    assert tags.of(x).grid is None
    assert tags.operand(x).kind == "real"


def test_views_share_one_description() -> None:
    tags = Tags()
    x = torch.ones(4, 4)
    view = x.view(16)
    tags.follow(x, view)
    assert tags.operand(view) is tags.operand(x)
    part = x[:2]
    tags.follow(x, part)
    assert tags.operand(part).numel == 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.int64])
def test_other_types(dtype: torch.dtype) -> None:
    x = (torch.arange(1000) % 3 == 0).to(dtype)
    found = describe(x)
    assert (found.kind, found.bits, found.nonzero) == ("binary", 1, 334)
