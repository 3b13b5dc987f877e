"""Learners of places: spiking ensembles, their rivals, and the templates that are hard to beat."""

from step.learners.places.base import Calibration, PlaceConfig, PlaceLearner

__all__ = ["Calibration", "PlaceConfig", "PlaceLearner"]
