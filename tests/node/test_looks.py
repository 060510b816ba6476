"""What a guard does at each look: real cgroups and processes, time and the API's news as told."""

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from killswitch.core import times
from killswitch.core.errors import CgroupError
from killswitch.core.resources import FREEZES, SHUTDOWNS, STANDING_ORDERS
from killswitch.node.cgroups import Cgroups
from killswitch.node.hands import Hands
from killswitch.node.news import Changed, Heard, Listed, Silent
from tests.node.objects import (
    OF_NODE,
    START,
    Desk,
    cluster_shutdown,
    freeze,
    pod,
    shutdown,
    standing,
)
from tests.node.scene import COUNT, FORK, SLEEP, Scene, stands_still

Json = dict[str, Any]
STATIC = "0123456789abcdef0123456789abcdef"
MIRROR: Json = {
    "annotations": {"kubernetes.io/config.mirror": STATIC},
    "ownerReferences": OF_NODE,
}


@dataclass
class Stage:
    """One node's pods."""

    scene: Scene
    directory: Path
    desk: Desk = field(init=False)

    def __post_init__(self) -> None:
        """With a guard that knows nothing yet."""
        self.desk = Desk(self.scene.hands())

    def run(self, name: str, cgroup: str = "", **metadata: Any) -> Json:
        """A pod whose process counts."""
        body = pod(name, **metadata)
        uid = self.scene.pod(cgroup or body["metadata"]["uid"])
        self.scene.run(self.folder(uid), COUNT, self.shown(body), 1)
        return body

    def folder(self, uid: str) -> Path:
        """Of its first container."""
        return self.scene.folder(uid, self.scene.containers[0])

    def shown(self, body: Json) -> Path:
        """Where its process shows how far it is."""
        return self.directory / f"{body['metadata']['name']}.count"

    def frozen(self, body: Json) -> bool:
        """Whether it stands still."""
        return stands_still(self.shown(body))

    def dead(self, body: Json, cgroup: str = "") -> bool:
        """Whether no process is left."""
        return not self.scene.processes(self.scene.folder(cgroup or body["metadata"]["uid"]))

    def limit(self, body: Json) -> str:
        """How many processes it may have."""
        return self.desk.cgroups.limit(body["metadata"]["uid"])


@pytest.fixture
def stage(cgroups: Scene, tmp_path: Path) -> Stage:
    """A node with cgroups of our own."""
    return Stage(cgroups, tmp_path)


def test_a_freeze_and_a_stop_on_one_pod(stage: Stage) -> None:
    """The stop wins, whichever came first; released, the Freeze holds what begins then."""
    a, b = stage.run("a"), stage.run("b")
    hold, stop = freeze(), shutdown()
    stage.desk.lists(a, b, hold)
    assert stage.desk.states(a, b) == ["Frozen", "Frozen"]
    assert stage.frozen(a)
    stage.desk.add(stop)
    assert stage.desk.until(lambda: stage.desk.states(a, b) == ["Dead", "Dead"])
    assert stage.dead(a)
    assert stage.limit(a) == "0"
    stage.desk.remove(stop)
    assert stage.desk.states(a, b) == ["Frozen", "Frozen"]
    assert stage.limit(a) == "max"
    folder = stage.folder(a["metadata"]["uid"])
    stage.scene.enter(folder, FORK, stage.directory / "forked")
    stage.desk.look(5)
    assert not (stage.directory / "forked").exists()


def test_a_release_during_a_freeze_leaves_the_freeze(stage: Stage) -> None:
    """And the end of the Freeze lets go."""
    a = stage.run("a")
    hold, stop = freeze(), shutdown()
    stage.desk.lists(a, hold, stop)
    assert stage.desk.until(lambda: stage.desk.states(a) == ["Dead"])
    stage.desk.lists(a, hold)
    assert stage.desk.states(a) == ["Frozen"]
    stage.desk.lists(a)
    assert stage.desk.entry(a)["state"] == "Thawed"


