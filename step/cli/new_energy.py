"""Begin an energy model or a chip: a small file that works, to be made into one's own."""

from __future__ import annotations

from typing import Annotated

import typer

from step.cli.base import console, guarded
from step.cli.groups import class_name, new, new_file

MODEL = '''\
"""The energy model {name}; after every change: step check energy {file}"""

from dataclasses import dataclass

from energy.models import EnergyModel, Price, energy_models


@energy_models.register("{name}")
@dataclass(frozen=True, kw_only=True)
class {kind}(EnergyModel):
    """Additions for spikes, multiplications and additions for the rest, and a read of SRAM for every weight."""

    source = "my own"  # where its equations stand
    ignores = ("neurons", "activations", "biases", "addressing", "routing", "static power")
    profile = "45nm"  # where its constants stand: a name, or a .yaml file (step check energy 45nm lists them)

    weight_bits: int = 32  # an option: --set weight_bits=8

    def price_layer(self, layer, hardware):  # the energy of one inference, all its time steps, in pJ
        if not layer.is_product:  # conv, linear, matmul; there is layer.is_neuron too
            return None  # outside the scope of this model
        events = layer.gets_events  # spikes, or sums of spikes
        work = layer.count("mac", "exact" if events else "dense")  # operations by kind: those that spikes cause, or all
        parts = {{"compute": work * (hardware["fp32_add"] + (0 if events else hardware["fp32_mul"]))}}
        if layer.weights:
            parts["memory_weight"] = work * self.weight_bits / 64 * hardware["sram_8kb"]  # an access is 64 bits wide
        return Price(parts)  # other parts: neuron, memory_state, memory_activation, addressing, routing, static
'''

HARDWARE = """\
# The hardware {name}; after every change: step check energy {file}
title: {name}, a chip of my own
event_driven: true  # whether silence saves work; leave it out for the constants of a process
note: dynamic energy only  # what the numbers include or leave out
constants:  # in pJ unless a unit stands beside them; the names are those that energy models ask for
  synop: {{value: 10, source: "an example: say where the number stands"}}  # one spike at one synapse
  neuron_update: {{value: 50, source: "an example too", confirmed: false}}  # false: not found in the source itself
"""


@new.command("energy")
@guarded
def new_energy(
    name: Annotated[str, typer.Argument(help="Name it is registered by, such as my-model; writes my_model.py.")],
) -> None:
    """Write a small energy model that works, to be made into your own."""
    import energy

    path = new_file("energy model", name, energy.names())
    path.write_text(MODEL.format(name=name, file=path, kind=class_name(path)), encoding="utf-8")
    console.print(f"wrote {path}; next:", highlight=False)
    console.print(f"  step check energy {path}", highlight=False)
    console.print(f"  step energy quick --plugin {path} --models {name},op-count", highlight=False, soft_wrap=True)


@new.command("hardware")
@guarded
def new_hardware(
    name: Annotated[str, typer.Argument(help="Name of the chip or process, such as my-chip; writes my_chip.yaml.")],
) -> None:
    """Write a small hardware profile that works, to be made into your own."""
    from energy import hardware

    path = new_file("hardware", name, hardware.names(), ".yaml")
    path.write_text(HARDWARE.format(name=name, file=path), encoding="utf-8")
    console.print(f"wrote {path}; next:", highlight=False)
    console.print(f"  step check energy {path}", highlight=False)
    console.print(f"  step check energy device-table --hardware {path}", highlight=False)
