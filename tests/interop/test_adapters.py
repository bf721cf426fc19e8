# SPDX-License-Identifier: Apache-2.0
"""Adapters beside PEFT and llama.cpp, on the tiny models: DoRA, adapters of the embedding and the
head, several at once. Gradients of every trained tensor in f64, 20 steps, and the files."""
import json
import pathlib
import shutil
import subprocess
import tempfile

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
import models
import numpy as np
import peers
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from test_same_files import PROBES
from test_same_training import LINES, compare_gradients, gradients, peer_gradients  # noqa: F401

WEIGHTS = {"first": 0.7, "second": -0.4}
STEPS = 24
EMBEDDINGS = {"gpt2": ["wte", "lm_head", "c_attn"],
              "phi3": ["embed_tokens", "lm_head", "qkv_proj", "down_proj"]}
EMBEDDING = ["embed_tokens", "lm_head", "q_proj", "down_proj"]
# what: the options of PEFT
KINDS = {"dora": {"use_dora": True}, "dora-head": {"use_dora": True, "head": True},
         "embed-head": {"embed": True}, "whole": {"whole": True},
         "whole-dora": {"whole": True, "use_dora": True}, "rslora": {"use_rslora": True, "rank": 3, "alpha": 5},
         "bias-all": {"bias": "all", "rank": 3}, "bias-lora": {"bias": "lora_only", "rank": 3},
         "bias-dora": {"bias": "all", "use_dora": True, "rank": 3}}
CASES = [("dora", "odd"), ("dora", "grouped"), ("dora", "half"), ("dora", "gpt2-odd"),
         ("dora-head", "odd"), ("dora-head", "plain"), ("embed-head", "plain"),
         ("embed-head", "odd"), ("embed-head", "half"), ("embed-head", "gpt2-odd"),
         ("embed-head", "gpt2"), ("rslora", "grouped"), ("whole", "plain"), ("whole", "odd"),
         ("whole", "gpt2-odd"), ("whole", "gpt2"), ("whole-dora", "grouped"),
         ("bias-all", "gpt2-odd"), ("bias-lora", "gpt2-odd"), ("bias-dora", "gpt2-odd")]
WHOLE = {"gpt2": ["wte", "ln_f", "h.1.attn.c_attn"],
         "phi3": ["embed_tokens", "norm", "layers.1.self_attn.qkv_proj"],
         "qwen3": ["embed_tokens", "norm", "layers.1.self_attn.q_norm", "layers.1.mlp.up_proj"],
         "gemma3_text": ["norm", "layers.1.self_attn.k_norm", "layers.1.post_attention_layernorm"]}
WHOLE_LLAMA = ["embed_tokens", "norm", "layers.1.self_attn.q_proj"]
SAVED = {"gpt2": "embed,norm,blk.1.attn_qkv.*", "phi3": "embed,norm,blk.1.attn_qkv.weight",
         "qwen3": "embed,norm,blk.1.attn_q_norm.weight",
         "gemma3_text": "norm,blk.1.attn_k_norm.weight,blk.1.post_attention_norm.weight"}
SAVED_LLAMA = "embed,norm,blk.1.attn_q.weight"


def adapter_of(model, folder, kind, b_scale=0.1, seed=0):
    options = dict(KINDS[kind])
    family = model.config.model_type
    if options.pop("head", False):
        options["targets"] = ["lm_head", *models.FAMILIES[family].adapted]
    if options.pop("embed", False):
        options["targets"] = EMBEDDINGS.get(family, EMBEDDING)
    if options.pop("whole", False):
        options["modules_to_save"] = WHOLE.get(family, WHOLE_LLAMA)
    return peers.make_adapter(model, folder, b_scale=b_scale, seed=seed, **options)


