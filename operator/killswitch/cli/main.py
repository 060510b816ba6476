"""The surface of the command line: names, options, help. Each body hands over to its module.

Imports stay light here, since `--help`, `--version` and completion read this file alone: the
client libraries, pydantic and rich come in only when a command runs.

Exit codes: 0 done and, for a stop, verified · 1 not possible · 2 wrong usage · 3 refused by the
API server · 4 not verified by the deadline · 5 API server unreachable.
"""

from typing import Annotated

import typer

from killswitch import __version__
from killswitch.cli import contain, halt, operate
from killswitch.cli.connect import Session, run
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.options import (
    Access,
    AllNamespaces,
    Context,
    Format,
    Kubeconfig,
    Namespace,
    OfCluster,
    Output,
    Reason,
    ShutdownName,
)
from killswitch.cli.problems import PROGRAM, Problem
from killswitch.cli.screen import Screen
from killswitch.cli.usage import duration, given, named, usage

_HELP = """Stop AI model servers, keep them stopped, and bring them back by consent.

Exit codes: 0 done (a stop: verified), 1 not possible, 2 wrong usage, 3 refused by the API server,
4 not verified by the deadline, 5 API server unreachable."""

# Plain help and plain tracebacks: rich would cost more than all the rest of the start.
_STYLE = {"rich_markup_mode": None, "pretty_exceptions_enable": False, "no_args_is_help": True}
app = typer.Typer(name="killswitch", help=_HELP, **_STYLE)  # type: ignore[arg-type]
bypass = typer.Typer(help="Suspend a policy for a while; it always ends.", **_STYLE)  # type: ignore[arg-type]
app.add_typer(bypass, name="bypass")


def main() -> None:
    """Entry point of `killswitch` and `kubectl-killswitch`."""
    app()


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"killswitch {__version__}")
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print it.")
    ] = False,
) -> None:
    """Options without a command."""


app.command()(halt.stop)
app.command()(halt.plan)
app.command()(contain.freeze)
app.command()(contain.thaw)


