import hashlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from killswitch.core import evidence

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
facts = st.dictionaries(st.text(), values, max_size=4)


def test_canonical_form() -> None:
    """Sorted keys, no spaces, UTF-8 as it is."""
    assert evidence.canonical({"b": [1, 2.5], "a": "ü"}) == '{"a":"ü","b":[1,2.5]}'.encode()


def test_digest_names_its_algorithm() -> None:
    """Anyone with sha256sum can check it."""
    expected = "sha256:" + hashlib.sha256(b'{"a":1}').hexdigest()
    assert expected == evidence.digest({"a": 1})


@given(facts)
def test_order_does_not_matter(given_: dict[str, Any]) -> None:
    """The same facts in another order, or read back from storage, give the same bytes."""
    turned = dict(reversed(given_.items()))
    assert evidence.canonical(given_) == evidence.canonical(turned)
    assert evidence.digest(given_) == evidence.digest(json.loads(evidence.canonical(given_)))


@given(facts, facts)
def test_different_facts_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Equal digests mean equal texts."""
    same = evidence.canonical(one) == evidence.canonical(other)
    assert same == (evidence.digest(one) == evidence.digest(other))


def test_the_decisive_signal_is_the_last_that_counted() -> None:
    """Not one that did not count, however late; times are compared as times, not as texts."""
    votes = [
        {"name": "a", "counted": True, "readAt": "2026-01-01T00:00:00Z"},
        {"name": "b", "counted": True, "readAt": "2026-01-01T00:00:00.000002Z"},
        {"name": "c", "counted": False, "readAt": "2026-01-01T00:00:00.000003Z"},
        {"name": "d", "counted": True},
    ]
    assert evidence.decisive({"signals": votes}) == votes[1]
    assert evidence.decisive({}) is None
