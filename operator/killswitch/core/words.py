"""Words for people that several sentences have in common."""

from collections.abc import Sequence

MOST = 5
"""Names in one sentence."""


def several(names: Sequence[str], most: int = MOST) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
