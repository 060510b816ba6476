"""Fixtures of the whole suite."""

import pytest

from killswitch.telemetry.logs import log_to_stderr

log_to_stderr()  # as the processes do: plain lines, which are quick to write

pytest_plugins = ["tests.cluster.fixtures", "tests.kernel.fixtures"]

_ON_A_REAL_NODE = "on a real node"
"""Tests with a kubelet: its servers share this machine's network, so there is one at a time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run beside each other, those of one file stay together: they share what it starts."""
    for item in items:
        starts_one = item.path.parent.name == "demo" or item.path.name == "test_node.py"
        on_node = starts_one or "real_node" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group(_ON_A_REAL_NODE if on_node else str(item.path)))
