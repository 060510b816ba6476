"""Own scrapes over real HTTP: which pods are asked, how often, and what a bad one may spoil."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import structlog
import yaml

from killswitch.adapters.clock import SystemClock
from killswitch.adapters.promql import PromqlChecker
from killswitch.adapters.scrape_http import ScrapeHttp
from killswitch.api.acceptance import accept
from killswitch.core.errors import RefusedError
from killswitch.core.inventory import Pod
from killswitch.core.readings import Blindness, NoAnswer, Reading, Verdict
from killswitch.core.resources import ENDPOINT_SLICES, POLICIES, Resource
from killswitch.core.stops import Boundaries
from killswitch.ports import Clock, Cluster, Exposed, Json, Place, Scraper
from killswitch.reactor.engine import Engine
from killswitch.reactor.scraping import ANSWERED, Bounds, Scraping, _Pace
from killswitch.reactor.watched import Identity
from tests.fakes.clock import FakeClock
from tests.fakes.slices import FakeSlices, endpoint, endpoint_slice
from tests.reactor.harness import Bench, EveryQuery, eventually, reactor
from tests.reactor.pods import Pods, pods
from tests.reactor.test_scraped import stored
from tests.signals.served import SIGNALS, snippets

LOOPBACK = Bounds(loopback=True)
CLEAR, TRIPPED, UNKNOWN = Verdict.CLEAR, Verdict.TRIPPED, Verdict.UNKNOWN


def signal(interval: str = "20ms", service: str = "vllm", **more: Any) -> Json:
    """Trips when a pod says more than 100."""
    scrape = {"service": service, "port": "metrics", "interval": interval}
    metric = {"name": "running", "labels": {"model": "a"}, "above": "100", "scrape": scrape}
    return {"name": "load", "metric": metric, "onNoData": "Hold", "maxAge": "1s", **more}


class Scene:
    """An engine that scrapes, on EndpointSlices that the test writes."""

    def __init__(self, scraper: Scraper, clock: Clock, bounds: Bounds) -> None:
        self.slices, self.clock = FakeSlices(), clock
        cluster = cast("Cluster", self.slices)
        identity = Identity("r", "r-0", "killswitch-system", Boundaries(frozenset(), "governed"))
        self.engine = Engine(cluster, clock, EveryQuery(), identity)
        scraped, self.inventory = self.engine.intake.scraped, self.engine.view.inventory
        self.scraping = Scraping(
            scraper,
            cluster,
            clock,
            scraped,
            self.inventory,
            paths=self.engine.intake.paths,
            bounds=bounds,
            cpu=lambda: 0.0,
        )
        self.engine.start()

    def policy(self, *signals: Json, uid: str = "u") -> None:
        """A policy with these signals."""
        self.engine.policy_changed(stored(*signals, uid=uid))

    @property
    def silent(self) -> set[str]:
        """The scraped Services of which too little is heard."""
        states = self.engine.intake.paths.states()
        return {each.path for each in states if each.silent}

    def reading(self, uid: str = "u") -> Reading:
        """What its signal says."""
        return self.engine.watched[uid].readings["load"]

    def expose(self, port: int, *found: Pod, service: str = "vllm") -> None:
        """These are the endpoints of the Service now."""
        for pod in found:
            self.inventory.put(pod)
        self.slices.put(endpoint_slice(port, *map(endpoint, found), service=service))

    async def until(self, look: Callable[[], Any]) -> None:
        """Until this is true."""
        async with asyncio.timeout(20):
            while not look():
                await asyncio.sleep(0.01)

    async def says(self, verdict: Verdict, reason: Blindness | None = None, uid: str = "u") -> None:
        """Until its signal says so."""
        await self.until(
            lambda: (self.reading(uid).verdict, self.reading(uid).reason) == (verdict, reason)
        )

    def tick(self) -> None:
        """As the reactor does."""
        self.scraping.look()
        self.engine.due()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self.tick()
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def scene(bounds: Bounds = LOOPBACK) -> AsyncIterator[tuple[Scene, Pods]]:
    """Scraping over real HTTP, and the pods of one Service."""
    async with pods() as running, ScrapeHttp() as scraper:
        found = Scene(scraper, SystemClock(), bounds)
        task = asyncio.create_task(found.run())
        try:
            yield found, running
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            found.scraping.stop()
            await asyncio.sleep(0)


async def test_pods_clear_trip_come_and_go() -> None:
    """Without Prometheus: nothing but pods and their EndpointSlice."""
    async with scene() as (found, running):
        one = await running.start("one")
        found.policy(signal())
        await found.says(UNKNOWN, Blindness.ABSENT)
        found.expose(running.port, one.pod)
        await found.says(CLEAR)
        one.set(500)
        await found.says(TRIPPED)
        one.set(1)
        await found.says(CLEAR)
        two = await running.start("two", 600)
        found.expose(running.port, one.pod, two.pod)
        await found.says(TRIPPED)
        assert found.reading().message == "pod two: 600 is > 100"
        found.expose(running.port, one.pod)
        await found.says(CLEAR)
        await one.stop()
        await found.says(UNKNOWN, Blindness.UNREACHABLE)
        assert found.reading().message.startswith("pod one: ")
        found.slices.remove("vllm-1")
        await found.says(UNKNOWN, Blindness.ABSENT)


async def test_names_are_asked_for_and_each_pod_only_once_at_a_time() -> None:
    """A slow pod is waited for, not asked again; the other goes on meanwhile."""
    async with scene() as (found, running):
        slow, quick = await running.start("slow"), await running.start("quick")
        found.policy(signal())
        found.expose(running.port, slow.pod, quick.pod)
        await found.says(CLEAR)
        await found.until(lambda: ("running",) in quick.asked)
        slow.prompt.clear()
        before = len(quick.asked)
        await found.until(lambda: len(quick.asked) > before + 20)
        assert slow.most_at_once == 1
        quick.set(500)
        await found.says(TRIPPED)
        slow.prompt.set()


async def test_a_pod_that_hangs_is_a_timeout() -> None:
    """It is named; its last answer counted as long as it was fresh."""
    async with scene() as (found, running):
        one, two = await running.start("one"), await running.start("two")
        found.policy(signal())
        found.expose(running.port, one.pod, two.pod)
        await found.says(CLEAR)
        one.prompt.clear()
        await found.says(UNKNOWN, Blindness.TIMEOUT)
        assert found.reading().message == "pod one: no answer within 1 s"
        one.prompt.set()
        await found.says(CLEAR)


async def test_a_pod_with_too_many_series_says_so() -> None:
    """And is no health, however well all of them are."""
    async with scene() as (found, running):
        one = await running.start("one")
        for number in range(3000):
            one.set(1, model=str(number))
        found.policy(signal())
        found.expose(running.port, one.pod)
        await found.says(UNKNOWN, Blindness.FAILED)
        assert found.reading().message == "pod one: more than 2000 samples"


async def test_hostile_addresses_are_not_asked() -> None:
    """Loopback without the setting, and an address that is not the pod's."""
    async with scene(Bounds()) as (found, running):
        one = await running.start("one")
        found.policy(signal())
        found.expose(running.port, one.pod)
        await found.says(UNKNOWN, Blindness.REFUSED)
        assert "127.3.0.1 is not scraped, it is a loopback address" in found.reading().message
        assert one.asked == []
    async with scene() as (found, running):
        one, two = await running.start("one"), await running.start("two")
        found.policy(signal())
        found.inventory.put(one.pod)
        claimed = endpoint(one.pod, two.pod.addresses[0])
        found.slices.put(endpoint_slice(running.port, endpoint(one.pod), claimed))
        await found.says(CLEAR)
        found.slices.put(endpoint_slice(running.port, claimed))
        await found.says(UNKNOWN, Blindness.REFUSED)
        assert two.asked == []


