"""The line to a live session's client: he is told something in time, and asked for a sign of life."""

import asyncio
from typing import Protocol

from services.edge.settings import EdgeSettings
from services.edge.stream.dialects import Message


class Peer(Protocol):
    """The client's end of the socket; a method of one who is gone raises ConnectionError."""

    heard_s: float
    """When a frame of his was last read, pings and pongs included."""
    told_s: float
    """When a message was last sent to him."""
    is_readable: bool
    """Whether more can come from him."""

    async def receive_frame(self) -> str | bytes:
        """Return his next frame; pings are answered on the way.

        SttError where it cannot be read, EOFError where he sends no more but may still listen: `is_readable` is False
        from then on.
        """

    async def send_message(self, message: Message) -> None:
        """Send a message; who does not read on within the time limit is cut off."""

    async def send_ping(self) -> None:
        """Ask for a sign of life."""

    async def send_pong(self) -> None:
        """Send what asks for no answer."""

    def is_gone(self) -> bool:
        """Say whether he is known to have hung up, also while nothing is read from him."""


class Contact:
    """Keeps in touch with one client; `keep` is to be called several times a second."""

    def __init__(self, peer: Peer, settings: EdgeSettings) -> None:
        self._peer = peer
        self._settings = settings
        self._now = asyncio.get_running_loop().time
        self._pinged_s = self._now()

    async def keep(self, beat: Message | None, *, is_read: bool) -> None:
        """Send `beat` where nothing was sent for long; ConnectionError where the client is gone.

        `is_read` is False while the client's frames are not read.
        """
        settings, peer, now_s = self._settings, self._peer, self._now()
        if beat is not None and now_s - peer.told_s > settings.stream_keepalive_s:
            await peer.send_message(beat)
        if not is_read or not peer.is_readable:
            # He cannot be heard to be alive, so he is not asked; but what is sent to one who has gone is refused.
            if peer.is_gone():
                raise ConnectionResetError("the client has hung up")
            await peer.send_pong()
        elif self._pinged_s > peer.heard_s:
            if now_s - self._pinged_s > settings.stream_heartbeat_s / 2:
                raise ConnectionResetError("the client does not answer")
        elif now_s - peer.heard_s > settings.stream_heartbeat_s:
            self._pinged_s = now_s
            await peer.send_ping()
