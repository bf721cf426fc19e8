// SPDX-License-Identifier: Apache-2.0
// A data file. The first byte chooses the options.
#include <stdio.h>
#include <string.h>

#include "data/bytes.h"
#include "data/data.h"
#include "fuzz.h"

static const char source[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

static void check_example(const Example *example) {
    int64_t targets = 0;
    if (example->count < 2 || example->target[0]) __builtin_trap();
    for (int64_t i = 0; i < example->count; i++) targets += example->target[i];
    if (targets != example->targets || targets == 0) __builtin_trap();
    if (example->prompt < 0 || example->prompt > example->count) __builtin_trap();
    fuzz_touch(example->token, (size_t)example->count * sizeof *example->token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static Tokenizer *tokenizer;
    static ChatTemplate *parsed;
    HoneError err = {0};
    if (!tokenizer) tokenizer = bytes_tokenizer(TOKEN_START, TOKEN_STOP, true);
    if (!parsed) hone_template_parse("t", source, strlen(source), &parsed, &err);
    unsigned choice = size ? data[0] : 0;
    DataOptions options = {.tokenizer = tokenizer,
                           .chat_template = choice & 1 ? NULL : parsed,
                           .max_length = choice & 2 ? 24 : 4096,
                           .loss_on = (LossOn)(choice >> 2 & 3),
                           .on_bad = choice & 16 ? BAD_STOP : BAD_SKIP,
                           .no_eos = choice & 32,
                           .keep_text = choice & 64};
    Dataset dataset = {0};
    Arena memory = {0};
    TokenBatch batch;
    const char *path = fuzz_file("fuzz.jsonl", data + (size > 0), size - (size > 0));
    if (hone_dataset_read(path, &options, &dataset, &err) == HONE_OK) {
        for (int64_t i = 0; i < dataset.count; i++) {
            const Example *one = &dataset.examples[i];
            check_example(one);
            if (hone_batch_pack(&one, 1, &memory, &batch, &err) != HONE_OK) __builtin_trap();
            if (batch.entries != one->targets) __builtin_trap();
        }
    }
    hone_arena_free(&memory);
    hone_dataset_free(&dataset);
    return 0;
}
