"""What the node guard has to do with each pod of its node: run, freeze or kill. Pure.

    engaged Shutdown, ClusterShutdown       KILL; of category Graceful once nothing is waited for
    Freeze in force                         FREEZE until its end, then what `onExpiry` names
    StandingOrder, while cut off            FREEZE or KILL
    nothing                                 RUN: what is frozen or closed is let go

The strongest wins; among equals the order that was engaged first is named. Time comes in as a judgement of the caller, since a guard counts in a clock
that nobody sets (`Term`): a wall clock that jumps neither ends a Freeze nor prolongs it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from killswitch.core import conditions, durations, locks, projections, times
from killswitch.core.conditions import FreezeCondition
from killswitch.core.inventory import Pod
from killswitch.core.names import MIRROR_ANNOTATION
from killswitch.core.resources import CLUSTER_SHUTDOWNS, FREEZES, SHUTDOWNS, STANDING_ORDERS

Json = Mapping[str, Any]
_STATIC_UID = 32
"""Hex digits of a static pod's uid, which has no dashes: never that of a pod of the API."""


class Want(IntEnum):
    """What a pod is to be, the stronger the higher."""

    RUN = 0
    FREEZE = 1
    KILL = 2


@dataclass(frozen=True, slots=True)
class Resident:
    """A pod of this node with what its cgroup is known by."""

    pod: Pod
    cgroup: str
    """The uid in its cgroup's name; of a static pod that of its manifest."""
    created: float
    """Seconds since the epoch, by the API server's clock."""
    hurried: bool = False
    """Whether somebody has asked it to end within a second."""


def resident(body: Json) -> Resident | None:
    """A pod of this node, from its metadata alone; None where it has finished."""
    pod = projections.pod(body)
    if pod is None:
        return None
    metadata = body["metadata"]
    created = times.seconds(metadata["creationTimestamp"])
    left = metadata.get("deletionGracePeriodSeconds")
    return Resident(pod, _cgroup(metadata), created, hurried=left is not None and left <= 1)


def _cgroup(metadata: Json) -> str:
    """The uid that the kubelet names the pod's cgroup by.

    The annotation is believed only in the form that a kubelet writes: a user's pod that names
    another pod's uid in it stays what it is.
    """
    named = (metadata.get("annotations") or {}).get(MIRROR_ANNOTATION, "")
    owners = metadata.get("ownerReferences") or ()
    of_node = any(owner.get("controller") and owner["kind"] == "Node" for owner in owners)
    static = len(named) == _STATIC_UID and not set(named) - set("0123456789abcdef")
    return named if of_node and static else str(metadata["uid"])


def ambiguous(residents: Iterable[Resident]) -> frozenset[str]:
    """The cgroup uids that several pods claim: none of these is touched."""
    claims = Counter(each.cgroup for each in residents)
    return frozenset(uid for uid, count in claims.items() if count > 1)


@dataclass(slots=True)
class Orders:
    """Shutdowns, ClusterShutdowns, Freezes and StandingOrders by uid, found by namespace."""

    _all: dict[str, Json] = field(default_factory=dict)
    _by_namespace: dict[str, dict[str, Json]] = field(default_factory=lambda: defaultdict(dict))

    def put(self, body: Json) -> None:
        """Add or replace one."""
        uid = body["metadata"]["uid"]
        self.remove(uid)
        self._all[uid] = body
        for namespace in _places(body):
            self._by_namespace[namespace][uid] = body

    def get(self, uid: str) -> Json | None:
        """The one of this uid."""
        return self._all.get(uid)

    def remove(self, uid: str) -> Json | None:
        """Forget one; unknown uids are fine."""
        body = self._all.pop(uid, None)
        for namespace in _places(body) if body is not None else ():
            here = self._by_namespace[namespace]
            here.pop(uid, None)
            if not here:
                del self._by_namespace[namespace]
        return body

    def about(self, pod: Pod) -> Iterator[Json]:
        """Those that cover this pod."""
        here = self._by_namespace.get(pod.namespace, {})
        return (order for order in here.values() if locks.covers(order, pod))

    def __iter__(self) -> Iterator[Json]:
        """All of them."""
        return iter(self._all.values())

    def __len__(self) -> int:
        """How many."""
        return len(self._all)


