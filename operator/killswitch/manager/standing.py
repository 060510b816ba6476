"""Standing orders: what node guards do with a policy's targets while nobody can reach their node.

They lie ready in each namespace of a policy that asks for them, acts, and is Ready. What cannot be
looked up changes nothing: an order that is a little old is better than none when the link breaks.
"""

from collections import Counter
from collections.abc import Iterator

from killswitch.api.compiled import CompiledPolicy
from killswitch.api.policies import Mode
from killswitch.core.errors import NotFoundError
from killswitch.core.resources import STANDING_ORDERS
from killswitch.core.stops import Stop
from killswitch.manager.rounds import Key
from killswitch.manager.status import FIELD_MANAGER
from killswitch.manager.targets import Targets
from killswitch.ports import Cluster, Json

Place = tuple[str, str]
"""Namespace and name."""


class StandingOrders:
    """Kept as the policies want them."""

    def __init__(self, cluster: Cluster) -> None:
        """Nothing has been looked at."""
        self._cluster = cluster
        self._bare: dict[Key, str] = {}
        """Policies (uid) that are known to have none, and want none."""

    def forget(self, key: Key) -> None:
        """The policy has gone; its orders go with it, by their owner reference."""
        self._bare.pop(key, None)

    async def withdraw(self, key: Key, uid: str) -> None:
        """Let there be none of this policy."""
        if self._bare.get(key) == uid:
            return
        _, ours = await self._stored(key, uid)
        for place, body in ours.items():
            await self._delete(place, body)
        self._bare[key] = uid

    async def keep(self, key: Key, policy: CompiledPolicy, targets: Targets) -> None:
        """Let those of this policy be what it wants now: nothing is written that stands already."""
        self._bare.pop(key, None)
        others, ours = await self._stored(key, policy.uid)
        wanted = dict(_wanted(policy, targets, others))
        owner = {
            "apiVersion": key.resource.api_version,
            "kind": key.resource.kind,
            "name": policy.name,
            "uid": policy.uid,
        }
        for (namespace, name), spec in wanted.items():
            before = ours.get((namespace, name))
            if before is None or before["spec"] != spec:
                body = {"metadata": {"name": name, "ownerReferences": [owner]}, "spec": spec}
                await self._cluster.apply(
                    STANDING_ORDERS, name, body, namespace, manager=FIELD_MANAGER
                )
        for place in ours.keys() - wanted.keys():
            await self._delete(place, ours[place])

    async def _stored(self, key: Key, uid: str) -> tuple[set[Place], dict[Place, Json]]:
        """Where others' orders are, and those of this policy; a cluster policy's are everywhere."""
        others: set[Place] = set()
        ours: dict[Place, Json] = {}
        for body in (await self._cluster.list(STANDING_ORDERS, key.namespace)).items:
            place = (body["metadata"]["namespace"], body["metadata"]["name"])
            if body["spec"]["policy"]["uid"] == uid:
                ours[place] = body
            else:
                others.add(place)
        return others, ours

    async def _delete(self, place: Place, body: Json) -> None:
        namespace, name = place
        try:
            await self._cluster.delete(
                STANDING_ORDERS, name, namespace, uid=body["metadata"]["uid"]
            )
        except NotFoundError:
            return


def wants(policy: CompiledPolicy) -> bool:
    """Whether this policy, once it is Ready, has standing orders."""
    return policy.mode is Mode.ENFORCE and policy.on_isolation != "Ignore"


def _wanted(
    policy: CompiledPolicy, targets: Targets, others: set[Place]
) -> Iterator[tuple[Place, Json]]:
    """The policy's orders: one per namespace, and more where one has no room for all locks."""
    name = policy.name if policy.namespace else f"cluster-{policy.name}"
    parts: Counter[str] = Counter()
    for stop in targets.stops:
        parts[stop.namespace] += 1
        number = parts[stop.namespace]
        own = name if number == 1 else f"{name}-part-{number}"
        if (stop.namespace, own) in others:  # another policy's name may end or begin like that
            own = f"{own}-{policy.uid[:8]}"
        yield (stop.namespace, own), _spec(policy, stop)


def _spec(policy: CompiledPolicy, stop: Stop) -> Json:
    held: Json = {"scope": {"wholeNamespace": True}} if stop.whole_namespace else {}
    return {
        "policy": {"kind": policy.kind, "name": policy.name, "uid": policy.uid},
        "onIsolation": policy.on_isolation,
        "after": policy.isolated_after,
        **(held or {"locks": dict(stop.locks)}),
    }
