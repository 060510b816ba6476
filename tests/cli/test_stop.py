"""`stop` on the real API server: pods gone, staying gone, and honest words where they are not."""

import functools
import os
import signal
import subprocess
import time

from tests.cli.conftest import STOPPING, Stage, eventually, told, without
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import free_port

_STOPPED = """\
Stop deployment/vllm in NS: 1 workload with 2 pods and 2 GPUs
NAMESPACE  WHAT             REPLICAS  PODS  GPUS  RUNS ON
NS     deployment/vllm  2         2     2     cli-0 (2)
 T  locked   Shutdown NS/alice-TIME: held until 2 people approve
 T  deleted  every pod was told to go, with T of grace
 T  recorded what was there is stored
 T  scaled   every workload is at rest
 T  proven   a restart was tried and denied
 T  stopped  no pod left in an uncached list
Verified: no pod left, T
Back: 2 people other than alice run: kubectl killswitch approve alice-TIME -n NS --reason …
"""


def test_one_command_stops_verifies_and_holds(stage: Stage) -> None:
    """Pods gone within the answer, the answer complete, and nothing comes back."""
    stage.deployment(gpus=1)
    done = stage.run("stop", "-w", "deployment/vllm", "--reason", "runaway")
    shown = told(done.stdout, stage.namespace)
    expected = _STOPPED.replace("NS     deployment", "NS" + " " * _gap(stage) + "deployment")
    assert (expected, "", 0) == (shown, done.stderr, done.returncode)
    stage.control_plane.kubectl(
        "scale", "deployment/vllm", "--replicas=2", "-n", stage.namespace, check=False
    )
    time.sleep(2)
    assert (stage.pods(), stage.replicas("vllm")) == ([], 0)


def _gap(stage: Stage) -> int:
    """Columns are padded to the real namespace's width before it is replaced."""
    return max(len("NAMESPACE"), len(stage.namespace)) - len(stage.namespace) + 2


