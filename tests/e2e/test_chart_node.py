"""The node guard in the chart: off by default, and no privilege beside those that are listed here."""

from typing import Any

import pytest

from tests.e2e.chart import Helm, HelmError, Json, named, of_kind
from tests.e2e.conftest import SYSTEM

NAME = "killswitch-node"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""What the container is held to with cgroup v2."""


def guarded(offline: Helm, namespace: str = SYSTEM, **values: object) -> list[Json]:
    """What an installation with the guard creates."""
    return offline.template({"nodeGuard": {"enabled": True, **values}}, namespace)


def pod(objects: list[Json]) -> Json:
    """The spec of a guard's pod."""
    return dict(named(objects, "DaemonSet", NAME)["spec"]["template"]["spec"])


def test_off_by_default(offline: Helm) -> None:
    """Nothing of it is there, no account and no right; on, nothing else changes."""
    off, on = offline.template(), guarded(offline)
    assert [each for each in off if each["metadata"]["name"] == NAME] == []
    assert not list(of_kind(off, "DaemonSet"))
    added = [each for each in on if each not in off]
    assert [each for each in on if each not in added] == off
    expected = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet"]
    assert sorted(expected) == sorted(each["kind"] for each in added)
    assert {each["metadata"]["name"] for each in added} == {NAME}


def test_its_privileges_with_cgroup_v2(offline: Helm) -> None:
    """User 0 and two folders of the host; no capability, no namespace of the host, no port."""
    spec = pod(guarded(offline))
    assert not {"hostPID", "hostNetwork", "hostIPC", "hostUsers", "initContainers"} & spec.keys()
    assert spec["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (container,) = spec["containers"]
    assert container["securityContext"] == RESTRICTED
    probes = {"livenessProbe", "readinessProbe", "startupProbe", "ports", "lifecycle", "envFrom"}
    assert not probes & container.keys()
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    volumes = {each["name"]: each["hostPath"] for each in spec["volumes"]}
    found = {path: volumes[mount["name"]] for path, mount in mounts.items()}
    assert found == {
        "/sys/fs/cgroup": {"path": "/sys/fs/cgroup", "type": "Directory"},
        "/var/lib/killswitch": {"path": "/var/lib/killswitch", "type": "DirectoryOrCreate"},
    }
    assert not any(mount.get("readOnly") for mount in mounts.values())


def test_what_cgroup_v1_adds(offline: Helm) -> None:
    """Signals go to process ids: they must be seen, and be sent to other users' processes."""
    spec, less = pod(guarded(offline, cgroupVersion=1)), pod(guarded(offline))
    (container,), (bare,) = spec.pop("containers"), less.pop("containers")
    assert spec.pop("hostPID") is True
    assert spec == less
    assert container.pop("securityContext") == {
        **RESTRICTED,
        "capabilities": {"drop": ["ALL"], "add": ["KILL"]},
        "appArmorProfile": {"type": "Unconfined"},
    }
    bare.pop("securityContext")
    assert container == bare


def test_it_is_where_models_run(offline: Helm) -> None:
    """Tainted nodes too, never evicted for others, and on no node but those selected."""
    spec = pod(guarded(offline))
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["priorityClassName"] == "system-node-critical"
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    affinity: Json = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}
    gpus = {"nvidia.com/gpu.present": "true"}
    spec = pod(guarded(offline, nodeSelector=gpus, affinity=affinity))
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux", **gpus}
    assert spec["affinity"] == affinity


def test_an_upgrade_leaves_no_node_unguarded(offline: Helm) -> None:
    """The next guard runs before the last one ends, and state and locks are the same folder."""
    spec = named(guarded(offline), "DaemonSet", NAME)["spec"]
    expected = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec["updateStrategy"] == expected
    assert spec["minReadySeconds"] >= 1
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] <= 10
    # Two pods of one node cannot share a port of it.
    assert "hostNetwork" not in spec["template"]["spec"]


def test_its_environment(offline: Helm) -> None:
    """What a guard is told, with the release's own namespace among the protected ones."""
    protected = ["kube-system", "kube-public", "kube-node-lease", "vault"]
    values = {
        "nodeGuard": {"enabled": True, "cgroupRoot": "/kube/pods"},
        "protectedNamespaces": protected,
    }
    (container,) = pod(offline.template(values, "safety"))["containers"]
    found = {each["name"]: each.get("value") or each["valueFrom"] for each in container["env"]}
    assert found == {
        "NODE_NAME": {"fieldRef": {"fieldPath": "spec.nodeName"}},
        "POD_UID": {"fieldRef": {"fieldPath": "metadata.uid"}},
        "KILLSWITCH_STATE_DIR": "/var/lib/killswitch",
        "KILLSWITCH_CGROUPS": "/sys/fs/cgroup",
        "KILLSWITCH_CGROUP_ROOT": "/kube/pods",
        "KILLSWITCH_PROTECTED_NAMESPACES": "kube-system,kube-public,kube-node-lease,vault,safety",
    }


def test_its_rights(offline: Helm) -> None:
    """It reads orders and pods, and writes reports: nothing of what it reads."""
    objects = guarded(offline, namespace="safety")
    rules = named(objects, "ClusterRole", NAME)["rules"]
    found = {(rule["apiGroups"][0], tuple(rule["resources"]), *rule["verbs"]) for rule in rules}
    orders = ("shutdowns", "clustershutdowns", "freezes", "standingorders")
    assert found == {
        ("killswitch.dev", orders, "list", "watch"),
        ("", ("pods",), "list", "watch"),
        ("killswitch.dev", ("nodeguards",), "get", "create"),
        ("killswitch.dev", ("nodeguards/status",), "patch"),
    }
    subjects = named(objects, "ClusterRoleBinding", NAME)["subjects"]
    assert subjects == [{"kind": "ServiceAccount", "name": NAME, "namespace": "safety"}]
    (admitted,) = [
        validation["expression"]
        for validation in named(objects, "ValidatingAdmissionPolicy", "killswitch-nodeguards")[
            "spec"
        ]["validations"]
    ]
    assert f"system:serviceaccount:safety:{NAME}" in admitted


def test_selinux_where_it_confines(offline: Helm) -> None:
    """Only where it is asked for."""
    (container,) = pod(guarded(offline, seLinuxOptions={"type": "spc_t"}))["containers"]
    expected = {**RESTRICTED, "seLinuxOptions": {"type": "spc_t"}}
    assert container["securityContext"] == expected


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"enable": True}, "enable"),
        ({"enabled": "yes"}, "enabled"),
        ({"cgroupVersion": "v2"}, "cgroupVersion"),
        ({"cgroupVersion": 3}, "cgroupVersion"),
        ({"cgroupRoot": "kubepods"}, "cgroupRoot"),
        ({"cgroupRoot": "/a/../b"}, "cgroupRoot"),
        ({"tolerations": []}, "tolerations"),
        ({"affinity": {"podAffinity": {}}}, "podAffinity"),
        ({"seLinuxOptions": {"typ": "spc_t"}}, "typ"),
        ({"enabled": True, "nodeSelector": {"kubernetes.io/os": "windows"}}, "cgroups are Linux's"),
    ],
)
def test_wrong_values_are_refused(offline: Helm, values: dict[str, Any], complaint: str) -> None:
    """A value that is unknown or cannot work fails before anything is installed."""
    with pytest.raises(HelmError, match=complaint):
        offline.template({"nodeGuard": values})
