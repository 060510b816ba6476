"""Standing orders follow their policy: made, kept current, and gone with what asked for them."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from killswitch.adapters.clock import SystemClock
from killswitch.adapters.promql import PromqlChecker
from killswitch.api.acceptance import accept
from killswitch.core.errors import UnavailableError
from killswitch.core.resources import (
    CLUSTER_POLICIES,
    DEPLOYMENTS,
    POLICIES,
    STANDING_ORDERS,
    Resource,
)
from killswitch.core.stops import Stop
from killswitch.manager.guards import Guards
from killswitch.manager.places import Places
from killswitch.manager.policies import Policies
from killswitch.manager.reactions import Reactions
from killswitch.manager.rounds import Key
from killswitch.manager.standing import StandingOrders, _wanted
from killswitch.manager.targets import Targets
from killswitch.ports import Json, Page
from killswitch.settings import Settings
from tests.fakes.clock import FakeClock
from tests.fakes.sample_feeds import FakeSampleFeeds
from tests.kernel.objects import GROUP, cluster_policy, policy
from tests.kernel.test_bypasses import suspend
from tests.manager.guarded import Ward
from tests.manager.harness import Scene
from tests.reactor.harness import eventually

KILL = {"onIsolation": "Kill", "isolatedAfter": "1m"}


async def orders(scene: Scene, namespace: str = "") -> dict[str, Json]:
    """The standing orders of the namespace by name."""
    found = (await scene.bench.cluster.list(STANDING_ORDERS, namespace or scene.namespace)).items
    return {each["metadata"]["name"]: each for each in found}


async def order(scene: Scene, name: str, **spec: Any) -> Json:
    """That one, once its spec has this in it."""

    async def look() -> Json | None:
        found = (await orders(scene)).get(name)
        return found if found and found["spec"].items() >= spec.items() else None

    return await eventually(look)


async def none(scene: Scene, within: float = 20.0) -> None:
    """Return when there is none."""

    async def look() -> bool:
        return not await orders(scene)

    await eventually(look, within=within)


@pytest.mark.cluster
async def test_a_policy_that_asks_has_an_order_in_its_namespace(ward: Ward) -> None:
    """By name and uid of what it targets, owned by the policy; it goes when the policy goes."""
    scene = ward.scene
    made = await scene.bench.deployment("vllm", 1)
    uid = made["metadata"]["uid"]
    async with scene.manager(account=ward.account):
        created = await scene.bench.policy("p", targets=[scene.vllm], action=KILL)
        found = await order(scene, "p")
        await scene.change_policy("p", action={"onIsolation": "Freeze"})
        await order(scene, "p", onIsolation="Freeze", after="1m")
        await scene.change_policy("p", mode="DryRun")
        await none(scene)
        await scene.change_policy("p", mode="Enforce")
        await order(scene, "p")
        await scene.change_policy("p", action={"onIsolation": "Ignore"})
        await none(scene)
        await scene.change_policy("p", action=KILL)
        await order(scene, "p")
        await scene.bench.cluster.delete(POLICIES, "p", scene.namespace)
        # Kubernetes' garbage collector learns of new kinds each half minute.
        await none(scene, within=90)
    reference = {"kind": "KillSwitchPolicy", "name": "p", "uid": created["metadata"]["uid"]}
    assert found["spec"] == {
        "policy": reference,
        "onIsolation": "Kill",
        "after": "1m",
        "locks": {
            "deployments.apps/vllm": "Deployment/vllm",
            f"uid/{uid}": "Deployment/vllm",
        },
    }
    (owner,) = found["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "killswitch.dev/v1alpha1", **reference}


@pytest.mark.cluster
async def test_a_policy_that_is_not_ready_has_none(ward: Ward) -> None:
    """It would not stop there either."""
    scene = ward.scene
    await scene.bench.deployment("vllm", 1)
    async with scene.manager(account=ward.account):
        await scene.bench.policy("p", targets=[scene.vllm], action=KILL)
        await order(scene, "p")
        query = {"query": "sum(up", "above": "1"}
        bad = {"name": "load", "prometheus": query, "onNoData": "Hold"}
        await scene.change_policy("p", signals=[bad])
        await scene.policy_condition("p", "Ready", "False")
        await none(scene)


@pytest.mark.cluster
async def test_a_bypassed_policy_has_none(ward: Ward) -> None:
    """Who suspends it to work on the network means the guards, too; once that is over the order is back."""
    scene = ward.scene
    await scene.bench.deployment("vllm", 1)
    async with scene.manager(account=ward.account):
        await scene.bench.policy("p", targets=[scene.vllm], action=KILL)
        await order(scene, "p")
        answer = suspend(scene.kernel, scene.namespace, ward.ahead(3600))
        assert answer.status == 201, answer.message
        await scene.change_policy("p", riskDomain="looked-at-again")
        await none(scene)
        path = f"{GROUP}/namespaces/{scene.namespace}/bypasses/b"
        assert scene.kernel.api().delete(path).status == 200

        async def back() -> bool:
            await scene.change_policy("p", riskDomain=f"turn-{next(turns)}")
            return "p" in await orders(scene)

        turns = itertools.count()
        await eventually(back)


class Flaky:
    """A cluster that does not list Deployments while it is told so."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.blind = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def list(self, resource: Resource, namespace: str = "", **more: Any) -> Page:
        """What is there, or no answer."""
        if self.blind and resource == DEPLOYMENTS:
            raise UnavailableError("no answer")
        page: Page = await self.inner.list(resource, namespace, **more)
        return page


