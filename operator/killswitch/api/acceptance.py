"""Whether a stored policy can work: one judgement for the manager's report and the reactor's use.

The API server has checked the schema; here is what it cannot: PromQL, numbers beyond floats, and
objects stored before a rule existed. A policy is accepted whole or not at all.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from killswitch.api.compiled import AnyPolicy, CompiledPolicy, compiled
from killswitch.api.policies import ClusterKillSwitchPolicy, KillSwitchPolicy
from killswitch.core import durations, kinds
from killswitch.core.errors import InvalidPolicyError

Check = Callable[[str, str], object]
"""Judges a query: called with the field's path and the text; raises InvalidPolicyError."""


def accept(body: Mapping[str, Any], check: Check) -> CompiledPolicy:
    """The policy in core terms; InvalidPolicyError naming the field and the cure."""
    model: type[AnyPolicy] = KillSwitchPolicy
    if body["kind"] == "ClusterKillSwitchPolicy":
        model = ClusterKillSwitchPolicy
    try:
        policy = model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        cure = f"see kubectl explain {body['kind'].lower()}.{field}"
        raise InvalidPolicyError(field, first["msg"], cure) from error
    result = compiled(policy)
    for signal in result.signals:
        if signal.query:
            check(signal.query_field, signal.query)
    _check_kinds(result)
    _check_wish(policy, result)
    return result


def _check_kinds(policy: CompiledPolicy) -> None:
    """Refuse targets that can have no pods: a policy on them would look armed and stop nothing."""
    for query in policy.queries:
        if kinds.owns_nothing(query.kind):
            raise InvalidPolicyError(
                "spec.targets",
                f"a {query.kind} makes no pods, so nothing would stop by it",
                "name the workload that makes the pods; give a kind outside of the core API its group"
                " (Service of Knative: group serving.knative.dev)",
            )


def _check_wish(policy: AnyPolicy, result: CompiledPolicy) -> None:
    """Refuse hold-downs that leave no time for anything else, whatever the cluster is like."""
    if policy.spec.react_within is None:
        return
    within = durations.seconds(policy.spec.react_within)
    long = [each for each in result.rules if each.hold_down >= within]
    if len(result.rules) - len(long) < result.quorum:
        raise InvalidPolicyError(
            f"spec.signals[{long[0].signal}].for",
            f"{durations.text(long[0].hold_down)} leave no time to react within"
            f" {durations.text(within)}, as reactWithin asks",
            "shorten it, or raise reactWithin",
        )
