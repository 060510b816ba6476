"""Model servers as Prometheus sees them: vLLM-like metrics of every pod that really runs.

kwok gives the pods a life in the API server; this exporter gives those that are Running their
metrics, and takes them away with the pod. What a reader of the demo should keep in mind: the
metrics are played, everything else (API server, controllers, Prometheus, operator) is real.
"""

import threading
import time
from typing import Any

from tests.cluster.api import Api
from tests.cluster.prometheus import Exporter

TOKENS = "vllm:generation_tokens_total"
_STEP = 0.1


class ModelServers:
    """Counts tokens for each running pod of one app until `close`."""

    def __init__(self, api: Api, namespace: str, app: str) -> None:
        """Look at the pods ten times a second from now on; `api` is used by no one else."""
        self.exporter = Exporter()
        self.tokens_per_second = 40.0
        """What one server generates."""
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._labels: dict[str, Any] = {"namespace": namespace, "model_name": app}
        self._app = app
        self._counts: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop counting."""
        self._ended.set()
        self._thread.join(5)
        self._api.close()
        self.exporter.close()

    def _serve(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(_STEP):
            now = time.monotonic()
            self._count(now - before)
            before = now

    def _count(self, seconds: float) -> None:
        answer = self._api.get(self._path, labelSelector=f"app={self._app}")
        running = {
            pod["metadata"]["name"]
            for pod in answer.body.get("items", ())
            if pod["status"].get("phase") == "Running"
            and "deletionTimestamp" not in pod["metadata"]
        }
        for name in self._counts.keys() - running:
            del self._counts[name]
            self.exporter.remove(TOKENS, pod=name, **self._labels)
        for name in running:
            self._counts[name] = self._counts.get(name, 0) + self.tokens_per_second * seconds
            self.exporter.set(TOKENS, self._counts[name], pod=name, **self._labels)
