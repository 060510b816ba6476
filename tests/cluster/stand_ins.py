"""Scripted stand-ins for controllers that cannot run here, and what pushes against a stop.

A *stand-in* plays the controller of one project: for each object of a kind it says what should be
below it, and one shared loop makes it so, at the pace of a real controller: milliseconds after a
change, and after a refusal with the doubling pauses of client-go's queues. What each insists on is
in its reaction, `STAND_INS` is the table of them. A *pusher* repeats one write for ever: a GitOps
controller that heals itself, people who scale, an old script.

All act with service accounts of their own, which may do everything, on a real API server: what
stops them is the lock alone. What was refused to them stands in `denied`.
"""

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from killswitch.adapters import credentials
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core import kinds, times
from killswitch.core.errors import (
    ConflictError,
    KillSwitchError,
    NotFoundError,
    RefusedError,
)
from killswitch.core.kinds import Setting
from killswitch.core.projections import controller
from killswitch.core.resources import (
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    NODES,
    PODS,
    STATEFULSETS,
    Resource,
)
from killswitch.reflector import Reflector
from tests.cluster import crds
from tests.cluster.control_plane import ControlPlane, User, gpu_node

Json = dict[str, Any]
_NAMESPACE = "stand-ins"
_SLOT = "stand-ins.example.com/slot"
"""On children with generated names: which of the wanted ones it is."""
_FIRST, _LONGEST = 0.005, 1000.0
"""Seconds after the first refusal, and at most: client-go's workqueue."""
SUSPEND = ("spec", "suspend")
REPLICAS = ("spec", "replicas")
SET_LABEL = "leaderworkerset.sigs.k8s.io/name"
_WORKER_LABEL = "leaderworkerset.sigs.k8s.io/worker-index"
_GROUP_LABEL = "leaderworkerset.sigs.k8s.io/group-key"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
STOP = "serving.kserve.io/stop"
PAUSED = "autoscaling.keda.sh/paused"
GRAPH_LABEL = "nvidia.com/dynamo-graph-deployment-name"
COMPONENT_LABEL = "nvidia.com/dynamo-component"
ROLE_SETS, POD_SETS, FLEET_SETS = (
    next(each for each in kinds.LINKS if each.kind == kind)
    for kind in ("RoleSet", "PodSet", "RayClusterReplicaSet")
)
POOL = "example.com/pool"
"""On nodes: which of an autoscaler's pools they are of."""
LONG = "example.com/long-running"
"""On pods of Jobs that do not end by themselves (tests/cluster/kwok/stages.yaml)."""


@dataclass(frozen=True, slots=True)
class Want:
    """One object that should be there, and the fields that are written back when they differ."""

    resource: Resource
    body: Json
    insists: tuple[tuple[str, ...], ...] = ()

    @property
    def slot(self) -> str:
        """What tells it from its siblings."""
        metadata = self.body["metadata"]
        return str(metadata.get("name") or metadata["generateName"].removesuffix("-"))


@dataclass(frozen=True, slots=True)
class Reply:
    """What a controller makes of one object: what should be below it, and its status."""

    wants: tuple[Want, ...] = ()
    status: Json = field(default_factory=dict)


Reaction = Callable[[Json, "Seen"], Reply | None]
"""None: this object is none of its business now."""


@dataclass(frozen=True, slots=True)
class StandIn:
    """The controllers of one project, by what they reconcile; `makes`: what they clean up below."""

    name: str
    reactions: Mapping[Resource, Reaction]
    makes: tuple[Resource, ...] = ()
    tells: str = ""
    """The reason of the Events in which it tells of its errors; empty: it tells nobody."""


@dataclass(frozen=True, slots=True)
class Denied:
    """One write that was refused."""

    who: str
    what: str
    message: str
    at: float


@dataclass(frozen=True, slots=True)
class News:
    """The Event in which a controller tells of an error about one object, as its recorder counts it."""

    reason: str
    resource: Resource
    name: str

    async def tell(
        self, cluster: KubernetesApi, namespace: str, denied: Denied, count: int
    ) -> None:
        """Write it, or that there is one more of it."""
        at = times.text(denied.at)
        changed = {"message": denied.message[:1024], "count": count, "lastTimestamp": at}
        kind = {"apiVersion": self.resource.api_version, "kind": self.resource.kind}
        name = f"{self.name}.{denied.who}"
        body = {
            "metadata": {"name": name},
            "involvedObject": {**kind, "name": self.name, "namespace": namespace},
            "type": "Warning",
            "reason": self.reason,
            "firstTimestamp": at,
            "source": {"component": denied.who},
            "reportingComponent": denied.who,
        }
        with contextlib.suppress(KillSwitchError):
            try:
                await cluster.create(EVENTS, {**body, **changed}, namespace)
            except ConflictError:
                await cluster.patch(EVENTS, name, changed, namespace)


