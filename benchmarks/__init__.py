"""Benchmarks: data sets, protocols (what is asked of a network and how it is scored) and suites of runs."""