def test_everything_in_the_namespace(stage: Stage) -> None:
    """`--all` holds what has no controller and what is created later, too."""
    stage.deployment()
    pod = {"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    stage.create("/api/v1", "pods", pod)
    name = stage.stop("--all", "--accept-loss")
    stored = stage.shutdown(name)["spec"]
    assert (stored["scope"], stored["requestedBy"]) == ({"wholeNamespace": True}, "alice")
    path = f"/api/v1/namespaces/{stage.namespace}/pods"
    refused = stage.control_plane.api().create(path, pod, dry_run=True)
    assert (stage.pods(), "held down by Shutdown" in refused.message) == ([], True)


def test_labels_hold_pods_and_bring_their_workloads_to_rest(stage: Stage) -> None:
    """Else release alone would let the workload start its pods again."""
    stage.deployment("vllm")
    stage.deployment("other", replicas=1)
    name = stage.stop("--labels", "app=vllm")
    spec = stage.shutdown(name)["spec"]
    assert spec["scope"] == {"podLabels": {"app": "vllm"}}
    assert "deployments.apps/vllm" in spec["locks"]
    assert "deployments.apps/other" not in spec["locks"]
    assert (stage.replicas("vllm"), stage.replicas("other")) == (0, 1)


def test_json_says_stages_and_terms(stage: Stage) -> None:
    """Programs get the same facts as people."""
    stage.deployment(replicas=1)
    answer = stage.json("stop", "--all", "--reason", "r", "--approvals", "1")
    stages = ["decided", "locked", "deleted", "recorded", "scaled", "proven", "stopped"]
    assert (stages, True, 1, [], []) == (
        list(answer["stages"]),
        answer["verified"],
        answer["requiredApprovals"],
        answer["left"],
        answer["problems"],
    )


def test_dry_run_changes_nothing(stage: Stage) -> None:
    """The plan only, same as `plan`."""
    stage.deployment()
    done = stage.run("stop", "--all", "--reason", "r", "--dry-run")
    planned = stage.run("plan", "--all")
    assert (planned.stdout, 0) == (done.stdout, done.returncode)
    assert (
        len(stage.pods()),
        stage.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"],
    ) == (2, [])


def test_who_may_not_stop_is_refused_with_the_cure(stage: Stage) -> None:
    """Exit 3, nothing touched, and what else can be done."""
    stage.deployment()
    done = stage.run("stop", "--all", "--reason", "r", by="mallory")
    assert done.returncode == 3
    assert "Nothing was locked and nothing was touched" in done.stderr
    assert "kubectl auth can-i create shutdowns.killswitch.dev" in done.stderr
    assert f"break-glass --bare -n {stage.namespace}" in done.stderr
    assert len(stage.pods()) == 2


def test_without_the_right_to_delete_the_lock_holds_and_the_rest_is_named(
    open_stage: Stage,
) -> None:
    """Exit 4: what is left, that the lock holds, and who can finish."""
    open_stage.govern()
    rules = [*without("delete", of="pods")]
    rules = [rule for rule in rules if "deployments/scale" not in rule["resources"]]
    open_stage.grant("people", rules, "alice")
    open_stage.deployment()
    done = open_stage.run(
        "stop", "-w", "deploy/vllm", "--reason", "r", "--deadline", "1s", by="alice"
    )
    assert done.returncode == 4
    assert "cannot delete resource" in done.stdout
    assert "The lock holds all the same" in done.stdout
    assert "Next: someone who may delete pods runs: kubectl delete pod -n" in done.stdout
    path = f"/apis/apps/v1/namespaces/{open_stage.namespace}/deployments/vllm/scale"
    raised = open_stage.control_plane.api().patch(path, {"spec": {"replicas": 3}}, dry_run=True)
    assert "held down by Shutdown" in raised.message


def test_pods_that_cannot_be_seen_are_never_called_stopped(open_stage: Stage) -> None:
    """With the right to lock and nothing else, the lock is all that is claimed."""
    open_stage.govern()
    rules = [{"apiGroups": ["killswitch.dev"], "resources": ["shutdowns"], "verbs": ["create"]}]
    open_stage.grant("lockers", rules, "carol")
    open_stage.deployment()
    done = open_stage.run("stop", "--all", "--reason", "r", "--deadline", "1s", by="carol")
    assert (done.returncode, "The lock is engaged" in done.stdout) == (4, True)
    assert "Not verified" in done.stdout
    made = open_stage.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"]
    assert [each["spec"]["requestedBy"] for each in made] == ["carol"]


def test_an_ungoverned_namespace_is_governed_by_who_may(open_stage: Stage) -> None:
    """One action: the label is part of it."""
    open_stage.deployment()
    done = open_stage.run("stop", "--all", "--reason", "r", by=open_stage.control_plane.admin)
    assert (done.returncode, "Governed first: namespace" in done.stdout) == (0, True)
    assert open_stage.pods() == []


def test_who_may_not_govern_is_told_who_can(open_stage: Stage) -> None:
    """Exit 3 and the command for somebody else."""
    rules = [*STOPPING, {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}]
    open_stage.grant("people", rules, "alice")
    done = open_stage.run("stop", "--all", "--reason", "r")
    cure = f"kubectl killswitch govern {open_stage.namespace}"
    assert (done.returncode, cure in done.stderr) == (3, True)


def test_nothing_of_that_name(stage: Stage) -> None:
    """Exit 1: a stop that stops nothing must not look like one."""
    done = stage.run("stop", "-w", "deployment/vlm", "--reason", "r")
    assert (done.returncode, "Deployment vlm" in done.stderr) == (1, True)


def test_partly_found_is_stopped_and_not_called_success(stage: Stage) -> None:
    """What was found is down; the exit code says that something named was not."""
    stage.deployment()
    done = stage.run("stop", "-w", "deploy/vllm", "-w", "sts/nope", "--reason", "r")
    assert (done.returncode, stage.pods()) == (1, [])
    assert "StatefulSet nope" in done.stdout.splitlines()[-1]


def test_protected_namespaces_are_refused(stage: Stage) -> None:
    """Before anything is asked to change."""
    admin = stage.control_plane.admin
    done = stage.raw("stop", "--all", "--reason", "r", "-n", "kube-system", by=admin)
    assert (done.returncode, "killswitch never stops it" in done.stderr) == (1, True)


def test_an_unreachable_server_is_exit_5(stage: Stage) -> None:
    """And what held before still holds, which is said."""
    port = free_port()
    server = stage.control_plane.server
    text = stage.control_plane.user("alice").kubeconfig.read_text()
    path = stage.control_plane.directory / "unreachable.kubeconfig"
    path.write_text(text.replace(server, f"https://127.0.0.1:{port}"))
    done = stage.run("stop", "--all", "--reason", "r", "--kubeconfig", str(path))
    assert (done.returncode, "kubectl cluster-info" in done.stderr) == (5, True)


def test_a_node_is_cordoned_and_held(kernel: ControlPlane, stage: Stage) -> None:
    """A ClusterShutdown; the pods there run on, which is said."""
    # Where the records of node stops live; another suite may have made it.
    kernel.api().create("/api/v1/namespaces", {"metadata": {"name": "killswitch-system"}})
    done = stage.raw("stop", "--node", "cli-1", "--reason", "r", by=kernel.admin)
    assert (done.returncode, "cordoned and held" in done.stdout) == (0, True), done.stdout
    assert "every node is cordoned" in done.stdout
    assert "an uncordon was tried and denied" in done.stdout
    assert [each for each in ("every pod", "no pod left") if each in done.stdout] == []
    node = kernel.api().get("/api/v1/nodes/cli-1").body
    assert node["spec"]["unschedulable"]
    (line,) = [each for each in done.stdout.splitlines() if each.startswith("Back: ")]
    name = line.split("approve ")[1].split(" ")[0]
    kernel.kubectl(
        "create",
        "clusterrolebinding",
        "cli-nodes",
        "--clusterrole=cli-nodes",
        "--user=bob",
        "--user=carol",
    )
    kernel.kubectl(
        "create", "clusterrole", "cli-nodes", "--verb=get,patch,release,restore",
        "--resource=clustershutdowns.killswitch.dev",
    )  # fmt: skip
    assert "--cluster --reason" in line
    for person in ("bob", "carol"):
        done = stage.raw("approve", name, "--cluster", "--reason", "ok", by=person)
    kernel.kubectl("delete", "clusterrolebinding", "cli-nodes")  # others' tests are about its lack
    assert done.returncode == 0, done.stderr
    assert "Released: 2 of 2 (bob, carol)" in done.stdout


def test_ctrl_c_says_that_the_lock_stays(stage: Stage) -> None:
    """Exit 130; the Shutdown is engaged."""
    stage.deployment()
    from tests.cli.conftest import PROGRAM

    user = stage.control_plane.user("carol")
    stage.control_plane.kubectl(
        "patch", "deployment/vllm", "-n", stage.namespace, "--type=merge",
        "-p", '{"metadata":{"labels":{"x":"y"}}}',
    )  # fmt: skip
    pods = stage.pods()
    for pod in pods:  # a finalizer keeps the pods: the stop would wait for its deadline
        path = f"/api/v1/namespaces/{stage.namespace}/pods/{pod}"
        stage.control_plane.api().patch(path, {"metadata": {"finalizers": ["example.org/stay"]}})
    process = subprocess.Popen(
        [str(PROGRAM), "stop", "--all", "--reason", "r", "-n", stage.namespace],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"KUBECONFIG": str(user.kubeconfig)},
        # A shell that runs the tests in its background has them ignore Ctrl-C, and their children.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    eventually(lambda: stage.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"])
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    (made,) = stage.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"]
    name = made["metadata"]["name"]
    expected = (
        "Interrupted: stop everything, after the lock.\n"
        f"Why: by Ctrl-C; Shutdown {stage.namespace}/{name} is engaged and holds until 2 people "
        "approve. What was not stopped by now is left to the operator, where one runs\n"
        f"Next: see how far it came: kubectl killswitch why {name} -n {stage.namespace}\n"
    )
    assert (process.returncode, said) == (130, expected)
    for pod in pods:
        path = f"/api/v1/namespaces/{stage.namespace}/pods/{pod}"
        stage.control_plane.api().patch(path, {"metadata": {"finalizers": None}})


def test_pods_that_do_not_end_are_named_with_their_node(stage: Stage) -> None:
    """Exit 4 with pod and node; never a forced delete."""
    stage.deployment(replicas=1)
    (pod,) = stage.pods()
    path = f"/api/v1/namespaces/{stage.namespace}/pods/{pod}"
    api = stage.control_plane.api()
    api.patch(path, {"metadata": {"finalizers": ["example.org/stay"]}})
    done = stage.run("stop", "--all", "--reason", "r", "--deadline", "2s")
    assert (
        done.returncode,
        f"pod {stage.namespace}/{pod} on cli-0, terminating" in done.stdout,
    ) == (4, True)
    assert "The lock holds all the same" in done.stdout
    api.patch(path, {"metadata": {"finalizers": None}})


def test_an_unknown_node_points_to_the_nodes(stage: Stage) -> None:
    """Nodes are looked up among nodes, not in a namespace."""
    done = stage.raw("stop", "--node", "nope", "--reason", "r", by=stage.control_plane.admin)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "Next: see what is there: kubectl get nodes",
    )


