"""What of the safety kernel an API server can read from its own files (KEP-5793).

There it holds before the first request, and nobody takes it off through the API. `make gen`
writes both lists to manifests/static; tests/kernel/test_static.py loads them for real.
"""

from killswitch.api import admission
from killswitch.api.admission.shape import Json, policy, rule

_SUFFIX = ".static.k8s.io"
_UNGUARD = "take guards.yaml from the folder of every API server"


def guards() -> list[Json]:
    """The policies without parameters, as an API server reads them from its own files (KEP-5793).

    There nobody can delete them through the API, and they hold before the first request. What
    needs a parameter cannot be had this way: the lock itself stays an object of the API.
    """
    documents = admission.manifests()
    free = {each["metadata"]["name"] for each in documents if "matchConstraints" in each["spec"]}
    free -= {each["metadata"]["name"] for each in documents if "paramKind" in each["spec"]}
    return [_static(each) for each in documents if each["metadata"]["name"] in free]


def kernel() -> list[Json]:
    """The kernel's own policies and bindings stay as they are: only a file can say so.

    A policy of the API is not asked about policies and bindings, so that nobody locks himself
    out. To upgrade killswitch, take this file away and put it back.
    """
    # As Python writes a list of names, CEL reads it.
    names = list(dict.fromkeys(each["metadata"]["name"] for each in admission.manifests()))
    documents = policy(
        "kernel",
        "Policies and bindings of the kernel are neither changed nor deleted.",
        match={
            "resourceRules": [
                rule(
                    "admissionregistration.k8s.io",
                    "validatingadmissionpolicies,validatingadmissionpolicybindings",
                    "UPDATE,DELETE",
                    "*",
                )
            ]
        },
        validations=[
            (
                f"!(oldObject.metadata.name in {names})"
                " || (object != null && object.spec == oldObject.spec)",
                "this holds what people stopped: to change or remove it, first take kernel.yaml"
                " from the folder of every API server",
            )
        ],
    )
    return [_static(each) for each in documents]


def _static(document: Json) -> Json:
    metadata, spec = dict(document["metadata"]), dict(document["spec"])
    metadata["name"] += _SUFFIX
    if "policyName" in spec:
        spec["policyName"] += _SUFFIX
    else:
        spec["validations"] = [_from_a_file(each) for each in spec["validations"]]
    return {**document, "metadata": metadata, "spec": spec}


def _from_a_file(validation: Json) -> Json:
    """The same rule; where its message names the binding to delete, it names the file."""
    said = validation.get("message", "")
    found = said.replace("delete the binding killswitch-definitions", _UNGUARD)
    return {**validation, "message": found} if said else validation
