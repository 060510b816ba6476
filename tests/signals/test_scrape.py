"""Whom an EndpointSlice may make us ask, which names are asked for, and what one pod says."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from killswitch.api.compiled import Exporter, Metric
from killswitch.core.errors import UnacceptableError
from killswitch.core.inventory import Inventory, Pod
from killswitch.core.readings import Blindness
from killswitch.ports import Exposed
from killswitch.signals.scrape import (
    Reader,
    Slice,
    concerned,
    endpoints,
    means,
    part_of,
    slice_of,
    values,
)
from tests.fakes.slices import endpoint, endpoint_slice

EXPORTER = Exporter("prod", "vllm", "metrics")
AT, NOW = 1_800_000_000_000, 1_800_000_000.0


def pod(name: str = "vllm-0", *addresses: str, namespace: str = "prod") -> Pod:
    """A pod with these addresses, 10.0.0.1 unless told otherwise."""
    found = addresses or ("10.0.0.1",)
    return Pod(namespace, name, f"uid-{name}", "n", "", {}, addresses=found)


def found(*slices: Any, pods: tuple[Pod, ...] = (), loopback: bool = False, **more: Any) -> Any:
    """Addresses to ask, and why others are not."""
    inventory = Inventory()
    for each in pods:
        inventory.put(each)
    projected = [each for each in map(slice_of, slices) if each is not None]
    exporter = Exporter(**{"namespace": "prod", "service": "vllm", "port": "metrics", **more})
    asked, problem = endpoints(exporter, projected, inventory, loopback=loopback)
    return {f"{each.place.host}:{each.place.port}" for each in asked.values()}, problem


def test_pods_are_asked_at_their_own_addresses_whether_ready_or_not() -> None:
    """An unready pod may still serve. A pod with two families of addresses is one."""
    one, two = pod("a", "10.0.0.1", "fd00::1"), pod("b", "10.0.0.2")
    four = endpoint_slice(8000, endpoint(one), endpoint(two, conditions={"ready": False}))
    six = endpoint_slice(8000, endpoint(one, "fd00::1"))
    asked, problem = found(four, six, pods=(one, two))
    assert asked == {"10.0.0.1:8000", "10.0.0.2:8000"}
    assert problem is None


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0",  # noqa: S104
     "::", "::ffff:169.254.169.254", "kubernetes.default.svc", "10.0.0.9", "010.0.0.1", ""],
)  # fmt: skip
def test_other_addresses_are_refused(address: str) -> None:
    """Whoever may write EndpointSlices must not steer the reactor; even a pod's claim is no proof."""
    honest, liar = pod("a"), pod("b", "10.0.0.2", address if address != "10.0.0.9" else "10.0.0.3")
    body = endpoint_slice(8000, endpoint(honest), {**endpoint(liar), "addresses": [address]})
    asked, problem = found(body, pods=(honest, liar))
    assert asked == {"10.0.0.1:8000"}
    assert problem.reason is Blindness.REFUSED
    assert "Service prod/vllm" in problem.detail


def test_loopback_needs_its_setting() -> None:
    """Nothing else becomes allowed by it."""
    local, link = pod("a", "127.0.0.2"), pod("b", "169.254.1.1")
    body = endpoint_slice(8000, endpoint(local), endpoint(link))
    assert found(body, pods=(local, link), loopback=True)[0] == {"127.0.0.2:8000"}


@pytest.mark.parametrize(
    "target",
    [None, {"kind": "Pod", "name": "x", "uid": "uid-x"}, {"kind": "Node", "uid": "uid-vllm-0"}],
    ids=["none", "an unknown pod", "no pod"],
)
def test_an_address_without_a_known_pod_is_refused(target: Any) -> None:
    """The pod may be known a moment later; until then not all pods are."""
    body = endpoint_slice(8000, {"addresses": ["10.0.0.1"], "targetRef": target})
    asked, problem = found(body, pods=(pod(),))
    assert asked == set()
    assert problem.reason is Blindness.REFUSED


def test_a_pod_of_another_namespace_is_refused() -> None:
    """A Service has pods of its own namespace only."""
    other = pod(namespace="secret")
    asked, problem = found(endpoint_slice(8000, endpoint(other)), pods=(other,))
    assert (asked, problem.reason) == (set(), Blindness.REFUSED)


@pytest.mark.parametrize("port", ["metrics", 8000])
def test_a_port_by_name_or_number(port: int | str) -> None:
    """One that no slice has is told with those that there are."""
    body = endpoint_slice(8000, endpoint(pod()))
    assert found(body, pods=(pod(),), port=port)[0] == {"10.0.0.1:8000"}
    asked, problem = found(body, pods=(pod(),), port=80)
    assert (asked, problem.reason) == (set(), Blindness.ABSENT)
    assert "port 80" in problem.detail
    assert "8000 (metrics)" in problem.detail


