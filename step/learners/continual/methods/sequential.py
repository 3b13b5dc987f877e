"""The two ends: learning task after task with no guard at all, and learning all tasks at once."""

from __future__ import annotations

from step.learners.continual.methods.base import Method, methods


@methods.register("sequential")
class Sequential(Method):
    """Plain training on one task after another: how much is forgotten without any guard (lower bound)."""


@methods.register("joint")
class Joint(Method):
    """Plain training on all tasks at once: what the network could learn if nothing came late (upper bound)."""

    joint = True
