"""Own scrapes, pure: whom to ask, for which names, and what one pod says about one metric.

EndpointSlices can be written by whoever administers a namespace, so none of their addresses is
believed by itself: an endpoint is a pod that we know, at an address that its kubelet has reported.
"""

import ipaddress
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from killswitch.api.compiled import Exporter, Metric
from killswitch.core.inventory import Inventory, Pod
from killswitch.core.readings import FUTURE, Blindness, NoAnswer
from killswitch.ports import Exposed, Place
from killswitch.signals.exposition import Limits, Parser
from killswitch.signals.series import Labels, Samples, Series

LIMITS = Limits(body=4 << 20, samples=2000)
"""Of one scrape. Beyond them it costs milliseconds, which every other policy would wait for."""
_CACHE = 5000
_ASKED = 2000
"""Most characters of names in one request: servers refuse long ones."""
_RECHECK, _RETRY = 30.0, 300.0
"""Seconds between two looks at everything where names are honoured, and where they are not."""
_SERVICE = "kubernetes.io/service-name"
_ADDED = frozenset({"job", "instance", "endpoint", "container", "node", "cluster", "prometheus"})
"""Labels that Prometheus adds; which pods are meant is said by the Service here."""


@dataclass(frozen=True, slots=True)
class Member:
    """One address of a slice, and the pod that it claims to be of."""

    address: str
    pod: str
    uid: str
    ready: bool = True


@dataclass(frozen=True, slots=True)
class Slice:
    """What is needed of an EndpointSlice."""

    namespace: str
    service: str
    ports: tuple[tuple[str, int], ...]
    members: tuple[Member, ...]

    def port(self, wanted: int | str) -> int | None:
        """The number of the port with that name or number."""
        return next((number for name, number in self.ports if wanted in {name, number}), None)


def slice_of(body: Mapping[str, Any]) -> Slice | None:
    """The projection of an EndpointSlice; None where it belongs to no Service."""
    metadata = body["metadata"]
    service = (metadata.get("labels") or {}).get(_SERVICE)
    if not service:
        return None
    ports = tuple(
        (each.get("name") or "", each["port"])
        for each in body.get("ports") or ()
        if each.get("port") and each.get("protocol", "TCP") == "TCP"
    )
    return Slice(metadata["namespace"], service, ports, tuple(_members(body)))


def _members(body: Mapping[str, Any]) -> Iterator[Member]:
    for each in body.get("endpoints") or ():
        target = each.get("targetRef") or {}
        is_pod = target.get("kind") == "Pod"
        pod, uid = (target.get("name", ""), target.get("uid", "")) if is_pod else ("", "")
        for address in each["addresses"][:1]:  # the others have no meaning, says the API
            # Unknown means ready, says the API.
            ready = (each.get("conditions") or {}).get("ready") is not False
            yield Member(address, pod, uid, ready)


@dataclass(frozen=True, slots=True)
class Found:
    """A pod to ask."""

    pod: Pod
    place: Place
    ready: bool


def endpoints(
    exporter: Exporter, slices: Iterable[Slice], inventory: Inventory, *, loopback: bool
) -> tuple[dict[str, Found], NoAnswer | None]:
    """The pods to ask, by uid, and why others among the endpoints are not asked.

    A pod that is there by IPv4 and IPv6 is one. `loopback`: whether 127.0.0.0/8 may be asked.
    """
    found: dict[str, Found] = {}
    wrong: dict[str, NoAnswer] = {}
    for each in slices:
        if each.members and (port := each.port(exporter.port)) is None:
            ports = ", ".join(f"{number} ({name})" for name, number in each.ports) or "none"
            detail = f"{exporter} is not among the ports of its endpoints: {ports}"
            wrong[""] = NoAnswer(Blindness.ABSENT, detail[:500])
            continue
        for member in each.members:
            item = inventory.owner_of(member.uid)
            pod = item if isinstance(item, Pod) and item.namespace == each.namespace else None
            problem = _problem(member, pod, loopback)
            if pod is not None and not problem:
                how = (exporter.path, exporter.tls, exporter.verified)
                place = Place(member.address, port or 0, *how)
                found.setdefault(pod.uid, Found(pod, place, member.ready))
            else:
                detail = f"{exporter}: {member.address} is not scraped, it {problem}"
                wrong[member.uid or member.address] = NoAnswer(Blindness.REFUSED, detail[:500])
    return found, next((each for uid, each in wrong.items() if uid not in found), None)


def _problem(member: Member, pod: Pod | None, loopback: bool) -> str:
    """Why this address is not asked; empty where it may be."""
    try:
        address = ipaddress.ip_address(member.address)
    except ValueError:
        return "is no IP address"
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback and not loopback:
        return "is a loopback address"
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return "is no address of a pod"
    if pod is None:
        return f"is of pod {member.pod!r}, which is not known" if member.pod else "is of no pod"
    if member.address not in pod.addresses:
        return f"is not the address of pod {pod.name}"
    return ""


