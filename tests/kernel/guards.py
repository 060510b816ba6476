"""Node guards as the API server knows them: their account's token, bound to a pod of a node."""

from typing import Any

import yaml

from tests.cluster.control_plane import ControlPlane, User

PLACE = "killswitch-system"
ACCOUNT = "killswitch-node"
_ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-node-guard}
rules:
- apiGroups: [killswitch.dev]
  resources: [nodeguards]
  verbs: [get, create]
- apiGroups: [killswitch.dev]
  resources: [nodeguards/status]
  verbs: [patch]
- apiGroups: [killswitch.dev]
  resources: [shutdowns, clustershutdowns, freezes, standingorders]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-node-guard}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-node-guard}
subjects:
- {kind: ServiceAccount, name: killswitch-node, namespace: killswitch-system}
"""


def guard(control_plane: ControlPlane, node: str) -> User:
    """The guard of this node, as the API server knows it."""
    control_plane.kubectl("apply", "-f", "-", stdin=_ROLE)
    control_plane.api().create("/api/v1/namespaces", {"metadata": {"name": PLACE}})
    return control_plane.service_account(PLACE, ACCOUNT, node)


def make_static(control_plane: ControlPlane, namespace: str, body: dict[str, Any]) -> None:
    """Create the pod as the kubelet of its node does for a static one."""
    annotations = {"kubernetes.io/config.mirror": "0" * 32}
    mirror = {**body, "metadata": {**body["metadata"], "annotations": annotations}}
    kubelet = (f"--as=system:node:{body['spec']['nodeName']}", "--as-group=system:masters")
    control_plane.kubectl(
        "create", "-n", namespace, "-f", "-", *kubelet, stdin=yaml.safe_dump(mirror)
    )


def report(node: str, *pods: dict[str, Any]) -> dict[str, Any]:
    """What `kubectl apply --server-side --subresource=status` would send as this guard."""
    return {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "NodeGuard",
        "metadata": {"name": node},
        "status": {"renewedAt": "2026-01-01T00:00:00Z", "cgroups": "v2", "pods": list(pods)},
    }
