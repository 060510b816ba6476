"""`why NAME --audit FILE`: who tried to undo a stop, out of an audit log that somebody exported.

Line by line, so that a log of any size can be read: what is kept is bounded by `core.audit.Tally`.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from killswitch.cli.exit_codes import ExitCode
from killswitch.cli.problems import Problem
from killswitch.cli.screen import Screen
from killswitch.core import audit, times
from killswitch.core.audit import Count, Key, Tally
from killswitch.core.errors import MalformedError
from killswitch.ports import Json

Tried = Mapping[Key, Count]

STDIN = "-"
_LONGEST = 64 << 20
"""Bytes of one line, which may be a whole EventList."""
_SHOWN = 50


def only_of_shutdowns(what: str, path: str | None) -> None:
    """Problem where an audit log is given beside something else."""
    if path is not None:
        why = f"--audit tells who tried to undo a Shutdown, and {what} is none"
        cure = "name a Shutdown, or leave --audit out"
        raise Problem(f"read {path} for {what}", why, cure, ExitCode.USAGE)


def read(path: str, shutdown: Json) -> Tried:
    """What it tells of this Shutdown since its creation; Problem naming the line that is no audit event."""
    stop, since = (
        audit.reference(shutdown),
        times.seconds(shutdown["metadata"]["creationTimestamp"]),
    )
    tally = Tally()
    try:
        if path == STDIN:
            _count(path, sys.stdin.buffer, tally, since)
        else:
            with Path(path).open("rb") as file:
                _count(path, file, tally, since)
    except OSError as error:
        why = error.strerror or str(error)
        raise Problem(f"read {path}", why, "name a file that can be read, or -") from error
    return tally.of(stop)


def say(screen: Screen, tried: Tried) -> None:
    """Who, with what, on what, how often and when, the most persistent first."""
    if not tried:
        screen.line("Audit log: nobody tried to undo it, as far as it tells")
        return
    found = _ordered(tried)
    attempts = sum(each.count for each in tried.values())
    screen.line(f"Audit log: {attempts} attempts to undo it were refused")
    screen.table(
        ("WHO", "WITH", "OBJECT", "COUNT", "FIRST", "LAST"),
        [
            (*key, str(each.count), times.text(each.first), times.text(each.last))
            for key, each in found[:_SHOWN]
        ],
    )
    if len(found) > _SHOWN:
        screen.line(f"  and {len(found) - _SHOWN} more")


def value(tried: Tried) -> list[dict[str, Any]]:
    """The same for programs, unshortened."""
    return [
        {
            "who": key.who,
            "fieldManager": key.field_manager,
            "object": key.object,
            "count": each.count,
            "first": times.text(each.first),
            "last": times.text(each.last),
        }
        for key, each in _ordered(tried)
    ]


def _ordered(tried: Tried) -> list[tuple[Key, Count]]:
    return sorted(tried.items(), key=lambda each: (-each[1].count, each[0]))


def _count(path: str, file: IO[bytes], tally: Tally, since: float) -> None:
    for number, content in _contents(path, file):
        try:
            found = audit.refusals(content)
        except MalformedError as error:
            raise _malformed(path, number, str(error)) from None
        for each in found:
            if each.at >= since:
                tally.add(each)


def _contents(path: str, file: IO[bytes]) -> Iterator[tuple[int, object]]:
    """Each line that is not blank, decoded, with its number."""
    number = 0
    while line := file.readline(_LONGEST + 1):
        number += 1
        if len(line) > _LONGEST:
            raise _malformed(path, number, f"it is longer than {_LONGEST >> 20} MiB")
        if not line.strip():
            continue
        try:
            content = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise _malformed(path, number, f"it is not JSON: {error}") from None
        yield number, content


def _malformed(path: str, number: int, why: str) -> Problem:
    cure = (
        "give the API server's own audit log, one JSON object a line"
        " (docs/attempts.md says how exports of others become that)"
    )
    return Problem(f"read line {number} of {path}", why, cure)