class Seen:
    """What a stand-in knows of the cluster, from its watches."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._objects: dict[str, dict[str, Json]] = defaultdict(dict)
        self.changed = asyncio.Event()

    def sink(self, resource: Resource) -> "_Sink":
        """Where a reflector of this resource puts its objects."""
        return _Sink(self._objects[resource.key], self.changed)

    def of(self, resource: Resource) -> list[Json]:
        """Its objects."""
        return list(self._objects[resource.key].values())

    def named(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """The object of this name."""
        for each in self.of(resource):
            if (each["metadata"]["namespace"], each["metadata"]["name"]) == (namespace, name):
                return each
        return None

    def below(self, resource: Resource, uid: str) -> list[Json]:
        """What this uid controls and what is not being deleted."""
        return [
            each
            for each in self.of(resource)
            if controller(each["metadata"]) == uid and not _ending(each)
        ]


@dataclass(slots=True)
class _Sink:
    objects: dict[str, Json]
    changed: asyncio.Event

    def put(self, body: Json) -> None:
        self.objects[body["metadata"]["uid"]] = body
        self.changed.set()

    def remove(self, uid: str) -> None:
        self.objects.pop(uid, None)
        self.changed.set()


class _Client(KubernetesApi):
    """A client whose writes bear its own name, as field manager too."""

    agent = ""

    def _headers(self, *content: str) -> dict[str, str]:
        return {**super()._headers(*content), "User-Agent": self.agent}

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", **options: Any
    ) -> Json:
        """With all that it owns, as controllers ask for: a Job would leave its pods behind."""
        if options:
            return await super().delete(resource, name, namespace, **options)
        body = {"propagationPolicy": "Background"}
        return await self._request("DELETE", resource.path(namespace, name), body=body)


class Playing:
    """One stand-in at work in one namespace."""

    def __init__(self, cluster: KubernetesApi, stand_in: StandIn, namespace: str) -> None:
        """Nothing is watched before `run`."""
        self.stand_in = stand_in
        self.denied: list[Denied] = []
        self.writes = 0
        """How many were accepted."""
        self._cluster = cluster
        self._namespace = namespace
        self._seen = Seen()
        self._failures: dict[str, int] = defaultdict(int)
        self._due: dict[str, float] = {}

    async def run(self) -> None:
        """Reconcile until cancelled."""
        watched = dict.fromkeys((*self.stand_in.reactions, *self.stand_in.makes))
        async with asyncio.TaskGroup() as group:
            for resource in watched:
                sink = self._seen.sink(resource)
                reflector = Reflector(
                    self._cluster, SystemClock(), resource, sink, namespace=self._namespace
                )
                group.create_task(reflector.run())
                await reflector.synced.wait()
            while True:
                self._seen.changed.clear()
                await self._round()
                pause = min(self._due.values(), default=time.monotonic() + 60) - time.monotonic()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(pause, 0.0)):
                        await self._seen.changed.wait()
                await asyncio.sleep(0.005)  # what comes together is looked at together

    async def _round(self) -> None:
        """Look at every object once."""
        self._due.clear()
        for resource, reaction in self.stand_in.reactions.items():
            for body in self._seen.of(resource):
                if not _ending(body):
                    await self._reconcile(resource, body, reaction)

    async def _reconcile(self, resource: Resource, body: Json, reaction: Reaction) -> None:
        uid = body["metadata"]["uid"]
        what = f"{resource.kind} {body['metadata']['name']}"
        try:
            reply = reaction(body, self._seen)
            if reply is not None:
                await self._make(resource, body, reply)
        except RefusedError as error:
            self.denied.append(Denied(self.stand_in.name, what, str(error), time.time()))
            if self.stand_in.tells:
                news = News(self.stand_in.tells, resource, body["metadata"]["name"])
                count = sum(each.what == what for each in self.denied)
                await news.tell(self._cluster, self._namespace, self.denied[-1], count)
        except (ConflictError, NotFoundError):
            pass  # its view is behind: the watch brings it back
        except KillSwitchError:
            pass  # no answer: again, a little later
        else:
            self._failures.pop(uid, None)
            return
        self._failures[uid] += 1
        pause = min(_FIRST * 2 ** min(self._failures[uid], 30), _LONGEST)
        self._due[uid] = time.monotonic() + pause

    async def _make(self, resource: Resource, body: Json, reply: Reply) -> None:
        """Make it so: the first refusal ends the attempt, as a reconcile that returns an error."""
        uid = body["metadata"]["uid"]
        wanted = {(want.resource.key, want.slot) for want in reply.wants}
        for made in self.stand_in.makes:
            for child in self._seen.below(made, uid):
                if (made.key, _slot(child)) not in wanted:
                    await self._cluster.delete(made, child["metadata"]["name"], self._namespace)
                    self.writes += 1
        for want in reply.wants:
            await self._want(want, body)
        status = body.get("status") or {}
        if any(status.get(name) != value for name, value in reply.status.items()):
            change = {"status": reply.status}
            name = body["metadata"]["name"]
            await self._cluster.patch(resource, name, change, self._namespace, subresource="status")

    async def _want(self, want: Want, owner: Json) -> None:
        found = next(
            (each for each in self._seen.of(want.resource) if _slot(each) == want.slot), None
        )
        if found is not None and "generateName" in want.body["metadata"]:
            children = self._seen.below(want.resource, owner["metadata"]["uid"])
            found = next((each for each in children if _slot(each) == want.slot), None)
        if found is None:
            made = await self._cluster.create(want.resource, _owned(want, owner), self._namespace)
            self._seen.sink(want.resource).put(made)  # not twice before the watch brings it
            self.writes += 1
            return
        settings = [Setting(path, None) for path in want.insists]
        change = [
            (each.path, each.read(want.body))
            for each in settings
            if each.read(found) != each.read(want.body)
        ]
        if change:
            name = found["metadata"]["name"]
            await self._cluster.patch(want.resource, name, kinds.patch(change), self._namespace)
            self.writes += 1


@dataclass(slots=True)
class Pusher:
    """One write, repeated for ever: by a GitOps controller, by a script, by many people."""

    name: str
    act: Callable[[KubernetesApi], Awaitable[object]]
    every: float
    denied: list[Denied] = field(default_factory=list)
    writes: int = 0
    """How many were accepted."""
    tells: tuple[News, str] | None = None
    """The Event in which it tells of its refusals, and its namespace."""

    async def run(self, cluster: KubernetesApi) -> None:
        """Push until cancelled."""
        while True:
            try:
                if await self.act(cluster) is not None:
                    self.writes += 1
            except RefusedError as error:
                self.denied.append(Denied(self.name, "", str(error), time.time()))
                if self.tells is not None:
                    news, where = self.tells
                    await news.tell(cluster, where, self.denied[-1], len(self.denied))
            except KillSwitchError:
                pass  # no answer: it goes on all the same
            await asyncio.sleep(self.every)


def self_heal(
    name: str, manifests: Sequence[tuple[Resource, Json]], namespace: str, switch: "Switch | None"
) -> Pusher:
    """GitOps self-heal: a server-side apply of these manifests every 200 ms, while the switch is on."""

    async def heal(cluster: KubernetesApi) -> object:
        if switch is not None and not await switch.on(cluster):
            return None
        for resource, body in manifests:
            await cluster.apply(resource, body["metadata"]["name"], body, namespace, manager=name)
        return manifests

    return Pusher(name, heal, every=0.2)


def node_bringer(pool: str, namespace: str) -> Pusher:
    """Half of Cluster Autoscaler or Karpenter: a new node for pods that are pending."""
    numbers = itertools.count(1)

    async def bring(cluster: KubernetesApi) -> object:
        pods = (await cluster.list(PODS, namespace)).items
        if all(each["spec"].get("nodeName") for each in pods) or await _pool(cluster, pool):
            return None
        body = gpu_node(f"{pool}-{next(numbers)}", gpus=8)
        body["metadata"]["labels"][POOL] = pool
        return await cluster.create(NODES, body)

    return Pusher("node-bringer", bring, every=0.5)


def node_remover(pool: str, namespace: str) -> Pusher:
    """The other half: away with a node on which nothing runs."""

    async def remove(cluster: KubernetesApi) -> object:
        pods = (await cluster.list(PODS, namespace)).items
        busy = {each["spec"].get("nodeName") for each in pods}
        idle = [each for each in await _pool(cluster, pool) if each not in busy]
        for name in idle:
            await cluster.delete(NODES, name)
        return idle or None

    return Pusher("node-remover", remove, every=0.5)


async def _pool(cluster: KubernetesApi, pool: str) -> list[str]:
    nodes = (await cluster.list(NODES, labels=f"{POOL}={pool}")).items
    return [each["metadata"]["name"] for each in nodes]


def pod_evictor(namespace: str) -> Pusher:
    """The VerticalPodAutoscaler's updater: now and then it evicts a pod, for another size."""

    async def evict(cluster: KubernetesApi) -> object:
        for each in (await cluster.list(PODS, namespace)).items:
            metadata = each["metadata"]
            if each["status"].get("phase") == "Running" and not _ending(each):
                await cluster.evict(metadata["name"], namespace, uid=metadata["uid"])
                return metadata
        return None

    return Pusher("vpa-updater", evict, every=4.0)


