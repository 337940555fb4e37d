"""Who may see the page of a run and end its stream: decided from the headers of a request alone."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN_BYTES = 32
_BEARER = "Bearer "
_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to


def new_token() -> str:
    """Make a secret that nobody guesses."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def own_names(host: str) -> frozenset[str]:
    """Give the names under which a browser may ask for a server that is bound to a host, beside numeric addresses."""
    here = {socket.gethostname(), socket.getfqdn()} if host in _EVERYWHERE else {host}
    return frozenset(name.lower() for name in {"localhost", *here})


@attrs.frozen(kw_only=True)
class Access:
    """Tells which requests are let in.

    Attributes:
        token: secret of the run.
        names: of this machine, in small letters.
    """

    token: str = attrs.field(repr=False)
    names: frozenset[str]

    def is_ours(self, host: str | None) -> bool:
        """Tell whether a request is for this machine by its own name.

        A foreign page can let a name of its own resolve to this machine, and would then be of the same origin; a
        numeric address cannot be had that way.

        Args:
            host: the header `Host`.
        """
        name = _name_of(host)
        return name is not None and (name in self.names or _is_numeric(name))

    def knows_token(self, headers: Mapping[str, str], *, asked: str | None, cookie: str | None) -> bool:
        """Tell whether a request has the token: in `Authorization`, else in the address, else in the cookie.

        Args:
            headers: of the request.
            asked: token in the address, if any.
            cookie: value of the cookie, if any.
        """
        said = headers.get("Authorization")
        if said is not None:
            return said.startswith(_BEARER) and self._is_token(said.removeprefix(_BEARER))
        return self._is_token(asked if asked is not None else cookie or "")

    @staticmethod
    def is_from_here(headers: Mapping[str, str]) -> bool:
        """Tell whether a request that changes something comes from our own page, or from no page at all.

        A browser names the origin of whatever a page posts; a program that has the token in `Authorization`, which
        no foreign page can send, need not.

        Args:
            headers: of the request.
        """
        origin = headers.get("Origin")
        if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return False
        if origin is None:
            return "Authorization" in headers
        return _place_of(origin) == headers.get("Host", "").lower()

    def _is_token(self, said: str) -> bool:
        # What is no UTF-8 came as bytes in disguise.
        return hmac.compare_digest(said.encode(errors="surrogateescape"), self.token.encode())


def _name_of(host: str | None) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname if host and not set(host) & set("@/?#") else None
    except ValueError:
        return None


def _place_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _is_numeric(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
