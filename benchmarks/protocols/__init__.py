"""Protocols: what is asked of a learner and how it is scored."""

from benchmarks.protocols.base import Learner, Outcome, Protocol, Setting, protocols
from benchmarks.protocols.batches import Batches
from benchmarks.protocols.classification import Classification

register = protocols.register
create = protocols.create
names = protocols.names
describe = protocols.describe

__all__ = [
    "Batches", "Classification", "Learner", "Outcome", "Protocol", "Setting", "create", "describe", "names",
    "protocols", "register",
]  # fmt: skip
