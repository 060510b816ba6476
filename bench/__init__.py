"""Benchmarks: ratios against a baseline of the same run, never asserted, printed as JSON lines."""
