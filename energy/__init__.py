"""Energy: measure what a network does in one real pass, then price it under every published model.

>>> record = energy.measure(network, x)                              # x: [T, B, ...], encoded
>>> energy.price(record, model="op-count", hardware="45nm")          # pJ per inference, one row for each layer
"""

from __future__ import annotations

from energy.count import measure
from energy.models import EnergyModel, energy_models, price
from energy.record import Record
from energy.twins import compare

register = energy_models.register
create = energy_models.create
names = energy_models.names
describe = energy_models.describe

__all__ = ["EnergyModel", "Record", "compare", "create", "describe", "energy_models", "measure", "names", "price",
           "register"]  # fmt: skip
