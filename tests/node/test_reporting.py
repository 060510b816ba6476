"""What is written to a node's NodeGuard, and what follows when it cannot be."""

import logging
from pathlib import Path
from typing import Any

import pytest

from killswitch.core import times
from killswitch.core.errors import ConflictError, NotFoundError, UnavailableError
from killswitch.core.resources import NODE_GUARDS
from killswitch.node import reporting
from killswitch.node.api import Contact, Server, Session
from killswitch.node.guard import Report
from killswitch.node.reporting import Reporter
from tests.node.objects import START

QUIET = Report(START, "v2", "systemd", (), None, ())
STATUS = NODE_GUARDS.path(name="n1", subresource="status")


class OverError(Exception):
    """The script has come to its end."""


class Scripted(Session):
    """Writes fail by a script, then are taken."""

    def __init__(self, *failures: Exception | None) -> None:
        """None: this one is taken."""
        super().__init__(Server("", Path(), Path()), Contact(float))
        self.wrote: list[tuple[str, Any]] = []
        self._failures = list(failures)

    def apply(self, path: str, body: Any, manager: str) -> Any:
        """A status."""
        assert manager == reporting.MANAGER
        return self._write(path, body)

    def create(self, path: str, body: Any) -> Any:
        """An object."""
        return self._write(path, body)

    def _write(self, path: str, body: Any) -> Any:
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure
        self.wrote.append((path, body))
        return body

    @property
    def statuses(self) -> list[Any]:
        """What was written of them."""
        return [body["status"] for path, body in self.wrote if path == STATUS]


def test_a_report_is_the_status_of_the_nodes_object() -> None:
    """With the time at which the guard said so, not that of the writing; no isolation, no word of it."""
    session = Scripted()
    reporter = Reporter(session, "n1")
    reporter.report(QUIET._replace(pods=({"uid": "u"},)))
    assert reporter.flush()
    ((path, body),) = session.wrote
    assert path == STATUS
    assert body["metadata"] == {"name": "n1"}
    assert body["status"]["renewedAt"] == times.text(START)
    assert body["status"]["pods"] == [{"uid": "u"}]
    assert "isolation" not in body["status"]
    reporter.report(QUIET._replace(isolation={"since": "x"}))
    assert reporter.flush()
    assert session.statuses[-1]["isolation"] == {"since": "x"}


def test_problems_are_kept_short_with_those_of_other_threads_first() -> None:
    """One that is long or one of many must not make the whole report be refused."""
    session = Scripted()
    other = "the disk is full"
    reporter = Reporter(session, "n1", problem=lambda: other)
    reporter.report(QUIET._replace(problems=("x" * 5000, "", *"abcdefghijkl")))
    reporter.flush()
    assert session.statuses[-1]["problems"] == [other, "x" * 512, *"abcdefgh"]
    other = ""
    reporter.report(QUIET)
    reporter.flush()
    assert session.statuses[-1]["problems"] == []


@pytest.mark.parametrize("quicker", [None, ConflictError("409: already exists")])
def test_an_object_that_is_not_there_is_made(quicker: Exception | None) -> None:
    """By this guard, or by its successor in the same moment."""
    session = Scripted(NotFoundError("404"), quicker)
    reporter = Reporter(session, "n1")
    reporter.report(QUIET)
    assert reporter.flush()
    made = [body["spec"] for path, body in session.wrote if path == NODE_GUARDS.path()]
    assert made == ([{"node": "n1"}] if quicker is None else [])
    assert len(session.statuses) == 1


def test_only_the_latest_is_written_and_nothing_where_there_is_none() -> None:
    """What is old is of no use."""
    session = Scripted()
    reporter = Reporter(session, "n1")
    assert reporter.flush()
    reporter.report(QUIET)
    reporter.report(QUIET._replace(driver="cgroupfs"))
    reporter.flush()
    assert [each["driver"] for each in session.statuses] == ["cgroupfs"]


def test_each_row_of_failures_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Again after it went well in between."""
    away = UnavailableError("away")
    session = Scripted(away, away, None, away)
    reporter = Reporter(session, "n1")
    reporter.report(QUIET)
    with caplog.at_level(logging.WARNING):
        assert [reporter.flush() for _ in range(4)] == [False, False, True, False]
    assert [each.message for each in caplog.records] == ["cannot report"] * 2


def test_what_cannot_be_written_is_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although nothing new has been said meanwhile."""
    monkeypatch.setattr(reporting, "_AGAIN", 0.0)
    away = UnavailableError("away")
    session = Scripted(away, away, OverError())
    reporter = Reporter(session, "n1")
    reporter.report(QUIET)
    with pytest.raises(OverError):
        reporter.run()
