"""Every row of the kinds table: stopped by a policy, held against pressure, restored exactly.

Built-in kinds run under the real controller manager, Argo Rollouts under its real controller
(slow), the others under scripted stand-ins of their controllers (tests/cluster/stand_ins.py); where
there is neither, the API alone is proven. What presses: the controllers themselves, and somebody
who writes the undo of the stop ten times a second, with every right.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from killswitch.adapters.kubernetes_api import KubernetesApi
from killswitch.core import kinds
from killswitch.core.kinds import TABLE, Scalar, Verb
from killswitch.core.resources import PODS
from tests.cluster import examples, stand_ins
from tests.cluster.control_plane import ControlPlane
from tests.cluster.examples import Example
from tests.cluster.rollouts import Rollouts
from tests.cluster.stand_ins import Pusher
from tests.e2e.field import NODES, Field, essence, plane_with_everything, taken
from tests.reactor.harness import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
_PRESSURE = 3.0
"""Seconds for which everybody pushes against a stop."""
_NUMBERS = itertools.count(1)
_EXAMPLES = examples.examples(NODES)


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane that serves every kind."""
    with plane_with_everything() as running:
        yield running


@pytest.fixture
async def field(plane: ControlPlane) -> AsyncIterator[Field]:
    """A fresh governed namespace with a running reactor and manager."""
    async with taken(plane, f"kinds-{next(_NUMBERS)}") as ready:
        yield ready


def test_every_row_of_the_table_is_here() -> None:
    """A kind that is added without a test of its stop is noticed."""
    assert _EXAMPLES.keys() == TABLE.keys()


@pytest.mark.parametrize("name", list(_EXAMPLES))
async def test_a_kind_is_stopped_held_and_restored_exactly(
    plane: ControlPlane, field: Field, name: str
) -> None:
    """From the tripping signal to the object as it was, with nothing re-created between."""
    await proven(plane, field, _EXAMPLES[name])


async def test_a_job_that_kueue_has_admitted_rests_with_its_workload(
    plane: ControlPlane, field: Field
) -> None:
    """Suspended alone it would be started again at the release."""
    await proven(plane, field, examples.KUEUE_JOB)


@pytest.mark.parametrize("version", list(examples.IGNORING))
async def test_what_a_controller_that_ignores_the_stop_keeps_is_named_before_the_release(
    plane: ControlPlane, field: Field, version: str
) -> None:
    """It leaves what makes its pods as it is: the lock alone holds, and a release starts them."""
    example = examples.IGNORING[version]
    async with stand_ins.playing(plane, field.namespace, *example.stand_ins):
        before = essence(await field.set_up(example))
        await field.policy(example.target)
        await field.trip()
        await eventually(lambda: _warns(field))
        await asyncio.sleep(_PRESSURE)
        assert field.witness.recreated == []
        await field.release()
        await field.running(example.pods)
        await field.restore()
        assert essence(await field.get(example)) == before


async def _warns(field: Field) -> bool:
    return "a release would start" in await field.condition("Stopped", "True")


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_rollout_under_its_real_controller(tmp_path: Path) -> None:
    """Argo Rollouts makes its ReplicaSets itself, and none of them while it is held."""
    example = Example(TABLE["Rollout"], _EXAMPLES["Rollout"].body, pods=2)
    with plane_with_everything() as plane, Rollouts(plane, tmp_path):
        async with taken(plane, "rollouts") as field:
            await proven(plane, field, example)


async def proven(plane: ControlPlane, field: Field, example: Example) -> None:
    """The life of one stop."""
    async with stand_ins.playing(plane, field.namespace, *example.stand_ins):
        before = essence(await field.set_up(example))
        await field.policy(example.target)
        await field.trip(known=example.known)
        undo = undoing(example, field.namespace)
        async with stand_ins.pushing(plane, *undo):
            await asyncio.sleep(_PRESSURE)
        for each in undo:
            assert each.writes == 0, f"{each.name} was accepted"
            assert all("held down by" in denied.message for denied in each.denied)
            assert each.denied
        assert field.witness.recreated == []
        # What it does not own goes on: that is why such a stop is not verified.
        assert len(await field.scene.bench.pods()) == len(example.apart)
        await field.release()
        if example.kind.verb is Verb.NONE:
            await field.running(example.pods)  # as the plan says: a release lets it start
            assert essence(await field.get(example)) == before
            return
        await asyncio.sleep(_PRESSURE)
        # It rests: a release starts nothing.
        assert len(await field.scene.bench.pods()) == len(example.apart)
        if example.kind.counted and example.below:
            await field.say_ready(example)
        await field.restore()
        await field.running(example.returning)
        assert essence(await field.get(example)) == before


def undoing(example: Example, namespace: str) -> list[Pusher]:
    """Somebody who takes the stop back, in the one way that this kind has."""
    kind, resource, name = example.kind, example.resource, example.name
    if kind.verb is Verb.SCALE:
        return [stand_ins.scaler("somebody", resource, name, namespace, 2)]

    async def undo(cluster: KubernetesApi) -> object:
        if kind.verb is Verb.RECREATE:
            body = {"apiVersion": "v1", "kind": "Pod", **example.body}
            return await cluster.create(PODS, body, namespace)
        change = kinds.patch((each.path, _other(each.rest)) for each in kind.settings)
        return await cluster.patch(resource, name, change, namespace)

    return [] if kind.verb is Verb.NONE else [Pusher("somebody", undo, every=0.1)]


def _other(rest: Scalar) -> Scalar:
    """What stands there while it runs."""
    if isinstance(rest, bool):
        return not rest
    return (
        2
        if isinstance(rest, int)
        else {"HoldAndDrain": "None", "Suspended": "Running"}.get(rest or "")
    )
