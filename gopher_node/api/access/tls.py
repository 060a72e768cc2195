"""The certificate that the node serves HTTPS with, and its renewal while the node runs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from gopher_node.api.middleware import log
from gopher_node.errors import SettingError

LOOK_EVERY = 60.0
"""Seconds between two looks at the files."""


class Certificate:
    """A certificate and its key, in `context`. While it is watched, new handshakes use the files as they are then."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises SettingError if the files are of no use."""
        self._files = (certificate, key)
        try:
            self._seen = self._state()
            self.context = self._load()
        except OSError as error:
            raise SettingError(
                f"SERVER_TLS_CERT={certificate} SERVER_TLS_KEY={key} cannot be used: {_reason(error)}. "
                "Name a certificate with its chain, and its private key without a password, both as readable PEM."
            ) from error
        self.context.set_alpn_protocols(["http/1.1"])
        self.failure: str | None = None
        """Why the files as they are now are of no use, and those before still serve."""
        self._timer: asyncio.TimerHandle | None = None

    def _load(self, into: ssl.SSLContext | None = None) -> ssl.SSLContext:
        context = into or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Without a password here, an encrypted key would have the start wait for one at the terminal.
        context.load_cert_chain(*self._files, password="")
        return context

    def _state(self) -> list[tuple[int, int, int]]:
        return [(found.st_mtime_ns, found.st_size, found.st_ino) for found in (file.stat() for file in self._files)]

    def watch(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look_again)

    def forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look_again(self) -> None:
        self.renew()
        self.watch()

    def renew(self) -> None:
        """Take renewed files into use. Those of no use are reported, and the last good ones stay."""
        try:
            state = self._state()
            if state == self._seen:
                self.failure = None
                return
            # Tried apart first: a certificate whose key does not fit must not harm what is in use.
            self._load()
            self._load(into=self.context)
        except OSError as error:
            self.failure = _reason(error)
            log.error("tls.not_renewed", certificate=str(self._files[0]), error=self.failure)
            return
        self._seen, self.failure = state, None
        log.info("tls.renewed", certificate=str(self._files[0]))


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason.replace("_", " ").lower() if error.reason else "they hold no certificate and key as PEM"
    return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
