"""Patch embeddings: images to maps that the blocks read as tokens, by name."""

from step.models.transformer.embedding.base import Embedding, embeddings, halvings, to_maps, to_tokens
from step.models.transformer.embedding.patch import PatchEmbedding, TwoConvolutions
from step.models.transformer.embedding.sequence import SequenceEmbedding
from step.models.transformer.embedding.sgl import GlobalLocalTokenizer
from step.models.transformer.embedding.sps import SpikingPatchSplitting
from step.models.transformer.embedding.tokenizer import SpikingTokenizer

__all__ = [
    "Embedding", "GlobalLocalTokenizer", "PatchEmbedding", "SequenceEmbedding", "SpikingPatchSplitting",
    "SpikingTokenizer", "TwoConvolutions", "embeddings", "halvings", "to_maps", "to_tokens",
]  # fmt: skip
