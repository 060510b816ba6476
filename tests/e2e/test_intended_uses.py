"""The three intended uses, with real processes and exactly the rights and settings of the chart.

kubectl apply of policies, Helm install, and enforcement over namespaces and nodes of the cluster.
Reactors and manager run with what the installed Deployments say (command and environment) and with
the tokens of the chart's ServiceAccounts; only the containers around them are missing.
"""

import functools
import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import Daemon, free_port
from tests.cluster.prometheus import Exporter, Prometheus
from tests.e2e.chart import POLICIES, Helm, Json, until
from tests.e2e.conftest import SYSTEM
from tests.kernel.objects import approval

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

GROUP = "/apis/killswitch.dev/v1alpha1"
ZONE = "example.com/cooling-zone"
REACTORS = 2
LISTED = "listed"
"""Named in the chart's governedNamespaces."""


@pytest.fixture(scope="module")
def site() -> Iterator[ControlPlane]:
    """A control plane with two GPU nodes in each of two cooling zones."""
    with ControlPlane() as running:
        for zone in ("row-a", "row-b"):
            for node in running.add_gpu_nodes(2, prefix=zone):
                running.kubectl("label", "node", node, f"{ZONE}={zone}")
        yield running


@pytest.fixture(scope="module", autouse=True)
def processes(
    site: ControlPlane, prometheus: Prometheus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Daemon]]:
    """The chart installed, and its Deployments running as processes of this machine."""
    helm = Helm(tmp_path_factory.mktemp("helm"), site.admin.kubeconfig)
    values = {
        "prometheus": {"url": prometheus.url},
        "pollInterval": 0.1,
        "canary": {"armedInterval": 2},
        "reactor": {"replicas": REACTORS},
        "governedNamespaces": [LISTED],
    }
    site.kubectl("create", "namespace", LISTED)
    helm.install(SYSTEM, values)
    site.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    logs: Path = tmp_path_factory.mktemp("processes")
    daemons = {
        f"{component}-{number}": _daemon(site, component, number, logs)
        for component, replicas in (("reactor", REACTORS), ("manager", 1))
        for number in range(replicas)
    }
    try:
        for daemon in daemons.values():
            daemon.start()
        yield daemons
    finally:
        for daemon in daemons.values():
            daemon.stop()
            print(f"--- {daemon.name}\n{daemon.tail()}")


def test_kubectl_apply(site: ControlPlane, exporter: Exporter) -> None:
    """A policy applied with kubectl stops a runaway model, holds it, and proves that it did."""
    namespace = "model-serving"
    pods = _serve(site, namespace, "vllm", replicas=3)
    exporter.set("vllm:generation_tokens_total", 0, namespace=namespace)
    name = _apply(site, "vllm-runaway-tokens", {"mode": "Enforce"}, hold_down="1s")
    # The manager governs the namespace with its first accepted policy.
    until(lambda: _label(site, namespace) == "true", f"{namespace} is governed")
    _condition(site, f"ksp/{name}", "Armed", "-n", namespace)
    assert not _shutdowns(site, namespace)

    exporter.set("vllm:generation_tokens_total", 1e8, namespace=namespace)
    shutdown = until(lambda: _shutdowns(site, namespace), "the policy fires")[0]
    _condition(site, f"shutdown/{shutdown}", "Verified", "-n", namespace)
    assert not site.api().get(pods).body["items"]

    # Held against the cluster's administrator, with the way out in the message.
    raised = site.kubectl("scale", "deployment/vllm", "--replicas=1", "-n", namespace, check=False)
    assert raised.returncode != 0
    assert "held down by" in raised.stderr

    # Neither healthy metrics nor the end of the policy let go.
    site.kubectl("delete", "ksp", name, "-n", namespace)
    assert [shutdown] == _shutdowns(site, namespace)
    assert not site.api().get(pods).body["items"]
    records = site.api().get(f"{GROUP}/namespaces/{namespace}/shutdownrecords").body["items"]
    evidence = [each["spec"]["evidence"] for each in records if "evidence" in each["spec"]]
    signals = [each["name"] for each in evidence[0]["signals"]]
    assert signals == ["generated-tokens-per-second"]


