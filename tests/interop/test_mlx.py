# SPDX-License-Identifier: Apache-2.0
"""Adapters of MLX-LM: Hone reads the folder that MLX-LM writes and computes what MLX-LM computes."""
import json

import pytest

pytest.importorskip("torch")
mx = pytest.importorskip("mlx.core")
pytest.importorskip("mlx_lm")
import models
import mlx.nn
import mlx.utils
import numpy as np
import peers
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model

TEXTS = ["The library was closed on Monday.", "for (int i = 0; i < n; i++) sum += a[i];", "天气很好。",
         "one two three two one"]
SHAPES = ["plain", "grouped", "odd", "wide"]


def make_adapter(folder, hf, layers, scale, keys=None, kind="lora"):
    """A folder as mlx_lm.lora writes it, with random A and B."""
    model, _ = load_model(hf)
    model.freeze()
    parameters = {"rank": 3, "scale": scale, "dropout": 0.0}
    if keys:
        parameters["keys"] = keys
    linear_to_lora_layers(model, layers, parameters, use_dora=kind == "dora")
    mx.random.seed(1)
    # Magnitudes (vectors) move away from the norms that they begin as.
    model.update(mlx.utils.tree_map(
        lambda p: 0.3 * mx.random.normal(p.shape) if p.ndim == 2 else p * mx.random.uniform(0.7, 1.4, p.shape),
        model.trainable_parameters()))
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"),
                        dict(mlx.utils.tree_flatten(model.trainable_parameters())))
    (folder / "adapter_config.json").write_text(json.dumps(
        {"fine_tune_type": kind, "num_layers": layers, "lora_parameters": parameters,
         "model": str(hf), "iters": 10}))
    return folder


def logprobs(hf, adapter, examples):
    model, _ = load_model(hf)
    if adapter:
        model = load_adapters(model, str(adapter))
    model.eval()
    found = []
    for tokens, targets in examples:
        rows = mlx.nn.log_softmax(model(mx.array([tokens])).astype(mx.float32), axis=-1)
        rows = np.array(rows[0], np.float64)
        found.append(np.array([rows[t - 1, tokens[t]] for t in targets]))
    return found


@pytest.fixture
def tiny(hone, tmp_path):
    def make(name):
        shape = models.SHAPES[name]
        hf = tmp_path / "hf"
        shape.transformers_model().save_pretrained(hf)
        config = json.loads((hf / "config.json").read_text())
        config["rope_theta"] = shape.rope_base  # where MLX-LM looks for it
        (hf / "config.json").write_text(json.dumps(config))
        path = shape.write_gguf(tmp_path / "tiny.gguf")
        data = peers.write_texts(tmp_path / "texts.jsonl", TEXTS)
        return shape, hf, path, data, peers.examples_of(hone, path, data)

    return make


@pytest.mark.parametrize("name", SHAPES)
def test_adapters_give_mlx_lms_numbers(hone, tmp_path, tiny, name):
    shape, hf, path, data, examples = tiny(name)
    base = peers.hone_logprobs(hone, path, data)
    assert peers.largest_difference(base, logprobs(hf, None, examples)) <= 1e-4
    for layers, keys in ((shape.layers, None), (1, ["self_attn.q_proj", "self_attn.k_proj"])):
        adapter = make_adapter(tmp_path / f"adapter{layers}{bool(keys)}", hf, layers, 20.0 / 8, keys)
        ours = peers.hone_logprobs(hone, path, data, "--adapter", adapter)
        theirs = logprobs(hf, adapter, examples)
        worst = peers.largest_difference(ours, theirs)
        print(f"{name}, {layers} layers: worst {worst:.2e}")
        assert worst <= 1e-4
        assert peers.largest_difference(ours, base) > 0.05  # the adapter does something


@pytest.mark.parametrize("name", ["grouped", "odd"])
def test_doras_give_mlx_lms_numbers(hone, tmp_path, tiny, name):
    """As they are, merged, and as PEFT's."""
    shape, hf, path, data, examples = tiny(name)
    base = peers.hone_logprobs(hone, path, data)
    adapter = make_adapter(tmp_path / "adapter", hf, shape.layers, 1.0, kind="dora")
    ours = peers.hone_logprobs(hone, path, data, "--adapter", adapter)
    worst = peers.largest_difference(ours, logprobs(hf, adapter, examples))
    print(f"{name}: worst {worst:.2e}")
    assert worst <= 1e-4
    assert peers.largest_difference(ours, base) > 0.05
    peers.run_hone(hone, "merge", "--model", path, "--adapter", adapter, "--out",
                   tmp_path / "merged.gguf", "--type", "f32")
    merged = peers.hone_logprobs(hone, tmp_path / "merged.gguf", data)
    assert peers.largest_difference(ours, merged) <= 1e-4
    peers.run_hone(hone, "convert", adapter, "--model", path, "--to", "peft", "--out",
                   tmp_path / "peft")
    again = peers.hone_logprobs(hone, path, data, "--adapter", tmp_path / "peft")
    assert peers.largest_difference(ours, again) <= 1e-6


def test_a_merged_mlx_adapter_and_training_from_it(hone, tmp_path, tiny):
    _, hf, path, data, _ = tiny("grouped")
    # Twice as strong, one text's rounding errors grow to 1e-4 on their way through the layers.
    adapter = make_adapter(tmp_path / "adapter", hf, 2, 1.0)
    ours = peers.hone_logprobs(hone, path, data, "--adapter", adapter)
    peers.run_hone(hone, "merge", "--model", path, "--adapter", adapter, "--out",
                   tmp_path / "merged.gguf", "--type", "f32")
    merged = peers.hone_logprobs(hone, tmp_path / "merged.gguf", data)
    assert peers.largest_difference(ours, merged) <= 5e-5
    # Begun from it and written as PEFT's and llama.cpp's: the same numbers before the first update.
    losses = peers.finetune(hone, path, data, tmp_path / "run", "--adapter", adapter, "--steps", 1,
                            "--lr", 1e-12, "--batch", len(TEXTS))
    again = peers.hone_logprobs(hone, path, data, "--adapter", tmp_path / "run")
    assert peers.largest_difference(ours, again) <= 1e-6
    assert abs(losses[0] + np.concatenate(ours).mean()) <= 1e-5


@pytest.mark.parametrize("name", ["plain", "odd"])
def test_embeddings_give_mlx_lms_numbers(hone, tmp_path, tiny, name):
    """Where the head is the embedding, MLX-LM's adapter of the one is that of both."""
    shape, hf, path, data, examples = tiny(name)
    adapter = make_adapter(tmp_path / "adapter", hf, shape.layers, 1.0,
                           ["model.embed_tokens", "self_attn.q_proj"])
    ours = peers.hone_logprobs(hone, path, data, "--adapter", adapter)
    worst = peers.largest_difference(ours, logprobs(hf, adapter, examples))
    print(f"{name}: worst {worst:.2e}")
    assert worst <= 1e-4
