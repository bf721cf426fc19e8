// SPDX-License-Identifier: Apache-2.0
// What the plan tells of the data: how long examples are, and which held-out ones are trained on.
#include "train/run.h"

// Widths that a person can read: 1, 2, 5, 10, 20, 50, …
static int64_t round_width(int64_t least) {
    for (int64_t power = 1;; power *= 10) {
        if (power >= least) return power;
        if (2 * power >= least) return 2 * power;
        if (5 * power >= least) return 5 * power;
    }
}

static void count_lengths(const Run *run, HonePlan *plan) {
    const int64_t most = HONE_LENGTH_BUCKETS;
    plan->length_width = round_width((plan->longest + most - 1) / most);
    for (int64_t i = 0; i < run->train_count; i++) {
        const int64_t length = hone_example_length(run->train[i]);
        const int64_t bucket = length > 0 ? (length - 1) / plan->length_width : 0;
        plan->lengths[bucket]++;
        if (bucket >= plan->length_buckets) plan->length_buckets = (int)bucket + 1;
    }
}

// The source too.
static const char *tokens_of(const Example *example, size_t *bytes) {
    *bytes = (size_t)hone_example_length(example) * sizeof *example->token;
    return (const char *)(example->token - example->source_count);
}

static hone_status count_duplicates(Run *run, HonePlan *plan) {
    StringMap seen = {0};
    size_t bytes;
    hone_status status = HONE_OK;
    for (int64_t i = 0; i < run->train_count && status == HONE_OK; i++) {
        const char *tokens = tokens_of(run->train[i], &bytes);
        if (!hone_map_put(&seen, tokens, bytes, 1))
            status = hone_fail_memory(run->err, (size_t)run->train_count * 16, "the duplicates");
    }
    for (int64_t i = 0; i < run->held_out_count && status == HONE_OK; i++) {
        const char *tokens = tokens_of(run->held_out[i], &bytes);
        plan->duplicates += hone_map_get(&seen, tokens, bytes, 0);
    }
    hone_map_free(&seen);
    return status;
}

hone_status hone_plan_survey(Run *run, HonePlan *plan) {
    count_lengths(run, plan);
    return run->held_out_count > 0 ? count_duplicates(run, plan) : HONE_OK;
}
