"""The reports of all node guards, mirrored: who asks here asks no API server.

A list at the start and a watch: of 1000 nodes that report every 30 s, 33 small changes a second,
where asking by name, as often as people want to know of a Freeze, would be thousands of requests.
A mirror that the API server no longer feeds grows old, and its guards count as absent: nothing is
believed for longer than `core/reports.SILENT`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

from killswitch.core import reports
from killswitch.core.reports import Report, Word
from killswitch.core.resources import FREEZES, NODE_GUARDS
from killswitch.manager.rounds import Key
from killswitch.ports import Clock, Cluster, Json
from killswitch.reflector import Reflector

Wake = Callable[[Key, float], None]
_PAUSE = 0.2
"""Seconds that a Freeze waits for more reports: a thousand nodes report within the same second."""


class Guards:
    """What is known of each node's guard."""

    def __init__(self, cluster: Cluster, clock: Clock, wake: Wake) -> None:
        """Nothing is asked until `run`; `wake` is called for Freezes that a report speaks of anew."""
        self._clock = clock
        self._wake = wake
        self._reports: dict[str, Report] = {}
        """By uid of the NodeGuard."""
        self._nodes: dict[str, Report] = {}
        self._heard: dict[str, float] = {}
        """When each node's guard last said something new, in this process' elapsed time."""
        self._reflector = Reflector(cluster, clock, NODE_GUARDS, self)

    async def run(self) -> None:
        """Mirror until cancelled."""
        await self._reflector.run()

    @property
    def known(self) -> bool:
        """Whether they have been listed at all: before that, no guard is not absent but unknown."""
        return self._reflector.synced.is_set()

    def live(self, node: str) -> Report | None:
        """The report of this node's guard; None where it is silent or there is none."""
        found = self._nodes.get(node)
        return found if found is not None and found.live(self._clock.now()) else None

    def last(self, node: str) -> Report | None:
        """The last report of this node's guard, however old."""
        return self._nodes.get(node)

    def heard(self, node: str) -> Report | None:
        """The report of a guard that goes on reporting, whatever either clock says; else None."""
        age = self._clock.monotonic() - self._heard.get(node, -math.inf)
        return self._nodes.get(node) if age <= reports.SILENT else None

    def absent(self, nodes: Iterable[str]) -> tuple[str, ...]:
        """Those of the nodes that have no live guard, sorted."""
        return tuple(sorted({node for node in nodes if self.live(node) is None}))

    def put(self, body: Json) -> None:
        """A report came."""
        uid, new = body["metadata"]["uid"], reports.report(body)
        old = self._reports.get(uid, Report(new.node))
        self._reports[uid] = self._nodes[new.node] = new
        if new.renewed != old.renewed:  # not merely listed again
            self._heard[new.node] = self._clock.monotonic()
        for key in set(_news(old.words, new.words)):
            self._wake(key, _PAUSE)

    def remove(self, uid: str) -> None:
        """A NodeGuard has gone."""
        old = self._reports.pop(uid, None)
        if old is not None and self._nodes.get(old.node) is old:
            del self._nodes[old.node]
            self._heard.pop(old.node, None)

    def count(self, *, live: bool) -> float:
        """How many nodes have a guard that is live, or one that is silent; NaN: not known."""
        now = self._clock.now()
        found = sum(each.live(now) is live for each in self._nodes.values())
        return float(found) if self.known else math.nan

    def frozen(self) -> float:
        """How many pods live guards report as frozen; NaN: not known."""
        now = self._clock.now()
        words = (
            word
            for each in self._nodes.values()
            if each.live(now)
            for word in each.words.values()
            if word.state == "Frozen"
        )
        return float(sum(1 for _ in words)) if self.known else math.nan


def _news(old: Mapping[str, Word], new: Mapping[str, Word]) -> Iterator[Key]:
    """The Freezes of which something else is said than before."""
    for uid in old.keys() | new.keys():
        if old.get(uid) != new.get(uid):
            for word in (old.get(uid), new.get(uid)):
                if word is not None and word.order[0] == FREEZES.kind:
                    yield Key(FREEZES, word.order[1], word.order[2])
