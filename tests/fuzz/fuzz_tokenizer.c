// SPDX-License-Identifier: Apache-2.0
// A tokenizer.json, used on a few texts.
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "fuzz.h"
#include "tokenizer/tokenizer.h"

static void use(Tokenizer *tokenizer, const char *text, size_t length, bool special) {
    TokenList list = {0};
    TextBuffer out = {0};
    HoneError err = {0};
    if (hone_tokenize_append(tokenizer, text, length, special, &list, &err) == HONE_OK) {
        for (int64_t i = 0; i < list.count; i++) {
            bool inside = list.begin[i] <= list.end[i] && list.end[i] <= length;
            bool known = list.tokens[i] >= 0 && list.tokens[i] < hone_tokenizer_size(tokenizer);
            if (!inside || !known) __builtin_trap();
        }
        hone_tokenizer_text(tokenizer, list.tokens, list.count, special, &out);
        fuzz_touch(out.data, out.length);
    }
    hone_text_free(&out);
    hone_token_list_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "Ab  c1\n<s>\xe2\x96\x81 e\xcc\x81\xef\xac\x81\xff\xe4\xb8\xad "
                               "\xe1\x84\x80\xe1\x85\xa1x 12345,!\t<t>ab";
    Tokenizer *tokenizer = NULL;
    HoneError err = {0};
    const char *path = fuzz_file("tokenizer.json", data, size);
    if (hone_tokenizer_read_json(path, &tokenizer, &err) != HONE_OK) {
        if (tokenizer || !err.message[0] || strchr(err.message, '\n')) __builtin_trap();
        return 0;
    }
    use(tokenizer, text, sizeof text - 1, true);
    use(tokenizer, text, sizeof text - 1, false);
    use(tokenizer, (const char *)data, size < 300 ? size : 300, true);
    hone_tokenizer_free(tokenizer);
    return 0;
}
