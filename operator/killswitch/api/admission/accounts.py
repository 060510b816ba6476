"""The operator's own accounts: a stolen token of theirs is worth little.

The reactor brings to rest and never back; the manager brings back, which the lock denies while
something is engaged. Beyond RBAC, these policies bound each write to the fields that it is for.
Dry runs pass, but of namespaces: a raise or an uncordon as a dry run is how the reactor proves the lock.
"""

from dataclasses import replace

from killswitch.api.admission.fields import (
    Path,
    at_rest,
    changes_only,
    field,
    kinds_by_settings,
    rules,
)
from killswitch.api.admission.lock import RAISES, WHAT
from killswitch.api.admission.shape import (
    MANAGER,
    REACTOR,
    Json,
    Validation,
    Variable,
    has_label,
    listed,
    policy,
    rule,
)
from killswitch.core import fighters, kinds
from killswitch.core.fighters import Fighter
from killswitch.core.kinds import Setting, Verb
from killswitch.core.names import (
    CUT_KEY,
    FENCE_ANNOTATION,
    GOVERNED_LABEL,
    MIRROR_ANNOTATION,
    PROTECTED_NAMESPACES,
    QUARANTINE_TAINT,
    STOPPED_TAINT,
)
from killswitch.core.resources import INFERENCE_POOLS, SERVICES, Resource

_REACTOR = f"request.userInfo.username == '{REACTOR}'"
_MANAGER = f"request.userInfo.username == '{MANAGER}'"
_OPERATOR: list[Variable] = [
    ("operator", f"request.userInfo.username in ['{REACTOR}', '{MANAGER}']"),
    ("not-a-dry-run", "!has(request.dryRun) || !request.dryRun"),
]
_GOVERNED: Validation = (
    has_label("namespaceObject", GOVERNED_LABEL),
    "the operator acts in governed namespaces only",
)


def accounts() -> list[Json]:
    """What the operator does to workloads, and where."""
    held = [kind.resource for kind in kinds.TABLE.values() if kind.settings]
    return policy(
        "accounts",
        "The operator deletes pods and rests workloads in governed namespaces only; the reactor"
        " only lowers, and neither changes anything else of a workload.",
        match={
            "resourceRules": [
                rule("", "pods", "DELETE"),
                rule("", "pods/eviction", "CREATE"),
                rule("*", "*/scale", "UPDATE"),
                *rules(held, "UPDATE"),
            ]
        },
        conditions=_OPERATOR,
        variables=RAISES,
        validations=[
            _GOVERNED,
            (
                f"!({_REACTOR}) || request.operation != 'UPDATE' || variables.new <= variables.old",
                "the reactor only lowers: people restore",
            ),
            *(
                (
                    f"variables.scales || !(variables.what in {listed(keys)})"
                    f" || ({_only(settings)})",
                    "the operator changes nothing of a workload but what brings it to rest: "
                    + ", ".join(".".join(each.path) for each in settings),
                )
                for settings, keys in kinds_by_settings(Verb.SCALE, Verb.SET).items()
            ),
        ],
    )


def pods() -> list[Json]:
    """Who makes pods that are more than pods: mirrors of static ones, and what a restore brings back.

    One policy for both, since each that looks at new pods costs every pod of the cluster.

    Only kubelets say that a pod of the API stands for a static one. A guard finds a static pod's cgroup
    by this annotation. Whoever may create pods could claim with it a cgroup that is another's, and have
    it killed by a stop of his own namespace. The API server lets nobody add or change it later. Protected
    namespaces are left out: guards touch nothing there, and no kubelet of an unusual name shall lose the
    mirrors of a control plane.
    """
    mirrors = (
        f"has(object.metadata.annotations) && '{MIRROR_ANNOTATION}' in object.metadata.annotations"
    )
    operator, wet = (expression for _, expression in _OPERATOR)
    governed, words = _GOVERNED
    return policy(
        "pods",
        "Mirror pods are made by kubelets alone; of the operator, only the manager makes pods.",
        match={"resourceRules": [rule("", "pods", "CREATE")]},
        conditions=[("concerned", f"{mirrors} || ({operator} && ({wet}))")],
        variables=[("operator", f"{operator} && ({wet})")],
        validations=[
            (
                f"!({mirrors}) || request.namespace in {listed(PROTECTED_NAMESPACES)}"
                " || request.userInfo.username.startsWith('system:node:')",
                f"the annotation {MIRROR_ANNOTATION} is for kubelets: leave it out",
            ),
            (f"!variables.operator || {governed}", words),
            (
                f"!variables.operator || {_MANAGER} && !has(object.metadata.ownerReferences)"
                " && !has(object.spec.nodeName)",
                "the operator creates no pod but one that the manager restores: without an owner,"
                " for the scheduler to place",
            ),
        ],
    )


