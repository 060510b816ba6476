"""Fixtures of the whole suite."""

pytest_plugins = ["tests.cluster.fixtures", "tests.kernel.fixtures"]
