"""`stop --graceful`: traffic first, then time for what is under way, then the pods' own grace."""

from typing import Any

from tests.cli.conftest import Stage
from tests.cluster.prometheus import Exporter, Prometheus

_CUTTING: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["services"], "verbs": ["patch"]},
]
_GENTLY = ("-w", "deploy/vllm", "--graceful", "--reason", "r")


def service(stage: Stage, name: str = "front") -> None:
    """A Service of the Deployment's pods alone."""
    spec = {"selector": {"app": "vllm"}, "ports": [{"port": 80}]}
    stage.create("/api/v1", "services", {"metadata": {"name": name}, "spec": spec})


def selector(stage: Stage, name: str = "front") -> dict[str, str]:
    """What the Service selects now."""
    found: dict[str, str] = stage.get(f"/api/v1 services/{name}")["spec"]["selector"]
    return found


def test_traffic_is_cut_and_pods_get_their_own_grace(stage: Stage) -> None:
    """Each step in its order, and the terms stored with the Shutdown."""
    stage.grant("cutters", _CUTTING, "alice")
    stage.deployment(replicas=1)
    service(stage)
    done = stage.run("stop", *_GENTLY, "--drain", "1s", "--terminate", "2s", "--quiet", "flux")
    assert done.returncode == 0, done.stdout + done.stderr
    stages = ("locked", "cut", "drained", "deleted")
    steps = [word for line in done.stdout.splitlines() for word in stages if f"  {word} " in line]
    assert steps == list(stages)
    assert "every pod was told to go, with its own grace" in done.stdout
    assert "killswitch.dev/cut" in selector(stage)
    (made,) = stage.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"]
    assert made["spec"]["graceful"] == {"drain": "1s", "terminate": "2s"}
    assert (made["spec"]["category"], made["spec"]["quiet"]) == ("Graceful", ["Flux"])


def test_each_stage_is_said_once(stage: Stage) -> None:
    """Though the lock is tried before the drain and after it."""
    stage.deployment(replicas=1)
    done = stage.run("stop", *_GENTLY, "--drain", "2s", "--terminate", "2s")
    assert done.returncode == 0, done.stdout + done.stderr
    for each in ("proven", "scaled", "stopped"):
        assert done.stdout.count(f"  {each} ") == 1, done.stdout


def test_without_the_right_to_cut_the_stop_goes_on_and_says_so(stage: Stage) -> None:
    """Cutting is no precondition: the lock holds, and pods go."""
    stage.deployment(replicas=1)
    service(stage)
    done = stage.run("stop", *_GENTLY, "--drain", "0s", "--terminate", "1s")
    assert "killswitch.dev/cut" not in selector(stage)
    assert (stage.pods(), "is not cut: " in done.stdout) == ([], True), done.stdout


def test_a_drain_ends_when_nothing_is_under_way(
    stage: Stage, exporter: Exporter, prometheus: Prometheus
) -> None:
    """Read twice from the Prometheus that was named: far earlier than the drain allows."""
    stage.deployment(replicas=1)
    exporter.set("under_way", 0.0)
    prometheus.wait_for_sample("under_way")
    done = stage.run(
        "stop", *_GENTLY, "--drain", "10m", "--terminate", "1s", "--in-flight", "sum(under_way)",
        "--prometheus", prometheus.url,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " drained  nothing is under way any more, or the drain is over" in done.stdout


def test_a_query_that_cannot_work_is_refused_before_anything_is_locked(stage: Stage) -> None:
    """Exit 2, with what is wrong with it."""
    stage.deployment(replicas=1)
    done = stage.run("stop", *_GENTLY, "--in-flight", "sum(")
    assert (done.returncode, "read --in-flight" in done.stderr) == (2, True)
    assert stage.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"] == []


def test_requests_per_second_are_asked_of_the_prometheus_that_is_named(
    stage: Stage, exporter: Exporter, prometheus: Prometheus
) -> None:
    """Unknown, with its reason, where nobody tells or nobody answers."""
    stage.deployment(replicas=1)
    done = stage.run("plan", "-w", "deploy/vllm", "--prometheus", prometheus.url)
    assert "Requests now: not known: no metric that is known has series" in done.stdout
    (pod,) = stage.pods()
    exporter.set("vllm:request_success_total", 1.0, namespace=stage.namespace, pod=pod)
    prometheus.wait_for_sample("rate(vllm:request_success_total[1m])")
    answer = stage.json("plan", "-w", "deploy/vllm", "--prometheus", prometheus.url)
    assert list(answer["blastRadius"]["requests"]["perSecond"]) == ["vLLM"]
    gone = stage.run("plan", "-w", "deploy/vllm", "--prometheus", "http://127.0.0.1:9")
    assert "Requests now: not known: Unreachable" in gone.stdout