async def test_a_pod_that_is_starting_is_not_missed_and_one_that_serves_is() -> None:
    """Not ready and never heard of: a model that loads for minutes is no fault."""
    async with scene() as (found, running):
        one, two = await running.start("one"), await running.start("two")
        await two.stop()
        found.policy(signal())
        for each in (one.pod, two.pod):
            found.inventory.put(each)
        starting = endpoint(two.pod, conditions={"ready": False})
        found.slices.put(endpoint_slice(running.port, endpoint(one.pod), starting))
        await found.says(CLEAR)
        found.slices.put(endpoint_slice(running.port, endpoint(one.pod), endpoint(two.pod)))
        await found.says(UNKNOWN, Blindness.UNREACHABLE)


async def test_beyond_the_limits_it_says_so_and_keeps_whom_it_knows() -> None:
    """For one Service and for all; a trip among those that are asked is believed."""
    async with scene(Bounds(3, 2, loopback=True)) as (found, running):
        served = [await running.start(name) for name in ("c", "b", "a")]
        found.policy(signal())
        found.expose(running.port, *(each.pod for each in served[:2]))
        await found.says(CLEAR)
        found.expose(running.port, *(each.pod for each in served))
        await found.says(UNKNOWN, Blindness.PARTIAL)
        assert "has 3 pods, 2 of them are scraped" in found.reading().message
        assert served[2].asked == []
        found.policy(signal(service="other"), uid="v")
        found.expose(running.port, *(each.pod for each in served[:2]), service="other")
        await found.says(UNKNOWN, Blindness.PARTIAL, uid="v")
        served[0].set(500)
        await found.says(TRIPPED)


