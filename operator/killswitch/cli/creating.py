"""What creating a person's order takes: its name, a namespace where locks apply, and patience."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.observe import BOUNDARIES, Observed
from killswitch.cli.problems import PROGRAM, Problem, said
from killswitch.core.errors import RefusedError, ServerError, UnavailableError
from killswitch.core.resources import NAMESPACES
from killswitch.ports import Json

_LABEL_SPREADS = 2.0
"""Seconds within which every API server knows a namespace's new label."""


def object_name(me: str, moment: float) -> str:
    """`alice-20261124t155003-123` for alice@example.org or system:serviceaccount:prod:alice."""
    short = me.rpartition(":")[2].partition("@")[0].lower()
    # At most 30, since the name becomes a label's value and others are derived from it.
    short = re.sub(r"[^a-z0-9]+", "-", short)[:30].strip("-") or "person"
    text = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dt%H%M%S-%f")
    return f"{short}-{text[:-3]}"


async def govern(session: Session, namespace: str) -> None:
    """Set the label; a Problem with the way without it where the user may not."""
    body = {"metadata": {"labels": {BOUNDARIES.governed_label: "true"}}}
    try:
        await session.cluster.patch(NAMESPACES, namespace, body)
    except RefusedError as error:
        why = f"the lock applies in governed namespaces only, and you may not govern: {said(error)}"
        cure = (
            f"someone who may change namespaces runs: {PROGRAM} govern {namespace}; "
            f"meanwhile without a lock that people hold: {PROGRAM} break-glass --bare -n {namespace}"
        )
        raise Problem(f"govern namespace {namespace}", why, cure, ExitCode.REFUSED) from error


async def insist(
    session: Session, observed: Observed, create: Callable[[], Awaitable[Json]]
) -> Json:
    """What `create` gives, asked again while a failure may pass or hide a success.

    A label set a moment ago may not have reached the admission yet.
    """
    until = session.clock.monotonic() + _LABEL_SPREADS
    while True:
        try:
            return await create()
        except RefusedError:
            if not observed.ungoverned or session.clock.monotonic() >= until:
                raise
        except (ServerError, UnavailableError):
            # Either may hide a success; the name is the same, so asking again is safe.
            if session.clock.monotonic() >= until:
                raise
        await session.clock.sleep(0.05)
