"""Benchmarks: what the operator asks of the API server and what it costs, counted; docs/performance.md states them."""
