// SPDX-License-Identifier: Apache-2.0
// A corpus as examples: documents become tokens in a file that is mapped, and examples are windows
// on it, so that neither texts nor tokens of a corpus stay in memory.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/corpus.h"
#include "train/develop.h"

typedef struct Cutting {
    Tokenizer *tokenizer;
    Dataset *set;
    int64_t capacity, longest; // longest: tokens of a window
    bool no_eos;
    FileWriter file;
    int64_t written; // tokens
    TokenList tokens;
} Cutting;

// ---- the file ----------------------------------------------------------------------------------

char *hone_scratch_path(const char *out, const char *what) {
    char name[96];
    const char *temporary = getenv("TMPDIR");
    char *folder = hone_directory_nearest(out ? out : temporary && *temporary ? temporary : "/tmp");
    // The stack is another in each thread.
    snprintf(name, sizeof name, ".hone-%s-%ld-%p", what, (long)getpid(), (void *)name);
    char *path = folder ? hone_path_join(folder, name) : NULL;
    hone_free(folder);
    return path;
}

// ---- windows -----------------------------------------------------------------------------------

static hone_status add_window(Cutting *cutting, int64_t first, int64_t count, int line,
                              HoneError *err) {
    Dataset *set = cutting->set;
    if (set->count == cutting->capacity) {
        const int64_t larger = cutting->capacity ? 2 * cutting->capacity : 1024;
        Example *grown = hone_realloc(set->examples, (size_t)set->count * sizeof *grown,
                                      (size_t)larger * sizeof *grown);
        if (!grown) return hone_fail_memory(err, (size_t)larger * sizeof *grown, "examples");
        set->examples = grown;
        cutting->capacity = larger;
    }
    // answer_length holds the place until the file is mapped.
    set->examples[set->count++] = (Example){.count = count,
                                            .targets = count - 1,
                                            .prompt = 1,
                                            .answer_length = cutting->written + first,
                                            .line = line};
    set->tokens += count;
    set->targets += count - 1;
    if (count > set->longest) set->longest = count;
    return HONE_OK;
}

static void put(Cutting *cutting, const int32_t *tokens, int64_t count) {
    hone_writer_put(&cutting->file, tokens, (size_t)count * sizeof *tokens);
    cutting->written += count;
}

// BOS if the tokeniser begins texts with it, the text, EOS. A window's last token is the first of
// the next one, so that each token but the document's first is learnt once.
static hone_status cut_document(void *user, const char *path, int line, const char *text,
                                size_t length, HoneError *err) {
    Cutting *cutting = user;
    Tokenizer *tokenizer = cutting->tokenizer;
    const int32_t bos = hone_tokenizer_bos(tokenizer), eos = hone_tokenizer_eos(tokenizer);
    cutting->tokens.count = 0;
    hone_status status =
        hone_tokenize_append(tokenizer, text, length, false, &cutting->tokens, err);
    if (status != HONE_OK) return hone_fail_in(err, "%s:%d", path, line);
    const bool begins = bos >= 0 && hone_tokenizer_adds_bos(tokenizer);
    const bool ends = eos >= 0 && !cutting->no_eos;
    const int64_t count = cutting->tokens.count + begins + ends;
    if (count < 2)
        return hone_fail(err, HONE_ERROR_INPUT, "%s:%d: the text is one token, none to learn", path,
                         line);
    for (int64_t first = 0; first + 1 < count;) {
        const int64_t left = count - first;
        const int64_t part = left < cutting->longest ? left : cutting->longest;
        RETURN_IF_ERROR(add_window(cutting, first, part, line, err));
        first += part - 1;
    }
    if (begins) put(cutting, &bos, 1);
    put(cutting, cutting->tokens.tokens, cutting->tokens.count);
    if (ends) put(cutting, &eos, 1);
    return HONE_OK;
}

static hone_status write_tokens(Cutting *cutting, const char *path, const char *scratch,
                                FileMap *map, HoneError *err) {
    RETURN_IF_ERROR(hone_writer_open_unnamed(&cutting->file, scratch, err));
    hone_status status = hone_corpus_each(path, cut_document, cutting, err);
    hone_token_list_free(&cutting->tokens);
    if (status == HONE_OK) return hone_writer_map(&cutting->file, map, err);
    hone_writer_abort(&cutting->file);
    return status;
}

static hone_status point_into(HoneData *data, int64_t longest, HoneError *err) {
    Dataset *set = &data->set;
    uint8_t *mask = hone_arena_alloc(&set->memory, (size_t)longest);
    if (!mask) return hone_fail_memory(err, (size_t)longest, "a loss mask");
    memset(mask, 1, (size_t)longest);
    mask[0] = 0; // nothing predicts the first token
    const int32_t *tokens = (const void *)data->map.data;
    for (int64_t i = 0; i < set->count; i++) {
        Example *example = &set->examples[i];
        example->token = (int32_t *)(uintptr_t)(tokens + example->answer_length);
        example->target = mask;
        example->answer_length = 0;
    }
    return HONE_OK;
}

hone_status hone_corpus_read(HoneModel *model, const char *path, const HoneDataOptions *options,
                             const char *out, HoneData **data) {
    HoneError *err = &model->context->error;
    *data = NULL;
    const int64_t longest = options->max_length;
    if (longest < 2 || longest > model->config.context)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "windows of %lld tokens (--max-length): want 2…%lld, the model's context",
                         (long long)longest, (long long)model->config.context);
    HoneData *read = hone_calloc(1, sizeof *read);
    char *scratch = hone_scratch_path(out, "tokens");
    Cutting cutting = {
        .tokenizer = model->tokenizer, .longest = longest, .no_eos = options->no_eos};
    hone_status status = HONE_OK;
    if (!read || !scratch) {
        status = hone_fail_memory(err, sizeof *read, "data");
    } else {
        cutting.set = &read->set;
        status = write_tokens(&cutting, path, scratch, &read->map, err);
        if (status == HONE_OK) status = point_into(read, longest, err);
    }
    hone_free(scratch);
    if (status != HONE_OK) {
        hone_data_free(read);
        return status;
    }
    *data = read;
    return HONE_OK;
}

hone_status hone_corpus_note(Run *run) {
    for (int64_t s = 0; s < run->options.data_count; s++) {
        const char *path = run->options.data[s].path;
        CorpusOthers others;
        hone_status status = hone_corpus_others(path, &others, run->err);
        TextBuffer text = {0};
        if (status == HONE_OK && others.count > 0) {
            hone_text_printf(
                &text,
                "%s: %lld of its files %s not read, the first is %s; of a folder those "
                "named .jsonl, .csv, .tsv, .txt and .md are, --data FILE reads another",
                path, (long long)others.count, others.count == 1 ? "is" : "are", others.first);
            if (!text.failed) hone_run_note(run, text.data);
        }
        hone_text_free(&text);
        hone_free(others.first);
        RETURN_IF_ERROR(status);
    }
    return HONE_OK;
}
