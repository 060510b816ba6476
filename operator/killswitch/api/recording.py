"""The ShutdownRecords that a stop writes: its evidence, and what was there before."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from killswitch.core.inventory import Node, Workload
from killswitch.core.kinds import Setting
from killswitch.core.manifests import BarePod
from killswitch.core.names import SHUTDOWN_LABEL
from killswitch.core.resources import FREEZES, PODS, RECORDS, SHUTDOWNS
from killswitch.core.traffic import Entrance

Json = dict[str, Any]
CHUNK = 500
"""Targets per record: 500 take about 150 kB, far below etcd's 1.5 MB."""
ROOM = 900_000
"""Characters of targets per record: with a pod's manifest one may have 64 Ki of them."""
Touched = Workload | Node | Entrance | BarePod
"""What a stop records before it changes or ends it."""


def of_evidence(shutdown: Mapping[str, Any], evidence: Json, namespace: str) -> Json:
    """The record that holds the evidence whose digest the Shutdown carries."""
    return _record(shutdown, "evidence", namespace, {"evidence": evidence})


def of_targets(
    shutdown: Mapping[str, Any],
    targets: Sequence[Touched],
    namespace: str,
    *,
    first: int = 0,
) -> list[Json]:
    """Records of what was there, in chunks numbered from `first`."""
    return [
        _record(shutdown, f"targets-{number}", namespace, {"targets": chunk})
        for number, chunk in enumerate(_chunks(map(_target, targets)), start=first)
    ]


def of_fighters(
    shutdown: Mapping[str, Any], entries: Sequence[Json], namespace: str, *, number: int
) -> Json:
    """The record of what fighters were before they were quieted; `number` is its own."""
    return _record(shutdown, f"fighters-{number}", namespace, {"targets": list(entries)})


def of_settings(values: Sequence[tuple[Setting, Any]]) -> list[Json]:
    """`settings` of a target's record: what stood in each of these fields; None is absent."""
    return [
        {"field": setting.pointer} | ({} if was is None else {"was": json.dumps(was)})
        for setting, was in values
    ]


def _chunks(targets: Iterable[Json]) -> list[list[Json]]:
    chunks: list[list[Json]] = []
    room = 0
    for each in targets:
        manifest = json.dumps(each.get("manifest", ""))  # a text within a text: it grows
        size = len(manifest) + len(each.get("settings", ())) * 1024 + 1024
        if not chunks or len(chunks[-1]) == CHUNK or size > room:
            chunks.append([])
            room = ROOM
        chunks[-1].append(each)
        room -= size
    return chunks


def _record(shutdown: Mapping[str, Any], suffix: str, namespace: str, content: Json) -> Json:
    metadata = shutdown["metadata"]
    # Shutdown, ClusterShutdown and Freeze may share a name; their records may not.
    scope = {SHUTDOWNS.kind: "", FREEZES.kind: "freeze-"}.get(shutdown["kind"], "cluster-")
    return {
        "apiVersion": RECORDS.api_version,
        "kind": RECORDS.kind,
        "metadata": {
            # A name may come again after its Shutdown was deleted; a record must not be mistaken.
            "name": f"{metadata['name']}-{scope}{metadata['uid'][:8]}-{suffix}",
            "namespace": namespace,
            # The uid: a name may be longer than a label's value can be.
            "labels": {SHUTDOWN_LABEL: metadata["uid"]},
        },
        "spec": {
            "shutdown": metadata["name"],
            "shutdownKind": shutdown["kind"],
            "shutdownUid": metadata["uid"],
            **content,
        },
    }


def _target(item: Touched) -> Json:
    if isinstance(item, BarePod):
        pod = {"kind": PODS.kind, "name": item.pod.name, "uid": item.uid}
        return pod if item.manifest is None else {**pod, "manifest": item.manifest}
    if isinstance(item, Entrance):
        entrance = {"kind": item.kind, "name": item.name, "uid": item.uid}
        return {**entrance, "settings": of_settings([(item.setting, item.was)])}
    if isinstance(item, Node):
        return {
            "kind": "Node",
            "name": item.name,
            "uid": item.uid,
            "unschedulable": item.unschedulable,
            "taints": [str(each) for each in item.taints][:16],
        }
    found: Json = {
        "kind": item.kind.name,
        "name": item.name,
        "uid": item.uid,
        "generation": item.generation,
        "templateDigest": item.template_digest,
    }
    # Absent is a value: it means what the kind's default is, and comes back as absent would.
    if item.kind.counted:
        return found if item.replicas is None else {**found, "replicas": item.replicas}
    settings = of_settings(list(zip(item.kind.settings, item.values, strict=True)))
    return {**found, "settings": settings} if settings else found