@dataclass(frozen=True, slots=True)
class Switch:
    """The field of a fighter's own object that turns it off."""

    resource: Resource
    namespace: str
    name: str
    off: Setting

    async def on(self, cluster: KubernetesApi) -> bool:
        """Whether it does not stand at off."""
        body = await cluster.get(self.resource, self.name, self.namespace)
        return self.off.read(body) != self.off.rest


def scaler(name: str, resource: Resource, target: str, namespace: str, count: int) -> Pusher:
    """Somebody who scales this target up ten times a second."""

    async def scale(cluster: KubernetesApi) -> object:
        body = {"spec": {"replicas": count}}
        return await cluster.patch(resource, target, body, namespace, subresource="scale")

    return Pusher(name, scale, every=0.1)


def account(plane: ControlPlane, name: str) -> User:
    """A service account that may do everything, so that nothing but the lock denies."""
    api = plane.api()
    api.create("/api/v1/namespaces", {"metadata": {"name": _NAMESPACE}})
    user = plane.service_account(_NAMESPACE, name)
    rbac = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    subject = {"kind": "ServiceAccount", "namespace": _NAMESPACE, "name": name}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": f"{_NAMESPACE}-{name}"}, "roleRef": role, "subjects": [subject]}
    assert api.create(rbac, binding).status in {201, 409}
    return user