def means(metric: Metric, series: Labels, place: Mapping[str, str]) -> bool:
    """Whether a metric's labels are those of an exposed series, as Prometheus would label it.

    `place` is what Prometheus adds and we know: namespace, pod, service. What it adds beyond that
    says where it scraped, and is not compared; `exported_x` is an exporter's own x.
    """
    labels = dict(series)
    for name, value in metric.labels:
        own = labels.get(name, "")
        if value == own or place.get(name) == value or (name in _ADDED and not own):
            continue
        if not name.startswith("exported_") or labels.get(name[9:], "") != value:
            return False
    return True


def concerned(metric: Metric, place: Mapping[str, str]) -> bool:
    """Whether a pod at this place may have the metric at all: not where another one is named."""
    return all(place.get(name, value) == value for name, value in metric.labels)


@dataclass(frozen=True, slots=True)
class Part:
    """What one scrape of one pod said about one metric."""

    least: float
    most: float
    """Of its numbers; NaN where it has none."""
    nan: bool
    """Whether some series is NaN."""
    stamped: tuple[tuple[float, float], ...] = ()
    """Values with their times (s), where the exporter gave them times of its own."""


def part_of(found: list[tuple[float, int]], scraped_at: int) -> Part:
    """The samples of one metric (values, ms) as a part; `found` holds at least one."""
    numbers = [value for value, _ in found if not math.isnan(value)]
    stamped: tuple[tuple[float, float], ...] = ()
    if any(at != scraped_at for _, at in found):
        stamped = tuple((value, at / 1000) for value, at in found)
    least, most = (min(numbers), max(numbers)) if numbers else (math.nan, math.nan)
    return Part(least, most, len(numbers) < len(found), stamped)


def values(part: Part, age: float, max_age: float, now: float) -> tuple[list[float], float, bool]:
    """Its extreme fresh values, the age of the oldest of them, and whether it has others.

    `age` is that of the scrape. A sample of the future proves a wrong clock, not a fresh value.
    """
    if not part.stamped:
        numbers = [] if math.isnan(part.most) else [part.least, part.most]
        return ([*numbers, math.nan] if part.nan else numbers), age, False
    fresh = [(value, at) for value, at in part.stamped if -FUTURE <= now - at <= max_age]
    oldest = max([age, *(now - at for _, at in fresh)])
    return [value for value, _ in fresh], oldest, len(fresh) < len(part.stamped)


class Reader:
    """Reads the scrapes of one pod, and finds out whether it can be asked for names alone.

    prometheus_client answers `?name[]=` a hundred times faster than a request for everything, but
    not in every mode, and others do not know it. So it is tried beside a whole answer, kept where
    nothing needed is missing and less is sent, and compared again and again.
    """

    def __init__(self, names: frozenset[str]) -> None:
        """For metrics of these names."""
        self.names = names
        self._asked = tuple(sorted(names))
        self._parser = Parser(self._asked, limits=LIMITS, cache_lines=_CACHE)
        self._whole: frozenset[Series] = frozenset()
        self._size = 0
        self._honoured = False
        self._look_at = 0.0
        self.ask: tuple[str, ...] = ()
        """What to ask for the next time; nothing for everything."""

    def read(self, exposed: Exposed, at: int, now: float) -> Samples | None:
        """The samples of an answer to `ask`, scraped at `at` (ms); UnacceptableError for rubbish.

        None where the answer shows that names are not honoured: it is not known what it lacks.
        `now` is monotonic.
        """
        samples = self._parser.parse(exposed.body, at, openmetrics=exposed.openmetrics)
        if not self.ask:
            self._look(samples, len(exposed.body), now)
        elif not self._honoured:
            enough = self._whole.issubset(samples.series) and len(exposed.body) < self._size
            self._honoured = enough
            self._look_at = now + (_RECHECK if enough else _RETRY)
            if not enough:
                self.ask = ()
                return None
        elif now >= self._look_at or not self._complete(samples):
            self.ask, self._honoured, self._look_at = (), False, now
        return samples

    def failed(self, now: float) -> None:
        """There was no answer. If names were asked for, that may be why."""
        if self.ask:
            self.ask, self._honoured, self._look_at = (), False, now + _RECHECK

    def _look(self, samples: Samples, size: int, now: float) -> None:
        """Everything was answered: try names next, if each is there and it is time."""
        if now >= self._look_at and self._complete(samples) and len("".join(self._asked)) <= _ASKED:
            self._whole, self._size = frozenset(samples.series), size
            self.ask = self._asked

    def _complete(self, samples: Samples) -> bool:
        return {each.name for each in samples.series} == self.names
