"""The chart installed by real Helm on a real API server, and what its accounts may not do."""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.cluster.api import Answer, Api
from tests.cluster.control_plane import ControlPlane
from tests.e2e.chart import POLICIES, RELEASE, Helm, Json, until
from tests.e2e.conftest import SYSTEM

pytestmark = pytest.mark.cluster

GROUP = "/apis/killswitch.dev/v1alpha1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
MODELS = "models"
"""A governed namespace."""
ELSEWHERE = "elsewhere"
"""One that is not."""
PROTECTED = ("kube-system", "kube-public", "kube-node-lease")
PROCESSES = ("killswitch-reactor", "killswitch-manager")
SHIPPED = sorted(POLICIES.glob("*.yaml"))
ROLES = {
    "alice": "killswitch-responder",
    "bob": "killswitch-releaser",
    "carol": "killswitch-releaser",
    "dave": "killswitch-author",
    "mallory": "killswitch-bypasser",
}
REFUSED = (
    ("get", "secrets"),
    ("list", "secrets"),
    ("create", "bypasses.killswitch.dev"),
    ("release", "shutdowns.killswitch.dev"),
    ("restore", "shutdowns.killswitch.dev"),
    ("release", "clustershutdowns.killswitch.dev"),
    ("restore", "clustershutdowns.killswitch.dev"),
    ("bypass", "killswitchpolicies.killswitch.dev"),
    ("bypass", "clusterkillswitchpolicies.killswitch.dev"),
    ("patch", "killswitchpolicies.killswitch.dev"),
    ("delete", "killswitchpolicies.killswitch.dev"),
    ("delete", "shutdowns.killswitch.dev"),
    ("patch", "shutdownrecords.killswitch.dev"),
    ("delete", "shutdownrecords.killswitch.dev"),
    ("delete", "customresourcedefinitions.apiextensions.k8s.io"),
    ("delete", "validatingadmissionpolicybindings.admissionregistration.k8s.io"),
    ("patch", "validatingadmissionpolicies.admissionregistration.k8s.io"),
    ("create", "pods/exec"),
    ("patch", "deployments.apps"),
    ("create", "serviceaccounts/token"),
    ("impersonate", "users"),
    ("bind", "clusterroles.rbac.authorization.k8s.io"),
    ("escalate", "clusterroles.rbac.authorization.k8s.io"),
)
"""What neither process may do anywhere."""
REFUSED_TO = {"killswitch-reactor": (*REFUSED, ("create", "pods"))}
"""The manager makes pods: restores those that nobody owns, see tests/kernel/test_accounts.py."""
each_process = pytest.mark.parametrize("process", PROCESSES)


@pytest.fixture(scope="module", autouse=True)
def installed(bare: ControlPlane, helm: Helm) -> None:
    """The chart in a namespace that admits restricted pods only, and people with its roles."""
    _namespace(bare, SYSTEM, {"pod-security.kubernetes.io/enforce": "restricted"})
    notes = helm.install(SYSTEM)
    assert "not a certified safety function" in notes
    _namespace(bare, MODELS, {"killswitch.dev/governed": "true"})
    _namespace(bare, ELSEWHERE, {})
    for person, role in ROLES.items():
        bare.kubectl(
            "create", "clusterrolebinding", person, f"--clusterrole={role}", f"--user={person}"
        )
    # A fresh CRD takes the API server some seconds to accept as a parameter; until then the lock
    # denies everything that it matches.
    attempt = "/api/v1/namespaces/models/pods"
    until(
        lambda: bare.api().create(attempt, _pod("probe"), dry_run=True).status == 201,
        "the lock lets others pass",
        within=60,
    )


@pytest.fixture
def shutdown(bare: ControlPlane) -> Iterator[str]:
    """An engaged Shutdown of the whole governed namespace by alice; released afterwards."""
    name = f"by-hand-{time.monotonic_ns()}"
    body = _shutdown("alice", name)
    answer = _person(bare, "alice").create(f"{GROUP}/namespaces/{MODELS}/shutdowns", body)
    assert answer.status == 201, answer.message
    yield f"{GROUP}/namespaces/{MODELS}/shutdowns/{name}"
    _approve(bare, f"{GROUP}/namespaces/{MODELS}/shutdowns/{name}", "bob", "carol")


