"""Ensembles of spiking modules for places: learning, reading, and what is done about neurons that answer everything."""

from step.learners.places.ensemble.config import EnsembleConfig
from step.learners.places.ensemble.learner import PlaceEnsemble
from step.learners.places.ensemble.readout import Readout

__all__ = ["EnsembleConfig", "PlaceEnsemble", "Readout"]
