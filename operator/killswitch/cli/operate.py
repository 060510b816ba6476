"""`manager`, `reactor`, `run`: the processes of the operator, started from the same command.

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
