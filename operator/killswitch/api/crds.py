"""CustomResourceDefinitions generated from the pydantic models.

Kubernetes wants *structural* schemas: no `$ref`, no `anyOf` with null, a type everywhere. This
module resolves and strips what pydantic writes beyond that; it adds no rule of its own.
"""

from dataclasses import dataclass, field
from typing import Any

from killswitch.api import bypasses, freezes, guards, policies, records, shutdowns
from killswitch.api.common import Object
from killswitch.core.names import GROUP, VERSION

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column of `kubectl get`. Wide-only columns have priority 1."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


def _condition(name: str) -> Column:
    return Column(name, f'.status.conditions[?(@.type=="{name}")].status')


_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_SHUTDOWN_COLUMNS = (
    _condition("Locked"),
    _condition("Verified"),
    Column("Left", ".status.remaining", "integer"),
    Column("Approvals", ".status.approvals"),
    _condition("Restored"),
    Column("Took", ".status.elapsed", priority=1),
    Column("By", ".spec.requestedBy", priority=1),
    Column("Reason", ".spec.reason"),
    _AGE,
)
_POLICY_COLUMNS = (
    Column("Mode", ".spec.mode"),
    _condition("Ready"),
    _condition("Armed"),
    _condition("Demanded"),
    _condition("Fired"),
    Column("Reaction", ".status.reaction.worst", priority=1),
    Column("Owner", ".spec.owner", priority=1),
    _AGE,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of the group, as discovery shows it."""

    model: type[Object]
    plural: str
    short: str
    columns: tuple[Column, ...]
    namespaced: bool = True
    has_status: bool = True
    root_rules: tuple[dict[str, str], ...] = field(default=())

    @property
    def name(self) -> str:
        """The CamelCase kind."""
        return self.model.__name__


_SHORT_NAME = (
    {
        "rule": "size(self.metadata.name) <= 52",
        "message": "the name must have at most 52 characters: Shutdowns are named after it",
    },
)

_FREEZE_NAME = (
    {
        "rule": "size(self.metadata.name) <= 80",
        "message": "the name must have at most 80 characters: the Shutdown at its end is named after it",
    },
)
_NODE_NAME = (
    {
        "rule": "self.metadata.name == self.spec.node",
        "message": "a NodeGuard is named as its node",
    },
)

KINDS = (
    Kind(policies.KillSwitchPolicy, "killswitchpolicies", "ksp", _POLICY_COLUMNS,
         root_rules=_SHORT_NAME),
    Kind(policies.ClusterKillSwitchPolicy, "clusterkillswitchpolicies", "cksp", _POLICY_COLUMNS,
         namespaced=False, root_rules=_SHORT_NAME),
    Kind(shutdowns.Shutdown, "shutdowns", "sd", _SHUTDOWN_COLUMNS),
    Kind(shutdowns.ClusterShutdown, "clustershutdowns", "csd", _SHUTDOWN_COLUMNS,
         namespaced=False),
    Kind(records.ShutdownRecord, "shutdownrecords", "sdr",
         (Column("Shutdown", ".spec.shutdown"), _AGE), has_status=False),
    Kind(bypasses.Bypass, "bypasses", "byp",
         (Column("Policy", ".spec.policy"), Column("Until", ".spec.until"),
          Column("By", ".spec.requestedBy"), Column("Reason", ".spec.reason"), _AGE)),
    Kind(freezes.Freeze, "freezes", "frz",
         (_condition("Frozen"), _condition("Ended"), Column("Pods", ".status.pods", "integer"),
          Column("Until", ".spec.until"), Column("Then", ".spec.onExpiry"),
          Column("By", ".spec.requestedBy", priority=1), Column("Reason", ".spec.reason"), _AGE),
         root_rules=_FREEZE_NAME),
    Kind(guards.StandingOrder, "standingorders", "so",
         (Column("Policy", ".spec.policy.name"), Column("On Isolation", ".spec.onIsolation"),
          Column("After", ".spec.after"), _AGE), has_status=False),
    Kind(guards.NodeGuard, "nodeguards", "ng",
         (Column("Renewed", ".status.renewedAt", "date"), Column("Cgroups", ".status.cgroups"),
          Column("Version", ".status.version", priority=1),
          Column("Problem", ".status.problems[0]"), _AGE),
         namespaced=False, root_rules=_NODE_NAME),
)  # fmt: skip


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind, ready to be written as YAML."""
    names = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
        "shortNames": [kind.short],
        "categories": ["killswitch"],
    }
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": structural(kind)},
        "additionalPrinterColumns": [_printer_column(column) for column in kind.columns],
    }
    if kind.has_status:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            # Uninstalling the chart must not release what is engaged.
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": names,
            "versions": [version],
        },
    }


def structural(kind: Kind) -> Schema:
    """The structural OpenAPI schema of a kind."""
    raw = kind.model.model_json_schema(by_alias=True)
    definitions = raw.get("$defs", {})
    properties: Schema = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": _clean(raw["properties"]["spec"], definitions),
    }
    if kind.has_status:
        # Defaults in status would show up as facts nobody observed.
        properties["status"] = _without_defaults(_clean(raw["properties"]["status"], definitions))
    schema: Schema = {
        "type": "object",
        "description": _summary(kind.model.__doc__ or ""),
        "required": ["spec"],
        "properties": properties,
    }
    if kind.root_rules:
        schema["x-kubernetes-validations"] = list(kind.root_rules)
    return schema


def _printer_column(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
    }
    if column.priority:
        entry["priority"] = column.priority
    return entry


def _clean(node: Schema, definitions: Schema) -> Schema:
    """One schema node without `$ref`, `anyOf` null, titles and what else is not structural."""
    node = _resolve(node, definitions)
    cleaned: Schema = {}
    for key, value in node.items():
        match key:
            case "title" | "additionalProperties" if value is False or key == "title":
                continue
            case "properties":
                cleaned[key] = {name: _clean(each, definitions) for name, each in value.items()}
            case "items" | "additionalProperties":
                cleaned[key] = _clean(value, definitions)
            case "propertyNames":
                continue
            case "default" if value is None:
                continue
            case "default" if isinstance(value, dict):
                cleaned[key] = {k: v for k, v in value.items() if v is not None}
            case "const":
                cleaned["enum"] = [value]
            case "description":
                cleaned[key] = _summary(value)
            case _:
                cleaned[key] = value
    return cleaned


def _resolve(node: Schema, definitions: Schema) -> Schema:
    """Follow `$ref` and drop the null alternative of optional fields; the outer keys win."""
    if "$ref" in node:
        target = _resolve(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
        return {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    if "anyOf" in node:
        choices = [each for each in node["anyOf"] if each.get("type") != "null"]
        if len(choices) != 1:
            raise ValueError(f"a structural schema cannot express this choice: {node['anyOf']}")
        outer = {key: value for key, value in node.items() if key != "anyOf"}
        return {**_resolve(choices[0], definitions), **outer}
    return node


def _without_defaults(node: Schema) -> Schema:
    """The same schema with no `default` below it."""
    cleaned: Schema = {}
    for key, value in node.items():
        if key == "default":
            continue
        if key == "properties":
            cleaned[key] = {name: _without_defaults(each) for name, each in value.items()}
        elif key in {"items", "additionalProperties"}:
            cleaned[key] = _without_defaults(value)
        else:
            cleaned[key] = value
    return cleaned


def _summary(text: str) -> str:
    """A docstring as one line, as `kubectl explain` prints it best."""
    return " ".join(text.split())
