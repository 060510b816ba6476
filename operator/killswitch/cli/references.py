"""How objects are named on the command line: `NAME` or `kind/NAME`."""

from dataclasses import dataclass

from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import Problem
from killswitch.core import kinds
from killswitch.core.resources import (
    CLUSTER_POLICIES,
    CLUSTER_SHUTDOWNS,
    FREEZES,
    POLICIES,
    SHUTDOWNS,
    Resource,
)

_SHORT = {
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
    **{
        kind.resource: (kind.resource.kind.lower(), kind.resource.plural, *_SHORT.get(name, ()))
        for name, kind in kinds.TABLE.items()
    },
}
_BY_WORD = {word: resource for resource, words in _WORDS.items() for word in words}


@dataclass(frozen=True, slots=True)
class Reference:
    """What a person named. `resource` is None for a bare name: a Shutdown of either kind."""

    resource: Resource | None
    name: str


def parse(text: str, *, allowed: tuple[Resource, ...]) -> Reference:
    """The reference; Problem (usage) for a kind that the command has nothing to say about."""
    word, slash, name = text.rpartition("/")
    if not slash:
        return Reference(None, text)
    # kubectl prints shutdown.killswitch.dev/NAME: what was copied from it works here.
    resource = _BY_WORD.get(word.lower().split(".", maxsplit=1)[0])
    if resource not in allowed or not name:
        kinds = ", ".join(f"{_WORDS[each][0]}/NAME" for each in allowed)
        raise Problem(
            f"read {text!r}", "this is not a kind meant here", f"write {kinds}", ExitCode.USAGE
        )
    return Reference(resource, name)


def shown(resource: Resource, name: str, namespace: str) -> str:
    """How an object is named in answers: `Shutdown prod/vllm-1`, `ClusterShutdown gpu-1`."""
    return (
        f"{resource.kind} {namespace}/{name}" if resource.namespaced else f"{resource.kind} {name}"
    )


def argument(resource: Resource, name: str, namespace: str) -> str:
    """How an object is named in the next command: `vllm-1 -n prod`, `gpu-1 --cluster`."""
    return f"{name} -n {namespace}" if resource.namespaced else f"{name} --cluster"
