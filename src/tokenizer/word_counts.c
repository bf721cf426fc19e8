// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "tokenizer/learn.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/rules.h"

#define MARK "\xe2\x96\x81" // ▁

enum { MARK_CODE = 0x2581, LONGEST_WORD = 4096 };

struct WordCounts {
    PreTokenizer *cut; // NULL: words are marked
    TextBuffer word;
    StringMap numbers;
    Word *words;
    int64_t count, capacity;
    Arena memory;
};

hone_status hone_word_counts_create(const char *rule, WordCounts **counts, HoneError *err) {
    *counts = NULL;
    WordCounts *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "a count of words");
    const PreRule *found;
    hone_status status = hone_rule_find(rule, &found, err);
    if (status == HONE_OK && found->patterns[1])
        status = hone_fail(
            err, HONE_ERROR_UNSUPPORTED,
            "words are not counted by the pre-tokeniser %s, which cuts several times", rule);
    if (status == HONE_OK)
        status = hone_pretokenizer_create(rule, found->patterns[0], CUT_BOTH, &made->cut, err);
    if (status != HONE_OK) {
        hone_word_counts_free(made);
        return status;
    }
    *counts = made;
    return HONE_OK;
}

hone_status hone_word_counts_create_marked(WordCounts **counts, HoneError *err) {
    *counts = hone_calloc(1, sizeof **counts);
    return *counts ? HONE_OK : hone_fail_memory(err, sizeof **counts, "a count of words");
}

void hone_word_counts_free(WordCounts *counts) {
    if (!counts) return;
    hone_pretokenizer_free(counts->cut);
    hone_text_free(&counts->word);
    hone_map_free(&counts->numbers);
    hone_free(counts->words);
    hone_arena_free(&counts->memory);
    hone_free(counts);
}

const Word *hone_word_counts_list(const WordCounts *counts, int64_t *count) {
    *count = counts->count;
    return counts->words;
}

static hone_status add_word(WordCounts *counts, const char *text, size_t length, HoneError *err) {
    if (length == 0) return HONE_OK;
    const int64_t known = hone_map_get(&counts->numbers, text, length, -1);
    if (known >= 0) {
        counts->words[known].times++;
        return HONE_OK;
    }
    if (counts->count == counts->capacity) {
        const int64_t capacity = counts->capacity ? 2 * counts->capacity : 4096;
        Word *grown = hone_realloc(counts->words, (size_t)counts->count * sizeof *grown,
                                   (size_t)capacity * sizeof *grown);
        if (!grown) return hone_fail_memory(err, (size_t)capacity * sizeof *grown, "words");
        counts->words = grown;
        counts->capacity = capacity;
    }
    const char *copy = hone_arena_strndup(&counts->memory, text, length);
    if (!copy || !hone_map_put(&counts->numbers, copy, length, counts->count))
        return hone_fail_memory(err, length, "words");
    counts->words[counts->count++] = (Word){copy, (int64_t)length, 1};
    return HONE_OK;
}

static hone_status end_word(WordCounts *counts, HoneError *err) {
    if (counts->word.failed) return hone_fail_memory(err, counts->word.length, "words");
    RETURN_IF_ERROR(add_word(counts, counts->word.data, counts->word.length, err));
    hone_text_clear(&counts->word);
    return HONE_OK;
}

static hone_status add_marked(WordCounts *counts, const char *text, size_t length, HoneError *err) {
    hone_text_clear(&counts->word);
    hone_text_puts(&counts->word, length > 0 ? MARK : "");
    for (size_t at = 0; at < length;) {
        uint32_t code = 0;
        const int bytes = hone_utf8_decode(text + at, length - at, &code);
        const bool space = bytes > 0 && (code == ' ' || code == MARK_CODE);
        const bool lost = bytes == 0 || code == 0;
        if (space || lost || code == '\n' || counts->word.length >= LONGEST_WORD)
            RETURN_IF_ERROR(end_word(counts, err));
        if (space)
            hone_text_puts(&counts->word, MARK);
        else if (!lost)
            hone_text_append(&counts->word, text + at, (size_t)bytes);
        if (bytes > 0 && code == '\n') RETURN_IF_ERROR(end_word(counts, err));
        at += bytes > 0 ? (size_t)bytes : 1;
    }
    return end_word(counts, err);
}

hone_status hone_word_counts_add(WordCounts *counts, const char *text, size_t length,
                                 HoneError *err) {
    if (!counts->cut) return add_marked(counts, text, length, err);
    RETURN_IF_ERROR(hone_pretokenizer_start(counts->cut, text, length, err));
    for (size_t begin = 0, end = 0; end < length;) {
        RETURN_IF_ERROR(hone_pretokenizer_next(counts->cut, &begin, &end, err));
        RETURN_IF_ERROR(add_word(counts, text + begin, end - begin, err));
    }
    return HONE_OK;
}

void hone_learnt_free(LearntVocabulary *learnt) {
    hone_arena_free(&learnt->memory);
    *learnt = (LearntVocabulary){0};
}
