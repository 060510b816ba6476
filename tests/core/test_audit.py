"""Refusals of the lock in audit events, as a real API server writes them at level Metadata."""

import json
from typing import Any

import pytest

from killswitch.core import audit, times
from killswitch.core.audit import OTHERS, Key, Refusal, Tally
from killswitch.core.errors import MalformedError

Json = dict[str, Any]
SAID = "held down by Shutdown prod/stop (it leaks); people release it: kubectl killswitch approve stop -n prod"
AT = "2026-01-01T10:00:05.250000Z"
ACCOUNT = "system:serviceaccount:"


def failure(message: str = SAID, policy: str = "killswitch-lock") -> Json:
    """One entry of the annotation."""
    return {
        "message": message,
        "policy": policy,
        "binding": policy,
        "expressionIndex": 0,
        "validationActions": ["Deny", "Audit"],
    }


def event(*said: str, **more: Any) -> Json:
    """An audit event of a refused `kubectl scale`."""
    words = said or (SAID,)
    annotation = json.dumps([failure(each) for each in words])
    denied = (
        "ValidatingAdmissionPolicy 'killswitch-lock' with binding 'killswitch-lock' denied request"
    )
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": "f2b8633b",
        "stage": "ResponseComplete",
        "requestURI": "/apis/apps/v1/namespaces/prod/deployments/vllm/scale",
        "verb": "patch",
        "user": {"username": "alice", "uid": "1", "groups": ["system:authenticated"]},
        "sourceIPs": ["127.0.0.1"],
        "userAgent": "kubectl/v1.36.3 (linux/amd64) kubernetes/abc",
        "objectRef": {
            "resource": "deployments",
            "namespace": "prod",
            "name": "vllm",
            "apiGroup": "apps",
            "apiVersion": "v1",
            "subresource": "scale",
        },
        "responseStatus": {
            "status": "Failure",
            "message": f'deployments.apps "vllm" is forbidden: {denied}: {words[0]}',
            "reason": "Forbidden",
            "details": {"name": "vllm", "group": "apps", "kind": "deployments"},
            "code": 403,
        },
        "requestReceivedTimestamp": "2026-01-01T10:00:05.200000Z",
        "stageTimestamp": AT,
        "annotations": {audit.ANNOTATION: annotation},
        **more,
    }


def read(body: Json) -> Refusal:
    """The one refusal in it."""
    found = audit.refusal(body)
    assert found is not None
    return found


def account(namespace: str, name: str) -> Json:
    """A service account as user."""
    return {"username": f"{ACCOUNT}{namespace}:{name}"}


