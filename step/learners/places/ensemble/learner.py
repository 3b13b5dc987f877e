"""Ensembles of small spiking modules, each of which learns a few places by STDP."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neurons.errors import DataError, OptionError, ShapeError
from step.learners import checkpoint
from step.learners.base import Progress, learners
from step.learners.places.base import Calibration, PlaceLearner
from step.learners.places.ensemble import hyperactive, operations
from step.learners.places.ensemble.config import EnsembleConfig
from step.learners.places.ensemble.member import Member
from step.learners.places.ensemble.modules import (
    ADDED,
    CALIBRATION,
    EMPTY,
    MEMBERSHIP,
    SAMPLE,
    derived,
    membership,
    sample,
)
from step.learners.places.ensemble.readout import distribution

if TYPE_CHECKING:
    import pandas as pd

    import energy

KEEP_SECONDS = 30.0
"""The state is kept after an epoch when so much time has passed since it was last."""


@learners.register("place-ensemble")
class PlaceEnsemble(PlaceLearner):
    """Place recognition by many small spiking modules (Hussaini et al., RA-L 2022, ICRA 2023, T-RO 2025).

    A module of 784 inputs, 400 excitatory and 400 inhibitory neurons (:mod:`neurons.diehl_cook`) learns 25 places by
    STDP from Poisson spikes of their images. Modules know nothing of each other; a query is shown to all, and what
    their neurons answer becomes a score for every place. In every module some neuron wins, whether it knows the
    place or not, so that what is done about neurons that win on everything (``treatment``) decides how far an
    ensemble scales.

    Parameters
    ----------
    network : None
    config : EnsembleConfig
    seed : int
        Seed of membership, weights, order and all input spikes.
    checkpoint_file : Path, optional
        Where the state is kept between epochs; a file that is already there is gone on from, to the same numbers.
    progress : callable, optional

    Attributes
    ----------
    places : int
        Places of the map.
    members : list of Member
    chosen : list of dict
        For each member, recall at 1 on calibration queries by threshold; empty where nothing was chosen.
    """

    Config = EnsembleConfig
    spiking = True

    def __init__(
        self,
        network: None,
        config: EnsembleConfig,
        *,
        seed: int = 0,
        checkpoint_file: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(network, config, seed=seed, checkpoint_file=checkpoint_file, progress=progress)
        self.config: EnsembleConfig = config
        self.places = 0
        self.members: list[Member] = []
        self.chosen: list[dict[int, float]] = []
        self.blocks = 0
        self._images = torch.zeros(0, 0)
        self._recorded = torch.zeros(0, dtype=torch.int64)
        self._kept_at = -float("inf")

    def map_places(self, references: Tensor, calibration: Calibration | None = None) -> None:
        images = _flat(references)
        self.places, self.blocks = images.shape[1], 1
        self.members, self.chosen, self.history = [], [], []
        if self.config.chooses and calibration is None:
            raise OptionError(
                "learner: place-ensemble chooses its threshold on calibration places, and there are none; set "
                "learner.threshold, or learner.treatment: calibrated"
            )
        self._recorded = sample(self.places, self.config.record, derived(self.seed, SAMPLE))
        self._images = images[0, self._recorded]
        kept = self._read_kept()
        for number in range(self.config.members):
            share = self._choose(number, calibration, kept) if self.config.chooses and calibration is not None else None
            member = self._member(number, kept, "map", images)
            if share is not None:
                member.threshold = share * self.places
            self.members.append(member)
        self._warn_of_unassigned()

    def add_places(self, references: Tensor) -> None:
        """Learn further places [R, P, C, H, W] in modules of their own; those that are there are not touched.

        The new modules see the recorded images of all places, old and new. For old modules new places are as foreign
        as the others were; they keep their record.
        """
        images = _flat(references)
        if not self.members:
            raise OptionError("learner: place-ensemble adds places to a map; map some first")
        if images.shape[2] != self.members[0].inputs:
            raise ShapeError(
                f"further places must have images of {self.members[0].inputs} pixels, not {images.shape[2]}"
            )
        added = images.shape[1]
        chosen = sample(added, self.config.record, derived(self.seed, SAMPLE, self.blocks))
        self._images = torch.cat([self._images, images[0, chosen]])
        self._recorded = torch.cat([self._recorded, chosen + self.places])
        total = self.places + added
        fresh = []
        for number, old in enumerate(self.members):
            seed = derived(self.seed, number, ADDED, self.blocks)
            held = membership(added, self.config.places_per_module, self.config.membership, derived(seed, MEMBERSHIP))
            member = Member(self.config, held, images.shape[2], seed)
            self._learn(member, images, lambda: None)
            self._look(member, images, self._images, self._recorded - self.places, total)
            member.slots = torch.where(held != EMPTY, held + self.places, held)
            member.threshold = old.threshold
            fresh.append(member)
        self.members = [old.joined(new) for old, new in zip(self.members, fresh, strict=True)]
        self.places, self.blocks = total, self.blocks + 1
        self._warn_of_unassigned()

    def similarity(self, queries: Tensor, first: int = 0) -> Tensor:
        if not self.members:
            raise OptionError("learner: place-ensemble must map places before it is asked for one")
        images = queries.flatten(1)
        if images.shape[1] != self.members[0].inputs:
            raise ShapeError(
                f"queries must have {self.members[0].inputs} pixels as the references, not {images.shape[1]}"
            )
        total = torch.zeros(self.places, len(images), dtype=torch.float64)
        for member in self.members:
            scores = member.scores(images, first)
            if self.config.probability:
                log = self.config.treatment == "calibrated" and self.config.query == "spikes"
                scores = scores.softmax(dim=0) if log else distribution(scores)
            total += scores
        return total.float()

    def _member(self, number: int, kept: dict[str, Tensor], stage: str, images: Tensor) -> Member:
        """Return a member that has learned places [R, P, inputs], from where it was kept."""
        seed = derived(self.seed, number) if stage == "map" else derived(self.seed, number, CALIBRATION)
        name = f"{stage}-{number}"
        mine = checkpoint.without_prefix(name, kept)
        if mine:
            member = Member.restored(self.config, mine, seed)
            if int((member.slots != EMPTY).sum()) != images.shape[1] or member.inputs != images.shape[2]:
                raise DataError(f"{self.file} is the state of another map; delete it to start that run anew")
        else:
            member = Member.fresh(self.config, images.shape[1], images.shape[2], seed)

        def keep() -> None:
            self._keep(name, member, kept)

        self._learn(member, images, keep)
        record, places = self._images, self._recorded
        if stage != "map":
            record, places = images[0], torch.arange(images.shape[1])
        if not member.looked:
            self._look(member, images, record, places, images.shape[1])
        if self.file is not None:
            kept |= checkpoint.with_prefix(name, member.tensors())
        return member

    def _learn(self, member: Member, images: Tensor, keep: Callable[[], None]) -> None:
        epochs = self.config.epochs

        def tell(share: float) -> None:
            self.progress({"epoch": member.epoch, "epochs": epochs, "share": share})

        for row in member.learn(images, tell):
            self.history.append(row)
            self.progress({"epoch": member.epoch, "epochs": epochs, **row})
            keep()

    def _look(self, member: Member, images: Tensor, record: Tensor, places: Tensor, of: int) -> None:
        """Count what the trained modules answer to their own places and to others, as far as the config asks."""
        start = time.perf_counter()
        c = self.config
        if c.treatment == "calibrated" and c.query == "spikes":
            self.progress({"stage": "showing references to the trained modules"})
            member.look_back(images, c.batch)
        if c.needs_record:
            if c.query == "spikes" or c.treatment == "threshold":
                self.progress({"stage": "recording which neurons answer"})
                member.record(record, places, of, c.batch)
            if c.query == "mean-field" or c.gate is not None:
                member.measure_templates(record, places)
        member.looked = True
        self.history[-1]["seconds"] += time.perf_counter() - start

    def _choose(self, number: int, calibration: Calibration, kept: dict[str, Tensor]) -> float:
        """Return the threshold with the best recall on calibration places, as a share of the images of a traverse."""
        member = self._member(number, kept, "calibration", _flat(calibration.references))
        queries = calibration.queries.flatten(1)
        start = time.perf_counter()
        counts = [member.counts(queries[at : at + self.batch], at) for at in range(0, len(queries), self.batch)]

        def recall(removed: Tensor) -> float:
            scores = torch.cat([member.scores_of(each, removed) for each in counts], dim=1)
            return hyperactive.recall_at_1(scores, calibration.truth)

        found, table = hyperactive.chosen(member.activity, recall)
        self.chosen.append(table)
        self.history[-1]["seconds"] += time.perf_counter() - start
        return found / calibration.references.shape[1]

    def _keep(self, name: str, member: Member, kept: dict[str, Tensor]) -> None:
        if self.file is None or time.monotonic() - self._kept_at < KEEP_SECONDS:
            return
        tensors = {**kept, **checkpoint.with_prefix(name, member.tensors())}
        checkpoint.write(self.file, tensors, {"history": self.history})
        self._kept_at = time.monotonic()

    def _read_kept(self) -> dict[str, Tensor]:
        if self.file is None or not self.file.exists():
            return {}
        tensors, facts = checkpoint.read(self.file)
        self.history = facts["history"]
        return tensors

    def unassigned(self) -> list[int]:
        """Return, for each member, how many places no neuron speaks for."""
        return [int((~member.assigned & member.filled).sum()) for member in self.members]

    def _warn_of_unassigned(self) -> None:
        counts = self.unassigned()
        if any(counts):
            warnings.warn(
                f"{max(counts)} of {self.places} places have no neuron that speaks for them and score lowest; "
                "more epochs or fewer places_per_module help",
                stacklevel=3,
            )

    def measure(self, queries: Tensor) -> energy.Record:
        return operations.record_of(self.members, queries.flatten(1))

    @property
    def parameter_count(self) -> int:
        return sum(sum(member.numbers.values()) for member in self.members)

    @property
    def memory(self) -> int:
        """Bytes: weights and thresholds in single precision, what reads them in double."""
        sizes = {"weights": 4, "thresholds": 4, "readout": 8, "templates": 8}
        return sum(sizes[name] * count for member in self.members for name, count in member.numbers.items())

    def details(self) -> dict[str, pd.DataFrame]:
        """Return the tables ``neurons`` and ``modules``, and ``thresholds`` where one was chosen.

        ``neurons``: member, module, neuron, the ``place`` that it answered most (-1 for none), number of ``places``
        that it speaks for, ``images`` of the first traverse on which it
        answered (NaN without a record), ``hyperactive``. ``modules``: member, module, ``places``, ``unassigned`` ones,
        ``spikes`` of a training presentation in the last epoch and ``active`` neurons of those. ``thresholds``: member,
        threshold, recall at 1 on calibration queries.
        """
        import pandas as pd

        found = {
            "neurons": pd.concat([each.neurons(number) for number, each in enumerate(self.members)], ignore_index=True),
            "modules": pd.concat([each.table(number) for number, each in enumerate(self.members)], ignore_index=True),
        }
        if self.chosen:
            rows = [(number, *row) for number, each in enumerate(self.chosen) for row in each.items()]
            found["thresholds"] = pd.DataFrame(rows, columns=["member", "threshold", "recall_at_1"])
        return found

    def tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {"images": self._images, "recorded": self._recorded}
        found |= {"places": torch.tensor(self.places), "blocks": torch.tensor(self.blocks)}
        for number, member in enumerate(self.members):
            found |= checkpoint.with_prefix(f"member-{number}", member.tensors())
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        try:
            self._images, self._recorded = tensors["images"], tensors["recorded"]
            self.places, self.blocks = int(tensors["places"]), int(tensors["blocks"])
        except KeyError as error:
            raise DataError(f"this is no map of a place ensemble: it lacks {error}") from None
        parts = [checkpoint.without_prefix(f"member-{number}", tensors) for number in range(self.config.members)]
        self.members = [
            Member.restored(self.config, part, derived(self.seed, number)) for number, part in enumerate(parts)
        ]


def _flat(references: Tensor) -> Tensor:
    if references.dim() != 5 or 0 in references.shape:
        raise ShapeError(f"references are [traverses, places, C, H, W], not {list(references.shape)}")
    return references.flatten(2).to(torch.float32).contiguous()
