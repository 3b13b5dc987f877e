"""One axis for all published thresholds: spikes per synapse and inference below which spikes may win.

For fully connected layers and the interior of convolutions this is the firing rate times T, so that every criterion,
in whatever form it was published, bounds the same number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from energy.hardware import Hardware, load
from energy.record import EVENTS, Record
from neurons.errors import OptionError

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["network_spikes_per_synapse", "spikes_per_synapse", "thresholds"]


@dataclass(frozen=True)
class Threshold:
    """A bound on spikes per synapse and inference.

    Parameters
    ----------
    name : str
    limit : float
        Spikes may win below it.
    source : str
    confirmed : bool
        Whether the number was found in the source itself, or follows from constants that were.
    lower : float, optional
        Lower end of a published band; between the ends it depends on the rival.
    note : str
    """

    name: str
    limit: float
    source: str
    confirmed: bool
    lower: float = float("nan")
    note: str = ""


def thresholds(
    T: int, gamma: float | None = None, k: float | None = None, *, hardware: str | Hardware = "45nm"
) -> DataFrame:
    """Return every published threshold as a bound on spikes per synapse and inference, the strictest last.

    Parameters
    ----------
    T : int
        Time steps: bounds that were published for a step are multiplied by it.
    gamma : float, optional
        Activation sparsity of the quantised twin (0 to 1); without it the bound on compute alone is left out.
    k : float, optional
        E_MAC / E_ACC of that bound; that of fp32 when left out.
    hardware : str or Hardware
        Profile whose adders and multipliers set the ratios of operations.

    Returns
    -------
    DataFrame
        Columns: name, limit, lower (of a band), confirmed, note, source.

    Raises
    ------
    OptionError
        For T below 1, gamma outside 0 to 1 or a negative k.
    """
    import pandas as pd

    if T < 1:
        raise OptionError(f"T must be at least 1, and is {T}")
    if gamma is not None and not 0 <= gamma <= 1:
        raise OptionError(f"gamma is a share of zeros between 0 and 1, and is {gamma}")
    if k is not None and not k >= 0:
        raise OptionError(f"k must not be negative, and is {k}")
    profile = load(hardware)
    found = [*_of_operations(profile), *_published(T)]
    if gamma is not None:
        ratio = _mac(profile, "fp32") / profile["fp32_add"] if k is None else k
        found.append(
            Threshold("compute only", ratio * (1 - gamma), _YAN, False, note=f"k = {ratio:.3g}, T s_r < k (1 - gamma)")
        )
    columns = ["name", "limit", "lower", "confirmed", "note", "source"]
    rows = [[getattr(each, column) for column in columns] for each in found]
    return pd.DataFrame(rows, columns=columns).sort_values("limit", ascending=False, ignore_index=True)


_YAN = "Yan, Bai, Tang & Wong, arXiv 2409.08290"


def _mac(hardware: Hardware, kind: str) -> float:
    return hardware[f"{kind}_mul"] + hardware[f"{kind}_add"]


def _of_operations(hardware: Hardware) -> list[Threshold]:
    """Bounds of counting operations alone: a multiply-accumulate buys so many accumulates."""
    pairs = (("fp32 MAC, fp32 AC", "fp32", "fp32"), ("int8 MAC, int8 AC", "int8", "int8"),
             ("int8 MAC, fp32 AC", "int8", "fp32"))  # fmt: skip
    found = []
    for name, mac, ac in pairs:
        used = [hardware.constants[constant] for constant in (f"{mac}_mul", f"{mac}_add", f"{ac}_add")]
        found.append(
            Threshold(name, _mac(hardware, mac) / hardware[f"{ac}_add"], used[0].source, all(u.confirmed for u in used),
                      note="operations alone")
        )  # fmt: skip
    return found


def _published(T: int) -> list[Threshold]:
    found = [
        Threshold("Davidson & Furber", 1.72, "Davidson & Furber, Frontiers in Neuroscience 15:651141, 2021", False,
                  note="rate coding, the same technology for both"),
        Threshold("Dampfhoffer et al.", 1.38, "Dampfhoffer et al., IEEE TETCI 7(3), 2023 (abstract)", True, lower=0.15,
                  note="IF neurons; by dataflow of the rival"),
        Threshold("dense dataflow pays above", 0.17 * T, _YAN, False, lower=0.12 * T,
                  note="0.12 to 0.17 a step, by width of the weights; a limit of events, not of spikes"),
    ]  # fmt: skip
    if T == 5:
        found.append(Threshold("quantised twin, T = 5", 0.057 * T, f"{_YAN} (v4, abstract)", True,
                               note="typical neuromorphic hardware, 4-bit weights: 5.7 % a step"))  # fmt: skip
    if 5 <= T <= 10:
        found.append(Threshold("quantised twin, T = 5 to 10", 0.064 * T, f"{_YAN} (v2, abstract)", True,
                               note="typical neuromorphic hardware: 6.4 % a step"))  # fmt: skip
    return found


def spikes_per_synapse(record: Record) -> DataFrame:
    """Return spikes per synapse and inference of each layer that meets spikes.

    Returns
    -------
    DataFrame
        Columns: layer, T, connections (multiply-accumulates of one step), events (effective operations of all steps),
        spikes_per_synapse. ``attrs["network"]`` is that of the network, which is not the mean of the column.
    """
    macs = record.products
    on_events = macs["operand"].isin(EVENTS) | macs["second_operand"].isin(EVENTS)
    macs = macs.loc[on_events, ["layer", "T", "dense", "exact"]]
    macs["connections"] = macs["dense"] / macs["T"]
    table = macs.groupby("layer", sort=False, as_index=False).agg(
        T=("T", "first"), connections=("connections", "sum"), events=("exact", "sum")
    )
    table["spikes_per_synapse"] = table["events"] / table["connections"]
    table.attrs["network"] = network_spikes_per_synapse(table)
    return table


def network_spikes_per_synapse(layers: DataFrame) -> float:
    """Return the spikes per synapse of a network from those of its layers, weighted by their connections.

    Parameters
    ----------
    layers : DataFrame
        From :func:`spikes_per_synapse`, or with the columns ``connections`` and ``events``.

    Raises
    ------
    OptionError
        For rates without connections: their plain mean would let a small busy layer speak for a large silent one.
    """
    missing = {"connections", "events"} - set(layers.columns)
    if missing:
        raise OptionError(
            f"spikes per synapse of a network need the {' and '.join(sorted(missing))} of its layers; the mean of "
            "rates would weigh small and large layers alike"
        )
    connections = float(layers["connections"].sum())
    return float(layers["events"].sum()) / connections if connections else float("nan")
