"""Subspace learners: how the span of a layer's past activity is found, so that gradients can be kept out of it."""

from step.learners.continual.subspaces.base import Subspace, subspaces
from step.learners.continual.subspaces.capacity import rank_report
from step.learners.continual.subspaces.ccipca import CCIPCA
from step.learners.continual.subspaces.frequent_directions import FrequentDirections
from step.learners.continual.subspaces.hebbian import Hebbian
from step.learners.continual.subspaces.lateral import LateralSpikes
from step.learners.continual.subspaces.sanger import Sanger
from step.learners.continual.subspaces.svd import SVD

register = subspaces.register
create = subspaces.create
names = subspaces.names
describe = subspaces.describe

__all__ = [
    "CCIPCA", "SVD", "FrequentDirections", "Hebbian", "LateralSpikes", "Sanger", "Subspace", "create", "describe",
    "names", "rank_report", "register", "subspaces",
]  # fmt: skip
