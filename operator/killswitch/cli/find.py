"""A Shutdown by the name a person gave: in the namespace, else the ClusterShutdown."""

from killswitch.cli.connect import Session
from killswitch.cli.references import parse
from killswitch.core.errors import NotFoundError, RefusedError
from killswitch.core.kinds import CLUSTER_SHUTDOWNS, SHUTDOWNS, Resource
from killswitch.ports import Json


async def shutdown(session: Session, text: str) -> tuple[Resource, Json]:
    """The object and its kind; NotFoundError says where it was looked for."""
    reference = parse(text, allowed=(SHUTDOWNS, CLUSTER_SHUTDOWNS))
    if reference.resource is not None:
        found = await session.cluster.get(reference.resource, reference.name, session.namespace)
        return reference.resource, found
    try:
        return SHUTDOWNS, await session.cluster.get(SHUTDOWNS, text, session.namespace)
    except NotFoundError as here:
        try:
            return CLUSTER_SHUTDOWNS, await session.cluster.get(CLUSTER_SHUTDOWNS, text)
        except (NotFoundError, RefusedError):
            raise here from None
