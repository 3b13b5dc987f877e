"""Measure a network: run it once on real samples and count what it does, below the level of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import _disable_current_modes

from energy.dispatch import Counter
from energy.foreign import is_foreign_neuron, reset
from energy.record import OPERANDS, Record
from neurons import Neuron
from neurons.errors import DataError, OptionError, ShapeError


def measure(
    network: nn.Module,
    x: Tensor | Iterable[Any],
    *,
    batches: int | None = None,
    data: str = "given tensor",
    steps: bool = False,
    input_operand: str | None = None,
) -> Record:
    """Run a network on real samples and return its operation record: numbers of one inference of one sample.

    The network runs in eval mode without gradients and gets its training flags back. Operations are counted where
    torch dispatches them, so functional calls are seen as well as modules; a neuron counts as one layer whose
    arithmetic is that of its time step. Operand classes are decided from the values themselves, except for
    quantised codes, which are followed from the neuron that made them.

    Parameters
    ----------
    network : nn.Module
        Any network that takes ``x``. SpikingJelly neurons are reset before each batch; other networks that keep a
        state must be at rest.
    x : Tensor, shape [T, B, ...], or iterable of such
        Encoded input. Of a tuple or list, as data loaders yield, the first entry is the input.
    batches : int, optional
        How many batches of an iterable to use; all when left out.
    data : str
        Name of the data, for the provenance.
    steps : bool
        Keep the counts of every time step (``record.steps``) and count the updates that changed a potential; neurons
        are run a second time for it.
    input_operand : {"binary", "ternary", "integer", "quantised", "real"}, optional
        ``"real"`` declares an input real whose values happen to be integers (pixels 0 to 255); otherwise the values
        decide.

    Raises
    ------
    ShapeError
        For an input that is not [T, B, ...] or batches of unequal T.
    DataError
        Without input; when nothing was counted, or a layer with weights ran unseen.
    """
    if input_operand not in (None, "real"):
        known = ", ".join(OPERANDS)
        raise OptionError(
            f"input_operand is 'real' or left out (the values decide among {known}), not {input_operand!r}"
        )
    counter = Counter(network, by_step=steps)
    T: int | None = None
    samples = used = 0
    with _prepared(network, counter):
        for batch in _limited([x] if isinstance(x, Tensor) else x, batches):
            if not isinstance(batch, Tensor) or batch.dim() < 2 or 0 in batch.shape[:2]:
                raise ShapeError(
                    f"a network is measured on tensors [T, B, ...] with T >= 1 and B >= 1, not {_form(batch)}"
                )
            if T is not None and batch.shape[0] != T:
                raise ShapeError(f"all batches must have the same number of time steps: {T}, then {batch.shape[0]}")
            T, size = batch.shape[:2]
            reset(network)
            if input_operand == "real":
                counter.tags.put(batch, floor="real")
            counter.begin(T, size)
            with counter:
                network(batch)
            counter.end()
            samples, used = samples + size, used + 1
        reset(network)
    if T is None:
        raise DataError("no batch to measure the network on")
    if not len(counter.tally):
        raise DataError(f"nothing was counted in {type(network).__name__}: its forward pass calls no torch operation")
    provenance = _provenance(network, counter, T, samples, used, data, input_operand)
    return counter.tally.record(samples, used, provenance, counter.activity)


def _limited(batches: Iterable[Any], limit: int | None) -> Iterator[Any]:
    if limit is not None and limit < 1:
        raise OptionError(f"batches must be at least 1, not {limit}")
    for index, batch in enumerate(batches):
        if index == limit:
            return
        yield batch[0] if isinstance(batch, (tuple, list)) and batch else batch


def _form(batch: Any) -> str:
    return str(list(batch.shape)) if isinstance(batch, Tensor) else type(batch).__name__


@contextmanager
def _prepared(network: nn.Module, counter: Counter) -> Iterator[None]:
    """Eval mode, hooks on every module, and no fused kernels that hide their products."""
    training = {module: module.training for module in network.modules()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    undo: list[Callable[[], None]] = []
    try:
        network.eval()
        torch.backends.mha.set_fastpath_enabled(False)
        undo = _watch(network, counter)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for action in undo:
            action()
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, flag in training.items():
            module.training = flag


def _watch(network: nn.Module, counter: Counter) -> list[Callable[[], None]]:
    undo: list[Callable[[], None]] = []
    inside: list[str] = []
    for path, module in network.named_modules():
        if any(path.startswith(f"{neuron}.") for neuron in inside):
            continue
        ours = isinstance(module, Neuron)
        if isinstance(module, Neuron) and module.counted_inside:
            path = path or "neuron"
            enter, leave = counter.enter_inside, counter.leave_inside
        elif ours or is_foreign_neuron(module):
            inside.append(path)
            enter, leave = counter.enter_neuron, counter.leave_neuron
        else:
            enter, leave = counter.enter, counter.leave

        def before(m: nn.Module, args: Any, kwargs: Any, path: str = path, enter: Any = enter) -> None:
            with _disable_current_modes():
                enter(path, m, _first_tensor(args, kwargs))

        def after(m: nn.Module, args: Any, kwargs: Any, out: Any, path: str = path, leave: Any = leave) -> None:
            with _disable_current_modes():
                leave(path, m, _first_tensor(args, kwargs), out)

        undo.append(module.register_forward_pre_hook(before, with_kwargs=True).remove)
        undo.append(module.register_forward_hook(after, with_kwargs=True).remove)
        if ours:
            undo.append(_wrap_run(path, module, enter, leave))
    return undo


def _wrap_run(path: str, neuron: Any, enter: Any, leave: Any) -> Callable[[], None]:
    """See a neuron that its network streams through ``run``, which no forward hook sees."""
    original = neuron.run

    def run(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            enter(path, neuron, x)
        result = original(x, *args, **kwargs)
        with _disable_current_modes():
            leave(path, neuron, x, result[0])
        return result

    neuron.run = run
    return lambda: delattr(neuron, "run")


def _first_tensor(args: Any, kwargs: Any) -> Tensor | None:
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)


def _provenance(
    network: nn.Module, counter: Counter, T: int, samples: int, batches: int, data: str, input_operand: str | None
) -> dict[str, Any]:
    parameter = next((p for p in network.parameters() if p.is_floating_point()), None)
    return {
        "network": type(network).__name__,
        "T": T,
        "samples": samples,
        "batches": batches,
        "data": data,
        "dtype": str(parameter.dtype if parameter is not None else counter.dtype).removeprefix("torch."),
        "device": str(parameter.device if parameter is not None else "cpu"),
        "made": "measured",
        "operands": "decided from values; quantised codes followed from the neuron that makes them",
        "input_operand": input_operand or "by value",
        "first_layer": "real inputs are multiply-accumulates; a layer computed once for repeated input counts once",
        "residual_integers": "sums of spikes are class integer; events_* unroll them into unary events",
        "batch_norm": "in eval mode directly after a convolution or linear layer: assumed folded, not counted",
        "conventions": "exact, nominal, fan_out and kernel in columns of their own",
        "uncounted": {name: count / samples for name, count in sorted(counter.uncounted.items())},
        "torch": torch.__version__,
    }
