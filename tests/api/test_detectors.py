"""Detectors as policies write them: defaults, parameters, and who may stop a model alone."""

from typing import Any

import pytest

from killswitch.adapters.promql import PromqlChecker
from killswitch.api.acceptance import accept
from killswitch.api.compiled import CompiledPolicy, CompiledSignal, Rung
from killswitch.core.detectors import (
    Absence,
    Cusum,
    Detector,
    Ewma,
    Kind,
    Rate,
    RobustZ,
    Seasonal,
    Side,
)
from killswitch.core.errors import InvalidPolicyError

EWMA = {"ewma": {"least": "50"}}


def signal(name: str = "load", detector: dict[str, Any] = EWMA, **more: Any) -> dict[str, Any]:
    """A signal with a detector, as people write it."""
    source = {"query": "sum(x)", "detector": detector, **more.pop("prometheus", {})}
    return {"name": name, "prometheus": source, "onNoData": "Hold", **more}


def policy(*signals: dict[str, Any], **spec: Any) -> CompiledPolicy:
    """A policy with these signals, accepted."""
    base = {
        "owner": "team",
        "backup": "lead",
        "targets": [{"kind": "Deployment", "name": "vllm"}],
        "signals": [*signals],
    }
    metadata = {"name": "vllm", "namespace": "prod", "uid": "u", "generation": 1}
    body = {"kind": "KillSwitchPolicy", "metadata": metadata, "spec": base | spec}
    return accept(body, PromqlChecker().check)


def compiled(detector: dict[str, Any], **more: Any) -> CompiledSignal:
    """The one signal of a policy with this detector."""
    return policy(signal(detector=detector, **more)).signals[0]


@pytest.mark.parametrize(
    ("written", "meant", "trips"),
    [
        ({"rate": {"limit": "5"}}, Rate(limit=5), "rate above 5/s"),
        ({"robustZ": {"least": "50"}}, RobustZ(least=50), "robustZ above 6"),
        ({"ewma": {"least": "50"}}, Ewma(least=50), "ewma above 6"),
        ({"cusum": {"least": "0.5"}}, Cusum(least=0.5), "cusum above 8"),
        ({"seasonal": {"least": "50"}}, Seasonal(least=50), "seasonal above 6"),
        ({"absence": {"after": "45s"}}, Absence(after=45), "absence of 45 s"),
    ],
)
def test_defaults_are_those_of_the_rules(
    written: dict[str, Any], meant: Detector, trips: str
) -> None:
    """What is not written is what the rule's own documentation says."""
    found = compiled(written)
    assert (meant, 15.0, trips) == (found.detector, found.every, found.trips)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (
            {"rate": {"limit": "0.5", "span": "5m", "side": "Below", "gap": "10m"}},
            Rate(limit=0.5, span=300, side=Side.BELOW, gap=600),
        ),
        (
            {"robustZ": {"least": "1e3", "limit": "8", "window": 60, "warmUp": 10}},
            RobustZ(least=1000, limit=8, window=60, warm_up=10),
        ),
        (
            {"ewma": {"least": "50", "halfLife": "1h30m", "side": "Both"}},
            Ewma(least=50, half_life=5400, side=Side.BOTH),
        ),
        (
            {"cusum": {"least": "50", "drift": "0.25", "halfLife": "48h", "warmUp": 90}},
            Cusum(least=50, drift=0.25, half_life=172800, warm_up=90),
        ),
        (
            {"seasonal": {"least": "5", "period": "168h", "phases": 168, "halfLifePeriods": 4}},
            Seasonal(least=5, period=604800, phases=168, half_life=4),
        ),
        ({"absence": {"after": "5m", "gap": "1m"}}, Absence(after=300, gap=60)),
    ],
)
def test_parameters_arrive(written: dict[str, Any], meant: Detector) -> None:
    """Decimal texts and durations become numbers and seconds."""
    assert meant == compiled({**written, "every": "5s"}).detector


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"detector": {}}, ".detector"),
        ({"detector": {**EWMA, "rate": {"limit": "5"}}}, ".detector"),
        ({"detector": {"ewma": {"least": "0"}}}, ".detector.ewma.least"),
        ({"detector": {"robustZ": {"least": "1", "warmUp": 200}}}, ".detector.robustZ.warmUp"),
        ({"detector": {"cusum": {"least": "1", "drift": "9"}}}, ".detector.cusum.drift"),
        ({"detector": {"seasonal": {"least": "1", "period": "1s"}}}, ".detector.seasonal.period"),
        (
            {"detector": {"rate": {"limit": "1", "counter": True, "side": "Below"}}},
            ".detector.rate.side",
        ),
        ({"detector": {"absence": {"after": "0s"}}}, ".detector.absence.after"),
        ({"detector": {"ewma": {"least": "1", "gap": "29s"}}}, ".detector.ewma.gap"),
        ({"detector": {**EWMA, "every": "0s"}}, ".detector.every"),
        ({"detector": {**EWMA, "every": "31s"}}, ".detector.every"),
        ({"prometheus": {"above": "5"}}, ""),
        ({"prometheus": {"recoversAt": "5"}}, ".recoversAt"),
    ],
)
def test_what_cannot_work_is_refused_by_its_field(changes: dict[str, Any], field: str) -> None:
    """Also for policies stored before a rule existed; each with a cure."""
    with pytest.raises(InvalidPolicyError) as refused:
        policy(signal(**changes))
    assert refused.value.field == f"spec.signals[load].prometheus{field}"
    assert refused.value.cure


