"""What the exit code of a command says, for scripts and runbooks. Never renumbered."""

from enum import IntEnum


class ExitCode(IntEnum):
    """One number per kind of end."""

    OK = 0
    """Done; for `stop` and `restore --wait`: observed, not assumed."""
    ERROR = 1
    """Not possible for a reason of its own: nothing matches, no kubeconfig, not installed."""
    USAGE = 2
    """The command line itself is wrong; nothing was asked of the API server."""
    REFUSED = 3
    """The API server refused (no right, an admission policy), or failed at it (5xx, a webhook).

    Nothing was changed by it; for a 5xx: as far as known.
    """
    NOT_VERIFIED = 4
    """The lock is engaged or the order given, but the end was not observed by the deadline."""
    UNREACHABLE = 5
    """The API server does not answer: what took effect is unknown."""
    INTERRUPTED = 130
    """Ctrl-C. What the API server has accepted stays."""
