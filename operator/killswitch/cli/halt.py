"""The surface of `stop` and `plan`: names, options, help. Imports stay light, as in main."""

from typing import Annotated

import typer

from killswitch.cli import manner, scope
from killswitch.cli.connect import Session, run
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.options import (
    Access,
    Approvals,
    Context,
    Deadline,
    Everywhere,
    Format,
    Image,
    Kubeconfig,
    Labels,
    Namespace,
    NodeAct,
    NodeChoice,
    Nodes,
    Output,
    Prometheus,
    Reason,
    WholeNamespace,
    Workloads,
)
from killswitch.cli.problems import Problem
from killswitch.cli.screen import Screen
from killswitch.cli.usage import duration, given, usage


def stop(
    *,
    reason: Reason,
    workload: Workloads = None,
    whole: WholeNamespace = False,
    labels: Labels = None,
    image: Image = None,
    everywhere: Everywhere = False,
    node: Nodes = None,
    action: NodeAct = NodeChoice.CORDON,
    approvals: Approvals = 2,
    deadline: Deadline = "1m",
    graceful: Annotated[
        bool,
        typer.Option("--graceful", help="Cut traffic, and let what is under way end (category 1)."),
    ] = False,
    drain: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --graceful: how long servers go on; default 30s."),
    ] = None,
    terminate: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --graceful: how long pods may end; default 30s."),
    ] = None,
    in_flight: Annotated[
        str | None,
        typer.Option(
            "--in-flight",
            metavar="QUERY",
            help="With --graceful: PromQL for the requests under way; at 0 the drain ends early.",
        ),
    ] = None,
    quiet: Annotated[
        str,
        typer.Option(metavar="WHO,WHO", help="Paused after the stop: keda, argocd, flux, or none."),
    ] = "keda",
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Also what loses work for good, unasked.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    prometheus: Prometheus = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Stop and hold: lock, delete the pods, bring to rest, verify.

    Asks nothing more, unless work would be lost for good, as that of a Job.
    """
    screen = Screen(output, progress=not dry_run)
    with usage(screen):
        duration("--deadline", deadline)
        given(reason)
        chosen = scope.read(
            workload,
            labels,
            node,
            whole=whole,
            image=image,
            everywhere=everywhere,
            node_action=action,
        )
        how = manner.gently(
            graceful=graceful, drain=drain, terminate=terminate, in_flight=in_flight
        )
        quieted = manner.paused(quiet)

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import stop as stopping

        request = stopping.Request(
            chosen, reason, approvals, deadline,
            gently=how, quiet=quieted, accept_loss=accept_loss, prometheus=prometheus,
        )  # fmt: skip
        if dry_run:
            return await stopping.show(session, screen, request)
        return await stopping.stop(session, screen, request)

    run(Access(kubeconfig, context, namespace), screen, f"stop {chosen}", work)


def plan(
    *,
    policy: Annotated[
        str | None, typer.Option(metavar="NAME", help="What this KillSwitchPolicy would stop.")
    ] = None,
    cluster_policy: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What this ClusterKillSwitchPolicy would stop."),
    ] = None,
    workload: Workloads = None,
    whole: WholeNamespace = False,
    labels: Labels = None,
    image: Image = None,
    everywhere: Everywhere = False,
    node: Nodes = None,
    action: NodeAct = NodeChoice.CORDON,
    prometheus: Prometheus = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what would be stopped, what depends on it, what not and why. Changes nothing."""
    screen = Screen(output)
    flags = bool(workload or whole or labels or image or node)
    with usage(screen):
        if [bool(policy), bool(cluster_policy), flags].count(True) != 1:
            cure = "give one of --policy, --cluster-policy, or the flags of stop"
            raise Problem("know what to plan", "one thing must be named", cure, ExitCode.USAGE)
        chosen = (
            scope.read(
                workload,
                labels,
                node,
                whole=whole,
                image=image,
                everywhere=everywhere,
                node_action=action,
            )
            if flags
            else None
        )

    async def work(session: Session) -> ExitCode:
        from killswitch.cli import plan as planning
        from killswitch.cli.surroundings import Ask

        if chosen is not None:
            return await planning.for_scope(session, screen, chosen, Ask(prometheus))
        name, cluster = policy or cluster_policy or "", policy is None
        return await planning.for_policy(
            session, screen, name, cluster=cluster, ask=Ask(prometheus)
        )

    run(Access(kubeconfig, context, namespace), screen, "show the plan", work)
