# SPDX-License-Identifier: Apache-2.0
"""The tiny models of every family."""
import gpt2
import llama

SHAPES = {**llama.SHAPES, **gpt2.SHAPES}
FAMILIES = {"llama": llama.Llama, "gpt2": gpt2.Gpt2}  # by transformers' model_type
