"""uvicorn's WebSocket protocol, with an end to its patience: ``--ws prices.live.protocol:Frames``.

An application hears of whole messages only. Pings, and the empty parts of a message that never
ends, are read by the server itself: a client that sends nothing else holds up everybody's events
for seconds, and where it does not read, the answers to its pings pile up without a limit.
"""

from __future__ import annotations

import time
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from prices.live.allowance import Allowance

# A message of 64 KB may come in parts of 1 KB, some of them a minute; a ping a second is plenty.
FRAMES_PER_MINUTE = 2_000
# Frames of six bytes: so much is read at once before they are counted.
PIECE_BYTES = 4_096
POLICY = 1008
CLOSE_SECONDS = 1.0


class Frames(WebSocketsSansIOProtocol):
    """One connection. Frames beyond its allowance end it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._allowance = Allowance(FRAMES_PER_MINUTE, now=time.monotonic())

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + PIECE_BYTES])

    def handle_events(self) -> None:
        now = time.monotonic()
        if all(self._allowance.take(now=now) for _ in self.conn.events):
            super().handle_events()
        else:
            self._end()

    def _end(self) -> None:
        self.conn.fail(POLICY, f"more than {FRAMES_PER_MINUTE} frames in a minute")
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()
        # It may never read that.
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
