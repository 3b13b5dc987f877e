"""Whole networks under torch.compile: one graph, without a break at the neurons or the products."""

import pytest
import torch

from step import models


@pytest.mark.parametrize("name", ["spikformer", "sdt", "qkformer"])
def test_a_network_is_one_graph(name):
    torch._dynamo.reset()
    network = models.create(name, size="digits", neuron="lif", seed=0)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(4, 2, 1, 8, 8)
    compiled = torch.compile(network, fullgraph=True, backend="eager")  # fullgraph: a break is an error
    results = []
    for call in (network, compiled):
        network.zero_grad()
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.reset_running_stats()
        out = call(x)
        out.square().sum().backward()
        results.append((out.detach(), next(network.parameters()).grad.clone()))
    (plain, gradient), (captured, its_gradient) = results
    torch.testing.assert_close(captured, plain)
    torch.testing.assert_close(its_gradient, gradient)
