# SPDX-License-Identifier: Apache-2.0
"""Steps of transformers' GPT-2 on given tokens, every weight in f32, for bench/gpt2.py.

MODEL.npz has llm.c's shapes under transformers' names; TOKENS as llmc_train reads them. PyTorch's
own fused AdamW, its fastest on a processor; no dropout, no clipping. Prints a line a step: its loss
before the update and its seconds.

    $(scripts/interop-env) bench/torch_gpt2.py MODEL.npz TOKENS BATCH LENGTH RATE THREADS
"""
import sys
import time

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel


def loaded(path):
    values = dict(np.load(path))
    config = GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False,
                        attn_implementation="sdpa")
    model = GPT2LMHeadModel(config)
    for name, value in model.transformer.state_dict().items():
        value.copy_(torch.from_numpy(values.pop(name)))
    assert not values, list(values)
    return model.train()


def main():
    model_path, tokens_path, batch, length, rate, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = loaded(model_path)
    steps = np.fromfile(tokens_path, np.int32).reshape(-1, int(batch), int(length) + 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=float(rate), weight_decay=0.0, fused=True)
    for tokens in torch.from_numpy(steps.astype(np.int64)):
        start = time.perf_counter()
        logits = model(input_ids=tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        print(f"step {loss.item():.6f} {time.perf_counter() - start:.6f}", flush=True)


if __name__ == "__main__":
    main()
