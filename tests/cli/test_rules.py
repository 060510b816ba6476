"""`rules`: what Prometheus needs to tell policies at once, from files and from the cluster."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from killswitch.api.acceptance import accept
from killswitch.cli.main import app
from tests.cli.conftest import Stage

_POLICIES = Path(__file__).resolve().parents[2] / "policies"


def _rules(*arguments: str, stdin: str | None = None) -> Any:
    return CliRunner().invoke(app, ["rules", *arguments], input=stdin)


def _policy(**spec: Any) -> dict[str, Any]:
    signal = {
        "name": "load",
        "prometheus": {"query": "sum(load)", "above": "5"},
        "onNoData": "Hold",
    }
    terms = {
        "signals": [signal],
        "targets": [{"kind": "Deployment", "name": "vllm"}],
        "owner": "alice",
        "backup": "bob",
    }
    return {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "KillSwitchPolicy",
        "metadata": {"name": "p", "namespace": "prod"},
        "spec": {**terms, **spec},
    }


def test_of_the_ready_policies() -> None:
    """One group for each query that they ask, the same whatever the order of files."""
    files = sorted(str(each) for each in _POLICIES.glob("*.yaml"))
    one, other = (
        _rules(*(word for each in order for word in ("-f", each)), "--interval", "250ms")
        for order in (files, files[::-1])
    )
    assert (one.exit_code, one.output) == (0, other.output)
    groups = yaml.safe_load(one.output)["groups"]
    queries = {
        signal.query
        for file in files
        for signal in accept(yaml.safe_load(Path(file).read_text()), lambda *_: None).signals
        if signal.query and signal.detector is None
    }
    assert len(groups) == len(queries)
    assert {each["interval"] for each in groups} == {"250ms"}
    for query in queries:
        assert sum(query in each["rules"][0]["expr"] for each in groups) == 1


def test_for_prometheus_operator_from_standard_input() -> None:
    """Lists too, as kubectl prints them; a disabled policy asks for nothing."""
    items = [_policy(), _policy(mode="Disabled", signals=_policy()["spec"]["signals"])]
    items[1]["spec"]["signals"] = [
        {"name": "x", "prometheus": {"query": "off", "above": "1"}, "onNoData": "Hold"}
    ]
    done = _rules(
        *("-f", "-", "--format", "prometheusrule", "--name", "ks", "--label", "release=kps"),
        stdin=json.dumps({"kind": "List", "items": [*items, {"kind": "Secret"}]}),
    )
    found = yaml.safe_load(done.output)
    assert (found["kind"], found["metadata"]) == (
        "PrometheusRule",
        {"name": "ks", "labels": {"release": "kps"}},
    )
    (group,) = found["spec"]["groups"]
    assert "sum(load)" in group["rules"][0]["expr"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "json"], "give one of file, prometheusrule"),
        (["--interval", "often"], "write e.g. 100ms"),
        (["--interval", "0s"], "write e.g. 100ms"),
        (["--label", "release"], "it is not key=value"),
    ],
)
def test_wrong_options_exit_2_and_say_the_cure(arguments: list[str], said: str) -> None:
    """Before anything is read."""
    done = _rules("-f", "-", *arguments)
    assert (done.exit_code, said in done.output) == (2, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "give a readable YAML or JSON file"),
        ("kind: Secret", "- holds no policy"),
        ("a: b\n---\n", "- holds no policy"),
        (json.dumps(_policy(quorum=9)), "spec.quorum"),
        (json.dumps(_policy(signals=[])), "KillSwitchPolicy prod/p in -: "),
        (
            json.dumps(_policy(signals=[{"name": "x", "prometheus": {"query": "a > 1"}}])),
            "KillSwitchPolicy prod/p in -: ",
        ),
    ],
)
def test_a_file_that_cannot_work_writes_nothing(text: str, said: str) -> None:
    """Half the rules would look like all of them."""
    done = _rules("-f", "-", stdin=text)
    assert (done.exit_code, said in done.output) == (1, True)
    assert "groups:" not in done.output


def test_a_missing_file_is_named() -> None:
    """With the cure."""
    done = _rules("-f", "/absent.yaml")
    assert (done.exit_code, "/absent.yaml" in done.output) == (1, True)


def test_of_the_cluster(stage: Stage) -> None:
    """All that is there; what cannot work is told beside, and does not keep the rules of others."""
    stage.deployment()
    stage.policy("tokens")
    wrong = {"name": "x", "prometheus": {"query": "sum(", "above": "1"}, "onNoData": "Hold"}
    stage.policy("wrong", signals=[wrong])
    done = stage.raw("rules", by=stage.control_plane.admin)
    assert done.returncode == 0, done.stderr
    assert f"Left out: KillSwitchPolicy {stage.namespace}/wrong: " in done.stderr
    assert yaml.safe_load(done.stdout)["groups"]
    refused = stage.raw("rules", by="alice")
    assert (refused.returncode, "forbidden" in refused.stderr) == (3, True)


def test_a_policy_without_polled_signals_needs_no_rules() -> None:
    """An empty file would look like a mistake."""
    found = _rules("-f", str(_POLICIES / "guardrail-told.yaml"))
    assert found.exit_code == 0
    assert yaml.safe_load(found.stdout)["groups"] == []
    assert "No signal of these policies can be told of by generated rules" in found.stderr
