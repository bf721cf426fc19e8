# SPDX-License-Identifier: Apache-2.0
"""Hone: development and fine-tuning of Transformer models in C, called from Python.

    import hone
    hone.finetune("SmolLM2.gguf", "tickets.jsonl", "my-adapter", epochs=2)
    with hone.Model("SmolLM2.gguf", adapter="my-adapter") as model:
        print(model.chat("Where is my order?").text)
"""
from ._attention import attention, attention_gradients, attention_with_lse, set_threads
from ._events import (Checkpoint, Done, Event, FirstExample, HeldOut, Note, Plan, Progress, Sample,
                      Step)
from ._finetune import Options, finetune
from ._library import (ArgumentError, Error, FileError, InputError, Interrupted, NumericError,
                       OutOfMemoryError, UnsupportedError, lib, text)
from ._model import Evaluated, Evaluation, Generated, Model, ModelInfo

__version__ = text(lib.hone_version())
__all__ = [
    "ArgumentError", "Checkpoint", "Done", "Error", "Evaluated", "Evaluation", "Event", "FileError",
    "FirstExample", "Generated", "HeldOut", "InputError", "Interrupted", "Model", "ModelInfo", "Note",
    "NumericError", "Options", "OutOfMemoryError", "Plan", "Progress", "Sample", "Step",
    "UnsupportedError", "attention", "attention_gradients", "attention_with_lse", "finetune",
    "set_threads",
]