def test_a_stop_that_another_takes_over_never_opens_in_between(stage: Stage) -> None:
    """A Freeze that has become a Shutdown ends, and the guard hears of that first."""
    a = stage.run("a")
    hold = freeze("s", 300, "Stop")
    stage.desk.lists(a, hold).look(301)
    assert stage.desk.until(lambda: stage.desk.states(a) == ["Dead"])
    ended = {**hold, "status": {"conditions": [{"type": "Ended", "status": "True"}]}}
    stage.desk.add(ended).look(0.5)
    assert stage.limit(a) == "0"
    stage.desk.add(shutdown("s-expired")).look(5)
    assert stage.limit(a) == "0"
    assert stage.desk.entry(a)["orderName"] == "s-expired"
    stage.desk.lists(a)
    assert stage.limit(a) == "0"
    stage.desk.look(1.1)
    assert stage.limit(a) == "max"


@pytest.mark.parametrize("known", [True, False])
def test_a_freeze_ends_in_the_state_that_it_names(stage: Stage, known: bool) -> None:
    """Without anything from the API server, also after a start from memory alone."""
    a, b = stage.run("a"), stage.run("b")
    thaw = freeze("t", 300, "Thaw", scope={"podLabels": {"app": "a"}})
    stop = freeze("s", 300, "Stop", scope={"podLabels": {"app": "b"}})
    desk = stage.desk.lists(a, b, thaw, stop)
    desk = desk if known else desk.successor().look()
    desk.look(299)
    assert desk.states(a, b) == ["Frozen", "Frozen"]
    assert stage.frozen(a)
    desk.look(2)
    assert desk.until(lambda: desk.states(a, b) == ["Thawed", "Dead"])
    assert not stage.frozen(a)
    assert stage.dead(b)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_freeze_that_leaves_the_list_ends_at_its_time_at_the_latest(
    stage: Stage, restarted: bool
) -> None:
    """Thawed, it loses its label; what is not known then prolongs no Freeze beyond its end."""
    a = stage.run("a")
    hold = freeze(seconds=60, then="Stop")
    thawed = {**hold, "spec": {**hold["spec"], "thaw": {"by": "alice", "reason": "r"}}}
    desk = stage.desk.lists(a, hold, forbidden=STANDING_ORDERS)
    desk.guard.observe(Changed(FREEZES, thawed))
    desk.remove(thawed).look(1)
    desk = desk.successor().lists(a, forbidden=STANDING_ORDERS) if restarted else desk
    desk.look(58)
    assert stage.frozen(a)
    desk.look(2)
    assert not stage.frozen(a)
    assert desk.states(a) == ["Thawed"]


def test_a_freeze_that_leaves_the_list_uncleared_ends_as_it_says(stage: Stage) -> None:
    """The Shutdown that followed it may be what cannot be read: dead until that can be."""
    a = stage.run("a")
    hold = freeze(seconds=60, then="Stop")
    desk = stage.desk.lists(a, hold, forbidden=SHUTDOWNS).remove(hold).look(59)
    assert stage.frozen(a)
    desk.look(2)
    assert desk.until(lambda: desk.states(a) == ["Dead"])
    desk.look(60)
    assert stage.limit(a) == "0"
    desk.lists(a).look(1.1)
    assert stage.limit(a) == "max"


def test_what_is_frozen_without_memory_of_it_waits_for_all_lists(stage: Stage) -> None:
    """Nothing is known of its end: an order that cannot be read may want it."""
    a = stage.run("a")
    stage.desk.lists(a, freeze(seconds=60))
    desk = Desk(stage.desk.cgroups).lists(a, forbidden=STANDING_ORDERS).look(3600)
    assert stage.frozen(a)
    desk.lists(a)
    assert not stage.frozen(a)


