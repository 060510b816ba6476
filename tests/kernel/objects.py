"""Objects and paths that the kernel's tests speak about."""

from typing import Any

Json = dict[str, Any]
GROUP = "/apis/killswitch.dev/v1alpha1"


def shutdowns(namespace: str, name: str = "") -> str:
    """Path of the Shutdowns of a namespace, or of one."""
    return f"{GROUP}/namespaces/{namespace}/shutdowns" + (f"/{name}" if name else "")


def cluster_shutdowns(name: str = "") -> str:
    """Path of the ClusterShutdowns, or of one."""
    return f"{GROUP}/clustershutdowns" + (f"/{name}" if name else "")


def policies(namespace: str, name: str = "") -> str:
    """Path of the policies of a namespace, or of one."""
    return f"{GROUP}/namespaces/{namespace}/killswitchpolicies" + (f"/{name}" if name else "")


def cluster_policies(name: str = "") -> str:
    """Path of the cluster policies, or of one."""
    return f"{GROUP}/clusterkillswitchpolicies" + (f"/{name}" if name else "")


def deployments(namespace: str, name: str = "") -> str:
    """Path of the Deployments of a namespace, or of one."""
    return f"/apis/apps/v1/namespaces/{namespace}/deployments" + (f"/{name}" if name else "")


def pods(namespace: str, name: str = "") -> str:
    """Path of the pods of a namespace, or of one."""
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")


def shutdown(name: str, by: str, *, approvals: int = 2, **spec: Any) -> Json:
    """A Shutdown as `by` would create it; holds the Deployment vllm unless told otherwise."""
    held = {} if {"locks", "scope"} & spec.keys() else {"locks": {"deployments.apps/vllm": ""}}
    terms = {"requestedBy": by, "reason": "it leaks", "requiredApprovals": approvals}
    return {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "Shutdown",
        "metadata": {"name": name, "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {**terms, **held, **spec},
    }


def cluster_shutdown(name: str, by: str, **spec: Any) -> Json:
    """A ClusterShutdown as `by` would create it."""
    body = shutdown(name, by, locks={}, **spec)
    del body["spec"]["locks"]
    return {**body, "kind": "ClusterShutdown"}


def deployment(name: str, replicas: int | None = 1, image: str = "i") -> Json:
    """A Deployment."""
    labels = {"app": name}
    spec: Json = {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": image}]},
        },
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": spec,
    }


def pod(name: str, labels: dict[str, str] | None = None, owner: Json | None = None) -> Json:
    """A pod, perhaps with a controlling owner."""
    metadata: Json = {"name": name, "labels": labels or {}}
    if owner is not None:
        metadata["ownerReferences"] = [{"apiVersion": "apps/v1", "controller": True, **owner}]
    spec = {"containers": [{"name": "c", "image": "i"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def policy(name: str, **spec: Any) -> Json:
    """A good policy, in DryRun, with what is to be different."""
    signal = {"name": "load", "prometheus": {"query": "up", "above": "1"}, "onNoData": "Hold"}
    terms = {
        "owner": "alice",
        "backup": "bob",
        "targets": [{"kind": "Deployment", "name": "vllm"}],
        "signals": [signal],
    }
    return {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "KillSwitchPolicy",
        "metadata": {"name": name},
        "spec": {**terms, **spec},
    }


def cluster_policy(name: str, **spec: Any) -> Json:
    """A good cluster policy over one namespace, in DryRun, with what is to be different."""
    held = {"targets": [{"kind": "Namespace", "namespaces": ["somewhere"]}]}
    return {**policy(name, **{**held, **spec}), "kind": "ClusterKillSwitchPolicy"}


def freezes(namespace: str, name: str = "") -> str:
    """Path of the Freezes of a namespace, or of one."""
    return f"{GROUP}/namespaces/{namespace}/freezes" + (f"/{name}" if name else "")


def freeze(name: str, by: str, *, until: str, then: str = "Thaw", **spec: Any) -> Json:
    """A Freeze as `by` would create it; of the Deployment vllm unless told otherwise."""
    held = {} if {"locks", "scope"} & spec.keys() else {"locks": {"deployments.apps/vllm": ""}}
    terms = {"requestedBy": by, "reason": "it may leak", "until": until, "onExpiry": then}
    return {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "Freeze",
        "metadata": {"name": name, "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {**terms, **held, **spec},
    }


def approval(name: str, reason: str = "looked at it") -> Json:
    """The merge patch by which `name` approves."""
    return {"spec": {"approvals": {name: {"reason": reason}}}}
