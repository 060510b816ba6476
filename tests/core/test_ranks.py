"""Groups of ranks that a scope takes apart."""

import pytest

from killswitch.core import ranks
from killswitch.core.inventory import Pod


def _pods(*labels: dict[str, str]) -> list[Pod]:
    return [Pod("prod", f"p{n}", f"u{n}", "node", "", each) for n, each in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            {
                "leaderworkerset.sigs.k8s.io/name": "llama",
                "leaderworkerset.sigs.k8s.io/group-index": "0",
            },
            "1 of 2 ranks of LeaderWorkerSet llama/0",
        ),
        ({"ray.io/cluster": "serve"}, "1 of 2 ranks of Ray cluster serve"),
        ({"jobset.sigs.k8s.io/jobset-name": "eval"}, "1 of 2 ranks of JobSet eval"),
        ({"volcano.sh/job-name": "v"}, "1 of 2 ranks of Volcano job v"),
        ({"kueue.x-k8s.io/pod-group-name": "k"}, "1 of 2 ranks of pod group of Kueue k"),
    ],
)
def test_a_part_of_a_group_is_named(labels: dict[str, str], words: str) -> None:
    """With how many of its ranks are meant."""
    pods = _pods(labels, labels, {"app": "other"})
    assert [str(each) for each in ranks.parts(pods[:1], pods)] == [words]


def test_a_whole_group_and_none_of_it_are_no_part() -> None:
    """Two replicas of a LeaderWorkerSet are two servers: freezing one of them parts nothing."""
    name = {"leaderworkerset.sigs.k8s.io/name": "llama"}
    first, second = (
        {**name, "leaderworkerset.sigs.k8s.io/group-index": index} for index in ("0", "1")
    )
    pods = _pods(first, first, second, second)
    assert ranks.parts(pods[:2], pods) == []
    assert [each.ranks for each in ranks.parts(pods[:3], pods)] == [1]
