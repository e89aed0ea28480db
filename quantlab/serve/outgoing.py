"""Send requests and e-mail to where the operator allows it, and nowhere else.

A host must be on the list, and every address that its name resolves to must be public; the
connection goes to an address that was looked at, not to the name once more. Redirects are answers
like any other. All of it has one deadline.
"""

from __future__ import annotations

import http.client
import ipaddress
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from threading import Timer
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from quantlab.errors import QuantlabError, shown
from quantlab.serve.settings import Settings

SECONDS = 10.0
"""For one message, all together."""
LONGEST_ADDRESS = 2000
PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotSentError(QuantlabError):
    """A message was not taken, or may not go there."""


@dataclass(frozen=True)
class Outgoing:
    """What may be sent where. ``hosts`` are names, or names with ports; ``private``: also to
    addresses of private networks and this machine, and without TLS."""

    hosts: tuple[str, ...] = ()
    private: bool = False
    smtp: str = ""
    sender: str = ""
    seconds: float = SECONDS
    resolve: Callable[..., Sequence[tuple[Any, ...]]] = socket.getaddrinfo

    @classmethod
    def of(cls, settings: Settings) -> Outgoing:
        """As the settings have it."""
        return cls(
            settings.alert_hosts, settings.alert_private, settings.alert_smtp, settings.alert_from
        )

    def check_url(self, url: str) -> SplitResult:
        """The parts of an address that may be sent to. Raises NotSentError."""
        try:
            parts, port = urlsplit(url), urlsplit(url).port
        except ValueError as error:
            raise NotSentError("the address is no URL.", "Such as https://HOST/PATH") from error
        plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
        if not (plain and parts.hostname and len(url) <= LONGEST_ADDRESS) or "@" in parts.netloc:
            raise NotSentError("the address is no URL.", "Such as https://HOST/PATH")
        if parts.scheme != "https" and not (parts.scheme == "http" and self.private):
            raise NotSentError("the address does not begin with https://.")
        usual = PORTS[parts.scheme]
        self._check_host(parts.hostname, port or usual, usual)
        return parts

    def check_mail(self, address: str) -> None:
        """Raises NotSentError for an e-mail address that may not be sent to."""
        name, _, domain = address.rpartition("@")
        fits = address.isascii() and address.isprintable() and len(address) <= 254
        if not fits or not name or not domain or any(c in address for c in ' ,;:<>()[]"\\'):
            raise NotSentError(f"{shown(address)} is no e-mail address.", "Such as me@example.org")
        if not self.smtp or not self.sender:
            raise NotSentError(
                "the service sends no e-mail.", "Its operator sets alert_smtp and alert_from."
            )
        self._check_host(domain, 0, 0)

    def _check_host(self, host: str, port: int, usual: int) -> None:
        allowed = {each.lower() for each in self.hosts}
        host = host.lower()
        if f"{host}:{port}" in allowed or (port == usual and host in allowed):
            return
        where = host if port == usual else f"{host}:{port}"
        raise NotSentError(
            f"alerts may not go to {shown(where)}.",
            "The operator lists the hosts that they may go to: alert_hosts in the settings.",
        )

    def addresses(self, host: str, port: int) -> list[tuple[Any, ...]]:
        """What the host's name stands for now, as getaddrinfo answers. Raises NotSentError unless
        all of it may be connected to."""
        try:
            found = list(self.resolve(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            raise NotSentError(f"the host {shown(host)} is not known.") from error
        if not found:
            raise NotSentError(f"the host {shown(host)} is not known.")
        if not self.private and not all(is_public(place[4][0]) for place in found):
            raise NotSentError(
                f"{shown(host)} is at a private address.",
                "The operator may allow that: alert_private in the settings.",
            )
        return found

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> str:
        """Send JSON; returns the answer's status in words. Raises NotSentError for any that is not
        2xx."""
        parts = self.check_url(url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or PORTS[parts.scheme]
        places = self.addresses(host, port)
        try:
            with closing(_Pinned(host, port, places, self.seconds, secure)) as connection:
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                kind = {"Content-Type": "application/json", "User-Agent": "quantlab"}
                connection.request("POST", path, body, {**kind, **headers})
                answer = connection.getresponse()  # its body is not read
                if connection.is_cut:  # headers that end so look whole
                    raise TimeoutError("timed out")
                words = shown(f"{answer.status} {answer.reason}".strip(), 100)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotSentError(f"{shown(host)}: {_reason(error)}.") from error
        if not 200 <= answer.status < 300:
            raise NotSentError(f"{shown(host)} answered {words}.")
        return words

    def mail(self, message: EmailMessage) -> str:
        """Send a message by the operator's mail server; returns what was done. Raises
        NotSentError."""
        self.check_mail(str(message["To"]))
        parts = urlsplit(self.smtp)
        secure, context = parts.scheme == "smtps", ssl.create_default_context()
        if not secure and not parts.password:  # better than none, for a relay without certificates
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host, port = parts.hostname or "", parts.port or (465 if secure else 25)
        try:
            with (
                smtplib.SMTP_SSL(host, port, timeout=self.seconds, context=context)
                if secure
                else smtplib.SMTP(host, port, timeout=self.seconds)
            ) as server:
                server.ehlo_or_helo_if_needed()
                if not secure and (parts.password or server.has_extn("starttls")):
                    server.starttls(context=context)
                if parts.username:
                    server.login(unquote(parts.username), unquote(parts.password or ""))
                server.send_message(message)
        except (OSError, smtplib.SMTPException) as error:
            raise NotSentError(f"the mail server: {_reason(error)}.") from error
        return "accepted by the mail server"


class _Pinned(http.client.HTTPConnection):
    """A connection to one of these addresses, for a host that was looked up. When its time is over
    it is cut, whatever it waits for."""

    def __init__(
        self, host: str, port: int, places: Sequence[tuple[Any, ...]], seconds: float, secure: bool
    ) -> None:
        super().__init__(host, port, timeout=seconds)
        self.default_port = PORTS["https" if secure else "http"]
        self._places, self._secure = places, secure
        self._end = time.monotonic() + seconds
        self.is_cut = False
        self._deadline = Timer(seconds, self._cut)
        self._deadline.daemon = True

    def connect(self) -> None:
        self._deadline.start()
        for place in self._places[:-1]:
            with suppress(OSError):
                self._connect(place)
                break
        else:
            self._connect(self._places[-1])
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.sock.do_handshake()  # when it can be cut

    def _connect(self, place: tuple[Any, ...]) -> None:
        family, kind, protocol, _, address = place
        self.sock = socket.socket(family, kind, protocol)
        try:
            self.sock.settimeout(max(0.01, self._end - time.monotonic()))
            self.sock.connect(address)
        except OSError:
            self.sock.close()
            raise

    def _cut(self) -> None:
        self.is_cut = True
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._deadline.cancel()
        super().close()


def is_public(text: str) -> bool:
    """Whether an IP address is one of the open internet; of one that carries another within it,
    whether that is."""
    found: Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            found = inner
        elif found.is_site_local:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return shown(text, 200).rstrip(".").lower()
