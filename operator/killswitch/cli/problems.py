"""How a failure is told: what was not possible, why, and the next command.

Commands raise `Problem` where they know more than the error says; everything else is explained
here from the closed tree of `core.errors`, so that no traceback and no bare status code reaches
a person who is trying to stop something.
"""

from killswitch.cli.exit_codes import ExitCode
from killswitch.core.errors import (
    ConflictError,
    InvalidPolicyError,
    KillSwitchError,
    NotFoundError,
    OverloadedError,
    RefusedError,
    ServerError,
    UnavailableError,
)

PROGRAM = "kubectl killswitch"
"""How commands are named in advice; the lock's own messages say the same."""
_MISSING_KIND = ("could not find the requested resource", "page not found")


class Problem(Exception):  # noqa: N818 - it is told to people, under this name
    """What was not possible, why, and what to do next."""

    headline = "Not possible"

    def __init__(self, what: str, why: str, cure: str, code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why
        self.cure = cure
        self.code = code


class Interrupted(Problem):
    """A person's Ctrl-C: what was going on, what holds all the same, and what to do next."""

    headline = "Interrupted"

    def __init__(self, what: str, why: str, cure: str) -> None:
        super().__init__(what, why, cure, ExitCode.INTERRUPTED)


def said(error: RefusedError) -> str:
    """The refusal in its own words, without the names of the admission policy around them."""
    return str(error).rpartition(" denied request: ")[2]


def not_installed(error: NotFoundError) -> bool:
    """Whether the kind is unknown to the API server, rather than the object."""
    return any(text in str(error) for text in _MISSING_KIND)


def explained(what: str, error: KillSwitchError, namespace: str = "") -> Problem:
    """The problem that an error of the API server amounts to, for a command doing `what`."""
    place = f" -n {namespace}" if namespace else ""
    match error:
        case UnavailableError():
            cure = (
                f"check the way to the API server (kubectl cluster-info), then: {PROGRAM} "
                f"status{place}; what was accepted before holds without killswitch running"
            )
            return Problem(what, str(error), cure, ExitCode.UNREACHABLE)
        case ServerError():
            why = f"the API server answered, but with an error of its own: {error}"
            cure = (
                "read the words above: a webhook named there may be down or wrong "
                f"(kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations); then: "
                f"{PROGRAM} status{place}"
            )
            return Problem(what, why, cure, ExitCode.REFUSED)
        case OverloadedError():
            cure = f"the API server is overloaded: repeat in {error.retry_after:g} s"
            return Problem(what, str(error), cure, ExitCode.UNREACHABLE)
        case RefusedError(code=401):
            cure = "log in again: the API server does not know this token or certificate"
            return Problem(what, str(error), cure, ExitCode.REFUSED)
        case RefusedError():
            cure = f"see what you may do: kubectl auth can-i --list{place}"
            return Problem(what, said(error), cure, ExitCode.REFUSED)
        case NotFoundError():
            return _not_found(what, error, namespace)
        case ConflictError():
            return Problem(what, str(error), f"look again: {PROGRAM} status{place}")
        case InvalidPolicyError():
            return Problem(what, f"{error.field}: {error.problem}", error.cure)
        case _:
            return Problem(what, str(error), f"see: {PROGRAM} status{place}")


def _not_found(what: str, error: NotFoundError, namespace: str) -> Problem:
    """Not installed, no such namespace, or no such object where it was looked for."""
    place = f" -n {namespace}" if namespace else ""
    text = str(error)
    if not_installed(error):
        why = "killswitch is not installed in this cluster (its kinds are unknown)"
        return Problem(what, why, f"stop without it: {PROGRAM} break-glass --bare{place}")
    if text.startswith("namespaces "):
        return Problem(what, text, "see which there are: kubectl get namespaces")
    clusterwide = not namespace or text.startswith("cluster")
    looked = "" if clusterwide else f" (looked in namespace {namespace})"
    cure = f"see what is there: {PROGRAM} status -A, or name its namespace with -n"
    return Problem(what, f"{text}{looked}", cure)
