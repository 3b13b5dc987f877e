"""What every place learner is: it maps places from references, compares queries with them, and says its cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from benchmarks.datasets import Dataset
from benchmarks.protocols import Calibration
from neurons.errors import OptionError
from step.learners import checkpoint
from step.learners.base import LearnerConfig, Progress
from step.models import Network

if TYPE_CHECKING:
    import pandas as pd

    import energy


class PlaceConfig(LearnerConfig):
    """Settings that all place learners share."""

    batch: int = Field(64, ge=1)
    """Queries that are answered at a time."""

    def check(self, network: Network | None, dataset: Dataset) -> None:
        """Raise a StepError when such data cannot be mapped like this; called before anything runs."""


class PlaceLearner(ABC):
    """Base of learners of places.

    Parameters
    ----------
    network : None
        Place learners bring their own.
    config : PlaceConfig
    seed : int
        Seed of everything random.
    checkpoint_file : Path, optional
        Where a learner that trains for long keeps its state.
    progress : callable, optional
        Called with a dict as learning goes on, ``{"epoch", "epochs", "share"}``.

    Attributes
    ----------
    history : list of dict
        One row for each epoch, with ``seconds``; at least one for the whole of mapping.
    """

    Config: ClassVar[type[PlaceConfig]] = PlaceConfig
    brings_network: ClassVar[bool] = True
    spiking: ClassVar[bool] = False
    """Whether a query is answered by spikes, which tables then count."""
    history: list[dict[str, float]]

    def __init__(
        self,
        network: None,
        config: PlaceConfig,
        *,
        seed: int = 0,
        checkpoint_file: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.config: Any = config
        self.seed = seed
        self.file = checkpoint_file
        self.progress = progress or (lambda event: None)
        self.device = torch.device("cpu")
        self.history = []

    @property
    def batch(self) -> int:
        """Queries that are answered at a time."""
        return int(self.config.batch)

    @property
    def best_epoch(self) -> int:
        """The last epoch: nothing is held out to choose another by."""
        return len(self.history)

    @abstractmethod
    def map_places(self, references: Tensor, calibration: Calibration | None = None) -> None:
        """Learn the places.

        Parameters
        ----------
        references : Tensor, shape [R, P, C, H, W]
            Views in [0, 1] of P places, once for each of R traverses.
        calibration : Calibration, optional
            Other places, by which settings may be chosen.
        """

    @abstractmethod
    def similarity(self, queries: Tensor, first: int = 0) -> Tensor:
        """Return how alike each place is to each query, [P, B] float32, higher is more alike, for queries [B, C, H, W].

        ``first`` is the number of the first query: what is drawn for a query depends on its number and the seed, not
        on the queries that are asked with it.
        """

    def add_places(self, references: Tensor) -> None:
        """Learn further places [R, P, C, H, W] without learning those that are known again.

        Raises
        ------
        OptionError
            Where a learner cannot.
        """
        raise OptionError(f"learner: {type(self).__name__} cannot add places to its map; map all of them again")

    @abstractmethod
    def measure(self, queries: Tensor) -> energy.Record:
        """Return the operation record of one query, the mean over queries [B, C, H, W]."""

    @property
    @abstractmethod
    def parameter_count(self) -> int:
        """Numbers that are learned or stored for the map."""

    @property
    def memory(self) -> int:
        """Bytes that answering a query needs to hold: 4 for each parameter unless a learner says otherwise."""
        return 4 * self.parameter_count

    def details(self) -> dict[str, pd.DataFrame]:
        """Return tables of what is behind the answers, such as the neurons of an ensemble."""
        return {}

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return all that the map is, as plain tensors."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Become what ``tensors`` said."""

    def save(self, path: Path) -> None:
        """Write the map as safetensors."""
        checkpoint.write(path, self.tensors(), {"parameters": self.parameter_count})

    def load(self, path: Path) -> None:
        """Read a map that ``save`` wrote."""
        tensors, _ = checkpoint.read(path)
        self.restore(tensors)
