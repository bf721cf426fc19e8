// SPDX-License-Identifier: Apache-2.0
// The public data calls.
#include <hone/embed.h>

#include "train/session.h"

DataOptions hone_model_data_options(const HoneModel *model, const HoneDataOptions *options) {
    static const HoneDataOptions defaults = {0};
    static const EncoderTask tasks[] = {TASK_NONE, TASK_EMBED, TASK_CLASSIFY, TASK_PAIRS};
    if (!options) options = &defaults;
    int64_t longest = model->config.context < 2048 ? model->config.context : 2048;
    LossOn loss_on = options->loss_on == HONE_LOSS_ASSISTANT    ? LOSS_ASSISTANT
                     : options->loss_on == HONE_LOSS_COMPLETION ? LOSS_COMPLETION
                     : options->loss_on == HONE_LOSS_ALL        ? LOSS_ALL
                                                                : LOSS_AUTO;
    if (options->pairs) loss_on = LOSS_COMPLETION;
    return (DataOptions){.tokenizer = model->tokenizer,
                         .chat_template = model->chat_template,
                         .max_length = options->max_length > 0 ? options->max_length : longest,
                         .stride = options->stride,
                         .loss_on = loss_on,
                         .on_bad = options->skip_bad ? BAD_SKIP : BAD_STOP,
                         .no_eos = options->no_eos,
                         .pairs = options->pairs,
                         .translates = model->config.encoder_layers > 0,
                         .start = model->config.decoder_start,
                         .now = options->now,
                         .task = tasks[options->task],
                         .labels = options->labels,
                         .label_count = options->label_count,
                         .unlabelled = options->unlabelled,
                         .keep_text = true};
}

// texts NULL: those of the file.
static hone_status read_data(HoneModel *model, const char *path, const char *const *texts,
                             int64_t count, const HoneDataOptions *options, HoneData **data) {
    HoneError *err = hone_begin(model->context);
    *data = NULL;
    if (!options || options->task == HONE_TASK_NONE)
        RETURN_IF_ERROR(hone_need_decoder(model, "it has no next token to learn or to measure"));
    else
        RETURN_IF_ERROR(hone_need_encoder(model));
    if (options && options->max_length > model->config.context)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "a length of at most %lld tokens (--max-length): the model's context is "
                         "%lld",
                         (long long)options->max_length, (long long)model->config.context);
    if (options && options->task != HONE_TASK_NONE && options->pairs)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "pairs of answers (--loss dpo, orpo) are no --task of an encoder");
    if (options && options->pairs && model->config.encoder_layers > 0)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s is an encoder-decoder, which does not learn from pairs of answers: "
                         "--loss tokens",
                         model->name);
    if (options && options->max_length < 0)
        return hone_fail(err, HONE_ERROR_ARGUMENT,
                         "a length of at most %lld tokens (--max-length), want 2 or more",
                         (long long)options->max_length);
    HoneData *read = hone_calloc(1, sizeof *read);
    if (!read) return hone_fail_memory(err, sizeof *read, "data");
    DataOptions resolved = hone_model_data_options(model, options);
    hone_status status = texts ? hone_dataset_texts(texts, count, &resolved, &read->set, err)
                               : hone_dataset_read(path, &resolved, &read->set, err);
    if (status != HONE_OK) {
        hone_data_free(read);
        return status;
    }
    *data = read;
    return HONE_OK;
}

hone_status hone_data_read(HoneModel *model, const char *path, const HoneDataOptions *options,
                           HoneData **data) {
    return read_data(model, path, NULL, 0, options, data);
}

hone_status hone_data_texts(HoneModel *model, const char *const *texts, int64_t count,
                            const HoneDataOptions *options, HoneData **data) {
    return read_data(model, NULL, texts, count, options, data);
}

void hone_data_free(HoneData *data) {
    if (!data) return;
    hone_dataset_free(&data->set);
    hone_file_unmap(&data->map);
    hone_free(data);
}

void hone_data_info(const HoneData *data, HoneDataInfo *info) {
    const Dataset *set = &data->set;
    *info = (HoneDataInfo){.examples = set->count,
                           .tokens = set->tokens,
                           .targets = set->targets,
                           .longest = set->longest,
                           .cut = set->cut,
                           .skipped = set->skipped,
                           .first_skipped = set->first_bad};
}

void hone_data_example(const HoneData *data, int64_t index, HoneExample *example) {
    const Example *source = &data->set.examples[index];
    *example = (HoneExample){.text = source->text ? source->text : "",
                             .tokens = source->token - source->source_count,
                             .mask = source->target - source->source_count,
                             .count = hone_example_length(source),
                             .targets = source->targets,
                             .answer = source->answer,
                             .line = source->line,
                             .cut = source->cut};
}
