"""`rules`: the Prometheus rules that the policies of the cluster, or of files, need.

Rules name measurements, not policies or thresholds: only a query that no policy had before, or
another `maxAge` of one, needs them again.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer
import yaml

from killswitch.adapters.promql import PromqlChecker
from killswitch.api.acceptance import accept
from killswitch.api.policies import Mode
from killswitch.cli.connect import Session
from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import Problem
from killswitch.core import durations
from killswitch.core.errors import InvalidPolicyError
from killswitch.core.resources import CLUSTER_POLICIES, POLICIES
from killswitch.signals import rules
from killswitch.signals.rules import Measurement

_KINDS = {POLICIES.kind, CLUSTER_POLICIES.kind}
_WHAT = "write the rules"


class Shape(StrEnum):
    """What the rules are written as."""

    FILE = "file"
    PROMETHEUSRULE = "prometheusrule"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the rules are to be written."""

    shape: Shape
    interval: str
    name: str
    labels: Mapping[str, str]


def read(shape: str, interval: str, name: str, labels: Sequence[str]) -> Wanted:
    """What the options mean; Problem naming the wrong one."""

    def wrong(option: str, why: str, cure: str) -> Problem:
        return Problem(f"read {option}", why, cure, ExitCode.USAGE)

    try:
        kind = Shape(shape)
    except ValueError:
        raise wrong("--format", f"{shape} is none", f"give one of {', '.join(Shape)}") from None
    try:
        seconds = durations.seconds(interval)
    except ValueError as error:
        raise wrong("--interval", str(error), "write e.g. 100ms") from None
    if seconds <= 0:
        raise wrong("--interval", "rules are evaluated every so often", "write e.g. 100ms")
    pairs = [each.partition("=") for each in labels]
    if not all(key and equals for key, equals, _ in pairs):
        raise wrong("--label", "it is not key=value", "write e.g. --label release=kube-prometheus")
    return Wanted(kind, interval, name, {key: value for key, _, value in pairs})


async def of_cluster(session: Session, wanted: Wanted) -> ExitCode:
    """Print the rules of every policy of the cluster; one that cannot work is told and left out."""
    measured: list[Measurement] = []
    for resource in (POLICIES, CLUSTER_POLICIES):
        for body in (await session.cluster.list(resource)).items:
            # A list's items bear no kind.
            policy = {**body, "kind": resource.kind, "apiVersion": resource.api_version}
            try:
                measured += _measurements(policy)
            except InvalidPolicyError as error:
                typer.echo(f"Left out: {_name(policy)}: {error}", err=True)
    typer.echo(text(measured, wanted), nl=False)
    return ExitCode.OK


def of_files(files: Sequence[str], wanted: Wanted) -> str:
    """The rules of the policies in these files (`-` is standard input); Problem for a wrong one."""
    measured: list[Measurement] = []
    for file in files:
        found = [each for each in _documents(file) if each.get("kind") in _KINDS]
        if not found:
            cure = f"give a file with a {' or '.join(sorted(_KINDS))}"
            raise Problem(_WHAT, f"{file} holds no policy", cure)
        for policy in found:
            try:
                measured += _measurements(policy)
            except InvalidPolicyError as error:
                why = f"{_name(policy)} in {file}: {error}"
                raise Problem(_WHAT, why, "correct it; nothing was written") from error
    if not measured:
        typer.echo("No signal of these policies can be told of by generated rules.", err=True)
    return text(measured, wanted)


def text(measured: Sequence[Measurement], wanted: Wanted) -> str:
    """The rules as YAML."""
    if wanted.shape is Shape.FILE:
        return rules.rule_file(measured, interval=wanted.interval)
    body = rules.prometheus_rule(
        measured, interval=wanted.interval, name=wanted.name, labels=wanted.labels
    )
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True)


def _measurements(body: Mapping[str, Any]) -> list[Measurement]:
    """What a policy measures; nothing while it is Disabled."""
    checker = PromqlChecker()
    policy = accept(body, checker.check)
    if policy.mode is Mode.DISABLED:
        return []
    found = (rules.measurement(signal, checker) for signal in policy.signals)
    return [each for each in found if each is not None]


def _documents(file: str) -> Iterator[Mapping[str, Any]]:
    """The objects of a YAML or JSON file, those inside lists too."""
    try:
        content = sys.stdin.read() if file == "-" else Path(file).read_text()
        documents = list(yaml.safe_load_all(content))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Problem(_WHAT, f"{file}: {error}", "give a readable YAML or JSON file") from error
    for each in documents:
        if isinstance(each, Mapping):
            items = each.get("items")
            yield from (
                (item for item in items if isinstance(item, Mapping))
                if isinstance(items, list)
                else (each,)
            )


def _name(body: Mapping[str, Any]) -> str:
    metadata = body.get("metadata")
    found = metadata if isinstance(metadata, Mapping) else {}
    place = f"{found['namespace']}/" if "namespace" in found else ""
    return f"{body['kind']} {place}{found.get('name', '(no name)')}"
