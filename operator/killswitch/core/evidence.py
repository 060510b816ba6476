"""Evidence: its canonical form and digest, the same bytes everywhere, and what was decisive in it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from killswitch.core import times


def canonical(value: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def digest(value: Mapping[str, Any]) -> str:
    """`sha256:…` of the canonical form."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def decisive(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The signal whose reading completed the quorum: the last that counted. None if none did."""
    counted = [s for s in value.get("signals") or () if s["counted"] and s.get("readAt")]
    return max(counted, key=lambda signal: times.seconds(signal["readAt"]), default=None)
