"""What the kernel and the chart say of kinds comes from their table: a new row cannot be forgotten."""

from collections.abc import Iterable

import pytest

from killswitch.api import admission, rights
from killswitch.api.admission import fields
from killswitch.core import fighters, kinds
from killswitch.core.kinds import Kind, Setting, Verb
from killswitch.core.resources import PODS, Resource

Json = dict[str, object]
each_kind = pytest.mark.parametrize("kind", kinds.TABLE.values(), ids=str)
LOCKS = ("killswitch-lock", "killswitch-cluster-lock")


def policy(name: str) -> dict[str, object]:
    """The spec of a policy of the kernel."""
    (found,) = [
        each["spec"]
        for each in admission.manifests()
        if each["metadata"]["name"] == name and each["kind"] == "ValidatingAdmissionPolicy"
    ]
    return dict(found)


def operations(name: str, resource: Resource) -> set[str]:
    """Which writes of a resource a policy looks at."""
    matched = policy(name)["matchConstraints"]["resourceRules"]  # type: ignore[index]
    return {
        operation
        for rule in matched
        if resource.group in rule["apiGroups"] and resource.plural in rule["resources"]
        for operation in rule["operations"]
    }


def variable(name: str, of: str) -> str:
    """The expression of a policy's variable."""
    (found,) = [each for each in policy(name)["variables"] if each["name"] == of]  # type: ignore[attr-defined]
    return str(found["expression"])


@pytest.mark.parametrize("lock", LOCKS)
@each_kind
def test_the_lock_looks_at_every_kind(lock: str, kind: Kind) -> None:
    """At each write that could start it; what has no field to stop it starts by being made."""
    expected = {"CREATE", "UPDATE"} if kind.settings else {"CREATE"}
    assert operations(lock, kind.resource) == expected
    new, old = variable(lock, "new"), variable(lock, "old")
    if kind.verb is Verb.SET or kind.verb is Verb.NONE:
        assert f"'{kind.resource.key}'" in new
        assert f"'{kind.resource.key}'" in old
    for setting in kind.settings:
        assert fields.field("object", setting.path) in new
        assert fields.field("oldObject", setting.path) in old


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_looks_at_what_stands_between_a_kind_and_its_pods(lock: str) -> None:
    """Where that is made anew it has a uid that no lock names."""
    for link in kinds.LINKS:
        assert operations(lock, link) == {"CREATE"}


@each_kind
def test_the_operators_accounts_are_bounded_for_every_kind(kind: Kind) -> None:
    """By the fields that a stop of it writes; a kind that is made again by its creation."""
    seen = operations("killswitch-accounts", kind.resource)
    if kind.settings:
        assert "UPDATE" in seen
    if kind.resource == PODS:
        assert "CREATE" in operations("killswitch-pods", kind.resource)


@pytest.mark.parametrize(
    ("path", "expression"),
    [
        (("spec", "suspend"), "object.?spec.?suspend"),
        (("metadata", "annotations", "a.io/b"), "object.?metadata.?annotations[?'a.io/b']"),
        (("spec", "a-b", "c"), "object.?spec[?'a-b'].?c"),
    ],
)
def test_a_field_is_read_where_nothing_need_be(path: tuple[str, ...], expression: str) -> None:
    """Names that are no identifiers are keys."""
    assert fields.field("object", path) == expression


@pytest.mark.parametrize(
    ("rest", "literal"), [(True, "true"), (False, "false"), (0, "0"), ("0", "'0'"), ("a", "'a'")]
)
def test_a_value_at_rest_is_compared_with_its_type(rest: kinds.Scalar, literal: str) -> None:
    """The annotation "true" is not the boolean, and 0 is not false."""
    found = fields.at_rest("object", Setting(("spec", "x"), rest=rest))
    assert found == f"object.?spec.?x == optional.of({literal})"


def test_what_may_change_is_free_at_every_level_and_nothing_else_is() -> None:
    """Each level is compared but for the way down, and the annotations always."""
    found = fields.changes_only(("spec", "a", "b"), ("spec", "c"))
    levels = {
        "object.all(k, k in ['metadata', 'spec'] ||",
        "object.?spec.orValue({}).all(k, k in ['a', 'c'] ||",
        "object.?spec.?a.orValue({}).all(k, k in ['b'] ||",
        "object.?metadata.orValue({}).all(k, k in ['annotations', 'generation',",
        "object.?metadata.?annotations.orValue({}).all(k,",
    }
    assert {each for each in levels if each not in found} == set()


def granted(rules: Iterable[Json], verb: str) -> set[tuple[str, str]]:
    """Group and resource of what rules let do."""
    return {
        (group, resource)
        for rule in rules
        if verb in rule["verbs"]  # type: ignore[operator]
        for group in rule["apiGroups"]  # type: ignore[attr-defined]
        for resource in rule["resources"]  # type: ignore[attr-defined]
    }


def _place(resource: Resource, subresource: str = "") -> tuple[str, str]:
    return resource.group, resource.plural + (f"/{subresource}" if subresource else "")


@pytest.mark.parametrize("role", ["reactor", "manager"])
@each_kind
def test_processes_may_see_every_kind_and_write_what_rests_it(role: str, kind: Kind) -> None:
    """The object where a field is written, `/scale` where a count is, and never both."""
    rules = rights.roles()[role]
    for verb in ("get", "list", "watch"):
        assert _place(kind.resource) in granted(rules, verb)
    patched = granted(rules, "patch")
    assert (_place(kind.resource) in patched) is (kind.verb is Verb.SET)
    assert (_place(kind.resource, "scale") in patched) is (kind.verb is Verb.SCALE)


@each_kind
def test_responders_may_see_and_scale_and_change_no_object(kind: Kind) -> None:
    """Changing whole objects is a role of its own."""
    rules = rights.roles()
    assert _place(kind.resource) in granted(rules["responder"], "list")
    patched = granted(rules["responder"], "patch")
    assert (_place(kind.resource, "scale") in patched) is (kind.verb is Verb.SCALE)
    assert _place(kind.resource) not in patched
    assert (_place(kind.resource) in granted(rules["rester"], "patch")) is (kind.verb is Verb.SET)


def test_the_manager_may_see_every_fighter_and_pause_those_that_can_be() -> None:
    """The reactor may see none: quieting is not on the way of a stop."""
    manager, reactor = (rights.roles()[each] for each in ("manager", "reactor"))
    for fighter in fighters.TABLE:
        if fighter.resource is None:
            continue
        place = _place(fighter.resource)
        assert place in granted(manager, "list")
        assert not fighter.ways or place in granted(manager, "patch")
        assert not fighter.ways or place not in granted(reactor, "list")


def test_no_process_may_do_more_than_see_and_patch() -> None:
    """Of kinds: no wildcard, and no verb that makes or removes an object."""
    for rules in rights.roles().values():
        for rule in rules:
            assert {"get", "list", "watch", "patch"} >= set(rule["verbs"])
            assert "*" not in [*rule["apiGroups"], *rule["resources"]]
