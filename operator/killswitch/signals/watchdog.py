"""Silence made visible: when each path was last heard of, and which have been silent too long.

A path that says nothing and a path on which all is well look the same. Every path therefore has
something that it must say all the time (the rule file's heartbeat alert, `up`, an own scrape);
who has not heard it knows nothing on that path: Unknown, and what that means is the policy's word.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Silence:
    """A path that has not been heard of for too long."""

    path: str
    since: float
    """When it was last heard of, or expected for the first time."""
    ever: bool
    """Whether it was ever heard of: never is a configuration, not an outage."""

    def message(self, now: float) -> str:
        """One sentence for people."""
        said = "last heard of" if self.ever else "never heard of; expected since"
        return f"{self.path}: {said} {now - self.since:.1f} s ago"


@dataclass(slots=True)
class _Path:
    tolerance: float
    since: float
    ever: bool = False


class Watchdog:
    """When each expected path was last heard of. Times are seconds that never go backwards."""

    def __init__(self) -> None:
        """Expecting nothing."""
        self._paths: dict[str, _Path] = {}

    def expect(self, path: str, tolerance: float, now: float) -> None:
        """From now on it must be heard at least every `tolerance` seconds.

        Expecting a known path again changes its tolerance alone: asking often must not hide
        that it is silent.
        """
        known = self._paths.get(path)
        if known is None:
            self._paths[path] = _Path(tolerance, now)
        else:
            known.tolerance = tolerance

    def forget(self, path: str) -> None:
        """It need not be heard any more."""
        self._paths.pop(path, None)

    def heard(self, path: str, now: float) -> bool:
        """It was heard of now; False where nobody expects it, which changes nothing."""
        known = self._paths.get(path)
        if known is None:
            return False
        known.since = max(known.since, now)
        known.ever = True
        return True

    def silent(self, now: float) -> tuple[Silence, ...]:
        """Every path not heard of within its tolerance, by name."""
        return tuple(
            Silence(name, path.since, path.ever)
            for name, path in sorted(self._paths.items())
            if not now - path.since <= path.tolerance
        )

    def is_silent(self, path: str, now: float) -> bool:
        """Whether nothing is known on this path; an unexpected path is silent."""
        known = self._paths.get(path)
        return known is None or not now - known.since <= known.tolerance
