"""`manager`, `reactor`, `node`: the processes of the operator, started from the same command.

Only names and lazy imports stand here; `killswitch.wiring` builds the processes.
"""


def reactor() -> None:
    """Run one reactor replica until it is told to stop."""
    import asyncio

    from killswitch.settings import Settings
    from killswitch.wiring import run_reactor

    asyncio.run(run_reactor(Settings()))


def manager() -> None:
    """Run the manager until it is told to stop."""
    import asyncio

    from killswitch.settings import Settings
    from killswitch.wiring import run_manager

    asyncio.run(run_manager(Settings()))


def node() -> None:
    """Run the node guard; for the chart's DaemonSet, as root on a node."""
    import os
    import sys

    # A guard of its own: none of the command line's modules stays in the memory of the process
    # that must go on when the node is short of it.
    os.execv(sys.executable, [sys.executable, "-m", "killswitch.node"])  # noqa: S606
