"""The chart as Helm renders it: rights, values, settings. No cluster is needed."""

import pytest
import yaml

from killswitch.api import admission
from killswitch.api.rights import roles
from killswitch.settings import Settings
from tests.e2e.chart import CHART, EVERYTHING, GOLDEN, Helm, HelmError, Json, named, of_kind, rights
from tests.e2e.conftest import SYSTEM

AUDIT = {"keysSecret": "auditors", "tlsSecret": "manager-tls"}
RECEIVERS = {"keysSecret": "senders", "tlsSecret": "reactor-tls", "port": 8443}
FORBIDDEN_VERBS = {"*", "release", "restore", "thaw", "bypass", "escalate", "bind", "impersonate"}


def test_lint(offline: Helm) -> None:
    """The chart passes Helm's own review."""
    assert "0 chart(s) failed" in offline.run("lint", "--strict", str(CHART))


def test_every_right_is_known(offline: Helm) -> None:
    """The chart grants exactly the rights that were reviewed last."""
    assert GOLDEN.read_text() == rights(offline.template(EVERYTHING)), (
        "the chart's rights changed. If it is meant: python -m tests.e2e.chart > " + GOLDEN.name
    )


@pytest.mark.parametrize("role", ["reactor", "manager", "responder", "rester"])
def test_roles_take_in_what_the_table_of_kinds_asks_for(offline: Helm, role: str) -> None:
    """Every rule that is made from it, whether or not a cluster serves the kind."""
    rules = named(offline.template(), "ClusterRole", f"killswitch-{role}")["rules"]
    assert [each for each in roles()[role] if each not in rules] == []


