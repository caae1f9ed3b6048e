"""As much of a websocket client as the demo needs: read text, answer pings, close (RFC 6455)."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import time
from dataclasses import dataclass

GREETING = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # fixed by RFC 6455 section 1.3
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@dataclass(frozen=True)
class Frame:
    """One frame: whether it ends its message, what it is, and what it carries."""

    final: bool
    opcode: int
    payload: bytes


def parse_frame(data: bytes | bytearray) -> tuple[Frame, int] | None:
    """Read the frame at the start of `data`.

    Returns:
        The frame and the number of bytes it took; None while it is not complete.
    """
    if len(data) < 2:
        return None
    length, at = data[1] & 0x7F, 2
    if length >= 126:
        width = 2 if length == 126 else 8
        if len(data) < at + width:
            return None
        length, at = int.from_bytes(data[at : at + width], "big"), at + width
    mask = bytes(4)
    if data[1] & 0x80:
        mask, at = bytes(data[at : at + 4]), at + 4
    if len(data) < at + length:
        return None
    payload = bytes(data[at : at + length])
    if any(mask):
        payload = apply_mask(payload, mask)
    return Frame(bool(data[0] & 0x80), data[0] & 0x0F, payload), at + length


def build_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """One final frame as a client must send it: masked with four bytes."""
    head = bytes([0x80 | opcode])
    if len(payload) < 126:
        head += bytes([0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([0x80 | 126]) + len(payload).to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + len(payload).to_bytes(8, "big")
    return head + mask + apply_mask(payload, mask)


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """XOR with a repeated four-byte mask; its own inverse."""
    return bytes(value ^ mask[i % 4] for i, value in enumerate(payload))


class WebSocket:
    """A connection to a server on this machine."""

    def __init__(self, port: int, path: str, timeout_s: float = 30.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.socket.sendall(request.encode())
        self.buffer = bytearray()
        while b"\r\n\r\n" not in self.buffer:
            self._read_more()
        answer, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        proof = base64.b64encode(hashlib.sha1((key + GREETING).encode()).digest())
        if not answer.startswith(b"HTTP/1.1 101") or proof not in answer:
            raise ConnectionError(f"no websocket at port {port}: {answer[:60]!r}")
        self.message = bytearray()
        self.message_opcode = TEXT

    def _read_more(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.buffer += data

    def receive(self, timeout_s: float) -> str | None:
        """The next text message; None when `timeout_s` passed without one.

        Raises:
            ConnectionError: the connection is closed.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            parsed = parse_frame(self.buffer)
            if parsed is not None:
                frame, used = parsed
                del self.buffer[:used]
                text = self._take(frame)
                if text is not None:
                    return text
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            try:
                self._read_more()
            except TimeoutError:
                return None

    def _take(self, frame: Frame) -> str | None:
        """Act on one frame; the text of a message that it completes, None otherwise."""
        if frame.opcode == CLOSE:
            raise ConnectionError("the server closed the connection")
        if frame.opcode == PING:
            self._send(PONG, frame.payload)
        if frame.opcode not in (CONTINUATION, TEXT, BINARY):
            return None
        if frame.opcode != CONTINUATION:
            self.message, self.message_opcode = bytearray(), frame.opcode
        self.message += frame.payload
        if frame.final and self.message_opcode == TEXT:
            return self.message.decode("utf-8")
        return None

    def _send(self, opcode: int, payload: bytes) -> None:
        self.socket.sendall(build_frame(opcode, payload, os.urandom(4)))

    def close(self) -> None:
        """Say goodbye and close; never raises."""
        try:
            self._send(CLOSE, b"")
        except OSError:
            pass
        finally:
            self.socket.close()
