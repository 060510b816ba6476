"""Condition `Freezable`: whether node guards can freeze a policy's targets for as long as it asks.

It disarms nothing: a freeze that the kubelet cuts short, or that some nodes do not carry out, still is
better than none. It is said before anybody relies on it.
"""

from killswitch.api.compiled import CompiledPolicy
from killswitch.core.budgets import endurance
from killswitch.core.conditions import PolicyCondition, Reason
from killswitch.manager.freezes import first
from killswitch.manager.guards import Guards
from killswitch.manager.status import Judgement
from killswitch.manager.targets import Targets


def asks(policy: CompiledPolicy) -> bool:
    """Whether the policy has anything for node guards to do."""
    return policy.freeze is not None or policy.on_isolation != "Ignore"


def judge(policy: CompiledPolicy, targets: Targets | None, guards: Guards) -> Judgement:
    """The condition; targets are None where the API server did not say what they are."""
    type_ = PolicyCondition.FREEZABLE
    if targets is None:
        words = "the API server did not say what the targets are"
        return (type_, None, Reason.FREEZE_UNKNOWN, words)
    seconds = 0.0 if policy.freeze is None else policy.freeze.seconds
    found = endurance(targets.templates, seconds)
    unguarded = _unguarded(targets, guards)
    if not found.endures:
        words = "; ".join(each for each in (found.restarts, found.withdrawn, unguarded) if each)
        return (type_, False, Reason.LIVENESS_BUDGET, words)
    if not guards.known:
        words = "no report of a node guard has been read yet: may the manager list nodeguards?"
        return (type_, None, Reason.FREEZE_UNKNOWN, words)
    if not targets.pods:
        return (type_, None, Reason.NO_TARGET, "no pod of its targets has a node yet")
    if unguarded:
        return (type_, False, Reason.UNGUARDED, unguarded)
    nodes = {pod.node for pod in targets.pods}
    words = f"{len(targets.pods)} pods on {len(nodes)} nodes with live node guards"
    more = f"; {found.withdrawn}" if found.withdrawn else ""
    return (type_, True, Reason.GUARDED, words + more)


def _unguarded(targets: Targets, guards: Guards) -> str:
    """Where nobody would freeze; empty: everywhere somebody would, or that is not known."""
    absent = guards.absent(pod.node for pod in targets.pods) if guards.known else ()
    if not absent:
        return ""
    count = sum(pod.node in set(absent) for pod in targets.pods)
    return f"no live node guard on {first(absent)}: {count} pods would run on"
