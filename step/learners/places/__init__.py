"""Learners of places: spiking ensembles, their rivals, and the templates that are hard to beat."""

from step.learners.places.base import PlaceConfig, PlaceLearner
from step.learners.places.ensemble.learner import PlaceEnsemble
from step.learners.places.lens import LENS
from step.learners.places.ridge import Ridge
from step.learners.places.templates import Templates
from step.learners.places.vprtempo import VPRTempo

__all__ = ["LENS", "PlaceConfig", "PlaceEnsemble", "PlaceLearner", "Ridge", "Templates", "VPRTempo"]