def test_gracefully(site: ControlPlane, exporter: Exporter) -> None:
    """The chart's rights are enough to cut the traffic first, and to give it back exactly."""
    namespace = "gently"
    pods = _serve(site, namespace, "vllm", replicas=2)
    service = f"/api/v1/namespaces/{namespace}/services/vllm"
    selector = {"app.kubernetes.io/name": "vllm"}
    made = {"metadata": {"name": "vllm"}, "spec": {"selector": selector, "ports": [{"port": 80}]}}
    assert site.api().create(service.rpartition("/")[0], made).status == 201
    exporter.set("vllm:generation_tokens_total", 0, namespace=namespace)
    change = {
        "mode": "Enforce",
        "action": {"category": "Graceful", "graceful": {"drain": "1s", "terminate": "5s"}},
        "restore": {"canaryReplicas": 1, "soak": "0s"},
    }
    name = _apply(site, "vllm-runaway-tokens", change, hold_down="1s", namespace=namespace)
    _condition(site, f"ksp/{name}", "Armed", "-n", namespace)

    exporter.set("vllm:generation_tokens_total", 1e8, namespace=namespace)
    shutdown = until(lambda: _shutdowns(site, namespace), "the policy fires")[0]
    _condition(site, f"shutdown/{shutdown}", "Verified", "-n", namespace)
    assert not site.api().get(pods).body["items"]
    path = f"{GROUP}/namespaces/{namespace}/shutdowns/{shutdown}"
    # The manager verifies by itself, and may have done so before the reactors say what they did.
    _condition(site, f"shutdown/{shutdown}", "Stopped", "-n", namespace)
    # Their order is for one reactor to keep (tests/reactor): of two, each writes when it was there.
    told = {"locked", "cut", "drained", "deleted"}
    until(lambda: told <= site.api().get(path).body["status"]["stages"].keys(), "the stages")
    mark = {"killswitch.dev/cut": site.api().get(path).body["metadata"]["uid"][:8]}
    assert site.api().get(service).body["spec"]["selector"] == selector | mark

    site.kubectl("delete", "ksp", name, "-n", namespace)
    for person in ("bob", "carol"):
        role = ("--clusterrole=killswitch-releaser", f"--user={person}")
        site.kubectl("create", "rolebinding", person, *role, "-n", namespace)
        answer = site.api(site.user(person)).patch(path, approval(person))
        assert answer.status == 200, answer.message
    _condition(site, f"shutdown/{shutdown}", "Released", "-n", namespace)
    order = {"spec": {"restore": {"by": "bob", "reason": "fixed"}}}
    answer = site.api(site.user("bob")).patch(path, order)
    assert answer.status == 200, answer.message
    _condition(site, f"shutdown/{shutdown}", "Restored", "-n", namespace)
    assert site.api().get(service).body["spec"]["selector"] == selector
    assert len(site.api().get(pods).body["items"]) == 2


def test_helm_install(site: ControlPlane, exporter: Exporter, processes: dict[str, Daemon]) -> None:
    """Installed by Helm, a policy rehearses: a dry run decides and reports and touches nothing."""
    namespace = "rehearsal"
    pods = _serve(site, namespace, "vllm", replicas=2)
    exporter.set("guardrails_requests_blocked_total", 0, namespace=namespace)
    change = {"namespace": namespace}
    name = _apply(site, "misuse-counter", {}, hold_down="0s", only="blocked-requests", **change)
    _condition(site, f"ksp/{name}", "Ready", "-n", namespace)
    _condition(site, f"ksp/{name}", "Armed=False", "-n", namespace)

    exporter.set("guardrails_requests_blocked_total", 1e4, namespace=namespace)
    _condition(site, f"ksp/{name}", "Demanded", "-n", namespace)
    _condition(site, f"ksp/{name}", "Inhibited", "-n", namespace)
    assert not _shutdowns(site, namespace)
    assert len(site.api().get(pods).body["items"]) == 2
    for daemon in processes.values():
        assert daemon._process is not None
        assert daemon._process.poll() is None, daemon.tail()