async def test_endpoint_slices_are_watched_only_where_somebody_scrapes() -> None:
    """By namespace, once, until nobody wants them any more."""
    async with scene() as (found, running):
        found.engine.policy_changed(stored({**signal(), "metric": {"name": "x", "above": "1"}}))
        await asyncio.sleep(0.1)
        assert found.slices.listed == []
        one = await running.start("one")
        found.policy(signal(), uid="v")
        found.policy(signal(service="other"), uid="w")
        found.expose(running.port, one.pod)
        await found.says(CLEAR, uid="v")
        assert found.slices.listed == ["prod"]
        for uid in ("v", "w"):
            found.engine.policy_removed(stored(uid=uid))
        await found.until(lambda: not found.scraping._mirrors)
        count = len(one.asked)
        await asyncio.sleep(0.1)
        assert len(one.asked) == count


class Told:
    """Port `Scraper` that answers what it is told to; an exception is a defect of its own."""

    def __init__(self, answer: Exposed | NoAnswer | Exception) -> None:
        self.answer = answer

    async def scrape(
        self, place: Place, names: tuple[str, ...], within: float
    ) -> Exposed | NoAnswer:
        """What it was told."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


SOUND = Exposed(b'running{model="a"} 1\n')
POD = Pod("prod", "one", "uid-one", "n", "", {}, addresses=("10.0.0.1",))


async def advance(found: Scene, clock: FakeClock, seconds: float) -> None:
    """Let time pass as the reactor's ticks see it."""
    for _ in range(round(seconds / 0.5)):
        await clock.advance(0.5)
        found.tick()
    await clock.advance(0)


async def test_a_list_that_is_refused_is_silence_after_a_while() -> None:
    """At the start nothing is known, which is no fault; a right that is missing is one."""
    clock = FakeClock()
    found = Scene(Told(SOUND), clock, LOOPBACK)
    found.slices.error = RefusedError("may not list endpointslices")
    found.policy(signal())
    found.tick()
    assert found.reading().reason is Blindness.NEVER_READ
    await advance(found, clock, 12)
    assert found.reading().reason is Blindness.SILENT
    assert found.silent == {"Service prod/vllm port metrics"}
    found.slices.error = None
    found.expose(8000, POD)
    await advance(found, clock, 5)
    assert found.reading().verdict is CLEAR
    assert found.silent  # until it has been heard steadily
    await advance(found, clock, 10)
    assert found.silent == set()
    found.scraping.stop()


async def test_a_view_that_is_old_is_no_health() -> None:
    """A new pod may have been missed; what is known to be beyond still fires."""
    clock, told = FakeClock(), Told(SOUND)
    found = Scene(told, clock, LOOPBACK)
    found.policy(signal())
    found.expose(8000, POD)
    await advance(found, clock, 100)
    assert found.reading().verdict is CLEAR
    await advance(found, clock, 60)
    assert found.reading().reason is Blindness.SILENT
    told.answer = Exposed(b'running{model="a"} 500\n')
    await advance(found, clock, 1)
    assert found.reading().verdict is TRIPPED
    found.scraping.stop()


async def test_a_defect_does_not_end_the_scraping() -> None:
    """It is told, and the next scrape is as good as any."""
    clock, told = FakeClock(), Told(RuntimeError("a defect"))
    found = Scene(told, clock, LOOPBACK)
    found.policy(signal())
    found.expose(8000, POD)
    await advance(found, clock, 2)
    assert found.reading().reason is Blindness.FAILED
    assert found.reading().message == "pod one: RuntimeError('a defect')"
    told.answer = SOUND
    await advance(found, clock, 1)
    assert found.reading().verdict is CLEAR
    assert found.scraping.counts[Blindness.FAILED] > 0
    assert found.scraping.counts[ANSWERED] > 0
    found.scraping.stop()


async def test_a_pod_that_stays_silent_is_told_once() -> None:
    """Also while a poll answers, which hides it from the policy's status."""
    clock, told = FakeClock(), Told(NoAnswer(Blindness.TIMEOUT, "no answer"))
    found = Scene(told, clock, LOOPBACK)
    found.policy(signal())
    found.expose(8000, POD)
    with structlog.testing.capture_logs() as lines:
        await advance(found, clock, 30)
        assert found.silent == {"Service prod/vllm port metrics"}
        told.answer = SOUND
        await advance(found, clock, 12)
    assert found.silent == set()
    assert [each["event"] for each in lines] == [
        "a path is silent",
        "a path is heard again",
    ]
    found.scraping.stop()


def test_a_busy_loop_makes_scrapes_rarer_and_an_idle_one_frequent_again() -> None:
    """By halves, within bounds; in between it stays as it is."""
    used = 0.0
    pace = _Pace(lambda: used)
    pace.look(0.0)
    found = []
    for second, share in enumerate([0.9, 0.9, 0.5, 0.2, 0.2, 0.2, *[1.0] * 10], start=1):
        used += share
        pace.look(float(second))
        found.append(pace.stretch)
    assert found[:6] == [2, 4, 4, 2, 1, 1]
    assert found[-1] == 64