def _only(settings: tuple[Setting, ...]) -> str:
    """Only these fields change, and by the reactor only to what brings to rest."""
    to_rest = " && ".join(
        f"({at_rest('object', each)}"
        f" || {field('object', each.path)} == {field('oldObject', each.path)})"
        for each in settings
    )
    return f"{changes_only(*(each.path for each in settings))} && (!({_REACTOR}) || {to_rest})"


# Of what leads traffic: where it selects pods. Only the alpha InferencePool has no `matchLabels`.
_SELECTORS: tuple[tuple[Resource, Path], ...] = (
    (SERVICES, ("spec", "selector")),
    (INFERENCE_POOLS, ("spec", "selector", "matchLabels")),
    (replace(INFERENCE_POOLS, group="inference.networking.x-k8s.io"), ("spec", "selector")),
)


def account_selectors() -> list[Json]:
    """Cutting traffic is one key more in a selector, which no pod carries; and only that.

    Any other change of a selector would lead requests to other pods. One that selects nothing has
    its endpoints written by somebody: with a key they would be replaced.
    """
    validations = [_GOVERNED]
    for resource, place in _SELECTORS:
        key = (*place, CUT_KEY)
        after, before = field("object", key), field("oldObject", key)
        selects = f"size({field('oldObject', place)}.orValue({{}})) > 0"
        cuts = f"{after}.hasValue() && (!{before}.hasValue() || {after} == {before}) && {selects}"
        validations.append(
            (
                f"variables.what != '{resource.key}' || ({changes_only(key)}"
                f" && ({_REACTOR} ? ({cuts}) : !{after}.hasValue()))",
                f"of a {resource.kind} the reactor sets, and the manager removes,"
                f" the key {CUT_KEY} of its selector, and nothing else changes",
            )
        )
    return policy(
        "account-selectors",
        "The operator's accounts cut traffic, give it back, and change nothing else of Services.",
        match={"resourceRules": rules((each for each, _ in _SELECTORS), "UPDATE")},
        conditions=_OPERATOR,
        variables=[WHAT],
        validations=validations,
    )


def account_fighters() -> list[Json]:
    """Who would start it again is paused after the stop by the manager, by its own fields.

    They stand where their owners keep them, mostly in namespaces that are not governed. That what is
    written back is what was there, CEL cannot see.
    """
    quieted = {each.resource: each for each in fighters.TABLE if each.resource and each.ways}
    return policy(
        "account-fighters",
        "The manager pauses autoscalers and GitOps, and changes nothing else of them.",
        match={"resourceRules": rules(quieted, "UPDATE")},
        conditions=_OPERATOR,
        variables=[WHAT],
        validations=[
            (_MANAGER, "the reactor pauses nobody: the manager does, after the stop"),
            *(
                (
                    f"variables.what != '{resource.key}' || {_quiets(fighter)}",
                    f"of a {resource.kind} the manager changes nothing but "
                    + " or ".join(".".join(each.path) for way in fighter.ways for each in way),
                )
                for resource, fighter in quieted.items()
            ),
        ],
    )


def _quiets(fighter: Fighter) -> str:
    """Whether nothing changes but by one way to quiet it, or back.

    A field that is at rest when absent goes or comes as a whole: it is not rewritten.
    """
    ways = []
    for way in fighter.ways:
        whole = [
            f"(!{field('object', each.path)}.hasValue()"
            f" || !{field('oldObject', each.path)}.hasValue())"
            for each in way
            if each.rest is None
        ]
        ways.append(" && ".join([changes_only(*(each.path for each in way)), *whole]))
    return " || ".join(f"({each})" for each in ways)


