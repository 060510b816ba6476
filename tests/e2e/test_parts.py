"""A target with more below it than fits into one Shutdown: several hold it, and it takes all to free it.

Jobs below one CronJob, under the real controller manager. What fits is lowered for the quick case;
the slow one has more Jobs than a Shutdown of the API may have locks.
"""

from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import replace

import pytest

from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core import lock_keys
from killswitch.core.errors import UnavailableError
from killswitch.core.resources import JOBS
from killswitch.ports import Json
from tests.cluster import stand_ins
from tests.cluster.control_plane import ControlPlane
from tests.cluster.examples import LABELS, NAME, Example, examples
from tests.cluster.stand_ins import Pusher
from tests.e2e.field import NODES, POLICY, SHUTDOWN, Field, essence, plane_with_everything, taken
from tests.reactor.harness import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
_PATIENCE = 300.0
"""Seconds; thousands of Jobs are recorded and brought to rest one by one."""
_RUNNING = 20
"""Of the Jobs; the others are suspended, by whoever."""


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane that serves every kind."""
    with plane_with_everything() as running:
        yield running


@pytest.fixture
async def field(plane: ControlPlane, request: pytest.FixtureRequest) -> AsyncIterator[Field]:
    """A fresh governed namespace with a running reactor and manager."""
    async with taken(plane, f"parts-{request.node.callspec.params['jobs']}") as ready:
        yield ready


@pytest.mark.parametrize(
    ("most", "jobs"),
    [
        pytest.param(40, 60, id="lowered"),
        pytest.param(lock_keys.MOST_LOCKS, 4100, id="real", marks=pytest.mark.slow),
    ],
)
async def test_a_target_of_several_shutdowns_is_held_until_all_are_released(
    plane: ControlPlane,
    field: Field,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    jobs: int,
) -> None:
    """All parts hold it from the start, each is approved and restored, and all is as it was."""
    monkeypatch.setattr(lock_keys, "MOST_LOCKS", most)
    example = cron_job(jobs)
    before = essence(await field.set_up(example))
    all_jobs = await essences(field)
    await field.policy(example.target, limits={"maxTargets": 10000})
    await field.scene.policy_condition(POLICY, "Ready", "True")
    field.scene.bench.dial.turn(POLICY, 101)
    parts = await eventually(lambda: _verified(field, all_jobs.keys()), within=_PATIENCE)
    field.scene.bench.dial.turn(POLICY, 0)
    names = [each["metadata"]["name"] for each in parts]
    assert names[:2] == [SHUTDOWN, f"{SHUTDOWN}-part-2"]
    for each in parts[:2]:  # of the CronJob; the others are of Jobs, which rest beside it
        assert f"cronjobs.batch/{NAME}" in each["spec"]["locks"]
    assert max(len(each["spec"]["locks"]) for each in parts) <= most
    await eventually(lambda: _suspended(field))
    assert await field.scene.bench.pods() == []
    await field.scene.policy_condition(POLICY, "Demanded", "False")

    undo = resuming(field.namespace)
    async with stand_ins.pushing(plane, undo):
        await _denied(undo)
        field.scene.approve(names[0], "bob", "carol")
        await field.scene.condition(names[0], "Released", "True")
        await _denied(undo)  # the other part holds it by its name too
        assert undo.writes == 0
    assert field.witness.recreated == []
    for name in names[1:]:
        field.scene.approve(name, "bob", "carol")
        await field.scene.condition(name, "Released", "True")
    assert await field.scene.bench.pods() == []
    for name in names:
        field.scene.order_restore(name)
    await eventually(lambda: _restored(field), within=_PATIENCE)
    await field.running(_RUNNING)
    assert essence(await field.get(example)) == before
    assert await essences(field) == all_jobs


def cron_job(jobs: int) -> Example:
    """A CronJob with so many Jobs, of which the first run and the others are suspended."""
    below = tuple(
        (
            JOBS,
            {
                "metadata": {"name": f"{NAME}-{number}"},
                "spec": stand_ins.job_spec(LABELS, suspend=number >= _RUNNING),
            },
        )
        for number in range(jobs)
    )
    return replace(examples(NODES)["CronJob"], below=below, pods=_RUNNING)


def resuming(namespace: str) -> Pusher:
    """Somebody who lets the CronJob run again."""
    resource = examples(NODES)["CronJob"].resource

    async def resume(cluster: KubernetesApi) -> object:
        return await cluster.patch(resource, NAME, {"spec": {"suspend": False}}, namespace)

    return Pusher("somebody", resume, every=0.1)


async def essences(field: Field) -> dict[str, Json]:
    """Every Job, by uid."""
    found = (await field.cluster.list(JOBS, field.namespace)).items
    return {each["metadata"]["uid"]: essence({**each, "kind": JOBS.kind}) for each in found}


async def _verified(field: Field, uids: Collection[str]) -> list[Json]:
    """The Shutdowns, by name, once each is verified and together they hold all of these."""
    try:
        found = await field.scene.bench.shutdowns()
    except UnavailableError:  # a machine that is busy with thousands of Jobs: nothing is known yet
        return []
    told = [each.get("status", {}).get("conditions") or () for each in found]
    verified = [any(_is(each, "Verified") for each in conditions) for conditions in told]
    held = {key for each in found for key in each["spec"]["locks"]}
    everything = {f"uid/{uid}" for uid in uids} <= held
    return sorted(found, key=_number) if everything and all(verified) else []


async def _restored(field: Field) -> bool:
    found = await field.scene.bench.shutdowns()
    told = [each["status"]["conditions"] for each in found]
    return all(any(_is(each, "Restored") for each in conditions) for conditions in told)


def _is(condition: Json, type_: str) -> bool:
    return (condition["type"], condition["status"]) == (type_, "True")


def _number(shutdown: Json) -> int:
    _, _, number = shutdown["metadata"]["name"].partition("-part-")
    return int(number or 1)


async def _suspended(field: Field) -> bool:
    found = (await field.cluster.list(JOBS, field.namespace)).items
    return all(each["spec"]["suspend"] for each in found)


async def _denied(pusher: Pusher) -> None:
    """Return once it was refused again."""
    count = len(pusher.denied)

    async def look() -> bool:
        return len(pusher.denied) > count

    await eventually(look)
