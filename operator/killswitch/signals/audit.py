"""POST /v1/audit: the API server's audit webhook backend (`--audit-webhook-config-file`).

What it posts can only count who was refused; it is no signal, and no path to a stop. A list is counted
whole or not at all, so that the same list, sent again, is neither lost nor counted twice.
"""

from collections.abc import Callable, Sequence

import orjson

from killswitch.core import audit
from killswitch.core.audit import Refusal
from killswitch.core.errors import MalformedError
from killswitch.signals import refusals
from killswitch.signals.keys import BearerTokens
from killswitch.signals.refusals import Reason
from killswitch.signals.web import Accepted, Answer, Bounds, Headers, Receiver, bearer

PATH = "/v1/audit"
_BOUNDS = Bounds(body=10 << 20, seconds=10.0, in_flight=4)
"""The body as large as the API server cuts it (`--audit-webhook-truncate-max-batch-size`)."""


def receiver(
    deliver: Callable[[Sequence[Refusal]], None],
    *,
    tokens: Callable[[], BearerTokens],
    bounds: Bounds = _BOUNDS,
) -> Receiver:
    """Receives audit events and hands on what the lock refused."""

    def receive(_: Headers, body: bytes) -> Answer:
        try:
            found = audit.refusals(orjson.loads(body))
        except orjson.JSONDecodeError as error:
            return refusals.Refusal(Reason.MALFORMED, f"not JSON: {str(error)[:200]}")
        except MalformedError as error:
            return refusals.Refusal(Reason.MALFORMED, str(error))
        deliver(found)
        return Accepted()

    return Receiver(PATH, bounds, receive, bearer(tokens))
