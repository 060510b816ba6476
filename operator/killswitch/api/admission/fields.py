"""Fields of objects in CEL, from the table of kinds: read, compared, and kept as they were."""

from collections.abc import Iterable

from killswitch.api.admission.shape import Json, listed, rule
from killswitch.core import kinds
from killswitch.core.kinds import Scalar, Setting, Verb
from killswitch.core.resources import Resource

Path = tuple[str, ...]
# The API server writes these itself with any change.
_COUNTED_BY_SERVER = {
    ("metadata",): ("generation", "managedFields", "resourceVersion"),
    ("metadata", "annotations"): ("deprecated.daemonset.template.generation",),
}


def rules(resources: Iterable[Resource], operations: str) -> list[Json]:
    """One rule for each API group of these namespaced resources."""
    plurals: dict[str, list[str]] = {}
    for each in resources:
        plurals.setdefault(each.group, []).append(each.plural)
    return [rule(group, ",".join(found), operations) for group, found in plurals.items()]


def keys_of(resources: Iterable[Resource]) -> tuple[str, ...]:
    """`deployments.apps` and so on."""
    return tuple(each.key for each in resources)


def kinds_by_settings(*verbs: Verb) -> dict[tuple[Setting, ...], tuple[str, ...]]:
    """Keys of the table's kinds with these verbs, by the settings that they have in common."""
    found: dict[tuple[Setting, ...], tuple[str, ...]] = {}
    for kind in kinds.TABLE.values():
        if kind.verb in verbs:
            found[kind.settings] = (*found.get(kind.settings, ()), kind.resource.key)
    return found


def field(of: str, path: Path) -> str:
    """What stands there, as an optional value: nothing on the way to it has to be there."""
    return of + "".join(f".?{part}" if part.isidentifier() else f"[?'{part}']" for part in path)


def at_rest(of: str, setting: Setting) -> str:
    """Whether the value that brings a controller to rest stands there, and no other."""
    return f"{field(of, setting.path)} == optional.of({_literal(setting.rest)})"


def same(after: str, before: str, *but: str) -> str:
    """Whether two maps are equal apart from some keys."""
    free = f"k in {listed(but)} || " if but else ""
    return (
        f"{after}.all(k, {free}(k in {before} && {after}[k] == {before}[k]))"
        f" && {before}.all(k, {free}k in {after})"
    )


def changes_only(*paths: Path) -> str:
    """Whether an update leaves all of an object as it was but these fields.

    What the API server counts by itself is left out of the comparison.
    """
    below: dict[Path, list[str]] = {(): ["metadata"], ("metadata",): ["annotations"]}
    below[("metadata", "annotations")] = []
    for path in paths:
        for depth, part in enumerate(path):
            known = below.setdefault(path[:depth], [])
            if part not in known:
                known.append(part)
    return " && ".join(
        same(
            _map("object", place),
            _map("oldObject", place),
            *parts,
            *_COUNTED_BY_SERVER.get(place, ()),
        )
        for place, parts in below.items()
    )


def _map(of: str, path: Path) -> str:
    return f"{field(of, path)}.orValue({{}})" if path else of


def _literal(value: Scalar) -> str:
    """A value as CEL writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else f"{value}"
