"""The pods of this node: which may be touched, which never, and whose cgroup is whose. Pure.

A pod that has gone from the API while it is held stays here as long as its cgroup does: an object
that somebody deletes, as the mirror of a static pod, must not let go of what runs.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from killswitch.core import containment
from killswitch.core.containment import Resident

Json = Mapping[str, Any]


@dataclass(slots=True)
class Residents:
    """Every pod that the API server names for this node, by its uid there."""

    own: str
    """The guard's own pod."""
    protected: frozenset[str]
    _bodies: dict[str, Json] = field(default_factory=dict)
    _pods: dict[str, Resident] = field(default_factory=dict)
    _ghosts: dict[str, tuple[Resident, Json]] = field(default_factory=dict)
    """By cgroup: held, and gone from the API; with what that said last."""

    def put(self, body: Json) -> bool:
        """Add or replace one; returns whether that changed anything."""
        uid = body["metadata"]["uid"]
        if self._bodies.get(uid) == body:
            return False
        found = containment.resident(body)
        if found is None:
            return False
        before = self._pods.get(uid)
        if before is not None and before.cgroup != found.cgroup:
            # A pod keeps its cgroup: whoever takes away its owner does not take it out of there.
            body = _owned_as(self._bodies[uid], body)
            found = dataclasses.replace(found, cgroup=before.cgroup)
            if self._bodies[uid] == body:
                return False
        self._bodies[uid], self._pods[uid] = body, found
        self._ghosts.pop(found.cgroup, None)
        return True

    def remove(self, uid: str, held: Collection[str]) -> None:
        """One has gone from the API; a held one stays as a ghost. Unknown uids are fine."""
        found = self._pods.pop(uid, None)
        if found is None:
            return
        body = self._bodies.pop(uid)
        if found.cgroup in held:
            self._ghosts[found.cgroup] = found, body

    def replace(self, bodies: Iterable[Json], held: Collection[str]) -> None:
        """These are all that the API has."""
        listed = {body["metadata"]["uid"]: body for body in bodies}
        for uid in self._pods.keys() - listed.keys():
            self.remove(uid, held)
        for body in listed.values():
            self.put(body)

    def haunt(self, body: Json) -> None:
        """Recall a ghost; its uid in the API is nobody's any more."""
        if self.put(body):
            uid = body["metadata"]["uid"]
            self.remove(uid, held={self._pods[uid].cgroup})

    def bury(self, cgroups: Collection[str]) -> None:
        """Forget ghosts that have no cgroup left."""
        self._ghosts = {uid: ghost for uid, ghost in self._ghosts.items() if uid in cgroups}

    def touchable(self) -> Iterator[Resident]:
        """Those that orders may be about."""
        forbidden = self.forbidden()
        ghosts = (ghost for ghost, _ in self._ghosts.values())
        for each in (*self._pods.values(), *ghosts):
            if each.cgroup not in forbidden:
                yield each

    def forbidden(self) -> frozenset[str]:
        """Cgroups that are never touched: protected ones, the guard's own, those of unclear owner."""
        exempt = {each.cgroup for each in self._pods.values() if self._exempt(each)}
        return self.disputed() | exempt

    def disputed(self) -> frozenset[str]:
        """Cgroups that two pods claim."""
        return containment.ambiguous(self._pods.values())

    def bodies(self) -> Iterator[Json]:
        """As the API gave them."""
        return iter(self._bodies.values())

    def ghosts(self) -> Iterator[Json]:
        """The same of those that it has no more."""
        return (body for _, body in self._ghosts.values())

    def _exempt(self, who: Resident) -> bool:
        return who.pod.uid == self.own or who.pod.namespace in self.protected


def _owned_as(before: Json, body: Json) -> Json:
    named_by = ("ownerReferences", "annotations")
    rest = {key: value for key, value in body["metadata"].items() if key not in named_by}
    kept = {key: value for key, value in before["metadata"].items() if key in named_by}
    return {**body, "metadata": {**rest, **kept}}