def test_further_kinds_get_rights_of_their_own(offline: Helm) -> None:
    """Reading and `/scale`, for processes and responders; none without the value."""
    values = {"kinds": {"extra": [{"group": "example.com", "resource": "models"}]}}
    for role in ("reactor", "manager", "responder"):
        name = f"killswitch-{role}"
        rules = named(offline.template(values), "ClusterRole", name)["rules"]
        found = {
            (resource, verb)
            for rule in rules
            if rule["apiGroups"] == ["example.com"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        assert {("models", "list"), ("models", "watch"), ("models/scale", "patch")} <= found
        assert ("models", "patch") not in found
        plain = named(offline.template(), "ClusterRole", name)["rules"]
        assert "example.com" not in yaml.safe_dump(plain)


def test_aggregated_rights_are_off_until_asked_for(offline: Helm) -> None:
    """Then they are collected by a label of our own, for each process by itself."""
    roles = [each["metadata"]["name"] for each in of_kind(offline.template(), "ClusterRole")]
    assert not [each for each in roles if each.endswith("-kinds")]
    objects = offline.template({"kinds": {"aggregate": True}})
    for process in ("reactor", "manager"):
        role = named(objects, "ClusterRole", f"killswitch-{process}-kinds")
        (selector,) = role["aggregationRule"]["clusterRoleSelectors"]
        label = f"rbac.killswitch.dev/aggregate-to-{process}"
        assert selector == {"matchLabels": {label: "true"}}
        binding = named(objects, "ClusterRoleBinding", f"killswitch-{process}-kinds")
        assert [each["name"] for each in binding["subjects"]] == [f"killswitch-{process}"]


def test_processes_hold_no_right_over_their_own_limits(offline: Helm) -> None:
    """Neither process has a wildcard, a Secret, or a verb by which people let go."""
    objects = offline.template()
    for process in ("killswitch-reactor", "killswitch-manager"):
        rules = [
            rule
            for role in of_kind(objects, "ClusterRole", "Role")
            if role["metadata"]["name"].startswith(process)
            for rule in role["rules"]
        ]
        assert rules
        for rule in rules:
            assert not FORBIDDEN_VERBS & set(rule["verbs"])
            assert not {"*", "secrets"} & {*rule["resources"], *rule["apiGroups"]}


def test_nobody_is_bound_but_the_processes(offline: Helm) -> None:
    """The chart gives no person any right: administrators decide who stops and who releases."""
    bindings = of_kind(offline.template(), "ClusterRoleBinding", "RoleBinding")
    subjects = {(s["kind"], s["name"]) for each in bindings for s in each["subjects"]}
    expected = {
        ("ServiceAccount", "killswitch-reactor"),
        ("ServiceAccount", "killswitch-manager"),
    }
    assert expected == subjects


@pytest.mark.parametrize(
    ("values", "resource", "processes"),
    [
        ({"nodes": {"enabled": False}}, "nodes", ("killswitch-reactor", "killswitch-manager")),
        ({"governAutomatically": False}, "namespaces", ("killswitch-manager",)),
    ],
)
def test_rights_follow_the_values(
    offline: Helm, values: Json, resource: str, processes: tuple[str, ...]
) -> None:
    """What is switched off needs no right, and gets none."""

    def may_patch(objects: list[Json], process: str) -> bool:
        rules = named(objects, "ClusterRole", process)["rules"]
        return any(resource in r["resources"] and "patch" in r["verbs"] for r in rules)

    for process in processes:
        assert may_patch(offline.template(), process)
        assert not may_patch(offline.template(values), process)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"reactorr": {}}, "reactorr"),
        ({"reactor": {"replica": 3}}, "replica"),
        ({"prometheus": {"url": "prometheus:9090"}}, "url"),
        ({"nodes": {"enabled": "no"}}, "enabled"),
        ({"pollInterval": 0}, "pollInterval"),
        ({"protectedNamespaces": ["kube-public", "kube-node-lease"]}, "protectedNamespaces"),
        ({"canary": {"namespace": "kube-system"}}, "canary.namespace"),
        ({"governedNamespaces": ["a", "kube-system"]}, 'names "kube-system", which is protected'),
        ({"governedNamespaces": [SYSTEM]}, f'names "{SYSTEM}", which is protected'),
        ({"metrics": {"prot": 9464}}, "prot"),
        ({"metrics": {"port": 8443}, "receivers": RECEIVERS}, "give one of them another"),
        ({"audit": {"keysSecret": "k"}}, "audit.keysSecret needs audit.tlsSecret"),
        ({"metrics": {"port": 8444}, "audit": AUDIT}, "give one of them another"),
        ({"audit": {"token": "t"}}, "token"),
        ({"tracing": {"endpoint": "collector:4317"}}, "endpoint"),
        ({"manager": {"leaseDuration": 15}}, "leaseDuration"),
        ({"canary": {"namespace": SYSTEM}}, "canary.namespace"),
        ({"kinds": {"extra": ["models.example.com"]}}, "kinds.extra"),
        ({"kinds": {"extra": [{"group": "*", "resource": "models"}]}}, "kinds.extra"),
        ({"kinds": {"extra": [{"group": "example.com", "resource": "*"}]}}, "kinds.extra"),
        ({"kinds": {"extra": [{"group": "example.com", "kind": "Model"}]}}, "kinds.extra"),
        ({"kinds": {"recreate": False}}, "recreate"),
    ],
)
def test_wrong_values_are_refused(offline: Helm, values: Json, complaint: str) -> None:
    """A value that is unknown or cannot work fails before anything is installed."""
    with pytest.raises(HelmError, match=complaint):
        offline.template(values)


def test_listed_namespaces_need_the_right_to_govern_them(offline: Helm) -> None:
    """With governAutomatically off, the manager may label namespaces only if the list names some."""

    def may_patch(**values: object) -> bool:
        objects = offline.template({"governAutomatically": False, **values})
        rules = named(objects, "ClusterRole", "killswitch-manager")["rules"]
        return any("namespaces" in r["resources"] and "patch" in r["verbs"] for r in rules)

    assert not may_patch()
    assert may_patch(governedNamespaces=["models"])


def test_a_process_refuses_to_govern_what_is_protected() -> None:
    """Started without the chart, it says so too."""
    with pytest.raises(ValueError, match="names kube-system, which is protected"):
        Settings(governed_namespaces=("models", "kube-system"))


PROTECTED = ["kube-system", "kube-public", "kube-node-lease"]


def test_added_protected_namespaces_reach_every_admission_policy(offline: Helm) -> None:
    """Each list of protected namespaces that the policies are generated with holds them all."""
    objects = offline.template(
        {"protectedNamespaces": [*PROTECTED, "vault", "dns"]}, namespace="safety"
    )
    rendered = [
        validation["expression"]
        for each in of_kind(objects, "ValidatingAdmissionPolicy")
        for validation in each["spec"]["validations"]
    ]
    generated = [
        validation["expression"]
        for each in admission.manifests()
        for validation in each["spec"].get("validations", ())
    ]
    before = "['kube-system', 'kube-public', 'kube-node-lease', 'killswitch-system']"
    after = "['kube-system', 'kube-public', 'kube-node-lease', 'vault', 'dns', 'safety']"
    assert any(before in each for each in generated)
    expected = [
        each.replace(before, after).replace("killswitch-system", "safety") for each in generated
    ]
    assert expected == rendered


