"""Starts a node guard: settings, the supervisor, and in its child the threads around the guard."""

import contextlib
import logging
import os
import queue
import random
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType

from killswitch.core.errors import CgroupError, KillSwitchError
from killswitch.node import memory, settings
from killswitch.node.api import Contact, Server, Session
from killswitch.node.cgroups import Cgroups
from killswitch.node.clock import Clock
from killswitch.node.contact import CLOSE, RELAXED, Lookout
from killswitch.node.guard import Guard, Report
from killswitch.node.logs import log_to_stderr
from killswitch.node.memory import DamagedError, Keeper
from killswitch.node.news import Leave, News
from killswitch.node.presence import Presence
from killswitch.node.reporting import Reporter
from killswitch.node.residents import Residents
from killswitch.node.settings import Settings, SettingsError
from killswitch.node.supervisor import supervise
from killswitch.node.terms import Terms
from killswitch.node.watching import Watcher, feeds

Step = Callable[[str, str], None]

_JITTER = 0.1
_STACK = 256 * 1024
_SWITCH = 0.0005
"""Seconds for which a thread that writes or reports may keep the one that acts waiting."""
_LOG = logging.getLogger(__name__)


def no_step(_step: str, _uid: str) -> None:
    """Nobody is told of the steps by which a pod is acted upon."""


def main(environment: Mapping[str, str] | None = None, *, step: Step = no_step) -> int:
    """Run a supervised guard until SIGTERM; exit status 1 when it cannot be, with the cure logged."""
    log_to_stderr()
    try:
        told = settings.read(os.environ if environment is None else environment)
        Cgroups(told.cgroups, told.cgroup_root)  # what cannot work is said before forking
        presence = _presence(told)
    except (SettingsError, CgroupError) as error:
        _LOG.error("cannot start", extra={"error": str(error)})
        return 1
    try:
        return supervise(
            lambda alive: work(told, presence, alive, step=step),
            lambda: last_resort(told, presence),
        )
    finally:
        presence.end()


def work(told: Settings, presence: Presence, alive: int, *, step: Step = no_step) -> int:
    """Be the guard until asked to leave."""
    news: queue.SimpleQueue[News] = queue.SimpleQueue()

    def leave(_number: int, _frame: FrameType | None) -> None:
        news.put(Leave())

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what came since the fork is heard now
    threading.stack_size(_STACK)
    sys.setswitchinterval(_SWITCH)
    clock, keeper = Clock(), Keeper(told.state)
    server, contact = Server(told.server, told.ca_file, told.token_file), Contact(clock.boot)
    watchers = [Watcher(Session(server, contact), feed, news.put) for feed in feeds(told.node)]

    def resume() -> None:
        for each in watchers:
            each.resume()

    lookout = Lookout(Session(server, contact), contact, news.put, resume)
    reporter = Reporter(
        Session(server, contact), told.node, wall=clock.wall, problem=lambda: keeper.problem
    )

    def report(report: Report) -> None:
        reporter.report(report)
        lookout.interval = CLOSE if guard.knowledge.waits_for_silence else RELAXED

    guard = make(told, clock, step=step, remember=keeper.remember, report=report)
    for run in (*(each.run for each in watchers), lookout.run, keeper.run, reporter.run):
        _start(run)
    _start(lambda: _die_with(alive))
    guard.run(news, presence.successor)
    keeper.flush()
    reporter.flush()
    return 0


def last_resort(told: Settings, presence: Presence) -> None:
    """Without a guard: finish the kills of what is remembered, thaw the rest."""
    if presence.successor():
        return
    try:
        keeper = Keeper(told.state)
        make(told, Clock(), remember=keeper.remember).last_resort()
        keeper.flush()
    except (KillSwitchError, OSError):
        _LOG.exception("the last resort failed")


def make(
    told: Settings,
    clock: Clock,
    *,
    step: Step = no_step,
    remember: Callable[[memory.Memory], None],
    report: Callable[[Report], None] = lambda _: None,
) -> Guard:
    """A guard that knows what the one before knew."""
    boot = memory.boot_id()

    def fresh() -> Guard:
        return Guard(
            Cgroups(told.cgroups, told.cgroup_root, step=step),
            Residents(told.own_pod, told.protected),
            Terms(jitter=random.uniform(0, _JITTER)),  # noqa: S311  # no secret
            boot_id=boot,
            clock=clock,
            remember=remember,
            report=report,
        )

    guard = fresh()
    try:
        if before := memory.load(told.state, boot):
            guard.recall(before)
    except (DamagedError, KeyError, ValueError, TypeError) as error:
        _LOG.warning("nothing is remembered", extra={"error": repr(error)})
        guard = fresh()  # never half of it
        known = isinstance(error, DamagedError)
        guard.note(str(error) if known else f"{memory.FILE} is of another version and ignored")
    return guard


def _presence(told: Settings) -> Presence:
    try:
        told.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Presence(told.state, f"{told.own_pod or 'guard'}.{os.getpid()}")
    except OSError as error:
        raise SettingsError(
            f"KILLSWITCH_STATE_DIR: {told.state} cannot be written ({error.strerror}): mount a"
            " folder of the host there (hostPath, type DirectoryOrCreate), readOnly: false"
        ) from error


def _start(run: Callable[[], None]) -> None:
    """A thread; if it fails the process does, and the supervisor starts everything anew."""

    def guarded() -> None:
        try:
            run()
        except BaseException:  # noqa: BLE001  # whatever it is
            _LOG.exception("a thread failed")
            sys.stderr.flush()
            os._exit(1)

    threading.Thread(target=guarded, daemon=True).start()


def _die_with(alive: int) -> None:
    """End this process with its supervisor: nobody would start it again, or pass SIGTERM on."""
    with contextlib.suppress(OSError):
        os.read(alive, 1)
    _LOG.error("the supervisor is gone")
    os._exit(1)
