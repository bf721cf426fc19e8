# SPDX-License-Identifier: Apache-2.0
"""Hone computes the model that transformers computes, from the same weights.

    HONE_BINARY=build/release/hone HONE_MODEL=SmolLM2.gguf "$(scripts/interop-env)" -m pytest \\
        tests/interop/test_same_model.py
"""
import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")
import gguf_to_hf
import models
import numpy as np
import peers
import tiny

ENGLISH = """The lighthouse keeper counted the boats each evening, and each evening the number was \
right. On the third of March it was one too many. He counted again, slowly, touching the glass \
with a finger for every mast: seven, where six had gone out."""
CODE = """#include <stdio.h>\n\nstatic int gcd(int a, int b) {\n    while (b != 0) {\n        int r \
= a % b;\n        a = b;\n        b = r;\n    }\n    return a;\n}\n\nint main(void) {\n\tprintf("%d\\n"\
, gcd(1071, 462)); /* 21 */\n    return 0;\n}\n"""
PYTHON = """def fib(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    \
return a\n\n\nassert [fib(i) for i in range(8)] == [0, 1, 1, 2, 3, 5, 8, 13]\n"""
CHINESE = "春天来了，河边的柳树发出了新芽。老人每天早上沿着河岸散步，遇到熟人就停下来聊几句。第三天，天气忽然转冷，只有七度。"
EMOJI = "👩‍👩‍👧‍👦 at the 🏖️: 🌊🌊🌊 ☀️ → 😎!! Then 🌧️… 😭💔 — 1️⃣2️⃣3️⃣ 🇫🇷🇯🇵 👍🏽👍🏿"
NUMBERS = "Year  1999\t2000\n  42   7\n3.14159265 -273.15 6.022e23 0xFF 1,234,567.89 50% ½ ² ٣ Ⅷ"
MIXED = """Müller & Søn — «Ça va?» спросил он. 「はい」 he wrote: `x[i] += 3;` <b>bold</b> $5.00 \
naïve Ωmega\u00a0\u2009ﬁn\r\n\r\n\t\tE = mc² ∑ᵢ aᵢ ≤ ∞"""
CHAT = """<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n<|im_start|>\
user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\nGravity is the force by which a planet draws \
objects toward its centre.<|im_end|>\n"""


def long_text(tokens=1500):
    """About that many tokens (at most 2048) in which nothing repeats for long."""
    places = ["harbour", "mill", "orchard", "station", "library", "quarry", "chapel", "market"]
    verbs = ["opened", "closed", "burned", "flooded", "moved", "was sold", "fell silent"]
    lines = []
    for day in range(1, tokens // 21):
        place, other = places[day * day % 8], places[(3 * day + 1) % 8]
        lines.append(f"Day {day}: the {place} {verbs[day % 7]} at {day % 24}:{day * 7 % 60:02d}, "
                     f"{'before' if day % 3 else 'after'} the {other}.")
        if day % 16 == 0:
            lines.append(f"（第{day}天）没有消息。\n\tlog[{day}] = None")
    return "\n".join(lines)


TEXTS = {"English": ENGLISH, "code": CODE, "Python": PYTHON, "Chinese": CHINESE, "emoji": EMOJI,
         "numbers": NUMBERS, "mixed": MIXED, "chat": CHAT, "one word": "Hello world",
         "long": long_text()}


def test_smollm2_logprobs(hone, model, tmp_path):
    from transformers import AutoTokenizer

    data = peers.write_texts(tmp_path / "texts.jsonl", TEXTS.values())
    examples = peers.examples_of(hone, model, data, "--no-eos")
    ours = peers.hone_logprobs(hone, model, data, "--no-eos")
    tokenizer = AutoTokenizer.from_pretrained(gguf_to_hf.converted(model))
    peer = peers.reference_model(model)
    theirs = peers.torch_logprobs(peer, examples)
    assert 1500 <= len(examples[-1][0]) <= 2048
    for (name, text), (tokens, targets), a, b in zip(TEXTS.items(), examples, ours, theirs,
                                                     strict=True):
        assert tokens == tokenizer(text, add_special_tokens=False).input_ids, name
        assert targets == list(range(1, len(tokens))), name
        difference = np.abs(a - b).max()
        print(f"{name}: {len(tokens)} tokens, loss {-a.mean():.4f}, worst {difference:.2e}")
        assert difference <= 2e-3, name


# Enough tokens for every shape's context of 256 to be filled, and short ones beside it.
TINY_TEXTS = [ENGLISH[:100], CODE[:180], EMOJI[:20], NUMBERS, "ab", "Q: the end. A: of it and",
              (ENGLISH + PYTHON)[:256]]


@pytest.mark.parametrize("name", models.SHAPES)
def test_tiny_logprobs(hone, tmp_path, name):
    shape = models.SHAPES[name]
    path = shape.write_gguf(tmp_path / "tiny.gguf")
    data = peers.write_texts(tmp_path / "texts.jsonl", TINY_TEXTS)
    examples = peers.examples_of(hone, path, data)
    ours = peers.hone_logprobs(hone, path, data)
    theirs = peers.torch_logprobs(shape.transformers_model().double(), examples)
    worst = peers.largest_difference(ours, theirs)
    print(f"{name}: worst {worst:.2e}")
    assert worst <= 1e-4


def test_tiny_chat_masks(hone, tmp_path):
    """A conversation: only the assistant's words count, and they see what stands before them."""
    shape = models.SHAPES["grouped"]
    path = shape.write_gguf(tmp_path / "tiny.gguf")
    data = tmp_path / "chats.jsonl"
    chat = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "and 1+1?"},
            {"role": "assistant", "content": "two"}, {"role": "user", "content": "sure?"},
            {"role": "assistant", "content": "the same"}]
    data.write_text(json.dumps({"messages": chat}) + "\n")
    [(tokens, targets)] = peers.examples_of(hone, path, data)
    vocabulary = tiny.tokens(shape.merges)
    learnt = "".join(vocabulary[tokens[i]] for i in targets)
    assert learnt == "two<|im_end|>theĠsame<|im_end|>"
    ours = peers.hone_logprobs(hone, path, data)
    theirs = peers.torch_logprobs(shape.transformers_model().double(), [(tokens, targets)])
    assert peers.largest_difference(ours, theirs) <= 1e-4
