"""What restatements of models from their equations need: float64 arithmetic, one step and one sample at a time."""

import torch
import torch.nn.functional as F

from step import models


def alive(name, neuron="lif", seed=0, **options):
    """A network with norms that do something: fresh ones would leave a spiking network in eval mode silent."""
    network = models.create(name, neuron=neuron, seed=seed, **options)
    generator = torch.Generator().manual_seed(seed + 1)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.weight.data.uniform_(1, 3, generator=generator)
            module.bias.data.uniform_(-0.2, 0.6, generator=generator)
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.01, 0.5, generator=generator)
    return network.eval()


class Plain:
    """The weights of a network, and layers restated on one sample: maps [C, H, W], tokens [N, C].

    Potentials are kept by name; ``rest()`` begins a new sample.
    """

    def __init__(self, network):
        self.weights = {name: value.double() for name, value in network.state_dict().items()}
        self.potentials = {}

    def __getitem__(self, name):
        return self.weights[name]

    def rest(self):
        self.potentials.clear()

    def lif(self, name, h, threshold=1.0, tau=2.0):
        """Decay towards the input, fire at the threshold, hard reset to 0."""
        v = self.potentials.get(name, torch.zeros_like(h))
        v = v + (h - v) / tau
        spikes = (v >= threshold).double()
        self.potentials[name] = v * (1 - spikes)
        return spikes

    def norm(self, name, y, axis):
        """Batch norm in eval mode, channels along ``axis``."""
        shape = [1] * y.dim()
        shape[axis] = -1
        weight, bias = self[f"{name}.weight"].view(shape), self[f"{name}.bias"].view(shape)
        mean, var = self[f"{name}.running_mean"].view(shape), self[f"{name}.running_var"].view(shape)
        return (y - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def conv(self, name, y, stride=1, groups=1):
        """ConvNorm on a map [C, H, W]."""
        weight = self[f"{name}.conv.weight"]
        padding = (weight.shape[-2] // 2, weight.shape[-1] // 2)
        y = F.conv2d(y[None], weight, stride=stride, padding=padding, groups=groups)[0]
        return self.norm(f"{name}.norm", y, 0)

    def linear(self, name, y):
        """LinearNorm on tokens [N, C]."""
        bias = self.weights.get(f"{name}.linear.bias", 0)
        return self.norm(f"{name}.norm", y @ self[f"{name}.linear.weight"].T + bias, 1)

    @staticmethod
    def pool(y):
        """Max-pooling 3x3, stride 2, padding 1, on a map [C, H, W]."""
        return F.max_pool2d(y[None], 3, 2, 1)[0]