def _places(body: Json) -> Iterable[str]:
    namespace = body["metadata"].get("namespace", "")
    return (namespace,) if namespace else (body["spec"].get("namespaces") or ())


@dataclass(frozen=True, slots=True)
class Term:
    """What the caller knows of time: which Freezes have come to their end, which orders stand."""

    expired: Callable[[Json], bool]
    """Of a Freeze."""
    isolated: Callable[[Json], bool]
    """Of a StandingOrder: whether the control plane has been away for as long as it says."""


def want(
    who: Resident, orders: Orders, term: Term, held_by: Collection[str] = ()
) -> tuple[Want, Json | None]:
    """The strongest that any order wants of this pod, and that order; `(RUN, None)` without one."""
    return next(iter(wants(who, orders, term, held_by)), (Want.RUN, None))


def wants(
    who: Resident, orders: Orders, term: Term, held_by: Collection[str] = ()
) -> list[tuple[Want, Json]]:
    """What orders want of this pod other than to run: the strongest first, then the first engaged.

    `held_by` are uids of orders that hold it already. They do so as long as they are in force,
    whatever its metadata says now: who may label a pod may not let go of it.
    """
    about = {order["metadata"]["uid"]: order for order in orders.about(who.pod)}
    about |= {uid: order for uid in held_by if (order := orders.get(uid)) is not None}
    found = [(_of(order, who, term), order) for order in about.values()]
    return sorted((each for each in found if each[0] is not Want.RUN), key=_precedence)


def _precedence(found: tuple[Want, Json]) -> tuple[int, str, str]:
    metadata = found[1]["metadata"]
    return -found[0], metadata["creationTimestamp"], metadata["uid"]


def _of(order: Json, who: Resident, term: Term) -> Want:
    match order["kind"]:
        case SHUTDOWNS.kind | CLUSTER_SHUTDOWNS.kind:
            return _of_shutdown(order, who)
        case FREEZES.kind:
            return _of_freeze(order, who, term)
        case STANDING_ORDERS.kind:
            if not term.isolated(order):
                return Want.RUN
            return Want.KILL if order["spec"]["onIsolation"] == "Kill" else Want.FREEZE
        case _:
            return Want.RUN


def _of_shutdown(shutdown: Json, who: Resident) -> Want:
    """A graceful stop ends the pods by itself; at its deadline it asks for a second, and we act.

    A static pod is not asked: its turn comes when the others' drain is over.
    """
    if not locks.engaged(shutdown):
        return Want.RUN
    if shutdown["spec"].get("category") != "Graceful":
        return Want.KILL
    drained = "drained" in ((shutdown.get("status") or {}).get("stages") or {})
    over = drained if who.pod.mirror else who.hurried
    return Want.KILL if over else Want.RUN


def _of_freeze(freeze: Json, who: Resident, term: Term) -> Want:
    if not freeze_in_force(freeze):
        return Want.RUN
    if not term.expired(freeze):
        return Want.FREEZE
    return at_end(freeze, who)


def at_end(freeze: Json, who: Resident) -> Want:
    """What a Freeze that nobody ends before its time wants of this pod then."""
    # What came after its end is none of its business: a restored server bears the same names.
    ours = who.created <= times.seconds(freeze["spec"]["until"])
    return Want.KILL if freeze["spec"]["onExpiry"] == "Stop" and ours else Want.RUN


def freeze_in_force(freeze: Json) -> bool:
    """Whether nobody has ended it; its time may be over, and what it names then still to do."""
    observed = freeze.get("status", {}).get("conditions", ())
    ended = conditions.holds(observed, FreezeCondition.ENDED)
    return locks.labelled(freeze) and not freeze["spec"].get("thaw") and not ended


def remaining(freeze: Json, now: float) -> float:
    """Seconds until a Freeze's end, by a wall clock that may be wrong: never more than was meant."""
    until = times.seconds(freeze["spec"]["until"])
    created = times.seconds(freeze["metadata"]["creationTimestamp"])
    return max(0.0, min(until - now, until - created))


def patience(order: Json) -> float:
    """Seconds without the control plane after which a StandingOrder applies."""
    return durations.seconds(order["spec"]["after"])
