"""Spiking transformers: one file for each paper, the parts they share beside them."""
