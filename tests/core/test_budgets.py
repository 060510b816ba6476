"""How long a frozen container stays as it is: by its probes, in the worst case."""

import math
from typing import Any

import pytest

from killswitch.core.budgets import Budget, budgets, endurance

Json = dict[str, Any]


def template(*containers: Json, **more: Any) -> Json:
    """A pod template of these containers."""
    return {"spec": {"containers": list(containers), **more}}


def server(**probes: Json) -> Json:
    """A container with these probes."""
    return {"name": "server", "image": "i", **probes}


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ({}, math.inf),
        ({"httpGet": {"port": 8000}}, 21.0),
        ({"httpGet": {"port": 8000}, "periodSeconds": 5, "failureThreshold": 60}, 296.0),
        ({"exec": {"command": ["x"]}, "failureThreshold": 1}, 1.0),
        ({"tcpSocket": {"port": 1}, "timeoutSeconds": 30, "periodSeconds": 10}, 90.0),
        ({"grpc": {"port": 1}, "periodSeconds": None, "initialDelaySeconds": 600}, 21.0),
    ],
    ids=str,
)
def test_a_budget_is_the_least_silence_that_its_kubelet_acts_on(
    probe: Json, expected: float
) -> None:
    """Begun just before a probe; the delay before the first one is long over."""
    found = budgets(template(server(livenessProbe=probe, readinessProbe=probe)))
    assert found == (Budget("server", expected, expected),)


def test_a_startup_probe_is_no_budget() -> None:
    """It is asked of containers that have not started, and those serve nobody."""
    probe = {"httpGet": {"port": 1}, "failureThreshold": 1}
    assert budgets(template(server(startupProbe=probe))) == (Budget("server"),)


def test_sidecars_count_and_init_containers_do_not() -> None:
    """A restarted proxy cuts its server off; what has ended cannot be frozen."""
    probe = {"httpGet": {"port": 1}}
    first = {"name": "proxy", "restartPolicy": "Always", "livenessProbe": probe}
    second = {"name": "load", "livenessProbe": probe}
    found = budgets(template(server(), initContainers=[first, second]))
    assert found == (Budget("server"), Budget("proxy", liveness=21.0))


def test_what_is_restarted_is_named_with_its_cure() -> None:
    """The one that endures least first."""
    slow = {"httpGet": {"port": 1}, "failureThreshold": 6}
    found = endurance(
        {
            "Deployment vllm": template(server(livenessProbe=slow, readinessProbe=slow)),
            "StatefulSet db": template(server(livenessProbe={"exec": {}})),
            "Pod p": template(server()),
        },
        60,
    )
    assert not found.endures
    assert found.restarts == (
        "frozen for 1 min 0 s the kubelet restarts container server of StatefulSet db after 21.0 s,"
        " container server of Deployment vllm after 51.0 s: freeze for less than 21.0 s, or raise"
        " periodSeconds or failureThreshold of the liveness probe"
    )
    assert found.withdrawn == "traffic is withdrawn after 51.0 s (readiness probe)"


@pytest.mark.parametrize(("seconds", "endures"), [(20.9, True), (21, False), (86_400, False)])
def test_as_long_as_the_budget_is_too_long(seconds: float, *, endures: bool) -> None:
    """Who thaws and who restarts would race."""
    found = endurance({"d": template(server(livenessProbe={"exec": {}}))}, seconds)
    assert found.endures is endures
    assert bool(found.restarts) is not endures
    assert not found.withdrawn


def test_without_probes_a_day_is_endured() -> None:
    """Nobody asks, so nobody notices."""
    found = endurance({"d": template(server())}, 86_400)
    assert (found.endures, found.restarts, found.withdrawn) == (True, "", "")
