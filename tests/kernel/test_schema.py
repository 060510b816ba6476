"""Bad policies are refused at apply, with the field and the cure, by the API server itself."""

from typing import Any

import pytest

from killswitch.core import times
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import GROUP, Json, policies, policy, shutdown, shutdowns

pytestmark = pytest.mark.cluster


def signal(**changes: Any) -> Json:
    """A good signal with changes; None removes a field."""
    base: Json = {
        "name": "load",
        "prometheus": {"query": "up", "above": "1"},
        "onNoData": "Hold",
        **changes,
    }
    return {key: value for key, value in base.items() if value is not None}


def with_signal(**changes: Any) -> Json:
    """A policy with one signal."""
    return policy("p", signals=[signal(**changes)])


def with_scrape(**scrape: Any) -> Json:
    """A policy whose signal is also scraped."""
    found = {"service": "vllm", "port": 8000, **scrape}
    return with_signal(prometheus=None, metric={"name": "up", "above": "1", "scrape": found})


def with_target(**target: Any) -> Json:
    """A policy with one target."""
    return policy("p", targets=[{"kind": "Deployment", **target}])


EWMA = {"ewma": {"least": "5"}}
RUNG = {"for": "1m", "onExpiry": "Thaw"}
BAD = {
    "threshold abc": (
        with_signal(prometheus={"query": "up", "above": "abc"}),
        'spec.signals[0].prometheus.above: Invalid value: "abc"',
    ),
    "threshold NaN": (
        with_signal(prometheus={"query": "up", "above": "NaN"}),
        'spec.signals[0].prometheus.above: Invalid value: "NaN"',
    ),
    "no threshold": (
        with_signal(prometheus={"query": "up"}),
        "give exactly one of above, below and detector",
    ),
    "two thresholds": (
        with_signal(prometheus={"query": "up", "above": "1", "below": "0"}),
        "give exactly one of above, below and detector",
    ),
    "no onNoData": (with_signal(onNoData=None), "spec.signals[0].onNoData: Required value"),
    "no source": (with_signal(prometheus=None), "give the signal exactly one source"),
    "two sources": (
        with_signal(metric={"name": "up", "above": "1"}),
        "give the signal exactly one source",
    ),
    "a heartbeat of nobody": (
        with_signal(prometheus=None, event={"type": "jailbreak", "heartbeat": "1m"}),
        "a heartbeat needs the source it is of",
    ),
    "a metric's name": (
        with_signal(prometheus=None, metric={"name": "a b", "above": "1"}),
        "spec.signals[0].metric.name",
    ),
    "a metric without threshold": (
        with_signal(prometheus=None, metric={"name": "up"}),
        "give exactly one of above, below and detector",
    ),
    "a detector and a threshold": (
        with_signal(prometheus={"query": "up", "above": "1", "detector": EWMA}),
        "give exactly one of above, below and detector",
    ),
    "a detector with hysteresis": (
        with_signal(prometheus={"query": "up", "recoversAt": "1", "detector": EWMA}),
        "recoversAt must lie on the safe side of the threshold",
    ),
    "a detector of no kind": (
        with_signal(prometheus={"query": "up", "detector": {}}),
        "give the detector exactly one of rate, robustZ, ewma, cusum, seasonal and absence",
    ),
    "a detector of two kinds": (
        with_signal(prometheus={"query": "up", "detector": {**EWMA, "rate": {"limit": "1"}}}),
        "give the detector exactly one of rate, robustZ, ewma, cusum, seasonal and absence",
    ),
    "a detector without its least": (
        with_signal(prometheus={"query": "up", "detector": {"ewma": {}}}),
        "spec.signals[0].prometheus.detector.ewma.least: Required value",
    ),
    "a detector that would stop alone": (
        policy("p", mode="Enforce", signals=[signal(prometheus={"query": "up", "detector": EWMA})]),
        "accept false stops with allowDetectorAlone: true",
    ),
    "a metric's detector that would stop alone": (
        policy(
            "p",
            mode="Enforce",
            signals=[signal(prometheus=None, metric={"name": "up", "detector": EWMA})],
        ),
        "a detector would stop the targets alone",
    ),
    "a scrape of another namespace": (
        with_scrape(namespace="other"),
        "leave scrape.namespace out",
    ),
    "a scrape too often": (with_scrape(interval="9ms"), "interval must be from 10ms to 1m"),
    "a scrape too seldom": (with_scrape(interval="61s"), "interval must be from 10ms to 1m"),
    "a scrape for a detector": (
        with_signal(
            prometheus=None,
            metric={"name": "up", "detector": EWMA, "scrape": {"service": "v", "port": 1}},
        ),
        "scrape is for thresholds",
    ),
    "a port beyond all ports": (with_scrape(port=65536), "metric.scrape.port"),
    "a port without a name": (with_scrape(port="A b"), "metric.scrape.port"),
    "a path that is none": (with_scrape(path="metrics"), "metric.scrape.path"),
    "tls of plain http": (with_scrape(tls={"serverName": "x"}), "tls is of scheme https"),
    "a hold-down as long as the wish": (
        policy("p", signals=[signal(**{"for": "1m"})], reactWithin="60s"),
        "reactWithin can never be met",
    ),
    "quorum above the signals": (
        policy("p", quorum=2),
        "quorum is more than the number of signals",
    ),
    "no signal": (policy("p", signals=[]), "spec.signals"),
    "no target": (policy("p", targets=[]), "spec.targets"),
    "an empty selector": (with_target(selector={"matchLabels": {}}), "matchLabels"),
    "name and selector": (
        with_target(name="a", selector={"matchLabels": {"a": "b"}}),
        "give a target exactly one of name, selector and image",
    ),
    "neither name nor selector": (
        with_target(),
        "give a target exactly one of name, selector and image",
    ),
    "a plural for a kind": (
        policy("p", targets=[{"kind": "deployments", "name": "x"}]),
        "spec.targets[0].kind: Invalid value",
    ),
    "a group in the kind": (
        policy("p", targets=[{"kind": "Model.example.com", "name": "x"}]),
        "spec.targets[0].kind: Invalid value",
    ),
    "a wrong duration": (with_signal(maxAge="soon"), "spec.signals[0].maxAge"),
    "cordon in a namespaced policy": (
        policy("p", action={"type": "Cordon"}),
        "a KillSwitchPolicy is about workloads",
    ),
    "a freeze without freeze": (
        policy("p", action={"type": "Freeze"}),
        "type Freeze needs freeze",
    ),
    "a freeze with two quorums": (
        policy("p", action={"type": "Freeze", "freeze": {**RUNG, "quorum": 1}}),
        "type Freeze needs freeze, and in it no quorum",
    ),
    "a rung of no quorum": (
        policy("p", action={"freeze": RUNG}),
        "freeze.quorum says how many signals freeze",
    ),
    "a rung no lower than the stop": (
        policy("p", action={"freeze": {**RUNG, "quorum": 1}}),
        "action.freeze.quorum must be less than quorum",
    ),
    "a freeze of two days": (
        policy("p", action={"type": "Freeze", "freeze": {**RUNG, "for": "48h"}}),
        "freeze.for is from 1s to 24h",
    ),
    "a freeze without an end": (
        policy("p", action={"type": "Freeze", "freeze": {"for": "1m"}}),
        "spec.action.freeze.onExpiry: Required value",
    ),
    "isolated in no time": (
        policy("p", action={"onIsolation": "Kill", "isolatedAfter": "10s"}),
        "isolatedAfter is at least 30s",
    ),
    "a detector that would freeze, and stop alone in the end": (
        policy(
            "p",
            mode="Enforce",
            signals=[signal(prometheus={"query": "up", "detector": EWMA})],
            action={"type": "Freeze", "freeze": {"for": "1m", "onExpiry": "Stop"}},
        ),
        "accept false stops with allowDetectorAlone: true",
    ),
    "no owner": (policy("p", owner=None), "spec.owner"),
    "a name too long for its Shutdowns": (
        {**policy("p"), "metadata": {"name": "p" * 53}},
        "at most 52 characters",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_policy_is_refused_naming_the_field(
    kernel: ControlPlane, governed: str, case: str
) -> None:
    """By schema or CEL, before anything is stored."""
    body, message = BAD[case]
    answer = kernel.api().create(policies(governed), body)
    assert answer.status == 422
    assert message in answer.message


def test_a_good_policy_is_accepted_with_its_defaults(kernel: ControlPlane, governed: str) -> None:
    """DryRun unless Enforce is written: nothing acts by omission."""
    answer = kernel.api().create(policies(governed), policy("p"))
    assert answer.status == 201
    assert answer.body["spec"]["mode"] == "DryRun"
    assert answer.body["spec"]["release"] == {"requiredApprovals": 2}


def test_a_wish_for_the_reaction_time_is_kept(kernel: ControlPlane, governed: str) -> None:
    """Hold-downs of signals that the quorum can do without may be longer."""
    slow = signal(name="slow", **{"for": "1h"})
    body = policy("p", signals=[slow, signal(**{"for": "1m30s"})], reactWithin="2m")
    answer = kernel.api().create(policies(governed), body)
    assert answer.status == 201, answer.message
    assert answer.body["spec"]["reactWithin"] == "2m"


def test_a_metric_is_a_source(kernel: ControlPlane, governed: str) -> None:
    """With labels, whose values may be anything."""
    source = {"name": "vllm:running", "labels": {"model_name": "meta/Llama-3"}, "above": "1"}
    answer = kernel.api().create(policies(governed), with_signal(prometheus=None, metric=source))
    assert answer.status == 201, answer.message
    assert answer.body["spec"]["signals"][0]["metric"] == source


@pytest.mark.parametrize("port", [8000, "http-metrics"])
def test_a_scrape_is_accepted_with_its_defaults(
    kernel: ControlPlane, governed: str, port: int | str
) -> None:
    """A port by number or by name; a hundred milliseconds."""
    answer = kernel.api().create(policies(governed), with_scrape(port=port))
    assert answer.status == 201, answer.message
    stored = answer.body["spec"]["signals"][0]["metric"]["scrape"]
    assert stored == {
        "service": "vllm",
        "port": port,
        "path": "/metrics",
        "interval": "100ms",
        "scheme": "http",
    }


def test_a_detector_is_stored_with_its_defaults(kernel: ControlPlane, governed: str) -> None:
    """A later release does not change what a stored policy does; a written word may enforce it."""
    body = policy(
        "p",
        mode="Enforce",
        allowDetectorAlone=True,
        signals=[signal(prometheus={"query": "up", "detector": EWMA})],
    )
    answer = kernel.api().create(policies(governed), body)
    assert answer.status == 201, answer.message
    expected = {"least": "5", "limit": "6", "halfLife": "30m", "warmUp": 30, "side": "Above"}
    stored = answer.body["spec"]["signals"][0]["prometheus"]["detector"]
    assert stored == {"every": "15s", "ewma": {**expected, "gap": "5m"}}


def test_an_event_is_a_source(kernel: ControlPlane, governed: str) -> None:
    """One within a minute trips unless it says otherwise."""
    answer = kernel.api().create(
        policies(governed), with_signal(prometheus=None, event={"type": "guardrail.jailbreak"})
    )
    assert answer.status == 201, answer.message
    stored = answer.body["spec"]["signals"][0]["event"]
    assert stored == {"type": "guardrail.jailbreak", "atLeast": 1, "within": "1m"}


def test_an_alert_is_a_source(kernel: ControlPlane, governed: str) -> None:
    """Its heartbeat is the one that most Prometheis have."""
    source = {"name": "GuardrailDown", "labels": {"namespace": "prod"}}
    answer = kernel.api().create(policies(governed), with_signal(prometheus=None, alert=source))
    assert answer.status == 201, answer.message
    stored = answer.body["spec"]["signals"][0]["alert"]
    assert stored == {**source, "heartbeat": "Watchdog"}


@pytest.mark.parametrize("field", ["targetz", "namespace"])
def test_an_unknown_field_is_refused_by_kubectl(
    kernel: ControlPlane, governed: str, field: str
) -> None:
    """Kubectl validates strictly by default: a typo or a foreign namespace is not dropped."""
    body = policy("p")
    if field == "namespace":
        body["spec"]["targets"][0]["namespace"] = "elsewhere"
    else:
        body["spec"][field] = []
    import json

    result = kernel.kubectl("apply", "-n", governed, "-f", "-", stdin=json.dumps(body), check=False)
    assert result.returncode != 0
    assert "unknown field" in result.stderr
    assert field in result.stderr


BAD_CLUSTER: dict[str, tuple[Json, str]] = {
    "nodes with Stop": (
        {"targets": [{"kind": "Node", "name": "n"}]},
        "Node targets go with action.type Cordon",
    ),
    "workloads without namespaces": (
        {"targets": [{"kind": "Deployment", "name": "n"}]},
        "workload and Namespace targets name their namespaces",
    ),
    "a scrape without namespace": (
        {"signals": with_scrape()["spec"]["signals"]},
        "scrape.namespace is missing",
    ),
    "a protected namespace": (
        {"targets": [{"kind": "Namespace", "namespaces": ["kube-system"]}]},
        "protected namespace",
    ),
}


@pytest.mark.parametrize("case", BAD_CLUSTER)
def test_a_bad_cluster_policy_is_refused(kernel: ControlPlane, case: str) -> None:
    """The same for policies over namespaces and nodes."""
    spec, message = BAD_CLUSTER[case]
    body = policy("p", **spec)
    body["kind"] = "ClusterKillSwitchPolicy"
    answer = kernel.api().create(f"{GROUP}/clusterkillswitchpolicies", body)
    assert answer.status in {403, 422}
    assert message in answer.message


def test_good_cluster_policies_are_accepted(kernel: ControlPlane) -> None:
    """Nodes to cordon, whole namespaces, workloads in named namespaces."""
    for number, (targets, action) in enumerate(
        [
            ([{"kind": "Node", "selector": {"matchLabels": {"a": "b"}}}], "Cordon"),
            ([{"kind": "Namespace", "namespaces": ["one", "two"]}], "Stop"),
            ([{"kind": "Deployment", "namespaces": ["one"], "name": "x"}], "Stop"),
        ]
    ):
        body = policy(f"good-{number}", targets=targets, action={"type": action})
        body["kind"] = "ClusterKillSwitchPolicy"
        path = f"{GROUP}/clusterkillswitchpolicies"
        answer = kernel.api().create(path, body)
        assert answer.status == 201, answer.message
        assert kernel.api().delete(f"{path}/good-{number}").status == 200


@pytest.mark.parametrize("decided", ["2026-01-01t00:00:00z", "2026-01-01T00:00:00+99:00"])
def test_a_time_in_status_is_written_in_one_form(
    kernel: ControlPlane, governed: str, decided: str
) -> None:
    """The manager reads it back, and must never meet what Python cannot read."""
    api, path = kernel.api(), shutdowns(governed, "s")
    assert api.create(shutdowns(governed), shutdown("s", "admin")).status == 201
    answer = api.patch(f"{path}/status", {"status": {"stages": {"decided": decided}}})
    assert (answer.status, "status.stages.decided" in answer.message) == (422, True)
    good = {"status": {"stages": {"decided": times.text(0.5)}}}
    assert api.patch(f"{path}/status", good).status == 200
