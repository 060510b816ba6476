"""How objects are named on the command line: `NAME` or `kind/NAME`, as kubectl writes them."""

from collections.abc import Iterable
from dataclasses import dataclass

from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import Problem
from killswitch.core import kinds
from killswitch.core.kinds import Kind
from killswitch.core.resources import (
    CLUSTER_POLICIES,
    CLUSTER_SHUTDOWNS,
    FREEZES,
    POLICIES,
    SHUTDOWNS,
    Resource,
)

_SHORT = {
    "Pod": ("po",),
    "Deployment": ("deploy",),
    "StatefulSet": ("sts",),
    "DaemonSet": ("ds",),
    "ReplicaSet": ("rs",),
    "ReplicationController": ("rc",),
    "CronJob": ("cj",),
    "InferenceService": ("isvc",),
    "InferenceGraph": ("ig",),
    "LLMInferenceService": ("llmisvc",),
    "Service.serving.knative.dev": ("ksvc",),
    "LeaderWorkerSet": ("lws",),
    "Rollout": ("ro",),
}
"""Short names, as their CRDs give them."""
_WORDS = {
    SHUTDOWNS: ("shutdown", "shutdowns", "sd"),
    CLUSTER_SHUTDOWNS: ("clustershutdown", "clustershutdowns", "csd", "cluster"),
    FREEZES: ("freeze", "freezes", "frz"),
    POLICIES: ("policy", "killswitchpolicy", "killswitchpolicies", "ksp"),
    CLUSTER_POLICIES: ("clusterpolicy", "clusterkillswitchpolicy", "cksp"),
}
_BY_WORD = {word: resource for resource, words in _WORDS.items() for word in words}


def _own_words(kind: Kind) -> Iterable[str]:
    """How people may call a kind of the table, with its group behind it and, mostly, without."""
    resource = kind.resource
    plain = (resource.kind.lower(), resource.plural, *_SHORT.get(kind.name, ()))
    if resource.group:
        yield from (f"{word}.{resource.group}" for word in plain)
    yield from _SHORT.get(kind.name, ()) if kind.qualified else plain


_WORKLOADS = {word: kind.name for kind in kinds.TABLE.values() for word in _own_words(kind)}


@dataclass(frozen=True, slots=True)
class Reference:
    """What a person named. `resource` is None for a bare name: a Shutdown of either kind."""

    resource: Resource | None
    name: str


def parse(text: str, *, allowed: tuple[Resource, ...]) -> Reference:
    """The object of ours; Problem (usage) for a kind that the command has nothing to say about."""
    word, slash, name = text.rpartition("/")
    if not slash:
        return Reference(None, text)
    # kubectl prints shutdown.killswitch.dev/NAME: what was copied from it works here.
    resource = _BY_WORD.get(word.lower().removesuffix(f".{SHUTDOWNS.group}"))
    if resource is None or resource not in allowed or not name:
        meant = ", ".join(f"{_WORDS[each][0]}/NAME" for each in allowed)
        raise Problem(
            f"read {text!r}", "this is not a kind meant here", f"write {meant}", ExitCode.USAGE
        )
    return Reference(resource, name)


def is_ours(text: str) -> bool:
    """Whether it is a bare name, or one of killswitch's own objects."""
    word, slash, _ = text.rpartition("/")
    return not slash or word.lower().removesuffix(f".{SHUTDOWNS.group}") in _BY_WORD


def workload(text: str) -> tuple[str, str]:
    """Kind and name of a workload; Problem (usage) where it is none.

    A kind that is not in the table is called with its group, `engines.example.com/x`: the word is
    given back as it is, and the cluster is asked what it means.
    """
    word, slash, name = text.rpartition("/")
    if not slash or not name:
        cure = f"write deployment/{name or 'NAME'} or statefulset/{name or 'NAME'}"
        missing = "its name is missing" if slash else "its kind is missing"
        raise Problem(f"read {text!r}", missing, cure, ExitCode.USAGE)
    known = _WORKLOADS.get(word.lower())
    if known is not None:
        return known, name
    if "." in word.strip("."):
        return word.lower(), name
    why = f"{word!r} alone is no kind that killswitch knows"
    raise Problem(f"read {text!r}", why, _cure(word.lower()), ExitCode.USAGE)


def _cure(word: str) -> str:
    """How to call the kind that was probably meant."""
    meant = [
        kind.word
        for kind in kinds.TABLE.values()
        if kind.qualified and word in {kind.resource.kind.lower(), kind.resource.plural}
    ]
    if meant:
        return f"write {' or '.join(f'{each}/NAME' for each in meant)}"
    return (
        "write e.g. deployment/NAME, statefulset/NAME, job/NAME or isvc/NAME (docs/kinds.md has all);"
        " any other kind with its group: KIND.GROUP/NAME"
    )


def shown(resource: Resource, name: str, namespace: str) -> str:
    """How an object is named in answers: `Shutdown prod/vllm-1`, `ClusterShutdown gpu-1`."""
    return (
        f"{resource.kind} {namespace}/{name}" if resource.namespaced else f"{resource.kind} {name}"
    )


def argument(resource: Resource, name: str, namespace: str) -> str:
    """How an object is named in the next command: `vllm-1 -n prod`, `gpu-1 --cluster`."""
    return f"{name} -n {namespace}" if resource.namespaced else f"{name} --cluster"
