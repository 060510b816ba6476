"""The blast radius of a plan: what stops, what it belongs to, what is lost, who depends on it.

Pure, from the plan, the inventory and, where somebody has looked, from what stands around it: Services,
routes, and models that share a server. What was not looked at is not claimed absent: that is for
whoever looked to say.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from killswitch.core import blind_spots, kinds, lock_keys
from killswitch.core.inventory import Inventory, Pod, Workload
from killswitch.core.kinds import Verb
from killswitch.core.queries import TargetQuery
from killswitch.core.resources import PODS, SERVICES
from killswitch.core.stops import Plan

Json = Mapping[str, Any]
Place = tuple[str, str, str]
"""Kind, namespace and name of an object."""


@dataclass(frozen=True, slots=True)
class Owner:
    """What controls an object that was seen, as the object itself says."""

    kind: str
    group: str
    name: str

    def __str__(self) -> str:
        """`Engine.example.com x`, or as its kind is called where it is known."""
        return f"{kinds.named(self.kind, self.group or None)} {self.name}"


@dataclass(frozen=True, slots=True)
class Above:
    """Something was named, or is planned, that belongs to something else."""

    namespace: str
    below: str
    top: str
    stopped: bool
    """Whether the plan stops the other wholly; else it is not known here, and starts what it owns."""

    def __str__(self) -> str:
        """`Deployment x belongs to InferenceService y: all of it stops`."""
        if self.stopped:
            return f"{self.below} belongs to {self.top}: all of it stops"
        return (
            f"{self.below} belongs to {self.top}, which is not known here: it is not brought to rest,"
            " and a release lets it start what it owns"
        )


@dataclass(frozen=True, slots=True)
class Loss:
    """What the stop of these workloads loses for good."""

    lost: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entrance:
    """A Service or InferencePool, and how many of the pods behind it would stop."""

    kind: str
    namespace: str
    name: str
    stopping: int
    pods: int

    @property
    def shared(self) -> bool:
        """Whether others behind it go on."""
        return self.stopping < self.pods

    @property
    def place(self) -> Place:
        """What routes call it."""
        return self.kind, self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Route:
    """An object that leads traffic to Services or InferencePools."""

    kind: str
    namespace: str
    name: str
    hosts: tuple[str, ...]
    backends: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Lead:
    """A route that leads to pods of the plan."""

    route: Route
    through: tuple[str, ...]
    """Names of the affected Services and InferencePools behind it."""
    wholly: bool
    """Whether nothing behind it goes on."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A model that is served by a server of several."""

    kind: str
    namespace: str
    name: str
    server: tuple[str, str]
    """Kind and name of its server."""


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around the plan, as far as it was looked at."""

    selectors: Sequence[tuple[Place, Mapping[str, str]]] = ()
    """Services and InferencePools with what they select."""
    routes: Sequence[Route] = ()
    tenants: Sequence[Tenant] = ()


@dataclass(frozen=True, slots=True)
class Blast:
    """Everything that one fire would touch."""

    objects: Mapping[str, int]
    """How many of each kind are brought to rest, held or cordoned."""
    replicas: int
    """Asked for by what has a count."""
    pods: int
    gpus: int
    nodes: Mapping[str, int]
    """How many of the pods run where; for a stop of nodes, of each."""
    above: tuple[Above, ...] = ()
    losses: tuple[Loss, ...] = ()
    restless: tuple[str, ...] = ()
    """What has no state of rest, and why: a release lets its controller start it."""
    not_known: str = ""
    """Of whose pods nothing is known, with the cure."""
    gates: tuple[tuple[str, str], ...] = ()
    """Kinds whose rest only newer controllers honour, and from which version on."""
    entrances: tuple[Entrance, ...] = ()
    leads: tuple[Lead, ...] = ()
    tenants: tuple[Tenant, ...] = ()


def of(
    plan: Plan,
    inventory: Inventory,
    queries: Iterable[TargetQuery] = (),
    owners: Mapping[str, Owner] | None = None,
) -> Blast:
    """The blast radius. `queries` made the plan; `owners` by uid: who controls what was seen."""
    targets = [each for stop in plan.stops for each in stop.targets]
    pods = [pod for stop in plan.stops for pod in stop.pods]
    nodes = [node.name for stop in plan.stops for node in stop.nodes]
    objects = Counter(each.kind.name for each in targets)
    loose = [pod for stop in plan.stops for pod in stop.pods if pod.uid in stop.loose]
    objects += Counter({PODS.kind: len(loose), "Node": len(nodes)})
    used = {each.kind.name: each.kind for each in targets}
    return Blast(
        objects=dict(sorted(objects.items())),
        replicas=sum(_asked(each) for each in targets),
        pods=len(pods),
        gpus=plan.gpus or sum(node.gpus for stop in plan.stops for node in stop.nodes),
        nodes=dict.fromkeys(nodes, 0) | _by_node(pods),
        above=_above(plan, inventory, tuple(queries), owners or {}),
        losses=losses(plan),
        restless=tuple(
            f"{each}: {each.kind.note}" for each in targets if each.kind.verb is Verb.NONE
        ),
        not_known=str(blind_spots.not_known(plan.stops)),
        gates=tuple(sorted((name, kind.since) for name, kind in used.items() if kind.since)),
    )


def beside(found: Blast, plan: Plan, inventory: Inventory, around: Around) -> Blast:
    """The same with what stands around the plan."""
    targets = [each for stop in plan.stops for each in stop.targets]
    pods = [pod for stop in plan.stops for pod in stop.pods]
    entrances = _entrances(pods, inventory, around)
    return replace(
        found,
        entrances=entrances,
        leads=_leads(around.routes, entrances),
        tenants=_tenants(targets, around.tenants),
    )


def losses(plan: Plan) -> tuple[Loss, ...]:
    """What the plan loses for good: each with those that lose it."""
    found: dict[str, list[str]] = defaultdict(list)
    for each in (each for stop in plan.stops for each in stop.targets):
        if each.kind.lost:
            found[each.kind.lost].append(str(each))
    for pod in (pod for stop in plan.stops for pod in stop.pods if pod.uid in stop.loose):
        if not pod.owner and not pod.mirror:  # a static pod cannot be stopped by this at all
            found[kinds.TABLE[PODS.kind].lost].append(f"Pod {pod.name}")
    return tuple(Loss(lost, tuple(names)) for lost, names in sorted(found.items()))


def _asked(workload: Workload) -> int:
    if not workload.kind.counted:
        return 0
    return 1 if workload.replicas is None else workload.replicas


def _by_node(pods: Iterable[Pod]) -> dict[str, int]:
    return dict(sorted(Counter(pod.node for pod in pods if pod.node).items()))


def _above(
    plan: Plan,
    inventory: Inventory,
    queries: Sequence[TargetQuery],
    owners: Mapping[str, Owner],
) -> tuple[Above, ...]:
    found = [each for query in queries for each in _named_below(query, plan, inventory)]
    # What is at the top of what is known may have an owner that nobody here knows.
    for workload in (each for stop in plan.stops for each in stop.targets):
        owner = owners.get(workload.owner)
        if owner is not None and inventory.owner_of(workload.owner) is None:
            found.append(Above(workload.namespace, str(workload), str(owner), stopped=False))
    for stop in plan.stops:
        for pod in () if stop.nodes else stop.pods:  # who owns it starts it on another node
            owner = owners.get(pod.owner)
            if owner is not None and inventory.owner_of(pod.owner) is None:
                found.append(Above(pod.namespace, f"Pod {pod.name}", str(owner), stopped=False))
    return tuple(dict.fromkeys(found))


def _named_below(query: TargetQuery, plan: Plan, inventory: Inventory) -> Iterable[Above]:
    """Where more stops than what was named."""
    places = [stop.namespace for stop in plan.stops if query.namespace in ("", stop.namespace)]
    for namespace in dict.fromkeys(places):
        if query.kind == PODS.kind:
            yield from _pods_below(query, namespace, inventory)
        elif query.name is not None:
            named = inventory.workload(namespace, query.kind, query.name)
            top = (
                inventory.above(namespace, query.kind, query.name)
                if named is None
                else inventory.top(named.uid)
            )
            if top is not None and (named is None or top.uid != named.uid):
                yield Above(namespace, f"{query.kind} {query.name}", str(top), stopped=True)


def _pods_below(query: TargetQuery, namespace: str, inventory: Inventory) -> Iterable[Above]:
    meant: dict[str, list[Pod]] = defaultdict(list)
    tops: dict[str, Workload] = {}
    for pod in inventory.pods_in(namespace):
        found = inventory.top(pod.owner)
        if found is not None and query.matches(pod.name, pod.labels, pod.images):
            meant[found.uid].append(pod)
            tops[found.uid] = found
    for uid, pods in meant.items():
        top = tops[uid]
        every = len(inventory.pods_of(lock_keys.owner_uids(top, inventory)))
        if query.name is not None:
            yield Above(namespace, f"Pod {query.name}", str(top), stopped=True)
        elif len(pods) < every:
            yield Above(namespace, f"{len(pods)} of {every} pods", str(top), stopped=True)


def _entrances(pods: Sequence[Pod], inventory: Inventory, around: Around) -> tuple[Entrance, ...]:
    """Services that lead to any of these pods. Cost: of the pods and Services, not their product."""
    stopping = {pod.uid for pod in pods}
    places = {pod.namespace for pod in pods}
    index: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for namespace in places:
        for pod in inventory.pods_in(namespace):
            for key, value in pod.labels.items():
                index[namespace, key, value].add(pod.uid)
    found = []
    for (kind, namespace, name), selector in around.selectors:
        if namespace not in places or not selector:
            continue
        sets = [index.get((namespace, key, value), set()) for key, value in selector.items()]
        behind = set.intersection(*sorted(sets, key=len))
        stops = behind & stopping
        if stops:
            found.append(Entrance(kind, namespace, name, len(stops), len(behind)))
    return tuple(found)


def _leads(routes: Iterable[Route], entrances: Iterable[Entrance]) -> tuple[Lead, ...]:
    affected = {each.place: each for each in entrances}
    found = []
    for route in routes:
        through = [affected[each] for each in dict.fromkeys(route.backends) if each in affected]
        if through:
            wholly = all(
                each in affected and not affected[each].shared for each in set(route.backends)
            )
            found.append(Lead(route, tuple(each.name for each in through), wholly))
    return tuple(found)


def _tenants(targets: Iterable[Workload], tenants: Iterable[Tenant]) -> tuple[Tenant, ...]:
    servers = {(each.namespace, each.kind.name, each.name) for each in targets}
    return tuple(each for each in tenants if (each.namespace, *each.server) in servers)


# --- from Kubernetes JSON --------------------------------------------------------------------------


def owner(metadata: Json) -> tuple[str, Owner] | None:
    """The controlling owner with its uid; None where nothing controls the object."""
    for each in metadata.get("ownerReferences") or ():
        if each.get("controller"):
            group, _, _version = each["apiVersion"].rpartition("/")
            return each["uid"], Owner(each["kind"], group, each["name"])
    return None


def selector(body: Json) -> tuple[Place, Mapping[str, str]]:
    """A Service or InferencePool with the labels that it selects; none for one without pods."""
    spec, metadata = body.get("spec") or {}, body["metadata"]
    found = spec.get("selector") or {}
    # InferencePool: a plain map up to v1alpha2, a label selector from v1 on.
    found = found.get("matchLabels", found) if isinstance(found.get("matchLabels"), dict) else found
    return (body["kind"], metadata["namespace"], metadata["name"]), found


def route(body: Json) -> Route:
    """What an HTTPRoute, GRPCRoute, Ingress or VirtualService leads to."""
    metadata, spec = body["metadata"], body.get("spec") or {}
    read = _ROUTES.get(body["kind"], _gateway)
    hosts, backends = read(spec, metadata["namespace"])
    return Route(body["kind"], metadata["namespace"], metadata["name"], hosts, backends)


_Read = Callable[[Json, str], tuple[tuple[str, ...], tuple[Place, ...]]]


def _gateway(spec: Json, namespace: str) -> tuple[tuple[str, ...], tuple[Place, ...]]:
    refs = [ref for rule in spec.get("rules") or () for ref in rule.get("backendRefs") or ()]
    places = [
        (ref.get("kind") or SERVICES.kind, ref.get("namespace") or namespace, ref["name"])
        for ref in refs
    ]
    return tuple(spec.get("hostnames") or ()), tuple(places)


def _ingress(spec: Json, namespace: str) -> tuple[tuple[str, ...], tuple[Place, ...]]:
    rules = spec.get("rules") or ()
    paths = [path for rule in rules for path in (rule.get("http") or {}).get("paths") or ()]
    backends = [path.get("backend") or {} for path in paths] + [spec.get("defaultBackend") or {}]
    names = [(each.get("service") or {}).get("name") for each in backends]
    places = [(SERVICES.kind, namespace, name) for name in names if name]
    return tuple(rule["host"] for rule in rules if rule.get("host")), tuple(places)


def _virtual(spec: Json, namespace: str) -> tuple[tuple[str, ...], tuple[Place, ...]]:
    rules = [rule for name in ("http", "tls", "tcp") for rule in spec.get(name) or ()]
    routes = [each for rule in rules for each in rule.get("route") or ()]
    hosts = [(each.get("destination") or {}).get("host", "") for each in routes]
    places = []
    for host in filter(None, hosts):
        name, _, rest = host.partition(".")  # `vllm`, `vllm.prod`, `vllm.prod.svc.cluster.local`
        places.append((SERVICES.kind, rest.partition(".")[0] or namespace, name))
    return tuple(spec.get("hosts") or ()), tuple(places)


_ROUTES: Mapping[str, _Read] = {
    "HTTPRoute": _gateway,
    "GRPCRoute": _gateway,
    "Ingress": _ingress,
    "VirtualService": _virtual,
}
SELECTORS = (
    SERVICES.key,
    "inferencepools.inference.networking.k8s.io",
    "inferencepools.inference.networking.x-k8s.io",
)
"""Resources that select the pods behind them."""
ROUTES = (
    "httproutes.gateway.networking.k8s.io",
    "grpcroutes.gateway.networking.k8s.io",
    "ingresses.networking.k8s.io",
    "virtualservices.networking.istio.io",
)
"""Resources that lead traffic to those."""
TENANTS: Mapping[str, tuple[str, str]] = {
    "models.mlops.seldon.io": ("server", "Server.mlops.seldon.io"),
    "trainedmodels.serving.kserve.io": ("inferenceService", "InferenceService"),
}
"""Resources that are models of a server of several: the field of `spec` that names it, its kind."""


def tenant(key: str, body: Json) -> Tenant | None:
    """The model, and its server; None where it names none."""
    field, kind = TENANTS[key]
    name = (body.get("spec") or {}).get(field)
    metadata = body["metadata"]
    if not name:
        return None
    return Tenant(body["kind"], metadata["namespace"], metadata["name"], (kind, name))
