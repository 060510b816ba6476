"""The engine under remote write: what policies and series cost, each by itself.

Every measurement runs in a process of its own (`python -m bench.engine POLICIES SERIES`): one
reactor's engine with that many policies, fed each second's samples as the bodies that Prometheus
would post. Memory is read from the kernel, beside the same process without policies and series.

Each policy names ten series. With fewer policies, the series that nobody asks for bear the same
metric names as the others: the decoder cannot leave them out.
"""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, cast

from bench.figures import Figure, figure, median
from bench.reactor_rest import megabytes
from bench.setting import Setting
from killswitch.adapters.clock import SystemClock
from killswitch.adapters.promql import PromqlChecker
from killswitch.core.readings import Path as Arrived
from killswitch.core.resources import POLICIES
from killswitch.core.stops import Boundaries
from killswitch.ports import Cluster, Json
from killswitch.reactor.engine import Engine
from killswitch.reactor.watched import Identity
from killswitch.signals.remote_write import Decoder
from tests.signals import encoding

SERIES, POLICY_COUNT = 100_000, 10_000
_PER_REQUEST = 2000
_SECONDS = 8
_METRICS = 20
"""Names that the models' series bear in turn."""
_OF_ONE_MODEL = 10


def measure(_setting: Setting) -> Iterator[Figure]:
    """Figures named engine_*. The control plane is not asked."""
    empty = _in_a_process(0, 1)
    full = _in_a_process(POLICY_COUNT, SERIES)
    share, memory = full["percent"], full["megabytes"]
    more = {"policies": POLICY_COUNT, "series": SERIES, "decoding": full["decoding"]}
    yield figure("engine_cpu", share, "% of a core", aim="<= 30", met=share <= 30, **more)
    yield figure(
        "engine_rss",
        memory,
        "MB",
        baseline=empty["megabytes"],
        aim="<= 250",
        met=memory <= 250,
        **more,
    )
    grown = [("policies", number, number, SERIES) for number in (100, 1000)]
    grown += [("series", number, POLICY_COUNT, number) for number in (1000, 10_000)]
    for what, at, policies, series in grown:
        found = _in_a_process(policies, series)
        yield _growth("engine_cpu", what, at, found["percent"], "% of a core")
        yield _growth("engine_rss", what, at, found["megabytes"], "MB")
    for what, at in (("policies", POLICY_COUNT), ("series", SERIES)):
        yield _growth("engine_cpu", what, at, share, "% of a core")
        yield _growth("engine_rss", what, at, memory, "MB")


def _growth(name: str, what: str, at: int, value: float, unit: str) -> Figure:
    """A point of a curve."""
    return figure(
        f"{name}_{what}_{at}", value, unit, grows_with=what, at=at, growth_of=f"{name} ({what})"
    )


def _in_a_process(policies: int, series: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.engine", str(policies), str(series)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return cast("dict[str, float]", json.loads(done.stdout))


def _observe(policies: int, series: int) -> dict[str, float]:
    """Percent of a core for one second's samples, and megabytes after some of them."""
    identity = Identity("r", "r-0", "killswitch-system", Boundaries(frozenset(), "governed"))
    engine = Engine(cast("Cluster", object()), SystemClock(), PromqlChecker(), identity)
    for number in range(policies):
        engine.view.policies.put(_policy(number))
    engine.start()
    decoder = Decoder(engine.intake.metrics if policies else None)
    decoding, all_of_it = [], []
    gc.collect()
    gc.freeze()
    for second in range(_SECONDS):
        bodies = list(_bodies(series, round(time.time() * 1000), second))
        start = time.process_time()
        for body in bodies:
            decoder.decode(body)
        between = time.process_time()
        for body in bodies:
            engine.intake.push(decoder.decode(body), Arrived.REMOTE_WRITE)
        decoding.append(between - start)
        all_of_it.append(time.process_time() - between)
        del bodies
    assert not any(each.tally and each.tally.demanded for each in engine.watched.values())
    return {
        "percent": 100 * median(all_of_it[2:]),
        "decoding": 100 * median(decoding[2:]),
        "megabytes": megabytes(os.getpid()),
    }


def _bodies(series: int, now: int, second: int) -> Iterator[bytes]:
    """One second's samples; values change, and lie below every threshold."""
    for start in range(0, series, _PER_REQUEST):
        part = range(start, min(series, start + _PER_REQUEST))
        yield encoding.snappy(
            encoding.request((_labels(n), [(float(n % 90 + second % 7), now)]) for n in part)
        )


def _labels(number: int) -> dict[str, str]:
    model = number // _OF_ONE_MODEL
    return {
        "__name__": f"bench_metric_{model % _METRICS}",
        "instance": f"10.0.{number // 250}.{number % 250}:8000",
        "job": "models",
        "model_name": f"model-{model}",
        "namespace": f"team-{model % 50}",
    }


def _policy(number: int) -> Json:
    """A policy on the series of one model, as a watch delivers it."""
    labels = _labels(number * _OF_ONE_MODEL)
    metric: dict[str, Any] = {
        "name": labels["__name__"],
        "labels": {"model_name": labels["model_name"], "namespace": labels["namespace"]},
        "above": "100",
    }
    return {
        "apiVersion": POLICIES.api_version,
        "kind": POLICIES.kind,
        "metadata": {
            "name": f"policy-{number}",
            "namespace": labels["namespace"],
            "uid": f"00000000-0000-0000-0000-{number:012}",
            "generation": 1,
            "resourceVersion": str(number),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "mode": "Enforce",
            "owner": "bench",
            "backup": "bench",
            "targets": [{"kind": "Deployment", "name": f"server-{number}"}],
            "signals": [{"name": "load", "metric": metric, "onNoData": "Hold", "maxAge": "1m"}],
            "quorum": 1,
            "action": {"type": "Stop", "category": "Immediate", "deadline": "1m"},
            "limits": {"maxTargets": 10, "maxPercent": 100},
            "cooldown": "10m",
            "release": {"requiredApprovals": 2},
            "restore": {"canaryReplicas": 1, "soak": "30s"},
        },
    }


if __name__ == "__main__":
    print(json.dumps(_observe(int(sys.argv[1]), int(sys.argv[2]))))
