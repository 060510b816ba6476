from typing import Any

import pytest

from killswitch.adapters.promql import PromqlChecker
from killswitch.api.compiled import (
    AlertRule,
    CompiledPolicy,
    CompiledSignal,
    Exporter,
    Metric,
    compiled,
)
from killswitch.api.policies import ClusterKillSwitchPolicy, KillSwitchPolicy, Mode
from killswitch.core.errors import InvalidPolicyError
from killswitch.core.queries import TargetQuery
from killswitch.core.quorum import Meaning, VotingRule
from killswitch.core.readings import Threshold
from killswitch.core.windows import EventRule


def signal(name: str = "rate", **more: Any) -> dict[str, Any]:
    """A signal as people write it."""
    source = {"query": "sum(x)", "above": "5", **more.pop("prometheus", {})}
    return {"name": name, "prometheus": source, "onNoData": "Hold", **more}


def policy(cluster: bool = False, **spec: Any) -> CompiledPolicy:
    """A policy with this spec, compiled."""
    metadata = {"name": "vllm", "uid": "u", "generation": 7}
    base = {
        "owner": "team",
        "backup": "lead",
        "targets": [{"kind": "Deployment", "name": "vllm"}],
        "signals": [signal()],
    }
    if cluster:
        return compiled(
            ClusterKillSwitchPolicy.model_validate({"metadata": metadata, "spec": base | spec})
        )
    place = {**metadata, "namespace": "prod"}
    return compiled(KillSwitchPolicy.model_validate({"metadata": place, "spec": base | spec}))


def test_defaults_are_cautious() -> None:
    """A policy that says little acts on nothing (DryRun) and needs no second signal."""
    found = policy()
    assert (
        found.mode,
        found.quorum,
        found.max_targets,
        found.max_percent,
        found.cooldown,
    ) == (Mode.DRY_RUN, 1, 10, 100, 600.0)
    assert (
        found.kind,
        found.namespace,
        found.name,
        found.uid,
        found.generation,
    ) == ("KillSwitchPolicy", "prod", "vllm", "u", 7)
    assert str(found) == "KillSwitchPolicy prod/vllm"


def test_signals() -> None:
    """Texts become numbers; the voting rule comes with its signal."""
    found = policy(
        signals=[
            signal("high", maxAge="45s", onNoData="Fire", **{"for": "1m30s"}),
            {"name": "low", "prometheus": {"query": "y", "below": "-1.5e2"}, "onNoData": "Alert"},
        ],
        quorum=2,
    )
    high = VotingRule("high", Meaning.FIRE, 90.0, 45.0)
    low = VotingRule("low", Meaning.ALERT, 0.0, 60.0)
    assert found.signals == (
        CompiledSignal("high", "sum(x)", Threshold(above=5.0), 45.0, high),
        CompiledSignal("low", "y", Threshold(below=-150.0), 60.0, low),
    )
    assert found.rules == (high, low)


def metric(**source: Any) -> dict[str, Any]:
    """A signal that names a metric."""
    return {"name": "m", "metric": {"name": "x", "above": "5", **source}, "onNoData": "Hold"}


def test_a_metric_is_polled_as_its_selector() -> None:
    """Label values are quoted as PromQL wants them, whatever is in them."""
    labels = {"pod": "p", "model": 'a"b\\c\nd'}
    (found,) = policy(signals=[metric(name="vllm:running", labels=labels)]).signals
    assert found.metric == Metric("vllm:running", (("model", 'a"b\\c\nd'), ("pod", "p")))
    assert found.query == 'vllm:running{model="a\\"b\\\\c\\nd",pod="p"}'
    assert found.threshold == Threshold(above=5.0)
    PromqlChecker().check(found.query_field, found.query)


SCRAPE = {"service": "vllm", "port": "http"}


def scraped(**scrape: Any) -> dict[str, Any]:
    """A signal whose metric is also scraped by ourselves."""
    return metric(scrape={**SCRAPE, **scrape})


def test_a_metric_is_scraped_in_the_policys_namespace() -> None:
    """Beside the poll, plain and ten times a second unless it says otherwise."""
    (found,) = policy(signals=[scraped()]).signals
    assert (found.query, found.scrape_interval) == ("x", 0.1)
    assert found.exporter == Exporter("prod", "vllm", "http", "/metrics")
    (found,) = policy(signals=[scraped(port="8000", scheme="https", interval="10ms")]).signals
    assert found.exporter == Exporter("prod", "vllm", 8000, "/metrics", "vllm.prod.svc")
    tls = {"serverName": "metrics", "insecureSkipVerify": True}
    (found,) = policy(signals=[scraped(scheme="https", tls=tls)]).signals
    assert found.exporter is not None
    assert (found.exporter.tls, found.exporter.verified) == ("metrics", False)
    (found,) = policy(True, signals=[scraped(namespace="models")], targets=NODES).signals
    assert found.exporter == Exporter("models", "vllm", "http")


@pytest.mark.parametrize(
    ("cluster", "more", "field"),
    [
        (False, {"namespace": "other"}, "metric.scrape.namespace"),
        (True, {}, "metric.scrape.namespace"),
        (False, {"tls": {}}, "metric.scrape.tls"),
        (False, {"interval": "9ms"}, "metric.scrape.interval"),
        (False, {"interval": "2m"}, "metric.scrape.interval"),
        (False, {"interval": "40s"}, "maxAge"),
    ],
)
def test_a_scrape_that_cannot_work_is_refused(
    cluster: bool, more: dict[str, Any], field: str
) -> None:
    """Naming the field and the cure, also where no API server has looked before."""
    targets = {"targets": NODES} if cluster else {}
    with pytest.raises(InvalidPolicyError) as caught:
        policy(cluster, signals=[scraped(**more)], **targets)
    assert caught.value.field == f"spec.signals[m].{field}"
    assert caught.value.cure


