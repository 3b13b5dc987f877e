"""One member of an ensemble: its modules, what they learnt, and how they are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neurons.errors import DataError, ShapeError
from step.learners.places.ensemble import hyperactive
from step.learners.places.ensemble.assignment import labels_of, standard, weighted
from step.learners.places.ensemble.calibrated import background, calibrated
from step.learners.places.ensemble.config import EnsembleConfig
from step.learners.places.ensemble.mean_field import Templates
from step.learners.places.ensemble.modules import (
    EMPTY,
    FROZEN,
    MEMBERSHIP,
    QUERIES,
    RECORD,
    TRAINING,
    WEIGHTS,
    derived,
    membership,
    order_of,
)
from step.learners.places.ensemble.readout import Readout, by_place

if TYPE_CHECKING:
    import pandas as pd

    from neurons.diehl_cook import Modules

REPEATS = 4
"""Times that a place's references are shown to the frozen network, each with spikes of their own."""
KEPT = ("slots", "responses", "trained", "spikes", "presentations", "foreign", "strangers", "fired", "activity")
"""Attributes that are kept with weights and thresholds."""


class Member:
    """Modules that map all places once.

    Parameters
    ----------
    config : EnsembleConfig
    slots : Tensor, shape [M, K]
        Place of each slot of each module, -1 for none.
    inputs : int
        Pixels of an image.
    seed : int
        Seed of everything that this member draws.
    state : dict of str to Tensor, optional
        What its modules are; fresh ones when left out.

    Attributes
    ----------
    modules : Modules
    epoch : int
        Epochs that are over.
    looked : bool
        Whether what follows training is over, too.
    responses : Tensor, shape [M, N, K]
        Mean spikes of each neuron in a presentation of each place, in the last epoch of training.
    trained : Tensor, shape [M, 2]
        Spikes and active neurons of a presentation in that epoch.
    spikes : Tensor, shape [M, N, K]
        Sum over all presentations of each place, ``presentations`` [M, K], to the trained network.
    foreign : Tensor of int64, shape [M, N, 2]
        Spikes of each neuron on recorded images of places that its module does not know, and the number of those
        images on which it fired, out of ``strangers`` [M].
    fired : Tensor of int32, shape [M, N]
        On how many recorded images it answered at all; ``activity`` [M, N], on how many of the whole traverse.
    threshold : float
        From how many images on it is removed, where that is the treatment.
    """

    def __init__(
        self, config: EnsembleConfig, slots: Tensor, inputs: int, seed: int, state: dict[str, Tensor] | None = None
    ) -> None:
        self.config, self.slots, self.inputs, self.seed = config, slots, inputs, seed
        M, K = slots.shape
        N = config.neurons
        self.modules = _modules(config, M, inputs, seed, state)
        self.epoch = 0
        self.looked = False
        self.threshold = float(config.threshold or 0)
        self.responses = torch.zeros(M, N, K)
        self.trained = torch.zeros(M, 2)
        self.spikes = torch.zeros(M, N, K)
        self.presentations = torch.zeros(M, K)
        self.foreign = torch.zeros(M, N, 2, dtype=torch.int64)
        self.strangers = torch.zeros(M, dtype=torch.int64)
        self.fired = torch.zeros(M, N, dtype=torch.int32)
        self.activity = torch.zeros(M, N, dtype=torch.float64)
        self._templates: Templates | None = None
        self._readout: Readout | None = None

    @classmethod
    def fresh(cls, config: EnsembleConfig, places: int, inputs: int, seed: int) -> Member:
        """Return a member that knows which of its modules will hold which places."""
        held = membership(places, config.places_per_module, config.membership, derived(seed, MEMBERSHIP))
        return cls(config, held, inputs, seed)

    @property
    def filled(self) -> Tensor:
        """Slots that hold a place, bool [M, K]."""
        return self.slots != EMPTY

    def learn(self, images: Tensor, progress: Callable[[float], None]) -> Iterator[dict[str, float]]:
        """Learn images [R, P, inputs] of the places; yields a row after each epoch, whose state may then be kept.

        ``progress`` is told the share of an epoch that is done.
        """
        traverses, places, _ = images.shape
        flat = images.flatten(0, 1).contiguous()
        for epoch in range(self.epoch, self.config.epochs):
            start = time.perf_counter()
            order, shown = order_of(self.slots, traverses, places, self.seed, epoch)
            counts = self.modules.train(
                flat, order, seed=derived(self.seed, TRAINING, epoch), counts=True, progress=progress
            )
            assert counts is not None
            self.responses = _mean_responses(counts, shown, self.slots.shape[1])
            seen, sent, active = len(counts), counts.sum((0, 2), dtype=torch.int64), (counts > 0).sum((0, 2))
            self.trained = torch.stack([sent / seen, active / seen], dim=1)
            self.epoch = epoch + 1
            spikes, firing = self.trained.mean(0).tolist()
            yield {"spikes": spikes, "active": firing, "seconds": time.perf_counter() - start}

    def look_back(self, images: Tensor, batch: int) -> None:
        """Show the trained network its own references [R, P, inputs], each module those of its places."""
        M, N, K = self.responses.shape
        where, place = self.filled.nonzero(), self.slots[self.filled]
        spikes = torch.zeros(M, K, N)
        for repeat in range(REPEATS):
            for traverse, seen in enumerate(images):
                seed = derived(self.seed, FROZEN, repeat, traverse)
                for start in range(0, len(place), batch):
                    m, k = where[start : start + batch].unbind(1)
                    shown = seen[place[start : start + batch]]
                    counts = self.modules.respond(shown, seed=seed, first=start, only=m.unsqueeze(1))
                    spikes[m, k] += counts[torch.arange(len(m)), m].float()
        self.spikes = spikes.transpose(1, 2).contiguous()
        self.presentations = self.filled.float() * (REPEATS * len(images))
        self._readout = None

    def record(self, images: Tensor, places: Tensor, of: int, batch: int) -> None:
        """Show all modules images of all places, and count on which of them neurons answer.

        Parameters
        ----------
        images : Tensor, shape [N, inputs]
        places : Tensor, shape [N]
            What they show. For modules that know all of these places their own count as foreign.
        of : int
            Images that a whole traverse has.
        batch : int
        """
        foreign = self._foreign(places)
        self.strangers = foreign.sum(0)
        self.foreign, self.fired = torch.zeros_like(self.foreign), torch.zeros_like(self.fired)
        seed = derived(self.seed, RECORD)
        for start in range(0, len(images), batch):
            rows = slice(start, start + batch)
            counts = self.modules.respond(images[rows], seed=seed, first=start)
            strange = counts * foreign[rows].unsqueeze(2)
            self.foreign += torch.stack([strange.sum(0, dtype=torch.int64), (strange > 0).sum(0)], dim=2)
            self.fired += (counts > 0).sum(0, dtype=torch.int32)
        self.activity = hyperactive.activity(self.fired, len(images), of)
        self._readout = None

    def measure_templates(self, images: Tensor, places: Tensor) -> None:
        """Derive the mean field, for which images [N, inputs] of ``places`` are what is foreign."""
        votes = standard(self.responses)
        found = Templates.of(self.modules.weights, votes.weight, votes.assigned)
        if self.config.treatment == "calibrated" or self.config.gate is not None:
            found = found.calibrated(images, self._foreign(places))
        self._templates = found

    def _foreign(self, places: Tensor) -> Tensor:
        """Which images of ``places`` [N] are foreign to each module: bool [N, M]; all to one that knows them all."""
        held = torch.full((int(self.slots.max()) + 1,), EMPTY)
        held[self.slots[self.filled]] = self.filled.nonzero()[:, 0]
        inside = (places >= 0) & (places < len(held))
        home = torch.where(inside, held[places.clamp(0, len(held) - 1)], EMPTY)
        foreign = home.unsqueeze(1) != torch.arange(len(self.slots))
        return torch.where(foreign.any(dim=0), foreign, torch.ones_like(foreign))

    @property
    def removed(self) -> Tensor:
        """Neurons that are treated as hyperactive, bool [M, N]."""
        return hyperactive.hyperactive(self.activity, self.threshold)

    @property
    def readout(self) -> Readout:
        """How counts become scores."""
        if self._readout is None:
            self._readout = self._read()
        return self._readout

    def _read(self) -> Readout:
        c = self.config
        if c.treatment == "calibrated":
            rate = background(self.foreign[..., 0], self.strangers)
            options = {"smoothing": c.smoothing, "strength": c.strength, "dispersion": c.dispersion}
            return calibrated(self.spikes, self.presentations, rate, **options)
        found = weighted(self.responses, self.filled) if c.assignment == "weighted" else standard(self.responses)
        return found.without(self.removed) if c.treatment == "threshold" else found

    @property
    def templates(self) -> Templates:
        """The mean field."""
        if self._templates is None:
            raise DataError("the mean field of these modules was not derived; map the places first")
        return self._templates

    @property
    def assigned(self) -> Tensor:
        """Slots whose place any neuron speaks for, bool [M, K]."""
        found = self.templates.assigned if self.config.query == "mean-field" else self.readout.assigned
        return found & self.filled

    def counts(self, images: Tensor, first: int, only: Tensor | None = None) -> Tensor:
        """Return spike counts [B, M, N] of queries [B, inputs], the first of which has number ``first``."""
        return self.modules.respond(images, seed=derived(self.seed, QUERIES), first=first, only=only)

    def scores_of(self, counts: Tensor, removed: Tensor) -> Tensor:
        """Return scores [P, B] of spike counts [B, M, N] with neurons [M, N] removed."""
        return by_place(self.readout.without(removed).score(counts), self.slots, self.assigned)

    def scores(self, images: Tensor, first: int) -> Tensor:
        """Return scores [P, B] of queries [B, inputs]."""
        if self.config.query == "mean-field":
            return by_place(self.templates.score(images), self.slots, self.assigned)
        if self.config.gate is None:
            return by_place(self.readout.score(self.counts(images, first)), self.slots, self.assigned)
        only = self.templates.modules(images, self.config.gate)
        scores = self.readout.score(self.counts(images, first, only))
        asked = torch.zeros(scores.shape[:2], dtype=torch.bool).scatter_(1, only, True)
        mean, firing = (self.foreign / self.strangers.view(-1, 1, 1)).unbind(2)
        absent = self.readout.expected(mean.double(), firing.double())
        return by_place(torch.where(asked.unsqueeze(2), scores, absent), self.slots, self.assigned)

    @property
    def numbers(self) -> dict[str, int]:
        """Numbers that answering a query takes, by what they are."""
        found: dict[str, int] = {}
        if self.config.query == "spikes":
            weights, theta = self.modules.weights, self.modules.theta
            found |= {"weights": weights.numel(), "thresholds": theta.numel(), "readout": self.readout.numbers}
        if self.config.query == "mean-field" or self.config.gate is not None:
            found["templates"] = self.templates.numbers
        return found

    def neurons(self, number: int) -> pd.DataFrame:
        """Return a row for each neuron; see :meth:`PlaceEnsemble.details`."""
        import numpy as np
        import pandas as pd

        M, N, _ = self.responses.shape
        heard = self.responses if self.config.treatment != "calibrated" else self.spikes
        label = labels_of(heard if bool(heard.any()) else self.responses)
        place = torch.where(label >= 0, self.slots.gather(1, label.clamp(min=0)), EMPTY)
        voices = self.readout.weight != 0 if self.config.assignment == "weighted" else (label >= 0).unsqueeze(2)
        known = bool(self.activity.any())
        return pd.DataFrame(
            {
                "member": number,
                "module": np.repeat(np.arange(M), N),
                "neuron": np.tile(np.arange(N), M),
                "place": place.flatten().numpy(),
                "places": voices.sum(2).flatten().numpy(),
                "images": self.activity.flatten().numpy() if known else np.nan,
                "hyperactive": self.removed.flatten().numpy(),
            }
        )

    def table(self, number: int) -> pd.DataFrame:
        """Return a row for each module; see :meth:`PlaceEnsemble.details`."""
        import numpy as np
        import pandas as pd

        return pd.DataFrame(
            {
                "member": number,
                "module": np.arange(len(self.slots)),
                "places": self.filled.sum(1).numpy(),
                "unassigned": (self.filled & ~self.assigned).sum(1).numpy(),
                "spikes": self.trained[:, 0].numpy(),
                "active": self.trained[:, 1].numpy(),
            }
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return all that it is but its config and seed."""
        found = {name: getattr(self, name) for name in KEPT}
        found |= {f"modules/{name}": value for name, value in self.modules.state_dict().items()}
        found |= {"epoch": torch.tensor(self.epoch), "looked": torch.tensor(self.looked)}
        found |= {"threshold": torch.tensor(self.threshold, dtype=torch.float64)}
        if self._templates is not None:
            found |= {f"templates/{name}": value for name, value in vars(self._templates).items()}
        return found

    @classmethod
    def restored(cls, config: EnsembleConfig, tensors: dict[str, Tensor], seed: int) -> Member:
        """Return the member that ``tensors`` were taken from.

        Raises
        ------
        DataError
            When they are of a member of another size.
        """
        try:
            slots, inputs = tensors["slots"], tensors["modules/weights"].shape[1]
            found = cls(config, slots, inputs, seed, _under("modules", tensors))
            for name in KEPT:
                setattr(found, name, tensors[name])
            found.epoch, found.threshold = int(tensors["epoch"]), float(tensors["threshold"])
            found.looked = bool(tensors["looked"])
        except KeyError as error:
            raise DataError(f"this is no map of a place ensemble: it lacks {error}") from None
        parts = _under("templates", tensors)
        found._templates = Templates(**parts) if parts else None
        return found

    def joined(self, other: Member) -> Member:
        """Return a member with the modules of another one behind its own; both stay as they are."""
        mine, others = self.tensors(), other.tensors()
        whole = {"epoch", "looked", "threshold"}
        both = {name: value if name in whole else torch.cat([value, others[name]]) for name, value in mine.items()}
        return Member.restored(self.config, both, self.seed)


def _modules(config: EnsembleConfig, modules: int, inputs: int, seed: int, state: dict[str, Tensor] | None) -> Modules:
    from neurons.diehl_cook import Constants, Modules

    plain = Constants()
    least = plain.weight_sum / plain.weight_most
    if inputs <= least:
        raise ShapeError(
            f"a module needs images of more than {least:g} pixels, since its weights sum to {plain.weight_sum:g} and "
            f"none exceeds {plain.weight_most:g}, not {inputs}; make them larger, such as encoder: "
            "{name: view, T: 1, size: 28, window: 7}"
        )
    constants = Constants(image=config.presentation, presynaptic_sign=config.presynaptic_sign)
    number = modules if state is None else 1  # weights that a state replaces need not be drawn
    found = Modules(number, inputs, config.neurons, constants=constants, seed=derived(seed, WEIGHTS), dt=config.dt)
    if state is not None:
        found.load_state_dict(state)
    return found


def _under(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


def _mean_responses(counts: Tensor, shown: Tensor, size: int) -> Tensor:
    """Return mean counts [M, N, K] of presentations, counts [n, M, N], that showed slots ``shown`` [M, n]."""
    hot = (shown.unsqueeze(2) == torch.arange(size)).float()
    total = torch.bmm(counts.permute(1, 2, 0).float(), hot)
    return total / hot.sum(dim=1).clamp(min=1.0).unsqueeze(1)
