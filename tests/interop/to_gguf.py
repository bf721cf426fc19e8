# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's own converter on many tiny folders in one process, for it takes long to start. It
brings its own gguf-py, so it cannot be a test's process.

    $(scripts/interop-env) tests/interop/to_gguf.py FOLDER OUT.gguf [FOLDER OUT.gguf ...]
"""
import logging
import pathlib
import sys

SOURCES = pathlib.Path(sys.prefix) / "llama.cpp"
sys.dont_write_bytecode = True
sys.path[:0] = [str(SOURCES), str(SOURCES / "gguf-py")]


def main():
    import convert_hf_to_gguf
    from conversion.base import TextModel
    from conversion.phi import Phi3MiniModel

    # It knows a pre-tokeniser by a digest of what the whole vocabulary makes of a text, and asks
    # the hub for it by that. The tiny vocabulary's is GPT-2's.
    TextModel.get_vocab_base_pre = lambda _self, _tokenizer: "gpt-2"
    # Whatever vocabulary the family has else: that is not what these files are for.
    TextModel._set_vocab_sentencepiece = TextModel._set_vocab_gpt2
    Phi3MiniModel.set_vocab = TextModel._set_vocab_gpt2
    logging.disable(logging.WARNING)
    for folder, out in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        pairs, sys.argv[1:] = sys.argv[1:], [folder, "--outfile", out, "--outtype", "f32"]
        convert_hf_to_gguf.main()
        sys.argv[1:] = pairs


if __name__ == "__main__":
    main()