def test_a_freeze_that_has_ended_lets_go_of_nothing_but_its_own(stage: Stage) -> None:
    """What a standing order froze waits until all that came meanwhile is read."""
    a = stage.run("a")
    order = standing("Freeze")
    desk = stage.desk.lists(a, order, freeze(seconds=20)).alone(40)
    assert desk.entry(a)["orderKind"] == "StandingOrder"
    desk.guard.observe(Heard(desk.boot))
    desk.look().look(1)
    assert stage.frozen(a)
    desk.lists(a, order)
    assert not stage.frozen(a)


def test_a_wall_clock_that_jumps_changes_nothing(stage: Stage) -> None:
    """Ahead, it does not end a Freeze."""
    a = stage.run("a")
    stage.desk.lists(a, freeze())
    stage.desk.wall += 86_400
    stage.desk.look(100)
    assert stage.frozen(a)
    stage.desk.wall -= 10 * 86_400
    stage.desk.look(201)
    assert not stage.frozen(a)


def test_a_pod_that_is_made_again_under_its_name_is_another(stage: Stage) -> None:
    """A Freeze that ended in a stop does not reach it; a Shutdown does."""
    a = stage.run("a")
    hold = freeze("s", 300, "Stop")
    stage.desk.lists(a, hold).look(301)
    assert stage.desk.until(lambda: stage.desk.states(a) == ["Dead"])
    again = stage.run("a", creationTimestamp=times.text(START + 302))
    stage.desk.remove(a).add(again)
    assert stage.desk.states(again) == [""]
    assert not stage.frozen(again)
    stage.desk.add(shutdown())
    assert stage.desk.until(lambda: stage.desk.states(again) == ["Dead"])
    assert stage.desk.entry(a)["state"] == "Dead"


def test_static_pods_die_by_the_uid_of_their_manifest(stage: Stage) -> None:
    """Deleting their mirror does not let them go."""
    a = stage.run("a", STATIC, **MIRROR)
    stop = shutdown()
    stage.desk.lists(a, stop)
    assert stage.desk.until(lambda: stage.desk.states(a) == ["Dead"])
    assert stage.dead(a, STATIC)
    stage.desk.lists(stop).look(60)
    assert stage.desk.cgroups.limit(STATIC) == "0"


@pytest.mark.parametrize("order", [shutdown(), freeze()])
def test_what_is_held_without_an_object_stays_held_over_a_restart(
    stage: Stage, order: Json
) -> None:
    """Deleted by force while it is held, and then the guard is updated."""
    a = stage.run("a", STATIC, **MIRROR)
    state = "Dead" if order["kind"] == SHUTDOWNS.kind else "Frozen"
    assert stage.desk.lists(a, order).until(lambda: stage.desk.states(a) == [state])
    desk = stage.desk.remove(a).look(40).successor().lists(order).look(40)
    assert desk.states(a) == [state]
    assert stage.frozen(a) if state == "Frozen" else stage.desk.cgroups.limit(STATIC) == "0"
    desk.lists().look(1.1)
    assert desk.states(a) == ["Thawed"]


def test_a_mirror_that_is_made_again_is_told_of_as_what_it_is_now(stage: Stage) -> None:
    """Whoever asks whether that pod is dead asks by its new uid."""
    a = stage.run("a", STATIC, **MIRROR)
    stop = shutdown()
    desk = stage.desk.lists(a, stop)
    assert desk.until(lambda: desk.states(a) == ["Dead"])
    again = pod("a", **MIRROR)
    desk.remove(a).add(again)
    assert desk.states(again) == ["Dead"]
    assert desk.successor().lists(again, stop).states(again) == ["Dead"]


