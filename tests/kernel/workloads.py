"""An object of every kind of the table, as the API server accepts it, running or at rest."""

import copy
from typing import Any

from killswitch.core import kinds
from killswitch.core.kinds import Kind, Scalar
from killswitch.core.resources import CRON_JOBS, JOBS, REPLICATION_CONTROLLERS, STATEFULSETS
from tests.kernel.objects import Json, pod

_POD = {"containers": [{"name": "c", "image": "i"}]}
_JOB = {"template": {"spec": {**_POD, "restartPolicy": "Never"}}}
HELD = [kind for kind in kinds.TABLE.values() if kind.settings]
"""Every kind with something to write to it."""


def running(kind: Kind) -> dict[tuple[str, ...], Scalar]:
    """What stands in the fields of a kind that runs."""
    return {each.path: _otherwise(each.rest) for each in kind.settings}


def _otherwise(rest: Scalar) -> Scalar:
    if isinstance(rest, bool):
        return not rest
    return 3 if isinstance(rest, int) else {"Suspended": "Running"}.get(str(rest), "None")


def resting(kind: Kind) -> dict[tuple[str, ...], Scalar]:
    """What stands in the fields of a kind at rest."""
    return {each.path: each.rest for each in kind.settings}


def workload(
    kind: Kind, name: str, values: dict[tuple[str, ...], Scalar] | None = None, **metadata: Any
) -> Json:
    """An object of this kind with these values in it; without any it lacks the fields."""
    body: Json = {
        "apiVersion": kind.resource.api_version,
        "kind": kind.resource.kind,
        "metadata": {"name": name, "labels": {"app": name}, "annotations": {"team": "a"}},
        "spec": _spec(kind, name),
    }
    body["metadata"] |= metadata
    written = {path: value for path, value in (values or {}).items() if value is not None}
    return merged(body, kinds.patch(written.items()))


def _spec(kind: Kind, name: str) -> Json:
    labels = {"app": name}
    key, template = kind.resource.key, {"metadata": {"labels": labels}, "spec": _POD}
    if key == JOBS.key:
        return copy.deepcopy(_JOB)
    if key == CRON_JOBS.key:
        return {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": copy.deepcopy(_JOB)}}
    if kind.resource.group not in kinds.BUILT_IN_GROUPS:
        return {}
    plain = key == REPLICATION_CONTROLLERS.key
    spec: Json = {"selector": labels if plain else {"matchLabels": labels}, "template": template}
    if key == STATEFULSETS.key:
        spec["serviceName"] = "s"
    return copy.deepcopy(spec)


def owned(owner: Kind, name: str, uid: str) -> Json:
    """A reference to the controlling owner."""
    of = {"apiVersion": owner.resource.api_version, "kind": owner.resource.kind}
    return {**of, "name": name, "uid": uid, "controller": True}


def pod_of(owner: Kind, name: str, uid: str) -> Json:
    """A pod that this owner made."""
    return pod("p", owner=owned(owner, name, uid))


def merged(body: Json, change: Json) -> Json:
    """As a merge patch would leave it."""
    for key, value in change.items():
        if isinstance(value, dict):
            body[key] = merged(body.get(key) or {}, value)
        else:
            body[key] = value
    return body
