"""Bypasses: who may look away, until when, and how the end may be written."""

from datetime import UTC, datetime, timedelta

import pytest

from killswitch.core import times
from tests.cluster.api import Answer
from tests.cluster.control_plane import ControlPlane
from tests.kernel.objects import GROUP

pytestmark = pytest.mark.cluster


def ahead(**length: float) -> str:
    """The time so long from now, as people write it."""
    return (datetime.now(UTC) + timedelta(**length)).strftime("%Y-%m-%dT%H:%M:%SZ")


def suspend(
    kernel: ControlPlane, namespace: str, until: str, *, by: str = "admin", name: str = ""
) -> Answer:
    """Create a Bypass as this person, in this name (the own unless given)."""
    body = {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "Bypass",
        "metadata": {"name": "b"},
        "spec": {"policy": "p", "requestedBy": name or by, "reason": "r", "until": until},
    }
    path = f"{GROUP}/namespaces/{namespace}/bypasses"
    return kernel.api(kernel.user(by)).create(path, body)


def test_a_bypass_is_signed_and_needs_the_verb(kernel: ControlPlane, governed: str) -> None:
    """Nobody looks away in another's name, nor without the right."""
    forged = suspend(kernel, governed, ahead(hours=1), by="alice", name="admin")
    assert "spec.requestedBy must be your own username: alice" in forged.message
    unauthorised = suspend(kernel, governed, ahead(hours=1), by="alice")
    assert "alice lacks the verb bypass" in unauthorised.message
    assert suspend(kernel, governed, ahead(hours=1)).status == 201


def test_a_bypass_cannot_be_prolonged(kernel: ControlPlane, governed: str) -> None:
    """Nor changed otherwise: whoever wants more signs again."""
    assert suspend(kernel, governed, ahead(hours=1)).status == 201
    path = f"{GROUP}/namespaces/{governed}/bypasses/b"
    answer = kernel.api().patch(path, {"spec": {"until": ahead(hours=2)}})
    assert (answer.status, "a Bypass is immutable" in answer.message) == (422, True)


def test_a_bypass_ends_within_thirty_days(kernel: ControlPlane, governed: str) -> None:
    """Counted from when the API server made it, which nobody can forge."""
    for until in (ahead(days=31), "2099-01-01T00:00:00Z"):
        answer = suspend(kernel, governed, until)
        assert (answer.status, "ends within 30 days" in answer.message) == (403, True)
    path = f"{GROUP}/namespaces/{governed}/bypasses"
    spec = {"policy": "p", "requestedBy": "admin", "reason": "r", "until": "2099-01-02T00:00:00Z"}
    body = {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "Bypass",
        "metadata": {"name": "b", "creationTimestamp": "2099-01-01T00:00:00Z"},
        "spec": spec,
    }
    answer = kernel.api().create(path, body)
    assert (answer.status, "ends within 30 days" in answer.message) == (403, True)
    answer = kernel.api().patch(f"{path}/b", body, kind="apply", fieldManager="ci")
    assert (answer.status, "ends within 30 days" in answer.message) == (403, True)
    assert suspend(kernel, governed, ahead(days=29)).status == 201


@pytest.mark.parametrize(
    "until",
    [
        "2026-01-01t00:00:00z",
        "2026-01-01T00:00:00+01:00",
        "2026-01-01T00:00:00+99:00",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00Z",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01",
        "0000-01-01T00:00:00Z",
        "tomorrow",
        "",
    ],
)
def test_an_oddly_written_end_is_refused_with_the_cure(
    kernel: ControlPlane, governed: str, until: str
) -> None:
    """What Python could not read, or people could misread, is never stored."""
    answer = suspend(kernel, governed, until)
    assert answer.status == 422
    assert "spec.until" in answer.message
    assert "UTC with capital T and Z: 2026-11-24T15:00:00Z" in answer.message


@pytest.mark.parametrize(
    "until",
    [
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:60Z",
    ],
)
def test_an_end_that_is_no_time_is_refused(kernel: ControlPlane, governed: str, until: str) -> None:
    """The form is right, the day is not."""
    answer = suspend(kernel, governed, until)
    assert (answer.status, "spec.until" in answer.message) == (422, True)


@pytest.mark.parametrize(
    "until", ["2001-01-01T00:00:00Z", "2001-01-01T00:00:00.5Z", "2001-02-28T23:59:59.123456789Z"]
)
def test_what_is_accepted_is_readable(kernel: ControlPlane, governed: str, until: str) -> None:
    """The reactor reads it in its loop, where it must never fail."""
    answer = suspend(kernel, governed, until)
    assert answer.status == 201, answer.message
    assert times.seconds(answer.body["spec"]["until"]) > 0
