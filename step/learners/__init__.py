"""Learners: how a network or rule is fitted. Protocols do not know which of them they drive."""

from step.learners.base import LearnerConfig, Progress, learners
from step.learners.continual.config import ContinualConfig
from step.learners.continual.learner import Continual
from step.learners.distillation import Teacher
from step.learners.places import LENS, PlaceEnsemble, PlaceLearner, Ridge, Templates, VPRTempo
from step.learners.surrogate_gradient import SurrogateGradient, TrainingError

register = learners.register
names = learners.names
describe = learners.describe

__all__ = [
    "LENS", "Continual", "ContinualConfig", "LearnerConfig", "PlaceEnsemble", "PlaceLearner", "Progress", "Ridge",
    "SurrogateGradient", "Teacher", "Templates", "TrainingError", "VPRTempo", "describe", "learners", "names",
    "register",
]  # fmt: skip
