"""What a training step costs: products on the way forward and back, projection of gradients, learning of subspaces.

Inference is not touched by lateral connections: they act on gradients, and the network that answers is the one that it
would be without them. What they cost is paid in training, and counted here as it is executed: one step is done under
torch's operation counter, and for every task the subspaces are put back to what they were while it ran.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import energy
from step.learners.continual.guarded import inside_pays, may_pay
from step.learners.continual.rules import Rule, synapses
from step.learners.continual.rules.activity import Activity
from step.learners.continual.subspaces import Subspace

if TYPE_CHECKING:
    import pandas as pd

OTHER = "(other products)"
"""Row of products that belong to no layer with weights, such as those of attention."""

PRICED = ("product", "projection", "subspace")
"""What is counted in multiply-accumulates, each a column ``<name>_macs``, and priced, ``<name>_pJ``."""


@dataclass(frozen=True)
class Step:
    """The products of one training step by layer.

    Attributes
    ----------
    macs : dict of str to float
        Multiply-accumulates forward and back, by path; what belongs to no layer under ``OTHER``.
    rows : dict of str to int
        Presynaptic rows that the layer went through: samples, time steps and positions.
    taps : dict of str to int
        Those from which its subspace learns.
    activity : dict of str to Activity
        They themselves.
    seen : dict of str to Activity
        All that each layer saw, where it may be projected in place of the gradient of the weights; else none.
    """

    macs: dict[str, float]
    rows: dict[str, int]
    taps: dict[str, int]
    activity: dict[str, Activity]
    seen: dict[str, Activity]


def counted(do: Callable[[], object]) -> float:
    """Return the multiply-accumulates of the matrix products and convolutions that a function executes, dense."""
    with _counter() as mode:
        do()
    return mode.get_total_flops() / 2


def count_step(network: nn.Module, rule: Rule, x: Tensor) -> Step:
    """Count one training step on a batch x [T, B, ...]: gradients by ``rule``, nothing projected.

    Gradients are zeroed again, and norms keep their statistics.
    """
    layers = synapses(network)
    rows = dict.fromkeys(layers, 0)
    training = {module: module.training for module in network.modules()}
    network.eval()
    drawn = rule.state_dict()
    hooks = []
    try:
        rule.gradients(x[:, :1], _loss, taps=True)  # rules look a network over once, which is no part of a step
        hooks = [layer.register_forward_hook(_rows_of(path, rows)) for path, layer in layers.items()]
        with _counter() as mode:
            result = rule.gradients(x, _loss, taps=True)
        seen = _all_seen(rule, x, result.taps) if rule.whole else {}
    finally:
        for hook in hooks:
            hook.remove()
        for module, flag in training.items():
            module.training = flag
        rule.load_state_dict(drawn)
        network.zero_grad(set_to_none=True)
    found = {path.partition(".")[2]: sum(ops.values()) / 2 for path, ops in mode.get_flop_counts().items()}
    macs = {path: float(found.get(path, 0.0)) for path in layers}
    macs[OTHER] = mode.get_total_flops() / 2 - sum(macs.values())
    taps = {path: len(activity) for path, activity in result.taps.items()}
    return Step(macs, rows, taps, result.taps, seen)


def _all_seen(rule: Rule, x: Tensor, taps: dict[str, Activity]) -> dict[str, Activity]:
    """Return the whole activity of the layers where ``taps`` are rows that were drawn from it."""
    drawn = rule.rows
    if drawn is None:
        return taps
    rule.rows = None
    try:
        return rule.gradients(x, _loss, taps=True).taps
    finally:
        rule.rows = drawn


def subspace_at(subspace: Subspace, task: int, automatic: bool = False) -> Subspace:
    """Return a copy of a subspace as it was while task ``task``, from 0, was learned; its new rows are new random ones.

    Parameters
    ----------
    subspace : Subspace
        Between two tasks, or after the last one.
    task : int
        One of those that are over.
    automatic : bool
        Whether the number of its rows was found while it ran; that takes measurements of its own.
    """
    found = copy.deepcopy(subspace)
    held = sum(subspace.partition[:task])
    state = subspace.state_dict()
    state |= {
        "frozen": state["frozen"][:held],
        "weights": state["weights"][:held],
        "partition": state["partition"][:task],
    }
    found.load_state_dict(state)
    found._end()  # what belonged to the last task alone has the wrong sizes for this one
    found.grow(subspace.partition[task])
    found.automatic = automatic
    return found


def training_operations(
    step: Step,
    layers: Mapping[str, nn.Module],
    subspaces: Mapping[str, Subspace],
    *,
    tasks: int,
    streaming: bool = True,
    automatic: bool = False,
    model: str = "op-count",
    hardware: str | None = None,
) -> pd.DataFrame:
    """Return what a training step of every task costs in every layer.

    Parameters
    ----------
    step : Step
        What its products are; they are the same for all tasks.
    layers : mapping of str to nn.Module
        Layers with weights, by path.
    subspaces : mapping of str to Subspace
        Those of the protected layers after the last task; none for methods without.
    tasks : int
        Number of tasks that were learned.
    streaming : bool
        Whether subspaces learn in every step. Else they learn when a task is over, which is not part of a step.
    automatic : bool
        Whether numbers of rows were found by the subspaces themselves.
    model, hardware : str
        Energy model whose price of a multiply-accumulate of real numbers is taken, and its constants; Horowitz's 4.6 pJ
        at 45 nm unless told otherwise.

    Returns
    -------
    DataFrame
        One row for each task (from 1) and layer: ``inputs`` and ``outputs`` of a neuron layer's weights, ``rows`` that
        went through it, ``frozen`` and ``new`` rows of its subspace, multiply-accumulates of its products
        (``product_macs``), of the projection (``projection_macs``) and of learning the subspace (``subspace_macs``),
        all dense; ``lateral_words`` values that the lateral connections hold, ``weights`` of a layer that has them;
        ``ratio`` of projection and subspace to the products; and the three in pJ.
    """
    import pandas as pd

    price = price_of_mac(model, hardware)
    rows = []
    for task in range(tasks):
        for path in (*layers, OTHER):
            layer, products = layers.get(path), step.macs.get(path, 0.0)
            if layer is None and not products:
                continue
            row: dict[str, Any] = {
                "task": task + 1,
                "layer": path,
                "inputs": 0 if layer is None else _inputs(layer),
                "outputs": 0 if layer is None else len(_weight(layer)),
                "rows": step.rows.get(path, 0),
                "frozen": 0,
                "new": 0,
                "product_macs": products,
                "projection_macs": 0.0,
                "subspace_macs": 0.0,
                "lateral_words": 0,
                "weights": 0,
            }
            if layer is not None and path in subspaces:
                row |= _protected(subspaces[path], layer, task, step, path, streaming, automatic)
            extra = row["projection_macs"] + row["subspace_macs"]
            row["ratio"] = extra / products if products else float("nan")
            rows.append({**row, **{f"{name}_pJ": price * row[f"{name}_macs"] for name in PRICED}})
    return pd.DataFrame(rows)


def operations_of(learner: Any, x: Tensor) -> pd.DataFrame:
    """Return :func:`training_operations` of a continual learner that has learned all its tasks.

    Parameters
    ----------
    learner : Continual
    x : Tensor, shape [T, B, ...]
        A training batch, on the learner's device.
    """
    method = learner.method
    step = count_step(learner.network, learner.rule, x)
    if learner.config.decays:  # then the whole step is projected, which is as large as the gradient
        step = replace(step, seen={})
    return training_operations(
        step,
        synapses(learner.network),
        getattr(method, "subspaces", {}),
        tasks=learner.done,
        streaming=getattr(method, "streaming", True),
        automatic=getattr(method.config, "rows", "auto") == "auto",
    )


def price_of_mac(model: str = "op-count", hardware: str | None = None) -> float:
    """Return what an energy model says of one multiply-accumulate of real numbers, in pJ."""
    one = energy.Record.from_layers([{"layer": "one", "dense": 1.0, "operand": "real"}], T=1)
    return float(energy.price(one, model, hardware=hardware)["total"].sum())


def _protected(
    subspace: Subspace, layer: nn.Module, task: int, step: Step, path: str, streaming: bool, automatic: bool
) -> dict[str, Any]:
    then = subspace_at(subspace, task, automatic)
    new, weight = subspace.partition[task], _weight(layer)
    found: dict[str, Any] = {
        "frozen": then.rank,
        "new": new,
        "lateral_words": (then.rank + new) * then.capacity,
        "weights": weight.numel(),
    }
    activity = step.activity[path].to(then.device, torch.float32)
    seen = step.seen.get(path)
    if seen is not None:
        seen = seen.to(then.device, torch.float32)
    if then.rank:
        if not then.exact:  # lateral spikes answer every row on its own
            every = torch.zeros(step.rows[path], then.capacity, device=then.device)
            found["projection_macs"] = counted(lambda: then.project_input(every))
        elif seen is not None and may_pay(then, layer) and inside_pays(then, seen, len(weight)):
            found["projection_macs"] = counted(lambda: then.project_activity(seen))
            activity.left = then.project_activity(seen) if then.removes_all and len(seen) == len(activity) else None
        else:  # of the gradient, once
            gradient = torch.zeros_like(weight.flatten(1))
            found["projection_macs"] = counted(lambda: then.project(gradient))
    if streaming:
        found["subspace_macs"] = counted(lambda: then.update(activity))
    activity.left = None  # that of this task
    return found


def _counter() -> Any:
    """Return torch's operation counter, taught the products with vectors that it leaves out."""
    from torch.utils.flop_counter import FlopCounterMode

    aten = torch.ops.aten
    return FlopCounterMode(display=False, custom_mapping={aten.mv: _mv, aten.addmv: _addmv, aten.dot: _dot})


def _mv(matrix: Any, *_: Any, **__: Any) -> int:
    return 2 * int(matrix[0] * matrix[1])


def _addmv(_: Any, matrix: Any, *__: Any, **___: Any) -> int:
    return 2 * int(matrix[0] * matrix[1])


def _dot(vector: Any, *_: Any, **__: Any) -> int:
    return 2 * int(vector[0])


def _rows_of(path: str, rows: dict[str, int]) -> Callable[[nn.Module, Any, Tensor], None]:
    def keep(layer: nn.Module, _: Any, output: Tensor) -> None:
        rows[path] += output.numel() // len(_weight(layer))

    return keep


def _loss(outputs: Tensor) -> Tensor:
    # Of any kind: only its gradient's shape matters here.
    return outputs.mean(0).logsumexp(-1).mean()


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def _inputs(layer: nn.Module) -> int:
    return int(_weight(layer).flatten(1).shape[1])
