"""Counting conventions of convolutions: the published example, and brute force."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import energy

CONVENTIONS = ["exact", "nominal", "fan_out", "kernel"]


def mac(network: nn.Module, x: torch.Tensor) -> dict:
    record = energy.measure(network, x)
    return record.operations[record.operations["op"] == "mac"].iloc[0].to_dict()


@pytest.mark.parametrize(
    ("stride", "expected"), [(1, [100, 144, 144, 144]), (2, [25, 36, 64, 144])], ids=["stride 1", "stride 2"]
)
def test_one_map_of_ones(stride: int, expected: list[int]) -> None:
    found = mac(nn.Conv2d(1, 1, 3, stride, padding=1, bias=False), torch.ones(1, 1, 1, 4, 4)[0])
    assert [found[c] for c in CONVENTIONS] == expected
    assert found["dense"] == expected[0]
    assert found["dense_nominal"] == expected[1]


GRID = list(itertools.product([1, 2, 3], [0, 1, 2], [1, 2], [1, 2, 4]))


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), GRID)
def test_convolution_against_brute_force(stride: int, padding: int, dilation: int, groups: int) -> None:
    torch.manual_seed(stride + 10 * padding + 100 * dilation + groups)
    conv = nn.Conv2d(4, 8, (3, 2), stride, padding, dilation, groups, bias=False)
    x = (torch.rand(3, 4, 9, 7) < 0.3).float()
    ones = torch.ones_like(conv.weight)
    # The convolution takes its batch where T stands, so totals over all samples are compared.
    record = energy.measure(conv, x)
    found, samples = record.products.iloc[0], record.provenance["samples"]
    reference = F.conv2d(x, ones, None, stride, padding, dilation, groups)
    dense = F.conv2d(torch.ones_like(x), ones, None, stride, padding, dilation, groups)
    assert found["exact"] * samples == reference.sum().item()
    assert found["dense"] * samples == dense.sum().item()
    assert found["dense_nominal"] * samples == reference.numel() * 4 * 6 / groups
    assert found["nominal"] == pytest.approx(found["dense_nominal"] * x.mean().item())
    assert found["kernel"] * samples == x.sum().item() * 8 / groups * 6
    assert found["fan_out"] * samples == x.sum().item() * 8 / groups * -(-3 // stride) * -(-2 // stride)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(3, 5, 4, stride=2, padding=1, bias=False), (2, 3, 11)),
        (nn.Conv3d(2, 4, 3, stride=(1, 2, 1), padding=1, groups=2, bias=False), (2, 2, 4, 5, 6)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False), (2, 4, 5, 5)),
        (nn.Conv2d(3, 4, 3, padding="same", bias=False), (2, 3, 5, 5)),
    ],
    ids=["1d", "3d", "transposed", "same"],
)
def test_other_convolutions_against_brute_force(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = (torch.rand(shape) < 0.4).float()
    record = energy.measure(layer, x)
    found = record.products.iloc[0]
    samples = record.provenance["samples"]
    with torch.no_grad():
        layer.weight.fill_(1.0)
        assert found["exact"] * samples == pytest.approx(layer(x).sum().item())
        assert found["dense"] * samples == pytest.approx(layer(torch.ones_like(x)).sum().item())


def test_integers_and_codes_are_weighted_exactly() -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False)
    x = torch.randint(0, 7, (4, 2, 6, 6)).float()
    record = energy.measure(conv, x)
    found, samples = record.products.iloc[0], record.provenance["samples"]
    ones = torch.ones_like(conv.weight)
    bits = sum(((x.int() >> b) & 1) for b in range(3)).float()
    assert found["operand"] == "integer"
    assert found["bits"] == 3
    assert found["exact"] * samples == F.conv2d((x != 0).float(), ones, None, 2, 1).sum().item()
    assert found["events_exact"] * samples == F.conv2d(x, ones, None, 2, 1).sum().item()
    assert found["planes_exact"] * samples == F.conv2d(bits, ones, None, 2, 1).sum().item()
    assert found["magnitude"] * samples == x.sum().item()
    assert found["popcount"] * samples == bits.sum().item()


def test_linear_conventions_agree() -> None:
    torch.manual_seed(0)
    x = (torch.rand(4, 3, 20) < 0.2).float()
    found = mac(nn.Linear(20, 7), x)
    assert {round(found[c], 6) for c in CONVENTIONS} == {round(x.sum().item() * 7 / 3, 6)}
