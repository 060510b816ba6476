"""docs/reference: every field of every kind, and the switch's diagram, from their one source."""

from collections.abc import Iterator
from typing import Any

from killswitch.api import crds
from killswitch.core import switch

_INTRO = """# Every field

Generated from the models; `kubectl explain` says the same. Fields without a default are required
unless marked optional.
"""


def fields() -> str:
    """docs/reference/api.md."""
    parts = [_INTRO]
    for kind in crds.KINDS:
        schema = crds.structural(kind)
        scope = "namespaced" if kind.namespaced else "cluster-wide"
        parts.append(
            f"\n## {kind.name}\n\n{schema['description']} Short name `{kind.short}`, {scope}.\n"
        )
        parts.append("| field | type | default | meaning |\n|---|---|---|---|")
        parts += [_row(*each) for each in _walk("spec", schema["properties"]["spec"])]
        if kind.has_status:
            parts += [_row(*each) for each in _walk("status", schema["properties"]["status"])]
        parts += _rules(schema)
    return "\n".join(parts) + "\n"


def states() -> str:
    """docs/reference/switch.md."""
    return (
        "# The switch\n\nGenerated from the state table in `core/switch.py`. An arrow's label is the"
        " event, and after the slash the effect that the transition asks for.\n\n"
        f"```mermaid\n{switch.diagram()}\n```\n"
    )


Field = tuple[str, dict[str, Any], bool]


def _walk(path: str, schema: dict[str, Any]) -> Iterator[Field]:
    """Every field below `path`: its path, schema, and whether it is required."""
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here, inner, name in required
        if "items" in inner:
            yield from _walk(f"{here}[]", inner["items"])
        elif isinstance(inner.get("additionalProperties"), dict):
            yield from _walk(f"{here}.*", inner["additionalProperties"])
        else:
            yield from _walk(here, inner)


def _row(path: str, schema: dict[str, Any], required: bool) -> str:
    either = "integer or string" if schema.get("x-kubernetes-int-or-string") else "object"
    kind = schema.get("type", either)
    if "enum" in schema:
        kind = " · ".join(str(each) for each in schema["enum"])
    default = "**required**" if required else _default(schema)
    meaning = schema.get("description", "").replace("|", "\\|")
    return f"| `{path}` | {kind} | {default} | {meaning} |"


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    return "optional" if value in (None, {}, []) or isinstance(value, dict) else f"`{value}`"


def _rules(schema: dict[str, Any]) -> list[str]:
    """The sentences that users read when the API server refuses."""
    messages = dict.fromkeys(_messages(schema))
    if not messages:
        return []
    return ["\nThe API server refuses, with these words:\n", *(f"- {each}" for each in messages)]


def _messages(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for rule in schema.get("x-kubernetes-validations", ()):
            yield rule["message"]
        for value in schema.values():
            yield from _messages(value)