def test_without_rights_on_nodes_the_cure_stays_with_the_node(stage: Stage) -> None:
    """Never a stop of a whole namespace in its place."""
    done = stage.run("stop", "--node", "cli-1", "--reason", "r")
    assert (done.returncode, "--all" in done.stderr) == (3, False)
    assert "someone who may patch nodes runs: kubectl cordon cli-1" in done.stderr
    assert "you lack list nodes and patch nodes" in done.stderr


def test_without_list_rights_a_workload_is_locked_by_its_name(open_stage: Stage) -> None:
    """The next step is as narrow as what was asked, and works as printed."""
    open_stage.govern()
    rules = [{"apiGroups": ["killswitch.dev"], "resources": ["shutdowns"], "verbs": ["create"]}]
    open_stage.grant("lockers", rules, "alice")
    open_stage.deployment()
    done = open_stage.run("stop", "-w", "deploy/vllm", "--reason", "it's bad")
    assert (done.returncode, "--all" in done.stderr) == (3, False)
    command = done.stderr.splitlines()[-1].partition(": printf ")[2]
    plane = open_stage.control_plane
    path = f"{plane.kubectl_path.parent}:{os.environ['PATH']}"
    kubeconfig = str(plane.user("alice").kubeconfig)
    subprocess.run(
        ["sh", "-c", f"printf {command}"],
        check=True,
        env={**os.environ, "PATH": path, "KUBECONFIG": kubeconfig},
    )
    (made,) = open_stage.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"]
    assert made["spec"]["locks"] == {"deployments.apps/vllm": "Deployment/vllm"}
    scale = f"/apis/apps/v1/namespaces/{open_stage.namespace}/deployments/vllm/scale"
    raised = plane.api().patch(scale, {"spec": {"replicas": 3}}, dry_run=True)
    assert "held down by Shutdown" in raised.message