@contextlib.asynccontextmanager
async def client(plane: ControlPlane, name: str) -> AsyncIterator[KubernetesApi]:
    """A client as this account, whose writes bear its name."""
    user = account(plane, name)
    cluster = _Client(credentials.load(kubeconfig=str(user.kubeconfig)))
    cluster.agent = name
    async with cluster:
        yield cluster


@contextlib.asynccontextmanager
async def playing(
    plane: ControlPlane, namespace: str, *stand_ins: StandIn
) -> AsyncIterator[list[Playing]]:
    """These stand-ins at work in this namespace; gone at the end like killed processes."""
    async with contextlib.AsyncExitStack() as stack:
        started, tasks = [], []
        for each in stand_ins:
            cluster = await stack.enter_async_context(client(plane, each.name))
            started.append(Playing(cluster, each, namespace))
            tasks.append(asyncio.create_task(started[-1].run()))
        stack.push_async_callback(_cancel, tasks)
        yield started


@contextlib.asynccontextmanager
async def pushing(plane: ControlPlane, *pushers: Pusher) -> AsyncIterator[tuple[Pusher, ...]]:
    """These pushers at work, each with an account of its own."""
    async with contextlib.AsyncExitStack() as stack:
        tasks = []
        for each in pushers:
            cluster = await stack.enter_async_context(client(plane, each.name))
            tasks.append(asyncio.create_task(each.run(cluster)))
        stack.push_async_callback(_cancel, tasks)
        yield pushers


