"""What the operator's processes and people may do with the kinds that it knows, as RBAC rules.

`make gen` writes them beside the chart, whose roles take them in. RBAC does not ask whether a group is
served: rules of kinds that a cluster lacks lie idle. The admission policies narrow them further.
"""

from collections.abc import Iterable

from killswitch.api.admission.shape import Json
from killswitch.core import fighters, kinds
from killswitch.core.kinds import Verb
from killswitch.core.resources import INFERENCE_POOLS, SERVICES, Resource

_READ = ("get", "list", "watch")


def rules(resources: Iterable[Resource], *verbs: str, subresource: str = "") -> list[Json]:
    """One rule for each API group."""
    plurals: dict[str, list[str]] = {}
    for each in resources:
        name = f"{each.plural}/{subresource}" if subresource else each.plural
        plurals.setdefault(each.group, []).append(name)
    return [
        {"apiGroups": [group], "resources": found, "verbs": list(verbs)}
        for group, found in plurals.items()
    ]


def seen() -> list[Json]:
    """Reading every kind, and what stands between one and its pods."""
    return rules((*_of(*Verb), *kinds.LINKS), *_READ)


def scaled(*verbs: str) -> list[Json]:
    """The count of every kind that has one, and nothing else of it."""
    return rules(_of(Verb.SCALE), *verbs, subresource="scale")


def rested() -> list[Json]:
    """The fields by which the others stop: RBAC knows objects only, admission knows fields."""
    return rules(_of(Verb.SET), "patch")


def cut() -> list[Json]:
    """What leads requests to pods."""
    return rules((SERVICES, INFERENCE_POOLS), *_READ, "patch")


def quieted() -> list[Json]:
    """Pausing who would start it again, of those that can be paused."""
    return rules((each.resource for each in fighters.TABLE if each.resource and each.ways), "patch")


def fighting() -> list[Json]:
    """Seeing who would start it again."""
    known = (each.resource for each in fighters.TABLE if each.resource)
    others = {kind.resource.key for kind in kinds.TABLE.values()}
    return rules((each for each in known if each.key not in others), *_READ)


def roles() -> dict[str, list[Json]]:
    """By the chart's role."""
    own = [*seen(), *scaled("patch"), *rested(), *cut()]
    return {
        "reactor": own,
        "manager": [*own, *fighting(), *quieted()],
        "responder": [*seen(), *scaled("get", "patch"), *fighting()],
        "rester": rested(),
    }


def _of(*verbs: Verb) -> list[Resource]:
    return [kind.resource for kind in kinds.TABLE.values() if kind.verb in verbs]
