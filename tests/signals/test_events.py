import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.core import times
from killswitch.signals import events
from killswitch.signals.events import Event, Keys, Severity
from killswitch.signals.keys import MOST, BearerTokens, SigningKeys, signatures
from killswitch.signals.limits import Limits, Rate
from killswitch.signals.nonces import Nonces, Seen
from killswitch.signals.refusals import STATUS, Reason, Refusal
from tests.signals.served import DOCUMENT, KEY, TOKEN, event_body, signed

NOW = 1_800_000_000.0
NEXT = "whsec_" + base64.b64encode(b"n" * 24).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 64).decode()
BEARER = {"authorization": f"Bearer {TOKEN}"}
TIMED = {"id": "b-1", "time": "2027-01-15T08:00:00Z"}


class Receiver:
    """All that `verify` keeps between two requests."""

    def __init__(self, *, rate: Rate | None = None, per_source: int = 100) -> None:
        """A source with two keys, one with another, one with a token."""
        self.keys = Keys(
            SigningKeys({"guard": [KEY, NEXT], "other": [OTHER]}), BearerTokens({"guard": [TOKEN]})
        )
        self.seen = Nonces(window=events.WINDOW, per_source=per_source)
        self.limits = Limits(rate or Rate(1000.0, 1000))

    def receive(
        self, headers: Mapping[str, str], body: bytes, now: float = NOW
    ) -> Event | Reason | None:
        """The event, or the reason of its refusal."""
        found = events.verify(
            headers, body, now=now, keys=self.keys, seen=self.seen, limits=self.limits
        )
        return found.reason if isinstance(found, Refusal) else found


def reason(headers: Mapping[str, str], body: bytes, now: float = NOW) -> object:
    """What a new receiver says."""
    return Receiver().receive(headers, body, now)


def test_a_signed_event_is_taken_whole() -> None:
    """Every field; the id is the signed one, the time that of the body."""
    body = event_body(
        time="2027-01-15T07:00:00Z",
        id="n-1",
        namespace="prod",
        model="llama 3 – größer",
        labels={"rule": "dan", "app": "chat"},
        count=3,
        severity="critical",
    )
    expected = Event(
        type="guardrail.jailbreak",
        source="guard",
        id="n-1",
        time=NOW - 3600,
        received_at=NOW,
        namespace="prod",
        model="llama 3 – größer",
        labels=(("app", "chat"), ("rule", "dan")),
        count=3,
        severity=Severity.CRITICAL,
    )
    assert reason(signed(body, now=NOW), body) == expected


def test_a_bearer_tells_id_and_time_in_the_body() -> None:
    """Both are required: without them a copy could be told from nothing."""
    expected = Event("guardrail.jailbreak", "guard", "b-1", NOW, NOW)
    assert reason(BEARER, event_body(**TIMED)) == expected
    for missing in ("id", "time"):
        rest = {name: text for name, text in TIMED.items() if name != missing}
        assert reason(BEARER, event_body(**rest)) is Reason.MALFORMED


@pytest.mark.parametrize("key", [KEY, NEXT])
def test_each_key_of_a_source_works(key: str) -> None:
    """So that it can be rotated; a sender may sign with several, versions may be unknown."""
    body = event_body()
    headers = signed(body, now=NOW, key=key)
    assert isinstance(reason(headers, body), Event)
    both = "v1a,xx v1,notbase64! v1,AAAA " + headers["webhook-signature"]
    assert isinstance(reason({**headers, "webhook-signature": both}, body), Event)


def test_the_vector_of_the_specification_is_reproduced() -> None:
    """Public test vector of the Standard Webhooks libraries: id, then timestamp, then body."""
    key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signature = "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    content = b'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}'
    found = SigningKeys({"svix": [key]}).source(signatures(f"v1,{signature}"), content)
    assert found == "svix"


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "n-2"},
        {"webhook-timestamp": str(int(NOW) + 1)},
        {"webhook-signature": "v1," + base64.b64encode(b"x" * 32).decode()},
        {"webhook-signature": "v1," + base64.b64encode(b"x" * 31).decode()},
        {"webhook-signature": "v2,AAAA"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,ünïcode"},
        {"webhook-signature": "v1,\udc80\ud800"},
    ],
)
def test_a_forgery_is_refused_without_saying_what_was_wrong(change: dict[str, str]) -> None:
    """Any part of what is signed, and any signature that no key made."""
    body = event_body()
    assert reason(signed(body, now=NOW) | change, body) is Reason.BAD_CREDENTIALS


