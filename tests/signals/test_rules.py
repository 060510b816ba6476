import json
from typing import Any

import promql_parser
import yaml

from killswitch.adapters.promql import PromqlChecker
from killswitch.api.acceptance import accept
from killswitch.api.compiled import CompiledPolicy
from killswitch.core.readings import Threshold
from killswitch.signals import rules
from killswitch.signals.alerts import PolicyReference
from killswitch.signals.rules import Measurement, ThresholdSeries

QUEUE = Measurement("sum(waiting)")
MODELS = Measurement("waiting", "max(time()-timestamp(waiting))", 30.0)
CHECKER = PromqlChecker()
EVERY = ({"name": "q", "prometheus": {"query": "sum(a)", "above": "5"}, "onNoData": "Hold"},)
REFERENCE = PolicyReference("uid", 3, "queue")


def test_the_rule_file_as_a_whole() -> None:
    """One group per measurement; the worst series is compared, as polling does."""
    key = QUEUE.key
    assert yaml.safe_load(rules.rule_file([QUEUE, QUEUE], interval="100ms")) == {
        "groups": [
            {
                "name": f"killswitch-{key}",
                "interval": "100ms",
                "rules": [
                    {
                        "alert": "KillSwitchFire",
                        "expr": "max by () (\nsum(waiting)\n)\n> on () group_right ()\n"
                        "max by (killswitch_policy, killswitch_generation, killswitch_signal)"
                        f' (killswitch_threshold{{killswitch_metric="{key}",killswitch_side="above"}})',
                        "labels": {"killswitch_metric": key, "killswitch_side": "above"},
                        "annotations": {"value": "{{ $value }}"},
                    },
                    {
                        "alert": "KillSwitchFire",
                        "expr": "min by () (\nsum(waiting)\n)\n< on () group_right ()\n"
                        "max by (killswitch_policy, killswitch_generation, killswitch_signal)"
                        f' (killswitch_threshold{{killswitch_metric="{key}",killswitch_side="below"}})',
                        "labels": {"killswitch_metric": key, "killswitch_side": "below"},
                        "annotations": {"value": "{{ $value }}"},
                    },
                    {
                        "alert": "KillSwitchHeartbeat",
                        "expr": f'count(killswitch_threshold{{killswitch_metric="{key}"}})'
                        " or vector(0)",
                        "labels": {"killswitch_metric": key},
                        "annotations": {"value": "{{ $value }}"},
                    },
                    {
                        "alert": "KillSwitchBlind",
                        "expr": f'absent(killswitch_threshold{{killswitch_metric="{key}"}})',
                        "labels": {"killswitch_metric": key},
                    },
                ],
            }
        ]
    }


def test_the_order_of_measurements_does_not_matter() -> None:
    """Replicas write the same file; every expression is PromQL."""
    one = rules.rule_file([QUEUE, MODELS], interval="1s")
    assert one == rules.rule_file([MODELS, QUEUE], interval="1s")
    for group in yaml.safe_load(one)["groups"]:
        for rule in group["rules"]:
            promql_parser.parse(rule["expr"])


def test_the_object_for_prometheus_operator_holds_the_same_groups() -> None:
    """With the labels that its selector looks at."""
    found = rules.prometheus_rule([MODELS], interval="1s", name="ks", labels={"release": "kps"})
    assert json.loads(json.dumps(found)) == {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "ks", "labels": {"release": "kps"}},
        "spec": {"groups": rules.groups([MODELS], interval="1s")},
    }


def test_policies_never_get_into_templates() -> None:
    """Prometheus expands labels and annotations as templates; a query may contain braces."""
    nasty = Measurement('sum(waiting{model="{{ .Labels }}"})')
    for rule in rules.groups([nasty], interval="1s")[0]["rules"]:
        texts = [*rule["labels"].values(), *rule.get("annotations", {}).values()]
        assert all("Labels" not in text for text in texts)


def test_thresholds_are_exposed_with_everything_the_alert_needs() -> None:
    """Floats are exact."""
    series = ThresholdSeries(REFERENCE, MODELS, Threshold(below=0.1))
    assert rules.exposition([series]) == (
        'killswitch_threshold{killswitch_policy="uid",killswitch_generation="3",'
        f'killswitch_signal="queue",killswitch_metric="{MODELS.key}",killswitch_side="below"}} 0.1\n'
    )


def test_old_samples_are_not_compared() -> None:
    """A Prometheus that restarts serves what was; polling calls the same Stale."""
    (group,) = rules.groups([MODELS], interval="1s")
    assert group["rules"][0]["expr"].startswith(
        "(max by () (\nwaiting\n) unless on () (max(time()-timestamp(waiting)) > 30))\n> on ()"
    )


def test_keys_tell_measurements_apart() -> None:
    """By expression and by how old a sample may be."""
    others = [Measurement("a"), Measurement("b"), Measurement("a", max_age=1.0)]
    assert len({each.key for each in others}) == 3


def policy(*signals: dict[str, Any], **spec: Any) -> CompiledPolicy:
    """A compiled policy with these signals."""
    targets = [{"kind": "Deployment", "name": "vllm"}]
    terms = {"owner": "a", "backup": "b", "targets": targets, "signals": [*signals], **spec}
    metadata = {"name": "p", "namespace": "prod", "uid": "uid", "generation": 3}
    body = {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "KillSwitchPolicy",
        "metadata": metadata,
        "spec": terms,
    }
    return accept(body, CHECKER.check)


def test_the_thresholds_of_a_policy() -> None:
    """Of what it queries, with the age that makes a sample old; none of detectors, events, alerts."""
    found = policy(
        {"name": "q", "prometheus": {"query": "sum(a)", "above": "5"}, "onNoData": "Hold"},
        {"name": "m", "metric": {"name": "b", "below": "1"}, "maxAge": "9s", "onNoData": "Hold"},
        {"name": "s", "prometheus": {"query": "scalar(c)", "above": "5"}, "onNoData": "Hold"},
        {
            "name": "d",
            "prometheus": {"query": "sum(d)", "detector": {"ewma": {"least": "1"}}},
            "onNoData": "Hold",
        },
        {"name": "e", "event": {"type": "x"}, "onNoData": "Hold"},
        {"name": "a", "alert": {"name": "Down"}, "onNoData": "Hold"},
    )
    series = {each.reference.signal: each for each in rules.thresholds(found, CHECKER)}
    assert {name: (each.reference.generation, each.limit) for name, each in series.items()} == {
        "q": (3, 5.0),
        "m": (3, 1.0),
        "s": (3, 5.0),
    }
    assert series["s"].measurement.expression == "vector(\nscalar(c)\n)"
    aged = series["m"].measurement
    assert (aged.expression, aged.max_age) == ("b", 9.0)
    assert "max(time()-timestamp(b))" in aged.age
    for group in rules.groups([each.measurement for each in series.values()], interval="1s"):
        for rule in group["rules"]:
            promql_parser.parse(rule["expr"])
    assert list(rules.thresholds(policy(*EVERY, mode="Disabled"), CHECKER)) == []
