"""Attentions of spiking transformers, one file for each paper, by name."""

from step.models.transformer.attention.base import Attention, attentions
from step.models.transformer.attention.ssa import SpikingSelfAttention, attention_product

__all__ = ["Attention", "SpikingSelfAttention", "attention_product", "attentions"]