def test_everything_rendered_is_there(bare: ControlPlane, helm: Helm) -> None:
    """Each object of the release exists, and the kinds are served under their short names."""
    manifest = helm.run("get", "manifest", RELEASE, "--namespace", SYSTEM)
    rendered = [each for each in yaml.safe_load_all(manifest) if each]
    found = bare.kubectl("get", "-f", "-", "-o", "name", stdin=manifest).stdout.split()
    assert len(rendered) == len(found)
    bare.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    bare.kubectl("get", "ksp,sd,sdr,byp,cksp,csd,frz,so,ng", "--all-namespaces")


def test_pods_are_restricted(bare: ControlPlane) -> None:
    """Pod Security admission at its strictest admits both reactors and the manager."""
    path = f"/api/v1/namespaces/{SYSTEM}/pods"

    def components() -> list[str]:
        pods = bare.api().get(path).body["items"]
        return sorted(pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods)

    until(lambda: components() == ["manager", "reactor", "reactor"], "three pods")


def test_upgrade(bare: ControlPlane, helm: Helm) -> None:
    """An upgrade with other values reaches the processes, and the defaults come back."""
    path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/killswitch-reactor"
    for values, expected in (({"pollInterval": 0.5}, "0.5"), ({}, "1")):
        helm.install(SYSTEM, values)
        template = bare.api().get(path).body["spec"]["template"]
        env = {e["name"]: e.get("value") for e in template["spec"]["containers"][0]["env"]}
        assert expected == env["KILLSWITCH_POLL_INTERVAL"]


def test_added_protected_namespaces_are_refused_by_the_api_server(
    bare: ControlPlane, helm: Helm
) -> None:
    """Whoever labels one, the operator's processes are not even asked."""
    governed = {"metadata": {"name": "vault", "labels": {"killswitch.dev/governed": "true"}}}

    def refused() -> bool:
        return _refused(bare.api().create("/api/v1/namespaces", governed, dry_run=True))

    helm.install(SYSTEM, {"protectedNamespaces": [*PROTECTED, "vault"]})
    until(refused, "vault is protected")
    helm.install(SYSTEM)
    until(lambda: not refused(), "vault is not protected any more")


def test_viewer_is_part_of_view(bare: ControlPlane) -> None:
    """Whoever may view a namespace sees its policies and stops, and can make neither."""
    who = ("--clusterrole=view", "--user=viewer", "-n", MODELS)
    bare.kubectl("create", "rolebinding", "viewer", *who)
    api = _person(bare, "viewer")
    place = f"{GROUP}/namespaces/{MODELS}"
    until(lambda: api.get(f"{place}/shutdowns").status == 200, "view includes the viewer")
    assert api.get(f"{place}/killswitchpolicies").status == 200
    assert api.create(f"{place}/shutdowns", _shutdown("viewer", "mine")).status == 403


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: str(file.stem))
def test_author_can_apply_shipped_policies(bare: ControlPlane, file: Path) -> None:
    """The API server accepts each ready policy from someone with the author's role."""
    place = yaml.safe_load(file.read_text())["metadata"].get("namespace", "default")
    bare.api().create("/api/v1/namespaces", {"metadata": {"name": place}})
    bare.kubectl("apply", "--dry-run=server", "-f", str(file), user=bare.user("dave"))


def test_author_cannot_disarm_and_bypasser_cannot_write(bare: ControlPlane) -> None:
    """Leaving Enforce takes the author's and the bypasser's role: neither alone is enough."""
    path = f"{GROUP}/namespaces/{MODELS}/killswitchpolicies"
    body = yaml.safe_load((POLICIES / "vllm-runaway-tokens.yaml").read_text())
    body["metadata"]["namespace"] = MODELS
    body["spec"]["mode"] = "Enforce"
    answer = _person(bare, "dave").create(path, body)
    assert answer.status == 201, answer.message
    disarmed = {"spec": {"mode": "Disabled"}}
    name = body["metadata"]["name"]
    assert _refused(_person(bare, "dave").patch(f"{path}/{name}", disarmed))
    assert _refused(_person(bare, "dave").delete(f"{path}/{name}"))
    assert _refused(_person(bare, "mallory").patch(f"{path}/{name}", disarmed))
    terms = {"until": _tomorrow(), "reason": "a test", "policy": name}
    for person, refused in (("dave", True), ("mallory", False)):
        bypass = {
            "apiVersion": "killswitch.dev/v1alpha1",
            "kind": "Bypass",
            "metadata": {"name": person},
            "spec": {**terms, "requestedBy": person},
        }
        answer = _person(bare, person).create(
            f"{GROUP}/namespaces/{MODELS}/bypasses", bypass, dry_run=True
        )
        assert refused is _refused(answer), answer.message


