"""The guard's client against the real API server: what each answer becomes, and what counts as contact."""

import threading
import time
from pathlib import Path

import pytest

from killswitch.core.errors import (
    ConflictError,
    ExpiredError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from killswitch.core.resources import PODS, Resource
from killswitch.node.api import METADATA, Contact, Server, Session, failure_of
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import free_port
from tests.node.guards import eventually

pytestmark = [pytest.mark.cluster]
MAPS = Resource("", "v1", "configmaps", "ConfigMap")
NOBODY = float("-inf")


@pytest.fixture
def server(control_plane: ControlPlane, tmp_path: Path) -> Server:
    """As the administrator."""
    token = tmp_path / "token"
    token.write_text(control_plane.admin.token)
    return Server(control_plane.server, control_plane.ca_file, token)


@pytest.fixture
def contact() -> Contact:
    """Nobody was heard of yet."""
    return Contact(time.monotonic)


@pytest.fixture
def session(server: Server, contact: Contact) -> Session:
    """One connection."""
    return Session(server, contact)


def test_answers_become_errors_of_the_core(session: Session, namespace: str) -> None:
    """Each by its meaning, with the server's words."""
    path = MAPS.path(namespace)
    session.create(path, {"metadata": {"name": "a"}})
    with pytest.raises(ConflictError, match="already exists"):
        session.create(path, {"metadata": {"name": "a"}})
    with pytest.raises(NotFoundError, match="404"):
        session.get(MAPS.path(namespace, "missing"), {})
    with pytest.raises(RefusedError, match="Invalid value"):
        session.create(path, {"metadata": {"name": "A"}})
    session.close()


def test_a_refusal_is_contact(session: Session, server: Server, contact: Contact) -> None:
    """Then a stop through the API still works."""
    server.token_file.write_text("nobody")
    session.ping(5)
    assert contact.at > NOBODY
    with pytest.raises(RefusedError, match="401"):
        session.get(PODS.path(), {})
    session.close()


def test_no_answer_is_none(server: Server, contact: Contact) -> None:
    """Nobody there, or somebody whose certificate is not the cluster's."""
    gone = Server(f"https://127.0.0.1:{free_port()}", server.ca_file, server.token_file)
    with pytest.raises(UnavailableError, match="refused"):
        Session(gone, contact).ping(5)
    other = Server(
        server.url.replace("127.0.0.1", "localhost"),
        Path("/etc/ssl/certs/ca-certificates.crt"),
        server.token_file,
    )
    with pytest.raises(UnavailableError, match=r"CERTIFICATE|certificate|No such file"):
        Session(other, contact).ping(5)
    assert contact.at == NOBODY


def test_metadata_is_all_that_is_sent_of_pods(session: Session, namespace: str) -> None:
    """Neither their environment nor their status."""
    path = PODS.path(namespace)
    spec: dict[str, object] = {"containers": [{"name": "c", "image": "i"}], "nodeName": "gpu-0"}
    eventually(lambda: _created(session, path, spec), "the pod is accepted")
    selector = {"fieldSelector": "spec.nodeName=gpu-0"}
    page = session.get(path, selector, METADATA.format("List"))
    assert [each["metadata"]["name"] for each in page["items"]] == ["p"]
    assert "spec" not in page["items"][0]
    query = {**selector, "watch": "true", "timeoutSeconds": "1"}
    events = list(session.watch(path, query, METADATA.format("")))
    assert events[0]["type"] == "ADDED"
    assert "spec" not in events[0]["object"]


def _created(session: Session, path: str, spec: dict[str, object]) -> bool:
    try:
        session.create(path, {"metadata": {"name": "p"}, "spec": spec})
    except RefusedError:  # the namespace's account is made by a controller
        return False
    return True


def test_an_error_within_a_watch_is_read_like_an_answer() -> None:
    """410: a new list is what follows."""
    status = {"kind": "Status", "code": 410, "message": "too old resource version: 1 (9)"}
    assert isinstance(failure_of(status), ExpiredError)


def test_a_watch_that_another_thread_cuts_ends_at_once(session: Session, namespace: str) -> None:
    """With an error: what was missed meanwhile is listed."""
    ended: list[Exception] = []

    def watch() -> None:
        try:
            list(session.watch(MAPS.path(namespace), {"watch": "true"}, "application/json"))
        except UnavailableError as error:
            ended.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    while thread.is_alive():
        session.cut()
        thread.join(0.05)
    assert len(ended) == 1
    assert session.get(MAPS.path(namespace), {})["kind"] == "ConfigMapList"
    session.close()


def test_a_watch_can_be_cut_as_soon_as_there_is_one(session: Session, namespace: str) -> None:
    """Before anybody waits for its first event."""
    events = session.watch(MAPS.path(namespace), {"watch": "true"}, "application/json")
    session.cut()
    with pytest.raises(UnavailableError):
        list(events)
    session.close()


def test_a_kept_connection_that_was_closed_is_replaced(session: Session) -> None:
    """As a server or a load balancer does with idle ones."""
    session.ping(5)
    session.cut()
    session.ping(5)
    session.close()
