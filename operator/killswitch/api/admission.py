"""Admission policies (placeholder being written)."""

from typing import Any


def manifests() -> list[dict[str, Any]]:
    """All policies and bindings."""
    return []
