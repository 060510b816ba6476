"""Who would start the targets of a plan again, before anything is stopped. Pure.

What each kind of fighter does is `fighters.TABLE`; here its objects are met with a plan's targets, at a
cost that grows with both and not with their product.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from killswitch.core import fighters
from killswitch.core.fighters import Fighter

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Opponent:
    """One object that starts targets of the plan."""

    name: str
    """`ScaledObject prod/vllm`."""
    targets: tuple[str, ...]
    """`Deployment vllm`."""
    rests: bool
    """Whether it does nothing at 0."""
    words: str
    """What it would do."""
    quiet: str
    """How `spec.quiet` names it; empty where it is never paused."""
    paused: bool
    """Whether the stop would pause it."""

    @property
    def starts(self) -> bool:
        """Whether a release would let it start them."""
        return not (self.rests or self.paused)


def of(
    targets: Iterable[Json], found: Iterable[tuple[Fighter, Json]], quiet: Collection[str]
) -> tuple[Opponent, ...]:
    """Those among the objects that start any of the targets; `quiet`: who would be paused."""
    index = _Index(targets)
    met = []
    for fighter, body in found:
        started = [each for each in index.near(body) if fighter.starts(body, each)]
        if not started:
            continue
        judged = fighter.judge(body)
        names = tuple(f"{each['kind']} {each['metadata']['name']}" for each in started)
        paused = not judged.rests and bool(fighter.quiet) and fighter.quiet in quiet
        title = fighters.title(fighter, body)
        met.append(Opponent(title, names, judged.rests, judged.words, fighter.quiet, paused))
    return tuple(met)


class _Index:
    """Targets by everything by which a fighter may be tied to them."""

    def __init__(self, targets: Iterable[Json]) -> None:
        self._uids: dict[str, Json] = {}
        self._near: dict[tuple[str, ...], dict[str, Json]] = defaultdict(dict)
        for each in targets:
            uid = each["metadata"]["uid"]
            self._uids[uid] = each
            for key in self._keys(each):
                self._near[key][uid] = each

    @staticmethod
    def _keys(target: Json) -> Iterator[tuple[str, ...]]:
        metadata = target["metadata"]
        yield "self", metadata["uid"]
        yield "name", metadata.get("namespace", ""), metadata["name"]
        for owner in metadata.get("ownerReferences") or ():
            yield "owner", owner["uid"]
        names = [name for _, name in fighters.claimants(target)]
        names += [(metadata.get("labels") or {}).get("app.kubernetes.io/instance", "")]
        for name in filter(None, names):  # `name`, `namespace/name` or `namespace_name`
            yield "claim", name.replace("_", "/").rpartition("/")[2]

    def near(self, fighter: Json) -> list[Json]:
        """Targets that it may start; whether it does is the fighter's own rule."""
        metadata, spec = fighter["metadata"], fighter.get("spec") or {}
        place = metadata.get("namespace", "")
        reference = (spec.get("scaleTargetRef") or {}).get("name", "")
        keys: list[tuple[str, ...]] = [
            ("self", metadata["uid"]),
            ("name", place, reference),
            ("owner", metadata["uid"]),
            ("claim", metadata["name"]),
        ]
        listed = (fighter.get("status") or {}).get("resources") or ()
        keys += [("name", each.get("namespace", ""), each.get("name", "")) for each in listed]
        found = {uid: each for key in keys for uid, each in self._near.get(key, {}).items()}
        for owner in metadata.get("ownerReferences") or ():
            if owner["uid"] in self._uids:
                found[owner["uid"]] = self._uids[owner["uid"]]
        return list(found.values())
