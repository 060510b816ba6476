"""The file of keys: who may do what, and what an edit or an accident changes."""

import json
from pathlib import Path

import pytest

from killswitch.signals.keyfile import KeyFile
from tests.signals.served import KEY, TOKEN

OTHER = "another-token-of-24-characters"


def written(folder: Path, text: str) -> Path:
    """A file with that content."""
    file = folder / "keys"
    file.write_text(text)
    return file


def test_only_prometheus_may_write_samples(tmp_path: Path) -> None:
    """A guardrail's token is for events alone."""
    content = {"guard": [KEY, TOKEN], "prometheus": [OTHER]}
    found = KeyFile(str(written(tmp_path, json.dumps(content))))
    assert found.keys().bearer.source(f"Bearer {TOKEN}") == "guard"
    assert found.writers().source(f"Bearer {TOKEN}") is None
    assert found.writers().source(f"Bearer {OTHER}") == "prometheus"
    assert repr(found.keys().signing) == "SigningKeys(1 keys)"


def test_only_audit_may_post_audit_events(tmp_path: Path) -> None:
    """Neither a guardrail nor Prometheus can lie about who tried to undo a stop."""
    content = {"guard": [TOKEN], "prometheus": [OTHER], "audit": ["a-third-token-of-24-chars"]}
    found = KeyFile(str(written(tmp_path, json.dumps(content))))
    assert found.auditors().source("Bearer a-third-token-of-24-chars") == "audit"
    assert found.auditors().source(f"Bearer {TOKEN}") is None
    assert found.auditors().source(f"Bearer {OTHER}") is None
    assert found.writers().source("Bearer a-third-token-of-24-chars") is None


def test_an_edit_holds_from_the_next_request_on(tmp_path: Path) -> None:
    """Added, and revoked."""
    file = written(tmp_path, f"guard: [{TOKEN}]\n")
    found = KeyFile(str(file))
    file.write_text(f"guard: [{OTHER}]\nmore: []\n")
    assert found.keys().bearer.source(f"Bearer {OTHER}") == "guard"
    assert found.keys().bearer.source(f"Bearer {TOKEN}") is None


@pytest.mark.parametrize("accident", ["[", "- a", "guard: [short]", "guard: [1]", None])
def test_after_an_accident_the_keys_of_before_hold(tmp_path: Path, accident: str | None) -> None:
    """Whoever could demand a stop still can; an empty file is how to let nobody in."""
    file = written(tmp_path, f"guard: [{TOKEN}]\n")
    found = KeyFile(str(file))
    if accident is None:
        file.unlink()
    else:
        file.write_text(accident)
    assert found.keys().bearer.source(f"Bearer {TOKEN}") == "guard"
    file.write_text("{}")
    assert found.keys().bearer.source(f"Bearer {TOKEN}") is None


@pytest.mark.parametrize("text", ["[", "- a", "guard: key", "1: [a]"])
def test_a_start_without_readable_keys_lets_nobody_in_until_they_are(
    tmp_path: Path, text: str
) -> None:
    """A kill switch whose keys somebody mistyped must still start, and poll."""
    file = written(tmp_path, text)
    found = KeyFile(str(file))
    assert found.empty
    file.write_text(f"guard: [{TOKEN}]\n")
    assert not found.empty
    assert found.keys().bearer.source(f"Bearer {TOKEN}") == "guard"
