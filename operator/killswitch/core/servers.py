"""How many requests model servers answer now: by which metrics each kind of server tells. Data.

Several may tell of the same requests (a server, and the mesh before it), so they are never added up.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from killswitch.core.inventory import Pod
from killswitch.core.readings import Answer, NoAnswer

_WINDOW = "2m"
"""Two samples are needed for a rate, and exporters are scraped once a minute at the slowest."""


@dataclass(frozen=True, slots=True)
class Server:
    """One kind of server, or of what stands before servers."""

    name: str
    metric: str
    """A counter of requests."""
    labels: str = ""
    """What its series must have, in PromQL."""
    source: str = ""

    def query(self, namespaces: Iterable[str]) -> str:
        """Requests per second by pod, in PromQL, in these namespaces."""
        places = "|".join(sorted(set(namespaces)))
        inner = ",".join(filter(None, (f'namespace=~"{places}"', self.labels)))
        return f"sum by (namespace, pod) (rate({self.metric}{{{inner}}}[{_WINDOW}]))"


SERVERS = (
    Server("vLLM", "vllm:request_success_total", source="vllm docs/design/metrics.md"),
    Server("SGLang", "sglang:num_requests_total", source="docs.sglang.io production_metrics"),
    Server("TGI", "tgi_request_count", source="huggingface.co/docs/text-generation-inference"),
    Server("Triton", "nv_inference_request_success", source="triton docs/user_guide/metrics.md"),
    Server("KServe", "request_predict_seconds_count", source="kserve python/kserve/metrics.py"),
    Server("Knative", "revision_app_request_count", source="knative.dev serving metrics"),
    Server("Ray Serve", "ray_serve_num_http_requests_total", source="docs.ray.io serve monitoring"),
    Server(
        "Istio",
        "istio_requests_total",
        'reporter="destination"',
        source="istio.io reference/config/metrics",
    ),
)


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests per second of some pods, by who tells; not known where nobody does."""

    rates: Mapping[str, float]
    """By the name of the server."""
    silent: int = 0
    """Pods of which none of them tells."""
    why: str = ""
    """Why it is not known, or not wholly."""

    @property
    def known(self) -> bool:
        """Whether anybody tells."""
        return bool(self.rates)


def requests(answers: Mapping[str, Answer | NoAnswer], pods: Iterable[Pod]) -> Requests:
    """What the answers (by name of the server) say of these pods."""
    wanted = {(pod.namespace, pod.name) for pod in pods}
    rates: dict[str, float] = {}
    told: set[tuple[str, str]] = set()
    failures: dict[str, None] = {}
    for name, answer in answers.items():
        if isinstance(answer, NoAnswer):
            failures[f"{answer.reason}: {answer.detail}"] = None
            continue
        for labels, value in zip(map(dict, answer.series), answer.values, strict=True):
            place = labels.get("namespace", ""), labels.get("pod", "")
            if place in wanted and not math.isnan(value):
                rates[name] = rates.get(name, 0.0) + value
                told.add(place)
    why = "; ".join(failures)
    if not rates and not why:
        why = "no metric that is known has series of these pods"
    return Requests(rates, len(wanted - told), why)
