# SPDX-License-Identifier: Apache-2.0
"""The shared library, its errors as exceptions, and contexts that end with what hangs on them."""
from __future__ import annotations

import os
import pathlib
import threading
from typing import Any, Optional

from . import _ffi  # type: ignore[attr-defined]  # made when the package is built

ffi: Any = _ffi.ffi
lib: Any = ffi.dlopen(str(pathlib.Path(__file__).with_name("libhone.so")))


class Error(Exception):
    """What the library could not do. str() of it is the library's one line: file, place and the values
    that disagree."""


class ArgumentError(Error, ValueError):
    """A wrong argument or option, or an array of a shape, type or stride that cannot be."""


class InputError(Error, ValueError):
    """A file that is damaged or not what it should be."""


class UnsupportedError(Error, NotImplementedError):
    """Well-formed input that Hone does not support."""


class FileError(Error, OSError):
    """The operating system refused."""


class OutOfMemoryError(Error, MemoryError):
    """More memory than there is, or than was allowed."""


class NumericError(Error, ArithmeticError):
    """NaN or infinity where none may be."""


class Interrupted(Error):
    """Stopped on request; what was reached is kept."""


_ERRORS = {lib.HONE_ERROR_ARGUMENT: ArgumentError, lib.HONE_ERROR_INPUT: InputError,
           lib.HONE_ERROR_UNSUPPORTED: UnsupportedError, lib.HONE_ERROR_IO: FileError,
           lib.HONE_ERROR_MEMORY: OutOfMemoryError, lib.HONE_ERROR_NUMERIC: NumericError,
           lib.HONE_INTERRUPTED: Interrupted}


def text(pointer: Any) -> str:
    """A C string; NULL is empty."""
    return ffi.string(pointer).decode("utf-8", "replace") if pointer else ""


def path(name: "os.PathLike[str] | str") -> bytes:
    return os.fsencode(name)


class Context:
    """A context of the library. It, and what is made with it, is one thread's at a time: `lock` sees to
    that, for threads that share a model."""

    def __init__(self, threads: int = 0, isa: Optional[str] = None) -> None:
        self.lock = threading.RLock()
        options = ffi.new("HoneContextOptions *")
        level = ffi.new("char[]", isa.encode()) if isa else ffi.NULL
        options.threads, options.isa = threads, level
        made = ffi.new("HoneContext **")
        status = lib.hone_context_create(options, made)
        self.handle = ffi.gc(made[0], lib.hone_context_free) if made[0] else ffi.NULL
        self.check(status)

    def check(self, status: int) -> None:
        """Raise the exception of a status that is not HONE_OK."""
        if status != lib.HONE_OK:
            message = text(lib.hone_context_error(self.handle))
            raise _ERRORS[status](message or text(lib.hone_status_name(status)))

    def close(self) -> None:
        """Free it; everything made with it is freed before."""
        if self.handle:
            ffi.release(self.handle)
            self.handle = ffi.NULL
