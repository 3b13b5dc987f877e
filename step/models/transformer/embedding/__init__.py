"""Patch embeddings: images to maps that the blocks read as tokens, by name."""

from step.models.transformer.embedding.base import Embedding, embeddings, halvings, to_maps, to_tokens
from step.models.transformer.embedding.sps import SpikingPatchSplitting

__all__ = ["Embedding", "SpikingPatchSplitting", "embeddings", "halvings", "to_maps", "to_tokens"]