THRESHOLD = {"name": "spend", "prometheus": {"query": "sum(y)", "above": "5"}, "onNoData": "Hold"}
METRIC = {"name": "m", "metric": {"name": "y", "detector": EWMA}, "onNoData": "Hold"}


@pytest.mark.parametrize(
    ("signals", "spec"),
    [
        ([signal()], {}),
        ([METRIC], {}),
        ([signal(), THRESHOLD], {}),
        ([signal("a"), signal("b", {"rate": {"limit": "5"}}), THRESHOLD], {"quorum": 2}),
    ],
    ids=["one", "of a metric", "any of two", "two on one query"],
)
def test_a_lone_detector_does_not_enforce(
    signals: list[dict[str, Any]], spec: dict[str, Any]
) -> None:
    """The message names all three cures; each of them works."""
    with pytest.raises(InvalidPolicyError) as refused:
        policy(*signals, mode="Enforce", **spec)
    assert refused.value.field == "spec.quorum"
    for cure in ("second signal", "mode: DryRun", "allowDetectorAlone: true"):
        assert cure in refused.value.cure
    policy(*signals, mode="DryRun", **spec)
    policy(*signals, mode="Enforce", allowDetectorAlone=True, **spec)


@pytest.mark.parametrize("other", [THRESHOLD, METRIC], ids=["a threshold", "another source"])
def test_a_quorum_of_two_sources_enforces(other: dict[str, Any]) -> None:
    """A detector is one voice of it."""
    found = policy(signal(), other, mode="Enforce", quorum=2)
    assert found.signals[0].detector is not None
    assert found.signals[0].detector.kind is Kind.EWMA


FREEZE = {"for": "1m", "onExpiry": "Thaw"}
STOPS_LATER = {**FREEZE, "onExpiry": "Stop"}


@pytest.mark.parametrize(
    ("signals", "action", "quorum", "alone"),
    [
        ([signal()], {"type": "Freeze", "freeze": FREEZE}, 1, False),
        ([signal()], {"type": "Freeze", "freeze": STOPS_LATER}, 1, True),
        ([signal(), THRESHOLD], {"freeze": {**FREEZE, "quorum": 1}}, 2, False),
        ([signal(), THRESHOLD], {"freeze": {**STOPS_LATER, "quorum": 1}}, 2, True),
    ],
)
def test_a_lone_detector_may_freeze_what_thaws_by_itself(
    signals: list[dict[str, Any]], action: dict[str, Any], quorum: int, alone: bool
) -> None:
    """Not what ends in a stop that no person orders."""
    if alone:
        with pytest.raises(InvalidPolicyError):
            policy(*signals, mode="Enforce", action=action, quorum=quorum)
    else:
        found = policy(*signals, mode="Enforce", action=action, quorum=quorum)
        assert found.freeze == Rung(1, 60.0, "Thaw")
        assert found.stops is (action.get("type") != "Freeze")