def test_the_probes_of_the_chart(site: ControlPlane, processes: dict[str, Daemon]) -> None:
    """Each process answers what the kubelet would ask, with the chart's own rights."""
    for name, daemon in processes.items():
        path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/killswitch-{name.split('-')[0]}"
        (container,) = site.api().get(path).body["spec"]["template"]["spec"]["containers"]
        for probe in ("livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]["path"]
            url = f"http://{daemon.environment['KILLSWITCH_METRICS_LISTEN']}{asked}"
            until(functools.partial(_answers, url), f"{name} answers {asked}")


def test_listed_namespaces_are_governed(site: ControlPlane) -> None:
    """By the manager's own token, before any policy is there."""
    until(lambda: _label(site, LISTED) == "true", f"{LISTED} is governed")


def test_cluster_wide(site: ControlPlane, exporter: Exporter) -> None:
    """One ClusterKillSwitchPolicy stops the model in two namespaces and leaves a third alone."""
    places = ("team-a", "team-b")
    pods = {place: _serve(site, place, "vllm", replicas=2) for place in (*places, "team-c")}
    for place in pods:
        site.kubectl("label", "namespace", place, "killswitch.dev/governed=true")
    exporter.set("misuse_reports", 0)
    spec = {
        "mode": "Enforce",
        "targets": [
            {
                "kind": "Deployment",
                "namespaces": list(places),
                "selector": {"matchLabels": {"app.kubernetes.io/name": "vllm"}},
            }
        ],
        "signals": [
            {
                "name": "reports",
                "prometheus": {"query": "sum(misuse_reports)", "above": "10"},
                "onNoData": "Hold",
            }
        ],
        "owner": "safety@example.com",
        "backup": "platform@example.com",
    }
    metadata = {"name": "everywhere"}
    _create(site, {"kind": "ClusterKillSwitchPolicy", "metadata": metadata, "spec": spec})
    _condition(site, "cksp/everywhere", "Armed")

    exporter.set("misuse_reports", 11)
    for place in places:
        find = functools.partial(_shutdowns, site, place)
        (shutdown,) = until(find, f"stopped in {place}")
        _condition(site, f"shutdown/{shutdown}", "Verified", "-n", place)
        assert not site.api().get(pods[place]).body["items"]
    assert len(site.api().get(pods["team-c"]).body["items"]) == 2
    assert not _shutdowns(site, "team-c")


def test_nodes(site: ControlPlane, exporter: Exporter) -> None:
    """An overheating zone is cordoned and stays so; the other zone goes on."""
    zone = ("row-a-0", "row-a-1")
    for number, node in enumerate(zone):
        exporter.set("DCGM_FI_DEV_GPU_TEMP", 60, Hostname=node, gpu=str(number))
    name = _apply(site, "gpu-thermal-runaway", {"mode": "Enforce"}, hold_down="0s")
    _condition(site, f"cksp/{name}", "Armed")

    for number, node in enumerate(zone):
        exporter.set("DCGM_FI_DEV_GPU_TEMP", 97, Hostname=node, gpu=str(number))
    (shutdown,) = until(
        lambda: _names(site, f"{GROUP}/clustershutdowns", f"{name}-"), "the policy fires"
    )
    _condition(site, f"clustershutdown/{shutdown}", "Verified")
    cordoned = [
        node["metadata"]["name"]
        for node in site.api().get("/api/v1/nodes").body["items"]
        if node["spec"].get("unschedulable")
    ]
    assert sorted(zone) == sorted(cordoned)
    # kubectl uncordon ends with 0 even when it is refused; the node says what is true.
    assert "held down by" in site.kubectl("uncordon", zone[0]).stderr
    assert site.api().get(f"/api/v1/nodes/{zone[0]}").body["spec"]["unschedulable"] is True


def _daemon(site: ControlPlane, component: str, number: int, logs: Path) -> Daemon:
    """The container of that Deployment, as a process with its ServiceAccount's token."""
    name = f"killswitch-{component}"
    path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/{name}"
    (container,) = site.api().get(path).body["spec"]["template"]["spec"]["containers"]
    program, *arguments = container["command"]
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    environment = {each["name"]: each.get("value", SYSTEM) for each in container["env"]}
    environment["KUBECONFIG"] = str(site.service_account(SYSTEM, name).kubeconfig)
    environment["HOSTNAME"] = f"{name}-{number}"
    # In a pod each has the port to itself.
    environment["KILLSWITCH_METRICS_LISTEN"] = f"127.0.0.1:{free_port()}"
    return Daemon(f"{component}-{number}", command, logs / f"{component}-{number}.log", environment)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _serve(site: ControlPlane, namespace: str, name: str, *, replicas: int) -> str:
    """Model servers that run in that namespace; the path that lists their pods."""
    site.kubectl("create", "namespace", namespace)
    labels = {"app.kubernetes.io/name": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "model", "image": "example.com/model"}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": name, "labels": labels}
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    assert site.api().create(path, {"metadata": metadata, "spec": spec}).status == 201
    where = ("-n", namespace, "--timeout=60s")
    site.kubectl("rollout", "status", f"deployment/{name}", *where)
    return f"/api/v1/namespaces/{namespace}/pods"


def _apply(
    site: ControlPlane,
    shipped: str,
    change: Json,
    *,
    hold_down: str,
    only: str = "",
    namespace: str = "",
) -> str:
    """A ready policy, adapted as its comments ask, through `kubectl apply -f`; its name."""
    body = yaml.safe_load((POLICIES / f"{shipped}.yaml").read_text())
    body["spec"].update(change)
    signals = [each for each in body["spec"]["signals"] if not only or each["name"] == only]
    body["spec"]["signals"] = [{**each, "for": hold_down} for each in signals]
    if namespace:
        text = json.dumps(body).replace(body["metadata"]["namespace"], namespace)
        body = json.loads(text)
    site.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    return shipped


def _create(site: ControlPlane, body: Json) -> None:
    text = json.dumps({"apiVersion": "killswitch.dev/v1alpha1", **body})
    site.kubectl("apply", "-f", "-", stdin=text)


def _condition(site: ControlPlane, what: str, condition: str, *where: str) -> None:
    site.kubectl("wait", f"--for=condition={condition}", what, "--timeout=60s", *where)


def _label(site: ControlPlane, namespace: str) -> str | None:
    labels = site.api().get(f"/api/v1/namespaces/{namespace}").body["metadata"]["labels"]
    found: str | None = labels.get("killswitch.dev/governed")
    return found


def _shutdowns(site: ControlPlane, namespace: str) -> list[str]:
    return _names(site, f"{GROUP}/namespaces/{namespace}/shutdowns")


def _names(site: ControlPlane, path: str, prefix: str = "") -> list[str]:
    names = [each["metadata"]["name"] for each in site.api().get(path).body["items"]]
    return [name for name in names if name.startswith(prefix)]
