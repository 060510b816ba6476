"""The taints and the fence request of a stop: the reactor sets them, the manager takes them off."""

import time
from typing import Any

import pytest

from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.kernel.test_accounts import OPERATOR, accounts
from tests.kernel.test_protection import nodes

__all__ = ["accounts"]
pytestmark = pytest.mark.cluster
STOPPED = {"key": "killswitch.dev/stopped", "value": "zone-1", "effect": "NoExecute"}
QUARANTINE = {"key": "killswitch.dev/quarantine", "value": "zone-1", "effect": "NoSchedule"}
OTHER = {"key": "example.com/gpu", "effect": "NoSchedule"}
FENCE = "killswitch.dev/fence-requested"


def tainted(*taints: dict[str, str]) -> dict[str, Any]:
    """A node with these taints."""
    return {"spec": {"taints": list(taints)}}


def fenced(value: str | None, **more: str) -> dict[str, Any]:
    """A node with this request for fencing."""
    return {"metadata": {"annotations": {FENCE: value, **more}}}


@pytest.fixture
def node(accounts: ControlPlane) -> str:
    """A node that somebody else has tainted."""
    (name,) = accounts.add_gpu_nodes(1, prefix=f"marks-{time.monotonic_ns()}")
    assert accounts.api().patch(nodes(name), tainted(OTHER)).status == 200
    return name


def api_of(accounts: ControlPlane, name: str) -> Api:
    """The API as one of the operator's accounts."""
    return accounts.api(accounts.service_account(OPERATOR, f"killswitch-{name}"))


@pytest.mark.parametrize("mark", [STOPPED, QUARANTINE])
def test_the_reactor_taints_and_the_manager_takes_off(
    accounts: ControlPlane, node: str, mark: dict[str, str]
) -> None:
    """Each only its own half, and others' taints by neither."""
    reactor, manager = api_of(accounts, "reactor"), api_of(accounts, "manager")
    answer = manager.patch(nodes(node), tainted(OTHER, mark))
    assert (answer.status, "adds nothing" in answer.message) == (403, True)
    assert reactor.patch(nodes(node), tainted(OTHER, mark)).status == 200
    for change in (tainted(OTHER), tainted(OTHER, {**mark, "value": "else"})):
        answer = reactor.patch(nodes(node), change)
        assert (answer.status, "undoes none of it" in answer.message) == (403, True)
    for account in (reactor, manager):
        answer = account.patch(nodes(node), tainted(mark))
        assert (answer.status, "changes nothing of a Node" in answer.message) == (403, True)
    assert manager.patch(nodes(node), tainted(OTHER)).status == 200


@pytest.mark.parametrize(
    "mark",
    [
        {**STOPPED, "effect": "NoSchedule"},
        {**QUARANTINE, "effect": "NoExecute"},
        {"key": "killswitch.dev/more", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"},
    ],
)
def test_the_reactor_sets_no_other_taint(
    accounts: ControlPlane, node: str, mark: dict[str, str]
) -> None:
    """A stolen token of it could empty nodes in no other way; out-of-service deletes by force."""
    answer = api_of(accounts, "reactor").patch(nodes(node), tainted(OTHER, mark))
    assert answer.status == 403


def test_fencing_is_asked_for_by_the_reactor_and_withdrawn_by_the_manager(
    accounts: ControlPlane, node: str
) -> None:
    """And nothing else is written into a node's annotations."""
    reactor, manager = api_of(accounts, "reactor"), api_of(accounts, "manager")
    assert manager.patch(nodes(node), fenced("prod/a")).status == 403
    assert reactor.patch(nodes(node), fenced("prod/a", other="x")).status == 403
    assert reactor.patch(nodes(node), fenced("prod/a")).status == 200
    assert reactor.patch(nodes(node), fenced("prod/b")).status == 403
    assert reactor.patch(nodes(node), fenced(None)).status == 403
    assert manager.patch(nodes(node), fenced("prod/b")).status == 403
    assert manager.patch(nodes(node), fenced(None)).status == 200
