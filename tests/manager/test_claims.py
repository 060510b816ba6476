"""Which Shutdown brings a target back: the rule itself, without a cluster."""

from dataclasses import replace

import pytest

from killswitch.manager import claims
from killswitch.manager.claims import Share, Target
from killswitch.ports import Json

EARLY, LATE = "2026-01-01T10:00:00Z", "2026-01-01T10:00:01Z"
RECORD = {"kind": "Deployment", "name": "vllm", "uid": "w"}
TARGET = Target("prod", RECORD, holder="first", body=None)


def shutdown(
    uid: str, created: str = EARLY, *, ordered: bool = False, restored: str = "", **spec: Json
) -> Json:
    """A Shutdown of the Deployment vllm."""
    held = spec or {"locks": {"deployments.apps/vllm": ""}}
    order = {"restore": {"by": "bob", "reason": "r"}} if ordered else {}
    done = {"type": "Restored", "status": "True", "lastTransitionTime": restored}
    return {
        "kind": "Shutdown",
        "metadata": {"name": uid, "namespace": "prod", "uid": uid, "creationTimestamp": created},
        "spec": {**held, **order},
        "status": {"conditions": [done] if restored else []},
    }


def seen(body: Json, fraction: str) -> Json:
    """The Shutdown as it is once its lock was seen, in the second of EARLY."""
    stages = {"locked": f"2026-01-01T10:00:00{fraction}Z"}
    return {**body, "status": {**body["status"], "stages": stages}}


FIRST = shutdown("first", ordered=True)
LATER = "2026-01-01T10:00:02.5Z"
CASES: dict[str, tuple[Json, list[Json], Share, str]] = {
    "nobody else": (FIRST, [], Share.OURS, "first"),
    "a later one, engaged or released": (FIRST, [shutdown("b", LATE)], Share.LATER, "b"),
    "a later one, ordered": (FIRST, [shutdown("b", LATE, ordered=True)], Share.LATER, "b"),
    "a later one, restored": (FIRST, [shutdown("b", LATE, restored=LATER)], Share.DONE, "b"),
    "an earlier one, not ordered": (
        shutdown("b", LATE, ordered=True),
        [shutdown("first")],
        Share.EARLIER,
        "first",
    ),
    "an earlier one, ordered": (shutdown("b", LATE, ordered=True), [FIRST], Share.OURS, "b"),
    "in the same second the one whose lock was seen later": (
        seen(FIRST, ".1"),
        [seen(shutdown("a"), ".2")],
        Share.LATER,
        "a",
    ),
    "and so it is the other's": (
        seen(shutdown("a", ordered=True), ".2"),
        [seen(FIRST, ".1")],
        Share.OURS,
        "a",
    ),
    "one that covers something else": (
        FIRST,
        [shutdown("b", LATE, locks={"deployments.apps/other": ""})],
        Share.OURS,
        "first",
    ),
    "restored in between, stopped again since": (
        FIRST,
        [shutdown("b", LATE, restored=LATER), shutdown("c", "2026-01-01T10:00:09Z")],
        Share.LATER,
        "c",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_whose_it_is(case: str) -> None:
    """The latest brings it back, once nobody's second act is missing."""
    mine, others, expected, by = CASES[case]
    share, decisive = claims.share(mine, others, TARGET)
    assert (expected, by) == (share, decisive["metadata"]["uid"])


def test_never_two_and_never_before_every_order() -> None:
    """Over every order of three stops in one second or three, at most one restore acts."""
    for moments in ([EARLY] * 3, [EARLY, EARLY, LATE], [EARLY, LATE, LATE]):
        for orders in range(8):
            stops = [
                shutdown(uid, created, ordered=bool(orders >> number & 1))
                for number, (uid, created) in enumerate(
                    zip(("first", "b", "c"), moments, strict=True)
                )
            ]
            acting = [
                each
                for each in stops
                if each["spec"].get("restore")
                and claims.share(each, [o for o in stops if o is not each], TARGET)[0] is Share.OURS
            ]
            assert len(acting) == (1 if orders == 7 else 0)


def test_records_that_were_the_truth_then() -> None:
    """Of Shutdowns that were there, and not restored yet, when this one was engaged."""
    mine = shutdown("mine", "2026-01-01T10:00:05Z")
    others = [
        shutdown("restored-before", restored="2026-01-01T10:00:04.9Z"),
        shutdown("restored-since", restored="2026-01-01T10:00:06.1Z"),
        shutdown("not-restored"),
        shutdown("came-later", "2026-01-01T10:00:06Z"),
    ]
    assert claims.held_records_at(mine, others) == {"restored-since", "not-restored"}


def test_two_of_one_second_agree_which_is_the_later() -> None:
    """Of every target: else each would leave one to the other for ever."""
    for early, late in (("a", "b"), ("b", "a")):
        both = {
            early: seen(shutdown(early, ordered=True), ".1"),
            late: seen(shutdown(late, ordered=True), ".2"),
        }
        for holder in both:
            target = replace(TARGET, holder=holder)
            for asked, other in ((early, late), (late, early)):
                assert claims.share(both[asked], [both[other]], target)[1] is both[late]
