"""What a person's stop saw, stored on its Shutdown where the person may: the true moments.

Without it the manager knows only the creation time, in whole seconds. As the reactors do, under a
field manager of its own; times that are stored already stay.
"""

import contextlib

from killswitch.cli.connect import Session
from killswitch.core import times
from killswitch.core.errors import KillSwitchError
from killswitch.core.resources import CLUSTER_SHUTDOWNS, SHUTDOWNS
from killswitch.ports import Json
from killswitch.reactor import finisher
from killswitch.reactor.stop import Outcome

FIELD_MANAGER = "killswitch-cli"


async def begun(session: Session, shutdown: Json, outcome: Outcome) -> None:
    """Store when it was decided and locked, early: the manager may look any moment."""
    stages = {name: times.text(at) for name, at in outcome.stages.items()}
    with contextlib.suppress(KillSwitchError):  # few people may write it: then it is left
        await _apply(session, shutdown, {"stages": stages})


async def ended(session: Session, shutdown: Json, outcome: Outcome) -> None:
    """Store what the sequence reached.

    Conditions only where all was done and proven: anything less is a reactor's to finish, and a
    reactor leaves alone what is said to be stopped.
    """
    metadata = shutdown["metadata"]
    resource = SHUTDOWNS if shutdown["kind"] == SHUTDOWNS.kind else CLUSTER_SHUTDOWNS
    with contextlib.suppress(KillSwitchError):
        current = await session.cluster.get(
            resource, metadata["name"], metadata.get("namespace", "")
        )
        status = finisher.status(current, outcome, now=session.clock.now())
        if not (outcome.finished and "proven" in outcome.stages):
            del status["conditions"]
        await _apply(session, shutdown, status)


async def _apply(session: Session, shutdown: Json, status: Json) -> None:
    metadata = shutdown["metadata"]
    resource = SHUTDOWNS if shutdown["kind"] == SHUTDOWNS.kind else CLUSTER_SHUTDOWNS
    await session.cluster.apply(
        resource,
        metadata["name"],
        {"status": status},
        metadata.get("namespace", ""),
        subresource="status",
        manager=FIELD_MANAGER,
    )