@pytest.mark.parametrize("order", [shutdown, freeze])
@pytest.mark.parametrize("changed", [{"labels": {}}, {"ownerReferences": []}])
@pytest.mark.parametrize("restarted", [False, True])
def test_who_may_write_a_pods_metadata_does_not_let_go_of_it(
    stage: Stage, order: Callable[..., Json], changed: Json, restarted: bool
) -> None:
    """An order that holds a pod holds it for as long as it is in force; another one does not."""
    a = stage.run("a", STATIC, **MIRROR)
    holds = order(scope={"podLabels": {"app": "a"}})
    state = "Dead" if order is shutdown else "Frozen"
    assert stage.desk.lists(a, holds).until(lambda: stage.desk.states(a) == [state])
    b = {**a, "metadata": {**a["metadata"], **changed}}
    desk = stage.desk.add(b).look(2)
    desk = desk.successor().lists(b, holds).look(2) if restarted else desk
    assert desk.states(a) == [state]
    assert stage.frozen(a) if state == "Frozen" else desk.cgroups.limit(STATIC) == "0"
    another = order("another", scope={"podLabels": {"app": "a"}})
    desk.lists(b, *([another] if "labels" in changed else [])).look(1.1)
    assert desk.states(a) == ["Thawed"]


def test_of_two_stops_the_first_is_named_however_often_either_is_written(stage: Stage) -> None:
    """Whoever counts the dead of a stop reads one name."""
    a = stage.run("a", STATIC, **MIRROR)
    stops = shutdown("s1"), shutdown("s2")
    stage.desk.lists(a, *stops)
    assert stage.desk.until(lambda: stage.desk.states(a) == ["Dead"])
    for written in (*stops, *stops):
        assert stage.desk.add(written).entry(a)["orderName"] == "s1"


def test_a_cgroup_that_two_pods_claim_is_touched_for_neither(stage: Stage) -> None:
    """It is told; the others are served."""
    a, b, c = stage.run("a", STATIC, **MIRROR), pod("b", **MIRROR), stage.run("c")
    stage.desk.lists(a, b, c, shutdown())
    assert stage.desk.until(lambda: stage.desk.states(c) == ["Dead"])
    assert not stage.frozen(a)
    assert stage.desk.report is not None
    assert "two pods claim" in stage.desk.report.problems[0]


def test_protected_namespaces_and_the_guard_itself_run_on(stage: Stage) -> None:
    """Whatever an order says; what somebody else froze there stays as it is."""
    dns, own = stage.run("dns", namespace="kube-system"), stage.run("own")
    desk = Desk(stage.scene.hands(), own=own["metadata"]["uid"])
    desk.cgroups.freeze(dns["metadata"]["uid"])
    desk.lists(dns, own, cluster_shutdown("kube-system", "prod"))
    assert not stage.frozen(own)
    assert stage.frozen(dns)
    assert not stage.dead(dns)


class Refusing(Cgroups):
    """Hands that one pod's cgroup refuses, as a kernel with a security module may."""

    refused = ""

    def freeze(self, uid: str) -> bool:
        """EPERM for that pod."""
        if uid == self.refused:
            raise self._denied(uid)
        return super().freeze(uid)

    def kill_all(self, uids: Iterable[str], within: float = 5.0) -> dict[str, int | CgroupError]:
        """EPERM for that pod."""
        others = [uid for uid in uids if uid != self.refused]
        refused = {uid: self._denied(uid) for uid in uids if uid == self.refused}
        return super().kill_all(others, within) | refused

    def _denied(self, uid: str) -> CgroupError:
        return CgroupError(f"pod {uid}: EPERM", "run as root", uid=uid, number=errno.EPERM)


@pytest.mark.parametrize("order", [shutdown(), freeze()])
def test_eperm_on_one_pod_is_told_and_the_others_are_served(stage: Stage, order: Json) -> None:
    """It is tried again, and done as soon as it can be."""
    a, b = stage.run("a"), stage.run("b")
    hands = Refusing(stage.scene.top)
    hands.refused = a["metadata"]["uid"]
    desk = Desk(hands).lists(a, b, order)
    done = "Dead" if order["kind"] == SHUTDOWNS.kind else "Frozen"
    assert desk.until(lambda: desk.states(b) == [done])
    desk.look(2)
    assert desk.states(a, b) == ["Failed", done]
    assert "EPERM; run as root" in desk.entry(a)["message"]
    hands.refused = ""
    assert desk.until(lambda: desk.states(a) == [done])
    assert "message" not in desk.entry(a)


