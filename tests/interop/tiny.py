# SPDX-License-Identifier: Apache-2.0
"""What the tiny models share: a vocabulary (bytes, a few merges, ChatML's marks), and how they become
files and models of transformers."""
import gguf
import numpy as np

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END_OF_TEXT, MESSAGE_END = 0, 2
MERGES = """t h|Ġ t|Ġt h|Ġth e|i n|e r|Ġ a|o n|r e|Ġ s|a n|Ġa n|Ġan d|e n|i t|Ġ o|Ġo f|in g|e s|Ġ w
o r|Ġ c|Ġ b|Ġt o|a l|Ġ f|Ġ p|a r|Ġ in|i s|Ġ m|e d|o u|Ġ d|a t|i on|Ġ h|r o|l e|Ġb e""".replace(
    "\n", "|").split("|")
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' "
            "+ message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def byte_alphabet():
    """GPT-2's: printable bytes are themselves, the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte))
            for byte in range(256)]


def tokens(merges):
    """The tokens, with that many merges of MERGES."""
    return SPECIAL + byte_alphabet() + [merge.replace(" ", "") for merge in MERGES[:merges]]


def add_vocabulary(writer, merges, split):
    """The keys of a GGUF file that say how text becomes tokens."""
    names = tokens(merges)
    writer.add_vocab_size(len(names))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(names)
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL
                            for token in names])
    writer.add_token_merges(MERGES[:merges])
    writer.add_bos_token_id(END_OF_TEXT)
    writer.add_eos_token_id(MESSAGE_END)
    writer.add_unk_token_id(END_OF_TEXT)
    writer.add_pad_token_id(END_OF_TEXT)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def write(writer, tensors, half):
    """The file with these tensors, by GGUF's names; half: matrices as F16."""
    for name, tensor in tensors.items():
        tensor = np.ascontiguousarray(tensor)
        writer.add_tensor(name, tensor.astype(np.float16) if half and tensor.ndim == 2 else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def filled(model, values, tied):
    """A transformers model with these values, by its own names."""
    import torch

    state = {name: torch.from_numpy(tensor.copy()) for name, tensor in values.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if tied else set())
    model.config.use_cache = False
    return model.eval()
