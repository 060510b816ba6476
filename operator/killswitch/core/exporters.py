"""How often exporters renew what they expose, where that is not at each scrape.

Data, with sources. What serves its present state (vLLM, SGLang, TGI, LiteLLM, kube-state-metrics,
node-exporter) is not here: a scrape of it is as fresh as the scrape.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exporter:
    """One exporter with a clock of its own."""

    name: str
    prefixes: tuple[str, ...]
    """Its metrics begin with one of these."""
    every: float
    """Seconds between two renewals, by default."""
    cure: str
    """What to set for a shorter one."""
    source: str


EXPORTERS = (
    Exporter(
        "dcgm-exporter",
        ("DCGM_FI_",),
        30.0,
        "run dcgm-exporter with -c 1000 (milliseconds)",
        "dcgm-exporter pkg/cmd/app.go: --collect-interval, 30000 ms",
    ),
    Exporter(
        "Ray",
        ("ray_",),
        10.0,
        "start Ray with RAY_metrics_report_interval_ms=1000",
        "ray src/ray/common/ray_config_def.h: metrics_report_interval_ms, 10000",
    ),
    Exporter(
        "the kubelet's cAdvisor",
        ("container_",),
        15.0,
        "run the kubelet with --housekeeping-interval=1s, or use a metric of the server itself",
        "kubernetes pkg/kubelet/cadvisor/cadvisor_linux.go: housekeeping each 10 s, up to 15 s",
    ),
    Exporter(
        "Triton",
        ("nv_gpu_", "nv_cpu_", "nv_energy_consumption"),
        2.0,
        "start tritonserver with --metrics-interval-ms 500",
        "triton server docs/user_guide/metrics.md: --metrics-interval-ms, 2000",
    ),
    Exporter(
        "the OpenTelemetry push",
        ("guardrails_",),
        60.0,
        "set OTEL_METRIC_EXPORT_INTERVAL=1000 (milliseconds) where it pushes from",
        "OpenTelemetry specification, SDK environment variables: 60000 ms; NeMo Guardrails pushes",
    ),
)


def of(metric: str) -> Exporter | None:
    """The exporter with a clock of its own that this metric comes from, as its name tells."""
    return next((each for each in EXPORTERS if metric.startswith(each.prefixes)), None)