def test_release_namespace_takes_the_place_of_the_default(offline: Helm) -> None:
    """Installed elsewhere, nothing names the default namespace any more."""
    objects = offline.template(namespace="safety")
    assert SYSTEM not in yaml.safe_dump_all(objects)
    assert {"safety"} == {
        subject["namespace"]
        for each in of_kind(objects, "ClusterRoleBinding", "RoleBinding")
        for subject in each["subjects"]
    }


def test_processes_read_what_the_values_say(offline: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every environment variable of the containers arrives in the setting that it is for."""
    objects = offline.template(
        {
            "prometheus": {"url": "https://thanos.example:10902", "timeout": 1.5},
            "pollInterval": 0.25,
            "protectedNamespaces": ["kube-system", "kube-public", "kube-node-lease", "vault"],
            "governAutomatically": False,
            "governedNamespaces": ["models", "more"],
            "canary": {"namespace": "proof", "armedInterval": 20},
            "reactor": {"connections": 12},
            "scrape": {"targets": 30, "targetsPerService": 20},
            "cap": {"targets": 40, "percent": 25, "window": 600},
        },
        namespace="safety",
    )
    known = {f"KILLSWITCH_{name.upper()}" for name in Settings.model_fields}
    for name in ("killswitch-reactor", "killswitch-manager"):
        (container,) = named(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"]
        assert known >= {entry["name"] for entry in container["env"]}
        for entry in container["env"]:
            monkeypatch.setenv(entry["name"], entry.get("value", "safety"))
    expected = Settings(
        namespace="safety",
        protected_namespaces=("kube-system", "kube-public", "kube-node-lease", "vault"),
        prometheus_url="https://thanos.example:10902",
        prometheus_timeout=1.5,
        poll_interval=0.25,
        connections=12,
        scrape_targets=30,
        scrape_targets_per_service=20,
        cap_targets=40,
        cap_percent=25,
        cap_window=600,
        govern_automatically=False,
        governed_namespaces=("models", "more"),
        canary_namespace="proof",
        armed_interval=20,
    )
    assert expected == Settings()


def test_the_reactor_listens_where_keys_are_given(
    offline: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS, beside a Service that finds every replica; the manager gets no key."""
    objects = offline.template(
        {
            "receivers": {
                "keysSecret": "senders",
                "tlsSecret": "reactor-tls",
                "port": 9443,
                "expectedPaths": ["alert"],
                "remoteWriteTolerance": 45,
            }
        }
    )
    pod = named(objects, "Deployment", "killswitch-reactor")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for entry in container["env"]:
        monkeypatch.setenv(entry["name"], entry.get("value", SYSTEM))
    found = Settings()
    assert found.listen == "0.0.0.0:9443"
    assert (found.expected_paths, found.remote_write_tolerance) == (("alert",), 45.0)
    mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each.get("secret") for each in pod["volumes"]}
    for file, secret in (
        (found.event_keys_file, "senders"),
        (found.tls_cert_file, "reactor-tls"),
        (found.tls_key_file, "reactor-tls"),
    ):
        folder = file.rpartition("/")[0]
        assert volumes[mounted[folder]] == {"secretName": secret}
    (port,) = named(objects, "Service", "killswitch-reactor")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (9443, container["ports"][0]["name"])
    manager = named(objects, "Deployment", "killswitch-manager")["spec"]["template"]["spec"]
    assert [each["name"] for each in manager["volumes"]] == ["tmp"]