def test_a_detector_is_not_scraped_for() -> None:
    """It learns from Prometheus; a scrape without threshold would call everything well."""
    source = {"name": "x", "detector": {"ewma": {"least": "5"}}, "scrape": SCRAPE}
    with pytest.raises(InvalidPolicyError) as caught:
        policy(signals=[{"name": "m", "metric": source, "onNoData": "Hold"}])
    assert caught.value.field == "spec.signals[m].metric.scrape"


NODES = [{"kind": "Namespace", "namespaces": ["a"]}]


def test_an_alert_has_no_query() -> None:
    """It waits for others' alerts, by name and labels, and for the one that fires always."""
    source = {"name": "Guardrail Down", "labels": {"b": "", "a": "1"}}
    (found,) = policy(signals=[{"name": "g", "alert": source, "onNoData": "Hold"}]).signals
    assert found.alert == AlertRule(Metric("Guardrail Down", (("a", "1"), ("b", ""))), "Watchdog")
    assert (found.query, found.threshold) == ("", Threshold(above=0.0))


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ({"name": "KillSwitchFire"}, "name"),
        ({"name": "Down", "heartbeat": "KillSwitchHeartbeat"}, "heartbeat"),
        ({"name": "Down", "heartbeat": "Down"}, "heartbeat"),
        ({"name": "Down", "labels": {"__name__": "x"}}, "labels"),
    ],
)
def test_alerts_that_cannot_work_are_refused(source: dict[str, Any], field: str) -> None:
    """Our own rules' alerts, an alert that is its own heartbeat, and what is no label."""
    with pytest.raises(InvalidPolicyError) as caught:
        policy(signals=[{"name": "g", "alert": source, "onNoData": "Hold"}])
    assert caught.value.field == f"spec.signals[g].alert.{field}"
    assert caught.value.cure


def test_an_event_has_no_query() -> None:
    """It is counted where it arrives; evidence shows the count and the last one that is not enough."""
    source = {"type": "jailbreak", "source": "g", "atLeast": 3, "within": "5m", "heartbeat": "1h"}
    (found,) = policy(signals=[{"name": "e", "event": source, "onNoData": "Hold"}]).signals
    assert found.events == EventRule("jailbreak", "g", 3, 300.0, 3600.0)
    assert (found.query, found.threshold) == ("", Threshold(above=2.0))


def test_a_metric_matches_equal_labels_and_missing_ones() -> None:
    """An empty value asks for a label that is not there, as in PromQL."""
    found = Metric("x", (("a", "1"), ("b", "")))
    assert found.matches([("a", "1"), ("c", "2")])
    assert not found.matches([("a", "2")])
    assert not found.matches([("a", "1"), ("b", "2")])


def test_targets_of_a_namespaced_policy_stay_in_its_namespace() -> None:
    """By name and by labels."""
    labels = {"app": "llm"}
    found = policy(
        targets=[
            {"kind": "Deployment", "name": "vllm"},
            {"kind": "StatefulSet", "selector": {"matchLabels": labels}},
        ]
    )
    assert found.queries == (
        TargetQuery("Deployment", "prod", "vllm"),
        TargetQuery("StatefulSet", "prod", labels=labels),
    )


def test_targets_of_a_cluster_policy_are_spread_over_namespaces() -> None:
    """One query for each namespace; nodes have none."""
    found = policy(
        cluster=True,
        targets=[
            {"kind": "Namespace", "namespaces": ["a", "b"]},
            {"kind": "Deployment", "namespaces": ["c"], "name": "vllm"},
            {"kind": "Node", "selector": {"matchLabels": {"gpu": "yes"}}},
        ],
    )
    assert found.queries == (
        TargetQuery("Namespace", "a"),
        TargetQuery("Namespace", "b"),
        TargetQuery("Deployment", "c", "vllm"),
        TargetQuery("Node", "", labels={"gpu": "yes"}),
    )
    assert str(found) == "ClusterKillSwitchPolicy vllm"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"signals": [{"name": "a", "onNoData": "Hold"}]}, "spec.signals[a]"),
        ({"signals": [signal(prometheus={"below": "1"})]}, "spec.signals[rate].prometheus"),
        ({"signals": [signal(prometheus={"above": None})]}, "spec.signals[rate].prometheus"),
        ({"quorum": 2}, "spec.quorum"),
        ({"signals": [signal(metric={"name": "x", "above": "1"})]}, "spec.signals[rate]"),
        (
            {
                "signals": [
                    {
                        "name": "e",
                        "event": {"type": "t", "heartbeat": "1s"},
                        "onNoData": "Hold",
                    }
                ]
            },
            "spec.signals[e].event.heartbeat",
        ),
        ({"signals": [metric(below="1")]}, "spec.signals[m].metric"),
        ({"signals": [metric(labels={"a b": "1"})]}, "spec.signals[m].metric.labels"),
        ({"signals": [metric(labels={"__name__": "y"})]}, "spec.signals[m].metric.labels"),
    ],
)
def test_what_an_older_schema_let_through_is_refused(spec: dict[str, Any], field: str) -> None:
    """Objects stored before a rule existed are refused by name instead of failing when judged."""
    with pytest.raises(InvalidPolicyError) as caught:
        policy(**spec)
    assert field == caught.value.field
    assert caught.value.cure


def test_every_threshold_that_the_schema_accepts_is_finite() -> None:
    """The largest number that fits the field is far below infinity."""
    largest = "9" * 29 + "e99"
    found = policy(signals=[signal(prometheus={"above": largest})])
    assert found.signals[0].threshold == Threshold(above=float(largest))
