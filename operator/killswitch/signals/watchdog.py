"""Silence made visible: when each path was last heard of, and which have been silent too long.

A path that says nothing and a path on which all is well look the same. Every path therefore has
something that it must say all the time (the rule file's heartbeat alert, samples, an own scrape).
Once silent, a path counts as silent until it has been heard for as long as it may be silent: one
that flaps is silent, and nobody is told of it again and again.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PathState:
    """What is known of one path at one moment."""

    path: str
    silent: bool
    seconds: float
    """Since it was last heard of, or expected for the first time."""
    ever: bool
    """Whether it was ever heard of: never is a configuration, not an outage."""
    tolerance: float
    complaint: str = ""
    """What it said last, where that was that it is of no use."""

    @property
    def message(self) -> str:
        """One sentence for people."""
        said = "last heard of" if self.ever else "never heard of; expected since"
        steady = self.silent and self.seconds <= self.tolerance
        again = f", not steadily for {self.tolerance:g} s yet" if steady else ""
        because = f" ({self.complaint})" if self.complaint else ""
        return f"{self.path}: {said} {self.seconds:.1f} s ago{again}{because}"


@dataclass(slots=True)
class _Path:
    tolerance: float
    since: float
    ever: bool = False
    complaint: str = ""
    lost: bool = False
    back: float = 0.0
    """When it was first heard of again after it was lost."""

    def late(self, now: float) -> bool:
        """Whether it is overdue; NaN is."""
        return not now - self.since <= self.tolerance

    def heard(self, now: float) -> None:
        """It said something; after silence it has to go on for a while."""
        if self.late(now):
            self.lost, self.back = True, now
        self.since = max(self.since, now)
        self.ever, self.complaint = True, ""
        self.lost = self.lost and now - self.back < self.tolerance


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
        known.heard(now)
        return True

    def complained(self, path: str, complaint: str) -> None:
        """It said something, but that it is of no use: that counts as silence."""
        known = self._paths.get(path)
        if known is not None:
            known.complaint = complaint

    def state(self, path: str, now: float) -> PathState | None:
        """What is known of this path; None where nobody expects it."""
        known = self._paths.get(path)
        if known is None:
            return None
        silent = known.lost or known.late(now)
        return PathState(
            path, silent, now - known.since, known.ever, known.tolerance, known.complaint
        )

    def states(self, now: float) -> tuple[PathState, ...]:
        """Every expected path, by name."""
        found = (self.state(path, now) for path in sorted(self._paths))
        return tuple(each for each in found if each is not None)
