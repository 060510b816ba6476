"""Who may speak: signing keys and bearer tokens of sources, several each so that they can rotate.

Every key is tried on every request, found or not, and compared in constant time: neither the
answer nor its delay says whether a source exists, or which of its keys was nearly right. That
costs one HMAC a key, so their number is bounded. Secrets never appear in a repr or a message.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence

MOST = 64
_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64
_MOST_SIGNATURES = 8


class SigningKeys:
    """HMAC keys of sources, in the `whsec_` form of the Standard Webhooks specification."""

    def __init__(self, secrets: Mapping[str, Iterable[str]]) -> None:
        """ValueError for a key that is malformed, too short, or another source's too."""
        keys = [(source, _secret(each)) for source, texts in secrets.items() for each in texts]
        _check(keys)
        self._keys: tuple[tuple[str, bytes], ...] = tuple(keys)

    def source(self, signatures: Sequence[bytes], content: bytes) -> str | None:
        """The source one of whose keys made one of the signatures of the content."""
        found = None
        for source, key in self._keys:
            expected = hmac.digest(key, content, "sha256")
            for signature in signatures:
                if hmac.compare_digest(expected, signature):
                    found = source
        return found

    def __repr__(self) -> str:
        """Without secrets."""
        return f"SigningKeys({len(self._keys)} keys)"


class BearerTokens:
    """Bearer tokens of sources; only their digests are kept."""

    def __init__(self, tokens: Mapping[str, Iterable[str]]) -> None:
        """ValueError for a token that is too short, or another source's too."""
        digests = []
        for source, texts in tokens.items():
            for each in texts:
                if len(each) < _SHORTEST:
                    raise ValueError(f"a token of {source} is shorter than {_SHORTEST} characters")
                digests.append((source, _digest(each)))
        _check(digests)
        self._digests: tuple[tuple[str, bytes], ...] = tuple(digests)

    def source(self, authorization: str) -> str | None:
        """Whose token an `Authorization` header carries; None for nobody's."""
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip())
        found = None
        for source, digest in self._digests:
            if hmac.compare_digest(digest, given):
                found = source
        return found if scheme.lower() == "bearer" else None

    def __repr__(self) -> str:
        """Without tokens."""
        return f"BearerTokens({len(self._digests)} tokens)"


def signatures(header: str) -> tuple[bytes, ...]:
    """The `v1` signatures of a `webhook-signature` header; others and malformed ones are left out.

    A sender that rotates its key sends one of each, separated by spaces.
    """
    found = []
    for part in header.split(" ")[:_MOST_SIGNATURES]:
        version, _, text = part.partition(",")
        if version != "v1":
            continue
        try:
            signature = base64.b64decode(text, validate=True)
        except ValueError:  # binascii.Error, and text that is not ASCII
            continue
        if len(signature) == hashlib.sha256().digest_size:
            found.append(signature)
    return tuple(found)


def _secret(text: str) -> bytes:
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a signing key is not whsec_ and base64") from None
    if not _SHORTEST <= len(secret) <= _LONGEST:
        raise ValueError(f"a signing key has {len(secret)} bytes, not {_SHORTEST} to {_LONGEST}")
    return secret


def _digest(token: str) -> bytes:
    # Headers that are not UTF-8 arrive with surrogates in them.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _check(keys: Sequence[tuple[str, bytes]]) -> None:
    if len(keys) > MOST:
        raise ValueError(f"{len(keys)} keys are more than {MOST}, each of which is tried each time")
    owners: dict[bytes, str] = {}
    for source, key in keys:
        owner = owners.setdefault(key, source)
        if owner != source:
            raise ValueError(f"{source} and {owner} have a key in common: who spoke is unknown")
