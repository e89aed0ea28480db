"""What is sent goes to where the operator allows it, and nowhere else."""

from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from receiving import mailing, receiving

from quantlab.serve.alerts import Alert, mail_of
from quantlab.serve.outgoing import NotSentError, Outgoing, is_public

HOST = "hooks.example.org"
ALERT = Alert(1, "test", "", "Words.", "", "", {}, False, 60.0)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True), ("1.1.1.1", True), ("2606:4700::1111", True),
        ("127.0.0.1", False), ("127.9.9.9", False), ("0.0.0.0", False), ("10.0.0.1", False),
        ("172.16.5.4", False), ("192.168.1.1", False), ("169.254.169.254", False),
        ("100.64.0.1", False), ("198.18.0.1", False), ("192.0.2.1", False), ("224.0.0.1", False),
        ("240.0.0.1", False), ("255.255.255.255", False), ("::1", False), ("::", False),
        ("fe80::1", False), ("fe80::1%eth0", False), ("fc00::1", False), ("fd12::1", False),
        ("fec0::1", False), ("ff02::1", False), ("2001:db8::1", False),
        ("::ffff:127.0.0.1", False), ("::ffff:10.1.2.3", False), ("::ffff:1.1.1.1", True),
        ("2002:7f00:1::", False), ("2002:0a00:0001::", False), ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False), ("64:ff9b::101:101", True),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def resolved(*addresses: str) -> Any:
    def resolve(_: str, port: int, **__: Any) -> list[Any]:
        kinds = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses]
        return [
            (kind, socket.SOCK_STREAM, 6, "", (each, port))
            for kind, each in zip(kinds, addresses, strict=True)
        ]

    return resolve


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example.org", "//hooks.example.org/", "http://hooks.example.org/",
        "ftp://hooks.example.org/", "file:///etc/passwd", "https://other.example.org/",
        "https://hooks.example.org.evil.example/", "https://evil.example/hooks.example.org",
        "https://evil.example#hooks.example.org", "https://hooks.example.org@evil.example/",
        "https://me:secret@hooks.example.org/", "https://hooks.example.org:8443/",
        "https://hooks.example.org:99999/", "https://hooks.example.org:a/", "https://[::1]/",
        "https://127.0.0.1/", "https://2130706433/", "https://localhost/", "https://[/",
        "https://hooks.example.org/a b", "https://hooks.example.org/\r\nX: y",
        "https://evil.example\\@hooks.example.org/", "https://hooks.example.org\u3002/",
        "https://hooks.example.org/" + "a" * 2000,
    ],
)  # fmt: skip
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(NotSentError):
        Outgoing((HOST,)).check_url(url)


def test_addresses_that_are_allowed() -> None:
    Outgoing((HOST,)).check_url("https://hooks.example.org/a/b?c=d")
    Outgoing((HOST,)).check_url("https://HOOKS.example.org:443/")
    Outgoing(("hooks.example.org:8443",)).check_url("https://hooks.example.org:8443/")
    Outgoing((HOST,), private=True).check_url("http://hooks.example.org/")
    with pytest.raises(NotSentError, match="alert_hosts"):
        Outgoing(("hooks.example.org:8443",)).check_url("https://hooks.example.org/")


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["169.254.169.254"], ["1.1.1.1", "10.0.0.1"], ["::1"], []], ids=str
)
def test_a_name_of_a_private_address_is_not_connected_to(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("it was connected to"))
    outgoing = Outgoing((HOST,), resolve=resolved(*addresses))
    with pytest.raises(NotSentError, match="private address" if addresses else "not known"):
        outgoing.post(f"https://{HOST}/", b"{}", {})


def test_the_address_that_was_looked_at_is_connected_to() -> None:
    """A name that means something else when it is asked for once more gains nothing."""
    asked = []

    with receiving() as got:
        port = int(got.url.rpartition(":")[2])

        def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            return list(resolved("127.0.0.1")(host, port))

        outgoing = Outgoing((f"name.invalid:{port}",), private=True, resolve=resolve)
        assert outgoing.post(f"http://name.invalid:{port}/a?b=c", b"{}", {"X-A": "b"}) == "200 OK"
    assert asked == ["name.invalid"]
    assert got.paths == ["/a?b=c"]
    assert got.bodies == [b"{}"]
    assert got.headers[0]["Host"] == f"name.invalid:{port}"
    assert got.headers[0]["X-A"] == "b"


