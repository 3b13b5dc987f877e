"""Which values of a forward step to keep for the backward step: as few as possible, as late as possible.

The backward step needs values of the forward step: the slope of the surrogate, the spike, a gate. Keeping the input
and the states would do, but everything else would be worked out twice. The fewest values that cut all ways from the
input and the states to the backward step are a minimum vertex cut of the graph; among several the last one is taken,
so that the least is worked out again. Most neurons come down to one number: the slope of the surrogate.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Literal

import torch

from neurons.compiler.graph import Graph, Ref

_Port = tuple[int, Literal["entrance", "exit"]]


def values_to_keep(graph: Graph, roots: list[Ref], gradients: list[Ref], real: torch.dtype) -> list[int]:
    """Return the nodes of the forward step to keep, in order.

    Parameters
    ----------
    graph : Graph
    roots : list of Ref
        Results of the backward step.
    gradients : list of Ref
        Gradients that come from outside; what depends on one of them belongs to the backward step.
    real : torch.dtype
        Type of the arithmetic; values of another type, truth values excepted, are not kept.
    """
    live = graph.live(roots, ("core",))
    outside = {ref.index for ref in gradients}
    back: set[int] = set()
    for index in live:
        if index in outside or any(operand in back for operand in graph[index].operands):
            back.add(index)
    forward = [index for index in live if index not in back]
    asked = {operand for index in back for operand in graph[index].operands}
    sinks = {index for index in forward if index in asked or Ref(index) in roots}
    operands = {index: [o for o in graph[index].operands if graph[o].kind == "core"] for index in forward}
    fits = {index for index in forward if graph[index].dtype in (real, torch.bool)}
    return sorted(_last_cut(operands, sinks, fits))


def _last_cut(operands: dict[int, list[int]], sinks: set[int], fits: set[int]) -> set[int]:
    """Return the minimum vertex cut nearest to the sinks, by augmenting paths (Ford and Fulkerson, 1956).

    Every node is an entrance and an exit, joined by an edge for one unit of flow where the node may be kept, for any
    amount where not. Flow runs from the sinks down to the nodes without operands; what the sinks still reach when no
    more flow fits ends at the cut.
    """
    inside: Counter[int] = Counter()
    between: Counter[tuple[int, int]] = Counter()
    users: dict[int, list[int]] = {index: [] for index in operands}
    for index, below in operands.items():
        for operand in below:
            users[operand].append(index)
    while True:
        reached: dict[_Port, _Port | None] = {(index, "entrance"): None for index in sorted(sinks)}
        queue, end = deque(reached), None
        while queue and end is None:
            index, side = port = queue.popleft()
            if side == "entrance":
                ways: list[_Port] = [(user, "exit") for user in users[index] if between[user, index]]
                if not inside[index] or index not in fits:
                    ways.append((index, "exit"))
            else:
                ways = [(operand, "entrance") for operand in operands[index]]
                if inside[index]:
                    ways.append((index, "entrance"))
                if not operands[index]:
                    end = port
            for way in ways:
                if way not in reached:
                    reached[way] = port
                    queue.append(way)
        if end is None:
            return {index for index, side in reached if side == "entrance" and (index, "exit") not in reached}
        port = end
        while (before := reached[port]) is not None:
            if before[0] == port[0]:
                inside[port[0]] += 1 if before[1] == "entrance" else -1
            elif before[1] == "exit":
                between[before[0], port[0]] += 1
            else:  # back along an edge that carries flow
                between[port[0], before[0]] -= 1
            port = before
