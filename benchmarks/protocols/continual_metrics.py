"""Measures of learning one task after another, from the accuracy of every task after every task.

``A[i, j]`` is the accuracy on task ``j`` after ``i`` tasks were learned, both from 1; row 0 is the untrained network.
ACC, backward and forward transfer: D. Lopez-Paz and M. Ranzato, Gradient Episodic Memory for Continual Learning,
NeurIPS 2017. Forgetting and intransigence: A. Chaudhry et al., Riemannian Walk for Incremental Learning, ECCV 2018.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from neurons.errors import ShapeError


def matrix_of(table: pd.DataFrame) -> np.ndarray:
    """Return the matrix [T + 1, T] of a table (learned, task, accuracy); NaN where nothing was measured."""
    tasks = int(table["task"].max())
    matrix = np.full((tasks + 1, tasks), np.nan)
    matrix[table["learned"], table["task"] - 1] = table["accuracy"]
    return matrix


def continual_metrics(matrix: np.ndarray) -> dict[str, float]:
    """Return what can be said of an accuracy matrix, as fractions.

    ``test_accuracy`` (ACC): mean of the last row. ``bwt``: mean over the tasks before the last of what their accuracy
    gained since they were learned, negative where they were forgotten. ``forgetting``: mean over the same tasks of what
    is missing to the best accuracy that they had after any task; never negative. ``learning_accuracy``: mean of the
    diagonal, the accuracy of each task just after it. ``forward_transfer``: mean over the tasks after the first of
    their accuracy just before they are learned, less that of the untrained network.

    Parameters
    ----------
    matrix : numpy.ndarray, shape [T + 1, T]
        Row 0 before any learning; NaN where nothing was measured. A network that learned all tasks at once has its
        first row and its last, and only ``test_accuracy``.

    Raises
    ------
    ShapeError
        When the matrix is not [T + 1, T], or lacks its last row.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] + 1 or np.isnan(matrix[-1]).any():
        raise ShapeError(f"an accuracy matrix is [tasks + 1, tasks] with its last row, not {list(matrix.shape)}")
    untrained, after, last = matrix[0], matrix[1:], matrix[-1]
    found = {"test_accuracy": float(last.mean())}
    if np.isnan(after).any():
        return found
    own = np.diag(after)
    found["learning_accuracy"] = float(own.mean())
    if len(own) > 1:
        found["bwt"] = float((last - own)[:-1].mean())
        found["forgetting"] = float((after.max(0) - last)[:-1].mean())
        if not np.isnan(untrained).any():
            found["forward_transfer"] = float((np.diag(after, k=1) - untrained[1:]).mean())
    return found


def intransigence(joint: np.ndarray, matrix: np.ndarray) -> float:
    """Return how much less of each task was learned than by a network that learned all at once, mean over the tasks.

    The paper's reference is trained, for each task, on the tasks up to it; this one on all of them, once.

    Parameters
    ----------
    joint : numpy.ndarray, shape [T]
        Accuracy of every task of the network that learned them jointly.
    matrix : numpy.ndarray, shape [T + 1, T]
        That of the network that learned one after another.
    """
    return float((joint - np.diag(matrix[1:])).mean())
