# SPDX-License-Identifier: Apache-2.0
"""`hone translate` writes the tokens that transformers' generate does: greedy and by beam search."""
import json

import numpy as np
import peers
import pytest
import torch
import transformer
from test_transformer import records
from tokenizers import Tokenizer

SEARCHES = {"greedy": (["--beams", 1], {"num_beams": 1}),
            "four": (["--beams", 4], {"num_beams": 4}),
            "short": (["--beams", 5, "--length-penalty", 0.2, "--candidates", 3],
                      {"num_beams": 5, "length_penalty": 0.2, "num_return_sequences": 3}),
            "long": (["--beams", 3, "--length-penalty", 2.5],
                     {"num_beams": 3, "length_penalty": 2.5}),
            "early": (["--beams", 4, "--early"], {"num_beams": 4, "early_stopping": True}),
            "cut": (["--beams", 4, "--max-tokens", 3], {"num_beams": 4, "max_new_tokens": 3})}


@pytest.fixture(scope="module")
def trained(hone, tmp_path_factory):
    """norm → a model that has learnt a little, the sources' file, their tokens."""
    folder = tmp_path_factory.mktemp("trained")
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records(60)))
    found = {}

    def make(norm):
        if norm not in found:
            out = folder / norm
            peers.run_hone(hone, "train", "--architecture", "transformer", "--data", data, "--out",
                           out, "--norm", norm, "--layers", 2, "--channels", 32, "--heads", 4,
                           "--context", 48, "--vocabulary", 300, "--eval-split", 0, "--type", "f32",
                           "--batch", 12, "--steps", 80, "--lr", 2e-3)
            tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
            sources = [transformer.tokens_of(tokenizer, record)[0] for record in records(60)[:24]]
            found[norm] = out / "model.gguf", sources
        return found[norm]

    few = folder / "few.jsonl"
    few.write_text("".join(json.dumps(record) + "\n" for record in records(60)[:24]))
    return few, make


@pytest.mark.parametrize("search", SEARCHES)
def test_same_tokens(hone, trained, search):
    data, make = trained
    path, sources = make("post")
    options, theirs = SEARCHES[search]
    lines = peers.run_hone(hone, "translate", "--model", path, "--data", data, "--max-tokens", 40,
                           "--batch", 7, *options)
    model = transformer.as_marian(path)
    assert len(lines) == len(sources)
    lengths = set()
    for line, source in zip(lines, sources, strict=True):
        with torch.no_grad():
            made = model.generate(torch.tensor([source]), **{"max_new_tokens": 40, **theirs},
                                  attention_mask=torch.ones(1, len(source), dtype=torch.long),
                                  return_dict_in_generate=True, output_scores=True, do_sample=False)
        for i, one in enumerate(line.get("candidates", [line])):
            want = made.sequences[i, 1:].tolist()
            end = want.index(0) if 0 in want else len(want)
            assert one["tokens"] == want[:end]
            assert one["ended"] == (end < len(want))
            if theirs["num_beams"] > 1:
                assert one["score"] == pytest.approx(made.sequences_scores[i].item(), abs=1e-4)
            lengths.add(end)
    assert len(lengths) > 2 or search == "cut"


def test_greedy_with_norms_before(hone, trained):
    data, make = trained
    path, sources = make("pre")
    lines = peers.run_hone(hone, "translate", "--model", path, "--data", data, "--beams", 1,
                           "--max-tokens", 40)
    model = transformer.Transformer(path).eval()
    for line, source in zip(lines, sources, strict=True):
        made, logprob = [0], 0.0
        while len(made) <= 40 and (len(made) == 1 or made[-1] != 0):
            with torch.no_grad():
                row = model([(source, [*made, 0])])[0, -1].log_softmax(-1)
            made.append(int(row.argmax()))
            logprob += float(row.max())
        assert line["tokens"] == (made[1:-1] if made[-1] == 0 else made[1:])
        assert line["logprob"] == pytest.approx(logprob, abs=1e-4)
        assert np.isclose(line["score"], line["logprob"] / (len(made) - 1))


def test_alignment(hone, trained):
    data, make = trained
    path, sources = make("post")
    lines = peers.run_hone(hone, "translate", "--model", path, "--data", data, "--alignment",
                           "--max-tokens", 40)
    model = transformer.as_marian(path)
    model.set_attn_implementation("eager")
    for line, source in zip(lines, sources, strict=True):
        assert line["source_ids"] == source
        before = [0, *line["tokens"]][:len(line["tokens"]) + line["ended"]]
        with torch.no_grad():
            made = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([before]),
                         output_attentions=True)
        want = made.cross_attentions[-1][0].mean(0).numpy()
        got = np.array(line["alignment"])
        assert got.shape == want.shape
        assert np.abs(got - want).max() < 1e-3  # printed to four digits
