// SPDX-License-Identifier: Apache-2.0
// Classes: probabilities, F1 by hand; and how an encoder's texts lie in a batch.
#include <math.h>

#include "check.h"
#include "train/classes.h"

static void probabilities_add_up_and_the_first_of_equals_is_said(void) {
    double p[3];
    CHECK(hone_class_softmax((const float[]){1, 3, 3}, 3, p) == 1);
    CHECK(fabs(p[0] + p[1] + p[2] - 1) < 1e-12);
    CHECK(fabs(p[0] / p[1] - exp(-2)) < 1e-12);
    CHECK(hone_class_softmax((const float[]){-2000, 2000, 0}, 3, p) == 1);
    CHECK(p[0] < 1e-300 && p[1] > 1 - 1e-12);
    CHECK(hone_class_softmax((const float[]){NAN, 1, 2}, 3, p) == 2);
}

static void f1_is_the_mean_over_labels_that_were_given_or_said(void) {
    Arena memory = {0};
    HoneError err = {0};
    ClassCounts counts;
    CHECK(hone_class_counts(&memory, 4, &counts, &err) == HONE_OK);
    const int64_t given[] = {0, 0, 0, 1, 1}, said[] = {0, 0, 1, 1, 2};
    CHECK(isnan(hone_class_f1(&counts)));
    for (int i = 0; i < 5; i++) hone_class_count(&counts, given[i], said[i]);
    CHECK(counts.right == 3 && counts.wrong == 2);
    // 0: 2 hits, 1 missed → 0.8; 1: 1 hit, 1 false, 1 missed → 0.5; 2: none → 0; 3 is not there
    CHECK(fabs(hone_class_f1(&counts) - (0.8 + 0.5 + 0) / 3) < 1e-12);
    hone_class_forget(&counts);
    CHECK(counts.right == 0 && isnan(hone_class_f1(&counts)));
    hone_arena_free(&memory);
}

static void texts_lie_side_by_side_with_their_types_and_paths(void) {
    Arena memory = {0};
    HoneError err = {0};
    TextBatch batch;
    int32_t one[] = {1, 5, 2, 6, 2}, two[] = {1, 5};
    const Example pair = {.token = one, .count = 5, .second = 3};
    const Example brief = {.token = two, .count = 2};
    CHECK(hone_texts_pack((const Example *const[]){&pair, &brief, &pair}, 3, &memory, &batch,
                          &err) == HONE_OK);
    CHECK(batch.tokens == 12 && batch.first[1] == 5 && batch.first[3] == 12);
    for (int i = 0; i < 5; i++) {
        CHECK(batch.token[i] == one[i] && batch.position[i] == i && batch.type[i] == (i >= 3));
        CHECK(batch.begin[i] == 0 && batch.end[i] == 5);
        CHECK(batch.path[i] == batch.path[7 + i]); // the same text elsewhere
        for (int j = 0; j < i; j++) CHECK(batch.path[i] != batch.path[j]);
    }
    CHECK(batch.begin[5] == 5 && batch.end[6] == 7 && batch.type[6] == 0);
    CHECK(batch.path[5] != batch.path[0]); // the same token of another text
    hone_arena_free(&memory);
}

int main(void) {
    RUN(probabilities_add_up_and_the_first_of_equals_is_said);
    RUN(f1_is_the_mean_over_labels_that_were_given_or_said);
    RUN(texts_lie_side_by_side_with_their_types_and_paths);
    return check_report();
}
