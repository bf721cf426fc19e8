// SPDX-License-Identifier: Apache-2.0
// A teacher: a model that the run's own learns from, as it is stored.
#include <string.h>

#include "train/run.h"

bool hone_loss_has_pairs(HoneLoss loss) {
    return loss == HONE_LOSS_DPO || loss == HONE_LOSS_ORPO;
}

const BatchTeacher *hone_run_teacher(const Run *run, BatchTeacher *teacher) {
    if (!run->teacher) return NULL;
    *teacher = (BatchTeacher){.model = run->teacher->model,
                              .temperature = (float)run->options.temperature,
                              .share = (float)run->options.teacher_share};
    return teacher;
}

// A distribution over other tokens teaches nothing.
static hone_status check_vocabulary(const Run *run) {
    const HoneModel *model = run->model, *teacher = run->teacher;
    const int64_t own = model->config.vocabulary, other = teacher->config.vocabulary;
    if (own != other)
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "--teacher %s has %lld tokens, %s has %lld: distillation is over one "
                         "vocabulary",
                         teacher->name, (long long)other, model->name ? model->name : "the model",
                         (long long)own);
    for (int64_t i = 0; i < own; i++) {
        const TokenizerText a = hone_token_bytes(model->tokenizer, (int32_t)i, true);
        const TokenizerText b = hone_token_bytes(teacher->tokenizer, (int32_t)i, true);
        if (a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0))
            continue;
        return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                         "--teacher %s: token %lld is \"%.*s\" there and \"%.*s\" in %s: "
                         "distillation is over one vocabulary",
                         teacher->name, (long long)i, (int)(b.length < 40 ? b.length : 40), b.data,
                         (int)(a.length < 40 ? a.length : 40), a.data,
                         model->name ? model->name : "the model");
    }
    return HONE_OK;
}

hone_status hone_run_load_teacher(Run *run) {
    if (run->options.loss != HONE_LOSS_DISTILL) return HONE_OK;
    RETURN_IF_ERROR(hone_model_load(run->context, run->options.teacher, &run->teacher));
    RETURN_IF_ERROR(check_vocabulary(run));
    const HoneModel *teacher = run->teacher;
    if (teacher->config.encoder_layers > 0 || run->model->config.encoder_layers > 0)
        return hone_fail(run->err, HONE_ERROR_UNSUPPORTED,
                         "--loss distill is of decoders; %s is an encoder-decoder",
                         teacher->config.encoder_layers > 0 ? teacher->name : run->options.model);
    const int64_t length = hone_model_data_options(run->model, &run->options.examples).max_length;
    if (length <= teacher->config.context) return HONE_OK;
    return hone_fail(run->err, HONE_ERROR_ARGUMENT,
                     "--teacher %s has a context of %lld tokens, examples have up to %lld: "
                     "--max-length %lld fits",
                     teacher->name, (long long)teacher->config.context, (long long)length,
                     (long long)teacher->config.context);
}
