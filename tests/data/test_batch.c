// SPDX-License-Identifier: Apache-2.0
// Batches as tries: every target is predicted from just the tokens before it, and no token is there
// twice.
#include "check.h"
#include "data/examples.h"

static Words words;
static Arena memory;
static TokenBatch batch;

static void pack(void) {
    HoneError err = {0};
    hone_arena_reset(&memory);
    CHECK_INT(hone_batch_pack(words.list, words.count, &memory, &batch, &err), HONE_OK);
}

#define PACK(...) pack_words((const char *const[]){__VA_ARGS__, NULL})
static void pack_words(const char *const *list) {
    words = (Words){0};
    for (; *list; list++) words_add(&words, *list);
    pack();
}

// The line of tokens as letters.
static const char *line(void) {
    static char text[MOST_WORDS * WORD_LETTERS + 1];
    for (int64_t t = 0; t < batch.tokens; t++) text[t] = (char)('a' + batch.token[t]);
    text[batch.tokens] = 0;
    return text;
}

// Entries as "row:target×learners".
static const char *entries(void) {
    static char text[1024];
    size_t used = 0;
    text[0] = 0;
    for (int64_t e = 0; e < batch.entries; e++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%d:%c", e ? " " : "",
                                 (int)batch.row[e], (char)('a' + batch.target[e])) +
                (size_t)(batch.learners[e] > 1
                             ? snprintf(text + strlen(text), 16, "x%d", (int)batch.learners[e])
                             : 0);
    return text;
}

static int64_t last_target(const Example *example) {
    int64_t last = example->count - 1;
    while (last > 0 && !example->target[last]) last--;
    return last;
}

// Different beginnings of examples that a target follows.
static int64_t different_prefixes(void) {
    int64_t found = 0;
    for (int64_t i = 0; i < words.count; i++)
        for (int64_t length = 1; length <= last_target(words.list[i]); length++) {
            bool is_new = true;
            for (int64_t j = 0; j < i && is_new; j++)
                is_new = last_target(words.list[j]) < length ||
                         memcmp(words.token[i], words.token[j], (size_t)length * 4) != 0;
            found += is_new;
        }
    return found;
}

// What the row sees is the example's tokens before `depth`, each at its depth.
static bool row_sees(int32_t row, const Example *example, int64_t depth) {
    int64_t seen = 0;
    for (int64_t k = 0; k < batch.tokens; k++) {
        if (row < batch.begin[k] || row >= batch.end[k]) continue;
        if (seen == depth || batch.token[k] != example->token[seen] || batch.position[k] != seen)
            return false;
        seen++;
    }
    return seen == depth;
}

static void check_batch(void) {
    CHECK_INT(batch.tokens, different_prefixes());
    int64_t result = 0, learners = 0, rows = 0;
    for (int64_t i = 0; i < words.count; i++) {
        const Example *example = words.list[i];
        for (int64_t depth = 1; depth < example->count; depth++) {
            if (!example->target[depth]) continue;
            const int32_t entry = batch.result[result++];
            if (!CHECK(entry >= 0 && entry < batch.entries)) return;
            CHECK_INT(batch.target[entry], example->token[depth]);
            if (!CHECK(row_sees(batch.row[entry], example, depth)))
                printf("example %d, token %d\n", (int)i, (int)depth);
        }
    }
    CHECK_INT(batch.targets, result);
    for (int64_t e = 0; e < batch.entries; e++) {
        learners += batch.learners[e];
        rows += e == 0 || batch.row[e] != batch.row[e - 1];
        CHECK(e == 0 || batch.row[e] >= batch.row[e - 1]);
        for (int64_t f = 0; f < e; f++)
            CHECK(batch.row[e] != batch.row[f] || batch.target[e] != batch.target[f]);
    }
    CHECK_INT(learners, batch.targets);
    CHECK_INT(rows, batch.rows);
}

static void different_examples_lie_side_by_side(void) {
    PACK("abC", "xY", "defG");
    CHECK_STRING(line(), "abdefx");
    CHECK_STRING(entries(), "1:c 4:g 5:y");
    static const int32_t position[] = {0, 1, 0, 1, 2, 0}, begin[] = {0, 1, 2, 3, 4, 5};
    static const int32_t end[] = {2, 2, 5, 5, 5, 6}, result[] = {0, 2, 1};
    CHECK(memcmp(batch.position, position, sizeof position) == 0);
    CHECK(memcmp(batch.begin, begin, sizeof begin) == 0);
    CHECK(memcmp(batch.end, end, sizeof end) == 0);
    CHECK(memcmp(batch.result, result, sizeof result) == 0);
    check_batch();
}

