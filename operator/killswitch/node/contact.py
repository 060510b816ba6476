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
_SEVERAL = 2
"""Looks in vain after which connections that say nothing are not believed to live."""
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
        self._in_vain = 0

    def run(self) -> None:
        """Look until the process ends."""
        while True:
            time.sleep(self.look())

    def look(self) -> float:
        """Look once and tell; seconds until the next look."""
        if not self._answers():
            self._in_vain += 1
            self._tell(Silent(self._contact.clock()))
            return _AGAIN
        if self._in_vain >= _SEVERAL:
            time.sleep(random.uniform(0, _SPREAD))  # noqa: S311  # no secret
            self._returned()
        self._in_vain = 0
        self._tell(Heard(self._contact.clock()))
        return self.interval

    def _answers(self) -> bool:
        began = self._contact.clock()
        if self._contact.at > began - self.interval / 2:
            return True
        try:
            self._session.ping(_PATIENCE)
        except KillSwitchError:
            return self._contact.at >= began  # another thread may have heard it meanwhile
        return True
