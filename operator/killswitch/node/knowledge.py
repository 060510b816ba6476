"""What the guard knows of orders and pods, how sure it is, and what follows for each pod. Pure.

Unknown is not "nothing is wanted": a list that fails, is cut or names a kind that is not there
removes no order. Only a complete list, or an event of a watch that began with one, does.
"""

import dataclasses
import logging
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from killswitch.core import containment, locks
from killswitch.core.containment import Orders, Resident, Want
from killswitch.core.resources import FREEZES, PODS, STANDING_ORDERS, Resource
from killswitch.node.clock import Clock
from killswitch.node.holds import Cause, Hold
from killswitch.node.news import Changed, Gone, Heard, Leave, Listed, News, Silent, Unlisted
from killswitch.node.residents import Residents
from killswitch.node.terms import Terms
from killswitch.node.watching import ORDERS

Json = Mapping[str, Any]

_LOG = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """What a pod is to be, and by which order."""

    who: Resident
    want: Want
    cause: Cause


class Knowledge:
    """Orders, pods and time, as the other threads tell of them."""

    def __init__(self, residents: Residents, terms: Terms, clock: Clock) -> None:
        self.residents = residents
        self.terms = terms
        self.orders = Orders()
        self.behind = False
        """Whether everything must be listed anew before anything is let go, as after an isolation."""
        self.in_contact = False
        """Whether the control plane was heard of last, by this process."""
        self.changed = True
        """Whether anything that is remembered or reported has changed; whoever tells resets it."""
        self._clock = clock
        self._known: set[Resource] = set()
        self._unlisted: dict[Resource, str] = {}
        self._unreadable: dict[str, tuple[Resource, str]] = {}
        self._cleared: set[str] = set()
        """Uids of thawed Freezes, which leave the list as soon as they are: until all is known."""

    def observe(self, news: News, held: Collection[str]) -> None:
        """Take in what another thread has to say; `held` are cgroups that are not forgotten."""
        match news:
            case Listed():
                self._listed(news, held)
            case Changed(resource, body):
                self._put(resource, body)
            case Gone(resource, uid):
                self.changed = True
                if resource is PODS:
                    self.residents.remove(uid, held)
                else:
                    self.orders.remove(uid)
            case Unlisted():
                self._not_listed(news)
            case Heard(at):
                self.in_contact = True
                self.changed |= self.terms.silence > 0
                self.terms.heard(at)
            case Silent(at):
                self._silent(at)
            case Leave():
                pass

    def recall(
        self, orders: Collection[Json], pods: Collection[Json], ghosts: Collection[Json]
    ) -> None:
        """Begin with what an earlier process knew; nothing of it counts as listed."""
        for body in ghosts:
            self.residents.haunt(body)
        for body in pods:
            self._put(PODS, body)
        resources = {each.kind: each for each in ORDERS}
        for body in orders:
            self._put(resources[body["kind"]], body)

    def decide(self, holds: Mapping[str, Hold]) -> dict[str, Wanted]:
        """By cgroup, what is not simply to run; `holds` is what is in hand, by cgroup."""
        self.terms.now = self._clock.boot()
        if self.sure:
            self._cleared.clear()
        found = {}
        for who in self.residents.touchable():
            if wanted := self._wanted(who, holds.get(who.cgroup)):
                found[who.cgroup] = wanted
        return found

    @property
    def sure(self) -> bool:
        """Whether "no order wants it" is known, not only unheard of."""
        return self._known.issuperset((*ORDERS, PODS))

    def may_let_go(self, cause: Cause) -> bool:
        """Whether what is held by this, and wanted by nothing, may run: when sure, or at its end.

        A Freeze says beforehand how it ends: that comes about whatever else is unknown.
        """
        return self.sure or (self._over(cause) and self.settled(cause).at_end is Want.RUN)

    def stopped(self, hold: Hold) -> bool:
        """Whether a Shutdown keeps it closed, or a Freeze that ended in a stop; isolation aside."""
        in_contact = containment.Term(self.terms.expired, isolated=lambda _: False)
        want, _ = containment.want(hold.who, self.orders, in_contact, hold.cause.orders)
        unknown = not self.sure and hold.cause.kind != STANDING_ORDERS.kind
        return want is Want.KILL or unknown

    def settled(self, cause: Cause) -> Cause:
        """The same; of Freezes that people have thawed nothing else is to come."""
        thawed = self._cleared.issuperset(cause.orders)
        return dataclasses.replace(cause, at_end=Want.RUN) if thawed else cause

    @property
    def waits_for_silence(self) -> bool:
        """Whether a StandingOrder about this node's pods counts the seconds of silence."""
        pods = [each.pod for each in self.residents.touchable()]
        return any(locks.covers(order, pod) for order in self._of(STANDING_ORDERS) for pod in pods)

    def problems(self) -> list[str]:
        """What people must know of it."""
        unreadable = [text for _, text in self._unreadable.values()]
        disputes = [
            f"two pods claim the cgroup of {uid}: neither is touched"
            for uid in sorted(self.residents.disputed())
        ]
        return [*self._unlisted.values(), *unreadable, *disputes]

    def _wanted(self, who: Resident, hold: Hold | None) -> Wanted | None:
        held_by = hold.cause.orders if hold is not None else ()
        found = containment.wants(who, self.orders, self.terms.term, held_by)
        if found:
            return Wanted(who, found[0][0], self._cause(who, [order for _, order in found]))
        if hold is None or self.sure or not self._over(hold.cause):
            return None
        # Its Freeze is there no more, and whether a Shutdown has followed is not known.
        cause = self.settled(hold.cause)
        return Wanted(who, Want.KILL, cause) if cause.at_end is Want.KILL else None

    def _cause(self, who: Resident, orders: list[Json]) -> Cause:
        named = orders[0]
        uids = tuple(order["metadata"]["uid"] for order in orders)
        found = Cause(named["kind"], named["metadata"]["name"], uids)
        if any(order["kind"] != FREEZES.kind for order in orders):
            return found
        ends = max(self.terms.deadlines[uid] for uid in uids)
        at_end = max(containment.at_end(order, who) for order in orders)
        return dataclasses.replace(found, ends=ends, at_end=at_end)

    def _over(self, cause: Cause) -> bool:
        return cause.ends is not None and self.terms.now >= cause.ends

    def _listed(self, news: Listed, held: Collection[str]) -> None:
        resource, there = news.resource, {body["metadata"]["uid"] for body in news.bodies}
        self.changed = True
        self._known.add(resource)
        self._unlisted.pop(resource, None)
        if resource is PODS:
            self.residents.replace(news.bodies, held)
            return
        for order in self._of(resource):
            if order["metadata"]["uid"] not in there:
                self.orders.remove(order["metadata"]["uid"])
        self._unreadable = {
            uid: entry for uid, entry in self._unreadable.items() if entry[0] is not resource
        }
        for body in news.bodies:
            self._put(resource, body)
        self.terms.keep({each["metadata"]["uid"] for each in self._of(FREEZES)})

    def _put(self, resource: Resource, body: Json) -> None:
        """Take up an object; one that cannot be read leaves in force what it said before."""
        metadata = body["metadata"]
        try:
            if resource is PODS:
                self.changed |= self.residents.put(body)
                return
            self.changed = True
            self._understand(resource, body)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            where = f"{resource.kind} {metadata.get('namespace', '')}/{metadata['name']}"
            self._unreadable[metadata["uid"]] = resource, f"{where} cannot be read: {error!r}"
            _LOG.exception("an object cannot be read", extra={"object": where})
            return
        self._unreadable.pop(metadata["uid"], None)
        self.orders.put(body)

    def _understand(self, resource: Resource, body: Json) -> None:
        """Ask all that a decision will ask; a Freeze's end is fixed by that."""
        if resource is FREEZES:
            containment.freeze_in_force(body)
            str(body["spec"]["onExpiry"])
            if body["spec"].get("thaw"):
                self._cleared.add(body["metadata"]["uid"])
            self.terms.meet(body, wall=self._clock.wall(), boot=self._clock.boot())
        elif resource is STANDING_ORDERS:
            containment.patience(body)
            str(body["spec"]["onIsolation"])
        else:
            locks.engaged(body)

    def _not_listed(self, news: Unlisted) -> None:
        self.changed = True
        self._unlisted[news.resource] = f"{news.resource.kind}: {news.why}"
        # An older installation does not have the kind. What one of it holds stays held: its CRD
        # may be away for a moment only.
        if news.absent and news.resource is not PODS and not self._of(news.resource):
            self._known.add(news.resource)

    def _silent(self, at: float) -> None:
        self.in_contact = False
        self.terms.silent(at)
        standing = self._of(STANDING_ORDERS)
        self.changed |= bool(standing)
        if any(self.terms.isolated(order) for order in standing):
            # What was ordered meanwhile is unknown: nothing is let go before it is read again.
            self._known.clear()
            self.behind = True

    def _of(self, resource: Resource) -> list[Json]:
        return [order for order in self.orders if order["kind"] == resource.kind]
