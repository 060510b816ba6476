"""The surface of `freeze` and `thaw`: names, options, help. Imports stay light, as in main."""

from enum import StrEnum
from typing import Annotated

import typer

from killswitch.cli import scope
from killswitch.cli.connect import Session, run
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.options import (
    Access,
    Approvals,
    Context,
    Format,
    Image,
    Kubeconfig,
    Labels,
    Namespace,
    Output,
    Reason,
    WholeNamespace,
    Workloads,
)
from killswitch.cli.problems import Problem
from killswitch.cli.screen import Screen
from killswitch.cli.usage import duration, given, usage

_LONGEST = 24 * 3600


class Then(StrEnum):
    """What a Freeze ends in."""

    THAW = "thaw"
    STOP = "stop"


def freeze(
    *,
    named: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORKLOAD", help="KIND/NAME, e.g. deployment/NAME; several."),
    ] = None,
    length: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long, e.g. 90s or 5m; at most 24h.")
    ],
    then: Annotated[
        Then, typer.Option(help="At its end: let the pods go on, or stop and hold them.")
    ],
    reason: Reason,
    workload: Workloads = None,
    whole: WholeNamespace = False,
    labels: Labels = None,
    image: Image = None,
    approvals: Approvals = 2,
    past_liveness: Annotated[
        bool,
        typer.Option("--past-liveness", help="Although kubelets restart containers meanwhile."),
    ] = False,
    unguarded: Annotated[
        bool, typer.Option("--unguarded", help="Although no node guard can carry it out by now.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Freeze pods in place for a while: they compute nothing and keep their memory.

    Node guards do it, in milliseconds. It locks nothing and is no stop: to stop and hold, use
    `stop`. It ends by itself, as --then says. Earlier: `thaw`. Longer: `freeze` the same again:
    the last to end counts, but one that ends in a stop stops at its own end unless it is thawed.
    """
    screen = Screen(output, progress=not dry_run)
    with usage(screen):
        seconds = duration("--for", length)
        if not 1 <= seconds <= _LONGEST:
            why, cure = "a Freeze lasts from 1 s to 24 h", "write e.g. 5m; to prolong, freeze again"
            raise Problem(f"freeze for {length}", why, cure, ExitCode.USAGE)
        given(reason)
        chosen = scope.read(
            [*(named or ()), *(workload or ())],
            labels,
            None,
            whole=whole,
            image=image,
            act="freeze",
        )

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import freeze as flow
        from killswitch.cli.freezing import Request

        request = Request(
            chosen, reason, seconds, then.value.capitalize(), approvals,
            past_liveness=past_liveness, unguarded=unguarded,
        )  # fmt: skip
        if dry_run:
            return await flow.show(session, screen, request)
        return await flow.freeze(session, screen, request)

    run(Access(kubeconfig, context, namespace), screen, f"freeze {chosen}", work)


def thaw(
    *,
    name: Annotated[str, typer.Argument(help="Name of the Freeze.")],
    reason: Reason,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Let frozen pods go on before their time. Whoever froze may; others need the verb thaw.

    To prolong instead: `freeze` the same again.
    """
    screen = Screen(output, progress=True)
    with usage(screen):
        given(reason)

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import thaw as thawing

        return await thawing.thaw(session, screen, name, reason)

    run(Access(kubeconfig, context, namespace), screen, f"thaw {name}", work)
