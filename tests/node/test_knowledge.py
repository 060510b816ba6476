"""What is known, and how sure: unknown is never "nothing is wanted"."""

import dataclasses

import pytest

from killswitch.core.containment import Want
from killswitch.core.resources import FREEZES, PODS, SHUTDOWNS, STANDING_ORDERS
from killswitch.node.clock import Clock
from killswitch.node.knowledge import Knowledge
from killswitch.node.news import Changed, Gone, Heard, Leave, Listed, News, Silent, Unlisted
from killswitch.node.residents import Residents
from killswitch.node.terms import Terms
from killswitch.node.watching import ORDERS
from tests.node.objects import START, freeze, pod, shutdown, standing

POD = pod("a", "a")


class Time:
    """A clock that a test sets."""

    boot = 0.0


def knowledge(*news: News) -> Knowledge:
    """Of a guard that was told this."""
    found = Knowledge(Residents("", frozenset()), Terms(), Clock(lambda: START, lambda: Time.boot))
    Time.boot = 0.0
    for each in (Listed(PODS, (POD,)), *news):
        found.observe(each, held=())
    return found


def wanted(found: Knowledge) -> Want:
    """What the one pod is to be."""
    return max((each.want for each in found.decide({}).values()), default=Want.RUN)


def listed(*kinds: object) -> list[News]:
    """Empty lists of all orders but these."""
    return [Listed(each, ()) for each in ORDERS if each not in kinds]


def test_a_list_that_fails_removes_nothing() -> None:
    """Whatever the reason: the order stays in force, the failure is told."""
    for absent in (False, True):
        found = knowledge(
            Listed(SHUTDOWNS, (shutdown(),)), Unlisted(SHUTDOWNS, "gone", absent=absent)
        )
        assert wanted(found) is Want.KILL
        assert found.problems() == ["Shutdown: gone"]


def test_a_complete_list_says_what_has_gone() -> None:
    """An event that was lost is made up for."""
    found = knowledge(Listed(SHUTDOWNS, (shutdown(),)), Unlisted(SHUTDOWNS, "gone"))
    found.observe(Listed(SHUTDOWNS, ()), held=())
    assert wanted(found) is Want.RUN
    assert found.problems() == []


def test_events_add_and_remove() -> None:
    """As they come."""
    found = knowledge(Changed(SHUTDOWNS, shutdown()), Leave())
    assert wanted(found) is Want.KILL
    found.observe(Gone(SHUTDOWNS, shutdown()["metadata"]["uid"]), held=())
    assert wanted(found) is Want.RUN
    found.observe(Changed(SHUTDOWNS, shutdown()), held=())
    found.observe(Gone(PODS, "a"), held=())
    assert wanted(found) is Want.RUN


def test_nothing_is_sure_before_everything_was_listed() -> None:
    """One kind that cannot be read is enough to let nothing go."""
    for missing in ORDERS:
        found = knowledge(*listed(missing), Unlisted(missing, "403"))
        assert not found.sure
    assert knowledge(*listed()).sure


def test_a_kind_of_a_newer_installation_has_no_orders() -> None:
    """404, and none of it is known; pods are always there."""
    assert knowledge(*listed(FREEZES), Unlisted(FREEZES, "404", absent=True)).sure
    found = Knowledge(Residents("", frozenset()), Terms(), Clock())
    for each in (*listed(), Unlisted(PODS, "404", absent=True)):
        found.observe(each, held=())
    assert not found.sure


def test_an_expired_freeze_lets_go_whatever_else_is_unknown() -> None:
    """Its object said how it ends; others are waited for."""
    found = knowledge(Changed(FREEZES, freeze(seconds=300)))
    cause = found.decide({})["a"].cause
    assert (cause.kind, cause.ends) == ("Freeze", 300.0)
    assert not found.may_let_go(cause)
    assert not found.may_let_go(dataclasses.replace(cause, ends=None))
    Time.boot = 300.0
    assert wanted(found) is Want.RUN
    assert found.may_let_go(cause)
    assert not found.may_let_go(dataclasses.replace(cause, ends=None))


