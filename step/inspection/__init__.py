"""What the neurons and attentions of a network do on test samples: rates, dead and saturated neurons, maps."""

from step.inspection.data import AttentionMap, Inspection, Layer, Shown
from step.inspection.file import INSPECTION, load_inspection, record_inspection, save_inspection
from step.inspection.findings import findings
from step.inspection.network import inspect_network, inspect_probe

__all__ = [
    "INSPECTION", "AttentionMap", "Inspection", "Layer", "Shown", "findings", "inspect_network", "inspect_probe",
    "load_inspection", "record_inspection", "save_inspection",
]  # fmt: skip
