"""Options that all commands share, spelled once. Imports nothing heavy: `--help` reads this."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """How the answer is written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class NodeChoice(StrEnum):
    """What is done with nodes."""

    CORDON = "cordon"
    DRAIN = "drain"
    TAINT = "taint"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Access:
    """Which API server, and which namespace where the command line says so."""

    kubeconfig: str | None
    context: str | None
    namespace: str | None = None


Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="Namespace; else that of the kubeconfig's context.",
    ),
]
AllNamespaces = Annotated[
    bool, typer.Option("--all-namespaces", "-A", help="Everything that you may see.")
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="Context of the kubeconfig.")
]
Kubeconfig = Annotated[
    str | None,
    typer.Option(
        "--kubeconfig", metavar="FILE", help="Kubeconfig file; else KUBECONFIG, ~/.kube/config."
    ),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How the answer is written.")]
Reason = Annotated[
    str,
    typer.Option("--reason", "-r", metavar="TEXT", help="Why, in your words; kept for the record."),
]
ShutdownName = Annotated[
    str, typer.Argument(help="Name of the Shutdown; with --cluster of the ClusterShutdown.")
]
OfCluster = Annotated[bool, typer.Option("--cluster", help="NAME is a ClusterShutdown.")]
Workloads = Annotated[
    list[str] | None,
    typer.Option(
        "--workload",
        "-w",
        metavar="KIND/NAME",
        help="A workload of any kind, e.g. deployment/x, isvc/x, job/x, pod/x; what it belongs to stops"
        " as a whole; other kinds as KIND.GROUP/NAME; repeatable.",
    ),
]
WholeNamespace = Annotated[
    bool, typer.Option("--namespace-wide", "--all", help="Everything in the namespace.")
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels", "-l", metavar="A=B,C=D", help="Pods with these labels, and their workloads."
    ),
]
Image = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="What the pods of this image belong to; with or without tag, * for any characters.",
    ),
]
Everywhere = Annotated[
    bool, typer.Option("--everywhere", help="With --image: in every governed namespace.")
]
Prometheus = Annotated[
    str | None,
    typer.Option(
        "--prometheus",
        metavar="URL",
        envvar="KILLSWITCH_PROMETHEUS_URL",
        help="Where to ask how many requests the servers answer now.",
    ),
]
Nodes = Annotated[
    list[str] | None,
    typer.Option("--node", metavar="NAME", help="Hold this node, by --action; repeatable."),
]
NodeAct = Annotated[
    NodeChoice,
    typer.Option(
        "--action",
        help="What is done with the nodes: cordon, drain (the pods of governed namespaces go), taint"
        " (NoExecute), quarantine (no new pods, what runs is kept).",
    ),
]
Approvals = Annotated[
    int,
    typer.Option(
        min=1, max=5, metavar="NUMBER", help="People who must approve before it is released."
    ),
]
Deadline = Annotated[
    str,
    typer.Option(metavar="TIME", help="Not verified by then: what is left is named, exit code 4."),
]