def here(url: str, **more: Any) -> Outgoing:
    return Outgoing((url.removeprefix("http://"),), private=True, **more)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 410, 429, 500, 503])
def test_other_answers_are_failures(status: int) -> None:
    with (
        receiving() as elsewhere,
        receiving(lambda _: (status, {"Location": elsewhere.url})) as got,
    ):
        with pytest.raises(NotSentError, match=f"answered {status}"):
            here(got.url).post(got.url, b"{}", {})
        assert len(got.bodies) == 1
    assert elsewhere.bodies == [], "no redirect is followed"


def test_the_second_address_is_tried() -> None:
    with receiving() as got:
        port = int(got.url.rpartition(":")[2])
        places = [*resolved("127.0.0.2")("", 9), *resolved("127.0.0.1")("", port)]
        outgoing = here(got.url, resolve=lambda *_, **__: places)
        assert outgoing.post(got.url, b"{}", {}) == "200 OK"


def test_who_does_not_listen_or_answer_is_left() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NotSentError, match=r"127\.0\.0\.1: "):
            here(url, seconds=0.2).post(url, b"{}", {})
    with pytest.raises(NotSentError, match="refused"):
        here(url).post(url, b"{}", {})


def test_who_answers_without_end_is_cut() -> None:
    """Each piece comes in time; all of them do not."""
    from threading import Event, Thread

    over = Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def drip() -> None:
            with closing(server.accept()[0]) as connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not over.wait(0.02):
                    try:
                        connection.sendall(b"X-A: b\r\n")
                    except OSError:
                        return

        thread = Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(NotSentError):
            here(url, seconds=0.5).post(url, b"{}", {})
        over.set()
        thread.join()


MAIL = Outgoing(("example.org",), smtp="smtp://127.0.0.1:25", sender="q@example.org")


@pytest.mark.parametrize(
    "address",
    ["", "me", "@example.org", "me@", "me@example.com", "me@example.org, you@example.org",
     "Me <me@example.org>", "me@example.org\r\nBcc: you@example.com", "a b@example.org",
     "me@evil.com@example.com", "ä@example.org", "a" * 300 + "@example.org"],
)  # fmt: skip
def test_mail_addresses_that_are_refused(address: str) -> None:
    with pytest.raises(NotSentError):
        MAIL.check_mail(address)


def test_mail_addresses_that_are_allowed() -> None:
    MAIL.check_mail("me+alerts@example.org")
    with pytest.raises(NotSentError, match="sends no e-mail"):
        replace(MAIL, smtp="").check_mail("me@example.org")


def test_a_mail_arrives() -> None:
    with mailing() as (url, envelopes):
        outgoing = replace(MAIL, smtp=url)
        outgoing.mail(mail_of(ALERT, "q@example.org", "me@example.org", 60.0))
        with pytest.raises(NotSentError):
            outgoing.mail(mail_of(ALERT, "q@example.org", "me@example.com", 60.0))
    (envelope,) = envelopes
    assert envelope.rcpt_tos == ["me@example.org"]
    assert envelope.mail_from == "q@example.org"
    assert b"Subject: quantlab: a test" in envelope.content
    assert b"Words." in envelope.content


def test_a_mail_server_that_is_away_or_knows_no_tls() -> None:
    with mailing() as (url, envelopes):
        with_password = url.replace("smtp://", "smtp://me:secret@")
        with pytest.raises(NotSentError, match="mail server"):
            replace(MAIL, smtp=with_password).mail(
                mail_of(ALERT, "q@example.org", "me@example.org", 60.0)
            )
    assert envelopes == [], "a password goes over TLS alone"
    with pytest.raises(NotSentError, match="mail server"):
        replace(MAIL, smtp=url).mail(mail_of(ALERT, "q@example.org", "me@example.org", 60.0))
