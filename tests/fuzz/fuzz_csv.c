// SPDX-License-Identifier: Apache-2.0
// A table, a text in windows, or either packed. The first byte chooses the name and the options.
#include <stdio.h>
#include <string.h>

#include "data/bytes.h"
#include "data/data.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"fuzz.csv", "fuzz.tsv", "fuzz.txt", "fuzz"};
    static Tokenizer *tokenizer;
    HoneError err = {0};
    if (!tokenizer) tokenizer = bytes_tokenizer(TOKEN_BEGIN, TOKEN_FINISH, true);
    unsigned choice = size ? data[0] : 0;
    DataOptions options = {.tokenizer = tokenizer,
                           .max_length = choice & 4 ? 24 : 4096,
                           .stride = choice & 8 ? 5 : 0,
                           .on_bad = choice & 16 ? BAD_STOP : BAD_SKIP,
                           .no_eos = choice & 32,
                           .keep_text = choice & 64};
    Dataset dataset = {0};
    const char *path = fuzz_file(names[choice & 3], data + (size > 0), size - (size > 0));
    if (hone_dataset_read(path, &options, &dataset, &err) == HONE_OK) {
        if (dataset.count == 0) __builtin_trap();
        for (int64_t i = 0; i < dataset.count; i++) {
            const Example *one = &dataset.examples[i];
            int64_t targets = 0;
            if (one->count < 2 || one->target[0]) __builtin_trap();
            for (int64_t k = 0; k < one->count; k++) targets += one->target[k];
            if (targets != one->targets || targets == 0) __builtin_trap();
            fuzz_touch(one->token, (size_t)one->count * sizeof *one->token);
        }
    } else if (!err.message[0]) {
        __builtin_trap();
    }
    hone_dataset_free(&dataset);
    return 0;
}
