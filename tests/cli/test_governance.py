"""`govern` and `bypass`: where the lock applies, and the suspensions that always end."""

from tests.cli.conftest import Stage


def test_govern_sets_the_label_once(open_stage: Stage) -> None:
    """A second time says so and is no error."""
    admin = open_stage.control_plane.admin
    first = open_stage.raw("govern", open_stage.namespace, by=admin)
    second = open_stage.raw("govern", open_stage.namespace, by=admin)
    labels = open_stage.control_plane.api().get(f"/api/v1/namespaces/{open_stage.namespace}").body
    assert labels["metadata"]["labels"]["killswitch.dev/governed"] == "true"
    assert (
        (first.returncode, first.stdout.startswith("Governed")),
        (second.returncode, "already" in second.stdout),
    ) == ((0, True), (0, True))


def test_protected_namespaces_are_never_governed(stage: Stage) -> None:
    """Not even by an administrator."""
    done = stage.raw("govern", "kube-system", by=stage.control_plane.admin)
    assert (done.returncode, "protected" in done.stderr) == (1, True)


def test_who_may_not_govern_is_refused(stage: Stage) -> None:
    """Exit 3."""
    assert stage.raw("govern", stage.namespace, by="mallory").returncode == 3


def test_a_bypass_is_made_listed_and_ended(stage: Stage) -> None:
    """With who, why, until when."""
    stage.policy("tokens")
    made = stage.json("bypass", "add", "tokens", "--for", "30m", "--reason", "upgrade")
    assert (made["policy"], made["requestedBy"], made["reason"]) == ("tokens", "alice", "upgrade")
    listed = stage.run("bypass", "list")
    (line,) = [each for each in listed.stdout.splitlines() if made["name"] in each]
    assert "IN FORCE" in line
    ended = stage.run("bypass", "end", made["name"])
    assert (ended.returncode, "counts again" in ended.stdout) == (0, True)
    assert stage.run("bypass", "list").stdout == "No bypass: every policy counts.\n"


def test_a_bypass_needs_its_policy(stage: Stage) -> None:
    """A misspelt name must not look like a bypass in force."""
    done = stage.run("bypass", "add", "nope", "--for", "30m", "--reason", "r")
    assert (done.returncode, "not found" in done.stderr) == (1, True)