PODS = {"resource": "pods", "namespace": "prod", "apiVersion": "v1"}
MADE = {**event()["responseStatus"], "details": {"name": "vllm-6c5f-x7k2p", "kind": "pods"}}
CASES: dict[str, tuple[Json, Key]] = {
    "a person with kubectl scale": (event(), Key("alice", "kubectl", "Deployment vllm")),
    "an apply that names its field manager": (
        event(
            user=account("argocd", "argocd-application-controller"),
            requestURI="/apis/apps/v1/namespaces/prod/deployments/vllm?fieldManager=argocd-controller&force=true",
        ),
        Key("argocd/argocd-application-controller", "argocd-controller", "Deployment vllm"),
    ),
    "a controller that makes pods with generated names": (
        event(
            user=account("kube-system", "replicaset-controller"),
            userAgent="kube-controller-manager/v1.36.3 (linux/amd64)",
            objectRef=PODS,
            responseStatus=MADE,
        ),
        Key("kube-system/replicaset-controller", "kube-controller-manager", "Pod vllm-6c5f-*"),
    ),
    "a person who poses as another": (
        event(impersonatedUser={"username": "bob"}),
        Key("alice as bob", "kubectl", "Deployment vllm"),
    ),
    "a kind that is not known": (
        event(objectRef={"resource": "models", "apiGroup": "example.com", "name": "m"}),
        Key("alice", "kubectl", "models.example.com m"),
    ),
    "a node": (
        event(objectRef={"resource": "nodes", "name": "gpu-0", "apiVersion": "v1"}),
        Key("alice", "kubectl", "Node gpu-0"),
    ),
    "a program that does not say what it is": (
        event(userAgent=""),
        Key("alice", "unknown", "Deployment vllm"),
    ),
    "one that would write on the terminal": (
        event(userAgent="\x1b[31mred\ngreen/1"),
        Key("alice", "?[31mred?green", "Deployment vllm"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_who_with_what_on_what(case: str) -> None:
    """As the request itself says it, in words that people know."""
    body, expected = CASES[case]
    found = read(body)
    assert (found.key, found.by, found.at) == (expected, ("Shutdown prod/stop",), times.seconds(AT))


def test_all_that_hold_are_named() -> None:
    """The answer names the first alone; the annotation all of them."""
    cluster = "held down by ClusterShutdown all (x); people release it: …"
    found = read(event(SAID, cluster, "an image must be signed"))
    assert found.by == ("Shutdown prod/stop", "ClusterShutdown all")


def test_without_annotations_the_answer_is_believed() -> None:
    """An export may leave them out."""
    assert read(event(annotations={})).by == ("Shutdown prod/stop",)


OTHER_REQUESTS: dict[str, Json] = {
    "allowed": event(responseStatus={"code": 200}),
    "only received": {**event(), "stage": "RequestReceived", "responseStatus": None},
    "a dry run, as which the lock is proven": event(
        requestURI="/api/v1/namespaces/p/pods?dryRun=All"
    ),
    "refused for another reason": event("image is not signed"),
    "refused by RBAC": event(annotations={}, responseStatus={"code": 403, "message": "cannot"}),
    "audited without being denied": event(responseStatus={"code": 201}),
    "a name that pretends to be a refusal": event(
        "image is not signed",
        responseStatus={"code": 403, "message": f'pods "x denied request: {SAID}" is forbidden'},
    ),
}


@pytest.mark.parametrize("case", OTHER_REQUESTS)
def test_other_requests_are_no_attempts(case: str) -> None:
    """None of them was kept from undoing a stop."""
    assert audit.refusal(OTHER_REQUESTS[case]) is None


DAMAGED: dict[str, tuple[object, str]] = {
    "no object": ([], "this is no object"),
    "an Event of another API": (
        {"kind": "Event", "apiVersion": "v1"},
        "this is Event of v1, not Event of audit.k8s.io/v1",
    ),
    "somebody else's log": ({"msg": "hello"}, "this is None of None"),
    "without an id": (event(auditID=""), "auditID is missing"),
    "without a user": (event(user={}), "username is missing"),
    "a user that is text": (event(user="alice"), "user is not an object"),
    "without a time": (event(stageTimestamp="now"), "stageTimestamp cannot be read"),
    "an annotation that is no list": (event(annotations={audit.ANNOTATION: "[1]"}), "no list"),
    "a list without items": ({"kind": "EventList", "apiVersion": "audit.k8s.io/v1"}, "items of"),
    "a list with something else": (
        {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [event(), 3]},
        r"items\[1\]: this is no object",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_no_audit_event_is_refused(case: str) -> None:
    """Naming the field, so that nobody takes silence for peace."""
    content, words = DAMAGED[case]
    with pytest.raises(MalformedError, match=words):
        audit.refusals(content)


def test_a_list_is_read_as_the_api_server_posts_it() -> None:
    """Its items repeat neither kind nor version."""
    item = {key: value for key, value in event().items() if key not in {"kind", "apiVersion"}}
    content = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [item, item]}
    assert [each.by for each in audit.refusals(content)] == [("Shutdown prod/stop",)] * 2


def test_each_request_counts_once() -> None:
    """Whatever is sent again; but whoever chooses his auditID is counted each time."""
    tally = Tally()
    early = event(
        requestReceivedTimestamp="2026-01-01T09:59:59Z", stageTimestamp="2026-01-01T10:00:00Z"
    )
    for body in (event(), event(), early):
        tally.add(read(body))
    (found,) = tally.of("Shutdown prod/stop").values()
    assert (found.count, times.text(found.first), times.text(found.last)) == (
        2,
        "2026-01-01T10:00:00.000000Z",
        AT,
    )
    tally.forget("Shutdown prod/stop")
    assert not tally.of("Shutdown prod/stop")


def test_no_flood_takes_more_than_its_share_of_memory() -> None:
    """Beyond the bounds attempts are counted as others', and the longest silent stop is forgotten."""
    tally = Tally()
    for number in range(300):
        tally.add(read(event(auditID=f"a{number}", userAgent=f"agent{number}/1")))
    counts = tally.of("Shutdown prod/stop")
    assert (len(counts), counts[Key("alice", OTHERS, OTHERS)].count) == (201, 100)
    for number in range(300):
        tally.add(read(event(auditID=f"u{number}", user={"username": f"u{number}"})))
    assert (len(counts), counts[Key("u0", OTHERS, OTHERS)].count) == (401, 1)
    assert counts[Key(OTHERS, OTHERS, OTHERS)].count == 101
    for number in range(1000):
        said = SAID.replace("prod/stop", f"prod/s{number}")
        tally.add(read(event(said, auditID=f"b{number}")))
    assert not tally.of("Shutdown prod/stop")
    assert len(tally.of("Shutdown prod/s999")) == 1