def test_wrong_key_truncated_and_changed_bodies_answer_alike() -> None:
    """Byte for byte the same refusal."""
    body, receiver = event_body(), Receiver()
    stranger = "whsec_" + base64.b64encode(b"s" * 32).decode()
    good = signed(body, now=NOW)
    attempts = [
        (signed(body, now=NOW, key=stranger), body),
        (good, body[:-1]),
        (good, body + b" "),
        (good, b""),
        ({"authorization": "Bearer wrong"}, body),
        ({"authorization": f"Basic {TOKEN}"}, body),
        ({"authorization": "Bearer \udcff\ud800"}, body),
        ({"authorization": ""}, body),
    ]
    answers = {
        events.verify(
            headers, sent, now=NOW, keys=receiver.keys, seen=receiver.seen, limits=receiver.limits
        )
        for headers, sent in attempts
    }
    assert answers == {
        Refusal(Reason.BAD_CREDENTIALS, "no key of any source fits this request"),
    }
    assert len(receiver.seen) == 0


@pytest.mark.parametrize(
    ("off", "expected"),
    [
        (-31, Reason.TOO_OLD),
        (-30, None),
        (30, None),
        (31, Reason.TOO_NEW),
        (10**9, Reason.TOO_NEW),
    ],
)
def test_the_timestamp_may_be_off_by_the_window(off: int, expected: Reason | None) -> None:
    """Both ways, its ends included; for bearers it is the time in the body."""
    body = event_body()
    found = reason(signed(body, now=NOW + off), body)
    assert (None if isinstance(found, Event) else found) == expected
    timed = event_body(id="b", time=times.text(NOW + off))
    found = reason(BEARER, timed)
    assert (None if isinstance(found, Event) else found) == expected


def test_a_signed_event_of_the_past_may_be_sent_again_but_none_of_the_future() -> None:
    """Its age is for the policy's maxAge to judge."""
    future = event_body(time=times.text(NOW + 31))
    assert reason(signed(future, now=NOW), future) is Reason.TOO_NEW


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"webhook-id": "a.b"}, Reason.BAD_ID),
        ({"webhook-id": ""}, Reason.BAD_ID),
        ({"webhook-id": "x" * 129}, Reason.BAD_ID),
        ({"webhook-id": "n-1\n"}, Reason.BAD_ID),
        ({"webhook-timestamp": "soon"}, Reason.BAD_TIMESTAMP),
        ({"webhook-timestamp": "-1"}, Reason.BAD_TIMESTAMP),
        ({"webhook-timestamp": "١٨"}, Reason.BAD_TIMESTAMP),
        ({"webhook-timestamp": "9" * 13}, Reason.BAD_TIMESTAMP),
        ({"webhook-timestamp": "1e9"}, Reason.BAD_TIMESTAMP),
    ],
)
def test_headers_have_a_shape(change: dict[str, str], expected: Reason) -> None:
    """No full stop in the id: it separates what is signed."""
    body = event_body()
    assert reason(signed(body, now=NOW) | change, body) is expected


def test_without_credentials_nothing_is_read() -> None:
    """Whatever the body."""
    assert reason({}, b"\xff") is Reason.NO_CREDENTIALS


def test_a_key_speaks_for_its_own_source_alone() -> None:
    """A stolen key of one guardrail is not the voice of another."""
    body = event_body()
    assert reason(signed(body, now=NOW, key=OTHER), body) is Reason.WRONG_SOURCE


