// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "base/pool.h"
#include "check.h"
#include "tokenizer/learn.h"

static const char *const end_of_text[] = {"<|endoftext|>"};

static WordCounts *counted(const char *const *texts, int count) {
    WordCounts *counts;
    HoneError err = {0};
    CHECK(hone_word_counts_create("gpt-2", &counts, &err) == HONE_OK);
    for (int i = 0; i < count; i++)
        CHECK(hone_word_counts_add(counts, texts[i], strlen(texts[i]), &err) == HONE_OK);
    return counts;
}

static bool is_merge(const LearntVocabulary *learnt, int64_t number, const char *merge) {
    return number < learnt->merge_count && learnt->merges[number].length == strlen(merge) &&
           memcmp(learnt->merges[number].data, merge, strlen(merge)) == 0;
}

// Sennrich's example: es (9), est (9), then lo (7), low (7), …
static void the_most_frequent_pair_is_merged_first(void) {
    const char *const texts[] = {
        "low low low low low lower lower newest newest newest newest newest",
        "newest widest widest widest"};
    WordCounts *counts = counted(texts, 2);
    LearnOptions options = {
        .vocabulary = 261, .min_frequency = 2, .special = end_of_text, .special_count = 1};
    LearntVocabulary learnt;
    HoneError err = {0};
    CHECK(hone_learn_bpe(counts, &options, &learnt, &err) == HONE_OK);
    CHECK(learnt.token_count == 261 && learnt.merge_count == 4);
    CHECK(learnt.tokens[0].length == 13 && learnt.kinds[0] == TOKEN_CONTROL);
    CHECK(is_merge(&learnt, 0, "e s"));
    CHECK(is_merge(&learnt, 1, "es t"));
    CHECK(is_merge(&learnt, 2, "l o"));
    CHECK(is_merge(&learnt, 3, "lo w"));
    hone_learnt_free(&learnt);
    options.vocabulary = 10000; // until no pair is frequent enough
    options.min_frequency = 9;
    CHECK(hone_learn_bpe(counts, &options, &learnt, &err) == HONE_OK);
    CHECK(learnt.merge_count == 2);
    hone_learnt_free(&learnt);
    hone_word_counts_free(counts);
}

static void a_vocabulary_has_room_for_all_bytes(void) {
    const char *const twice[] = {"<a>", "<a>"};
    const char *const texts[] = {"a"};
    WordCounts *counts = counted(texts, 1);
    LearnOptions options = {.vocabulary = 256, .special = end_of_text, .special_count = 1};
    LearntVocabulary learnt;
    HoneError err = {0};
    CHECK(hone_learn_bpe(counts, &options, &learnt, &err) == HONE_ERROR_ARGUMENT);
    CHECK(strstr(err.message, "257"));
    err = (HoneError){0};
    options = (LearnOptions){.vocabulary = 300, .special = twice, .special_count = 2};
    CHECK(hone_learn_bpe(counts, &options, &learnt, &err) == HONE_ERROR_ARGUMENT);
    CHECK(strstr(err.message, "<a>"));
    hone_word_counts_free(counts);
}

#define MARK "\xe2\x96\x81" // ▁

static WordCounts *marked(const char *text, size_t length) {
    WordCounts *counts;
    HoneError err = {0};
    CHECK(hone_word_counts_create_marked(&counts, &err) == HONE_OK);
    CHECK(hone_word_counts_add(counts, text, length, &err) == HONE_OK);
    return counts;
}

static bool is_word(const WordCounts *counts, int64_t number, const char *text, int64_t times) {
    int64_t count;
    const Word *words = hone_word_counts_list(counts, &count);
    return number < count && words[number].length == (int64_t)strlen(text) &&
           memcmp(words[number].text, text, strlen(text)) == 0 && words[number].times == times;
}

static void marked_words_begin_with_their_space(void) {
    static const char text[] = "ab ab  c\nab\xff"
                               "d\0"
                               "e" MARK "ab";
    WordCounts *counts = marked(text, sizeof text - 1);
    int64_t count;
    hone_word_counts_list(counts, &count);
    CHECK(count == 7);
    CHECK(is_word(counts, 0, MARK "ab", 3));
    CHECK(is_word(counts, 1, MARK, 1));
    CHECK(is_word(counts, 2, MARK "c", 1));
    CHECK(is_word(counts, 3, "\n", 1));
    CHECK(is_word(counts, 4, "ab", 1)); // after the end of a line
    CHECK(is_word(counts, 5, "d", 1));  // what is no text parts words
    CHECK(is_word(counts, 6, "e", 1));
    hone_word_counts_free(counts);
    counts = marked("", 0);
    hone_word_counts_list(counts, &count);
    CHECK(count == 0);
    hone_word_counts_free(counts);
}

