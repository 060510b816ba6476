"""Two real API servers on one etcd: a stop needs one of them, and its proof all that answer."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from killswitch.adapters import credentials
from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core import conditions
from killswitch.core.resources import SHUTDOWNS
from killswitch.manager import armed
from killswitch.ports import Json
from killswitch.settings import Settings
from tests.cluster.control_plane import ControlPlane
from tests.cluster.proxy import proxied
from tests.faults.conftest import breakable, message
from tests.reactor.harness import Bench, Dial, eventually, reactor

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
VLLM = {"kind": "Deployment", "name": "vllm"}


@pytest.fixture(scope="module")
def own() -> Iterator[ControlPlane]:
    """A fresh one, which gets more API servers."""
    with breakable() as running:
        yield running


@contextlib.contextmanager
def second(own: ControlPlane, *flags: str) -> Iterator[str]:
    """Another API server's URL."""
    url = own.add_api_server(*flags)
    try:
        yield url
    finally:
        own.stop_api_server_at(url)


@contextlib.asynccontextmanager
async def reaching(own: ControlPlane, scene: Bench, *urls: str) -> AsyncIterator[Bench]:
    """The scene through a client that prefers these."""
    loaded = replace(credentials.load(kubeconfig=str(own.admin.kubeconfig)), preferred=urls)
    async with KubernetesApi(loaded) as cluster:
        yield Bench(cluster, scene.namespace, Dial())


async def test_locked_is_said_once_each_api_server_denies(own: ControlPlane, scene: Bench) -> None:
    """Both are tried, and both are counted in the message."""
    await scene.deployment("vllm", 2)
    await scene.policy("runaway", targets=[VLLM])
    with second(own) as url:
        async with reaching(own, scene, url) as seen, reactor(seen):
            seen.dial.turn("runaway", 500)
            # Its policies are blind for up to half a minute after its start.
            found = await eventually(lambda: _locked(seen), within=90)
    assert message(found, "Locked") == "a dry-run restart was denied by 2 of 2 API servers"


async def _locked(seen: Bench) -> Json | None:
    found = await seen.cluster.get(SHUTDOWNS, "runaway-1", seen.namespace)
    observed = found.get("status", {}).get("conditions", ())
    return found if conditions.holds(observed, "Locked") else None


async def test_locked_is_not_said_while_one_of_them_does_not_deny(
    own: ControlPlane, scene: Bench
) -> None:
    """One that evaluates no admission policies: the stop goes on, the proof says where it is open."""
    await scene.deployment("vllm", 2)
    await scene.policy("runaway", targets=[VLLM])
    with second(own, "--disable-admission-plugins=ValidatingAdmissionPolicy") as url:
        async with reaching(own, scene, own.server, url) as seen, reactor(seen):
            seen.dial.turn("runaway", 500)
            found = await seen.with_condition(SHUTDOWNS, "runaway-1", "Stopped", "True")
            locked = next(c for c in found["status"]["conditions"] if c["type"] == "Locked")
            assert locked["status"] == "False"
            assert "does not deny a restart" in locked["message"]
            assert url in locked["message"]
            proof = await armed.prove(seen.cluster, Settings(), await seen.cluster.whoami())
    assert await scene.pods() == []
    assert not proof.denied


async def test_a_dead_api_server_is_passed_by(own: ControlPlane, scene: Bench) -> None:
    """It dies after the reactor has started; the stop runs over the other, and the proof names it."""
    await scene.deployment("vllm", 2)
    await scene.policy("runaway", targets=[VLLM])
    with contextlib.ExitStack() as until_dead:
        url = until_dead.enter_context(second(own))
        async with reaching(own, scene, url, own.server) as seen, reactor(seen):
            assert str(seen.cluster) == url
            until_dead.close()
            seen.dial.turn("runaway", 500)
            found = await scene.stopped("runaway-1")
            assert str(seen.cluster) == own.server
    text = message(found, "Locked")
    assert text.startswith("a dry-run restart was denied by 1 of 2 API servers; ")
    assert f"{url} did not answer" in text
    assert await scene.pods() == []


async def test_an_api_server_that_has_frozen_is_passed_by(own: ControlPlane, scene: Bench) -> None:
    """It takes requests and never answers: pings find that out, and the next is asked."""
    await scene.deployment("vllm", 2)
    async with (
        proxied(own.server) as proxy,
        reaching(own, scene, proxy.url, own.server) as seen,
    ):
        assert await seen.cluster.warm(4) == 4
        proxy.swallow()
        assert await seen.cluster.warm(4) == 0
        assert str(seen.cluster) == own.server
        assert len(await seen.pods("vllm")) == 2


async def test_connections_that_were_closed_while_idle_do_not_fail_a_stop(
    own: ControlPlane, scene: Bench
) -> None:
    """All of the pool is dropped at once, watches too; the next decision stops all the same."""
    await scene.deployment("vllm", 2)
    await scene.policy("runaway", targets=[VLLM])
    loaded = credentials.load(kubeconfig=str(own.admin.kubeconfig))
    async with (
        proxied(own.server) as proxy,
        KubernetesApi(replace(loaded, server=proxy.url)) as cluster,
    ):
        seen = Bench(cluster, scene.namespace, Dial())
        async with reactor(seen):
            await cluster.warm(16)
            proxy.drop_all()
            seen.dial.turn("runaway", 500)
            await scene.stopped("runaway-1")
    assert await scene.pods() == []


async def test_a_rotated_token_is_used_at_once_and_on_the_same_connections(
    own: ControlPlane, scene: Bench, tmp_path: Path
) -> None:
    """As the kubelet rotates it: the file's content is replaced, and nothing else happens."""
    first = own.service_account(scene.namespace, "first")
    other = own.service_account(scene.namespace, "second")
    file = tmp_path / "token"
    file.write_text(first.token)
    loaded = credentials.load(kubeconfig=str(own.admin.kubeconfig))
    async with proxied(own.server) as proxy:
        rotating = replace(loaded, server=proxy.url, authorization=credentials.FileToken(file))
        async with KubernetesApi(rotating) as cluster:
            assert await cluster.whoami() == first.name
            fresh = tmp_path / "fresh"
            fresh.write_text(other.token)
            fresh.rename(file)
            assert await cluster.whoami() == other.name
        assert proxy.accepted == 1
