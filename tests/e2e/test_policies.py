"""The ready policies of policies/: accepted as they are, and written by their own rules."""

import re
from pathlib import Path

import pytest
import yaml

from killswitch.adapters.promql import PromqlChecker
from killswitch.api.acceptance import accept
from killswitch.api.policies import Mode
from killswitch.core import kinds
from tests.e2e.chart import POLICIES

SHIPPED = sorted(POLICIES.glob("*.yaml"))
every_policy = pytest.mark.parametrize("file", SHIPPED, ids=lambda file: str(file.stem))


@every_policy
def test_accepted(file: Path) -> None:
    """Manager and reactor accept it, PromQL included, and it starts as a dry run."""
    policy = accept(yaml.safe_load(file.read_text()), PromqlChecker().check)
    assert policy.mode is Mode.DRY_RUN
    assert policy.name == file.stem


@every_policy
def test_queries_measure(file: Path) -> None:
    """No query compares or invents data: both make silence look like an answer."""
    for signal in yaml.safe_load(file.read_text())["spec"]["signals"]:
        query = signal.get("prometheus", {}).get(
            "query", ""
        )  # other sources have no room for either
        assert not re.search(r"[<>=]", re.sub(r"\{[^}]*\}", "", query))
        assert "vector(" not in query


@every_policy
def test_every_field_is_explained(file: Path) -> None:
    """Above or beside each choice of a policy stands a comment that says why."""
    lines = file.read_text().splitlines()
    spec = lines[lines.index("spec:") + 1 :]
    for number, line in enumerate(spec):
        if re.match(r" {2}(mode|targets|action|limits|cooldown|release|quorum):", line):
            assert any("#" in near for near in spec[max(0, number - 1) : number + 3]), line


def test_a_hint_freezes_and_the_quorum_stops() -> None:
    """One witness of two freezes, for no longer than its vote lasts: so the second one can join it."""
    text = (POLICIES / "freeze-then-decide.yaml").read_text()
    spec = yaml.safe_load(text)["spec"]
    rung = spec["action"]["freeze"]
    assert (rung["quorum"], spec["quorum"], rung["onExpiry"]) == (1, 2, "Thaw")
    assert {signal["keepFiringFor"] for signal in spec["signals"]} == {rung["for"]}
    assert "onIsolation" not in spec["action"]


def test_isolation_can_be_switched_on() -> None:
    """What a comment offers is accepted as it stands there."""
    text = (POLICIES / "freeze-then-decide.yaml").read_text()
    body = yaml.safe_load(re.sub(r"# (onIsolation|isolatedAfter):", r"\1:", text))
    assert (body["spec"]["action"]["onIsolation"], body["spec"]["action"]["isolatedAfter"]) == (
        "Freeze",
        "5m",
    )
    accept(body, PromqlChecker().check)


def test_a_graceful_stop_is_watched_by_a_query_that_can_work() -> None:
    """The drain ends by a measurement, as signals do, and not by a comparison."""
    spec = yaml.safe_load((POLICIES / "kserve-gracefully.yaml").read_text())["spec"]
    query = spec["action"]["graceful"]["inFlight"]
    PromqlChecker().check("spec.action.graceful.inFlight", query)
    assert not re.search(r"[<>=]", re.sub(r"\{[^}]*\}", "", query))


def test_what_loses_work_says_that_this_is_accepted() -> None:
    """Of the kinds that the shipped policies name, those with a loss, and copies of whatever kind."""
    for file in SHIPPED:
        policy = accept(yaml.safe_load(file.read_text()), PromqlChecker().check)
        named = {query.kind for query in policy.queries} & kinds.TABLE.keys()
        anything = any(query.kind == "Pod" for query in policy.queries)
        loses = anything or any(kinds.TABLE[name].lost for name in named)
        assert policy.accept_loss == loses, file.stem


def test_all_are_in_the_readme() -> None:
    """The table names every file, so that none is found by chance only."""
    readme = (POLICIES / "README.md").read_text()
    assert len(SHIPPED) == 11
    for file in SHIPPED:
        assert f"]({file.name})" in readme
