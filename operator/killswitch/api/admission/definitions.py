"""The CRDs, in which every lock is kept."""

from killswitch.api.admission.fields import same
from killswitch.api.admission.shape import Json, listed, policy, rule
from killswitch.core.names import GROUP, VERSION

# What was written in these is relied upon; policies may be given other schemas.
_KEPT_KINDS = ("Shutdown", "ClusterShutdown", "ShutdownRecord", "Bypass", "Freeze")
# The API server names and establishes CRDs as itself; nobody else has business in their status.
_API_SERVER = "system:apiserver"


def _grows(part: str) -> str:
    """Whether `spec` or `status` keeps every field and rule; new fields are optional.

    Fields that a schema does not name are dropped when an object is read, and absent ones get its
    defaults: without `scope`, or with a default for `approvals`, every lock opens. With a rule or
    a required field more, nobody could stop any longer.
    """
    after, before = f"variables.after.{part}", f"variables.before.{part}"
    new, old = f"{after}.properties", f"{before}.properties"
    return (
        f"!('{part}' in variables.before) || ('{part}' in variables.after"
        f" && {same(after, before, 'description', 'properties')}"
        f" && {old}.all(f, f in {new} && {same(f'{new}[f]', f'{old}[f]', 'description')})"
        f" && {new}.all(f, f in {old} || !('default' in {new}[f])))"
    )


def definitions() -> list[Json]:
    """Deleting a CRD would delete every Shutdown past all other rules; editing it is no better.

    A CRD of these kinds may get new optional fields, columns and words; all else stays, and there
    is no second version. For more than that people take the binding away, once nothing is engaged.
    """
    ours = f"oldObject.spec.group == '{GROUP}'"
    kept = f"{ours} && oldObject.spec.names.kind in {listed(_KEPT_KINDS)}"
    served = (
        f"object.spec.versions.exists(v, v.name == '{VERSION}' && v.served && v.storage)"
        " && object.spec.conversion == oldObject.spec.conversion"
    )
    version = f"oldObject.spec.versions.filter(v, v.name == '{VERSION}')[0]"
    free = ("schema", "additionalPrinterColumns", "selectableFields")
    root = "openAPIV3Schema"
    frame = (
        "size(object.spec.versions) == 1"
        f" && {same('object.spec.versions[0]', 'variables.version', *free)}"
        f" && {same(f'object.spec.versions[0].schema.{root}', f'variables.version.schema.{root}', 'description', 'properties')}"
        f" && {same('variables.after', 'variables.before', 'spec', 'status')}"
    )
    lets = (
        ": to change them, first release what is engaged, then delete the binding"
        " killswitch-definitions"
    )
    status = "has(request.subResource) && request.subResource == 'status'"
    return policy(
        "definitions",
        "The CRDs of killswitch, and in them what the lock depends on, stay while this policy does.",
        match={
            "resourceRules": [
                rule("apiextensions.k8s.io", "customresourcedefinitions", "UPDATE,DELETE", "*"),
                rule("apiextensions.k8s.io", "customresourcedefinitions/status", "UPDATE", "*"),
            ]
        },
        variables=[
            ("version", version),
            ("before", f"variables.version.schema.{root}.properties"),
            ("after", f"object.spec.versions[0].schema.{root}.properties"),
        ],
        validations=[
            (
                f"!({ours}) || (request.operation == 'UPDATE' && {served})",
                "the CRDs of killswitch hold engaged Shutdowns: to remove them for good, first"
                " release what is engaged, then delete the binding killswitch-definitions",
            ),
            (
                f"!({ours}) || !({status}) || request.userInfo.username == '{_API_SERVER}'",
                "only the API server itself writes the status of the CRDs of killswitch",
            ),
            (
                f"!({kept}) || object == null || ({frame})",
                f"the lock depends on these parts of the CRD{lets}",
            ),
            *(
                (
                    f"!({kept}) || object == null || ({_grows(part)})",
                    f"the lock depends on these fields and rules of {part}{lets}",
                )
                for part in ("spec", "status")
            ),
        ],
    )
