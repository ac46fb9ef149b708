"""Keeps what OpenCV's decoders say about odd files off the process's standard error."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2

_C_STDERR = {"linux": "stderr", "darwin": "__stderrp"}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence OpenCV's log and, on Linux and macOS, what C libraries print to ``stderr``.

    libpng and libjpeg print with C's ``fprintf(stderr, ...)`` whatever OpenCV's log level is. Only
    that stream of C is pointed elsewhere, for as long as any thread is inside: the file descriptor
    is left alone, so that Python's own ``sys.stderr``, other programs that are started meanwhile
    and crash reports are not touched.
    """
    _silence.enter()
    try:
        yield
    finally:
        _silence.leave()


class _Silence:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._level = 0
        self._stream: int | None = None
        self._variable, self._nowhere = _c_stderr()

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside > 1:
                return
            self._level = _log_levels().getLogLevel()
            _log_levels().setLogLevel(0)
            if self._variable is not None:
                self._stream, self._variable.value = self._variable.value, self._nowhere

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside:
                return
            _log_levels().setLogLevel(self._level)
            if self._variable is not None:
                self._variable.value = self._stream


def _log_levels() -> Any:
    # OpenCV 5 moved the two functions.
    return cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging


def _c_stderr() -> tuple[ctypes.c_void_p | None, int | None]:
    """C's variable ``stderr`` and a stream that leads nowhere; None where there is no such."""
    name = _C_STDERR.get(sys.platform)
    if name is None:
        return None, None
    try:
        library = ctypes.CDLL(None)
        variable = ctypes.c_void_p.in_dll(library, name)
        library.fopen.restype = ctypes.c_void_p
        nowhere = library.fopen(b"/dev/null", b"w")
    except (OSError, ValueError, AttributeError):
        return None, None
    return (variable, nowhere) if nowhere else (None, None)


_silence = _Silence()
