"""How well predicted spikes and voltages of a neuron fit: the measures of the NeuronIO papers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from benchmarks.datasets.neuron_recordings import VOLTAGE_OFFSET, VOLTAGE_SCALE

FALSE_POSITIVE_RATES = (0.0025, 0.01)
"""At which hits are counted, in D. Beniaguev et al., Neuron 109, 2021: one false spike in 400 ms, and in 100 ms."""
PARTS = ("tpr_at_fpr", "partial_auc_to")
CURVE = np.concatenate([[0.0], np.logspace(-4, 0, 200)])
"""False-positive rates at which the curve is kept."""


def spike_metrics(spikes: np.ndarray, scores: np.ndarray) -> tuple[dict[str, float], pd.DataFrame]:
    """Return measures of predicted spikes, and the ROC curve at some false-positive rates.

    ``auc`` is the area under the curve of hits (true-positive rate) against false alarms (false-positive rate).
    ``tpr_at_fpr_f`` is the rate of hits at the rate f of false alarms, between two points of the curve on the straight
    line; ``partial_auc_to_f`` the mean rate of hits over the rates 0 to f, which is the area up to f divided by f.

    Parameters
    ----------
    spikes : numpy.ndarray, shape [steps]
        1 where there is a spike, 0 elsewhere.
    scores : numpy.ndarray, shape [steps]
        The more, the more likely a spike; only their order counts.

    Returns
    -------
    dict of str to float
        NaN where there is no spike, or nothing else.
    DataFrame
        Columns ``false_positive_rate`` and ``true_positive_rate``; empty where there is no curve.
    """
    from sklearn.metrics import auc, roc_curve

    if not 0 < spikes.sum() < len(spikes):
        names = ["auc", *(f"{part}_{rate}" for rate in FALSE_POSITIVE_RATES for part in PARTS)]
        return dict.fromkeys(names, math.nan), pd.DataFrame({"false_positive_rate": [], "true_positive_rate": []})
    alarms, hits, _ = roc_curve(spikes, scores)
    metrics = {"auc": float(auc(alarms, hits))}
    for rate in FALSE_POSITIVE_RATES:
        at = float(np.interp(rate, alarms, hits))
        inside = alarms < rate
        area = auc([*alarms[inside], rate], [*hits[inside], at])
        metrics |= dict(zip((f"{part}_{rate}" for part in PARTS), (at, float(area) / rate), strict=True))
    curve = pd.DataFrame({"false_positive_rate": CURVE, "true_positive_rate": np.interp(CURVE, alarms, hits)})
    return metrics, curve


def voltage_metrics(voltage: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return the root of the mean squared error and the mean absolute error in mV, and the share of explained variance.

    Those ``_restandardised`` are taken after the predictions have been given the mean and the standard deviation of the
    true voltages: that is how the papers report them, but it takes knowledge from the test split.

    Parameters
    ----------
    voltage, predicted : numpy.ndarray, shape [steps]
        True and predicted voltages in mV.
    """
    spread = predicted.std()
    aligned = (predicted - predicted.mean()) * (voltage.std() / spread if spread > 0 else 0.0) + voltage.mean()
    return {**_errors(voltage, predicted, ""), **_errors(voltage, aligned, "_restandardised")}


def _errors(voltage: np.ndarray, predicted: np.ndarray, suffix: str) -> dict[str, float]:
    from sklearn.metrics import explained_variance_score, mean_absolute_error, mean_squared_error

    return {
        f"voltage_rmse{suffix}": float(np.sqrt(mean_squared_error(voltage, predicted))),
        f"voltage_mae{suffix}": float(mean_absolute_error(voltage, predicted)),
        f"explained_variance{suffix}": float(explained_variance_score(voltage, predicted)),
    }


def millivolts(scaled: np.ndarray) -> np.ndarray:
    """Return voltages in mV for those that are learned."""
    return scaled / VOLTAGE_SCALE + VOLTAGE_OFFSET