static void a_shared_beginning_is_there_once(void) {
    PACK("abcdEF", "abcxYZ", "abQ");
    CHECK_STRING(line(), "abcdexy");
    CHECK_STRING(entries(), "1:q 3:e 4:f 5:y 6:z");
    static const int32_t end[] = {7, 7, 7, 5, 5, 7, 7}, position[] = {0, 1, 2, 3, 4, 3, 4};
    CHECK(memcmp(batch.end, end, sizeof end) == 0);
    CHECK(memcmp(batch.position, position, sizeof position) == 0);
    check_batch();
}

static void a_row_has_every_next_token(void) {
    PACK("abC", "abE", "abD", "abE");
    CHECK_STRING(line(), "ab");
    CHECK_STRING(entries(), "1:c 1:d 1:ex2");
    CHECK_INT(batch.rows, 1);
    check_batch();
}

static void masks_may_differ_on_what_is_shared(void) {
    PACK("abCdE", "aBcdE", "abcdE");
    CHECK_STRING(line(), "abcd");
    CHECK_STRING(entries(), "0:b 1:c 3:ex3");
    static const int32_t result[] = {1, 2, 0, 2, 2};
    CHECK(memcmp(batch.result, result, sizeof result) == 0);
    check_batch();
}

static void an_example_may_begin_another(void) {
    PACK("aBCDE", "aB", "aBC");
    CHECK_STRING(line(), "abcd");
    CHECK_STRING(entries(), "0:bx3 1:cx2 2:d 3:e");
    check_batch();
    PACK("abC", "abCDE", "abC"); // the equal ones on both sides of the longer one
    CHECK_STRING(line(), "abcd");
    check_batch();
}

static void equal_examples_share_everything(void) {
    PACK("abCD", "abCD", "abCD", "abCD");
    CHECK_STRING(line(), "abc");
    CHECK_STRING(entries(), "1:cx4 2:dx4");
    check_batch();
}

static void what_no_loss_depends_on_is_left_out(void) {
    PACK("abCdef", "abcDe", "xyz", "a", "aB");
    CHECK_STRING(line(), "abc");
    CHECK_STRING(entries(), "0:b 1:c 2:d");
    check_batch();
    PACK("a");
    CHECK_INT(batch.tokens + batch.entries + batch.rows, 0);
    words = (Words){0};
    pack();
    CHECK_INT(batch.tokens + batch.entries + batch.rows, 0);
}

static void any_examples(void) {
    RandomStream random = hone_random_stream(1, RANDOM_TEST, 0);
    for (int i = 0; i < 500; i++) {
        words_random(&words, 1 + (int)hone_random_below(&random, MOST_WORDS), &random);
        pack();
        check_batch();
    }
}

// A source lies once, whoever is behind it; what begins alike behind another is not shared.
static void sources_are_apart(void) {
    PACK("xy>aBC", "x>aBD", "xy>aBD", "x>aB", "y>aB");
    CHECK_STRING(line(), "ababa");
    CHECK_STRING(entries(), "0:bx2 1:d 2:bx2 3:c 3:d 4:b");
    const TokenSources *source = &batch.source;
    CHECK_INT(source->tokens, 4);
    static const int32_t want[4][6] = {{23, 0, 0, 1, 0, 2},  // x, seen by the first two tokens
                                       {23, 0, 1, 3, 2, 4},  // xy
                                       {24, 1, 1, 3, 2, 4},  //
                                       {24, 0, 3, 4, 4, 5}}; // y
    for (int s = 0; s < 4; s++) {
        CHECK_INT(source->token[s], want[s][0]);
        CHECK_INT(source->position[s], want[s][1]);
        CHECK_INT(source->begin[s], want[s][2]);
        CHECK_INT(source->end[s], want[s][3]);
        CHECK_INT(source->seen_begin[s], want[s][4]);
        CHECK_INT(source->seen_end[s], want[s][5]);
    }
    // What is dropped depends on the source too.
    CHECK(batch.path[0] != batch.path[2] && batch.path[0] != batch.path[4]);
    CHECK(source->path[0] == source->path[1] && source->path[2] != source->path[3]);
}

int main(void) {
    RUN(different_examples_lie_side_by_side);
    RUN(a_shared_beginning_is_there_once);
    RUN(a_row_has_every_next_token);
    RUN(masks_may_differ_on_what_is_shared);
    RUN(an_example_may_begin_another);
    RUN(equal_examples_share_everything);
    RUN(what_no_loss_depends_on_is_left_out);
    RUN(any_examples);
    hone_arena_free(&memory);
    RUN(sources_are_apart);
    return check_report();
}
