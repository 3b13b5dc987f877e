"""What an update costs, and what the neuron says of itself."""

from __future__ import annotations

import inspect

from neurons.base import neurons
from neurons.conformance.result import Result
from neurons.conformance.subject import Subject
from neurons.cost import update_cost


def operations_counted(subject: Subject) -> Result:
    """Has every operation of an update a kind that the energy models know?"""
    name = "operations counted"
    cost = update_cost(subject.fresh())
    unknown = [kind.removeprefix("other:") for kind in cost if kind.startswith("other:")]
    if unknown:
        right = "use operations that have one, or say the cost in a method cost()"
        return Result(name, "no", f"{', '.join(unknown)}: no kind that energy models price; {right}")
    free = subject.neuron.cost() == {} and subject.neuron.conventional and not subject.neuron.state
    if free:
        return Result(name, "yes", "an update takes no operations, and the neuron says so")
    if not cost:
        return Result(name, "no", "an update takes no operations; a neuron with a run of its own says them in cost()")
    return Result(name, "yes", "an update: " + ", ".join(f"{count:g} {kind}" for kind, count in cost.items()))


def describes_itself(subject: Subject) -> Result:
    """Has it a line for ``step list neurons``, and a name to be used by?"""
    kind = type(subject.neuron)
    text = inspect.cleandoc(kind.__doc__ or "").split("\n")[0]
    if not text:
        return Result("describes itself", "no", f'no docstring; begin {kind.__name__} with """Name: equation."""')
    registered = getattr(subject.neuron, "registered_name", "")
    known = ":" in registered or registered in neurons.names()
    said = f"registered as {registered!r}" if known else "not registered: no suite can name it"
    return Result("describes itself", "yes", f"{text} ({said})")
