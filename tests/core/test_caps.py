"""The cap over all policies: counted from what is stored, never exceeded, silent about people."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.core import caps, interlocks, times
from killswitch.core.caps import Cap, Fire, Spending
from killswitch.core.interlocks import Cause
from tests.core.builders import NOW
from tests.core.test_interlocks import PERMITTED


def shutdown(age: float = 0.0, *, reported: int = 0, **spec: Any) -> dict[str, Any]:
    """A stored Shutdown of a policy."""
    return {
        "metadata": {"creationTimestamp": times.text(NOW - age)},
        "spec": {"policy": {"uid": "u"}, **spec},
        "status": {"targets": reported} if reported else {},
    }


def counted(body: dict[str, Any], planned: int = 0) -> int:
    """How many targets it counts for."""
    found = caps.fire(body, lambda: planned)
    assert found is not None
    return found.targets


def test_what_people_stop_does_not_count() -> None:
    """They are never capped, and use up nothing."""
    body = shutdown()
    del body["spec"]["policy"]
    assert caps.fire(body, lambda: 7) is None


def test_targets_are_those_that_were_reported_or_named() -> None:
    """A target's keys share their text; a whole namespace counts for what it would stop."""
    locks = {"deployments.apps/a": "Deployment/a", "uid/1": "Deployment/a", "uid/2": "Deployment/b"}
    assert counted(shutdown(locks=locks)) == 2
    assert counted(shutdown(locks=locks, reported=5)) == 5
    assert counted(shutdown(nodes={"a": "", "b": "", "c": ""})) == 3
    assert counted(shutdown(scope={"wholeNamespace": True}), planned=9) == 9
    assert counted(shutdown(scope={"wholeNamespace": True})) == 1


def test_workloads_and_nodes_are_counted_apart_within_the_window() -> None:
    """The edge of the window is out; what comes from the future, by another clock, is in."""
    fires = [
        Fire(NOW - 60, 1),
        Fire(NOW - 59, 2),
        Fire(NOW + 5, 4),
        Fire(NOW, 8, nodes=True),
    ]
    assert caps.spent(fires, nodes=False, now=NOW, window=60) == 6
    assert caps.spent(fires, nodes=True, now=NOW, window=60) == 8


BEYOND = [
    (Spending(Cap(targets=10), spent=7, adding=3, everything=0), ""),
    (
        Spending(Cap(targets=10), spent=7, adding=4, everything=0),
        "7 stopped by policies within 60 min 0 s, 4 more would be 11: cap.targets is 10",
    ),
    (Spending(Cap(percent=25), spent=1, adding=1, everything=8), ""),
    (
        Spending(Cap(percent=25), spent=2, adding=1, everything=8),
        "2 stopped by policies within 60 min 0 s, 1 more would be 3 of 8: cap.percent is 25",
    ),
    (
        Spending(Cap(percent=100), spent=0, adding=1, everything=0),
        "0 stopped by policies within 60 min 0 s, 1 more would be 1 of 0: cap.percent is 100",
    ),
    (Spending(Cap(targets=1), spent=9, adding=0, everything=0), ""),
    (Spending(Cap(), spent=10**6, adding=10**6, everything=1), ""),
]


@pytest.mark.parametrize(("spending", "words"), BEYOND)
def test_beyond_which_cap_a_fire_would_go(spending: Spending, words: str) -> None:
    """The cap itself is permitted; a share of what is not known is not."""
    assert spending.beyond == words


def test_a_capped_fire_is_inhibited_and_a_dry_run_predicts_it() -> None:
    """Every policy meets it, whatever its own limits; freezing is no stop."""
    full = Spending(Cap(targets=1), spent=1, adding=1, everything=0)
    for dry_run in (False, True):
        found = interlocks.inhibition(replace(PERMITTED, spending=full, dry_run=dry_run))
        assert found is not None
        assert found.cause is Cause.CAP
    assert interlocks.inhibition(replace(PERMITTED, spending=full, freezes=True)) is None


@given(
    st.lists(st.tuples(st.floats(0, 500), st.integers(1, 9), st.booleans()), max_size=40),
    st.integers(1, 30),
    st.integers(0, 100),
    st.integers(1, 60),
)
def test_within_no_window_do_policies_stop_more_than_the_cap(
    demands: list[tuple[float, int, bool]], targets: int, percent: int, everything: int
) -> None:
    """Whatever is demanded when, judged by what is stored alone, as after any restart."""
    cap = Cap(targets, percent, window=100.0)
    stored: list[Fire] = []
    for at, adding, nodes in sorted(demands):
        spent = caps.spent(stored, nodes=nodes, now=at, window=cap.window)
        if not Spending(cap, spent, adding, everything).beyond:
            stored.append(Fire(at, adding, nodes))
    for nodes in (False, True):
        for end in stored:
            within = [
                each.targets
                for each in stored
                if each.nodes is nodes and end.at - cap.window < each.at <= end.at
            ]
            assert sum(within) <= targets
            if percent:
                assert 100 * sum(within) <= percent * everything
