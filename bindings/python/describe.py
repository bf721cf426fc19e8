# SPDX-License-Identifier: Apache-2.0
"""describe.py DECLARATIONS MODULE: write the module by which cffi calls what is declared there."""
import sys

import cffi

with open(sys.argv[1], encoding="utf-8") as file:
    declarations = file.read()
ffi = cffi.FFI()
ffi.cdef(declarations)
ffi.set_source("hone._ffi", None)  # nothing is compiled: calls go through libffi
ffi.emit_python_code(sys.argv[2])