def test_a_lock_that_cannot_be_tried_is_not_proven_and_no_failure(open_stage: Stage) -> None:
    """Labels that nothing carries, and no right to try a pod: exit 0, in these words."""
    open_stage.govern()
    open_stage.grant("people", without("create", of="pods"), "alice")
    done = open_stage.run("stop", "--labels", "app=nothing", "--reason", "r")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verified: no pod left" in done.stdout
    assert "Not proven: the lock is engaged, but the lock could not be tried" in done.stdout
    assert "not complete" not in done.stdout


def test_true_moments_are_stored_by_who_may(stage: Stage) -> None:
    """The manager then tells times from the decision, not from a whole second."""
    rule = {"apiGroups": ["killswitch.dev"], "resources": ["shutdowns/status"], "verbs": ["patch"]}
    stage.grant("reporters", [rule], "alice")
    stage.deployment()
    name = stage.stop("-w", "deployment/vllm")
    body = stage.shutdown(name)
    stages = ["decided", "locked", "deleted", "recorded", "scaled", "proven", "stopped"]
    assert sorted(body["status"]["stages"]) == sorted(stages)
    assert {each["type"]: each["status"] for each in body["status"]["conditions"]} == {
        "Locked": "True",
        "Stopped": "True",
    }
    writers = {each["manager"] for each in body["metadata"]["managedFields"]}
    assert "killswitch-cli" in writers


