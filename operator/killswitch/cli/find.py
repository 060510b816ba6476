"""A Shutdown, or a Freeze, by the name a person gave: in the namespace, else the ClusterShutdown."""

import contextlib

from killswitch.cli.connect import Session
from killswitch.cli.problems import PROGRAM, Problem, not_installed
from killswitch.cli.references import parse
from killswitch.core.errors import KillSwitchError, NotFoundError, RefusedError
from killswitch.core.resources import (
    CLUSTER_POLICIES,
    CLUSTER_SHUTDOWNS,
    FREEZES,
    POLICIES,
    SHUTDOWNS,
    Resource,
)
from killswitch.ports import Json


async def order(session: Session, text: str) -> tuple[Resource, Json]:
    """A Shutdown of either kind, else the Freeze of that name."""
    reference = parse(text, allowed=(SHUTDOWNS, CLUSTER_SHUTDOWNS, FREEZES))
    if reference.resource is FREEZES:
        return FREEZES, await session.cluster.get(FREEZES, reference.name, session.namespace)
    try:
        return await shutdown(session, text)
    except Problem:
        if reference.resource is None:
            with contextlib.suppress(KillSwitchError):
                return FREEZES, await session.cluster.get(FREEZES, text, session.namespace)
        raise


async def shutdown(session: Session, text: str) -> tuple[Resource, Json]:
    """The object and its kind; a Problem says where it was looked for."""
    reference = parse(text, allowed=(SHUTDOWNS, CLUSTER_SHUTDOWNS))
    kinds = (reference.resource,) if reference.resource else (SHUTDOWNS, CLUSTER_SHUTDOWNS)
    looked = []
    for kind in kinds:
        place = f"no {kind.kind} of that name"
        place += f" in namespace {session.namespace}" if kind.namespaced else ""
        try:
            return kind, await session.cluster.get(kind, reference.name, session.namespace)
        except NotFoundError as error:
            if not_installed(error):
                raise
            looked.append(place)
        except RefusedError:
            if not looked:
                raise
            looked.append(f"{kind.plural} are hidden from you")
    cure = await _cure(session, reference.name)
    raise Problem(f"find {reference.name}", "; ".join(looked), cure)


async def _cure(session: Session, name: str) -> str:
    """Where else to look: a policy of that name, or other namespaces."""
    for kind, word in ((POLICIES, "policy"), (CLUSTER_POLICIES, "clusterpolicy")):
        try:
            await session.cluster.get(kind, name, session.namespace)
        except KillSwitchError:
            continue
        place = f" -n {session.namespace}" if kind.namespaced else ""
        return f"a {kind.kind} has that name: {PROGRAM} why {word}/{name}{place}"
    return f"see what is there: {PROGRAM} status -A, or name its namespace with -n"
