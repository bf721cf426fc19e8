# SPDX-License-Identifier: Apache-2.0
"""The tiny models of every family; those of decoders.py have tests of their own."""
import decoders
import gpt2
import llama

SHAPES = {**llama.SHAPES, **gpt2.SHAPES}
# By transformers' model_type.
FAMILIES = {**decoders.KINDS, "llama": llama.Llama, "gpt2": gpt2.Gpt2}
