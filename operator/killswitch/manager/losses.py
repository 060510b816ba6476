"""What a policy's stop would lose for good: refused unless its author accepts it, in the plan's words."""

from killswitch.api.compiled import CompiledPolicy
from killswitch.core import kinds
from killswitch.core.conditions import Reason
from killswitch.core.errors import InvalidPolicyError
from killswitch.core.resources import PODS
from killswitch.manager.targets import Targets

STILL = "in mode Enforce, where the namespace is governed, the reactor would still fire it"
HOLDS = f"{STILL}, locking and deleting the pods without scaling the StatefulSet"
_ACCEPT = "write action.acceptLoss: true to accept that, or leave it out of the targets"


class LossError(InvalidPolicyError):
    """Acting on the policy as it is written would lose what nobody has accepted to lose."""

    def __init__(self, reason: Reason, problem: str, cure: str) -> None:
        super().__init__("spec.targets", problem, cure)
        self.reason = reason


def refuse_named(policy: CompiledPolicy) -> None:
    """LossError if it names a kind whose stop always loses something."""
    for query in policy.queries:
        kind = kinds.TABLE.get(query.kind)
        if kind is not None and kind.lost and kind.resource != PODS:
            problem = f"a stop of a {kind} loses {kind.lost}: {STILL}"
            raise LossError(Reason.LOSS, problem, _ACCEPT)


def refuse_found(targets: Targets) -> None:
    """LossError if among what it would stop now there is something of which more is lost than runs."""
    for stop in targets.stops:
        for each in stop.targets:
            name = f"{each.kind} {each.namespace}/{each.name}"
            if each.deletes_volumes:
                raise LossError(
                    Reason.DATA_LOSS,
                    f"{name} has persistentVolumeClaimRetentionPolicy.whenScaled: Delete,"
                    f" so scaling it to 0 would delete its volumes: {HOLDS}",
                    "set whenScaled: Retain, leave it out of the targets, or write"
                    " action.acceptLoss: true: it is then held without being scaled",
                )
            if each.kind.lost:
                problem = f"a stop of {name} loses {each.kind.lost}: {STILL}"
                raise LossError(Reason.LOSS, problem, _ACCEPT)
    lost = kinds.TABLE[PODS.kind].lost
    for pod in targets.bare if lost else ():
        problem = f"a stop of Pod {pod.namespace}/{pod.name} loses {lost}: {STILL}"
        raise LossError(Reason.LOSS, problem, _ACCEPT)