async def _cancel(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    for each in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(each, Exception):  # a stand-in with a defect proves nothing
            raise each


def _slot(body: Json) -> str:
    labels = body["metadata"].get("labels") or {}
    return str(labels.get(_SLOT) or body["metadata"]["name"])


def _owned(want: Want, owner: Json) -> Json:
    metadata = {**want.body["metadata"]}
    if "generateName" in metadata:
        metadata["labels"] = {**metadata.get("labels", {}), _SLOT: want.slot}
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    kind = {"apiVersion": want.resource.api_version, "kind": want.resource.kind}
    return {**kind, **want.body, "metadata": {**metadata, "ownerReferences": [reference]}}


def _ending(body: Json) -> bool:
    return "deletionTimestamp" in body["metadata"]


# What each controller makes of its objects.


def _resource(name: str) -> Resource:
    return kinds.TABLE[name].resource


def template(labels: Mapping[str, str], **annotations: str) -> Json:
    """A pod template that kwok runs."""
    container = {"name": "server", "image": "models.invalid/server"}
    metadata: Json = {"labels": dict(labels)}
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": {"containers": [container]}}


def job_spec(labels: Mapping[str, str], suspend: bool) -> Json:
    """Of a Job whose pod runs until it is deleted, and is then made again."""
    pods = template({**labels, LONG: "true"})
    pods["spec"]["restartPolicy"] = "Never"
    return {"suspend": suspend, "backoffLimit": 100, "template": pods}


def deployment(name: str, count: int, labels: Mapping[str, str]) -> Json:
    """A Deployment of so many."""
    spec = {
        "replicas": count,
        "selector": {"matchLabels": dict(labels)},
        "template": template(labels),
    }
    return {"metadata": {"name": name, "labels": dict(labels)}, "spec": spec}


def stateful_set(name: str, count: int, labels: Mapping[str, str], **annotations: str) -> Json:
    """A StatefulSet of so many, started at once."""
    body = deployment(name, count, labels)
    body["spec"] |= {
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "template": template(labels, **annotations),
    }
    return body


def _job(name: str, labels: Mapping[str, str], *, suspend: bool) -> Json:
    return {"metadata": {"name": name, "labels": dict(labels)}, "spec": job_spec(labels, suspend)}


def _leader_worker_set(body: Json, seen: Seen) -> Reply:
    """Its leaders' StatefulSet, at its own count whatever stands there."""
    name, namespace, spec = body["metadata"]["name"], body["metadata"]["namespace"], body["spec"]
    count = spec.get("replicas", 1)
    labels = {SET_LABEL: name, _WORKER_LABEL: "0"}
    leaders = stateful_set(name, count, labels, size=str(spec["leaderWorkerTemplate"]["size"]))
    found = (seen.named(STATEFULSETS, namespace, name) or {}).get("status") or {}
    status = {"replicas": count, "readyReplicas": found.get("readyReplicas", 0)}
    return Reply((Want(STATEFULSETS, leaders, insists=(REPLICAS,)),), status)


def _leader(pod: Json, _seen: Seen) -> Reply | None:
    """The workers' StatefulSet of a leader: its controller is that *pod* (lws pod_controller.go)."""
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    if labels.get(_WORKER_LABEL) != "0":
        return None
    workers = int(metadata["annotations"]["size"]) - 1
    if not workers:
        return None
    group = {SET_LABEL: labels[SET_LABEL], _GROUP_LABEL: metadata["name"]}
    return Reply((Want(STATEFULSETS, stateful_set(metadata["name"], workers, group)),))


def _job_set(body: Json, _seen: Seen) -> Reply:
    """Its Jobs, suspended as it is itself."""
    name, spec = body["metadata"]["name"], body["spec"]
    suspend = spec.get("suspend", False)
    jobs = [
        _job(f"{name}-{each['name']}-{number}", {"jobset": name}, suspend=suspend)
        for each in spec["replicatedJobs"]
        for number in range(each.get("replicas", 1))
    ]
    return Reply(tuple(Want(JOBS, each, insists=(SUSPEND,)) for each in jobs))


def _kueue(resource: Resource) -> Reaction:
    """A Workload for each job that is queued: admitted, it runs, whoever suspended it."""

    def react(body: Json, seen: Seen) -> Reply | None:
        metadata = body["metadata"]
        queue = (metadata.get("labels") or {}).get(QUEUE_LABEL)
        if not queue:
            return None
        name = f"{resource.kind.lower()}-{metadata['name']}"
        where = metadata["namespace"]
        workload = seen.named(_resource("Workload.kueue.x-k8s.io"), where, name)
        found = seen.named(_resource("LocalQueue"), where, queue)
        held = found is not None and found["spec"].get("stopPolicy", "None") != "None"
        active = workload is not None and workload["spec"].get("active", True)
        made = {"metadata": {"name": name}, "spec": {"queueName": queue, "active": True}}
        job = {"metadata": {"name": metadata["name"]}, "spec": {"suspend": held or not active}}
        return Reply(
            (
                Want(_resource("Workload.kueue.x-k8s.io"), made),
                Want(resource, job, insists=(SUSPEND,)),
            )
        )

    return react


def _stopped(body: Json, *, honours: bool) -> bool:
    """Whether KServe leaves nothing of it; one that is not to be updated is not stopped either."""
    annotations = body["metadata"].get("annotations") or {}
    frozen = annotations.get("serving.kserve.io/disable-auto-update") == "true"
    return honours and annotations.get(STOP) == "true" and not frozen


def _inference_service(*, honours: bool) -> Reaction:
    """RawDeployment: a Deployment, made again when it is deleted, gone while it is stopped."""

    def react(body: Json, _seen: Seen) -> Reply:
        if _stopped(body, honours=honours):
            return Reply(status={"conditions": [_condition("Stopped", "True")]})
        metadata = body["metadata"]
        name, least = f"{metadata['name']}-predictor", body["spec"]["predictor"]["minReplicas"]
        annotations = metadata.get("annotations") or {}
        rewrites = annotations.get("serving.kserve.io/autoscalerClass") == "none"
        made = deployment(name, least, {"app": name})
        want = Want(DEPLOYMENTS, made, insists=(REPLICAS,) if rewrites else ())
        return Reply((want,), {"conditions": [_condition("Stopped", "False")]})

    return react


def _stoppable(*suffixes: str) -> Reaction:
    """A Deployment for each of these parts, gone while it is stopped."""

    def react(body: Json, _seen: Seen) -> Reply:
        stopped = _stopped(body, honours=True)
        names = [] if stopped else [body["metadata"]["name"] + suffix for suffix in suffixes]
        wants = tuple(Want(DEPLOYMENTS, deployment(name, 1, {"app": name})) for name in names)
        return Reply(wants, {"conditions": [_condition("Stopped", str(stopped))]})

    return react


def _condition(type_: str, status: str) -> Json:
    return {"type": type_, "status": status}


def _knative_service(body: Json, _seen: Seen) -> Reply:
    made = {"metadata": {"name": body["metadata"]["name"]}, "spec": body["spec"]}
    return Reply((Want(kinds.LINKS[0], made),))


def _configuration(body: Json, _seen: Seen) -> Reply:
    made = {"metadata": {"name": f"{body['metadata']['name']}-00001"}, "spec": {}}
    return Reply((Want(kinds.LINKS[1], made),))


def _revision(body: Json, _seen: Seen) -> Reply:
    """Its Deployment, whose count it leaves to its autoscaler."""
    name = body["metadata"]["name"]
    made = deployment(f"{name}-deployment", 1, {"app": name})
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{name}-deployment"}
    scaler = {"metadata": {"name": name}, "spec": {"scaleTargetRef": reference}}
    return Reply((Want(DEPLOYMENTS, made), Want(_PODAUTOSCALERS, scaler)))


def _pod_autoscaler(body: Json, seen: Seen) -> Reply | None:
    """It writes its own count: a request is always waiting at the activator (kpa scaler.go)."""
    name, namespace = body["spec"]["scaleTargetRef"]["name"], body["metadata"]["namespace"]
    if seen.named(DEPLOYMENTS, namespace, name) is None:
        return None
    count = {"metadata": {"name": name}, "spec": {"replicas": 1}}
    return Reply((Want(DEPLOYMENTS, count, insists=(REPLICAS,)),))


def _engine(body: Json, _seen: Seen) -> Reply:
    """A Deployment at its own count."""
    made = deployment(body["metadata"]["name"], 2, {"app": body["metadata"]["name"]})
    return Reply((Want(DEPLOYMENTS, made, insists=(REPLICAS,)),))


def _fighter(kind: str) -> Resource:
    return next(each for each in crds.FIGHTERS if each.kind == kind)


_PODAUTOSCALERS = _fighter("PodAutoscaler")


def _ray_service(*, honours: bool) -> Reaction:
    """Its cluster; once it is suspending, that is carried through even if the field flips back."""

    def react(body: Json, seen: Seen) -> Reply:
        uid = body["metadata"]["uid"]
        clusters = seen.below(_resource("RayCluster"), uid)
        asked = honours and body["spec"].get("suspend", False)
        suspending = bool((body.get("status") or {}).get("suspending"))
        if asked or (suspending and clusters):
            return Reply(status={"suspending": bool(clusters)})
        return Reply(_cluster_of(body, "rayClusterConfig"), {"suspending": False})

    return react


def _cluster_of(body: Json, where: str) -> tuple[Want, ...]:
    """The cluster of a service or job; suspended below them, it is started again."""
    name = body["metadata"]["name"]
    made = {"metadata": {"generateName": f"{name}-"}, "spec": {**body["spec"][where]}}
    made["spec"]["suspend"] = False
    return (Want(_resource("RayCluster"), made, insists=(SUSPEND,)),)


def _ray_job(body: Json, _seen: Seen) -> Reply | None:
    """Its cluster and the Job that submits; a suspend that it cannot honour is an error."""
    spec = body["spec"]
    if spec.get("suspend"):
        valid = spec.get("shutdownAfterJobFinishes", False)
        state = "Suspended" if valid else "ValidationFailed"
        reply = Reply(status={"jobDeploymentStatus": state})
        return reply if valid else None
    name = body["metadata"]["name"]
    submitter = Want(JOBS, _job(name, {"ray.io/job": name}, suspend=False))
    running = {"jobDeploymentStatus": "Running"}
    return Reply((*_cluster_of(body, "rayClusterSpec"), submitter), running)


def _ray_cron_job(body: Json, _seen: Seen) -> Reply | None:
    """It is always time for a run; suspended, it leaves the run that there is (raycronjob_types.go)."""
    if body["spec"].get("suspend"):
        return None
    made = {
        "metadata": {"name": f"{body['metadata']['name']}-run"},
        "spec": body["spec"]["jobTemplate"],
    }
    return Reply((Want(_resource("RayJob"), made),))


def _ray_cluster(body: Json, _seen: Seen) -> Reply | None:
    """Its head and workers, bare pods; none while it is suspended."""
    name, spec = body["metadata"]["name"], body["spec"]
    groups = spec.get("workerGroupSpecs") or ()
    if spec.get("enableInTreeAutoscaling") and any(each.get("suspend") for each in groups):
        return None  # rejected: everything stays as it is (kuberay utils/validation.go)
    if spec.get("suspend"):
        return Reply(status={"state": "suspended"})
    parts = [f"{name}-head-"]
    for each in groups:
        numbers = range(each.get("replicas", 1))
        parts += [f"{name}-{each['groupName']}-{number}-" for number in numbers]
    pods = [
        {"metadata": {"generateName": part, **template({"ray.io/cluster": name})["metadata"]}}
        | {"spec": template({})["spec"]}
        for part in parts
    ]
    return Reply(tuple(Want(PODS, each) for each in pods), {"state": "ready"})


def _replicas_of(body: Json) -> int:
    return int(body["spec"].get("replicas", 1))


def _scaled_job(body: Json, _seen: Seen) -> Reply | None:
    """A trigger is always active: a Job, until it is paused, which leaves the one that there is."""
    metadata = body["metadata"]
    if (metadata.get("annotations") or {}).get(PAUSED, "false") != "false":
        return None
    name = metadata["name"]
    made = _job("", {"scaledjob.keda.sh/name": name}, suspend=False)
    made["metadata"] = {"generateName": f"{name}-", "labels": made["metadata"]["labels"]}
    return Reply((Want(JOBS, made),))


def _seldon_server(body: Json, _seen: Seen) -> Reply | None:
    """Its StatefulSet; fewer replicas than minReplicas are an error (operator/internal/utils.go)."""
    name, spec = body["metadata"]["name"], body["spec"]
    count = _replicas_of(body)
    if count < spec.get("minReplicas", 0):
        return None
    made = stateful_set(name, count, {"seldon-server-name": name})
    return Reply((Want(STATEFULSETS, made, insists=(REPLICAS,)),), {"replicas": count})


def _vllm_runtime(body: Json, seen: Seen) -> Reply:
    """Its Deployment, at its own count (vllmruntime_controller.go)."""
    name, count = body["metadata"]["name"], body["spec"]["deploymentConfig"].get("replicas", 1)
    made = deployment(name, count, {"model": name})
    found = (seen.named(DEPLOYMENTS, body["metadata"]["namespace"], name) or {}).get("status") or {}
    status = {"replicas": count, "readyReplicas": found.get("readyReplicas", 0)}
    return Reply((Want(DEPLOYMENTS, made, insists=(REPLICAS,)),), status)


def _sandbox(body: Json, _seen: Seen) -> Reply:
    """Its one pod, of its own name; none while it is suspended (sandbox_controller.go)."""
    if body["spec"].get("operatingMode") == "Suspended":
        return Reply()
    return Reply((Want(PODS, _pod(body["metadata"]["name"], {"sandbox": "yes"})),))


def _pod(name: str, labels: Mapping[str, str]) -> Json:
    made = template(labels)
    return {"metadata": {"name": name, **made["metadata"]}, "spec": made["spec"]}


def _storm_service(body: Json, seen: Seen) -> Reply:
    """A RoleSet for each replica."""
    name = body["metadata"]["name"]
    count = _replicas_of(body)
    roles = body["spec"]["template"]["spec"]["roles"]
    wants = tuple(
        Want(ROLE_SETS, {"metadata": {"name": f"{name}-{number}"}, "spec": {"roles": roles}})
        for number in range(count)
    )
    ready = sum(
        all(seen.below(PODS, pods["metadata"]["uid"]) for pods in seen.below(POD_SETS, uid))
        for uid in (
            each["metadata"]["uid"] for each in seen.below(ROLE_SETS, body["metadata"]["uid"])
        )
    )
    return Reply(wants, {"replicas": count, "readyReplicas": ready})


def _role_set(body: Json, _seen: Seen) -> Reply:
    """Pods of its own; of roles with a podGroupSize a PodSet, which makes them (roleset/rolesyncer.go)."""
    name = body["metadata"]["name"]
    wants = []
    for role in body["spec"]["roles"]:
        own = f"{name}-{role['name']}"
        if (size := role.get("podGroupSize", 1)) > 1:
            made = {"metadata": {"name": own}, "spec": {"podGroupSize": size}}
            wants.append(Want(POD_SETS, made))
        else:
            wants.append(Want(PODS, _pod(own, {"roleset-name": name})))
    return Reply(tuple(wants))


def _pod_set(body: Json, _seen: Seen) -> Reply:
    name = body["metadata"]["name"]
    pods = (
        _pod(f"{name}-{number}", {"podset-name": name})
        for number in range(body["spec"]["podGroupSize"])
    )
    return Reply(tuple(Want(PODS, each) for each in pods))


def _fleet(body: Json, seen: Seen) -> Reply:
    """Its RayClusterReplicaSet, at its own count."""
    name, count = body["metadata"]["name"], _replicas_of(body)
    spec = {"replicas": count, "template": body["spec"]["template"]}
    made = {"metadata": {"name": f"{name}-1"}, "spec": spec}
    clusters = [
        each
        for below in seen.below(FLEET_SETS, body["metadata"]["uid"])
        for each in seen.below(_resource("RayCluster"), below["metadata"]["uid"])
    ]
    ready = sum((each.get("status") or {}).get("state") == "ready" for each in clusters)
    status = {"replicas": count, "readyReplicas": ready}
    return Reply((Want(FLEET_SETS, made, insists=(REPLICAS,)),), status)


def _fleet_set(body: Json, _seen: Seen) -> Reply:
    """Its RayClusters (rayclusterreplicaset_utils.go)."""
    name = body["metadata"]["name"]
    wants = tuple(
        Want(
            _resource("RayCluster"),
            {"metadata": {"name": f"{name}-{number}"}, "spec": body["spec"]["template"]["spec"]},
        )
        for number in range(_replicas_of(body))
    )
    return Reply(wants)


def _dynamo_graph(body: Json, seen: Seen) -> Reply:
    """Of each service an adapter, whose count is what counts, and a DynamoComponentDeployment.

    dgd_scaling_adapters_reconciler.go: the adapter is made with the graph's count and kept after that.
    """
    graph, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
    wants = []
    for service, spec in body["spec"]["services"].items():
        name = f"{graph}-{service}"
        labels = {GRAPH_LABEL: graph, COMPONENT_LABEL: service}
        made: Json = {"metadata": {"name": name, "labels": labels}}
        reference = {"name": graph, "serviceName": service}
        adapter = {**made, "spec": {"replicas": spec["replicas"], "dgdRef": reference}}
        found = seen.named(_resource("DynamoGraphDeploymentScalingAdapter"), namespace, name)
        count = spec["replicas"] if found is None else _replicas_of(found)
        wants += [
            Want(_resource("DynamoGraphDeploymentScalingAdapter"), adapter),
            Want(crds.BETWEEN[1], {**made, "spec": {"replicas": count}}, insists=(REPLICAS,)),
        ]
    return Reply(tuple(wants))


def _dynamo_component(body: Json, _seen: Seen) -> Reply:
    """Its Deployment, at its own count; the labels of the graph go down to the pods."""
    name, labels = body["metadata"]["name"], body["metadata"]["labels"]
    made = deployment(name, _replicas_of(body), labels)
    return Reply((Want(DEPLOYMENTS, made, insists=(REPLICAS,)),))


LEADER_WORKER_SET = StandIn(
    "lws-controller",
    {_resource("LeaderWorkerSet"): _leader_worker_set, PODS: _leader},
    (STATEFULSETS,),
)
JOB_SET = StandIn("jobset-controller", {_resource("JobSet"): _job_set}, (JOBS,))
KUEUE = StandIn(
    "kueue-controller",
    {JOBS: _kueue(JOBS), _resource("JobSet"): _kueue(_resource("JobSet"))},
    (_resource("Workload.kueue.x-k8s.io"), _resource("LocalQueue")),
)
_INFERENCE = {
    _resource("InferenceGraph"): _stoppable(""),
    _resource("LLMInferenceService"): _stoppable("-kserve", "-kserve-router-scheduler"),
}
KSERVE = StandIn(
    "kserve-controller",
    {_resource("InferenceService"): _inference_service(honours=True), **_INFERENCE},
    (DEPLOYMENTS,),
)
OLD_KSERVE = StandIn(
    "kserve-controller-0-15",
    {_resource("InferenceService"): _inference_service(honours=False)},
    (DEPLOYMENTS,),
)
KNATIVE = StandIn(
    "knative-controller",
    {
        _resource("Service.serving.knative.dev"): _knative_service,
        kinds.LINKS[0]: _configuration,
        kinds.LINKS[1]: _revision,
        _PODAUTOSCALERS: _pod_autoscaler,
    },
    (DEPLOYMENTS, _PODAUTOSCALERS),
    tells="InternalError",
)
ENGINES = Resource("engines.example.com", "v1", "engines", "Engine")
ENGINE = StandIn("engine-controller", {ENGINES: _engine}, (DEPLOYMENTS,), tells="ReconcileError")
"""A parent operator of a kind that nobody here follows."""
_RAY = {
    _resource("RayCronJob"): _ray_cron_job,
    _resource("RayJob"): _ray_job,
    _resource("RayCluster"): _ray_cluster,
}
KUBERAY = StandIn(
    "kuberay-operator",
    {_resource("RayService"): _ray_service(honours=True), **_RAY},
    (_resource("RayCluster"), PODS, JOBS),
)
OLD_KUBERAY = StandIn(
    "kuberay-operator-1-6",
    {_resource("RayService"): _ray_service(honours=False), **_RAY},
    (_resource("RayCluster"), PODS, JOBS),
)
KEDA_JOBS = StandIn("keda-operator-jobs", {_resource("ScaledJob"): _scaled_job})
SELDON = StandIn(
    "seldon-controller", {_resource("Server.mlops.seldon.io"): _seldon_server}, (STATEFULSETS,)
)
PRODUCTION_STACK = StandIn(
    "vllmruntime-controller", {_resource("VLLMRuntime"): _vllm_runtime}, (DEPLOYMENTS,)
)
AGENT_SANDBOX = StandIn("sandbox-controller", {_resource("Sandbox"): _sandbox}, (PODS,))
AIBRIX = StandIn(
    "aibrix-controller-manager",
    {
        _resource("StormService"): _storm_service,
        ROLE_SETS: _role_set,
        POD_SETS: _pod_set,
        _resource("RayClusterFleet"): _fleet,
        FLEET_SETS: _fleet_set,
    },
    (ROLE_SETS, POD_SETS, FLEET_SETS, _resource("RayCluster"), PODS),
)
DYNAMO = StandIn(
    "dynamo-operator",
    {crds.BETWEEN[0]: _dynamo_graph, crds.BETWEEN[1]: _dynamo_component},
    (crds.BETWEEN[1], _resource("DynamoGraphDeploymentScalingAdapter"), DEPLOYMENTS),
)
