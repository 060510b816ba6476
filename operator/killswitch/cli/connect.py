"""The only place where the command line meets the outside: API server, clock, event loop.

Every command hands its work to `run`, which opens one session, and turns each failure into words
and an exit code. The client libraries are imported here, late: `--help` never pays for them.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import typer

from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.options import Access
from killswitch.cli.problems import PROGRAM, Interrupted, Problem, explained
from killswitch.cli.screen import Screen
from killswitch.core.errors import KillSwitchError

if TYPE_CHECKING:
    from killswitch.core.catalogue import Catalogue
    from killswitch.ports import Clock, Cluster

_CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Session:
    """One command's way to one API server, with the user's own rights."""

    cluster: "Cluster"
    clock: "Clock"
    namespace: str
    """From the command line, else from the kubeconfig's context."""

    async def kinds(self, wanted: frozenset[str] = frozenset()) -> "tuple[Catalogue, str]":
        """The kinds that the cluster serves, and why they could not be asked for.

        `wanted`: names of kinds beyond the table that somebody is about. Not knowing leaves those
        that every cluster serves.
        """
        from killswitch.discovery import Discovery

        discovery = Discovery(self.cluster, self.clock)
        return await discovery.look(wanted), discovery.failure


Work = Callable[[Session], Awaitable[ExitCode]]


def run(access: Access, screen: Screen, what: str, work: Work) -> NoReturn:
    """Do the work and exit with its code. `what` completes "Not possible: …" if it fails."""
    import asyncio
    import gc

    gc.set_threshold(
        200_000
    )  # a command lives for seconds: collecting cost a third of a large plan
    try:
        code = asyncio.run(_inside(access, what, work))
    except Problem as problem:
        screen.problem(problem)
        code = problem.code
    except KeyboardInterrupt:
        interrupted = _interrupted(what, access.namespace)
        screen.problem(interrupted)
        code = interrupted.code
    raise typer.Exit(int(code))


async def _inside(access: Access, what: str, work: Work) -> ExitCode:
    import asyncio

    async with session(access) as opened:
        try:
            return await work(opened)
        except KillSwitchError as error:
            raise explained(what, error, opened.namespace) from error
        except asyncio.CancelledError:  # Ctrl-C: nothing else cancels a command
            raise _interrupted(what, opened.namespace) from None


def _interrupted(what: str, namespace: str | None) -> Interrupted:
    place = f" -n {namespace}" if namespace else ""
    why = "by Ctrl-C; what the API server has accepted by now stays"
    return Interrupted(what, why, f"see what took effect: {PROGRAM} status{place}")


@contextlib.asynccontextmanager
async def session(access: Access) -> AsyncIterator[Session]:
    """A session with an open connection pool; Problem where there is no usable kubeconfig."""
    from killswitch.adapters import credentials
    from killswitch.adapters.clock import SystemClock
    from killswitch.adapters.kubernetes_api import KubernetesApi
    from killswitch.telemetry import logs

    try:
        loaded = credentials.load(access.kubeconfig, access.context)
    except credentials.NoClusterError as error:
        why, _, cure = str(error).rpartition(". ")
        raise Problem("reach a cluster", why.rstrip("."), cure) from error
    logs.keep_quiet()  # a command says what matters itself, and its output is for programs, too
    async with KubernetesApi(loaded, connections=_CONNECTIONS) as cluster:
        yield Session(cluster, SystemClock(), access.namespace or loaded.namespace)
