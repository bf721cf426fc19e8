// SPDX-License-Identifier: Apache-2.0
// What the model writes while it is trained.
#include <string.h>

#include "train/run.h"

static hone_status log_sample(Run *run, const HoneSample *sample) {
    TextBuffer line = {0};
    hone_text_printf(&line,
                     "{\"event\":\"sample\",\"step\":%lld,\"prompt\":", (long long)sample->step);
    hone_text_json(&line, sample->prompt, strlen(sample->prompt));
    hone_text_puts(&line, ",\"text\":");
    hone_text_json(&line, sample->text, strlen(sample->text));
    hone_text_puts(&line, "}");
    hone_status status = line.failed ? hone_fail_memory(run->err, line.length, "a sample")
                                     : hone_log_line(&run->metrics, line.data, run->err);
    hone_text_free(&line);
    return status;
}

hone_status hone_run_sample(Run *run, int64_t step) {
    const HoneSampling sampling = {.max_tokens = 64,
                                   .temperature = 0.8f,
                                   .top_p = 0.95f,
                                   .seed = run->options.seed + (uint64_t)step};
    const char *prompt = run->options.sample;
    if (!prompt) return HONE_OK;
    HoneGenerator *generator;
    HoneGenerated result;
    RETURN_IF_ERROR(hone_generator_create(run->model, &generator));
    hone_status status =
        hone_generate_text(generator, prompt, strlen(prompt), &sampling, NULL, NULL, &result);
    hone_generator_free(generator);
    if (status != HONE_OK) return hone_fail_in(run->err, "--sample");
    const HoneSample sample = {step, prompt, result.text};
    status = log_sample(run, &sample);
    const HoneEvent event = {.kind = HONE_EVENT_SAMPLE, .as.sample = &sample};
    if (status == HONE_OK && run->sink && !run->sink(run->user, &event)) run->stop = true;
    hone_free(result.text);
    hone_free(result.tokens);
    return status;
}