def test_the_body_may_not_name_another_id() -> None:
    """Two ids for one event would be two events to somebody."""
    body = event_body(id="n-2")
    assert reason(signed(body, now=NOW), body) is Reason.ID_MISMATCH


@pytest.mark.parametrize(
    "fields",
    [
        {"type": None},
        {"type": ""},
        {"type": "a b"},
        {"source": None},
        {"source": ["guard"]},
        {"namepsace": "prod"},
        {"namespace": "Prod"},
        {"namespace": "prod\n"},
        {"namespace": ""},
        {"model": ""},
        {"model": "a\nb"},
        {"model": "x" * 257},
        {"labels": []},
        {"labels": {"a": 1}},
        {"labels": {"": "x"}},
        {"labels": {str(n): "x" for n in range(33)}},
        {"count": 0},
        {"count": True},
        {"count": 1.5},
        {"count": 10**10},
        {"severity": "worst"},
        {"severity": 3},
        {"time": 1},
        {"time": "2027-01-15T08:00:00"},
        {"id": "a.b"},
    ],
)
def test_a_body_that_says_something_else_is_malformed(fields: dict[str, Any]) -> None:
    """A misspelt field is refused too: passing it over would widen what the event is about."""
    body = event_body(**fields)
    signed_id = "n-1"
    found = reason(signed(body, now=NOW, id_=signed_id), body)
    expected = Reason.ID_MISMATCH if fields == {"id": "a.b"} else Reason.MALFORMED
    assert found is expected


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff\xfe", b"null", b"[" * 9000])
def test_signed_nonsense_is_malformed(body: bytes) -> None:
    """Nothing else is raised."""
    assert reason(signed(body, now=NOW), body) is Reason.MALFORMED


def test_an_event_counts_once() -> None:
    """Signed or not, whatever else changes; another id is another event."""
    receiver, body = Receiver(), event_body()
    headers = signed(body, now=NOW)
    assert isinstance(receiver.receive(headers, body), Event)
    assert receiver.receive(headers, body) is Reason.REPLAYED
    again = signed(body, now=NOW + 20, key=NEXT)
    assert receiver.receive(again, body, NOW + 20) is Reason.REPLAYED
    other = signed(body, now=NOW, id_="n-2")
    assert isinstance(receiver.receive(other, body), Event)
    timed = event_body(**TIMED)
    assert isinstance(receiver.receive(BEARER, timed), Event)
    assert receiver.receive(BEARER, timed) is Reason.REPLAYED


@given(
    made=st.floats(-30.0, 30.0),
    later=st.lists(st.floats(0.0, 90.0), max_size=4),
    back=st.floats(0.0, 59.0),
)
@settings(deadline=None)
def test_no_replay_passes_at_any_time(made: float, later: list[float], back: float) -> None:
    """Remembered for as long as its timestamp passes, also when the clock is set back once."""
    receiver, body = Receiver(), event_body()
    headers = signed(body, now=NOW + made)
    if not isinstance(receiver.receive(headers, body), Event):
        return
    now = NOW
    for passed in later:
        now += passed
        filler = signed(body, now=now, id_=f"f{now:.6f}".replace(".", "_"))
        receiver.receive(filler, body, now)
        assert not isinstance(receiver.receive(headers, body, now), Event)
        assert not isinstance(receiver.receive(headers, body, now - back), Event)


def test_a_full_memory_refuses_the_new_and_forgets_nothing() -> None:
    """Of that source alone; with time there is room again."""
    receiver, body = Receiver(per_source=2), event_body()
    first = signed(body, now=NOW)
    receiver.receive(first, body)
    receiver.receive(signed(body, now=NOW, id_="n-2"), body)
    assert receiver.receive(signed(body, now=NOW, id_="n-3"), body) is Reason.NONCES_FULL
    assert receiver.receive(first, body) is Reason.REPLAYED
    others = event_body(source="other")
    assert isinstance(receiver.receive(signed(others, now=NOW, key=OTHER), others), Event)
    late = signed(body, now=NOW + 120, id_="n-3")
    assert isinstance(receiver.receive(late, body, NOW + 120), Event)


def test_beyond_its_rate_a_source_is_refused_and_may_try_the_same_again() -> None:
    """Replays and forgeries use up nothing of it."""
    receiver, body = Receiver(rate=Rate(1.0, 2)), event_body()
    first = signed(body, now=NOW)
    assert isinstance(receiver.receive(first, body), Event)
    for _ in range(5):
        assert receiver.receive(first, body) is Reason.REPLAYED
        assert receiver.receive(first, b"{}") is Reason.BAD_CREDENTIALS
    assert isinstance(receiver.receive(signed(body, now=NOW, id_="n-2"), body), Event)
    third = signed(body, now=NOW, id_="n-3")
    assert receiver.receive(third, body) is Reason.RATE_LIMITED
    assert isinstance(receiver.receive(third, body, NOW + 1), Event)


def test_a_nonce_can_be_taken_back() -> None:
    """For an event that could not be delivered."""
    seen = Nonces(window=30.0)
    assert seen.add("a", "n", NOW) is Seen.NEW
    seen.take_back("a", "n")
    seen.take_back("a", "n")
    seen.take_back("b", "n")
    assert seen.add("a", "n", NOW) is Seen.NEW
    assert seen.add("a", "n", NOW + 119) is Seen.REPEATED
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("secrets", "problem"),
    [
        ({"a": ["whsec_!"]}, "not whsec_ and base64"),
        ({"a": ["whsec_" + base64.b64encode(b"x" * 23).decode()]}, "23 bytes"),
        ({"a": ["whsec_" + base64.b64encode(b"x" * 65).decode()]}, "65 bytes"),
        ({"a": [KEY], "b": [KEY]}, "b and a have a key in common"),
        (
            {"a": ["whsec_" + base64.b64encode(bytes([n]) * 24).decode() for n in range(MOST + 1)]},
            "65 keys",
        ),
    ],
)
def test_bad_keys_are_an_error_at_the_start(secrets: dict[str, list[str]], problem: str) -> None:
    """Without showing them."""
    with pytest.raises(ValueError, match=problem) as caught:
        SigningKeys(secrets)
    assert all(key not in str(caught.value) for keys in secrets.values() for key in keys)


