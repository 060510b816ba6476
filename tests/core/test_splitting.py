"""What has more keys than one Shutdown may hold becomes several, and nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.core import holdings, lock_keys
from killswitch.core.inventory import Inventory, Item
from killswitch.core.queries import TargetQuery
from killswitch.core.stops import holds_pod
from tests.core.builders import (
    by_name,
    deployment,
    inventory,
    names,
    planned,
    pod,
    workload,
)


@st.composite
def large(draw: st.DrawFn) -> Inventory:
    """More Jobs below one JobSet, Deployments beside it and bare pods than fit into one Shutdown."""
    many = st.sampled_from([0, 1, 5, 9, 10, 11, 24])
    jobs = workload("set", kind="JobSet")
    items: list[Item] = [jobs]
    for number in range(draw(many)):
        job = workload(f"set-{number}", kind="Job", owner=jobs.uid)
        items += [job, pod(f"set-{number}-x", job)]
    for number in range(draw(many)):
        items += deployment(f"d{number}", pods=draw(st.integers(0, 1)))
    bare = [f"bare-{number}" for number in range(draw(many))]
    items += [pod(name, keys=(f"pods/{name}",)) for name in bare]
    return inventory(*items)


@given(held=large())
def test_no_stop_is_larger_than_a_shutdown_may_be_and_nothing_is_lost(held: Inventory) -> None:
    """Every target and pod is in a part, every pod is held by the lock, and nothing counts twice."""
    queries = [TargetQuery(kind, "prod") for kind in ("JobSet", "Deployment", "Pod")]
    whole = planned(held, *queries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock_keys, "MOST_LOCKS", 10)
        plan = planned(held, *queries)
        assert all(0 < len(stop.locks) <= 10 for stop in plan.stops)
        assert (plan.count, plan.pods) == (whole.count, whole.pods)
        for stop in plan.stops:
            assert all(holds_pod(stop, each) for each in stop.pods)
            again = holdings.for_locks("prod", stop.locks, held)
            assert names(again.targets) == names(stop.targets)
        uids = {key for stop in whole.stops for key in stop.locks if key.startswith("uid/")}
        assert uids <= {key for stop in plan.stops for key in stop.locks}
        holders = [("Shutdown", "prod", {"locks": dict(stop.locks)}) for stop in plan.stops]
        assert holdings.not_held(plan, holders) == ()
        for missing, stop in enumerate(plan.stops):
            rest = [each for number, each in enumerate(holders) if number != missing]
            assert holdings.not_held(plan, rest) == (stop,)


def test_two_thousand_jobs_of_a_job_set_fit_into_one_shutdown() -> None:
    """By their uids; their names as far as there is room."""
    jobs = workload("set", kind="JobSet")
    below = [workload(f"set-{number}", kind="Job", owner=jobs.uid) for number in range(2000)]
    (stop,) = planned(inventory(jobs, *below), by_name("set", "JobSet")).stops
    assert len(stop.locks) == lock_keys.MOST_LOCKS
    assert {f"uid/{each.uid}" for each in (jobs, *below)} <= stop.locks.keys()
