"""What a release would start: what does not rest, and what is not known to."""

from dataclasses import replace

from killswitch.core import at_release
from killswitch.core.inventory import Workload
from killswitch.core.kinds import unsupported
from killswitch.core.resources import Resource
from tests.core.builders import inventory, workload


def starts(target: Workload, *below: Workload) -> list[str]:
    """What a release of the target would start, with a stranger beside it."""
    return [
        str(each)
        for each in at_release.starts([target], inventory(target, *below, workload("other")))
    ]


def nobody_knows() -> Workload:
    """Of a kind that is locked, and of which nothing is known."""
    return replace(
        workload("g"), kind=unsupported(Resource("ex.dev", "v1", "graphs", "Graph")), values=()
    )


def test_what_still_asks_for_pods_below_a_target_that_rests() -> None:
    """A Deployment whose controller ignores the field of its owner; nothing that rests."""
    service = workload("llm", kind="InferenceService", values=("true",))
    asks = workload("llm-predictor", owner=service.uid)
    rests = workload("llm-transformer", owner=service.uid, replicas=0)
    assert starts(service, asks, rests) == ["Deployment llm-predictor"]


def test_a_target_that_was_not_brought_to_rest() -> None:
    """The lock holds it, and nothing else does."""
    assert starts(workload("vllm", replicas=2)) == ["Deployment vllm"]


def test_a_kind_that_cannot_rest_is_told_by_what_its_controller_has_left_below_it() -> None:
    """It is named while that asks for pods, and no more once its own controller has scaled it down."""
    service = workload("llm", kind="Service.serving.knative.dev")
    up = workload("llm-00001-deployment", owner=service.uid)
    assert starts(service, up) == ["Deployment llm-00001-deployment"]
    assert starts(service, replace(up, values=(0,))) == []


def test_a_kind_that_cannot_rest_with_nothing_below_it_is_not_known_to_rest() -> None:
    """What cannot be seen is not taken for quiet."""
    service = workload("llm", kind="Service.serving.knative.dev")
    assert starts(service) == ["Service.serving.knative.dev llm"]


def test_what_the_stop_itself_brought_to_rest_says_nothing_of_the_controller_above() -> None:
    """A kind that nobody knows: its Deployment is at 0 by us, and its controller may raise it again."""
    graph = nobody_knows()
    assert starts(graph, workload("part", owner=graph.uid, replicas=0)) == ["Graph.ex.dev g"]


def test_a_few_are_named_and_the_others_counted() -> None:
    """A message has bounds; nothing is said where nothing starts."""
    names = [f"Deployment d{number}" for number in range(7)]
    told = "a release would start Deployment d0, Deployment d1, Deployment d2, Deployment d3, Deployment d4"
    assert at_release.sentence(names) == f"{told} and 2 more"
    assert at_release.sentence(names[:1]) == "a release would start Deployment d0"
    assert at_release.sentence([]) == ""