static void a_long_word_is_several(void) {
    char text[10000];
    memset(text, 'a', sizeof text);
    WordCounts *counts = marked(text, sizeof text);
    int64_t count, letters = 0;
    const Word *words = hone_word_counts_list(counts, &count);
    for (int64_t i = 0; i < count; i++) {
        CHECK(words[i].length <= 4100);
        letters += words[i].length * words[i].times;
    }
    CHECK(letters == 10000 + 3);
    hone_word_counts_free(counts);
}

static int64_t find(const LearntVocabulary *learnt, const char *text) {
    for (int64_t i = 0; i < learnt->token_count; i++)
        if (learnt->tokens[i].length == strlen(text) &&
            memcmp(learnt->tokens[i].data, text, strlen(text)) == 0)
            return i;
    return -1;
}

// Words of three random letters and one of two endings, the second of which is twice as frequent;
// then one with a letter that no other has, and one that is spelled as a special token.
static void write_words(char *text, int words) {
    uint32_t state = 1;
    for (int i = 0; i < words; i++) {
        for (int j = 0; j < 3; j++) {
            state = state * 1664525u + 1013904223u;
            *text++ = (char)('a' + (state >> 24) % 8);
        }
        memcpy(text, i % 3 ? "xyz " : "xyw ", 4);
        text += 4;
    }
    memcpy(text, "\xc3\xa9 <unk>", 9);
}

static void frequent_endings_become_pieces(void) {
    char text[7 * 600 + 9];
    write_words(text, 600);
    text[sizeof text - 1] = 0;
    WordCounts *counts = marked(text, sizeof text - 1);
    LearnOptions options = {.vocabulary = 40, .special = end_of_text, .special_count = 1};
    LearntVocabulary learnt, again;
    HoneError err = {0};
    CHECK(hone_learn_unigram(counts, &options, NULL, &learnt, &err) == HONE_OK);
    CHECK(learnt.token_count == 40);
    CHECK(learnt.kinds[0] == TOKEN_CONTROL && learnt.kinds[1] == TOKEN_UNKNOWN);
    CHECK(find(&learnt, "<|endoftext|>") == 0 && find(&learnt, HONE_UNKNOWN) == 1);
    CHECK(find(&learnt, MARK) > 1);
    for (char ending[] = "axyz"; ending[0] <= 'h'; ending[0]++) CHECK(find(&learnt, ending) > 1);
    CHECK(find(&learnt, "\xc3\xa9") > 1); // characters, however rare
    double mass = 0;
    for (int64_t i = 2; i < learnt.token_count; i++) {
        mass += exp((double)learnt.scores[i]);
        if (i > 2) CHECK(learnt.scores[i] <= learnt.scores[i - 1]);
    }
    CHECK(mass > 0.5 && mass <= 1.001);
    for (int threads = 2; threads < 5; threads++) {
        ThreadPool *pool = hone_pool_create(threads);
        CHECK(hone_learn_unigram(counts, &options, pool, &again, &err) == HONE_OK);
        CHECK(again.token_count == learnt.token_count);
        for (int64_t i = 0; i < again.token_count && i < learnt.token_count; i++)
            CHECK(again.scores[i] == learnt.scores[i] &&
                  again.tokens[i].length == learnt.tokens[i].length &&
                  memcmp(again.tokens[i].data, learnt.tokens[i].data, learnt.tokens[i].length) ==
                      0);
        hone_learnt_free(&again);
        hone_pool_free(pool);
    }
    hone_learnt_free(&learnt);
    hone_word_counts_free(counts);
}

static void a_unigram_vocabulary_has_room_for_all_characters(void) {
    WordCounts *counts = marked("abcabc", 6);
    LearnOptions options = {.vocabulary = 5, .special = end_of_text, .special_count = 1};
    LearntVocabulary learnt;
    HoneError err = {0};
    CHECK(hone_learn_unigram(counts, &options, NULL, &learnt, &err) == HONE_ERROR_ARGUMENT);
    CHECK(strstr(err.message, "4 different characters") && strstr(err.message, "need 6"));
    err = (HoneError){0};
    options.vocabulary = 1000; // more than there are pieces
    CHECK(hone_learn_unigram(counts, &options, NULL, &learnt, &err) == HONE_OK);
    CHECK(learnt.token_count >= 6 && learnt.token_count < 20);
    CHECK(find(&learnt, "abc") > 1);
    hone_learnt_free(&learnt);
    hone_word_counts_free(counts);
    counts = marked("", 0);
    CHECK(hone_learn_unigram(counts, &options, NULL, &learnt, &err) == HONE_ERROR_INPUT);
    hone_word_counts_free(counts);
}

int main(void) {
    RUN(marked_words_begin_with_their_space);
    RUN(a_long_word_is_several);
    RUN(frequent_endings_become_pieces);
    RUN(a_unigram_vocabulary_has_room_for_all_characters);
    RUN(the_most_frequent_pair_is_merged_first);
    RUN(a_vocabulary_has_room_for_all_bytes);
    return check_report();
}
