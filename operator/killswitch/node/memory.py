"""What a guard must know before the API server answers: one file, written whole or not at all.

Orders in force, the node's pods, what was held and how, ends of Freezes, observed silence and until
when. A file that is damaged in any part is told of and ignored wholly. Times of CLOCK_BOOTTIME mean
something in the boot that they were taken in only.
"""

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from killswitch.core.containment import Want
from killswitch.core.errors import KillSwitchError
from killswitch.node.holds import Cause

Json = Mapping[str, Any]

FILE = "node.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BATCH = 0.2
"""Seconds from a change to its being written, in which others join it."""
_LOG = logging.getLogger(__name__)


class DamagedError(KillSwitchError):
    """The state file cannot be trusted; the text says why and what follows."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept of a `Hold`."""

    uid: str
    """Of the pod in the API."""
    want: int
    cause: Cause
    seen_at: float
    done_at: float | None
    processes: int
    former: str
    found: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """All of it."""

    boot_id: str
    orders: tuple[Json, ...] = ()
    pods: tuple[Json, ...] = ()
    ghosts: tuple[Json, ...] = ()
    """Held pods that are gone from the API."""
    held: tuple[Held, ...] = ()
    deadlines: Mapping[str, float] = field(default_factory=dict)
    jitter: float = 0.0
    silence: float = 0.0
    looked: float | None = None
    """Boot time of the last look for the control plane."""
    limits: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Json, ...] = ()
    isolation: Json | None = None
    """The last one, as it is reported."""


def boot_id() -> str:
    """What this boot of the machine is called."""
    return _BOOT_ID.read_text().strip()


def encode(memory: Memory) -> bytes:
    """A digest of the second line, then that line."""
    found = {each.name: getattr(memory, each.name) for each in fields(memory)}
    found["held"] = [asdict(each) for each in memory.held]
    text = json.dumps(found, separators=(",", ":"))
    return f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n".encode()


def decode(raw: bytes, boot: str) -> Memory:
    """The memory, without what an earlier boot measured; DamagedError unless all of it is sound."""
    digest, _, text = raw.decode(errors="replace").partition("\n")
    text = text.rstrip("\n")
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise DamagedError(f"{FILE} is damaged and ignored; what is held waits for the API server")
    try:
        found = json.loads(text)
        lists = {key: tuple(found[key]) for key in ("orders", "pods", "ghosts", "history")}
        same = found["boot_id"] == boot
        held = tuple(_held(each, same=same) for each in found["held"])
        deadlines = {uid: float(at) for uid, at in found["deadlines"].items()} if same else {}
        jitter = float(found["jitter"])
        silence = float(found["silence"]) if same else 0.0
        looked = float(found["looked"]) if same and found["looked"] is not None else None
        limits = {uid: str(limit) for uid, limit in found["limits"].items()}
        isolation = dict(found["isolation"]) if found["isolation"] else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{FILE} is of another version and ignored: {error}") from error
    return Memory(
        boot,
        **lists,
        held=held,
        deadlines=deadlines,
        jitter=jitter,
        silence=silence,
        looked=looked,
        limits=limits,
        isolation=isolation,
    )


def _held(found: Json, *, same: bool) -> Held:
    cause = dict(found["cause"])
    cause |= {"orders": tuple(cause["orders"]), "at_end": Want(cause["at_end"])}
    if not same:
        cause["ends"] = None
    return Held(**{**found, "cause": Cause(**cause)})


def load(folder: Path, boot: str) -> Memory | None:
    """What was kept; None where nothing was. DamagedError where it cannot be trusted or read."""
    try:
        raw = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedError(f"{folder / FILE} cannot be read: {error}") from error
    return decode(raw, boot)


def save(folder: Path, memory: Memory) -> None:
    """Replace the file; after a crash it is the old one or the new one."""
    new = folder / f"{FILE}.{os.getpid()}"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(encode(memory))
            file.flush()
            os.fsync(file.fileno())
        new.rename(folder / FILE)
    except OSError:
        new.unlink(missing_ok=True)
        raise


class Keeper:
    """Writes what is to be remembered, the latest only, away from the thread that acts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._latest: Memory | None = None
        self._changed = threading.Event()
        self._turn = threading.Lock()
        self.problem = ""
        """Why the last attempt failed; empty when it did not."""

    def remember(self, memory: Memory) -> None:
        """Write this soon."""
        self._latest = memory
        self._changed.set()

    def run(self) -> None:
        """Write until the process ends."""
        while True:
            self._changed.wait()
            time.sleep(_BATCH)
            self.flush()

    def flush(self) -> None:
        """Write now what waits to be written."""
        with self._turn:
            self._changed.clear()
            memory, self._latest = self._latest, None
            if memory is not None:
                self._save(memory)

    def _save(self, memory: Memory) -> None:
        try:
            save(self._folder, memory)
        except OSError as error:
            if not self.problem:
                _LOG.exception("cannot remember")
            self.problem = f"cannot write {self._folder / FILE}: {error.strerror}"
        else:
            self.problem = ""