@pytest.fixture(scope="module")
def tiny(hone, tmp_path_factory):
    """name → (shape, its GGUF file, probes, their tokens)."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hone-adapters-"))
    probes = peers.write_texts(folder / "probes.jsonl", PROBES)

    def make(name):
        path = folder / f"{name}.gguf"
        if not path.exists():
            models.SHAPES[name].write_gguf(path)
        return models.SHAPES[name], path, probes, peers.examples_of(hone, path, probes)

    yield make
    shutil.rmtree(folder)


def check_close(ours, theirs, limit, what):
    worst = peers.largest_difference(ours, theirs)
    print(f"{what}: worst {worst:.2e}")
    assert worst <= limit, what


def check_llama_cpp(ours, hone, tiny, adapter):
    """As near as on the base alone, where llama.cpp rounds (GELU is a table of halves there)."""
    _, path, probes, examples = tiny
    base = peers.largest_difference(peers.hone_logprobs(hone, path, probes),
                                    peers.llama_logprobs(path, examples))
    print(f"llama.cpp, base: worst {base:.2e}")
    theirs = peers.llama_logprobs(path, examples, adapter)
    check_close(ours, theirs, max(1e-3, 4 * base), "llama.cpp, adapter")


def with_several(model, folders, weights):
    """PEFT's model with all of them active, each one's scale times its weight."""
    kind = model.get_input_embeddings().weight.dtype
    names = list(folders)
    adapted = PeftModel.from_pretrained(model, str(folders[names[0]]), adapter_name=names[0])
    for name in names[1:]:
        adapted.load_adapter(str(folders[name]), adapter_name=name)
    adapted.base_model.set_adapter(names)
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            for name in names:
                if name in module.scaling:
                    module.scaling[name] *= weights[name]
    return adapted.to(kind)


# ---- several at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["odd", "grouped", "gpt2-odd"])
def test_several_with_weights(hone, tiny, tmp_path, name):
    """Of different ranks, scales and targets; as they are, merged, and written as one."""
    shape, path, probes, examples = tiny(name)
    model = shape.transformers_model()
    few = ["c_attn"] if model.config.model_type == "gpt2" else ["q_proj", "down_proj"]
    folders = {"first": peers.make_adapter(model, tmp_path / "first", rank=3, alpha=5, seed=1),
               "second": peers.make_adapter(model, tmp_path / "second", rank=5, alpha=16, seed=2,
                                            targets=few)}
    given = [part for key, folder in folders.items()
             for part in ("--adapter", f"{folder}:{WEIGHTS[key]}")]
    ours = peers.hone_logprobs(hone, path, probes, *given)
    alone = peers.hone_logprobs(hone, path, probes, *given[:2])
    assert np.abs(np.concatenate(ours) - np.concatenate(alone)).mean() > 0.05
    peer = with_several(model.double(), folders, WEIGHTS)
    check_close(ours, peers.torch_logprobs(peer, examples), 1e-4, "PEFT, both")

    one = {}
    for kind in ("peft", "gguf"):
        one[kind] = tmp_path / f"one-{kind}"
        peers.run_hone(hone, "convert", "--model", path, *given, "--to", kind, "--out", one[kind])
        again = peers.hone_logprobs(hone, path, probes, "--adapter", one[kind])
        check_close(ours, again, 1e-5, f"Hone, one {kind} adapter")
    peer = peers.with_adapter(shape.transformers_model().double(), one["peft"])
    ranks = {layer.r["default"] for layer in peer.modules() if isinstance(layer, LoraLayer)}
    assert ranks == {3, 8}
    check_close(ours, peers.torch_logprobs(peer, examples), 1e-4, "PEFT, one adapter")
    check_llama_cpp(ours, hone, tiny(name), one["gguf"])

    merged = tmp_path / "merged.gguf"
    peers.run_hone(hone, "merge", "--model", path, *given, "--out", merged, "--type", "f32")
    check_close(ours, peers.hone_logprobs(hone, merged, probes), 1e-4, "Hone, merged")


def test_equal_scales_are_kept(hone, tiny, tmp_path):
    """Nothing is rounded then: A and B are the parts, side by side."""
    import safetensors.numpy

    shape, path, _, _ = tiny("odd")
    model = shape.transformers_model()
    folders = [peers.make_adapter(model, tmp_path / str(seed), rank=2, alpha=4, seed=seed)
               for seed in (1, 2)]
    peers.run_hone(hone, "convert", "--model", path, "--adapter", folders[0], "--adapter",
                   folders[1], "--to", "peft", "--out", tmp_path / "one")
    parts = [safetensors.numpy.load_file(f / "adapter_model.safetensors") for f in folders]
    joined = safetensors.numpy.load_file(tmp_path / "one" / "adapter_model.safetensors")
    assert sorted(joined) == sorted(parts[0])
    for key, values in joined.items():
        axis = 0 if "lora_A" in key else 1
        assert np.array_equal(values, np.concatenate([part[key] for part in parts], axis)), key


# ---- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("b_scale", [0.1, 0])
@pytest.mark.parametrize("kind, name", CASES)
def test_gradients(hone, gradients, tiny, tmp_path, kind, name, b_scale):  # noqa: F811
    shape, path, _, _ = tiny(name)
    data = peers.write_texts(tmp_path / "texts.jsonl", LINES)
    model = shape.transformers_model()
    adapter = adapter_of(model, tmp_path / "adapter", kind, b_scale)
    result, ours = gradients(path, data, tmp_path / "gradients", adapter)
    adapted = peers.with_adapter(model.double(), adapter, trainable=True)
    loss, theirs = peer_gradients(adapted, peers.examples_of(hone, path, data), model.config)
    worst = compare_gradients(ours, theirs)
    print(f"{kind}, {name}: loss {loss:.6f}, worst gradient at {worst:.2%} of what is allowed")
    assert abs(result["loss"] - loss) < 1e-5 * loss


@pytest.mark.parametrize("kind, name", [
    ("dora", "odd"), ("dora", "gpt2-odd"), ("dora-head", "plain"), ("embed-head", "plain"),
    ("embed-head", "odd"), ("embed-head", "gpt2"), ("rslora", "grouped"), ("whole", "odd"),
    ("whole", "gpt2-odd"), ("whole-dora", "grouped"), ("bias-all", "gpt2-odd")])
def test_losses(hone, tiny, tmp_path, kind, name):
    shape, path, _, _ = tiny(name)
    data = peers.write_texts(tmp_path / "texts.jsonl", LINES)
    model = shape.transformers_model()
    adapter = adapter_of(model, tmp_path / "adapter", kind)
    ours = peers.finetune(hone, path, data, tmp_path / "run", "--adapter", adapter, "--batch", 4,
                          "--steps", STEPS, "--lr", 1e-2, "--schedule", "cosine", "--warmup", 2,
                          "--weight-decay", 0.01)
    adapted = peers.with_adapter(model.double(), adapter, trainable=True)
    steps = peers.steps_of(peers.examples_of(hone, path, data), 4, STEPS)
    theirs = peers.train(adapted, steps, 1e-2, "cosine", 2, 0.01)
    worst = max(abs(a - b) / (1e-3 * b + 1e-3) for a, b in zip(ours, theirs, strict=True))
    print(f"loss {theirs[0]:.4f} -> {theirs[-1]:.4f}, worst step at {worst:.2%} of what is allowed")
    assert worst <= 1
    assert np.mean(theirs[-5:]) < 0.9 * np.mean(theirs[:5])


# ---- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, name", CASES)
def test_files_of_a_run(hone, tiny, tmp_path, kind, name):
    """Trained by Hone from nothing: PEFT, llama.cpp, transformers and merged files give Hone's
    numbers; where llama.cpp has no form for it that is said and no adapter.gguf is left."""
    from transformers import AutoModelForCausalLM

    shape, path, probes, examples = tiny(name)
    data = peers.write_texts(tmp_path / "texts.jsonl", LINES)
    run = tmp_path / "run"
    options = {"dora": ["--method", "dora"],
               "dora-head": ["--method", "dora", "--targets", "all-linear,head"],
               "embed-head": ["--targets", "embed,head,down"], "rslora": ["--rslora"]}.get(kind)
    settings = shape.transformers_model().config
    if "whole" in kind:
        options = ["--save-modules", SAVED.get(settings.model_type, SAVED_LLAMA)]
        options += ["--method", "dora"] if "dora" in kind else []
    if "bias" in kind: # begun from PEFT's, whose biases are trained on
        options = ["--adapter", adapter_of(shape.transformers_model(), tmp_path / "adapter", kind)]
    peers.finetune(hone, path, data, run, *options, "--rank", 3, "--alpha", 8, "--steps", 12,
                   "--lr", 2e-2, "--batch", 8)
    base = peers.hone_logprobs(hone, path, probes)
    ours = peers.hone_logprobs(hone, path, probes, "--adapter", run)
    assert np.abs(np.concatenate(ours) - np.concatenate(base)).mean() > 0.1
    again = tmp_path / "again"
    peers.run_hone(hone, "convert", run, "--model", path, "--to", "peft", "--out", again)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        if kind != "rslora": # whose alpha is then written out
            assert (again / file).read_bytes() == (run / file).read_bytes()
    model = shape.transformers_model().double()
    check_close(ours, peers.torch_logprobs(quietly(peers.with_adapter, model, run), examples), 1e-4,
                "PEFT")
    if "bias" in kind:
        config = json.loads((run / "adapter_config.json").read_text())
        wanted = "lora_only" if settings.model_type == "qwen2" else KINDS[kind]["bias"]
        assert config["bias"] == wanted and config["modules_to_save"] is None
    none = any(word in kind for word in ("dora", "whole", "bias")) or (
        kind == "embed-head" and settings.tie_word_embeddings)
    assert (run / "adapter.gguf").exists() != none
    if not none:
        check_close(ours, peers.hone_logprobs(hone, path, probes, "--adapter",
                                              run / "adapter.gguf"), 1e-6, "Hone, adapter.gguf")
        check_llama_cpp(ours, hone, tiny(name), run / "adapter.gguf")

    merged, folder = tmp_path / "merged.gguf", tmp_path / "merged"
    merge = ["merge", "--model", path, "--adapter", run, "--type", "f32"]
    done = subprocess.run([str(part) for part in (hone, *merge, "--out", merged)],
                          capture_output=True, text=True, timeout=580, check=True)
    check_close(ours, peers.hone_logprobs(hone, merged, probes), 1e-4, "Hone, merged")
    # llama.cpp's Gemma 2 has no head of its own, which adapting one of the two makes.
    own_head = settings.model_type == "gemma2" and kind in ("embed-head", "whole")
    assert ("llama.cpp takes this family's head from its embedding" in done.stderr) == own_head
    if own_head:
        with pytest.raises(ValueError, match="Failed to load model"):
            peers.llama_logprobs(merged, examples)
    else:
        check_close(ours, peers.llama_logprobs(merged, examples), 2e-3, "llama.cpp, merged")
    peers.run_hone(hone, *merge, "--to", "hf", "--out", folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).double()
    check_close(ours, peers.torch_logprobs(model, examples), 1e-4, "transformers, merged")


TIED = {"save-embed": {"modules_to_save": ["embed_tokens"]}, "save-head": {"modules_to_save": ["lm_head"]},
        "target-embed": {"target_modules": ["q_proj", "embed_tokens"]},
        "target-head": {"target_modules": ["q_proj", "lm_head"]}}


@pytest.mark.parametrize("name", ["grouped", "odd"])
@pytest.mark.parametrize("kind", TIED)
def test_kept_tied(hone, tiny, tmp_path, kind, name):
    """With ensure_weight_tying PEFT stores of embedding and head both, and names one of them."""
    from peft import LoraConfig, get_peft_model

    shape, path, probes, examples = tiny(name)
    options = {"target_modules": ["q_proj"], **TIED[kind]}
    torch.manual_seed(1)
    config = LoraConfig(task_type="CAUSAL_LM", r=3, ensure_weight_tying=True, **options)
    adapted = get_peft_model(shape.transformers_model(), config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    adapted.save_pretrained(tmp_path / "one")
    base = peers.hone_logprobs(hone, path, probes)
    ours = peers.hone_logprobs(hone, path, probes, "--adapter", tmp_path / "one")
    assert np.abs(np.concatenate(ours) - np.concatenate(base)).mean() > 0.1
    model = quietly(peers.with_adapter, shape.transformers_model().double(), tmp_path / "one")
    check_close(ours, peers.torch_logprobs(model, examples), 1e-4, "PEFT")


def quietly(load, *arguments):
    """Any warning of PEFT's is a failure, but for what it says of every adapter of a tied matrix and
    of GPT-2's head beside its Conv1Ds."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to")
        return load(*arguments)


