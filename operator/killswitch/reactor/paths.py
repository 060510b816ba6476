"""The paths on which signals are told of by themselves, and which of them are silent.

A path is expected once it was heard of, or where settings or the policy say so: one that nobody has
set up is no fault. Silence takes nothing away that another path knows: a signal that is polled
stays Clear, and the silence is told on its policy's status, in the log and as a metric.
"""

from collections import defaultdict

import structlog

from killswitch.core.readings import Path
from killswitch.ports import Clock
from killswitch.signals.watchdog import PathState, Watchdog

REMOTE_WRITE = Path.REMOTE_WRITE.value
"""The path of samples that Prometheus writes, whichever Prometheus."""

_TOLERANCES = {Path.ALERT: 10.0, Path.REMOTE_WRITE: 60.0}
"""Seconds of silence, by kind of path, where neither a heartbeat nor settings say how many."""
_OTHERWISE = 10.0
_LOOK = 0.5
"""Seconds between two looks at which paths are silent."""
_LOG = structlog.get_logger(__name__)


class Paths:
    """When each path on which some signal depends was last heard of."""

    def __init__(self, clock: Clock) -> None:
        """No signal depends on any."""
        self.expected: frozenset[Path] = frozenset()
        """Kinds of paths that must be heard of although they never were."""
        self.tolerances = dict(_TOLERANCES)
        self._clock = clock
        self._dog = Watchdog()
        self._kinds: dict[str, Path] = {}
        self._served: dict[str, dict[str, list[str]]] = {}
        """Policy → signal → paths."""
        self._users: dict[str, set[str]] = defaultdict(set)
        """Path → policies."""
        self._told: dict[str, bool] = {}
        """Whether a path was silent at the last look."""
        self._look_at = 0.0

    def serve(
        self, uid: str, signal: str, path: str, kind: Path, *, tolerance: float | None = None
    ) -> None:
        """This signal may be told of on this path; with a tolerance (seconds) it must be heard."""
        self._served.setdefault(uid, {}).setdefault(signal, []).append(path)
        self._users[path].add(uid)
        self._kinds[path] = kind
        if tolerance is not None:
            self._dog.expect(path, tolerance, self._clock.monotonic())

    def forget(self, uid: str) -> None:
        """This policy depends on nothing any more; what nobody depends on is soon not expected.

        Not at once: an edited policy comes back in the same moment, and silence must stay known.
        """
        for path in {each for names in self._served.pop(uid, {}).values() for each in names}:
            self._users[path].discard(uid)

    def heard(self, path: str, tolerance: float | None = None) -> None:
        """It works now, and is expected from now on; nothing where no signal depends on it."""
        if self._users.get(path):
            now = self._clock.monotonic()
            if tolerance is not None or self._dog.state(path, now) is None:
                self._dog.expect(path, tolerance or self._tolerance(path), now)
            self._dog.heard(path, now)

    def complained(self, path: str, complaint: str) -> None:
        """It says that it is of no use now: that is no sign of health."""
        self._dog.complained(path, complaint)

    def of(self, uid: str, signal: str) -> tuple[PathState, ...]:
        """The expected paths of one signal."""
        now = self._clock.monotonic()
        names = self._served.get(uid, {}).get(signal, ())
        found = (self._dog.state(name, now) for name in names)
        return tuple(each for each in found if each is not None)

    def states(self) -> tuple[PathState, ...]:
        """Every expected path, by name."""
        return self._dog.states(self._clock.monotonic())

    def silence(self) -> dict[Path, float]:
        """Seconds of the longest silence by kind, of the kinds that are expected; 0 where none is."""
        found: dict[Path, float] = {}
        for state in self.states():
            kind = self._kinds[state.path]
            found[kind] = max(found.get(kind, 0.0), state.seconds if state.silent else 0.0)
        return found

    def due(self) -> set[str]:
        """Uids of the policies one of whose paths has fallen silent or is heard again."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return set()
        self._look_at = now + _LOOK
        for path in [each for each, users in self._users.items() if not users]:
            del self._users[path], self._kinds[path]
            self._told.pop(path, None)
            self._dog.forget(path)
        for path, kind in self._kinds.items():
            if kind in self.expected and self._dog.state(path, now) is None:
                self._dog.expect(path, self._tolerance(path), now)
        concerned: set[str] = set()
        for state in self._dog.states(now):
            if self._told.get(state.path) is not state.silent:
                self._tell(state)
                concerned |= self._users[state.path]
        return concerned

    def _tell(self, state: PathState) -> None:
        if state.silent:
            _LOG.warning("a path is silent", path=state.path, message=state.message)
        elif state.path in self._told:
            _LOG.info("a path is heard again", path=state.path)
        self._told[state.path] = state.silent

    def _tolerance(self, path: str) -> float:
        return self.tolerances.get(self._kinds[path], _OTHERWISE)