@each_process
def test_token_is_refused(bare: ControlPlane, process: str) -> None:
    """With the process's own token the API server says no, whatever an intruder runs with it."""
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    with _process(bare, process) as api:
        for verb, resource in REFUSED_TO.get(process, REFUSED):
            plain, _, subresource = resource.partition("/")
            plural, _, group = plain.partition(".")
            for namespace in (MODELS, SYSTEM):
                attributes = {
                    "verb": verb,
                    "resource": plural,
                    "subresource": subresource,
                    "group": group,
                    "namespace": namespace,
                }
                answer = api.create(path, {"spec": {"resourceAttributes": attributes}})
                assert answer.status == 201, answer.message
                assert answer.body["status"]["allowed"] is False, f"{verb} {resource}"


@each_process
def test_token_reads_no_secret(bare: ControlPlane, process: str) -> None:
    """Not even those of its own namespace, where Helm keeps the release."""
    assert bare.api().get(f"/api/v1/namespaces/{SYSTEM}/secrets").body["items"]
    with _process(bare, process) as api:
        assert api.get(f"/api/v1/namespaces/{SYSTEM}/secrets").status == 403


def test_reactor_deletes_pods_in_governed_namespaces_only(bare: ControlPlane) -> None:
    """RBAC cannot say "governed"; the admission policy on the reactor's account does."""
    with _process(bare, "killswitch-reactor") as reactor:
        for namespace, expected in ((MODELS, True), (ELSEWHERE, False)):
            path = f"/api/v1/namespaces/{namespace}/pods"
            assert bare.api().create(path, _pod("victim")).status == 201
            answer = reactor.delete(f"{path}/victim", {"gracePeriodSeconds": 1})
            assert expected is not _refused(answer), answer.message


def test_reactor_scales_in_governed_namespaces_only(bare: ControlPlane) -> None:
    """The same for scaling to 0."""
    with _process(bare, "killswitch-reactor") as reactor:
        for namespace, expected in ((MODELS, True), (ELSEWHERE, False)):
            path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
            assert bare.api().create(path, _deployment("scaled")).status == 201
            answer = reactor.patch(f"{path}/scaled/scale", {"spec": {"replicas": 0}})
            assert expected is not _refused(answer), answer.message


def test_manager_changes_nothing_but_the_governed_label(bare: ControlPlane) -> None:
    """Patching namespaces is a wide right: admission narrows it to the one label."""
    with _process(bare, "killswitch-manager") as manager:
        for label, value, expected in (
            ("killswitch.dev/governed", "true", True),
            ("pod-security.kubernetes.io/enforce", "privileged", False),
        ):
            body = {"metadata": {"labels": {label: value}}}
            answer = manager.patch(f"/api/v1/namespaces/{ELSEWHERE}", body, dry_run=True)
            assert expected is not _refused(answer), answer.message


@each_process
def test_token_cannot_release_or_restore(bare: ControlPlane, process: str, shutdown: str) -> None:
    """No process's token approves, takes the label off while it holds, or asks for a restore."""
    me = f"system:serviceaccount:{SYSTEM}:{process}"
    restore = {"spec": {"restore": {"by": me, "reason": "because"}}}
    unlabelled = {"metadata": {"labels": {"killswitch.dev/engaged": None}}}
    with _process(bare, process) as api:
        for name in (me, "bob"):
            approval = {"spec": {"approvals": {name: {"reason": "because"}}}}
            assert _refused(api.patch(shutdown, approval))
        assert _refused(api.patch(shutdown, unlabelled))
        assert _refused(api.delete(shutdown))
        assert _refused(api.patch(shutdown, restore))
        _approve(bare, shutdown, "bob", "carol")
        assert _refused(api.patch(shutdown, restore))


def test_reactor_stops_in_its_own_name_only(bare: ControlPlane) -> None:
    """It may create a Shutdown where the namespace is governed, and cannot pin it on a person."""
    me = f"system:serviceaccount:{SYSTEM}:killswitch-reactor"
    cases = ((MODELS, me, True), (MODELS, "alice", False), (ELSEWHERE, me, False))
    with _process(bare, "killswitch-reactor") as api:
        for namespace, requester, expected in cases:
            path = f"{GROUP}/namespaces/{namespace}/shutdowns"
            answer = api.create(path, _shutdown(requester, "test"), dry_run=True)
            assert expected is not _refused(answer), answer.message


def test_crds_cannot_be_deleted(bare: ControlPlane) -> None:
    """Deleting a CRD would delete every lock: refused to the administrator, too."""
    answer = bare.api().delete(f"{CRDS}/shutdowns.killswitch.dev", dryRun="All")
    assert _refused(answer), answer.message


