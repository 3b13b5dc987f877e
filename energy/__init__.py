"""Energy: measure what a network does in one real pass, then price it under every published model.

>>> record = energy.measure(network, x)                              # x: [T, B, ...], encoded
>>> energy.price(record, model="op-count", hardware="45nm")          # pJ per inference, one row for each layer
>>> energy.judge(energy.twin_records(network, x)).table              # against its twins, under every model
"""

from __future__ import annotations

from energy.count import measure
from energy.models import Choice, EnergyModel, energy_models, price
from energy.record import Record
from energy.thresholds import thresholds
from energy.twins import compare, derived_twins, twin_records
from energy.verdict import HEADLINE, Verdict, headline, judge

register = energy_models.register
create = energy_models.create
names = energy_models.names
describe = energy_models.describe

__all__ = ["HEADLINE", "Choice", "EnergyModel", "Record", "Verdict", "compare", "create", "derived_twins", "describe",
           "energy_models", "headline", "judge", "measure", "names", "price", "register", "thresholds",
           "twin_records"]  # fmt: skip
