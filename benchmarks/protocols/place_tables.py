"""Tables of place recognition: what was answered to each query, and an overview of all similarities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.protocols.place_metrics import Answers, Array

CURVE_POINTS = 500
"""The most points of a precision-recall curve that are kept."""

OVERVIEW = 200
"""The most rows and columns of the overview of similarities."""


def match_table(
    found: Answers, confidence: Array, length: int, tolerances: Sequence[int], true_place: NDArray[np.int64]
) -> pd.DataFrame:
    """Return a row for each query that is answered by sequences of a length.

    ``query``, ``L``, ``place`` (-1 without an answer), ``score``, ``runner_up`` (score of the next place),
    ``confidence`` (what is accepted by), ``correct_tK`` for each tolerance K (1, 0, or a fraction where places are
    tied), ``true_place`` (the first of several, -1 for none).

    Parameters
    ----------
    found : Answers
        Of the last Q - length + 1 of Q queries.
    confidence : array, shape [Q - length + 1]
    length : int
    tolerances : sequence of int
    true_place : array of int64, shape [Q]
    """
    first = length - 1
    return pd.DataFrame(
        {
            "query": np.arange(first, len(true_place)),
            "L": length,
            "place": found.place,
            "score": found.score,
            "runner_up": found.runner_up,
            "confidence": confidence,
            **{f"correct_t{tolerance}": found.right[number] for number, tolerance in enumerate(tolerances)},
            "true_place": true_place[first:],
        }
    )


def overview(similarity: Tensor, truth: Tensor, most: int = OVERVIEW) -> pd.DataFrame:
    """Return the similarities [P, Q] of single images in at most ``most`` x ``most`` blocks, the best of each.

    ``place_first``, ``place_last``, ``query_first``, ``query_last`` (both ends included), ``similarity`` (NaN where a
    block has no score), ``true`` (whether a query of the block shows a place of the block).
    """
    (rows, columns) = (np.array_split(np.arange(n), min(n, most)) for n in similarity.shape)
    best = np.empty((len(rows), len(columns)), dtype=np.float32)
    true = np.empty(best.shape, dtype=bool)
    for i, row in enumerate(rows):
        ways = slice(int(row[0]), int(row[-1]) + 1)
        starts = np.array([column[0] for column in columns])
        best[i] = np.maximum.reduceat(similarity[ways].amax(dim=0).numpy(), starts)
        true[i] = np.logical_or.reduceat(truth[ways].any(dim=0).numpy(), starts)
    best[~np.isfinite(best)] = np.nan
    return pd.DataFrame(
        {
            "place_first": np.repeat([row[0] for row in rows], len(columns)),
            "place_last": np.repeat([row[-1] for row in rows], len(columns)),
            "query_first": np.tile([column[0] for column in columns], len(rows)),
            "query_last": np.tile([column[-1] for column in columns], len(rows)),
            "similarity": best.ravel(),
            "true": true.ravel(),
        }
    )
