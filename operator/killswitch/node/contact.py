"""One thread that knows whether the control plane answers, asking only where no other thread did."""

import random
import time
from collections.abc import Callable

from killswitch.core.errors import KillSwitchError
from killswitch.node.api import Contact, Session
from killswitch.node.news import Heard, News, Silent

RELAXED, CLOSE = 15.0, 5.0
"""Seconds between two looks: without and with a StandingOrder that waits for silence."""
_PATIENCE = 4.0
"""Seconds for an answer."""
_AGAIN = 1.0
_LONG = 10.0
"""Seconds of silence after which connections that say nothing are not believed to live."""
_SPREAD = 0.5
"""Seconds over which the guards of many nodes come back."""


class Lookout:
    """Tells the guard of contact and of silence; tells others when the link is back."""

    def __init__(
        self,
        session: Session,
        contact: Contact,
        tell: Callable[[News], None],
        returned: Callable[[], None],
    ) -> None:
        self.interval = RELAXED
        self._session = session
        self._contact = contact
        self._tell = tell
        self._returned = returned

    def run(self) -> None:
        """Look until the process ends."""
        away_since: float | None = None
        while True:
            began = self._contact.clock()
            if self._answers():
                if away_since is not None and began - away_since > _LONG:
                    time.sleep(random.uniform(0, _SPREAD))  # noqa: S311  # no secret
                    self._returned()
                away_since = None
                self._tell(Heard(self._contact.clock()))
            else:
                away_since = began if away_since is None else away_since
                self._tell(Silent(self._contact.clock()))
            time.sleep(self.interval if away_since is None else _AGAIN)

    def _answers(self) -> bool:
        began = self._contact.clock()
        if self._contact.at > began - self.interval / 2:
            return True
        try:
            self._session.ping(_PATIENCE)
        except KillSwitchError:
            return self._contact.at >= began  # another thread may have heard it meanwhile
        return True
