import pytest

from killswitch.core import conditions
from killswitch.core.conditions import PolicyCondition, Reason

FIRST, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def ready(status: bool | None, now: str, generation: int = 1) -> conditions.Json:
    """A Ready condition."""
    return conditions.make(
        PolicyCondition.READY, status, Reason.ACCEPTED, "Said so.", generation=generation, now=now
    )


@pytest.mark.parametrize(("status", "text"), [(True, "True"), (False, "False"), (None, "Unknown")])
def test_wire_form(status: bool | None, text: str) -> None:
    """A condition has exactly the fields of metav1.Condition; None is Unknown."""
    assert ready(status, FIRST) == {
        "type": "Ready",
        "status": text,
        "reason": "Accepted",
        "message": "Said so.",
        "observedGeneration": 1,
        "lastTransitionTime": FIRST,
    }


def test_the_transition_time_moves_with_the_status_only() -> None:
    """A new message or generation under the same status keeps the time."""
    before = [ready(True, FIRST)]
    same = conditions.merge(before, ready(True, LATER, generation=2))
    assert (same["lastTransitionTime"], same["observedGeneration"]) == (FIRST, 2)
    assert conditions.merge(before, ready(False, LATER))["lastTransitionTime"] == LATER
    assert conditions.merge(before, ready(None, LATER))["lastTransitionTime"] == LATER


def test_merge_looks_at_its_own_type() -> None:
    """Another condition with the same status does not lend its time."""
    other = {**ready(True, FIRST), "type": "Armed"}
    assert conditions.merge([other], ready(True, LATER))["lastTransitionTime"] == LATER
    assert conditions.merge([], ready(True, LATER)) == ready(True, LATER)


def test_merge_leaves_its_arguments_alone() -> None:
    """What was read from the API server is not edited in place."""
    before, now = ready(True, FIRST), ready(True, LATER)
    conditions.merge([before], now)
    assert (ready(True, FIRST), ready(True, LATER)) == (before, now)


@pytest.mark.parametrize(("status", "expected"), [(True, True), (False, False), (None, False)])
def test_holds_means_true(status: bool | None, expected: bool) -> None:
    """Unknown and absent conditions do not hold."""
    assert expected is conditions.holds([ready(status, FIRST)], PolicyCondition.READY)
    assert not conditions.holds([], PolicyCondition.READY)
    assert conditions.find([], PolicyCondition.READY) is None


@pytest.mark.parametrize("reason", Reason)
def test_reasons_are_what_the_api_accepts(reason: Reason) -> None:
    """One CamelCase word each, as the conventions of Kubernetes ask."""
    assert reason.isalpha()
    assert reason[0].isupper()