def test_secrets_do_not_show() -> None:
    """In no repr; a short token is an error."""
    assert repr(Receiver().keys) == (
        "Keys(signing=SigningKeys(3 keys), bearer=BearerTokens(1 tokens))"
    )
    with pytest.raises(ValueError, match="a token of a is shorter than 24 characters"):
        BearerTokens({"a": ["short"]})


def test_every_reason_is_documented_with_its_status() -> None:
    """The table of docs/events.md is the enum, no more and no less."""
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert {name: int(status) for name, status in rows} == {
        each.value: status for each, status in STATUS.items()
    }
    assert set(STATUS) == set(Reason)


texts = st.text(max_size=20) | st.sampled_from(["v1,AAAA", f"Bearer {TOKEN}", "1800000000", "n-1"])
names = st.sampled_from([events.ID, events.TIMESTAMP, events.SIGNATURE, events.AUTHORIZATION])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
known = st.sampled_from(sorted(events._FIELDS))
contents = st.dictionaries(known, anything, max_size=5).map(
    lambda changes: event_body(**{**TIMED, **changes})
)


@settings(max_examples=400, deadline=None)
@given(
    headers=st.dictionaries(names, texts) | st.just(BEARER),
    body=st.binary(max_size=100) | contents,
    sign=st.booleans(),
)
def test_arbitrary_bytes_are_an_event_or_a_refusal(
    headers: dict[str, str], body: bytes, sign: bool
) -> None:
    """Never an exception; an event only for who has a key."""
    given_ = signed(body, now=NOW) if sign else headers
    found = reason(given_, body)
    assert isinstance(found, Event | Reason)
    if isinstance(found, Event):
        assert sign or given_[events.AUTHORIZATION] == BEARER["authorization"]
        assert json.loads(body)["source"] == found.source == "guard"
