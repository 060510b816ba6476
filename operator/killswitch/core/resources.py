"""Resources of the Kubernetes API: where they live and what they are called."""

import re
from dataclasses import dataclass

from killswitch.core.names import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the Kubernetes API."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> str:
        """`deployments.apps`: the resource part of lock keys, as the admission policy writes it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, the object or its subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        place = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        tail = "".join(f"/{part}" for part in (self.plural, name, subresource) if part)
        return f"{root}{place}{tail}"


def plural(kind: str) -> str:
    """What a kind is called in paths and lock keys: by the rules of English, as its authors make it.

    An owner reference names only the kind; the admission policy computes the same (api/admission/lock).
    """
    name = kind.lower()
    if re.search("[^aeiou]y$", name):
        return f"{name[:-1]}ies"
    return f"{name}es" if re.search("(x|s|ch|sh)$", name) else f"{name}s"


PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
EVENTS = Resource("", "v1", "events", "Event")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
STATEFULSETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
REPLICASETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
DAEMONSETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
REPLICATION_CONTROLLERS = Resource("", "v1", "replicationcontrollers", "ReplicationController")
JOBS = Resource("batch", "v1", "jobs", "Job")
CRON_JOBS = Resource("batch", "v1", "cronjobs", "CronJob")
SERVICES = Resource("", "v1", "services", "Service")
INFERENCE_POOLS = Resource("inference.networking.k8s.io", "v1", "inferencepools", "InferencePool")

POLICIES = Resource(GROUP, VERSION, "killswitchpolicies", "KillSwitchPolicy")
CLUSTER_POLICIES = Resource(
    GROUP, VERSION, "clusterkillswitchpolicies", "ClusterKillSwitchPolicy", namespaced=False
)
SHUTDOWNS = Resource(GROUP, VERSION, "shutdowns", "Shutdown")
CLUSTER_SHUTDOWNS = Resource(
    GROUP, VERSION, "clustershutdowns", "ClusterShutdown", namespaced=False
)
RECORDS = Resource(GROUP, VERSION, "shutdownrecords", "ShutdownRecord")
BYPASSES = Resource(GROUP, VERSION, "bypasses", "Bypass")
FREEZES = Resource(GROUP, VERSION, "freezes", "Freeze")
STANDING_ORDERS = Resource(GROUP, VERSION, "standingorders", "StandingOrder")
NODE_GUARDS = Resource(GROUP, VERSION, "nodeguards", "NodeGuard", namespaced=False)