def test_a_pod_that_starts_later_is_met_at_its_start(stage: Stage) -> None:
    """Until it has a cgroup the report says that nothing was found: it is never called dead."""
    a, b = pod("a"), pod("b")
    hold = freeze("h", scope={"podLabels": {"app": "a"}})
    stop = shutdown(scope={"podLabels": {"app": "b"}})
    stage.desk.lists(a, b, hold, stop).look(2)
    assert stage.desk.states(a, b) == ["Failed", "Failed"]
    assert "KILLSWITCH_CGROUP_ROOT" in stage.desk.entry(a)["message"]
    for body in (a, b):
        stage.scene.pod(body["metadata"]["uid"])
        stage.scene.run(stage.folder(body["metadata"]["uid"]), COUNT, stage.shown(body), 1)
    assert stage.desk.until(lambda: stage.desk.states(a, b) == ["Frozen", "Dead"])
    assert stage.frozen(a)
    assert stage.dead(b)


def test_a_cgroup_that_vanishes_under_the_hand_is_dead(stage: Stage) -> None:
    """It was seen before, so it is known that nothing of it is left."""
    a = stage.run("a")
    stage.desk.lists(a, freeze())
    stage.scene.remove(a["metadata"]["uid"])
    stage.desk.remove(freeze()).look()
    assert stage.desk.states(a) == ["Dead"]


def test_what_enters_a_dead_pod_dies(stage: Stage) -> None:
    """A runtime that moves a process into the closed cgroup is met within a second."""
    a = stage.run("a")
    stage.desk.lists(a, shutdown())
    assert stage.desk.until(lambda: stage.desk.states(a) == ["Dead"])
    stage.scene.enter(stage.folder(a["metadata"]["uid"]), SLEEP)
    assert stage.desk.until(lambda: not stage.dead(a) or stage.desk.entry(a)["processes"] > 1)
    assert stage.desk.until(lambda: stage.dead(a) and stage.desk.entry(a)["processes"] > 1)


def test_a_frozen_pod_that_somebody_thaws_is_frozen_again(stage: Stage) -> None:
    """Within a second."""
    a = stage.run("a")
    stage.desk.lists(a, freeze())
    stage.desk.cgroups.thaw(a["metadata"]["uid"])
    assert not stage.frozen(a)
    stage.desk.look(1.1)
    assert stage.frozen(a)


def test_what_nobody_wants_frozen_or_closed_is_let_go_once_that_is_sure(stage: Stage) -> None:
    """Left by a guard whose memory is lost; not while one kind of order is unknown."""
    a, b, orphan = stage.run("a"), stage.run("b"), stage.run("orphan")
    hands = stage.desk.cgroups
    hands.freeze(a["metadata"]["uid"])
    hands.close(b["metadata"]["uid"])
    hands.freeze(orphan["metadata"]["uid"])
    for body in (a, b):
        stage.desk.add(body)
    stage.desk.guard.observe(Listed(FREEZES, ()))
    stage.desk.look(60)
    assert stage.frozen(a)
    stage.desk.lists(a, b)
    assert not stage.frozen(a)
    assert not stage.frozen(orphan)
    assert stage.limit(b) == "max"


def test_a_start_without_the_api_server_acts_on_memory_and_lets_nothing_go(stage: Stage) -> None:
    """What was wanted is done; what is not known to be unwanted stays."""
    a, b = stage.run("a"), stage.run("b")
    hold = freeze("h", scope={"podLabels": {"app": "a"}})
    stop = shutdown(scope={"podLabels": {"app": "b"}})
    stage.desk.lists(a, b, hold)
    assert stage.desk.memory is not None
    stage.desk.cgroups.thaw(a["metadata"]["uid"])
    desk = stage.desk.successor()
    desk.guard.look()
    assert stage.frozen(a)
    assert desk.entry(a)["seenAt"] == stage.desk.entry(a)["seenAt"]
    desk.remove(hold)
    assert stage.frozen(a)
    desk.add(stop)
    assert desk.until(lambda: stage.dead(b))
    desk.lists(a, b, stop)
    assert not stage.frozen(a)