SERVICES = Resource("", "v1", "services", "Service")


class Routed:
    """Port `Scraper` over real HTTP, with the route to the pods that a test machine has not."""

    def __init__(self, scraper: ScrapeHttp) -> None:
        self._scraper = scraper
        self.routes: dict[str, str] = {}
        """From a pod's address to where it is served."""

    async def scrape(
        self, place: Place, names: tuple[str, ...], within: float
    ) -> Exposed | NoAnswer:
        """What is exposed there."""
        if place.host not in self.routes:
            return NoAnswer(Blindness.UNREACHABLE, "no route")
        there = replace(place, host=self.routes[place.host])
        return await self._scraper.scrape(there, names, within)


async def _routes(setting: Bench, running: Pods, routed: Routed) -> None:
    """Serve every pod of the Service, as soon as the controller manager lists all of them."""

    async def addresses() -> list[str] | None:
        slices = (await setting.cluster.list(ENDPOINT_SLICES, setting.namespace)).items
        found = [each for body in slices for each in body.get("endpoints") or ()]
        return [each["addresses"][0] for each in found] if len(found) == 2 else None

    for number, address in enumerate(await eventually(addresses)):
        pod = await running.start(f"pod-{number}")
        routed.routes[address] = pod.pod.addresses[0]


@pytest.mark.cluster
async def test_a_scrape_stops_models_while_prometheus_is_down(setting: Bench) -> None:
    """Real Services and EndpointSlices; evidence and status name path and pod."""
    await setting.deployment("vllm", 2)
    setting.dial.answers['running{model="a"}'] = NoAnswer(Blindness.UNREACHABLE, "it is down")
    async with pods() as running, ScrapeHttp() as scraper:
        port = {"name": "metrics", "port": 80, "targetPort": running.port}
        service = {"selector": {"app": "vllm"}, "ports": [port]}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "vllm"}}
        await setting.cluster.create(SERVICES, {**body, "spec": service}, setting.namespace)
        target = {"kind": "Deployment", "name": "vllm"}
        await setting.policy("runaway", targets=[target], signals=[signal()])
        routed = Routed(scraper)
        await _routes(setting, running, routed)
        async with reactor(setting, scraper=routed) as watching:
            clear = await setting.with_condition(POLICIES, "runaway", "SignalsAvailable", "True")
            assert clear["status"]["signals"][0]["verdict"] == "Clear"
            assert await setting.shutdowns() == []
            value = watching.numbers.registry.get_sample_value
            assert (value("killswitch_scrapes_total", {"outcome": "Answered"}) or 0) > 0
            assert value("killswitch_path_heard_timestamp_seconds", {"path": "scrape"})
            assert value("killswitch_scrape_targets") == 2
            assert value("killswitch_path_silent_seconds", {"path": "scrape"}) == 0
            assert value("killswitch_scrape_stretch") == 1
            running.served["pod-1"].set(500)
            await setting.stopped("runaway-1")
            evidence = await eventually(setting.evidence)
            for pod in running.served.values():
                await pod.stop()

            async def absent() -> Json | None:
                found = await setting.cluster.get(POLICIES, "runaway", setting.namespace)
                (reading,) = found["status"]["signals"]
                return reading if reading["verdict"] == "Unknown" else None

            reading = await eventually(absent)
    vote = evidence["signals"][0]
    assert (vote["verdict"], vote["value"], vote["path"]) == ("Tripped", "500", "scrape")
    assert vote["message"].startswith("pod vllm-")
    assert "while this policy holds what it stopped" in reading["message"]


async def test_a_service_that_is_scraped_rarely_is_not_silent() -> None:
    """Its pods are heard one after the other, and each no more often than it is asked."""
    clock = FakeClock()
    found = Scene(Told(SOUND), clock, LOOPBACK)
    found.policy(signal("30s", maxAge="2m"))
    found.expose(8000, POD, Pod("prod", "two", "uid-two", "n", "", {}, addresses=("10.0.0.2",)))
    with structlog.testing.capture_logs() as lines:
        await advance(found, clock, 140)
    assert found.reading().verdict is CLEAR
    assert found.silent == set()
    assert [each["event"] for each in lines] == []
    found.scraping.stop()


def test_the_documented_signal_is_accepted() -> None:
    """As docs/signals.md writes it."""
    (example,) = (each for each in snippets("yaml", SIGNALS) if "scrape: {" in each)
    (found,) = accept(stored(*yaml.safe_load(example)["signals"]), PromqlChecker().check).signals
    assert str(found.exporter) == "Service prod/vllm port http"
    assert (found.scrape_interval, found.max_age) == (0.1, 5.0)
