"""What a policy may be about: kinds that can be seen and stopped, and losses that somebody accepts."""

import pytest
import yaml

from killswitch.core.kinds import TABLE
from killswitch.core.resources import PODS
from killswitch.ports import Json
from tests.cluster.control_plane import ControlPlane, User
from tests.manager import things
from tests.manager.harness import Scene

pytestmark = pytest.mark.cluster
STILL = "in mode Enforce, where the namespace is governed, the reactor would still fire it"


@pytest.fixture(scope="module", autouse=True)
def served(kernel: ControlPlane) -> None:
    """The API server serves them."""
    things.install(kernel)


@pytest.fixture
def blind(kernel: ControlPlane, account: User) -> User:
    """The manager's account without any right on InferenceServices."""
    return without(kernel, "manager", "inferenceservices")


def without(kernel: ControlPlane, process: str, resource: str) -> User:
    """An account with the rights that the chart gives this process, but on this resource."""
    rendered = yaml.safe_load(
        kernel.kubectl("get", "clusterrole", f"killswitch-{process}", "-o", "yaml").stdout
    )
    rules = [
        {**each, "resources": [r for r in each["resources"] if r != resource]}
        for each in rendered["rules"]
    ]
    name = f"blind-{process}"
    role = {**rendered, "metadata": {"name": name}, "rules": [e for e in rules if e["resources"]]}
    kernel.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(role))
    user = kernel.service_account("killswitch-system", name)
    kernel.kubectl(
        "create",
        "clusterrolebinding",
        name,
        f"--clusterrole={name}",
        f"--serviceaccount=killswitch-system:{name}",
        check=False,
    )
    return user


async def test_a_kind_that_is_not_served_is_named_with_its_cure(scene: Scene) -> None:
    """The policy is not Ready; another one is."""
    target = {"kind": "Vat", "group": "absent.example.com", "name": "vllm"}
    async with scene.manager():
        await scene.bench.policy("bad", targets=[target])
        await scene.bench.policy("good", targets=[scene.vllm])
        message = await scene.policy_condition("bad", "Ready", "False", "KindUnseen")
        await scene.policy_condition("bad", "Armed", "False", "NotReady")
        await scene.policy_condition("good", "Ready", "True", "Accepted")
    assert message == (
        "Vat.absent.example.com: the cluster does not serve this kind; install it, or correct kind and group in"
        " spec.targets"
    )


async def test_a_policy_of_two_kinds_works_for_the_one_that_is_seen(scene: Scene) -> None:
    """And says what it cannot work for."""
    target = {"kind": "Vat", "group": "absent.example.com", "name": "vllm"}
    async with scene.manager():
        await scene.bench.policy("half", targets=[scene.vllm, target])
        message = await scene.policy_condition("half", "Ready", "True", "Accepted")
    assert message.startswith(
        "the policy can work for Deployment, not wholly: Vat.absent.example.com: "
    )


async def test_a_missing_right_is_named_with_its_cure(scene: Scene, blind: User) -> None:
    """By verb and resource; what the account may do is asked of the API server."""
    target = {"kind": "InferenceService", "name": "vllm"}
    async with scene.manager(account=blind):
        await scene.bench.policy("bad", targets=[target])
        await scene.bench.policy("good", targets=[scene.vllm])
        message = await scene.policy_condition("bad", "Ready", "False", "KindUnseen")
        await scene.policy_condition("good", "Ready", "True", "Accepted")
    assert message.startswith(
        "InferenceService: the manager may not list inferenceservices, patch inferenceservices;"
        " give it the right, by the chart's kinds.extra"
    )


async def test_a_right_that_only_the_reactor_lacks_is_named(
    kernel: ControlPlane, scene: Scene, account: User
) -> None:
    """The manager sees the kind, and the reactor could not stop it. Asked as the chart lets it ask."""
    without(kernel, "reactor", "inferenceservices")
    reactor = "system:serviceaccount:killswitch-system:blind-reactor"
    target = {"kind": "InferenceService", "name": "vllm"}
    async with scene.manager(account=account, reactor=reactor):
        await scene.bench.policy("bad", targets=[target])
        await scene.bench.policy("good", targets=[scene.vllm])
        message = await scene.policy_condition("bad", "Ready", "False", "KindUnseen")
        await scene.policy_condition("good", "Ready", "True", "Accepted")
    assert message.startswith(
        "InferenceService: the reactor may not list inferenceservices, watch inferenceservices,"
        " patch inferenceservices; give it the right"
    )


async def test_rights_by_a_group_of_service_accounts_count(
    kernel: ControlPlane, scene: Scene, account: User
) -> None:
    """As the API server counts them."""
    kernel.kubectl(
        "create", "clusterrolebinding", "reactors-by-group", "--clusterrole=killswitch-reactor",
        "--group=system:serviceaccounts:reactors", check=False,
    )  # fmt: skip
    target = {"kind": "InferenceService", "name": "vllm"}
    reactor = "system:serviceaccount:reactors:any"
    async with scene.manager(account=account, reactor=reactor):
        await scene.bench.policy("good", targets=[target])
        await scene.policy_condition("good", "Ready", "True", "Accepted")


async def test_a_manager_that_may_not_ask_takes_the_reactors_rights_for_granted(
    kernel: ControlPlane, scene: Scene, account: User
) -> None:
    """With a role of an older chart: the reactor says itself what it cannot see."""
    deaf = without(kernel, "manager", "subjectaccessreviews")
    async with scene.manager(account=deaf, reactor="nobody"):
        await scene.bench.policy("good", targets=[scene.vllm])
        await scene.policy_condition("good", "Ready", "True", "Accepted")


async def test_a_generic_kind_with_scale_is_accepted(scene: Scene) -> None:
    """Whatever the cluster serves."""
    target = {"kind": "Engine", "group": "serving.test.example", "name": "vllm"}
    async with scene.manager():
        await scene.bench.policy("any", targets=[target])
        await scene.policy_condition("any", "Ready", "True", "Accepted")


async def test_what_a_stop_of_a_job_loses_is_to_be_accepted(scene: Scene) -> None:
    """In words, and until then the policy is not Ready, yet not harmless."""
    async with scene.manager():
        await scene.bench.policy("train", targets=[{"kind": "Job", "name": "train"}])
        message = await scene.policy_condition("train", "Ready", "False", "LossNotAccepted")
        armed = await scene.policy_condition("train", "Armed", "False", "NotReady")
        await scene.change_policy("train", action={"acceptLoss": True})
        await scene.policy_condition("train", "Ready", "True", "Accepted")
    lost = TABLE["Job"].lost
    assert message == (
        f"spec.targets: a stop of a Job loses {lost}: {STILL}; write action.acceptLoss: true to"
        " accept that, or leave it out of the targets"
    )
    assert armed == f"the policy is not Ready, yet not harmless: {STILL}"


async def test_a_bare_pod_behind_a_selector_is_a_loss(scene: Scene) -> None:
    """Only where there is one; whoever accepts it may stop it."""
    body: Json = {
        "metadata": {"name": "lone", "labels": {"model": "m"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    await scene.bench.cluster.create(PODS, body, scene.namespace)
    target = {"kind": "Pod", "selector": {"matchLabels": {"model": "m"}}}
    async with scene.manager():
        await scene.bench.policy("pods", targets=[target])
        message = await scene.policy_condition("pods", "Ready", "False", "LossNotAccepted")
        await scene.change_policy("pods", action={"acceptLoss": True})
        await scene.policy_condition("pods", "Ready", "True", "Accepted")
    assert f"a stop of Pod {scene.namespace}/lone loses the pod itself" in message
