import json

import promql_parser
import pytest
import yaml

from killswitch.core.readings import Threshold
from killswitch.signals import rules
from killswitch.signals.alerts import PolicyReference
from killswitch.signals.rules import Measurement, ThresholdSeries

QUEUE = Measurement("sum(waiting)")
MODELS = Measurement("max by (model) (waiting)", ("model",))
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
    found = rules.prometheus_rule(
        [MODELS], interval="1s", name="ks", namespace="monitoring", labels={"release": "kps"}
    )
    assert json.loads(json.dumps(found)) == {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "ks", "namespace": "monitoring", "labels": {"release": "kps"}},
        "spec": {"groups": rules.groups([MODELS], interval="1s")},
    }


def test_policies_never_get_into_templates() -> None:
    """Prometheus expands labels and annotations as templates; a query may contain braces."""
    nasty = Measurement('sum(waiting{model="{{ .Labels }}"})')
    for rule in rules.groups([nasty], interval="1s")[0]["rules"]:
        texts = [*rule["labels"].values(), *rule.get("annotations", {}).values()]
        assert all("Labels" not in text for text in texts)


def test_thresholds_are_exposed_with_everything_the_alert_needs() -> None:
    """Awkward label values are escaped; floats are exact."""
    series = ThresholdSeries(REFERENCE, MODELS, Threshold(below=0.1), ('a"b\\c\nd',))
    assert rules.exposition([series]).decode() == (
        "# HELP killswitch_threshold Limit of one policy signal.\n"
        "# TYPE killswitch_threshold gauge\n"
        'killswitch_threshold{killswitch_policy="uid",killswitch_generation="3",'
        f'killswitch_signal="queue",killswitch_metric="{MODELS.key}",killswitch_side="below",'
        'model="a\\"b\\\\c\\nd"} 0.1\n'
    )


def test_what_cannot_be_joined_is_an_error() -> None:
    """Labels that the rules set themselves, and values that do not go with the labels."""
    with pytest.raises(ValueError, match="killswitch_policy"):
        Measurement("x", ("killswitch_policy",))
    with pytest.raises(ValueError, match="0 values for labels"):
        ThresholdSeries(REFERENCE, MODELS, Threshold(above=1.0))


def test_keys_tell_measurements_apart() -> None:
    """By expression and by labels."""
    others = [Measurement("a"), Measurement("a", ("b",)), Measurement("a", ("b", "c"))]
    assert len({each.key for each in others}) == 3
