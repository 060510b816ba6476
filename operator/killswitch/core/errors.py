"""Every error killswitch raises on purpose.

KillSwitchError
├── InvalidPolicyError     a policy that cannot work; names the field and the cure
├── RefusedError           the API server said no (403, admission, 422); carries its message
├── ConflictError          409: the object exists or changed meanwhile
├── NotFoundError          404
├── ExpiredError           410: the resource version is too old; list again
├── OverloadedError        429: slow down; carries the seconds to wait
├── UnavailableError       no answer, 502 to 504, broken connection: nothing is known
│   └── TimedOutError      sent, and not answered in time: others may well be
├── ServerError            an answered 5xx, e.g. a failing webhook; carries its words
├── UnacceptableError      bytes from outside that cannot be taken; carries the HTTP status to answer
├── MalformedError         bytes that somebody sent are not what their path accepts
├── CgroupError            a node's kernel refused, or shows what must not be; names the cure
└── TransitionError        the switch was given an event its state does not expect
"""


class KillSwitchError(Exception):
    """Base of all errors above."""


class InvalidPolicyError(KillSwitchError):
    """A policy that cannot work: `field` is its path, `cure` what to write instead."""

    def __init__(self, field: str, problem: str, cure: str) -> None:
        super().__init__(f"{field}: {problem}; {cure}")
        self.field = field
        self.problem = problem
        self.cure = cure


class RefusedError(KillSwitchError):
    """The API server refused: authorization, admission or schema. `code` is its status."""

    def __init__(self, message: str, code: int = 403) -> None:
        super().__init__(message)
        self.code = code


class ConflictError(KillSwitchError):
    """The object already exists, or changed since it was read."""


class NotFoundError(KillSwitchError):
    """The object is not there."""


class ExpiredError(KillSwitchError):
    """The resource version is too old to continue from."""


class OverloadedError(KillSwitchError):
    """The API server asks to wait `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(KillSwitchError):
    """No usable answer: whether the request took effect is unknown."""


class TimedOutError(UnavailableError):
    """Sent, and not answered in time: others may well be, so this one must not hold them up."""


class ServerError(KillSwitchError):
    """An answered 5xx, e.g. a webhook that fails: what was asked did not happen as far as known."""


class UnacceptableError(KillSwitchError):
    """What was sent cannot be taken, none of it was: 400 malformed, 413 too large, 415 foreign."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class TransitionError(KillSwitchError):
    """An event that the switch's state table has no entry for."""


class MalformedError(KillSwitchError):
    """Bytes from outside that are not what their path accepts; the text says what is wrong."""


class CgroupError(KillSwitchError):
    """What the node guard wanted of a cgroup did not happen: `number` is the kernel's errno, or 0.

    `uid` is the pod's, `file` the cgroup's; `left` are processes that live and must not.
    """

    def __init__(
        self,
        problem: str,
        cure: str,
        *,
        uid: str = "",
        file: str = "",
        number: int = 0,
        left: tuple[int, ...] = (),
    ) -> None:
        super().__init__(f"{problem}; {cure}")
        self.problem = problem
        self.cure = cure
        self.uid = uid
        self.file = file
        self.number = number
        self.left = left


ANSWERED = (NotFoundError, RefusedError, ServerError)
"""An API server that answers, and does not list one kind: others are listed as ever."""
UNSEEN = (*ANSWERED, OverloadedError, UnavailableError)
"""Why one kind cannot be seen now, for who looks at many and looks again soon: it is named with the reason."""


def of_answer(status: int, text: str, retry_after: str | None = None) -> KillSwitchError:
    """The error that an API server's answer with this status is; `retry_after` is its header."""
    match status:
        case 404:
            return NotFoundError(text)
        case 409:
            return ConflictError(text)
        case 410:
            return ExpiredError(text)
        case 429:  # also while a kind that was just made is not ready yet
            return _overloaded(text, retry_after)
        case 503 if retry_after is not None:
            return _overloaded(text, retry_after)
        case _ if 400 <= status < 500:
            return RefusedError(text, status)
        case 502 | 503 | 504:  # a proxy, or an API server that starts or ends: nobody has looked
            return UnavailableError(text)
        case _:
            return ServerError(text)


def _overloaded(text: str, retry_after: str | None) -> OverloadedError:
    seconds = retry_after if retry_after is not None and retry_after.isdecimal() else "1"
    return OverloadedError(text, float(seconds))