def test_a_limit_survives_the_guard_that_closed_the_pod(stage: Stage) -> None:
    """Whoever reopens it gives it back what it had."""
    a = stage.run("a")
    (stage.scene.pids / stage.scene.folder(a["metadata"]["uid"]) / "pids.max").write_text("77")
    stage.desk.lists(a, shutdown())
    assert stage.desk.until(lambda: stage.desk.states(a) == ["Dead"])
    desk = stage.desk.successor().lists(a)
    assert stage.limit(a) == "0"  # for a moment: what follows may be on its way
    desk.look(1.1)
    assert stage.limit(a) == "77"


def test_a_limit_survives_a_guard_that_died_as_it_closed_the_pod(stage: Stage) -> None:
    """It was remembered before, while the pod was open."""
    a = stage.run("a")
    (stage.scene.pids / stage.scene.folder(a["metadata"]["uid"]) / "pids.max").write_text("77")
    stage.desk.lists(a)
    stage.desk.cgroups.close(a["metadata"]["uid"])
    stage.desk.successor().lists(a)
    assert stage.limit(a) == "77"


@pytest.mark.parametrize(("then", "state"), [("Freeze", "Frozen"), ("Kill", "Dead")])
def test_isolation_acts_and_is_undone_and_told(stage: Stage, then: str, state: str) -> None:
    """After the patience of the order; let go only when what was ordered meanwhile is known."""
    a = stage.run("a")
    order = standing(then)
    desk = stage.desk.lists(a, order)
    desk.guard.observe(Heard(desk.boot))
    for _ in range(5):
        desk.look(5).guard.observe(Silent(desk.boot))
    desk.look()
    assert desk.states(a) == [""]
    desk.look(5).guard.observe(Silent(desk.boot))
    desk.look()
    assert desk.until(lambda: desk.states(a) == [state])
    assert desk.report is not None
    assert desk.report.isolation is not None
    assert "ended" not in desk.report.isolation
    assert desk.asked == []
    for _ in range(2):
        desk.guard.observe(Heard(desk.boot))
    assert desk.asked == ["list anew"]
    desk.look(5)
    assert desk.states(a) == [state]
    desk.lists(a, order).look(1.1)
    assert desk.states(a) == ["Thawed"]
    assert desk.entry(a)["orderKind"] == "StandingOrder"
    isolation = desk.report.isolation
    assert isolation["ended"] > isolation["since"]
    assert (isolation["action"], isolation["pods"]) == (then, 1)


def test_an_isolation_is_told_by_a_guard_that_started_meanwhile(stage: Stage) -> None:
    """Since when, as the one before knew; it lasts until the control plane is heard of."""
    a = stage.run("a")
    order = standing("Freeze")
    before = stage.desk.lists(a, order).alone(40)
    assert before.report is not None
    told = before.report.isolation
    desk = before.successor().look(1)
    assert desk.report is not None
    assert desk.report.isolation == told
    desk.guard.observe(Heard(desk.boot))
    desk.lists(a, order).look(1.1)
    assert not stage.frozen(a)
    assert desk.report.isolation == {**(told or {}), "ended": times.text(desk.wall - 1.1)}
    later = desk.successor().lists()
    assert later.report is not None
    assert later.report.isolation == desk.report.isolation


