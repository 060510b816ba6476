"""Who may write which ShutdownRecord: the manager carries out by its own rights what one names."""

import time
from typing import Any

import pytest

from killswitch.core import fighters
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import GROUP

pytestmark = pytest.mark.cluster
OPERATOR = "killswitch-system"
POD = {"kind": "Pod", "manifest": "{}"}


def _path(namespace: str) -> str:
    return f"{GROUP}/namespaces/{namespace}/shutdownrecords"


def _record(**target: Any) -> dict[str, Any]:
    entry = {"kind": "Deployment", "name": "vllm", "uid": "u", "replicas": 3}
    return {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "ShutdownRecord",
        "metadata": {"name": f"r-{time.monotonic_ns()}"},
        "spec": {"shutdown": "s", "shutdownUid": "u", "targets": [{**entry, **target}]},
    }


def _process(kernel: ControlPlane, governed: str, name: str) -> Api:
    """A process with the right to write records there, and none beyond."""
    kernel.api().create("/api/v1/namespaces", {"metadata": {"name": OPERATOR}})
    user = kernel.service_account(OPERATOR, f"killswitch-{name}")
    kernel.kubectl(
        "create", "rolebinding", name, "--clusterrole=test-responder", "-n", governed,
        f"--serviceaccount={OPERATOR}:killswitch-{name}",
    )  # fmt: skip
    return kernel.api(user)


def _person(kernel: ControlPlane, governed: str, name: str, *resources: str) -> Api:
    """Somebody who may create these there, and nothing else."""
    named = ",".join(f"{each}.killswitch.dev" for each in resources)
    kernel.kubectl(
        "create", "role", name, "--verb=create", f"--resource={named}", "-n", governed
    )  # fmt: skip
    kernel.kubectl(
        "create", "rolebinding", name, f"--role={name}", f"--user={name}", "-n", governed
    )
    return kernel.api(kernel.user(name))


def _refused(api: Api, governed: str, words: str, **target: Any) -> None:
    answer = api.create(_path(governed), _record(**target))
    assert (answer.status, words in answer.message) == (403, True), answer.message


def test_only_the_manager_records_fighters_and_what_is_elsewhere(
    kernel: ControlPlane, governed: str
) -> None:
    """It would resume what whoever may stop, or holds the reactor's token, has written down.

    One that is itself what is stopped is a target as any other: nothing of it is written back.
    """
    words = "only the manager records"
    paused: list[dict[str, Any]] = [{"field": "/spec/suspend"}]
    manager = _process(kernel, governed, "manager")
    reactor = _process(kernel, governed, "reactor")
    for other in (kernel.api(kernel.user("mallory")), reactor):
        assert other.create(_path(governed), _record()).status == 201
        _refused(other, governed, words, namespace="flux-system")
        for kind in fighters.RECORDED:
            _refused(other, governed, words, kind=kind, settings=paused)
            assert other.create(_path(governed), _record(kind=kind)).status == 201
    for kind in fighters.RECORDED:
        body = _record(kind=kind, namespace="flux-system", settings=paused)
        assert manager.create(_path(governed), body).status == 201


def test_a_manifest_is_recorded_by_those_who_may_make_pods(
    kernel: ControlPlane, governed: str
) -> None:
    """A restore makes a pod of it: whoever may not must not have it made."""
    dave = _person(kernel, governed, "dave", "shutdownrecords", "shutdowns")
    _refused(dave, governed, f"needs create on pods in {governed}", **POD)
    assert dave.create(_path(governed), _record()).status == 201
    maker = kernel.api(kernel.user("alice"))
    for api in (maker, _process(kernel, governed, "reactor")):
        assert api.create(_path(governed), _record(**POD)).status == 201


def test_what_was_there_is_recorded_by_those_who_may_stop(
    kernel: ControlPlane, governed: str
) -> None:
    """Records of targets are written by stops; evidence binds nobody."""
    dave = _person(kernel, governed, "dave", "shutdownrecords")
    _refused(dave, governed, "who may stop there")
    body = _record()
    del body["spec"]["targets"]
    evidence = {"decidedAt": "2026-01-01T00:00:00Z", "decidedBy": "dave", "quorum": "1 of 1"}
    body["spec"]["evidence"] = evidence
    answer = dave.create(_path(governed), body)
    assert answer.status == 201, answer.message


def test_a_full_record_is_within_the_budget_of_cel(kernel: ControlPlane, governed: str) -> None:
    """Five hundred targets whose kinds have names as long as may be."""
    body = _record()
    body["spec"]["targets"] = [
        {"kind": "K" * 253, "name": "v" * 63, "uid": "u" * 64, "replicas": 1} for _ in range(500)
    ]
    answer = kernel.api(kernel.user("mallory")).create(_path(governed), body)
    assert answer.status == 201, answer.message
