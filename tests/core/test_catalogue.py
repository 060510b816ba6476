from killswitch.core.catalogue import Catalogue, Served
from killswitch.core.kinds import TABLE, Verb
from killswitch.core.resources import DEPLOYMENTS, Resource

ENGINES = Resource("example.com", "v1", "engines", "Engine")
CHARTS = Resource("example.com", "v1", "charts", "Chart")


def test_what_every_cluster_serves_is_known_at_once() -> None:
    """Deployments are; what comes with a CRD is not."""
    catalogue = Catalogue.built_in()
    assert catalogue.find("Deployment") == TABLE["Deployment"]
    assert catalogue.find("InferenceService") is None


def test_a_kind_is_used_in_a_version_that_is_served() -> None:
    """The version that the table was written for, else the one that the server prefers."""
    known = TABLE["InferenceService"].resource
    newer = Resource(known.group, "v2", known.plural, known.kind)
    both = Catalogue([Served(newer, versions=frozenset({"v2", "v1beta1"}))])
    only = Catalogue([Served(newer, versions=frozenset({"v2"}))])
    versions = [each.find("InferenceService") for each in (both, only)]
    assert [found.resource.version for found in versions if found] == ["v1beta1", "v2"]


def test_any_kind_with_scale_is_stopped_by_it() -> None:
    """Its count stands where its definition says."""
    served = [Served(ENGINES, scales=True), Served(CHARTS), Served(DEPLOYMENTS, scales=True)]
    catalogue = Catalogue(served, {ENGINES.key: ("spec", "pool", "size")})
    engine, chart = catalogue.find("Engine.example.com"), catalogue.find("Chart.example.com")
    assert engine is not None
    assert chart is not None
    assert (engine.verb, engine.settings[0].path) == (Verb.SCALE, ("spec", "pool", "size"))
    assert (chart.verb, chart.leaves_children) == (Verb.NONE, True)
    assert catalogue.find("Nothing.example.com") is None


def test_what_has_no_namespace_is_no_workload() -> None:
    """A Shutdown locks in its namespace."""
    zones = Resource("example.com", "v1", "zones", "Zone", namespaced=False)
    assert Catalogue([Served(zones, scales=True)]).find("Zone.example.com") is None
