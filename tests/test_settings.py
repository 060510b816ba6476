"""Settings that would be unsound are refused with the cure, before anything starts."""

from typing import Any

import pytest

from killswitch.settings import Settings

KEYS = {"event_keys_file": "/keys"}
TLS = {"tls_cert_file": "/tls.crt", "tls_key_file": "/tls.key"}


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({"listen": "127.0.0.1:8080", **KEYS}, ("127.0.0.1", 8080)),
        ({"listen": "[::1]:8080", **KEYS}, ("::1", 8080)),
        ({"listen": "192.0.2.1:8443", **KEYS, **TLS}, ("192.0.2.1", 8443)),
        ({"listen": "192.0.2.1:80", "allow_plain_http": True, **KEYS}, ("192.0.2.1", 80)),
    ],
)
def test_where_the_reactor_may_listen(given: dict[str, Any], address: tuple[str, int]) -> None:
    """On loopback, with TLS, or where somebody said so."""
    assert Settings(**given).listen_address == address


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"listen": "192.0.2.1:8443", **KEYS}, "without TLS"),
        ({"listen": "192.0.2.1:8443", **TLS}, "needs event_keys_file"),
        ({"listen": "8443", **KEYS}, "not host:port"),
        ({"listen": ":8443", **KEYS}, "not host:port"),
        ({"listen": "127.0.0.1:0", **KEYS}, "not host:port"),
        ({"tls_cert_file": "/tls.crt"}, "go together"),
        ({"audit_listen": "192.0.2.1:8444", **KEYS}, "audit_listen is 192.0.2.1:8444 without TLS"),
        ({"audit_listen": "127.0.0.1:8444"}, "audit_listen needs event_keys_file"),
        ({"audit_listen": "8444", **KEYS}, "audit_listen is '8444', not host:port"),
        (
            {"audit_listen": "127.0.0.1:1", "metrics_listen": "127.0.0.1:1", **KEYS},
            "as audit_listen",
        ),
        ({"expected_paths": ("poll",)}, "expected_paths"),
        ({"remote_write_tolerance": 0}, "remote_write_tolerance"),
        ({"metrics_listen": "9464"}, "metrics_listen is '9464', not host:port"),
        ({"listen": "127.0.0.1:1", "metrics_listen": "127.0.0.1:1", **KEYS}, "give it another"),
    ],
)
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    """Keys must not cross a network in the clear by omission; nonsense is named."""
    with pytest.raises(ValueError, match=message):
        Settings(**given)


@pytest.mark.parametrize(
    "url", ["10.0.0.1:6443", "http://10.0.0.1:6443", "https://", "https://10.0.0.1/api", ""]
)
def test_an_api_server_is_a_url_that_keeps_the_token_secret(url: str) -> None:
    """No scheme, no TLS or a path: it would fail at the first stop, or tell the token to anybody."""
    with pytest.raises(ValueError, match="api_servers names"):
        Settings(api_servers=(url,))


def test_api_servers_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON, like every list here; the chart writes it so."""
    monkeypatch.setenv("KILLSWITCH_API_SERVERS", '["https://10.0.0.1:6443", "https://[::1]:6443"]')
    assert Settings().api_servers == ("https://10.0.0.1:6443", "https://[::1]:6443")


def test_metrics_are_off_unless_an_address_is_given() -> None:
    """Any address will do: they hold no secret."""
    assert Settings().metrics_address is None
    assert Settings(metrics_listen="192.0.2.1:9464").metrics_address == ("192.0.2.1", 9464)
