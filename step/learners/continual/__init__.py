"""Continual learning: task after task, without forgetting the ones before.

``methods`` guard against forgetting, ``rules`` give gradients, ``subspaces`` learn what past tasks used; the learner
``continual`` puts them together.
"""
