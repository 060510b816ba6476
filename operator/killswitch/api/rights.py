"""What the operator's processes and people may do with the kinds that it knows, as RBAC rules.

`make gen` writes them beside the chart, whose roles take them in. RBAC does not ask whether a group is
served: rules of kinds that a cluster lacks lie idle. The admission policies narrow them further.
"""

from collections.abc import Iterable

from killswitch.api.admission.shape import Json
from killswitch.core import kinds
from killswitch.core.kinds import Verb
from killswitch.core.quieting import QUIETED
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
    """Who would start it again."""
    return rules((each.resource for each in QUIETED), *_READ, "patch")


def roles() -> dict[str, list[Json]]:
    """By the chart's role."""
    own = [*seen(), *scaled("patch"), *rested(), *cut()]
    return {
        "reactor": own,
        "manager": [*own, *quieted()],
        "responder": [*seen(), *scaled("get", "patch")],
        "rester": rested(),
    }


def _of(*verbs: Verb) -> list[Resource]:
    return [kind.resource for kind in kinds.TABLE.values() if kind.verb in verbs]
