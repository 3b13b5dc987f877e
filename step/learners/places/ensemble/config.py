"""Options of a spiking ensemble for places."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from benchmarks.datasets import Dataset
from benchmarks.datasets.places import PlaceDataset
from neurons.errors import OptionError
from step.learners.config import Need
from step.learners.places.base import PlaceConfig
from step.models import Network

_THRESHOLD = Need("treatment: threshold", lambda c: c.treatment == "threshold")
_LIKELIHOOD = Need(
    "treatment: calibrated and query: spikes", lambda c: c.treatment == "calibrated" and c.query == "spikes"
)
_ASSIGNED = Need("treatment: none or threshold", lambda c: c.treatment != "calibrated")
_SPIKES = Need("query: spikes", lambda c: c.query == "spikes")

NEEDS: dict[str, Need] = {
    "assignment": _ASSIGNED,
    "threshold": _THRESHOLD,
    "gate": _SPIKES,
    "smoothing": _LIKELIHOOD,
    "strength": _LIKELIHOOD,
    "dispersion": _LIKELIHOOD,
    "record": Need("a treatment, a gate or query: mean-field", lambda c: c.needs_record),
}


class EnsembleConfig(PlaceConfig):
    """Settings of ensembles of spiking modules; the defaults are those of Hussaini et al. (ICRA 2023) but for
    ``treatment``, theirs being ``threshold``. ``smoothing`` and ``strength`` were chosen on event frames of LENS and
    synthetic routes of 300 and 1,000 places (seed 3)."""

    places_per_module: int = Field(25, ge=1)
    """Places that one module learns."""
    neurons: int = Field(400, ge=2, le=65535)
    """Excitatory neurons of a module; it has as many inhibitory ones."""
    epochs: int = Field(30, ge=1)
    """Times that a module sees each of its references; 20 to 70 were published, by data set."""
    membership: Literal["shuffled", "regions"] = "shuffled"
    """Whether modules hold places drawn from the whole route, as in the published code, or stretches of it."""
    members: int = Field(1, ge=1)
    """Ensembles of modules that differ by their seed, and whose scores are added (Hussaini et al., T-RO 2025: 5)."""
    presentation: float = Field(350.0, ge=50.0, le=350.0)
    """For how long an image is shown, in ms."""
    dt: float = Field(0.1, gt=0)
    """Time step in ms, one of those with which modules were shown to fire as with 0.1."""
    presynaptic_sign: Literal[-1, 1] = 1
    """Sign of the change of a weight at a presynaptic spike: +1 in the published code, -1 in Diehl and Cook (2015)."""
    assignment: Literal["standard", "weighted"] = "standard"
    """How neurons vote: for the place to which they answered most, or weighted (Hussaini et al., RA-L 2022)."""
    treatment: Literal["none", "threshold", "calibrated"] = "calibrated"
    """What is done about hyperactive neurons: nothing; removal of those that answer on too many images; or scores as
    log-likelihood ratios, which say how much an answer is worth."""
    threshold: int | None = Field(None, ge=0)
    """Images of the first traverse on which a neuron may answer; from this number on it is removed, 0 removes none.
    Chosen on calibration places when left out."""
    record: int | None = Field(None, ge=1)
    """Images of the first traverse that all modules see after training; all of them when left out, which makes the work
    grow with the square of the number of places."""
    smoothing: float = Field(4.0, gt=0)
    """Weight of a neuron's background rate in its rate for a place, in presentations; there are 4 of each reference."""
    strength: float = Field(0.75, gt=0, le=1)
    """How much of the change of a neuron's rate by a place, as a logarithm, is left when the place looks different."""
    dispersion: float = Field(0.0, ge=0)
    """How much more than Poisson counts of a neuron vary: variance = rate + dispersion x rate^2; 0 is Poisson."""
    query: Literal["spikes", "mean-field"] = "spikes"
    """Whether queries are answered by spikes, or by weights times input alone."""
    gate: int | None = Field(None, ge=1)
    """Modules that are simulated for a query, those that the mean field finds most alike; all when left out."""
    probability: bool = False
    """Scores of each query as a distribution over places: scaled to [0, 1] and to a sum of 1 (Hussaini et al., RA-L
    2022), the posterior where they are log-likelihoods."""

    @model_validator(mode="after")
    def _every_option_counts(self) -> Self:
        from neurons.diehl_cook.constants import check_step

        try:
            check_step(self.dt)
        except OptionError as error:
            raise ValueError(str(error)) from None
        for name, need in NEEDS.items():
            if getattr(self, name) != type(self).model_fields[name].get_default() and not need.met(self):
                raise ValueError(f"{name} has no effect without {need.words}; leave it out")
        if self.query == "mean-field" and self.assignment == "weighted":
            raise ValueError("assignment: weighted asks which neurons fire, and in the mean field none does")
        if self.query == "mean-field" and self.treatment == "threshold":
            raise ValueError("treatment: threshold removes neurons by their spikes, and the mean field has none")
        return self

    @property
    def needs_record(self) -> bool:
        """Whether modules must see images of foreign places after training."""
        return self.treatment != "none" or self.gate is not None or self.query == "mean-field"

    @property
    def chooses(self) -> bool:
        """Whether a setting is chosen on calibration places."""
        return self.treatment == "threshold" and self.threshold is None

    def check(self, network: Network | None, dataset: Dataset) -> None:
        if not isinstance(dataset, PlaceDataset):
            raise OptionError(
                f"learner: place-ensemble maps places, and {dataset.name} has classes; take a data set of places"
            )
        if self.chooses and dataset.calibration is None:
            raise OptionError(
                f"learner: place-ensemble chooses its threshold on calibration places, and {dataset.name} has none; "
                "set learner.threshold, or learner.treatment: calibrated"
            )
