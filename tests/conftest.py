"""Fixtures of the whole suite."""

from killswitch.telemetry.logs import log_to_stderr

log_to_stderr()  # as the processes do: plain lines, which are quick to write

pytest_plugins = ["tests.cluster.fixtures", "tests.kernel.fixtures"]
