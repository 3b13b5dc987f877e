"""Protocols: what is asked of a learner and how it is scored."""

from benchmarks.protocols.base import Learner, Outcome, Protocol, Setting, protocols
from benchmarks.protocols.batches import Batch, Batches, Drawn
from benchmarks.protocols.classification import Classification
from benchmarks.protocols.continual import Continual, ContinualLearner
from benchmarks.protocols.continual_metrics import continual_metrics, intransigence, matrix_of
from benchmarks.protocols.neuronio import NeuronIO
from benchmarks.protocols.objective import Objective
from benchmarks.protocols.places import Calibration, PlaceMapper, PlaceRecognition
from benchmarks.protocols.sequences import Labelling, Regression
from benchmarks.protocols.supervised import Supervised

register = protocols.register
create = protocols.create
names = protocols.names
describe = protocols.describe

__all__ = [
    "Batch", "Batches", "Calibration", "Classification", "Continual", "ContinualLearner", "Drawn", "Labelling",
    "Learner", "NeuronIO", "Objective", "Outcome", "PlaceMapper", "PlaceRecognition", "Protocol", "Regression",
    "Setting", "Supervised", "continual_metrics", "create", "describe", "intransigence", "matrix_of", "names",
    "protocols", "register",
]  # fmt: skip
