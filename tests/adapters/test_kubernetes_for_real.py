"""What the real API server tells: what it serves, and what it has deleted."""

from collections.abc import AsyncIterator

import pytest

from killswitch.adapters import credentials
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core.catalogue import Catalogue
from killswitch.core.errors import UnavailableError
from killswitch.core.kinds import Verb, scaled, unsupported
from killswitch.core.resources import DEPLOYMENTS, JOBS, NODES, PODS, Resource
from killswitch.discovery import Discovery
from tests.adapters.foreign_server import serving
from tests.cluster import crds
from tests.cluster.control_plane import ControlPlane

ENGINE = Resource("served.example.com", "v1", "engines", "Engine")
CHART = Resource("served.example.com", "v1", "charts", "Chart")
_API_SERVICES = Resource(
    "apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False
)


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncIterator[KubernetesApi]:
    """The product's own client."""
    loaded = credentials.load(kubeconfig=str(control_plane.admin.kubeconfig))
    async with KubernetesApi(loaded) as api:
        yield api


@pytest.fixture
def _kinds(control_plane: ControlPlane) -> None:
    """One custom kind with `/scale`, whose count stands somewhere of its own, and one without."""
    engine = scaled(ENGINE, path=("spec", "pool", "size"), qualified=True)
    crds.install(control_plane, [crds.definition(engine), crds.definition(unsupported(CHART))])


@pytest.mark.cluster
@pytest.mark.usefixtures("_kinds")
async def test_every_kind_is_there_with_its_version_and_its_scale(cluster: KubernetesApi) -> None:
    """Built in or custom, namespaced or not."""
    served = {each.resource.key: each for each in await cluster.served()}
    assert (served[DEPLOYMENTS.key].resource, served[DEPLOYMENTS.key].scales) == (DEPLOYMENTS, True)
    assert (served[JOBS.key].resource, served[JOBS.key].scales) == (JOBS, False)
    assert served[PODS.key].resource == PODS
    assert served[NODES.key].resource == NODES
    assert (served[ENGINE.key].resource, served[ENGINE.key].scales) == (ENGINE, True)
    assert (served[CHART.key].resource, served[CHART.key].scales) == (CHART, False)
    assert served[ENGINE.key].versions == {"v1"}
    assert "pods/exec" not in served


@pytest.mark.cluster
@pytest.mark.usefixtures("_kinds")
async def test_a_group_that_does_not_answer_is_left_out(
    control_plane: ControlPlane, cluster: KubernetesApi
) -> None:
    """An aggregated API server that is away."""
    body = {
        "apiVersion": _API_SERVICES.api_version,
        "kind": _API_SERVICES.kind,
        "metadata": {"name": "v1.away.example.com"},
        "spec": {
            "group": "away.example.com",
            "version": "v1",
            "groupPriorityMinimum": 10,
            "versionPriority": 10,
            "insecureSkipTLSVerify": True,
            "service": {"name": "nobody", "namespace": "default"},
        },
    }
    await cluster.create(_API_SERVICES, body)
    try:
        served = {each.resource.key for each in await cluster.served()}
    finally:
        await cluster.delete(_API_SERVICES, "v1.away.example.com")
    assert {DEPLOYMENTS.key, ENGINE.key} <= served
    assert not [key for key in served if key.endswith("away.example.com")]


@pytest.mark.cluster
@pytest.mark.usefixtures("_kinds")
async def test_where_a_custom_count_stands_is_learned_from_its_definition(
    cluster: KubernetesApi,
) -> None:
    """So that the count that is recorded is the one that a restore writes."""
    discovery = Discovery(cluster, SystemClock())
    catalogue = await discovery.look(frozenset({"Engine.served.example.com"}))
    engine, chart = (catalogue.find(f"{each}.served.example.com") for each in ("Engine", "Chart"))
    assert engine is not None
    assert chart is not None
    assert (engine.verb, engine.settings[0].path) == (Verb.SCALE, ("spec", "pool", "size"))
    assert chart.verb is Verb.NONE
    assert catalogue.named(ENGINE.key) == "Engine.served.example.com"
    assert discovery.asked


async def test_what_cannot_be_asked_stays_as_it_was_known() -> None:
    """An API server before aggregated discovery, or a proxy's page: what every cluster serves."""
    with serving() as server:
        loaded = credentials.Credentials(server.url, None, lambda: "")
        async with KubernetesApi(loaded) as api:
            server.answer(200, {"kind": "APIGroupList", "groups": []})
            with pytest.raises(UnavailableError, match="aggregated discovery"):
                await api.served()
            discovery = Discovery(api, SystemClock())
            catalogue = await discovery.look()
    assert catalogue.kinds.keys() == Catalogue.built_in().kinds.keys()
    assert not discovery.asked


@pytest.mark.cluster
@pytest.mark.parametrize("spec", [{}, {"nodeName": "gpu-0"}], ids=["pending", "bound"])
async def test_whoever_asks_a_pod_to_go_is_told_what_it_was(
    cluster: KubernetesApi, namespace: str, spec: dict[str, str]
) -> None:
    """Also of one that is gone with the answer: that is how bare pods are recorded."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bare", "labels": {"app": "bare"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "schedulerName": "nobody", **spec},
    }
    made = await cluster.create(PODS, body, namespace)
    uid = made["metadata"]["uid"]
    answer = await cluster.delete(PODS, "bare", namespace, grace=1, uid=uid)
    assert (answer["kind"], answer["metadata"]["uid"]) == ("Pod", uid)
    assert answer["spec"]["containers"][0]["image"] == "i"
