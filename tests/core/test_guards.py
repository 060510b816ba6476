"""What node guards' reports say."""

import pytest

from killswitch.core import guards, times

_NOW = 1_800_000_000.0


def _guard(renewed: float | None, *pods: dict[str, object]) -> dict[str, object]:
    status: dict[str, object] = {"pods": list(pods)}
    if renewed is not None:
        status["renewedAt"] = times.text(renewed)
    return {"kind": "NodeGuard", "metadata": {"name": "gpu-1"}, "status": status}


def _pod(**change: object) -> dict[str, object]:
    return {
        "namespace": "prod", "pod": "vllm-0", "uid": "u", "state": "Dead",
        "orderKind": "Shutdown", "orderName": "s",
        "seenAt": times.text(_NOW), "doneAt": times.text(_NOW + 0.004), **change,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("renewed", "expected"),
    [(_NOW - 119, True), (_NOW - 121, False), (None, False), (_NOW + 60, True)],
)
def test_a_guard_that_is_silent_for_two_minutes_counts_as_absent(
    renewed: float | None, expected: bool
) -> None:
    """And so does one that has never reported. A node's clock may run ahead."""
    assert guards.live(_guard(renewed), _NOW) is expected


def test_a_guard_without_status_is_absent() -> None:
    """It has made its object and has not reported yet."""
    assert not guards.live({"metadata": {"name": "gpu-1"}}, _NOW)


@pytest.mark.parametrize(
    ("kind", "namespace", "expected"),
    [
        ("Shutdown", "prod", True),
        ("Shutdown", "elsewhere", False),
        ("Freeze", "prod", False),
        ("ClusterShutdown", "", False),
    ],
)
def test_a_deed_belongs_to_one_order(kind: str, namespace: str, expected: bool) -> None:
    """Names are unique in their kind and namespace only."""
    (deed,) = guards.deeds([_guard(_NOW, _pod())])
    metadata = {"name": "s", "namespace": namespace} if namespace else {"name": "s"}
    assert deed.of({"kind": kind, "metadata": metadata}) is expected
    assert deed.took == pytest.approx(0.004, abs=1e-6)


def test_a_cluster_shutdown_reaches_pods_of_any_namespace() -> None:
    """It has none itself."""
    (deed,) = guards.deeds([_guard(_NOW, _pod(orderKind="ClusterShutdown"))])
    assert deed.of({"kind": "ClusterShutdown", "metadata": {"name": "s"}})


def test_what_is_not_done_yet_is_not_halted() -> None:
    """The state is then what the guard is about to do."""
    (deed,) = guards.deeds([_guard(_NOW, {**_pod(), "doneAt": None})])
    assert (deed.took, deed.halted) == (None, False)


@pytest.mark.parametrize(
    ("state", "expected"),
    [("Frozen", True), ("Dead", True), ("Thawed", False), ("Failed", False)],
)
def test_only_what_the_kernel_confirmed_is_halted(state: str, expected: bool) -> None:
    """A failure is never taken for a success."""
    (deed,) = guards.deeds([_guard(_NOW, _pod(state=state))])
    assert deed.halted is expected