def test_slices_with_next_to_nothing_in_them() -> None:
    """As the API server stores them: empty lists are absent, UDP is not HTTP."""
    empty = endpoint_slice(1)
    del empty["endpoints"], empty["ports"]
    assert slice_of(empty) == Slice("prod", "vllm", (), ())
    foreign = endpoint_slice(1)
    foreign["metadata"]["labels"] = {}
    assert slice_of(foreign) is None
    udp = endpoint_slice(1, ports=[{"name": "metrics", "port": 1, "protocol": "UDP"}, {}])
    assert slice_of(udp) == Slice("prod", "vllm", (), ())


PLACE = {"namespace": "prod", "pod": "vllm-0", "service": "vllm"}


@pytest.mark.parametrize(
    ("asked", "exposed", "meant"),
    [
        ({"model": "a"}, {"model": "a", "engine": "0"}, True),
        ({"model": "a"}, {"model": "b"}, False),
        ({"model": ""}, {}, True),
        ({"model": ""}, {"model": "a"}, False),
        ({"namespace": "prod", "pod": "vllm-0", "service": "vllm"}, {}, True),
        ({"namespace": "other"}, {}, False),
        ({"job": "models", "instance": "10.0.0.1:8000"}, {}, True),
        ({"job": "models"}, {"job": "batch"}, False),
        ({"exported_pod": "w"}, {"pod": "w"}, True),
        ({"exported_pod": "w"}, {"pod": "v"}, False),
        ({"pod": "w"}, {"pod": "w"}, True),
    ],
)
def test_labels_mean_what_they_mean_in_prometheus(
    asked: dict[str, str], exposed: dict[str, str], meant: bool
) -> None:
    """Those it would have added are known, or say where it scraped, which the Service says here."""
    metric = Metric("x", tuple(sorted(asked.items())))
    assert means(metric, tuple(sorted(exposed.items())), PLACE) is meant


def test_a_metric_of_another_pod_is_not_missed_here() -> None:
    """Only who may have it at all is asked for it."""
    assert concerned(Metric("x", (("model", "a"), ("pod", "vllm-0"))), PLACE)
    assert not concerned(Metric("x", (("pod", "vllm-1"),)), PLACE)


def test_a_part_keeps_the_extremes_and_nan() -> None:
    """As much as a comparison with any threshold needs."""
    part = part_of([(3.0, AT), (math.nan, AT), (-1.0, AT)], AT)
    numbers, age, others = values(part, 0.5, 60, NOW)
    assert (numbers[:2], math.isnan(numbers[2]), age, others) == ([-1.0, 3.0], True, 0.5, False)
    (only,), _, _ = values(part_of([(math.nan, AT)], AT), 0, 60, NOW)
    assert math.isnan(only)


def test_samples_with_old_or_future_timestamps_of_their_own_do_not_count() -> None:
    """They neither fire nor clear; the others do, with the age of the oldest."""
    stamped = [(1.0, AT - 61_000), (2.0, AT + 2_000), (3.0, AT - 5_000), (4.0, AT)]
    assert values(part_of(stamped, AT), 0.25, 60, NOW) == ([3.0, 4.0], 5.0, True)


def exposed(registry: CollectorRegistry, asked: tuple[str, ...] = ()) -> Exposed:
    """What prometheus_client answers."""
    source = registry.restricted_registry(asked) if asked else registry
    return Exposed(generate_latest(source))


def server() -> CollectorRegistry:
    """A server with more metrics than anybody needs."""
    registry = CollectorRegistry()
    Gauge("running", "x", ["model"], registry=registry).labels("a").set(3)
    Counter("tokens", "x", registry=registry).inc(5)
    for number in range(50):
        Gauge(f"other_{number}", "x", registry=registry)
    return registry


def test_names_are_asked_for_once_they_are_found_to_be_honoured() -> None:
    """By a whole answer, one by names, and from then on by names; now and then all over again."""
    registry, reader = server(), Reader(frozenset({"running", "tokens_total"}))
    asked = []
    for now in (0.0, 1.0, 2.0, 20.0, 32.0, 33.0, 34.0):
        asked.append(bool(reader.ask))
        samples = reader.read(exposed(registry, reader.ask), AT, now)
        assert samples is not None
        assert sorted(samples.values) == [3.0, 5.0]
    assert asked == [False, True, True, True, True, False, True]


def test_names_that_are_not_honoured_are_not_asked_for_again() -> None:
    """Neither where they are ignored nor where something is left out, which is not believed."""
    reader = Reader(frozenset({"running"}))
    everything = exposed(server())
    assert reader.read(everything, AT, 0.0) is not None
    assert reader.ask
    assert reader.read(everything, AT, 1.0) is None
    assert not reader.ask
    assert reader.read(everything, AT, 2.0) is not None
    assert not reader.ask