@pytest.mark.parametrize("name", ["odd", "gpt2-odd"])
def test_several_doras(hone, tiny, tmp_path, name):
    """A LoRA and two DoRAs in turn as PEFT has them; one DoRA with a weight; all as one."""
    shape, path, probes, examples = tiny(name)
    model = shape.transformers_model()
    folders = {kind: adapter_of(model, tmp_path / kind, "dora", seed=seed)
               for seed, kind in enumerate(("first", "second"))}
    folders["plain"] = peers.make_adapter(model, tmp_path / "plain", rank=2, seed=7)
    order = ("plain", "first", "second")
    given = [part for key in order for part in ("--adapter", folders[key])]
    ours = peers.hone_logprobs(hone, path, probes, *given)
    peer = with_several(model.double(), {key: folders[key] for key in order},
                        dict.fromkeys(order, 1))
    check_close(ours, peers.torch_logprobs(peer, examples), 1e-4, "PEFT, three")
    weighted = ["--adapter", f"{folders['first']}:0.6", "--adapter", f"{folders['plain']}:0.5"]
    for adapters in (given, weighted):
        wanted = peers.hone_logprobs(hone, path, probes, *adapters)
        one = tmp_path / f"one-{len(adapters)}"
        peers.run_hone(hone, "convert", "--model", path, *adapters, "--to", "peft", "--out", one)
        got = peers.hone_logprobs(hone, path, probes, "--adapter", one)
        check_close(wanted, got, 1e-4, "Hone, as one DoRA")
        peer = peers.with_adapter(shape.transformers_model().double(), one)
        check_close(wanted, peers.torch_logprobs(peer, examples), 1e-4, "PEFT, as one DoRA")
