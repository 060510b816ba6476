"""`plan`: whole outputs, since this is what people decide upon."""

from tests.cli.conftest import Stage, told

_ALL = """\
Stop everything in NS: 2 workloads with 4 pods and 3 GPUs
NAMESPACE  WHAT              REPLICAS  PODS  GPUS  RUNS ON
NS__deployment/embed  1         1     1     cli-0 (1)
NS__deployment/vllm   2         2     2     cli-0 (2)
NS__other pods        -         1     0     cli-0 (1)
Held: everything in namespace NS, new workloads too
Lost for good: the pod itself: it is made again from its recorded manifest, under a new uid (Pod bare)
Node guards: not known (nodeguards are hidden from you): milliseconds with one, seconds without
"""
_POLICY = """\
If KillSwitchPolicy NS/tokens fired now, it would stop 1 workload with 2 pods and 2 GPUs:
NAMESPACE  WHAT             REPLICAS  PODS  GPUS  RUNS ON
NS__deployment/vllm  2         2     2     cli-0 (2)
Left alone: Deployment gone in NS (not found)
Node guards: not known (nodeguards are hidden from you): milliseconds with one, seconds without
Limits: 1 of at most 10 targets; 50 % of 2 eligible, at most 40 %
Would not act: TooLargeAShare: 1 of 2 (50 %), limits.maxPercent is 40
"""


def test_of_everything(stage: Stage) -> None:
    """Workloads, pods without a controller, GPUs, nodes, and the hold."""
    stage.deployment("vllm", replicas=2, gpus=1)
    stage.deployment("embed", replicas=1, gpus=1)
    pod = {
        "nodeSelector": {"kubernetes.io/hostname": "cli-0"},
        "containers": [{"name": "c", "image": "i"}],
    }
    stage.create("/api/v1", "pods", {"metadata": {"name": "bare"}, "spec": pod})
    stage.placed(4)
    done = stage.run("plan", "--all")
    expected = _padded(_ALL, stage)
    assert (expected, "", 0) == (told(done.stdout, stage.namespace), done.stderr, done.returncode)


def test_of_a_policy(stage: Stage) -> None:
    """What it would stop, what it does not find, and whether its limits let it."""
    stage.deployment("vllm", replicas=2, gpus=1)
    stage.deployment("embed", replicas=1, gpus=1)
    stage.placed(3)
    targets = [{"kind": "Deployment", "name": name} for name in ("vllm", "gone")]
    stage.policy("tokens", targets=targets, limits={"maxPercent": 40})
    done = stage.run("plan", "--policy", "tokens")
    assert (_padded(_POLICY, stage), "", 0) == (
        told(done.stdout, stage.namespace), done.stderr, done.returncode,
    )  # fmt: skip


def test_of_a_policy_in_dry_run_says_that_it_would_not_act(stage: Stage) -> None:
    """DryRun must not look like a promise to act."""
    stage.deployment()
    stage.policy("tokens", mode="DryRun")
    done = stage.run("plan", "--policy", "tokens")
    assert "Would not act: DryRun: " in done.stdout


def test_json_of_a_policy(stage: Stage) -> None:
    """The same facts for programs."""
    stage.deployment(replicas=1, gpus=1)
    stage.policy("tokens")
    answer = stage.json("plan", "--policy", "tokens")
    assert (
        [each["name"] for each in answer["workloads"]],
        answer["gpus"],
        answer["inhibited"],
        answer["limits"],
    ) == (["vllm"], 1, None, {"maxTargets": 10, "maxPercent": 100})


def test_names_for_scripts(stage: Stage) -> None:
    """`-o name` prints what kubectl understands."""
    stage.deployment(replicas=1)
    done = stage.run("plan", "--all", "-o", "name")
    assert done.stdout == "deployment/vllm\n"


def test_what_cannot_be_seen_is_said(stage: Stage) -> None:
    """An empty plan of someone who may not look is not "nothing runs there"."""
    stage.deployment(replicas=1)
    done = stage.run("plan", "--all", by="mallory")
    assert "deployments.apps" in done.stdout
    assert "pods, replicasets.apps, replicationcontrollers" in done.stdout
    assert "you may not list them, so what is of them is not known" in done.stdout
    assert done.stdout.endswith(
        "Not seen: services, ingresses.networking.k8s.io, horizontalpodautoscalers.autoscaling are"
        " hidden from you: who depends on it or fights it is not known\n"
    )


def _padded(text: str, stage: Stage) -> str:
    """Columns are as wide as the real namespace's name, which is replaced afterwards."""
    gap = max(len("NAMESPACE"), len(stage.namespace)) - len(stage.namespace) + 2
    return text.replace("NS__", "NS" + " " * gap)