def test_who_may_not_report_stops_all_the_same(stage: Stage) -> None:
    """Nothing is stored and nothing is said about it."""
    name = stage.stop("--all")
    assert "status" not in stage.shutdown(name)


def test_who_may_lock_a_node_but_not_cordon_it_is_told_who_can(stage: Stage) -> None:
    """Exit 4 and the one plain line that is missing."""
    plane = stage.control_plane
    (node,) = plane.add_gpu_nodes(1, gpus=1, prefix="cli-open")
    for role, verbs, resource in (
        ("cli-lookers", "get,list", "nodes"),
        ("cli-lockers", "get,create", "clustershutdowns.killswitch.dev"),
    ):
        plane.kubectl("create", "clusterrole", role, f"--verb={verbs}", f"--resource={resource}")
        plane.kubectl("create", "clusterrolebinding", role, f"--clusterrole={role}", "--user=dave")
    done = stage.run("stop", "--node", node, "--reason", "r", "--deadline", "1s", by="dave")
    plane.kubectl("delete", "clusterrolebinding", "cli-lookers", "cli-lockers")
    assert (done.returncode, done.stderr) == (4, "")
    assert f"Not verified: still schedulable: {node}" in done.stdout
    assert f"Next: someone who may patch nodes runs: kubectl cordon {node}\n" in done.stdout


def test_a_refused_stop_says_that_it_governed(open_stage: Stage) -> None:
    """Who may label but not lock has changed one thing, and is told so."""
    namespaces = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "patch"]}
    govern = {
        "apiGroups": ["killswitch.dev"], "resources": ["shutdowns"], "verbs": ["release"],
    }  # fmt: skip
    open_stage.grant("labellers", [namespaces, govern], "dave")
    done = open_stage.run("stop", "--all", "--reason", "r", by="dave")
    labels = open_stage.control_plane.api().get(f"/api/v1/namespaces/{open_stage.namespace}").body
    governed = "killswitch.dev/governed" in labels["metadata"]["labels"]
    said = f"namespace {open_stage.namespace} is governed now" in done.stderr
    assert (done.returncode, said) == (3, governed), done.stderr


def test_a_failing_webhook_is_told_in_the_servers_words(stage: Stage) -> None:
    """The API server did answer; nothing was locked and nothing touched."""
    stage.deployment()
    api = stage.control_plane.api()
    hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    hook = {
        "name": "bad.example.org",
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": f"https://127.0.0.1:{free_port()}/x"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}},
        "rules": [
            {
                "apiGroups": ["killswitch.dev"],
                "apiVersions": ["*"],
                "operations": ["CREATE"],
                "resources": ["shutdowns"],
            }
        ],
    }
    assert api.create(hooks, {"metadata": {"name": "cli-bad"}, "webhooks": [hook]}).status == 201
    probe = {
        "apiVersion": "killswitch.dev/v1alpha1",
        "kind": "Shutdown",
        "metadata": {"name": "probe", "labels": {"killswitch.dev/engaged": "true"}},
        "spec": {
            "requestedBy": "admin",
            "reason": "does the webhook fail yet?",
            "requiredApprovals": 1,
            "scope": {"wholeNamespace": True},
        },
    }
    path = f"/apis/killswitch.dev/v1alpha1/namespaces/{stage.namespace}/shutdowns"
    eventually(lambda: "failed calling" in api.create(path, probe, dry_run=True).message)
    try:
        done = stage.run("stop", "--all", "--reason", "r")
    finally:
        api.delete(f"{hooks}/cli-bad")
    assert 'failed calling webhook "bad.example.org"' in done.stderr
    assert "stopped answering" not in done.stderr
    assert (done.returncode != 0, len(stage.pods())) == (True, 2)
    assert stage.get("/apis/killswitch.dev/v1alpha1 shutdowns")["items"] == []
