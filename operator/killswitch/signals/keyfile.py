"""Keys and tokens of sources in a file that people edit while we run: JSON or YAML.

    llm-guard: [whsec_…, whsec_…]     signing keys, several so that they can rotate
    prometheus: [a-token-of-24-characters-or-more]
    audit: [another-token]

What begins with `whsec_` is a signing key, all else a bearer token. The source `prometheus` alone
may write samples and alerts, and `audit` audit events: a guardrail's token must not be able to. The file
is read again when it has changed; while it cannot be read, the keys of before hold, and the log says so.
"""

from collections.abc import Mapping
from pathlib import Path

import structlog
import yaml

from killswitch.core.errors import MalformedError
from killswitch.signals.events import Keys
from killswitch.signals.keys import BearerTokens, SigningKeys

PROMETHEUS = "prometheus"
"""The source whose bearer tokens may write samples and post alerts."""
AUDIT = "audit"
"""The source whose bearer tokens may post audit events."""

_SIGNING = "whsec_"
_LOG = structlog.get_logger(__name__)

_Stamp = tuple[int, int, int]


class KeyFile:
    """The keys in one file, as they stand now."""

    def __init__(self, path: str) -> None:
        """A file that cannot be read lets nobody in: polling must go on, so that is no failure."""
        self._path = Path(path)
        self._stamp: _Stamp | None = (0, 0, 0)
        self._keys, self._writers, self._auditors, self._count = _parsed("{}")
        self._read_again()

    @property
    def empty(self) -> bool:
        """Whether nobody is let in."""
        self._read_again()
        return not self._count

    def keys(self) -> Keys:
        """Who may post events."""
        self._read_again()
        return self._keys

    def writers(self) -> BearerTokens:
        """Who may write samples and post alerts."""
        self._read_again()
        return self._writers

    def auditors(self) -> BearerTokens:
        """Who may post audit events."""
        self._read_again()
        return self._auditors

    def _read_again(self) -> None:
        """A look at the file's times costs microseconds; it is read only after a change."""
        stamp = self._now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            text = self._path.read_text()
            self._keys, self._writers, self._auditors, self._count = _parsed(text)
        except (OSError, ValueError, MalformedError) as error:
            _LOG.error("keys cannot be read; those of before hold", error=str(error))
        else:
            _LOG.info("keys were read", count=self._count)

    def _now(self) -> _Stamp | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


def _parsed(text: str) -> tuple[Keys, BearerTokens, BearerTokens, int]:
    """Keys for events, tokens for samples and alerts, for audit events, and how many there are.

    Errors repeat no secret.
    """
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError:
        raise MalformedError("the file of keys is neither JSON nor YAML") from None
    if not isinstance(content, Mapping):
        raise MalformedError("the file of keys is not a mapping of sources to lists")
    signing: dict[str, list[str]] = {}
    bearer: dict[str, list[str]] = {}
    for source, texts in content.items():
        if not isinstance(source, str) or not isinstance(texts, list):
            raise MalformedError("the file of keys is not a mapping of sources to lists")
        for each in texts:
            if not isinstance(each, str):
                raise MalformedError(f"a key of {source} is not text")
            kind = signing if each.startswith(_SIGNING) else bearer
            kind.setdefault(source, []).append(each)
    writers = BearerTokens({PROMETHEUS: bearer.get(PROMETHEUS, [])})
    auditors = BearerTokens({AUDIT: bearer.get(AUDIT, [])})
    count = sum(len(each) for each in (*signing.values(), *bearer.values()))
    return Keys(SigningKeys(signing), BearerTokens(bearer)), writers, auditors, count
