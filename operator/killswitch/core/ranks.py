"""Model servers that are one though they are many pods: ranks that wait for each other.

A rank that is silent for longer than its peers' timeout (NCCL, Gloo, Ray heartbeats) ends all of
them: who freezes a part of a group may lose the whole.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from killswitch.core.inventory import Pod

_GROUPS = (
    ("LeaderWorkerSet", ("leaderworkerset.sigs.k8s.io/name", "leaderworkerset.sigs.k8s.io/group-index")),
    ("Ray cluster", ("ray.io/cluster",)),
    ("JobSet", ("jobset.sigs.k8s.io/jobset-name",)),
    ("training job", ("training.kubeflow.org/job-name",)),
    ("Volcano job", ("volcano.sh/job-name",)),
    ("pod group of Kueue", ("kueue.x-k8s.io/pod-group-name",)),
    ("pod group", ("scheduling.x-k8s.io/pod-group",)),
)  # fmt: skip
"""What such a server is called, and the pod labels that say which one a pod is a rank of.

Labels after the first may be absent. The first that fits counts: a JobSet's pods may be a Kueue
group as well.
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A group of which only some ranks are meant."""

    kind: str
    name: str
    ranks: int
    """Ranks that are meant."""
    all: int
    """Ranks that there are."""

    def __str__(self) -> str:
        """In words: `2 of 4 ranks of LeaderWorkerSet llama/0`."""
        return f"{self.ranks} of {self.all} ranks of {self.kind} {self.name}"


def parts(chosen: Iterable[Pod], everything: Iterable[Pod]) -> list[Part]:
    """The groups that `chosen` takes apart, in order of their names."""
    meant = {pod.uid for pod in chosen}
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for pod in everything:
        group = _group(pod)
        if group is not None:
            groups[group].append(pod.uid)
    counted = ((key, sum(uid in meant for uid in uids), len(uids)) for key, uids in groups.items())
    found = (Part(*key, ranks, total) for key, ranks, total in counted if 0 < ranks < total)
    return sorted(found, key=lambda each: (each.kind, each.name))


def _group(pod: Pod) -> tuple[str, str] | None:
    for kind, labels in _GROUPS:
        values = [pod.labels[label] for label in labels if label in pod.labels]
        if labels[0] in pod.labels:
            return kind, "/".join(values)
    return None