class Undescribed(Collector):
    """A collector that the registry does not know the names of, as in multiprocess mode."""

    def collect(self) -> list[GaugeMetricFamily]:
        """One sample."""
        return [GaugeMetricFamily("running", "x", value=900)]


def test_what_is_left_out_by_names_is_not_taken_for_absent() -> None:
    """prometheus_client itself answers names with nothing where it has not been told of them."""
    registry, reader = CollectorRegistry(), Reader(frozenset({"running"}))
    registry.register(Undescribed())
    for now in range(5):
        samples = reader.read(exposed(registry, reader.ask), AT, float(now))
        assert samples is None or samples.values == [900.0]
    assert not reader.ask


def test_names_are_not_tried_while_one_is_missing() -> None:
    """It may come from a collector that is not known by name."""
    registry, reader = server(), Reader(frozenset({"running", "later"}))
    assert reader.read(exposed(registry), AT, 0.0) is not None
    assert not reader.ask
    Gauge("later", "x", registry=registry)
    assert reader.read(exposed(registry), AT, 1.0) is not None
    assert reader.ask


def test_a_metric_that_goes_leads_back_to_everything() -> None:
    """And so does an answer that fails: names may be why."""
    registry, reader = server(), Reader(frozenset({"running"}))
    for now in (0.0, 1.0):
        reader.read(exposed(registry, reader.ask), AT, now)
    assert reader.ask
    assert reader.read(Exposed(b""), AT, 2.0) is not None
    assert not reader.ask
    reader.read(exposed(registry), AT, 3.0)
    assert reader.ask
    reader.failed(4.0)
    assert not reader.ask
    reader.read(exposed(registry), AT, 5.0)
    assert not reader.ask


def test_ten_thousand_series_of_one_metric_are_refused() -> None:
    """Beyond the bound nothing is half read; ten thousand others do no harm."""
    many = "".join(f'x{{n="{number}"}} 1\n' for number in range(10_000)).encode()
    with pytest.raises(UnacceptableError) as caught:
        Reader(frozenset({"x"})).read(Exposed(many), AT, 0.0)
    assert caught.value.status == 413
    samples = Reader(frozenset({"y"})).read(Exposed(many + b"y 7\n"), AT, 0.0)
    assert samples is not None
    assert samples.values == [7.0]


LINES = st.lists(
    st.one_of(
        st.builds(lambda name, value: f"{name} {value}\n".encode(), st.sampled_from("abc"),
                  st.sampled_from(["1", "NaN", "+Inf", "-3e4", "1 1800000000000", "x"])),
        st.binary(max_size=20),
    ),
    max_size=8,
)  # fmt: skip


@given(st.lists(st.tuples(LINES, st.booleans(), st.floats(0, 1000)), max_size=8))
def test_whatever_is_answered_a_reader_reads_or_refuses_it(rounds: list[Any]) -> None:
    """And it asks for all of its names or for none, after whatever it was told."""
    reader = Reader(frozenset({"a", "b"}))
    for lines, openmetrics, now in rounds:
        try:
            samples = reader.read(Exposed(b"".join(lines), openmetrics), AT, now)
        except UnacceptableError:
            reader.failed(now)
            continue
        finally:
            assert reader.ask in {(), ("a", "b")}
        for series, value, stamp in samples or ():
            part = part_of([(value, stamp)], AT)
            assert series.name in {"a", "b"}
            assert math.isnan(value) or part.least == part.most == value


JSON = st.recursive(
    st.none() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ENDPOINT = st.fixed_dictionaries(
    {"addresses": st.lists(st.text(max_size=40) | st.ip_addresses().map(str), max_size=2)},
    optional={
        "targetRef": st.none()
        | st.fixed_dictionaries(
            {"kind": st.sampled_from(["Pod", "Node"])},
            optional={"uid": st.sampled_from(["uid-vllm-0", "x"]), "name": st.text(max_size=5)},
        ),
        "conditions": st.none() | st.fixed_dictionaries({}, optional={"ready": st.booleans()}),
        "hints": JSON,
    },
)


@given(st.lists(ENDPOINT, max_size=6), st.booleans())
def test_whatever_a_slice_says_only_a_pods_own_address_is_asked(
    members: list[Any], loopback: bool
) -> None:
    """The schema of the API server bounds the form, nothing bounds the content."""
    body = endpoint_slice(8000, *members)
    asked, problem = found(body, pods=(pod(),), loopback=loopback)
    assert asked <= {"10.0.0.1:8000"}
    addresses = {each["addresses"][0] for each in members if each["addresses"]}
    assert problem is not None or addresses <= {"10.0.0.1"}
