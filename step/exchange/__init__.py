"""Trained networks as files that other simulators and chips read, and theirs as networks.

>>> from step import exchange
>>> graph = exchange.to_nir(network)               # a nir.NIRGraph; or exchange.write_nir(network, "net.nir")
>>> network = exchange.read_nir("net.nir")         # a network like any other: measured, streamed, compared with twins
"""

from step.exchange.from_nir import NIRNetwork, read_nir
from step.exchange.to_nir import to_nir, write_nir

__all__ = ["NIRNetwork", "read_nir", "to_nir", "write_nir"]
