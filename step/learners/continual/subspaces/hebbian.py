"""Hebbian orthogonal projection: lateral connections learn the principal subspace by a local rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from neurons.checks import count, positive
from neurons.errors import OptionError
from step.learners.continual.rules.activity import Activity
from step.learners.continual.subspaces.base import subspaces
from step.learners.continual.subspaces.lateral import LateralSpikes
from step.learners.continual.subspaces.projection import EVENT
from step.learners.continual.subspaces.streaming import Streaming

Form = Literal["residual", "rows", "moment"]

LIMIT = 10.0
"""Largest entry of one change G of the lateral weights (code of Xiao et al.)."""

_LAYOUT = 50
"""What laying out one value of a patch costs, in multiply-adds."""

LONGEST = 2.0
"""Length from which rows are cut where the learning rate is automatic."""


@subspaces.register("hebbian")
class Hebbian(Streaming):
    r"""Oja's subspace rule with momentum on lateral weights (HLOP: Xiao et al., ICLR 2024).

    With lateral weights H = [H_f; H_n] (frozen rows, new rows), a batch X of R rows goes ``iterations`` times through

        Y = X H^T,  X^ = Y H,  G = clip(Y_n^T (X - X^) / R, -10, 10),
        V <- m V + (1 - m) G,  H_n <- H_n + eta V

    The forward connections H and the backward ones -H^T are skew-symmetric: the first response is Hebbian, y x^T, the
    one to the feedback anti-Hebbian, -y x^^T. For C = E[x x^T] (not centred) the mean change is
    H_n C (I - H_f^T H_f - H_n^T H_n): the new rows leave the span of the frozen ones and come to span the leading part
    of what is left.

    Frozen rows do not change and their answers are not needed: with M = Y_n^T X and P(z) = z - z H_f^T H_f, the same
    G is (P(M) - Y_n^T Y_n H_n) / R. Three forms of it, equal but for rounding, differ in cost and the cheapest is taken
    (``form``): ``residual`` takes P of the batch, once; ``rows`` takes P of M; ``moment`` replaces the batch by its
    moment X^T X, so that iterations do not see its rows.

    Parameters
    ----------
    n : int
        Inputs of the layer.
    eta : float or "auto"
        Learning rate. Xiao et al. have 0.001 for the 784 pixels of permuted MNIST and 0.01 for all other layers.
        ``auto`` is c / trace(C), with the mean squared length of the rows of the task so far or, where that is larger,
        of the batch; the limit of G is trace(C) then, a row longer than 2 is cut to 2 (its length goes to 1, and from
        far above the rule does not come back), and a silent batch changes nothing. That makes the rule the same for
        every scale of the activity. ``eta`` may be changed between updates.
    rate : float
        c. Near the solution, steps along an axis of energy lambda diverge from eta lambda = (1 + m) / (1 - m) on, and
        lambda is at most trace(C); far from it, earlier. A c of a quarter of that or more is refused. Up to 4 learns
        faster where batches are well mixed; batches that differ much from one another, or of a few rows, need 0.5,
        since momentum carries what one says into the next.
    momentum : float
        m, at least 0 and below 1.
    iterations : int
        Passes over each batch.
    lateral_steps : int, optional
        Lateral neurons answer in bursts of so many time steps, :class:`LateralSpikes`, in learning and projection. The
        projection is no linear map then: ``project_input`` is what they do, and ``project`` of a summed gradient, which
        leaves the bursts out, is near it and not equal (``exact`` is False).
    lateral_range : float
        The largest activity that a burst stands for.
    form : {"residual", "rows", "moment"}, optional
        Takes this form of the rule, whatever it costs.
    **options
        Of :class:`Streaming` and :class:`Subspace`.
    """

    def __init__(
        self,
        n: int,
        *,
        eta: float | Literal["auto"] = "auto",
        rate: float = 2.0,
        momentum: float = 0.9,
        iterations: int = 5,
        lateral_steps: int | None = None,
        lateral_range: float = 20.0,
        form: Form | None = None,
        **options: Any,
    ) -> None:
        if eta != "auto":
            positive("a Hebbian subspace", eta=eta)
        positive("a Hebbian subspace", rate=rate)
        count("a Hebbian subspace", iterations=iterations)
        if not 0 <= momentum < 1:
            raise OptionError(f"momentum of a Hebbian subspace must be at least 0 and below 1, not {momentum}")
        if eta == "auto" and rate >= (stable := (1 + momentum) / (1 - momentum) / 4):
            raise OptionError(
                f"rate {rate} of a Hebbian subspace may diverge with momentum {momentum}; it must be below {stable:.3g}"
            )
        if lateral_steps is not None and form not in (None, "residual"):
            raise OptionError(f"lateral spikes answer every row for itself; form {form!r} needs linear lateral neurons")
        self.eta: float | Literal["auto"] = eta
        self.rate = rate
        self.momentum = momentum
        self.iterations = iterations
        self.lateral = None if lateral_steps is None else LateralSpikes(lateral_steps, lateral_range)
        self.exact = self.lateral is None
        self.form = form
        super().__init__(n, **options)

    def _end(self) -> None:
        super()._end()
        self._velocity = self._empty()
        self._seen = torch.zeros(2, dtype=torch.float64, device=self.device)  # rows, their summed squared lengths

    def _extend(self, rows: int) -> None:
        super()._extend(rows)
        self._velocity = torch.cat([self._velocity, torch.zeros(rows, self.n, device=self.device)])

    def _improve(self, x: Activity) -> None:
        change = self._change(x)
        if self.eta != "auto":
            for _ in range(self.iterations):
                g = change().div_(len(x)).clamp_(-LIMIT, LIMIT)
                self._velocity = self._velocity.lerp(g, 1 - self.momentum)
                self.fresh = torch.add(self.fresh, self._velocity, alpha=self.eta)
            return
        energy = x.energy()
        self._seen[0] += len(x)
        self._seen[1] += energy
        trace = torch.maximum((self._seen[1] / self._seen[0]).float(), energy / len(x)).clamp_min(1e-30)
        active = (energy > 0).float()
        for _ in range(self.iterations):
            g = (change() / (len(x) * trace)).clamp_(-1, 1)
            self._velocity = self._velocity.lerp(g, (1 - self.momentum) * active)
            fresh = self.fresh + self.rate * active * self._velocity
            self.fresh = fresh * (LONGEST / fresh.norm(dim=1, keepdim=True)).clamp_max(1)

    def _change(self, x: Activity) -> Callable[[], Tensor]:
        """Return what gives R G for the batch ``x`` and the new rows as they are when it is called."""
        form = self.form or ("residual" if self.lateral is not None else self.cheapest(x))
        if form == "moment":
            rows = x.rows()
            moment = rows.T @ rows

            def change() -> Tensor:
                m = self.fresh @ moment
                return self._inhibited(self._without(m), m @ self.fresh.T)

        elif form == "rows":

            def change() -> Tensor:
                y = x.times(self.fresh)
                m = x.back(y)
                together = y.T @ y if len(x) <= self.n else m @ self.fresh.T
                return self._inhibited(self._without(m), together)

        else:
            left = self._without_input(x)

            def change() -> Tensor:
                y = self._answers(x, self.fresh)
                if self._per_row(len(x)):
                    return y.T @ (left - y @ self.fresh)
                return self._inhibited(y.T @ left, y.T @ y)

        return change

    def _inhibited(self, change: Tensor, together: Tensor) -> Tensor:
        """Return a change of the new rows less the feedback of these rows themselves."""
        return torch.addmm(change, self._inhibiting(together), self.fresh, alpha=-1)

    def _inhibiting(self, together: Tensor) -> Tensor:
        """Return how much each row (column) inhibits the learning of each (row), given the sums Y^T Y ``[K, K]``."""
        return together

    def _per_row(self, rows: int) -> bool:
        """Whether feedback to every sample is cheaper than the products Y^T Y H of the new rows."""
        return rows * self.n <= len(self.fresh) * (rows + self.n)

    def _answers(self, x: Activity, rows: Tensor) -> Tensor:
        y = x.times(rows)
        return y if self.lateral is None else self.lateral(y)

    def _without_input(self, x: Activity) -> Tensor:
        """Return ``x [R, n]`` with the feedback of the frozen rows."""
        if self.lateral is not None:
            return x.rows() - self._answers(x, self.frozen) @ self.frozen
        return self._without.of(x) if x.left is None else x.left

    def project_input(self, x: Tensor) -> Tensor:
        """Return activity ``x [..., n]`` as the weight gradient is to see it: through lateral spikes, if any."""
        if self.lateral is None:
            return super().project_input(x)
        along = self.lateral(x.to(torch.float32) @ self.frozen.T) * (self.alpha * self.weights)
        return (x - along @ self.frozen).to(x.dtype)

    def cheapest(self, x: Activity) -> Form:
        """Return the form that takes the fewest multiply-adds for a batch."""
        rows, n, new, steps = len(x), self.n, len(self.fresh), self.iterations
        without = self._without.cost * n
        squares = new * new * (rows + n)
        answered = min(rows * n * new, squares) if self._per_row(rows) else squares
        layout = 0 if x.laid_out else _LAYOUT * rows * n
        dense = min(1.0, EVENT * x.density())
        once = 0.0 if x.left is not None else self._without.cost_of(x)[0] * rows * n
        costs: dict[Form, float] = {
            "residual": layout + once + steps * ((1 + dense) * rows * n * new + answered),
            "rows": steps * (2 * dense * rows * n * new + new * without + new * new * (min(rows, n) + n)),
            "moment": layout + rows * n * n + steps * (new * n * n + new * without + 2 * new * new * n),
        }
        return min(costs, key=costs.__getitem__)

    def _state(self) -> dict[str, Tensor]:
        return {**super()._state(), "velocity": self._velocity, "seen": self._seen}

    def _set_state(self, state: Mapping[str, Tensor]) -> None:
        super()._set_state(state)
        self._velocity, self._seen = state["velocity"], state["seen"]
