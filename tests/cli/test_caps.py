"""The cap over all policies in `plan`: counted as the reactor counts, by whoever may."""

import pytest

from tests.cli.conftest import Stage
from tests.kernel.objects import policies, policy

pytestmark = pytest.mark.cluster


def test_a_plan_counts_the_cap_that_the_reactor_keeps_to(stage: Stage) -> None:
    """Beyond it the policy would not act; who may not count is told that there is one."""
    stage.govern()
    stage.deployment("one")
    stage.deployment("two")
    targets = [{"kind": "Deployment", "name": name} for name in ("one", "two")]
    api, path = stage.control_plane.api(), policies(stage.namespace)
    assert api.create(path, policy("runaway", mode="Enforce", targets=targets)).status == 201
    cap = {"targets": 1_000_000, "percent": 0, "window": "3600s"}
    told = f"{path}/runaway/status"
    assert api.patch(told, {"status": {"cap": cap}}).status == 200
    admin = stage.control_plane.admin
    done = stage.run("plan", "--policy", "runaway", by=admin)
    assert done.returncode == 0, done.stderr
    assert "2 more by this; at most 1000000 targets" in done.stdout
    assert "Would act: within its limits" in done.stdout
    assert api.patch(told, {"status": {"cap": {**cap, "targets": 1}}}).status == 200
    done = stage.run("plan", "--policy", "runaway", by=admin)
    assert "Would not act: CapReached: " in done.stdout
    done = stage.run("plan", "--policy", "runaway")
    assert "you may not list what counts towards it" in done.stdout