def test_the_manager_hears_audit_events_where_keys_are_given(
    offline: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS, behind a Service with an address; the reactor gets no key."""
    objects = offline.template({"audit": {**AUDIT, "port": 9444}})
    pod = named(objects, "Deployment", "killswitch-manager")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for entry in container["env"]:
        monkeypatch.setenv(entry["name"], entry.get("value", SYSTEM))
    found = Settings()
    assert (found.audit_listen, found.listen) == ("0.0.0.0:9444", "")
    mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each.get("secret") for each in pod["volumes"]}
    for file, secret in (
        (found.event_keys_file, AUDIT["keysSecret"]),
        (found.tls_cert_file, AUDIT["tlsSecret"]),
        (found.tls_key_file, AUDIT["tlsSecret"]),
    ):
        assert volumes[mounted[file.rpartition("/")[0]]] == {"secretName": secret}
    service = named(objects, "Service", "killswitch-manager")["spec"]
    (port,) = service["ports"]
    assert (port["port"], port["targetPort"]) == (9444, container["ports"][0]["name"])
    assert service.get("clusterIP") is None
    reactor = named(objects, "Deployment", "killswitch-reactor")["spec"]["template"]["spec"]
    assert [each["name"] for each in reactor["volumes"]] == ["tmp"]


def test_default_values_are_the_default_settings(
    offline: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unchanged chart configures what an unconfigured process does, and opens the metrics port."""
    objects = offline.template()
    for deployment in of_kind(objects, "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        for entry in container["env"]:
            monkeypatch.setenv(entry["name"], entry.get("value", SYSTEM))
    configured = Settings()
    for name in list(Settings.model_fields):
        monkeypatch.delenv(f"KILLSWITCH_{name.upper()}", raising=False)
    assert configured.metrics_listen == "0.0.0.0:9464"
    assert Settings() == configured.model_copy(update={"metrics_listen": ""})


@pytest.mark.parametrize("process", ["killswitch-reactor", "killswitch-manager"])
def test_probes_ask_the_metrics_port(offline: Helm, process: str) -> None:
    """Without that port there is nobody to ask, and no probe that would always fail."""

    def container(**metrics: object) -> Json:
        objects = offline.template({"metrics": metrics})
        (found,) = named(objects, "Deployment", process)["spec"]["template"]["spec"]["containers"]
        return dict(found)

    found = container(port=9999)
    assert {"name": "metrics", "containerPort": 9999} in found["ports"]
    assert found["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert found["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    # A reactor may be blind for long and must not be restarted for it: liveness is patient.
    probe = found["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 60
    bare = container(enabled=False)
    assert not {"livenessProbe", "readinessProbe", "ports"} & bare.keys()
    assert "KILLSWITCH_METRICS_LISTEN" not in {each["name"] for each in bare["env"]}


def test_a_pod_monitor_finds_both_processes(offline: Helm) -> None:
    """Only where it is asked for: its kind is another operator's."""
    assert not list(of_kind(offline.template(), "PodMonitor"))
    on = {"enabled": True, "labels": {"release": "prom"}}
    objects = offline.template({"metrics": {"podMonitor": on}})
    monitor = named(objects, "PodMonitor", "killswitch")
    assert monitor["metadata"]["labels"]["release"] == "prom"
    selector = monitor["spec"]["selector"]
    (components,) = selector["matchExpressions"]
    for deployment in of_kind(objects, "Deployment"):
        pod = deployment["spec"]["template"]
        labels = pod["metadata"]["labels"]
        assert selector["matchLabels"].items() <= labels.items()
        assert labels[components["key"]] in components["values"]
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (container,) = pod["spec"]["containers"]
        assert endpoint["port"] in {each["name"] for each in container["ports"]}


def test_traces_go_where_the_values_say(offline: Helm) -> None:
    """To both processes; nowhere by default."""
    name = "OTEL_EXPORTER_OTLP_ENDPOINT"

    def endpoints(values: Json) -> list[str | None]:
        return [
            next((e["value"] for e in container["env"] if e["name"] == name), None)
            for each in of_kind(offline.template(values), "Deployment")
            for container in each["spec"]["template"]["spec"]["containers"]
        ]

    assert endpoints({}) == [None, None]
    url = "http://collector.observability:4318"
    assert endpoints({"tracing": {"endpoint": url}}) == [url, url]


def test_image_by_digest(offline: Helm) -> None:
    """A digest wins over the tag."""
    digest = "sha256:" + "0" * 64
    objects = offline.template({"image": {"tag": "v9", "digest": digest}})
    images = {
        container["image"]
        for each in of_kind(objects, "Deployment")
        for container in each["spec"]["template"]["spec"]["containers"]
    }
    assert {f"killswitch@{digest}"} == images
