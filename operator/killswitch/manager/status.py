"""Write the manager's part of a status, only when it says something new."""

from collections.abc import Sequence

from killswitch.core import conditions, times
from killswitch.core.resources import Resource
from killswitch.ports import Clock, Cluster, Json

FIELD_MANAGER = "killswitch-manager"
Judgement = tuple[str, bool | None, str, str]
"""Condition type, status, reason, message."""


class StatusWriter:
    """Server-side apply on /status: fields of the reactor stay the reactor's."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        """Keeps no state."""
        self._cluster = cluster
        self._clock = clock

    async def write(
        self, resource: Resource, body: Json, judgements: Sequence[Judgement], **fields: object
    ) -> bool:
        """Whether anything was new and has been written. Fields that are None are left out."""
        metadata, before = body["metadata"], body.get("status", {})
        observed = before.get("conditions", ())
        generation = metadata.get("generation", 0)
        now = times.text(self._clock.now())
        entries = [
            conditions.merge(
                observed,
                conditions.make(name, value, reason, text, generation=generation, now=now),
            )
            for name, value, reason, text in judgements
        ]
        status = {key: value for key, value in fields.items() if value is not None}
        same = all(conditions.find(observed, e["type"]) == e for e in entries)
        if same and all(_says(before.get(key), value) for key, value in status.items()):
            return False
        await self._cluster.apply(
            resource,
            metadata["name"],
            {"status": {**status, "conditions": entries}},
            metadata.get("namespace", ""),
            subresource="status",
            manager=FIELD_MANAGER,
        )
        return True


def _says(before: object, value: object) -> bool:
    """Whether it says that already. Of an object some fields may be the reactor's."""
    if isinstance(before, dict) and isinstance(value, dict):
        return all(before.get(key) == each for key, each in value.items())
    return before == value
