// SPDX-License-Identifier: Apache-2.0
// The same prompts answered before and after training, for the report: held-out examples, by the
// model without what was trained and with it.
#include <string.h>

#include "base/system.h"
#include "train/decode.h"
#include "train/record.h"

static bool within_time(void *user, int32_t token, const char *bytes, size_t length) {
    (void)token, (void)bytes, (void)length;
    const double *deadline = user;
    return hone_seconds() < *deadline;
}

// What cannot be answered (a prompt as long as the context) stays NULL: a report without it is no
// failed run.
static char *answer(HoneGenerator *generator, const RecordSample *sample, double *deadline,
                    bool *ended) {
    const HoneSampling sampling = {.max_tokens = RECORD_TOKENS};
    HoneGenerated result;
    if (!generator || hone_generate_tokens(generator, sample->example->token, sample->prompt,
                                           &sampling, within_time, deadline, &result) != HONE_OK)
        return NULL;
    *ended = result.ended;
    hone_free(result.tokens);
    return result.text;
}

// The samples for which there is time, the last cut where it ends; one in any case. Adapters are
// switched off for what was before, and each side has a cache of its own. base: NULL, nothing was.
static void answer_all(Run *run, HoneModel *base) {
    double deadline = hone_seconds() + 0.4 + 0.02 * (hone_seconds() - run->started);
    HoneGenerator *after = NULL, *before = NULL;
    int answered = 0;
    if (hone_generator_create(run->model, &after) == HONE_OK &&
        (!base || hone_generator_create(base, &before) == HONE_OK)) {
        for (; answered < run->record.sample_count; answered++) {
            RecordSample *sample = &run->record.samples[answered];
            if (answered > 0 && hone_seconds() >= deadline) break;
            sample->after = answer(after, sample, &deadline, &sample->after_ended);
            hone_model_enable_adapters(run->model, false);
            sample->before = answer(before, sample, &deadline, &sample->before_ended);
            hone_model_enable_adapters(run->model, true);
        }
    }
    run->record.sample_count = answered;
    hone_generator_free(after);
    hone_generator_free(before);
}

static void choose(Run *run) {
    const bool held_out = run->held_out_count > 0;
    const Example *const *from = held_out ? run->held_out : run->train;
    const int64_t count = held_out ? run->held_out_count : run->train_count;
    const int64_t stride = count / RECORD_SAMPLES > 0 ? count / RECORD_SAMPLES : 1;
    for (int64_t i = 0; i < count && run->record.sample_count < RECORD_SAMPLES; i += stride) {
        // Of plain text the beginning, which the model goes on from.
        enum { BEGINNING = 24 };
        const int64_t half = from[i]->count / 2;
        const int64_t prompt = from[i]->answer    ? from[i]->prompt
                               : half > BEGINNING ? BEGINNING
                                                  : half;
        if (prompt > 0)
            run->record.samples[run->record.sample_count++] =
                (RecordSample){.example = from[i], .prompt = prompt};
    }
}

void hone_record_answer(Run *run) {
    // Where one weight at a time is resident, a whole model would be beyond --memory.
    if (run->memory.releases || hone_model_is_encoder(run->model->model)) return;
    choose(run);
    if (run->record.sample_count == 0) return;
    if (run->develop) {
        answer_all(run, NULL);
    } else if (run->options.method == HONE_METHOD_FULL) {
        HoneModel *base = NULL; // its weights were replaced: read the file again
        if (hone_model_load(run->context, run->options.model, &base) == HONE_OK)
            answer_all(run, base);
        hone_model_free(base);
    } else {
        answer_all(run, run->model);
    }
    hone_error_clear(run->err);
}

void hone_record_free(RunRecord *record) {
    for (int i = 0; i < record->sample_count; i++) {
        hone_free(record->samples[i].before);
        hone_free(record->samples[i].after);
    }
    hone_free(record->before);
    hone_free(record->after);
}
