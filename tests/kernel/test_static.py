"""The guards that an API server reads from its own files, where no API request can take them off."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import binaries
from tests.cluster.api import Answer
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kernel import ADMISSION
from tests.cluster.kernel import CRDS as CRD_FILES
from tests.cluster.processes import Daemon
from tests.kernel.objects import shutdown, shutdowns

Json = dict[str, Any]
STATIC = Path("manifests/static")
REGISTRATION = "/apis/admissionregistration.k8s.io/v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def documents(folder: Path = STATIC) -> list[Json]:
    """Every object of the files."""
    return [each for file in folder.iterdir() for each in yaml.safe_load_all(file.read_text())]


def test_static_files_have_the_form_that_an_api_server_demands() -> None:
    """Names with the reserved suffix, no parameters, and each policy with its binding."""
    found = documents()
    assert all(each["metadata"]["name"].endswith(".static.k8s.io") for each in found)
    assert all(not {"paramKind", "paramRef"} & each["spec"].keys() for each in found)
    policies = [e["metadata"]["name"] for e in found if e["kind"] == "ValidatingAdmissionPolicy"]
    bound = [e["spec"]["policyName"] for e in found if e["kind"].endswith("Binding")]
    assert policies == bound
    assert len(set(policies)) == len(policies) == 20


def test_every_policy_without_parameters_is_there() -> None:
    """And none with: those would keep the API server from starting."""
    applied = yaml.safe_load_all(ADMISSION.read_text())
    free = {
        f"{each['metadata']['name']}.static.k8s.io"
        for each in applied
        if "matchConstraints" in each["spec"] and "paramKind" not in each["spec"]
    }
    names = {each["metadata"]["name"] for each in documents()}
    assert names == free | {"killswitch-kernel.static.k8s.io"}


@dataclass
class _FromFiles(ControlPlane):
    """A control plane whose API server reads the static files from a folder of its own."""

    def _daemon(self, name: str, *flags: str) -> Daemon:
        if name == "kube-apiserver":
            flags = (*flags, *self._static_flags())
        return super()._daemon(name, *flags)

    @property
    def folder(self) -> Path:
        """Where the API server looks."""
        return self.directory / "static"

    def _static_flags(self) -> tuple[str, str]:
        if not self.folder.exists():
            shutil.copytree(STATIC, self.folder)
        plugin = {
            "name": "ValidatingAdmissionPolicy",
            "configuration": {
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "ValidatingAdmissionPolicyConfiguration",
                "staticManifestsDir": str(self.folder),
            },
        }
        configuration = {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AdmissionConfiguration",
            "plugins": [plugin],
        }
        file = self.directory / "admission-configuration.yaml"
        file.write_text(yaml.safe_dump(configuration))
        return (
            "--feature-gates=ManifestBasedAdmissionControlConfig=true",
            f"--admission-control-config-file={file}",
        )


def _minor() -> int:
    program = binaries.locate(["kube-apiserver"])["kube-apiserver"]
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True)
    return int(said.stdout.split(".")[1])


@pytest.fixture(scope="module")
def guarded() -> Iterator[ControlPlane]:
    """A control plane with the CRDs, a governed namespace, and guards from files only."""
    if _minor() < 36:
        pytest.skip("API servers read policies from files from Kubernetes 1.36 on")
    with _FromFiles(kwok=False, scheduler=False) as running:
        running.kubectl("apply", "--server-side", "-f", str(CRD_FILES))
        body = {"metadata": {"name": "held", "labels": {"killswitch.dev/governed": "true"}}}
        assert running.api().create("/api/v1/namespaces", body).status == 201
        deadline = time.monotonic() + 10
        while running.api().get(shutdowns("held")).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield running


@pytest.mark.cluster
def test_guards_from_files_hold_without_any_policy_in_the_api(guarded: ControlPlane) -> None:
    """Nothing is installed but CRDs, and still nobody forges, deletes or edits past them."""
    api = guarded.api()
    assert api.get(f"{REGISTRATION}/validatingadmissionpolicies").body["items"] == []
    answer = api.create(shutdowns("held"), shutdown("s", "somebody"))
    assert (answer.status, "must be your own username" in answer.message) == (403, True)
    assert api.create(shutdowns("held"), shutdown("s", "admin")).status == 201
    answer = api.delete(shutdowns("held", "s"))
    assert (answer.status, "an engaged Shutdown cannot be deleted" in answer.message) == (403, True)
    answer = api.delete(f"{CRDS}/shutdowns.killswitch.dev")
    assert (answer.status, "take guards.yaml from the folder" in answer.message) == (403, True)
    label = {"metadata": {"labels": {"killswitch.dev/governed": "true"}}}
    assert api.patch("/api/v1/namespaces/kube-system", label).status == 403


POLICY = f"{REGISTRATION}/validatingadmissionpolicies/killswitch-lock"
BINDING = f"{REGISTRATION}/validatingadmissionpolicybindings/killswitch-lock"
INTRUSIONS: dict[str, Callable[[ControlPlane], Answer]] = {
    "deleting a binding": lambda c: c.api().delete(BINDING),
    "deleting all bindings": lambda c: c.api().delete(BINDING.rpartition("/")[0]),
    "deleting a policy": lambda c: c.api().delete(POLICY),
    "only auditing": lambda c: c.api().patch(BINDING, {"spec": {"validationActions": ["Audit"]}}),
    "binding other parameters": lambda c: c.api().patch(
        BINDING, {"spec": {"paramRef": {"selector": {"matchLabels": {"never": "there"}}}}}
    ),
    "failing open": lambda c: c.api().patch(POLICY, {"spec": {"failurePolicy": "Ignore"}}),
}


@pytest.fixture(scope="module")
def complete(guarded: ControlPlane) -> ControlPlane:
    """The same with the lock and the rest of the kernel installed."""
    guarded.kubectl("apply", "--server-side", "-f", str(ADMISSION))
    return guarded


@pytest.mark.cluster
@pytest.mark.parametrize("intrusion", INTRUSIONS)
def test_cluster_admin_cannot_take_the_kernel_out_by(
    complete: ControlPlane, intrusion: str
) -> None:
    """What an intruder with every right would do first."""
    answer = INTRUSIONS[intrusion](complete)
    assert (answer.status, "this holds what people stopped" in answer.message) == (403, True)
    assert complete.api().get(BINDING).status == 200


@pytest.mark.cluster
def test_the_kernel_may_be_applied_again_and_other_policies_are_free(
    complete: ControlPlane,
) -> None:
    """The same content changes nothing; what is not the kernel's is not guarded."""
    complete.kubectl("apply", "--server-side", "-f", str(ADMISSION))
    label = {"metadata": {"labels": {"seen": "yes"}}}
    assert complete.api().patch(BINDING, label).status == 200
    path = f"{REGISTRATION}/validatingadmissionpolicybindings"
    other = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "somebodys"},
        "spec": {"policyName": "somebodys", "validationActions": ["Warn"]},
    }
    assert complete.api().create(path, other).status == 201
    audit = {"spec": {"validationActions": ["Audit"]}}
    assert complete.api().patch(f"{path}/somebodys", audit).status == 200
    assert complete.api().delete(f"{path}/somebodys").status == 200
