"""Many modules of Diehl and Cook side by side: each learns images of its own, all answer the same queries."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurons.diehl_cook import fallback
from neurons.diehl_cook.constants import Constants, Steps, steps
from neurons.diehl_cook.delays import GROUP, delays
from neurons.diehl_cook.kernel import call, library, why_not
from neurons.diehl_cook.raster import keys, poisson_rates
from neurons.diehl_cook.source import TOGETHER
from neurons.errors import OptionError, ShapeError

_INITIAL, _TRAIN, _RESPOND = 1, 2, 3
"""What random numbers are for."""
_CHUNK = 50
"""Presentations between two reports of progress."""


class Modules:
    """Modules of inputs, excitatory and inhibitory neurons that compete, learn by plasticity and answer by spikes.

    The network of Diehl and Cook (2015) with the constants of Hussaini et al. (RA-L 2022, ICRA 2023, T-RO 2025), see
    :class:`neurons.diehl_cook.Constants`. Modules know nothing of each other, and what one does depends on its number
    and the seed, not on how many there are, on the batch or the threads. Equations are those of
    :class:`neurons.diehl_cook.Reference`, with delays of the input for 16 neurons at a time, in float32.

    Parameters
    ----------
    modules, inputs, neurons : int
        Numbers of modules, of inputs and of excitatory neurons of each (and as many inhibitory ones).
    constants : Constants
    seed : int
        Of the initial weights.
    dt : float
        Time step in ms: 0.1 as published, or a longer one of ``neurons.diehl_cook.STEPS``.
    threads : int, optional
        Threads over modules; those of torch when left out.
    double : bool
        Compute in float64: slower, for comparison with the reference.

    Attributes
    ----------
    weights : Tensor, shape [modules, inputs, neurons]
    theta : Tensor, shape [modules, neurons]
        Adaptive part of the thresholds in mV.
    delays : Tensor of uint8, shape [inputs, neurons / 16]
        Time steps from an input to each group of 16 neurons, the same in all modules.

    Raises
    ------
    OptionError
    """

    def __init__(
        self,
        modules: int,
        inputs: int,
        neurons: int = 400,
        *,
        constants: Constants = Constants(),  # noqa: B008  (frozen)
        seed: int = 0,
        dt: float = 0.1,
        threads: int | None = None,
        double: bool = False,
    ) -> None:
        for name, value, most in (("modules", modules, None), ("inputs", inputs, 65535), ("neurons", neurons, 4096)):
            if value < 1 or (most is not None and value > most):
                raise OptionError(f"{name} must be at least 1{f' and at most {most}' if most else ''}, not {value}")
        if threads is not None and threads < 1:
            raise OptionError(f"threads must be at least 1, not {threads}")
        self.constants, self.dt, self.inputs, self.neurons, self.threads = constants, dt, inputs, neurons, threads
        self.steps: Steps = steps(constants, dt)
        self.dtype = torch.float64 if double else torch.float32
        self._padded = -(-neurons // GROUP) * GROUP
        self.delays = delays(inputs, neurons, constants, dt)
        self._tensors: dict[str, Tensor] = {}
        self._extend(torch.arange(modules), seed)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def numbers(self) -> Tensor:
        """Which module each is, int64 [modules]: what is drawn for it depends on that."""
        return self._tensors["numbers"]

    @property
    def weights(self) -> Tensor:
        """Weights of the input [modules, inputs, neurons]; changes of it are changes of the modules."""
        return self._tensors["weights"][..., : self.neurons]

    @weights.setter
    def weights(self, value: Tensor) -> None:
        self.weights.copy_(value)

    @property
    def theta(self) -> Tensor:
        """Adaptive part of the thresholds in mV [modules, neurons]."""
        return self._tensors["theta"][..., : self.neurons]

    @theta.setter
    def theta(self, value: Tensor) -> None:
        self.theta.copy_(value)

    def train(
        self,
        images: Tensor,
        order: Tensor,
        *,
        seed: int,
        progress: Callable[[float], None] | None = None,
        counts: bool = False,
    ) -> Tensor | None:
        """Show images to the modules, each its own, and let them learn weights and thresholds.

        Before each image the weights of a neuron are scaled to their sum. State goes on from image to image, and from
        call to call. Spikes in the silence after an image, about one in a hundred, count to none; in the released
        code, to the next one.

        Parameters
        ----------
        images : Tensor, shape [N, inputs]
            Values in [0, 1].
        order : Tensor of int64, shape [modules, presentations]
            Which image each module sees when.
        seed : int
            Of the input spikes, which depend on it, the number of the module and that of the presentation in this
            call: another call wants another seed.
        progress : callable, optional
            Called with the share that is done.
        counts : bool
            Return the spikes.

        Returns
        -------
        Tensor of uint8, shape [presentations, modules, neurons], or None
            Spikes of each presentation.

        Raises
        ------
        ShapeError, OptionError
        """
        chance = self._chance(images)
        if order.dim() != 2 or len(order) != len(self) or order.dtype != torch.int64:
            raise ShapeError(
                f"order must be int64 [{len(self)} modules, presentations], not {order.dtype} {list(order.shape)}"
            )
        if order.numel() and not 0 <= int(order.min()) <= int(order.max()) < len(images):
            raise OptionError(
                f"order names images from 0 to {len(images) - 1}, found {int(order.min())} to {int(order.max())}"
            )
        given = order.shape[1]
        drawn = keys(seed, _TRAIN, self.numbers[:, None], torch.arange(given)[None])
        seen = torch.zeros(given if counts else 0, len(self), self.neurons, dtype=torch.uint8)
        for start in range(0, given, _CHUNK):
            part = slice(start, min(start + _CHUNK, given))
            mine, words = order[:, part].contiguous(), drawn[:, part].contiguous()
            found = self._call(
                "train",
                {**self._tensors, "chance": chance, "order": mine, "keys": words},
                {"presentations": mine.shape[1]},
                torch.zeros(mine.shape[1], len(self), self.neurons, dtype=torch.uint8),
            )
            if counts:
                seen[part] = found
            if progress is not None:
                progress(part.stop / given)
        return seen if counts else None

    def respond(self, images: Tensor, *, seed: int, first: int = 0, only: Tensor | None = None) -> Tensor:
        """Return how often each neuron spikes for each image, with weights and thresholds frozen.

        Every image meets modules at rest, so that its answer depends on nothing but itself; the published code lets
        potentials go on through 150 ms of silence, after which a fifth of them is left. What would follow in the
        silence is left out. All modules see the same input spikes.

        Parameters
        ----------
        images : Tensor, shape [B, inputs]
            Values in [0, 1].
        seed : int
            Of the input spikes, which depend on it and the number of the image.
        first : int
            Number of the first image.
        only : Tensor of int64, shape [B, k], optional
            Modules that are simulated for each image; others answer 0.

        Returns
        -------
        Tensor of uint8, shape [B, modules, neurons]

        Raises
        ------
        ShapeError, OptionError
        """
        return self._answers(images, seed, first, only)[0]

    def cost(self, images: Tensor, *, seed: int = 0, only: Tensor | None = None) -> dict[str, float]:
        """Return what one image makes the modules do, in the mean over images [B, inputs] and frozen.

        Returns
        -------
        dict of str to float
            ``time_steps`` of the image; ``input_spikes``; of all modules together: ``excitatory_spikes`` and
            ``inhibitory_spikes``; ``synaptic_events`` of the input (input spikes times neurons), ``lateral_events``
            (an excitatory spike reaches one partner, an inhibitory one all other neurons), ``neuron_updates`` of
            excitatory and inhibitory neurons, one for each step; ``modules`` that were simulated; and what learning
            would do more with as many spikes: ``plastic_updates``, one of each neuron's weight at an input spike, and
            of each input's weight at an excitatory spike.
        """
        _, events, shown = self._answers(images, seed, 0, only)
        total = self.steps.image
        simulated = shown.sum(1).to(torch.float64).mean().item()
        given, excitatory, inhibitory = (
            (events[..., each] * shown).to(torch.float64).sum(1).mean().item() for each in range(3)
        )
        per_image = (events[..., 0].amax(1)).to(torch.float64).mean().item()
        return {
            "time_steps": float(total),
            "modules": simulated,
            "input_spikes": per_image,
            "excitatory_spikes": excitatory,
            "inhibitory_spikes": inhibitory,
            "synaptic_events": given * self.neurons,
            "lateral_events": excitatory + inhibitory * (self.neurons - 1),
            "neuron_updates": 2.0 * total * self.neurons * simulated,
            "plastic_updates": given * self.neurons + excitatory * self.inputs,
        }

    def subset(self, which: Tensor) -> Modules:
        """Return some of the modules, copies that stay what they are by number."""
        return self._like({name: tensor[which].clone() for name, tensor in self._tensors.items()})

    @staticmethod
    def cat(parts: Iterable[Modules]) -> Modules:
        """Return the modules of several, copied, one after the other.

        Raises
        ------
        OptionError
            When they differ in size, constants or time step.
        """
        parts = list(parts)
        if not parts:
            raise OptionError("there are no modules to put together")
        one = parts[0]
        for other in parts[1:]:
            if (other.inputs, other.neurons, other.constants, other.dt, other.dtype) != (
                one.inputs, one.neurons, one.constants, one.dt, one.dtype,
            ):  # fmt: skip
                raise OptionError("modules that are put together must have the same size, constants and time step")
        return one._like({name: torch.cat([part._tensors[name] for part in parts]) for name in one._tensors})

    def grow(self, modules: int, seed: int) -> None:
        """Append fresh modules, numbered on.

        Raises
        ------
        OptionError
        """
        if modules < 1:
            raise OptionError(f"modules must be at least 1, not {modules}")
        start = int(self.numbers.max()) + 1
        self._extend(torch.arange(start, start + modules), seed)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the modules are, copied: weights, thresholds, potentials, last spikes, numbers."""
        return {name: self._narrowed(name).clone().contiguous() for name in self._tensors}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Become what ``state_dict`` said, with as many modules as it holds.

        Raises
        ------
        ShapeError
            When tensors are missing or do not fit.
        """
        if missing := self._tensors.keys() - tensors.keys():
            raise ShapeError(f"modules need the tensors {', '.join(sorted(missing))} too")
        count = len(tensors["numbers"])
        fresh = self._blank(torch.as_tensor(tensors["numbers"]))
        for name, own in fresh.items():
            given = tensors[name]
            target = own[..., : self.neurons] if own.shape[-1] == self._padded and name in _PADDED else own
            if given.shape != target.shape:
                raise ShapeError(f"{name} of {count} modules must be {list(target.shape)}, not {list(given.shape)}")
            target.copy_(given)
        self._tensors = fresh

    def _narrowed(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        return tensor[..., : self.neurons] if name in _PADDED else tensor

    def _like(self, tensors: dict[str, Tensor]) -> Modules:
        made = Modules.__new__(Modules)
        made.__dict__.update(self.__dict__)
        made._tensors = tensors
        return made

    def _blank(self, numbers: Tensor) -> dict[str, Tensor]:
        c, s, count = self.constants, self.steps, len(numbers)
        start = -c.start_below
        v = c.rest_e + start * (1.0 - s.leak_e) ** s.settle
        v_i = c.rest_i + start * (1.0 - s.leak_i) ** s.settle
        shape = (count, self._padded)
        return {
            "weights": torch.zeros(count, self.inputs, self._padded, dtype=self.dtype),
            "theta": torch.full(shape, c.theta_start, dtype=self.dtype),
            "v": torch.full(shape, v - c.reversal_e, dtype=self.dtype),
            "v_i": torch.full(shape, v_i - c.reversal_e, dtype=self.dtype),
            "last_post": torch.full(shape, _NEVER),
            "last_pre": torch.full((count, self.inputs), _NEVER),
            "clock": torch.zeros(count, dtype=torch.int64),
            "numbers": numbers.to(torch.int64).clone(),
        }

    def _extend(self, numbers: Tensor, seed: int) -> None:
        fresh = self._blank(numbers)
        c = self.constants
        for row, key in zip(fresh["weights"], keys(seed, _INITIAL, numbers).tolist(), strict=True):
            generator = np.random.Generator(np.random.Philox(key=key & (2**64 - 1)))
            uniform = torch.from_numpy(generator.random((self.inputs, self.neurons)))
            row[:, : self.neurons] = c.weight_start * (uniform + c.weight_floor)
        self._tensors = {
            name: torch.cat([self._tensors[name], tensor]) if name in self._tensors else tensor
            for name, tensor in fresh.items()
        }

    def _chance(self, images: Tensor) -> Tensor:
        if images.dim() != 2 or images.shape[1] != self.inputs:
            raise ShapeError(f"images must be [N, {self.inputs} inputs], not {list(images.shape)}")
        chance = poisson_rates(images.detach().cpu(), self.constants) * (self.dt / 1000.0)
        if chance.numel() and float(chance.max()) >= 1.0:
            raise OptionError(f"full_rate: an input spikes at most once in {self.dt:g} ms")
        return chance.contiguous()

    def _answers(self, images: Tensor, seed: int, first: int, only: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        chance, count = self._chance(images), len(images)
        shown = torch.ones(count, len(self), dtype=torch.bool)
        if only is not None:
            if only.dim() != 2 or len(only) != count or only.dtype != torch.int64:
                raise ShapeError(f"only must be int64 [{count} images, k], not {only.dtype} {list(only.shape)}")
            if only.numel() and not 0 <= int(only.min()) <= int(only.max()) < len(self):
                raise OptionError(f"only names modules from 0 to {len(self) - 1}")
            shown = torch.zeros_like(shown).scatter_(1, only, True)
        drawn = keys(seed, _RESPOND, torch.arange(first, first + count))
        counts = torch.zeros(count, len(self), self.neurons, dtype=torch.uint8)
        events = torch.zeros(count, len(self), 3, dtype=torch.int64)
        frozen = {name: self._tensors[name] for name in ("weights", "theta")}
        image, module = shown.nonzero(as_tuple=True)
        by_weights = torch.argsort(image // TOGETHER * len(self) + module, stable=True)
        arrays = {
            **frozen, "chance": chance, "keys": drawn, "job_module": module[by_weights], "job_image": image[by_weights],
            "events": events,
        }  # fmt: skip
        self._call("respond", arrays, {"jobs": len(module), "images": count}, counts)
        return counts, events, shown

    def _call(self, name: str, arrays: dict[str, Tensor], numbers: dict[str, float], counts: Tensor) -> Tensor:
        found = library(self.dtype == torch.float64)
        if found is None:
            warnings.warn(f"modules run in NumPy, hundreds of times slower: {why_not()}", stacklevel=4)
            getattr(fallback, name)(self, arrays, counts)
            return counts
        arrays = {key: tensor for key, tensor in arrays.items() if key != "numbers"}
        arrays |= self._traces() | {"counts": counts, "later": self.delays}
        call(found, f"step_{name}", arrays, {**self._numbers(), **numbers})
        return counts

    def _traces(self) -> dict[str, Tensor]:
        c = self.constants
        age = torch.arange(self._reach(), dtype=torch.float64) * self.dt
        return {
            f"trace_{name}": torch.exp(-age / tau).to(self.dtype)
            for name, tau in (("pre", c.tau_pre), ("fast", c.tau_post_fast), ("slow", c.tau_post_slow))
        }

    def _reach(self) -> int:
        """Steps after which a trace is as good as gone: the numbers of a weight have no digits left for it."""
        c = self.constants
        digits = 40.0 if self.dtype == torch.float64 else 14.0
        return int(digits * max(c.tau_pre, c.tau_post_fast, c.tau_post_slow) / self.dt)

    def _numbers(self) -> dict[str, Any]:
        c, s, zero = self.constants, self.steps, self.constants.reversal_e
        return {
            "rest_e": c.rest_e - zero, "reset_e": c.reset_e - zero, "base": c.base_e - c.offset - zero,
            "theta_plus": c.theta_plus, "keep_theta": s.keep_theta, "leak_e": s.leak_e, "mean_ge": s.mean_ge,
            "keep_ge": s.keep_ge, "mean_gi": s.mean_gi, "keep_gi": s.keep_gi,
            "reversal_inhibition": c.reversal_inhibition - zero, "rest_i": c.rest_i - zero,
            "reset_i": c.reset_i - zero, "threshold_i": c.threshold_i - zero, "leak_i": s.leak_i, "excite": c.excite,
            "inhibit": c.inhibit, "rate_pre": c.rate_pre * c.presynaptic_sign, "rate_post": c.rate_post,
            "weight_most": c.weight_most, "weight_sum": c.weight_sum,
            "least": 1e-15 if self.dtype == torch.float64 else 1e-9, "inputs": self.inputs, "neurons": self.neurons,
            "padded": self._padded, "image": s.image, "silence": s.silence, "hold_e": s.hold_e, "hold_i": s.hold_i,
            "interval": s.interval, "threads": self.threads or torch.get_num_threads(), "reach": self._reach(),
            "modules": len(self),
        }  # fmt: skip


_NEVER = -(1 << 40)
_PADDED = ("weights", "theta", "v", "v_i", "last_post")
