"""What others push, handed to the engine: samples, alerts, events. Mounted by the wiring.

Beside that, the thresholds that the generated rules are joined with, for Prometheus to scrape.

One application for all paths. Nothing is received before the reactor has seen every policy: what
came earlier would be lost although its sender was told otherwise.
"""

from collections import Counter

from aiohttp import web

from killswitch.core.readings import Path
from killswitch.ports import Clock
from killswitch.reactor.engine import Engine
from killswitch.reactor.numbers import Numbers
from killswitch.reactor.thresholds import Thresholds
from killswitch.signals import events, receiver
from killswitch.signals import web as receivers
from killswitch.signals.alerts import Batch, from_alertmanager
from killswitch.signals.episodes import Arrival
from killswitch.signals.keyfile import KeyFile
from killswitch.signals.limits import Limits, Rate
from killswitch.signals.nonces import Nonces
from killswitch.signals.remote_write import Decoder, Statistics
from killswitch.signals.series import Samples
from killswitch.signals.web import Bounds, Counts

_UP = "up"
"""The metric that each Prometheus has of each target: where it is written too, the path is heard."""
_ALERTS = Bounds(body=1 << 20, in_flight=8)
"""Prometheus posts its alerts one request after the other; a body is parsed in one go."""
_EVENTS = Rate(per_second=30.0, burst=300)
"""Of one source: fewer in two minutes than the nonces that are remembered of it."""


class Listening:
    """The receivers of one reactor, and what they have counted."""

    def __init__(self, engine: Engine, clock: Clock, keys: KeyFile, numbers: Numbers) -> None:
        """Nothing is received before the application runs."""
        self._keys = keys
        self._numbers = numbers
        numbers.listening = self
        self._engine = engine
        self._clock = clock
        self._wanted = engine.intake.metrics
        self._decoder = Decoder(self._wanted | {_UP})
        self._thresholds = Thresholds(engine)
        self.requests: Counts = Counter()
        self.alerts: Counter[Arrival] = Counter()

    def application(self) -> web.Application:
        """All paths, for those who have keys."""
        keys = self._keys
        limits, seen = Limits(_EVENTS), Nonces(window=events.WINDOW)
        app = receivers.application(
            receivers.alerts_receiver(self._alerts, tokens=keys.writers, bounds=_ALERTS),
            receivers.alerts_receiver(
                self._alerts,
                tokens=keys.writers,
                bounds=_ALERTS,
                path=receivers.ALERTMANAGER_PATH,
                parse=from_alertmanager,
            ),
            receivers.events_receiver(
                self._event, keys=keys.keys, seen=seen, limits=limits, clock=self._clock
            ),
            counts=self.requests,
        )
        admit = receivers.bearer(keys.writers)
        receiver.mount(app, self._decoder, self._samples, admit=admit, counts=self.requests)
        self._thresholds.mount(app, admit)
        return app

    @property
    def decoding(self) -> Statistics:
        """How samples were read."""
        return self._decoder.statistics

    def look(self) -> None:
        """Follow the policies' metrics and the file of keys; called again and again."""
        self._engine.intake.hears_events = not self._keys.empty
        if self._wanted != self._engine.intake.metrics:
            self._wanted = self._engine.intake.metrics
            self._decoder.want(self._wanted | {_UP})

    def _samples(self, samples: Samples) -> None:
        self._engine.intake.push(samples, Path.REMOTE_WRITE)
        # The newest alone: a request has thousands, and is as late as its newest.
        self._numbers.arrived(Path.REMOTE_WRITE, max(samples.timestamps) / 1000)

    def _alerts(self, batch: Batch) -> None:
        for each in batch.alerts:
            arrival = self._engine.intake.alerts.take(each)
            self.alerts[arrival] += 1
            began = arrival is Arrival.BEGAN
            self._numbers.arrived(Path.ALERT, each.starts_at if began else None)

    def _event(self, event: events.Event) -> None:
        self._engine.intake.hear(event)
        self._numbers.arrived(Path.EVENT, event.time)
