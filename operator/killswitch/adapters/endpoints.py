"""Which of several API servers is asked: the same one until it fails, then the next."""

from collections.abc import Iterator, Sequence


class Endpoints:
    """The URLs of one cluster's API servers, in the order in which they are tried."""

    def __init__(self, urls: Sequence[str]) -> None:
        """At least one; what is named twice counts once."""
        self.urls = tuple(dict.fromkeys(urls))
        self._at = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self.urls)

    @property
    def current(self) -> str:
        """The one to ask."""
        return self.urls[self._at]

    def turn(self) -> Iterator[str]:
        """Each of them once, the current one first."""
        start = self._at
        for step in range(len(self.urls)):
            yield self.urls[(start + step) % len(self.urls)]

    def failed(self, url: str) -> None:
        """This one did not answer: ask the next, if that is not done already."""
        if url == self.current:
            self._at = (self._at + 1) % len(self.urls)
