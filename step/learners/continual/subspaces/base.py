"""What a subspace learner is: rows that span the activity of past tasks, and gradients kept out of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurons.errors import OptionError, ShapeError
from neurons.registry import Registry
from step.learners.continual.rules.activity import Activity, Rows
from step.learners.continual.subspaces.projection import Projection, orthonormalised

subspaces: Registry[Subspace] = Registry("subspace learner", "subspaces")

FULL = 0.9
"""Share of a layer's dimensions in use from which the report warns that little is left to learn with."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a learner found in the activity of a task that is over.

    Attributes
    ----------
    rows : Tensor [K, n]
        New directions, the important ones first where the learner knows an order.
    energy : Tensor [K], optional
        Squared activity along them, up to a factor that it shares with ``along``.
    along : Tensor [F], optional
        Squared activity of the same task along the rows that were frozen before.
    """

    rows: Tensor
    energy: Tensor | None = None
    along: Tensor | None = None


class Subspace(ABC):
    """The subspace of a layer's presynaptic activity, learned task after task; one object for each layer.

    Weights that change only outside the span of the activity x of earlier tasks answer x as before: with W' = W + dW
    and dW h = 0 for every frozen row h, W' x = W x for all x in the span. Since dW is a sum of (error) x^T, it suffices
    to take that component out of the gradient (Saha et al., ICLR 2021; Xiao et al., ICLR 2024). Learners differ in how
    they find the rows.

    For each task: ``grow``, then ``update`` with the activity of every batch, and ``merge`` at the end. ``project``
    acts with the rows of the tasks before.

    Parameters
    ----------
    n : int
        Inputs of the layer: ``in_features``, or ``in_channels * kh * kw`` in the order of ``weight.flatten(1)``.
    generator : torch.Generator
        Seeds the generator that the subspace keeps, whose numbers are the same on every device.
    device : torch.device or str, optional
        Where rows live; by default the CPU.
    alpha : float
        Strength of the projection, above 0 and up to 1: g - alpha g H^T H. Below 1 the weights of earlier tasks may
        change a little, and later tasks learn more.
    importance : float, optional
        Scales the projection by how much activity a row carries: with s_k the root of the mean squared activity along
        row k, its strength is (c + 1) s_k / (c s_k + max s), summed over tasks and at most 1, for c = ``importance``
        (scaled gradient projection, Saha and Roy, AAAI 2023). Without it all rows count fully.
    threshold : float
        Share of the energy of a task's activity that automatic ranks hold; 0.97 is where Saha et al. start on
        CIFAR-100.
    orthonormal : bool
        Makes the rows of a task orthonormal when it is over, and orthogonal to the frozen ones, by QR. Learning in
        steps leaves them only nearly so, and the error adds up over tasks. Xiao et al. do without.
    rows_per_update : int, optional
        Learns from at most so many rows of each batch, drawn anew: unfolded convolutions have thousands.
    """

    exact: bool = True
    """Whether projecting a summed gradient equals projecting every input, as it does for a linear projection."""

    def __init__(
        self,
        n: int,
        *,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        alpha: float = 1.0,
        importance: float | None = None,
        threshold: float = 0.97,
        orthonormal: bool = True,
        rows_per_update: int | None = None,
    ) -> None:
        if n < 1 or n != int(n):
            raise OptionError(f"a subspace has a whole number of at least 1 dimensions, not {n}")
        if not 0 < alpha <= 1:
            raise OptionError(f"alpha of a subspace must lie above 0 and be at most 1, not {alpha}")
        if importance is not None and not 0 < importance < float("inf"):
            raise OptionError(f"importance of a subspace must be positive and finite, not {importance}")
        if importance is not None and not orthonormal:
            raise OptionError("importance of a subspace needs orthonormal rows; leave out orthonormal: false")
        if not 0 < threshold < 1:
            raise OptionError(f"threshold of a subspace must lie between 0 and 1, not {threshold}")
        if rows_per_update is not None and rows_per_update < 1:
            raise OptionError(f"rows_per_update of a subspace must be at least 1, not {rows_per_update}")
        self.n = int(n)
        self.alpha = float(alpha)
        self.importance = importance
        self.threshold = threshold
        self.orthonormal = orthonormal
        self.rows_per_update = rows_per_update
        self.device = torch.device(device or "cpu")
        seed = torch.randint(2**62, (), generator=generator, device=generator.device)
        self.generator = torch.Generator().manual_seed(int(seed))
        self.partition: list[int] = []
        """Rows that each finished task added."""
        self.automatic = False
        """Whether the rank of the current task is automatic."""
        self.learning = False
        """Whether a task has begun, by ``grow``, that ``merge`` has not ended."""
        self._freeze(self._empty(), self._empty(1)[:, 0])

    def _empty(self, width: int | None = None) -> Tensor:
        return torch.zeros(0, self.n if width is None else width, device=self.device)

    def _freeze(self, rows: Tensor, weights: Tensor) -> None:
        self.frozen = rows
        """Rows of the tasks that are over, ``[rank, n]``."""
        self.weights = weights
        """Share of the component along each frozen row that is taken out, before ``alpha``, ``[rank]``."""
        self._without = Projection(rows, orthonormal=self.orthonormal)
        strength = self.alpha if self.importance is None else self.alpha * weights
        same = self.importance is None and self.alpha == 1
        self._projection = self._without if same else Projection(rows, strength, orthonormal=self.orthonormal)

    @property
    def rank(self) -> int:
        """Frozen rows: dimensions in which weights no longer change."""
        return len(self.frozen)

    @property
    def capacity(self) -> int:
        """Dimensions there are: the inputs of the layer."""
        return self.n

    def grow(self, rows: int | None = None) -> None:
        """Begin a task that may take ``rows`` new rows; None: as many as hold ``threshold`` of its energy.

        No more rows are taken than there are dimensions left.
        """
        if self.learning:
            raise OptionError("grow() begins a task and the one before is not over; call merge() first")
        if rows is not None and (rows < 0 or rows != int(rows)):
            raise OptionError(f"a subspace grows by a whole number of rows, 0 or more, not {rows}")
        left = self.n - self.rank
        self.learning, self.automatic = True, rows is None
        self._begin(None if rows is None else min(int(rows), left))

    def update(self, x: Tensor | Activity) -> None:
        """Learn from the presynaptic activity ``x`` of a batch of the current task, also given as rows [R, n]."""
        with torch.no_grad():
            chosen = self._chosen(x)
            if len(chosen) and (self.rank < self.n or self.importance is not None):
                self._learn(chosen)

    def _chosen(self, x: Tensor | Activity) -> Activity:
        """Return the activity to learn from, checked, in float32 on the device of the subspace."""
        if not self.learning:
            raise OptionError("update() learns the rows of a task that has not begun; call grow() first")
        if isinstance(x, Tensor):
            if x.ndim != 2 or x.shape[1] != self.n:
                raise ShapeError(f"activity of a layer with {self.n} inputs is [rows, {self.n}], not {list(x.shape)}")
            x = Rows(x)
        if x.n != self.n:
            raise ShapeError(f"activity of a layer with {self.n} inputs cannot have {x.n}")
        if self.rows_per_update is not None and len(x) > self.rows_per_update:
            drawn = torch.randperm(len(x), generator=self.generator)[: self.rows_per_update]
            x = Rows(x.rows(drawn))
        return x.to(self.device, torch.float32)

    @torch.no_grad()
    def merge(self) -> None:
        """End the task: what was learned is frozen, after the rows before, which stay bit for bit as they are."""
        if not self.learning:
            raise OptionError("merge() ends a task that has not begun; call grow() first")
        found = self._found()
        rows, energy = found.rows, found.energy
        if self.orthonormal:
            rows, kept = orthonormalised(rows, self.frozen)
            energy = None if energy is None else energy[kept]
        self.partition.append(len(rows))
        self.learning, self.automatic = False, False
        self._freeze(torch.cat([self.frozen, rows]), self._weights(len(rows), energy, found.along))
        self._end()

    def _weights(self, new: int, energy: Tensor | None, along: Tensor | None) -> Tensor:
        """Return the strengths of the old and the new rows."""
        fresh = torch.ones(new, device=self.device)
        if self.importance is None or energy is None or along is None:
            return torch.cat([self.weights, fresh])
        sizes = torch.cat([along, energy]).clamp_min(0).sqrt()
        largest = sizes.max() if len(sizes) else sizes.new_ones(())
        shares = (self.importance + 1) * sizes / (self.importance * sizes + largest).clamp_min(1e-30)
        before = torch.cat([self.weights, torch.zeros_like(fresh)])
        return (before + shares).clamp_max(1)

    def project(self, g: Tensor) -> Tensor:
        """Return ``g [..., n]`` without its component along the frozen rows, times ``alpha`` and their importance."""
        if g.shape[-1] != self.n:
            raise ShapeError(f"a gradient of a layer with {self.n} inputs ends in {self.n}, not {list(g.shape)}")
        return self._projection(g)

    @property
    def projection(self) -> Projection:
        """What ``project`` does."""
        return self._projection

    @property
    def removes_all(self) -> bool:
        """Whether the projection removes the whole component along the frozen rows, as those who learn from it do."""
        return self._projection is self._without

    def project_activity(self, x: Activity) -> Tensor:
        """Return ``project`` of activity [R, n], its zeros being passed over where that is faster."""
        return self._projection.of(x)

    def project_input(self, x: Tensor) -> Tensor:
        """Return presynaptic activity ``x [..., n]`` as the weight gradient is to see it.

        The same map as ``project`` where that is ``exact``.
        """
        return self.project(x)

    def report(self) -> dict[str, Any]:
        """Return rank, capacity, rows per task and warnings, ready for JSON."""
        warnings = []
        if self.rank >= self.n:
            warnings.append(f"all {self.n} dimensions are taken: this layer learns nothing more")
        elif self.rank > FULL * self.n:
            warnings.append(f"{self.rank} of {self.n} dimensions are taken: little is left to learn with")
        if not self.exact:
            warnings.append("lateral spikes are not linear: projected gradients differ from projected inputs")
        return {
            "learner": getattr(type(self), "registered_name", type(self).__name__),
            "rank": self.rank,
            "capacity": self.capacity,
            "rows": list(self.partition),
            "exact": self.exact,
            "warnings": warnings,
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that has been learned, the partition included, as tensors."""
        state = {
            "frozen": self.frozen,
            "weights": self.weights,
            "partition": torch.tensor(self.partition, dtype=torch.int64),
            "flags": torch.tensor([self.learning, self.automatic]),
            "generator": self.generator.get_state(),
            **self._state(),
        }
        return {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what another subspace of the same kind and options had learned; learning goes on the same."""
        missing = sorted(self.state_dict().keys() - state.keys())
        if missing:
            raise ShapeError(f"the state of a subspace lacks {', '.join(missing)}; it is of another learner")
        rows = state["frozen"]
        if rows.ndim != 2 or rows.shape[1] != self.n or int(state["partition"].sum()) != len(rows):
            raise ShapeError(f"the state of a subspace of {self.n} dimensions cannot have rows {list(rows.shape)}")
        self.partition = [int(k) for k in state["partition"]]
        self.learning, self.automatic = (bool(flag) for flag in state["flags"])
        self.generator.set_state(state["generator"].cpu())
        self._freeze(rows.to(self.device, copy=True), state["weights"].to(self.device, copy=True))
        self._set_state({k: v.to(self.device, copy=True) for k, v in state.items()})

    @abstractmethod
    def _begin(self, rows: int | None) -> None:
        """Prepare for a task with ``rows`` new rows, at most as many as are left; None: automatic."""

    @abstractmethod
    def _learn(self, x: Activity) -> None:
        """Learn from activity of R rows, at least 1."""

    @abstractmethod
    def _found(self) -> Found:
        """Return what was found in the task that is over."""

    @abstractmethod
    def _end(self) -> None:
        """Forget what belonged to the task alone."""

    @abstractmethod
    def _state(self) -> dict[str, Tensor]:
        """Return what the learner itself keeps."""

    @abstractmethod
    def _set_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what ``_state`` of another learner gave; the base class has set its own."""
