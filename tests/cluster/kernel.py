"""Puts CRDs and admission policies into a control plane, in the order that README and chart use."""

import time
from pathlib import Path

from tests.cluster.control_plane import ControlPlane

CRDS = Path("crds")
ADMISSION = Path("manifests/admission.yaml")


def apply(control_plane: ControlPlane) -> None:
    """CRDs, then policies: one that comes before the kind of its parameters is blind for long.

    The API server looks for that kind again only after half a minute, and denies meanwhile.
    """
    control_plane.kubectl("apply", "--server-side", "-f", str(CRDS))
    deadline = time.monotonic() + 30
    while not all(_established(control_plane, file.stem) for file in CRDS.glob("*.yaml")):
        # Not `kubectl wait`, which fails on a CRD that has no status yet.
        assert time.monotonic() < deadline, "the CRDs are not established"
        time.sleep(0.05)
    control_plane.kubectl("apply", "--server-side", "-f", str(ADMISSION))


def _established(control_plane: ControlPlane, plural: str) -> bool:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    found = control_plane.api().get(f"{path}/{plural}.killswitch.dev").body
    conditions = found.get("status", {}).get("conditions") or ()  # null at first
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