_LABELS: list[Variable] = [
    ("new", "has(object.metadata.labels) ? object.metadata.labels : {}"),
    ("old", "has(oldObject.metadata.labels) ? oldObject.metadata.labels : {}"),
]
_ANNOTATIONS = "has({of}.metadata.annotations) ? {of}.metadata.annotations : {{}}"


def account_namespaces() -> list[Json]:
    """The operator governs namespaces; ungoverning is people's, and so is all else of them.

    Without this a stolen token could take Pod Security labels off a namespace.
    """
    after, before = _ANNOTATIONS.format(of="object"), _ANNOTATIONS.format(of="oldObject")
    return policy(
        "account-namespaces",
        "The operator's accounts change nothing of a Namespace but what they govern by.",
        match={"resourceRules": [rule("", "namespaces", "UPDATE", "*")]},
        conditions=_OPERATOR[:1],
        variables=_LABELS,
        validations=[
            (_labels(), f"the operator sets no label of a Namespace but {GOVERNED_LABEL}"),
            (
                f"({after}) == ({before}) && object.spec == oldObject.spec",
                "the operator changes nothing of a Namespace but what it governs by",
            ),
        ],
    )


def account_nodes() -> list[Json]:
    """The reactor cordons, taints and asks for fencing; the manager undoes it. Nothing else.

    The governed label comes and goes with the cordon: the node lock is selected by it.
    """
    ours = f"t.key in {listed((STOPPED_TAINT, QUARANTINE_TAINT))}"
    # The node controller sets and takes this one after the cordon, whenever it gets to it.
    ignored = "t.key == 'node.kubernetes.io/unschedulable'"
    taints = "has({of}.spec.taints) ? {of}.spec.taints : []"
    others = f"filter(t, !({ours}) && !({ignored}))"
    effect = f"t.effect == (t.key == '{STOPPED_TAINT}' ? 'NoExecute' : 'NoSchedule')"
    fence = field("{of}", ("metadata", "annotations", FENCE_ANNOTATION))
    after, before = fence.format(of="object"), fence.format(of="oldObject")
    only_cordon = changes_only(
        ("metadata", "labels", GOVERNED_LABEL),
        ("metadata", "annotations", FENCE_ANNOTATION),
        ("spec", "unschedulable"),
        ("spec", "taints"),
    )
    opens = (
        "oldObject.?spec.?unschedulable == optional.of(true)"
        " && object.?spec.?unschedulable != optional.of(true)"
        f" || {has_label('oldObject', GOVERNED_LABEL)} && !{has_label('object', GOVERNED_LABEL)}"
    )
    return policy(
        "account-nodes",
        "The operator's accounts change nothing of a Node but what they stop it by.",
        match={"resourceRules": [rule("", "nodes", "UPDATE", "*")]},
        conditions=_OPERATOR,
        variables=[
            *_LABELS,
            ("taints", taints.format(of="object")),
            ("oldTaints", taints.format(of="oldObject")),
        ],
        validations=[
            (
                _labels(f" || k == '{GOVERNED_LABEL}'"),
                f"the operator sets no label of a Node but {GOVERNED_LABEL}",
            ),
            (
                f"{only_cordon} && variables.taints.{others} == variables.oldTaints.{others}",
                "the operator changes nothing of a Node but what it stops it by",
            ),
            (
                f"!({_REACTOR}) || !({opens})"
                f" && variables.oldTaints.all(t, !({ours}) || t in variables.taints)"
                f" && variables.taints.all(t, !({ours}) || {effect} || t in variables.oldTaints)"
                f" && ({after} == {before} || !{before}.hasValue())",
                "the reactor cordons a Node, taints it and asks for its fencing, and undoes none of it",
            ),
            (
                f"!({_MANAGER}) || variables.taints.all(t, !({ours}) || t in variables.oldTaints)"
                f" && ({after} == {before} || !{after}.hasValue())",
                "the manager takes off a Node what stopped it, and adds nothing",
            ),
        ],
    )


def _labels(removable: str = "") -> str:
    """Whether no label differs but the governed one, which may come."""
    added = f"(k == '{GOVERNED_LABEL}' && variables.new[k] == 'true')"
    kept = "(k in variables.old && variables.old[k] == variables.new[k])"
    return (
        f"variables.new.all(k, {added} || {kept})"
        f" && variables.old.all(k, k in variables.new{removable})"
    )