def test_what_several_hold_ends_with_the_last_freeze_and_with_nothing_else() -> None:
    """A stop that one of them names is what ends it, unless people have thawed all of them."""
    short, long = freeze("short", 10, "Stop"), freeze("long", 20)
    found = knowledge(Changed(FREEZES, short), Changed(FREEZES, long))
    cause = found.decide({})["a"].cause
    assert (cause.ends, cause.at_end) == (20.0, Want.KILL)
    thawed = [{**each, "spec": {**each["spec"], "thaw": {"by": "alice"}}} for each in (short, long)]
    found.observe(Changed(FREEZES, thawed[0]), held=())
    assert found.settled(cause).at_end is Want.KILL
    found.observe(Changed(FREEZES, thawed[1]), held=())
    assert found.settled(cause).at_end is Want.RUN
    found = knowledge(Changed(FREEZES, long), Changed(STANDING_ORDERS, standing("Freeze")))
    found.observe(Heard(0), held=())
    for number in range(1, 7):
        found.observe(Silent(number * 5), held=())
    cause = found.decide({})["a"].cause
    assert len(cause.orders) == 2
    assert cause.ends is None


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ((SHUTDOWNS, shutdown()), {"spec": {"requiredApprovals": "many"}}),
        ((FREEZES, freeze()), {"spec": {"until": "soon", "onExpiry": "Thaw"}}),
        ((STANDING_ORDERS, standing()), {"spec": {"after": "a while", "onIsolation": "Kill"}}),
    ],
)
def test_an_order_that_cannot_be_read_leaves_what_it_said_before(good: object, bad: object) -> None:
    """It is told of; a list that has it in order again is the end of it."""
    assert isinstance(good, tuple)
    assert isinstance(bad, dict)
    resource, body = good
    found = knowledge(Changed(resource, body))
    if resource is FREEZES:
        body["metadata"]["uid"] = "another"  # the end of a Freeze that is known is not asked again
        found.observe(Changed(resource, body), held=())
    before = list(found.orders)
    wrong = {**body, **bad}
    wrong["metadata"] = {**body["metadata"], "uid": "new"}
    found.observe(Changed(resource, wrong), held=())
    assert list(found.orders) == before
    assert "cannot be read" in found.problems()[0]
    found.observe(Listed(resource, (body,)), held=())
    assert found.problems() == []


def test_what_was_ordered_during_an_isolation_is_read_before_anything_is_let_go() -> None:
    """The first answer alone does not say that nothing was."""
    found = knowledge(*listed(STANDING_ORDERS), Listed(STANDING_ORDERS, (standing("Freeze"),)))
    assert found.waits_for_silence
    found.observe(Heard(0), held=())
    for number in range(1, 7):
        assert wanted(found) is Want.RUN
        assert found.sure
        found.observe(Silent(number * 5), held=())
    assert wanted(found) is Want.FREEZE
    found.observe(Heard(31), held=())
    assert wanted(found) is Want.RUN
    assert not found.sure
    for each in (*listed(STANDING_ORDERS), Listed(PODS, (POD,))):
        found.observe(each, held=())
    assert not found.sure
    found.observe(Listed(STANDING_ORDERS, (standing("Freeze"),)), held=())
    assert found.sure


def test_silence_matters_only_to_pods_with_a_standing_order() -> None:
    """Others are not looked out for so often."""
    assert not knowledge(*listed()).waits_for_silence
    elsewhere = standing()
    elsewhere["metadata"]["namespace"] = "dev"
    assert not knowledge(Changed(STANDING_ORDERS, elsewhere)).waits_for_silence


def test_two_pods_that_claim_one_cgroup_are_told_of() -> None:
    """Neither is touched."""
    found = knowledge(Changed(PODS, pod("b", "b")), Changed(SHUTDOWNS, shutdown()))
    for each in ("c", "d"):
        claim = pod(each, each, annotations={"kubernetes.io/config.mirror": "0" * 32})
        claim["metadata"]["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n", "controller": True}
        ]
        found.observe(Changed(PODS, claim), held=())
    assert sorted(found.decide({})) == ["a", "b"]
    assert "two pods claim" in found.problems()[0]