@app.command()
def status(
    *,
    everywhere: AllNamespaces = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Show policies (armed or why not), signals and what is held."""
    screen = Screen(output)

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import status as overview

        return await overview.status(session, screen, everywhere=everywhere)

    run(Access(kubeconfig, context, namespace), screen, "show the status", work)


@app.command()
def why(
    *,
    what: Annotated[
        str,
        typer.Argument(
            help="Shutdown, freeze/NAME, policy/NAME, or a workload: isvc/NAME, job/NAME …"
        ),
    ],
    cluster: OfCluster = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell why something was stopped, by whom, on which evidence, and what is next."""
    screen = Screen(output)

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import why as story

        return await story.why(session, screen, named(what, cluster=cluster))

    run(Access(kubeconfig, context, namespace), screen, f"tell why {what}", work)


@app.command()
def latency(
    *,
    last: Annotated[
        int,
        typer.Option("--last", min=0, max=1000, metavar="NUMBER", help="Stops shown one by one."),
    ] = 10,
    everywhere: AllNamespaces = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Show how long stops took, stage by stage, from what is stored of them."""
    screen = Screen(output)

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import latency as figures

        return await figures.latency(session, screen, everywhere=everywhere, last=last)

    run(Access(kubeconfig, context, namespace), screen, "show how long stops took", work)


@app.command()
def approve(
    *,
    shutdown: ShutdownName,
    reason: Reason,
    cluster: OfCluster = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Consent to release. The API server counts; the requester cannot."""
    screen = Screen(output)
    with usage(screen):
        given(reason)

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import consent

        return await consent.approve(session, screen, named(shutdown, cluster=cluster), reason)

    run(Access(kubeconfig, context, namespace), screen, f"approve {shutdown}", work)


@app.command(hidden=True)
def release(*, shutdown: ShutdownName = "NAME", namespace: Namespace = None) -> None:
    """Point to `approve`: nobody releases alone."""
    place = f" -n {namespace}" if namespace else ""
    Screen().problem(
        Problem(
            f"release {shutdown} in one act",
            "it is released when enough people have approved; the API server counts",
            f"{PROGRAM} approve {shutdown}{place} --reason …",
        )
    )
    raise typer.Exit(int(ExitCode.USAGE))


@app.command()
def restore(
    *,
    shutdown: ShutdownName,
    reason: Reason,
    cluster: OfCluster = False,
    accept_drift: Annotated[
        bool, typer.Option("--accept-drift", help="Also what changed while it was held.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it is complete.")] = False,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long --wait waits.")] = "15m",
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Order that what was stopped comes back, in stages. Only after release."""
    screen = Screen(output, progress=wait)
    with usage(screen):
        duration("--timeout", timeout)
        given(reason)

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import consent

        name = named(shutdown, cluster=cluster)
        code = await consent.restore(session, screen, name, reason, accept_drift=accept_drift)
        if wait and code is ExitCode.OK:
            return await consent.wait(session, screen, name, longest=timeout)
        return code

    run(Access(kubeconfig, context, namespace), screen, f"restore {shutdown}", work)


@app.command()
def govern(
    *,
    namespace: Annotated[str, typer.Argument(help="Namespace where the lock shall apply.")],
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Let the lock apply in a namespace. Stops nothing."""
    screen = Screen(output)

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import governance

        return await governance.govern(session, screen, namespace)

    run(Access(kubeconfig, context), screen, f"govern namespace {namespace}", work)


@bypass.command("add")
def bypass_add(
    *,
    policy: Annotated[str, typer.Argument(help="KillSwitchPolicy to suspend.")],
    reason: Reason,
    length: Annotated[str, typer.Option("--for", metavar="TIME", help="How long, e.g. 30m or 2h.")],
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Suspend a policy: it decides and reports, but does not act."""
    screen = Screen(output)
    with usage(screen):
        duration("--for", length)
        given(reason)

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import governance

        return await governance.bypass(session, screen, policy, reason, length)

    run(Access(kubeconfig, context, namespace), screen, f"bypass policy {policy}", work)


@bypass.command("list")
def bypass_list(
    *,
    everywhere: AllNamespaces = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Show who suspends what until when."""
    screen = Screen(output)

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import governance

        return await governance.bypasses(session, screen, everywhere=everywhere)

    run(Access(kubeconfig, context, namespace), screen, "list bypasses", work)


@bypass.command("end")
def bypass_end(
    *,
    name: Annotated[str, typer.Argument(help="Name of the Bypass.")],
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Let the policy count again at once."""
    screen = Screen(output)

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import governance

        return await governance.end(session, screen, name)

    run(Access(kubeconfig, context, namespace), screen, f"end bypass {name}", work)


@app.command()
def rules(
    *,
    file: Annotated[
        list[str] | None,
        typer.Option("--filename", "-f", metavar="FILE", help="Policies; else the cluster's."),
    ] = None,
    interval: Annotated[
        str, typer.Option(metavar="TIME", help="How often Prometheus evaluates them.")
    ] = "100ms",
    shape: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="file|prometheusrule",
            help="A file for rule_files, or an object for prometheus-operator.",
        ),
    ] = "file",
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the PrometheusRule.")
    ] = "killswitch",
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Label of the PrometheusRule, for its selector."),
    ] = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print the Prometheus rules by which alerts reach policies at once."""
    screen = Screen()
    with usage(screen):
        from killswitch.cli import rules as writing

        wanted = writing.read(shape, interval, name, label or ())
        if file:
            typer.echo(writing.of_files(file, wanted), nl=False)
            return

    async def work(session: Session) -> ExitCode:
        return await writing.of_cluster(session, wanted)

    run(Access(kubeconfig, context), screen, "write the rules", work)


@app.command("break-glass")
def break_glass(
    *,
    bare: Annotated[
        bool,
        typer.Option("--bare/--installed", help="Nothing of ours in the cluster, or its policies."),
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="The way back instead.")] = False,
    namespace: Namespace = None,
) -> None:
    """Print a script of plain kubectl that stops a namespace without us. Connects to nothing."""
    from killswitch.cli import glass

    with usage(Screen()):
        script = glass.text(glass.choose(bare=bare, undo=undo), namespace)
    typer.echo(script, nl=False)


@app.command()
def version() -> None:
    """Print the version of this program."""
    typer.echo(f"killswitch {__version__}")


app.command()(operate.reactor)
app.command()(operate.manager)
app.command()(operate.node)
