# SPDX-License-Identifier: Apache-2.0
"""What the interop tests share: Hone's command line; the same work by torch, PEFT, llama.cpp."""
import contextlib
import importlib
import json
import math
import os
import subprocess

import decoders
import gguf_to_hf
import models
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
from transformers.optimization import Adafactor

# ---- Hone --------------------------------------------------------------------------------------


def run_hone(hone, *arguments):
    """The JSON objects that a command prints."""
    done = subprocess.run([str(part) for part in (hone, *arguments, "--json")],
                          capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def write_texts(path, texts):
    with open(path, "w", encoding="utf8") as file:
        for text in texts:
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return path


def examples_of(hone, model, data, *options):
    """(tokens, positions of the tokens to be learnt) of each example, as training sees it."""
    lines = run_hone(hone, "template", "--model", model, "--data", data, *options)
    return [(line["tokens"], [i for i, learnt in enumerate(line["mask"]) if learnt])
            for line in lines]


def hone_logprobs(hone, model, data, *options):
    """An array of each target's log-probability for every example."""
    lines = run_hone(hone, "eval", "--model", model, "--data", data, "--logprobs", *options)
    *examples, summary = lines
    assert len(examples) == summary["examples"]
    for example in examples:
        assert len(example["logprobs"]) == len(example["targets"])
    return [np.array(example["logprobs"], np.float64) for example in examples]


def finetune(hone, model, data, out, *options):
    """The losses of the steps."""
    lines = run_hone(hone, "finetune", "--model", model, "--data", data, "--out", out,
                     "--eval-split", "0", "--shuffle", "off", *options)
    assert lines[-1]["event"] == "done"
    return [line["loss"] for line in lines if line["event"] == "step"]


# ---- torch -------------------------------------------------------------------------------------


def _norm(self, x):
    """transformers' norms go through f32 whatever their input; these stay in f64."""
    kind = torch.promote_types(x.dtype, torch.float32)
    wide = x.to(kind)
    eps = self.eps if hasattr(self, "eps") else self.variance_epsilon
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return self.weight * wide.to(x.dtype)


def _gemma_norm(self, x):
    wide = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
    return wide * (1 + self.weight)


def _norms():
    for kind in decoders.KINDS.values():
        module = importlib.import_module(
            f"transformers.models.{kind.module}.modeling_{kind.module}")
        yield (getattr(module, f"{kind.prefix}RMSNorm"),
               _gemma_norm if kind.prefix.startswith("Gemma") else _norm)


@contextlib.contextmanager
def exact(model):
    """transformers' decoders without their casts to f32, for models in f64; and on one thread where
    more only wait for each other."""
    norms, threads = list(_norms()), torch.get_num_threads()
    plain = [norm.forward for norm, _ in norms]
    for norm, forward in norms:
        norm.forward = forward
    small = model.get_input_embeddings().weight.numel() < 1 << 20
    torch.set_num_threads(1 if small else len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        for (norm, _), forward in zip(norms, plain):
            norm.forward = forward
        torch.set_num_threads(threads)


def reference_model(path):
    """The GGUF file's weights in transformers, f32."""
    return AutoModelForCausalLM.from_pretrained(
        gguf_to_hf.converted(path), dtype=torch.float32, attn_implementation="sdpa").eval()


def torch_logprobs(model, examples):
    """Of each target, as hone_logprobs gives them."""
    found = []
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    with torch.no_grad(), exact(model):
        for tokens, targets in examples:
            if model.config.vocab_size < 1 << 12:
                logits = inner(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
                found.append(logits[torch.tensor(targets) - 1, torch.tensor(tokens)[targets]].numpy())
                continue
            hidden = inner.base_model(torch.tensor([tokens])).last_hidden_state[0]
            rows = []
            for part in torch.tensor(targets).split(256):  # logits of a long text are large
                logits = inner.lm_head(hidden[part - 1]).double().log_softmax(-1)
                rows.append(logits[torch.arange(len(part)), torch.tensor(tokens)[part]])
            found.append(torch.cat(rows).numpy())
    return found


def torch_logprobs_of(model, examples):
    """As torch_logprobs, by the model's own logits: for any family."""
    found = []
    with torch.no_grad():
        for tokens, targets in examples:
            logits = model(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)
            rows = torch.tensor(targets) - 1
            found.append(logits[rows, torch.tensor(tokens)[targets]].numpy())
    return found


@contextlib.contextmanager
def rounded_inputs(model, kind):
    """Each linear layer reads its input rounded to kind, as llama.cpp does with matrices so stored."""
    hooks = [layer.register_forward_pre_hook(lambda _, given: (given[0].to(kind).to(given[0].dtype),))
             for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def batch_loss(model, examples):
    """Mean over the targets of all examples; padded on the right, where nothing looks."""
    longest = max(len(tokens) for tokens, _ in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, (tokens, targets) in enumerate(examples):
        ids[row, :len(tokens)] = torch.tensor(tokens)
        labels[row, targets] = ids[row, targets]
    logits = model(input_ids=ids).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


def steps_of(examples, batch, steps):
    """The examples of each step in the data's own order; a step does not go past its epoch."""
    epoch = [examples[i:i + batch] for i in range(0, len(examples), batch)]
    return [epoch[step % len(epoch)] for step in range(steps)]


def learning_rate(step, steps, rate, schedule, warmup):
    """step from 0; warmup in steps."""
    if step < warmup:
        return rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return {"constant": rate, "linear": rate * (1 - done),
            "cosine": rate * 0.5 * (1 + math.cos(math.pi * done))}[schedule]


def adafactor(groups, lr):
    return Adafactor(groups, lr=lr, scale_parameter=False, relative_step=False)


def sgd(groups, lr):
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


def train(model, steps, rate, schedule, warmup, weight_decay=0.0, make=torch.optim.AdamW):
    """The peer's optimiser with clipping at 1; returns the losses. Norms do not decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
              {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}]
    optimiser = make(groups, lr=rate)
    losses = []
    with exact(model):
        for step, examples in enumerate(steps):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, len(steps), rate, schedule, warmup)
            loss = batch_loss(model, examples)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            losses.append(loss.item())
    return losses


# ---- PEFT --------------------------------------------------------------------------------------


def make_adapter(model, folder, rank=4, alpha=8, b_scale=0.1, seed=0, targets=None, **options):
    """A PEFT folder with random A and B (zero with b_scale 0), and DoRA's magnitudes and trained
    biases moved by as much. The model is left as it was."""
    kind = model.config.model_type
    adapted = get_peft_model(model, LoraConfig(
        r=rank, lora_alpha=alpha, task_type="CAUSAL_LM", fan_in_fan_out=kind == "gpt2",
        target_modules=targets or list(models.FAMILIES[kind].adapted), **options))
    generator = torch.Generator().manual_seed(seed)
    biases = {name: parameter.clone() for name, parameter in adapted.named_parameters()
              if parameter.requires_grad and name.endswith(".bias") and "modules_to_save" not in name}
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            saved = "modules_to_save" in name or name in biases
            if "lora_" not in name and not saved:
                continue
            draw = torch.randn(parameter.shape, generator=generator)
            if saved:
                parameter.add_(0.1 * b_scale * draw)
            elif "magnitude" in name:
                parameter.mul_(1 + b_scale * draw)
            elif "embedding" in name: # what A and B are elsewhere is B and A there
                parameter.copy_(draw * (b_scale if "embedding_A" in name else 0.5))
            else:
                scale = 1 / math.sqrt(parameter.shape[1]) if "lora_A" in name else b_scale
                parameter.copy_(draw * scale)
    adapted.save_pretrained(folder)
    with torch.no_grad():
        for name, value in biases.items():
            adapted.get_parameter(name).copy_(value)
    adapted.unload()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return folder


def with_adapter(model, folder, trainable=False):
    """In the model's own precision."""
    kind = model.get_input_embeddings().weight.dtype
    return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable).to(kind)


def gguf_gradients(model, config):
    """Gradients by the names and in the row order of Hone's trained tensors."""
    family, found = models.FAMILIES[config.model_type], {}
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", heads)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        values = parameter.grad.double().numpy()
        if ".experts." in name and ".lora_" in name:
            found.update(decoders.expert_halves(name, values, config))
            continue
        if ".lora_" in name:
            name = name.removeprefix("base_model.model.").replace(".weight", "")
            module, half = name.removesuffix(".default").split(".lora_")
            if half.startswith("embedding_"):
                half, values = {"A": "b", "B": "a"}[half[-1]], values.T
            half = half.removesuffix("_vector").lower()
            name = f"{family.gguf_name(module + '.weight')}.lora_{half}"
        else:
            name = name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
            name = name.replace(".base_layer.bias", ".bias")
            if ".experts." in name:
                found.update(family.parted(name, values))
                continue
            name = family.gguf_name(name)
        if name.endswith(".lora_magnitude"):
            matrix = name.replace("magnitude", "b") # rows like B's
            values = family.gguf_values(matrix, values[:, None], heads, kv_heads)[:, 0]
        elif not name.endswith(".lora_a"):
            values = family.gguf_values(name, values, heads, kv_heads)
        found[name] = values
    return found


# ---- llama.cpp ---------------------------------------------------------------------------------


def llama_logprobs(path, examples, adapter=None):
    """As hone_logprobs, with an f32 cache and without flash attention."""
    import llama_cpp

    room = max(len(tokens) for tokens, _ in examples)
    llama = llama_cpp.Llama(
        str(path), n_ctx=room, n_batch=room, n_ubatch=room, logits_all=True, type_k=0, type_v=0,
        flash_attn=False, n_threads=2, n_threads_batch=2, verbose=False,
        lora_path=str(adapter) if adapter else None)
    try:
        found = []
        for tokens, targets in examples:
            llama.reset()
            llama.eval(tokens)
            rows = torch.from_numpy(llama.scores[np.array(targets) - 1].astype(np.float64))
            chosen = rows.log_softmax(-1)[torch.arange(len(targets)), torch.tensor(tokens)[targets]]
            found.append(chosen.numpy())
        return found
    finally:
        llama.close()


def largest_difference(a, b):
    return max(np.abs(x - y).max() for x, y in zip(a, b, strict=True))
