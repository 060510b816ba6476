"""Which traffic a graceful stop cuts."""

from typing import Any

import pytest

from killswitch.core import kinds, traffic
from killswitch.core.inventory import Pod
from killswitch.core.names import CUT_KEY
from killswitch.core.resources import INFERENCE_POOLS, SERVICES
from killswitch.core.traffic import Reach

VLLM = Pod("prod", "vllm-1", "uid-1", "n", "rs", {"app": "vllm", "tier": "serving"})
OTHER = Pod("prod", "other-1", "uid-2", "n", "rs2", {"app": "other", "tier": "serving"})


def service(**spec: Any) -> dict[str, Any]:
    """A Service of prod."""
    metadata = {"name": "vllm", "namespace": "prod", "uid": "s"}
    return {"metadata": metadata, "spec": {"selector": {"app": "vllm"}, **spec}}


def held(pod: Pod) -> bool:
    """What the stop is about."""
    return pod is VLLM


@pytest.mark.parametrize(
    ("selector", "reach"),
    [
        ({"app": "vllm"}, Reach.HELD),
        ({"tier": "serving"}, Reach.SHARED),
        ({"app": "other"}, Reach.SHARED),
        ({"app": "gone"}, Reach.NOBODY),
    ],
)
def test_only_what_leads_to_held_pods_alone_is_cut(selector: dict[str, str], reach: Reach) -> None:
    """A shared Service goes on for the others."""
    found = traffic.entrance(SERVICES, service(selector=selector), "0123abcd")
    assert found is not None
    assert traffic.reach(found, [VLLM, OTHER], held) is reach


def test_a_cut_is_one_key_in_the_selector() -> None:
    """Beside the others, so that it is undone by taking it away."""
    found = traffic.entrance(SERVICES, service(), "0123abcd")
    assert found is not None
    assert (found.kind, found.was) == ("Service", None)
    assert kinds.patch([(found.setting.path, found.setting.rest)]) == {
        "spec": {"selector": {CUT_KEY: "0123abcd"}}
    }
    assert found.setting.pointer == "/spec/selector/killswitch.dev~1cut"


def test_a_cut_of_another_stop_is_seen() -> None:
    """It selects nobody any more, and is not ours to give back."""
    body = service(selector={"app": "vllm", CUT_KEY: "other"})
    found = traffic.entrance(SERVICES, body, "0123abcd")
    assert found is not None
    assert found.was == "other"
    assert traffic.reach(found, [VLLM], held) is Reach.NOBODY


def test_what_selects_nothing_by_itself_is_left_alone() -> None:
    """Somebody else writes its endpoints; a cut would replace them."""
    assert traffic.entrance(SERVICES, service(selector=None), "x") is None
    assert traffic.entrance(SERVICES, service(selector={}), "x") is None


def test_ranks_keep_finding_each_other() -> None:
    """A headless Service of pods that are not ready is no entrance for requests."""
    peers = service(clusterIP="None", publishNotReadyAddresses=True)
    assert traffic.entrance(SERVICES, peers, "x") is None
    assert traffic.entrance(SERVICES, service(clusterIP="None"), "x") is not None


def test_an_inference_pool_selects_by_match_labels() -> None:
    """As its v1 API has it."""
    body = service(selector={"matchLabels": {"app": "vllm"}})
    found = traffic.entrance(INFERENCE_POOLS, body, "0123abcd")
    assert found is not None
    assert found.kind == "InferencePool.inference.networking.k8s.io"
    assert traffic.reach(found, [VLLM], held) is Reach.HELD
    assert kinds.patch([(found.setting.path, found.setting.rest)]) == {
        "spec": {"selector": {"matchLabels": {CUT_KEY: "0123abcd"}}}
    }
    assert found.setting.read(body) is None


def test_the_mark_names_the_shutdown() -> None:
    """By the first eight characters of its uid."""
    assert traffic.mark({"metadata": {"uid": "0123abcd-4567"}}) == "0123abcd"
