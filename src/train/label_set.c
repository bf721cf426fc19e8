// SPDX-License-Identifier: Apache-2.0
// Which classes a run teaches.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/run.h"

// ---- given -------------------------------------------------------------------------------------

static hone_status split_list(Run *run, const char *list) {
    Arena *memory = &run->model->memory;
    int64_t count = 1, used = 0;
    for (const char *c = list; *c; c++) count += *c == ',';
    const char **labels = hone_arena_calloc(memory, (size_t)count, sizeof *labels);
    if (!labels) return hone_fail_memory(run->err, (size_t)count * sizeof *labels, "labels");
    for (const char *at = list; used < count; used++) {
        const size_t length = strcspn(at, ",");
        if (length == 0)
            return hone_fail(run->err, HONE_ERROR_ARGUMENT, "--labels: label %lld is empty",
                             (long long)used + 1);
        labels[used] = hone_arena_strndup(memory, at, length);
        if (!labels[used]) return hone_fail_memory(run->err, length, "a label");
        for (int64_t i = 0; i < used; i++)
            if (strcmp(labels[i], labels[used]) == 0)
                return hone_fail(run->err, HONE_ERROR_ARGUMENT, "--labels: \"%s\" is there twice",
                                 labels[i]);
        at += length + (at[length] == ',');
    }
    run->options.examples.labels = labels;
    run->options.examples.label_count = count;
    return HONE_OK;
}

hone_status hone_run_given_labels(Run *run) {
    HoneFinetuneOptions *options = &run->options;
    if (options->examples.task != HONE_TASK_CLASSIFY) return HONE_OK;
    if (options->labels) return split_list(run, options->labels);
    if (options->adapter) {
        const char **labels;
        int64_t count;
        RETURN_IF_ERROR(hone_labels_load(run->model, options->adapter, &labels, &count, run->err));
        options->examples.labels = count > 0 ? labels : NULL;
        options->examples.label_count = count;
        if (count > 0) return HONE_OK;
    }
    options->examples.labels = run->model->labels;
    options->examples.label_count = run->model->label_count;
    return HONE_OK;
}

// ---- found in the data -------------------------------------------------------------------------

static bool is_number(const char *text) {
    char *end;
    strtoll(text, &end, 10);
    return *text && *end == '\0';
}

static int compare_names(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int compare_numbers(const void *left, const void *right) {
    const long long a = strtoll(*(const char *const *)left, NULL, 10);
    const long long b = strtoll(*(const char *const *)right, NULL, 10);
    return a != b ? (a > b) - (a < b) : compare_names(left, right);
}

// Each name once, in order.
static hone_status list_names(const Run *run, StringMap *map, const char **labels, int64_t *count) {
    bool numbers = true;
    *count = 0;
    for (int64_t i = 0; i < run->train_count; i++) {
        const char *name = run->train[i]->answer;
        if (hone_map_get(map, name, strlen(name), -1) >= 0) continue;
        if (!hone_map_put(map, name, strlen(name), 0))
            return hone_fail_memory(run->err, strlen(name), "labels");
        numbers = numbers && is_number(name);
        labels[(*count)++] = name;
    }
    qsort((void *)labels, (size_t)*count, sizeof *labels,
          numbers ? compare_numbers : compare_names);
    for (int64_t i = 0; i < *count; i++)
        hone_map_put(map, labels[i], strlen(labels[i]), i); // it is there: this takes no memory
    return HONE_OK;
}

static hone_status find_labels(Run *run, const char **labels) {
    HoneDataOptions *examples = &run->options.examples;
    StringMap map = {0};
    int64_t count;
    hone_status status = list_names(run, &map, labels, &count);
    if (status == HONE_OK && count < 2)
        status = hone_fail(run->err, HONE_ERROR_INPUT,
                           "%s: every example has the label \"%s\": there is nothing to tell apart",
                           run->options.data[0].path, count ? labels[0] : "");
    for (int64_t s = 0; s < run->options.data_count && status == HONE_OK; s++) {
        Dataset *set = &run->data[s]->set;
        for (int64_t i = 0; i < set->count; i++) {
            const char *name = set->examples[i].answer;
            set->examples[i].label = (int32_t)hone_map_get(&map, name, strlen(name), -1);
        }
    }
    hone_map_free(&map);
    if (status == HONE_OK)
        status = hone_model_add_classes(run->model, labels, count, run->options.seed, run->err);
    examples->labels = run->model->labels;
    examples->label_count = run->model->label_count;
    return status;
}

// ---- the classifier ----------------------------------------------------------------------------

// The classifier is trained whole beside an adapter, and a pooler that was drawn with it.
static hone_status save_classifier(Run *run) {
    HoneFinetuneOptions *options = &run->options;
    const char *given = options->save_modules;
    const char *own = run->model->fresh_pooler ? "classifier,pooler" : "classifier";
    if (options->method == HONE_METHOD_FULL || options->adapter) return HONE_OK;
    if (given && strstr(given, own)) return HONE_OK; // of a run that is repeated or resumed
    TextBuffer text = {0};
    hone_text_printf(&text, "%s%s%s", own, given && *given ? "," : "", given ? given : "");
    options->save_modules =
        text.failed ? NULL : hone_arena_strndup(&run->model->memory, text.data, text.length);
    hone_text_free(&text);
    return options->save_modules ? HONE_OK : hone_fail_memory(run->err, 0, "a list of modules");
}

hone_status hone_run_take_labels(Run *run) {
    HoneDataOptions *examples = &run->options.examples;
    if (examples->task != HONE_TASK_CLASSIFY) return HONE_OK;
    if (examples->labels) {
        RETURN_IF_ERROR(hone_model_add_classes(run->model, examples->labels, examples->label_count,
                                               run->options.seed, run->err));
        examples->labels = run->model->labels;
    } else {
        const char **labels = hone_alloc(((size_t)run->train_count + 1) * sizeof *labels);
        if (!labels) return hone_fail_memory(run->err, (size_t)run->train_count * 8, "labels");
        hone_status status = find_labels(run, labels);
        hone_free((void *)labels);
        RETURN_IF_ERROR(status);
    }
    RETURN_IF_ERROR(
        hone_class_counts(&run->model->memory, run->model->label_count, &run->classes, run->err));
    return save_classifier(run);
}
