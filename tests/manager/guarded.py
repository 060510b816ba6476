"""Nodes with guards: pods that run there, and reports written with the guards' own identity."""

from dataclasses import dataclass
from typing import Any

from killswitch.adapters import credentials
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core import conditions, times
from killswitch.core.resources import FREEZES, PODS
from killswitch.ports import Json
from tests.cluster.control_plane import User
from tests.kernel.guards import guard, make_static, report
from tests.kernel.objects import GROUP, freeze, pod
from tests.manager.harness import Scene
from tests.reactor.harness import eventually

LABELS = {"model": "x"}


@dataclass
class Ward:
    """A scene with two nodes."""

    scene: Scene
    account: User
    """The manager's."""
    first: str
    second: str

    def cluster(self) -> KubernetesApi:
        """The product's client with the manager's account."""
        return KubernetesApi(credentials.load(kubeconfig=str(self.account.kubeconfig)))

    async def pod(self, name: str, node: str, *, static: bool = False, **spec: Any) -> Json:
        """A pod with the labels that this ward's Freezes cover, on that node."""
        body = pod(name, LABELS)
        body["spec"] |= {"nodeName": node, **spec}
        cluster, place = self.scene.bench.cluster, self.scene.namespace
        if static:
            make_static(self.scene.kernel, place, body)
            return await cluster.get(PODS, name, place)
        return await cluster.create(PODS, body, place)

    def say(self, node: str, *entries: Json, ago: float = 0.0) -> None:
        """What the guard of this node reports, as of so many seconds ago."""
        api = self.scene.kernel.api(guard(self.scene.kernel, node))
        body = report(node, *entries)
        body["status"]["renewedAt"] = times.text(SystemClock().now() - ago)
        api.create(
            f"{GROUP}/nodeguards",
            {
                "apiVersion": "killswitch.dev/v1alpha1",
                "kind": "NodeGuard",
                "metadata": {"name": node},
                "spec": {"node": node},
            },
        )
        path = f"{GROUP}/nodeguards/{node}/status"
        answer = api.patch(path, body, kind="apply", fieldManager="killswitch-node", force="true")
        assert answer.status == 200, answer.message

    async def freeze(self, name: str = "f", *, by: str = "alice", **change: Any) -> Json:
        """A Freeze of the ward's pods by this person."""
        spec: Json = {"scope": {"podLabels": LABELS}, **change}
        until = spec.pop("until", None) or self.ahead(3600)
        api = self.scene.kernel.api(self.scene.kernel.user(by))
        body = freeze(name, by, until=until, **spec)
        answer = api.create(f"{GROUP}/namespaces/{self.scene.namespace}/freezes", body)
        assert answer.status == 201, answer.message
        return answer.body

    def thaw(self, name: str = "f", by: str = "bob") -> None:
        """This person lets go."""
        api = self.scene.kernel.api(self.scene.kernel.user(by))
        path = f"{GROUP}/namespaces/{self.scene.namespace}/freezes/{name}"
        answer = api.patch(path, {"spec": {"thaw": {"by": by, "reason": "false alarm"}}})
        assert answer.status == 200, answer.message

    async def read(self, name: str = "f") -> Json:
        """The Freeze now."""
        return await self.scene.bench.cluster.get(FREEZES, name, self.scene.namespace)

    async def condition(self, type_: str, status: str, reason: str, name: str = "f") -> str:
        """The message of a Freeze's condition, once it stands so."""
        found = await self.scene.bench.with_condition(FREEZES, name, type_, status, reason)
        return str(_found(found, type_)["message"])

    async def message(self, words: str, name: str = "f") -> str:
        """The message of condition Frozen, once it has these words in it."""

        async def look() -> str | None:
            observed = (await self.read(name)).get("status", {}).get("conditions", ())
            found = conditions.find(observed, "Frozen")
            return str(found["message"]) if found and words in found["message"] else None

        return await eventually(look)

    async def let_go(self, name: str = "f") -> Json:
        """The Freeze, once it has lost its label."""

        async def look() -> Json | None:
            found = await self.read(name)
            held = found["metadata"]["labels"]["killswitch.dev/engaged"] == "true"
            return None if held else found

        return await eventually(look)

    @staticmethod
    def ahead(seconds: float) -> str:
        """The time so far ahead, in whole seconds."""
        return f"{times.text(SystemClock().now() + seconds)[:19]}Z"


def entry(body: Json, state: str, order: str, kind: str = "Freeze", **change: Any) -> Json:
    """What a guard says of this pod."""
    now = times.text(SystemClock().now())
    metadata = body["metadata"]
    said = {
        "namespace": metadata["namespace"],
        "pod": metadata["name"],
        "uid": metadata["uid"],
        "state": state,
        "orderKind": kind,
        "orderName": order,
        "seenAt": now,
        "doneAt": now,
        **change,
    }
    return {key: value for key, value in said.items() if value is not None}


def _found(body: Json, type_: str) -> Json:
    found = conditions.find(body["status"]["conditions"], type_)
    assert found is not None
    return dict(found)
