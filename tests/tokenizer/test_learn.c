// SPDX-License-Identifier: Apache-2.0
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

int main(void) {
    RUN(the_most_frequent_pair_is_merged_first);
    RUN(a_vocabulary_has_room_for_all_bytes);
    return check_report();
}