@pytest.mark.cluster
async def test_what_cannot_be_looked_up_changes_nothing(ward: Ward) -> None:
    """Neither is an order withdrawn, nor written again that stands already."""
    scene = ward.scene
    await scene.bench.deployment("vllm", 1)
    key = Key(POLICIES, scene.namespace, "p")
    async with ward.cluster() as own:
        flaky = Flaky(own)
        clock = FakeClock(SystemClock().now())
        flow = policies(flaky, clock)
        await scene.bench.policy("p", targets=[scene.vllm], action=KILL)
        await flow.look(key)
        first = await order(scene, "p")
        flaky.blind = True
        await clock.advance(6)
        again = await flow.look(key)
        unknown = await scene.policy_condition("p", "Freezable", "Unknown")
        kept = await order(scene, "p")
        flaky.blind = False
        await clock.advance(6)
        await flow.look(key)
    condition = await scene.policy_condition("p", "Freezable", "Unknown")
    assert unknown == "the API server did not say what the targets are"
    assert again == 5.0
    versions = [each["metadata"]["resourceVersion"] for each in (first, kept)]
    versions.append((await order(scene, "p"))["metadata"]["resourceVersion"])
    assert len(set(versions)) == 1
    assert condition.startswith("no report of a node guard has been read yet")


def policies(cluster: Any, clock: FakeClock) -> Policies:
    """The flow for policies, over this cluster, with guards that nobody has listed."""
    settings = Settings()

    def nobody(_key: Key, _after: float = 0.0) -> None:
        """Wake nobody."""

    reactions = Reactions(FakeSampleFeeds(), clock, settings, nobody)
    guards = Guards(cluster, clock, nobody)
    places = Places(cluster, clock)
    return Policies(
        cluster, clock, PromqlChecker(), reactions, settings, guards=guards, places=places
    )


@pytest.mark.cluster
async def test_a_cluster_policy_has_one_in_each_namespace(ward: Ward) -> None:
    """Under a name that says whose it is; a namespace that is named no more loses it."""
    scene, cluster = ward.scene, ward.scene.bench.cluster
    other = f"{scene.namespace}-two"
    scene.kernel.api().create("/api/v1/namespaces", {"metadata": {"name": other}})
    name = scene.namespace
    target = {"kind": "Namespace", "namespaces": [scene.namespace, other]}
    body = cluster_policy(name, mode="Enforce", targets=[target], action=KILL)
    async with scene.manager(account=ward.account):
        created = await cluster.create(CLUSTER_POLICIES, body)
        found = await order(scene, f"cluster-{name}")

        async def there(count: int) -> bool:
            return len(await orders(scene, other)) == count

        await eventually(lambda: there(1))
        fewer = {"spec": {"targets": [{**target, "namespaces": [scene.namespace]}]}}
        await cluster.patch(CLUSTER_POLICIES, name, fewer)
        await eventually(lambda: there(0))
        await cluster.delete(CLUSTER_POLICIES, name)
        await none(scene)
    assert found["spec"]["scope"] == {"wholeNamespace": True}
    assert "locks" not in found["spec"]
    assert found["spec"]["policy"]["uid"] == created["metadata"]["uid"]


def compiled(body: Json, **metadata: str) -> Any:
    """The policy of this body in core terms."""

    def check(_field: str, _query: str) -> Mapping[str, str]:
        return {}

    body["metadata"] |= {"namespace": "prod", "uid": "0123456789", **metadata}
    return accept(body, check)


def test_parts_are_numbered_and_names_of_others_are_left_to_them() -> None:
    """A policy may be called as another one's order is: both must have theirs."""
    plan = Targets(tuple(Stop("prod", locks={f"uid/{n}": ""}) for n in range(3)))
    wanted = dict(_wanted(compiled(policy("p", action=KILL)), plan, {("prod", "p-part-2")}))
    assert [name for _, name in wanted] == ["p", "p-part-2-01234567", "p-part-3"]
    assert [list(spec["locks"]) for spec in wanted.values()] == [["uid/0"], ["uid/1"], ["uid/2"]]


class Counting:
    """A cluster without standing orders, that counts who asks."""

    def __init__(self) -> None:
        self.asked = 0

    async def list(self, *_: Any, **__: Any) -> Page:
        """None."""
        self.asked += 1
        return Page([], "1")


async def test_a_policy_that_never_asked_costs_one_look() -> None:
    """After that it is known to have none, until it is another."""
    cluster = Counting()
    standing, key = StandingOrders(cluster), Key(POLICIES, "prod", "p")  # type: ignore[arg-type]
    for uid in ("a", "a", "b", "b"):
        await standing.withdraw(key, uid)
    standing.forget(key)
    await standing.withdraw(key, "b")
    assert cluster.asked == 3


@pytest.mark.cluster
async def test_a_policy_beyond_its_limits_has_none(ward: Ward) -> None:
    """What it may not stop while people watch, no guard may kill while nobody does."""
    scene = ward.scene
    await scene.bench.deployment("vllm", 1)
    await scene.bench.deployment("other", 1)
    both = [scene.vllm, {"kind": "Deployment", "name": "other"}]
    async with scene.manager(account=ward.account):
        await scene.bench.policy("p", targets=both, action=KILL)
        await order(scene, "p")
        await scene.change_policy("p", limits={"maxTargets": 1})
        await none(scene)
        message = await scene.policy_condition("p", "Freezable", "False", "BeyondLimits")
    assert message == (
        "2 targets, limits.maxTargets is 1: nothing would be frozen, and there are no standing orders"
    )
