"""The safety kernel installed on the shared control plane, with roles for people."""

import functools
import time

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kernel import apply
from tests.kernel.objects import GROUP, freeze, freezes

# As the chart's roles: whoever stops may not release by that, and the other way round.
ROLES = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-responder}
rules:
- apiGroups: [killswitch.dev]
  resources: ["*"]
  verbs: [get, list, watch, create, update, patch, delete, deletecollection]
- apiGroups: [""]
  resources: [pods, namespaces]
  verbs: [get, list, watch, create, update, patch, delete, deletecollection]
- apiGroups: [apps]
  resources: ["*"]
  verbs: [get, list, watch, create, update, patch, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-releaser}
rules:
- apiGroups: [killswitch.dev]
  resources: [shutdowns, clustershutdowns]
  verbs: [release, restore]
- apiGroups: [killswitch.dev]
  resources: [freezes]
  verbs: [thaw]
"""


_FORGED = freeze("probe", "nobody", until="2099-01-01T00:00:00Z")
_GUARD = {
    "apiVersion": "killswitch.dev/v1alpha1",
    "kind": "NodeGuard",
    "metadata": {"name": "probe"},
    "spec": {"node": "probe"},
}


def install(control_plane: ControlPlane) -> None:
    """Apply CRDs and admission policies; return when the lock really denies."""
    apply(control_plane)
    control_plane.kubectl("apply", "-f", "-", stdin=ROLES)
    api = control_plane.api()
    api.create(
        "/api/v1/namespaces",
        {"metadata": {"name": "kernel-probe", "labels": {"killswitch.dev/governed": "true"}}},
    )
    path = "/apis/killswitch.dev/v1alpha1/namespaces/kernel-probe/shutdowns"
    body = {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "Shutdown",
        "metadata": {"name": "probe", "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {
            "requestedBy": "admin",
            "reason": "is the kernel there?",
            "requiredApprovals": 1,
            "scope": {"wholeNamespace": True},
        },
    }
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    deadline = time.monotonic() + 60
    while True:
        api.create(path, body)
        answer = api.create("/api/v1/namespaces/kernel-probe/pods", pod, dry_run=True)
        # Policies are compiled once a second, each on its own: the last rules of the kernel to
        # be looked at here are those that protect what is engaged, and those of the node guards.
        refused = (
            (answer, "held down by"),
            (api.delete(f"{path}/probe"), "cannot be deleted"),
            (api.create(freezes("kernel-probe"), _FORGED, dry_run=True), "your own username"),
            (api.create(f"{GROUP}/nodeguards", _GUARD, dry_run=True), "of that node alone"),
        )
        if all(words in each.message for each, words in refused):
            return
        assert time.monotonic() < deadline, f"the kernel does not deny: {answer.message}"
        time.sleep(0.2)


_install_once = functools.cache(install)


@pytest.fixture(scope="module")
def kernel(control_plane: ControlPlane) -> ControlPlane:
    """The shared control plane with the kernel installed."""
    _install_once(control_plane)
    return control_plane


def govern(control_plane: ControlPlane, namespace: str) -> None:
    """Make this namespace governed, and let alice, bob and carol stop and release there."""
    labels = {"metadata": {"labels": {"killswitch.dev/governed": "true"}}}
    assert control_plane.api().patch(f"/api/v1/namespaces/{namespace}", labels).status == 200
    for role, names in {
        "test-responder": ("alice", "bob", "carol", "mallory"),
        "test-releaser": ("alice", "bob", "carol"),
    }.items():
        users = [f"--user={name}" for name in names]
        control_plane.kubectl(
            "create",
            "rolebinding",
            role,
            f"--clusterrole={role}",
            f"--namespace={namespace}",
            *users,
        )


@pytest.fixture
def governed(kernel: ControlPlane, namespace: str) -> str:
    """A fresh governed namespace where alice, bob and carol may stop and release."""
    govern(kernel, namespace)
    return namespace
