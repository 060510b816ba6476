"""Requests per second: by whose word, and Unknown where nobody tells."""

from killswitch.adapters.promql import PromqlChecker
from killswitch.core import servers
from killswitch.core.readings import Answer, Blindness, NoAnswer
from tests.core.builders import pod

PODS = [pod("vllm-0"), pod("vllm-1")]


def answer(*rates: tuple[str, float], namespace: str = "prod") -> Answer:
    """Rates by pod."""
    series = tuple((("namespace", namespace), ("pod", name)) for name, _ in rates)
    return Answer(tuple(rate for _, rate in rates), 1.0, (), series)


def test_every_query_can_be_asked() -> None:
    """By the parser that accepts policies."""
    for server in servers.SERVERS:
        PromqlChecker().check("query", server.query(["prod", "batch"]))


def test_each_servers_word_is_kept_apart() -> None:
    """A mesh counts what the server behind it counts, too: a sum would be twice as much."""
    answers = {"vLLM": answer(("vllm-0", 2.0), ("other-0", 9.0)), "Istio": answer(("vllm-0", 2.5))}
    found = servers.requests(answers, PODS)
    assert (found.rates, found.silent, found.known) == ({"vLLM": 2.0, "Istio": 2.5}, 1, True)


def test_nobody_who_tells_is_unknown_and_not_zero() -> None:
    """Nor is the same pod's name elsewhere, or a value that is none."""
    elsewhere = answer(("vllm-0", 1.0), namespace="other")
    for answers in ({}, {"vLLM": elsewhere}, {"vLLM": answer(("vllm-0", float("nan")))}):
        found = servers.requests(answers, PODS)
        assert (found.known, found.rates, found.silent) == (False, {}, 2)
        assert found.why == "no metric that is known has series of these pods"


def test_a_prometheus_that_does_not_answer_is_named() -> None:
    """With its reason, once."""
    down = NoAnswer(Blindness.UNREACHABLE, "connection refused")
    found = servers.requests({"vLLM": down, "TGI": down}, PODS)
    assert (found.known, found.why) == (False, "Unreachable: connection refused")
