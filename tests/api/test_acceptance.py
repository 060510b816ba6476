"""What the API server cannot see is refused before anything is armed."""

from typing import Any

import pytest

from killswitch.adapters.promql import PromqlChecker
from killswitch.api.acceptance import accept
from killswitch.core.errors import InvalidPolicyError


def body(*hold_downs: str, **spec: Any) -> dict[str, Any]:
    """A policy with one signal for each hold-down."""
    source = {"query": "sum(x)", "above": "5"}
    signals = [
        {"name": f"s{number}", "prometheus": source, "for": each, "onNoData": "Hold"}
        for number, each in enumerate(hold_downs)
    ]
    terms = {"owner": "team", "backup": "lead", "targets": [{"kind": "Deployment", "name": "x"}]}
    return {
        "kind": "KillSwitchPolicy",
        "metadata": {"name": "p", "namespace": "prod", "uid": "u"},
        "spec": {**terms, "signals": signals, **spec},
    }


@pytest.mark.parametrize(
    ("hold_downs", "quorum"), [(("30s",), 1), (("5s",), 1), (("30s", "1s"), 2), (("30s", "5s"), 1)]
)
def test_a_hold_down_that_uses_up_the_wish(hold_downs: tuple[str, ...], quorum: int) -> None:
    """It could never be met: refused with field and cure, whatever the cluster is like."""
    with pytest.raises(InvalidPolicyError) as refused:
        accept(body(*hold_downs, quorum=quorum, reactWithin="5s"), PromqlChecker().check)
    assert refused.value.field == "spec.signals[s0].for"
    assert refused.value.cure == "shorten it, or raise reactWithin"


@pytest.mark.parametrize(
    ("hold_downs", "quorum", "within"),
    [(("30s",), 1, None), (("30s", "1s"), 1, "5s"), (("1s", "4s"), 2, "5s")],
)
def test_a_wish_that_hold_downs_leave_room_for(
    hold_downs: tuple[str, ...], quorum: int, within: str | None
) -> None:
    """Only signals that the quorum cannot do without count."""
    wish = {} if within is None else {"reactWithin": within}
    found = accept(body(*hold_downs, quorum=quorum, **wish), PromqlChecker().check)
    assert found.quorum == quorum


@pytest.mark.parametrize(
    ("kind", "group"),
    [
        ("Service", None),
        ("HorizontalPodAutoscaler", "autoscaling"),
        ("Shutdown", "killswitch.dev"),
    ],
)
def test_a_kind_that_makes_no_pods_is_no_target(kind: str, group: str | None) -> None:
    """Such a policy would look armed and stop nothing."""
    target = {"kind": kind, "name": "x"} | ({} if group is None else {"group": group})
    with pytest.raises(InvalidPolicyError, match="makes no pods") as refused:
        accept(body("0s", targets=[target]), PromqlChecker().check)
    assert refused.value.field == "spec.targets"


def test_a_kind_of_the_same_name_that_makes_pods_is_one() -> None:
    """A Service of Knative."""
    target = {"kind": "Service", "group": "serving.knative.dev", "name": "x"}
    assert accept(body("0s", targets=[target]), PromqlChecker().check).queries