def test_a_stop_that_came_during_an_isolation_is_met_without_a_gap(stage: Stage) -> None:
    """Frozen by itself, the node goes over to the stop: the pod never runs in between."""
    a = stage.run("a")
    order = standing("Freeze")
    desk = stage.desk.lists(a, order)
    desk.guard.observe(Heard(desk.boot))
    for _ in range(7):
        desk.look(5).guard.observe(Silent(desk.boot))
    desk.look()
    counted = stage.shown(a).read_text()
    desk.guard.observe(Heard(desk.boot))
    desk.look()
    desk.lists(a, order, shutdown())
    assert desk.until(lambda: desk.states(a) == ["Dead"])
    assert stage.shown(a).read_text() == counted


def cut_off(desk: Desk, seconds: int) -> None:
    """The control plane answers, then not for so long."""
    desk.guard.observe(Heard(desk.boot))
    desk.look()
    for _ in range(seconds):
        desk.look(1).guard.observe(Silent(desk.boot))
    desk.look()


@pytest.mark.parametrize("gone", [0.1, 86_400])
def test_a_guard_that_has_not_asked_does_nothing_by_a_standing_order(
    stage: Stage, gone: float
) -> None:
    """Whatever it remembers, of just now or of yesterday: the control plane may be there again."""
    a = stage.run("a")
    desk = stage.desk.lists(a, standing("Kill"))
    desk.guard._terms.jitter = 0.1
    cut_off(desk, 32)
    assert not stage.dead(a)
    desk.boot += gone
    after = desk.successor()
    after.guard.look()
    assert after.states(a) == [""]
    assert stage.limit(a) == "max"
    after.look(1).guard.observe(Heard(after.boot))
    after.look()
    assert not stage.dead(a)


def test_silence_of_yesterday_does_not_add_to_that_of_today(stage: Stage) -> None:
    """The guard was away in between, and has heard nothing of what was."""
    a = stage.run("a")
    desk = stage.desk.lists(a, standing("Freeze"))
    cut_off(desk, 25)
    desk.boot += 86_400
    desk = desk.successor().look()
    for _ in range(30):
        desk.look(1).guard.observe(Silent(desk.boot))
        desk.look()
    assert not stage.frozen(a)
    desk.look(1).guard.observe(Silent(desk.boot))
    desk.look()
    assert stage.frozen(a)


def test_a_guard_that_crashes_goes_on_with_the_silence_and_the_patience_of_the_one_before(
    stage: Stage,
) -> None:
    """A crash neither hastens an isolation nor begins it anew."""
    a = stage.run("a")
    desk = stage.desk.lists(a, standing("Freeze"))
    desk.guard._terms.jitter = 0.1
    cut_off(desk, 30)
    for _ in range(2):  # 31 s, then 32 s
        desk = desk.successor().look()
        for _ in range(2):
            desk.look(1).guard.observe(Silent(desk.boot))
        desk.look()
        assert not stage.frozen(a)
    desk.look(1).guard.observe(Silent(desk.boot))
    desk.look()
    assert stage.frozen(a)


def test_a_guard_that_crashes_in_an_isolation_lets_nothing_go(stage: Stage) -> None:
    """The next one holds what it finds held until it has heard or has asked itself."""
    a = stage.run("a")
    order = standing("Freeze")
    desk = stage.desk.lists(a, order)
    cut_off(desk, 31)
    assert stage.frozen(a)
    counted = stage.shown(a).read_text()
    desk = desk.successor().look()
    assert desk.states(a) == ["Frozen"]
    desk.look(1).guard.observe(Silent(desk.boot))
    desk.look()
    assert desk.states(a) == ["Frozen"]
    assert stage.shown(a).read_text() == counted
    desk.guard.observe(Heard(desk.boot))
    desk.lists(a, order)
    assert not stage.frozen(a)


