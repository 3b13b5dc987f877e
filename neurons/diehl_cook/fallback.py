"""What :class:`neurons.diehl_cook.Modules` runs where there is no C compiler: the reference, module by module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurons.diehl_cook.delays import GROUP
from neurons.diehl_cook.raster import drawn
from neurons.diehl_cook.reference import Reference

if TYPE_CHECKING:
    from neurons.diehl_cook.modules import Modules

_WORD = (1 << 64) - 1


def respond(modules: Modules, arrays: dict[str, Tensor], counts: Tensor) -> None:
    """Do what ``step_respond`` does in C."""
    made: dict[int, Reference] = {}
    rasters = {}
    for m, b in zip(arrays["job_module"].tolist(), arrays["job_image"].tolist(), strict=True):
        if m not in made:  # jobs are in the order of modules
            made = {m: _reference(modules, arrays, m)}
        if b not in rasters:
            rasters[b] = drawn(arrays["chance"][b].numpy(), int(arrays["keys"][b]) & _WORD, modules.steps.image)
        one = made[m]
        one.rest()
        start = one.now
        counts[b, m] = torch.from_numpy(one.present(rasters[b])).to(torch.uint8)
        end = start + modules.steps.image
        spikes = (sum(start <= t < end for t, _ in all_of_them) for all_of_them in (one.spikes, one.spikes_inhibitory))
        arrays["events"][b, m] = torch.tensor([len(rasters[b].inputs), *spikes])


def train(modules: Modules, arrays: dict[str, Tensor], counts: Tensor) -> None:
    """Do what ``step_train`` does in C."""
    N = modules.neurons
    zero = modules.constants.reversal_e
    for m in range(len(modules)):
        one = _reference(modules, arrays, m)
        one.rest()
        one.now = int(arrays["clock"][m])
        one.v, one.v_inhibitory = (arrays[name][m, :N].double().numpy() + zero for name in ("v", "v_i"))
        one.last_spike = arrays["last_post"][m, :N].numpy().copy()
        one.last_input = arrays["last_pre"][m].numpy()[:, None] + _later(modules)
        for p, (which, key) in enumerate(zip(arrays["order"][m].tolist(), arrays["keys"][m].tolist(), strict=True)):
            raster = drawn(arrays["chance"][which].numpy(), key & _WORD, modules.steps.image)
            counts[p, m] = torch.from_numpy(one.present(raster, learn=True)).to(torch.uint8)
        for name, value in (("v", one.v - zero), ("v_i", one.v_inhibitory - zero), ("last_post", one.last_spike)):
            arrays[name][m, :N] = torch.from_numpy(np.asarray(value))
        arrays["weights"][m, :, :N] = torch.from_numpy(one.weights)
        arrays["theta"][m, :N] = torch.from_numpy(one.theta)
        arrays["last_pre"][m] = torch.from_numpy((one.last_input - _later(modules))[:, 0])
        arrays["clock"][m] = one.now


def _reference(modules: Modules, arrays: dict[str, Tensor], m: int) -> Reference:
    weights, theta = arrays["weights"][m, :, : modules.neurons], arrays["theta"][m, : modules.neurons]
    delays = _later(modules) * modules.dt
    return Reference(weights.numpy(), theta.numpy(), constants=modules.constants, dt=modules.dt, delays=delays)


def _later(modules: Modules) -> NDArray[np.int64]:
    """Delays of all synapses in steps."""
    return np.repeat(modules.delays.numpy().astype(np.int64), GROUP, axis=1)[:, : modules.neurons]
