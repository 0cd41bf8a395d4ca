"""A proxy between a sink and its database that can cut the connection in the middle of a COPY."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Self

from fleetwatch.local.ports import LOOPBACK

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 seconds: closing sends a reset


class CuttingProxy:
    """Forwards a loopback port. ``cut_in_copy`` resets the connection of the next COPY after some of its bytes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self._cut_after = 0
        self._is_cut = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut_in_copy(self, after_bytes: int, timeout: float) -> None:
        """Cut the next COPY when so many of its bytes have gone through, and return when that has happened."""
        self._is_cut.clear()
        self._cut_after = after_bytes
        if not self._is_cut.wait(timeout):
            raise TimeoutError(f"no COPY went through the proxy within {timeout:.0f} s")

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((LOOPBACK, self._target), timeout=5)
            except OSError:  # the server is down
                near.close()
                continue
            far.settimeout(None)
            for here, there, is_request in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(here, there, is_request), daemon=True).start()

    def _pump(self, here: socket.socket, there: socket.socket, is_request: bool) -> None:
        in_copy = -1  # bytes of the COPY that went through; -1 before one
        try:
            while data := here.recv(1 << 14):
                if is_request and self._cut_after:
                    if in_copy < 0 and b"FROM STDIN (FORMAT BINARY)" in data:
                        in_copy = 0
                    elif in_copy >= 0:
                        in_copy += len(data)
                        if in_copy >= self._cut_after:
                            there.sendall(data[: len(data) // 2])
                            break
                there.sendall(data)
            else:
                in_copy = -1
        except OSError:
            in_copy = -1
        is_the_cut = in_copy >= 0
        for side in (here, there):
            with contextlib.suppress(OSError):
                if is_the_cut:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                side.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                side.close()
        if is_the_cut:
            self._cut_after = 0
            self._is_cut.set()