@pytest.mark.parametrize("successor", [True, False])
def test_a_guard_that_leaves(stage: Stage, successor: bool) -> None:
    """Frozen pods run again where nobody follows; what is dead stays closed either way."""
    a, b = stage.run("a"), stage.run("b")
    hold = freeze("h", scope={"podLabels": {"app": "a"}})
    stop = shutdown(scope={"podLabels": {"app": "b"}})
    desk = stage.desk.lists(a, b, hold, stop)
    assert desk.until(lambda: desk.states(a, b) == ["Frozen", "Dead"])
    desk.guard.leave(successor=successor)
    assert stage.frozen(a) is successor
    assert desk.states(a, b) == ["Frozen" if successor else "Thawed", "Dead"]
    assert stage.limit(b) == "0"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_guard_that_leaves_reopens_what_only_the_isolation_closed(
    stage: Stage, stopped: bool
) -> None:
    """No release will ever do that; a Shutdown's is waited for."""
    a = stage.run("a")
    orders = [standing("Kill"), *([shutdown(name="z")] if stopped else [])]
    desk = stage.desk.lists(a, *orders).alone(40)
    assert desk.until(lambda: desk.states(a) == ["Dead"])
    desk.guard.leave(successor=True)
    assert stage.limit(a) == "0"
    desk.guard.leave(successor=False)
    assert stage.limit(a) == ("0" if stopped else "max")
    assert desk.states(a) == ["Dead" if stopped else "Thawed"]


def test_a_guard_that_leaves_just_after_a_release_reopens(stage: Stage) -> None:
    """It would have done so in a moment; not while what else there is cannot be read."""
    a = stage.run("a")
    stop = shutdown()
    desk = stage.desk.lists(a, stop, forbidden=FREEZES)
    assert desk.until(lambda: desk.states(a) == ["Dead"])
    desk.remove(stop).guard.leave(successor=False)
    assert stage.limit(a) == "0"
    desk.guard.observe(Listed(FREEZES, ()))
    desk.guard.leave(successor=False)
    assert stage.limit(a) == "max"


def test_the_last_resort_finishes_kills_and_thaws(stage: Stage) -> None:
    """By memory alone: nothing stays frozen with nobody to end it."""
    a, b = stage.run("a"), stage.run("b")
    hold = freeze("h", scope={"podLabels": {"app": "a"}})
    stop = shutdown(scope={"podLabels": {"app": "b"}})
    stage.desk.lists(a, b, hold)
    stage.desk.guard.observe(Listed(SHUTDOWNS, (stop,)))
    stage.desk.guard._tell()  # remembered, not yet acted upon
    desk = stage.desk.successor()
    desk.guard.last_resort()
    assert not stage.frozen(a)
    assert stage.dead(b)


def test_a_large_node_is_done_in_one_look(stage: Stage) -> None:
    """All are told to freeze before any is killed."""
    bodies = [stage.run(f"m{number}") for number in range(12)]
    steps: list[tuple[str, str]] = []
    desk = Desk(stage.scene.hands(step=lambda step, uid: steps.append((step, uid))))
    desk.lists(*bodies, shutdown())
    assert desk.until(lambda: all(map(stage.dead, bodies)))
    first = [step for step, _ in steps[: len(bodies)]]
    assert first == ["freeze"] * len(bodies)
    assert len({uid for _, uid in steps[: len(bodies)]}) == len(bodies)


def test_a_guard_with_nothing_to_do_says_that_it_is_there(stage: Stage) -> None:
    """In the thread that acts, so that one that hangs is missed."""
    desk = stage.desk.lists()
    assert desk.report is not None
    first, memory = desk.report.renewed_at, desk.memory
    desk.look(10)
    assert desk.report.renewed_at == first
    desk.look(20)
    assert desk.report.renewed_at == first + 30
    assert desk.memory is memory  # nothing new is worth a write


def test_what_is_held_no_more_is_told_of_up_to_fifty(stage: Stage) -> None:
    """The report stays small."""
    hands: Hands = stage.desk.guard.hands
    for number in range(60):
        hands.history.append({"uid": str(number), "state": "Thawed"})
    stage.desk.lists()
    assert stage.desk.report is not None
    assert [each["uid"] for each in stage.desk.report.pods][:2] == ["59", "58"]
    assert len(stage.desk.report.pods) == 50
