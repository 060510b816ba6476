"""Whether the safety kernel stands in the API server as this version generates it.

The dry run in the canary namespace tries one binding; this looks at all of them. Removing or
loosening one is what an intruder with cluster-admin would do first.
"""

from collections.abc import Iterable
from typing import Any

from killswitch.api import admission
from killswitch.api.admission.shape import OPERATOR_NAMESPACE
from killswitch.core.names import PROTECTED_NAMESPACES
from killswitch.core.resources import Resource
from killswitch.ports import Cluster, Json

_API = ("admissionregistration.k8s.io", "v1")
ADMISSION_POLICIES = Resource(
    *_API, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False
)
BINDINGS = Resource(
    *_API,
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)
# What the API server adds to the match constraints of a policy that does not mention them.
_DEFAULTS: Json = {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}


async def fault(cluster: Cluster, namespace: str, protected: Iterable[str]) -> str:
    """The first policy or binding that is missing or altered, in a sentence; empty when none is."""
    stored = {
        (resource.kind, body["metadata"]["name"]): body
        for resource in (ADMISSION_POLICIES, BINDINGS)
        for body in (await cluster.list(resource)).items
    }
    for manifest in expected(namespace, protected):
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        body = stored.get((manifest["kind"], manifest["metadata"]["name"]))
        if body is None:
            return f"{name} is missing"
        wanted, there = _defaulted(manifest["spec"]), body["spec"]
        fields = sorted(wanted.keys() | there.keys())
        differing = [field for field in fields if wanted.get(field) != there.get(field)]
        if differing:
            return f"{name} is altered: spec.{differing[0]} is not what this version installs"
    return ""


def expected(namespace: str, protected: Iterable[str]) -> list[Json]:
    """The kernel as the chart installs it in this namespace, with these protected namespaces."""
    listed = {*PROTECTED_NAMESPACES[:-1], namespace}
    more = "".join(f"'{each}', " for each in protected if each not in listed)
    # The operator's own namespace ends every list of protected ones (templates/_helpers.tpl).
    last = f"'{namespace}']"

    def installed(value: Any) -> Any:
        match value:
            case str():
                text = value.replace(OPERATOR_NAMESPACE, namespace)
                return text.replace(last, more + last)
            case dict():
                return {key: installed(each) for key, each in value.items()}
            case list():
                return [installed(each) for each in value]
            case _:
                return value

    return [installed(each) for each in admission.manifests()]


def _defaulted(spec: Json) -> Json:
    if "matchConstraints" not in spec:
        return spec
    return {**spec, "matchConstraints": {**_DEFAULTS, **spec["matchConstraints"]}}