def test_responder_stops_and_releasers_release(bare: ControlPlane, shutdown: str) -> None:
    """With the chart's roles alone one person stops, and two others let go."""

    def denied() -> bool:
        return _refused(bare.api().create(pods, _pod("held"), dry_run=True))

    pods = f"/api/v1/namespaces/{MODELS}/pods"
    until(denied, "the lock holds")
    approval = {"spec": {"approvals": {"alice": {"reason": "mine"}}}}
    assert _refused(_person(bare, "alice").patch(shutdown, approval))
    _approve(bare, shutdown, "bob")
    assert denied()
    _approve(bare, shutdown, "carol")
    until(lambda: not denied(), "it is released")


def test_uninstalling_releases_nothing(bare: ControlPlane, helm: Helm, shutdown: str) -> None:
    """Processes and their rights go; CRDs, lock and people's roles stay; a reinstall takes over."""
    assert "kept due to the resource policy" in helm.uninstall(SYSTEM)
    left = bare.kubectl("get", "deployments,serviceaccounts,roles", "-n", SYSTEM, "-o", "name")
    assert "killswitch" not in left.stdout
    roles = bare.kubectl("get", "clusterroles", "-o", "name").stdout
    assert "killswitch-reactor" not in roles
    assert "killswitch-manager" not in roles

    pods = f"/api/v1/namespaces/{MODELS}/pods"
    denied = bare.api().create(pods, _pod("held"), dry_run=True)
    assert _refused(denied)
    assert "held down by" in denied.message
    _approve(bare, shutdown, "bob", "carol")
    until(
        lambda: not _refused(bare.api().create(pods, _pod("held"), dry_run=True)), "it is released"
    )

    assert "STATUS: deployed" in helm.install(SYSTEM)
    assert bare.api().get(shutdown).status == 200


def test_uninstalling_everything_on_purpose(bare: ControlPlane, helm: Helm) -> None:
    """With keepOnUninstall off the bindings go with the release; the CRDs and records still stay."""
    helm.install(SYSTEM, {"admission": {"keepOnUninstall": False}})
    helm.uninstall(SYSTEM)
    assert not [
        each["metadata"]["name"]
        for each in bare.api().get(BINDINGS).body["items"]
        if "killswitch" in each["metadata"]["name"]
    ]
    names = [each["metadata"]["name"] for each in bare.api().get(CRDS).body["items"]]
    assert len([name for name in names if name.endswith(".killswitch.dev")]) == 9
    assert "STATUS: deployed" in helm.install(SYSTEM)


def _tomorrow() -> str:
    return (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _namespace(plane: ControlPlane, name: str, labels: Json) -> None:
    body = {"metadata": {"name": name, "labels": labels}}
    assert plane.api().create("/api/v1/namespaces", body).status == 201


def _person(plane: ControlPlane, name: str) -> Api:
    return plane.api(plane.user(name))


@contextlib.contextmanager
def _process(plane: ControlPlane, name: str) -> Iterator[Api]:
    """The API as that ServiceAccount of the chart, with a fresh token: reinstalling ends old ones."""
    path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{name}/token"
    answer = plane.api().create(path, {"spec": {"expirationSeconds": 600}})
    assert answer.status == 201, answer.message
    api = Api(plane.server, plane.ca_file, answer.body["status"]["token"])
    try:
        yield api
    finally:
        api.close()


def _refused(answer: Answer) -> bool:
    """By RBAC (403) or by an admission policy (403, or 422 where it gives no reason)."""
    assert answer.status in {200, 201, 403, 422}, answer
    return answer.status in {403, 422}


def _approve(plane: ControlPlane, shutdown: str, *people: str) -> None:
    for person in people:
        body = {"spec": {"approvals": {person: {"reason": "looked at it"}}}}
        answer = _person(plane, person).patch(shutdown, body)
        assert answer.status == 200, answer.message


def _shutdown(requested_by: str, name: str) -> Json:
    return {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "Shutdown",
        "metadata": {"name": name, "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {
            "requestedBy": requested_by,
            "reason": "a test",
            "requiredApprovals": 2,
            "scope": {"wholeNamespace": True},
        },
    }


def _pod(name: str) -> Json:
    container = {"name": "model", "image": "example.com/model"}
    return {"metadata": {"name": name}, "spec": {"containers": [container]}}


def _deployment(name: str) -> Json:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": _pod(name)["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}
