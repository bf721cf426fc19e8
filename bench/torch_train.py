# SPDX-License-Identifier: Apache-2.0
"""The main job on PyTorch, f32, AdamW, clipping at 1: LoRA on all linear layers with PEFT, or every
weight of the model as transformers has it.

Trains on examples in their order, each with its tokens and a mask of those that are learnt; a batch
is padded to its longest. Prints one JSON object.

    $(scripts/interop-env) bench/torch_train.py --hf FOLDER --examples TOKENS.json --batch 4
"""
import argparse
import json
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hf", required=True, help="folder of the model")
    parser.add_argument("--examples", required=True, help="JSON: [{tokens, mask}, …]")
    parser.add_argument("--method", choices=("lora", "full"), default="lora")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=32)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args()


def trained_model(options):
    model = AutoModelForCausalLM.from_pretrained(
        options.hf, dtype=torch.float32, attn_implementation="sdpa")
    model.config.use_cache = False
    if options.method == "full":
        return model.train()
    return get_peft_model(model, LoraConfig(
        r=options.rank, lora_alpha=options.alpha, task_type="CAUSAL_LM", target_modules=[
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])).train()


def padded(batch):
    """What the model is called with: labels and attention are off where there is nothing."""
    length = max(len(example["tokens"]) for example in batch)
    rows = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    columns = {name: [] for name in rows}
    for example in batch:
        tokens = example["tokens"]
        labels = [token if learnt else -100 for token, learnt in zip(tokens, example["mask"])]
        for name, values in zip(rows, (tokens, labels, [1] * len(tokens))):
            columns[name].append(values + [rows[name]] * (length - len(values)))
    return {name: torch.tensor(values) for name, values in columns.items()}


def main():
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with open(options.examples) as file:
        examples = json.load(file)
    model = trained_model(options)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=options.lr, weight_decay=0.0)
    losses, seconds = [], []
    for first in range(0, len(examples), options.batch):
        start = time.perf_counter()
        loss = model(**padded(examples[first:first + options.batch])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"loss": losses, "seconds": seconds,
                      "trainable": sum(parameter.numel() for parameter in trained)}))


if __name__ == "__main__":
    main()
