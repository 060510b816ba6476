"""A graceful stop on a real kubelet: a server that is deaf to SIGTERM does not outlive `terminate`."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from killswitch.core.kinds import TABLE
from tests.cluster import stand_ins
from tests.cluster.control_plane import ControlPlane
from tests.cluster.examples import LABELS, NAME, Example
from tests.cluster.node import RealNode, server
from tests.cluster.test_node import commands
from tests.e2e.field import Field, essence, taken
from tests.reactor.harness import OPERATOR_NAMESPACE, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
_GRACE = 600
"""Seconds that the pods ask for: longer than the test may last."""
_TERMINATE = 10


@pytest.fixture
async def field(kernel: ControlPlane, real_node: RealNode) -> AsyncIterator[Field]:
    """A fresh governed namespace with a running reactor and manager, whose pods end on the node."""
    kernel.api().create("/api/v1/namespaces", {"metadata": {"name": OPERATOR_NAMESPACE}})
    async with taken(kernel, "gently-on-a-node") as ready:
        yield ready
    path = f"/apis/apps/v1/namespaces/{ready.namespace}/deployments"
    kernel.api().delete(path)


async def test_a_deaf_server_its_sidecar_and_its_init_container_end_at_terminate(
    field: Field, real_node: RealNode
) -> None:
    """Asked first they go on; then they are killed, though the pod asks for more, and come back.

    Within the grace of the first request: this kubelet does not heed a shorter one that comes later.
    """
    example = deaf(real_node)
    before = essence(await field.set_up(example))
    (pod,) = await field.scene.bench.pods()
    uid = pod["metadata"]["uid"]

    def serving() -> int:
        return commands(real_node.processes(uid)).count("serve")

    assert serving() == 2
    terms = {"category": "Graceful", "graceful": {"drain": "1s", "terminate": f"{_TERMINATE}s"}}
    await field.policy(example.target, action=terms)

    async def asked() -> bool:
        found = await field.scene.bench.pods()
        given = [each["metadata"].get("deletionGracePeriodSeconds") or 0 for each in found]
        return any(1 < each <= _TERMINATE for each in given)

    trip = asyncio.create_task(field.trip())
    await eventually(asked)
    assert serving() == 2
    await trip
    assert real_node.processes(uid) == []
    await field.running(0)  # its kubelet says that it has ended before it lets go of the object
    assert field.witness.recreated == []
    await field.release()
    await field.restore()
    await field.running(1)
    assert essence(await field.get(example)) == before


def deaf(real_node: RealNode) -> Example:
    """A Deployment of one such pod, whose init container has ended and whose sidecar never does."""
    body = stand_ins.deployment(NAME, 1, LABELS)
    spec = real_node.pod_spec(grace=_GRACE)
    loader = {**server("loader"), "command": ["/server", "brief"]}
    del loader["args"]
    spec["initContainers"] = [loader, {**server("sidecar"), "restartPolicy": "Always"}]
    body["spec"]["template"]["spec"] = spec
    return Example(TABLE["Deployment"], body, 1)
