// SPDX-License-Identifier: Apache-2.0
// report.html: the page's template (report.html, compiled in) with the runs' data in it.
#include <hone/report.h>

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/nearest.h"
#include "base/text.h"
#include "tensor/context.h"
#include "train/page.h"

enum { MOST_STEPS = 6000 }; // drawn; a longer run is thinned out evenly

static const char *const columns[] = {
    "step",         "loss",    "lr",        "grad_norm",      "tokens",           "tokens_computed",
    "tokens_per_s", "seconds", "rss_bytes", "rss_anon_bytes", "rss_mapped_bytes",
};
enum { COLUMNS = sizeof columns / sizeof *columns };

typedef struct Metrics {
    TextBuffer column[COLUMNS], evals, layer_names, layer_steps, layer_norms;
    int64_t steps, taken, stride;
} Metrics;

static void put_value(TextBuffer *text, const json_t *value) {
    if (text->length) hone_text_puts(text, ",");
    if (json_is_integer(value))
        hone_text_printf(text, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        hone_text_printf(text, "%.9g", json_real_value(value));
    else
        hone_text_puts(text, "null");
}

static void put_names(TextBuffer *text, const json_t *names) {
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        hone_text_puts(text, i ? "," : "");
        hone_text_json(text, name ? name : "", name ? strlen(name) : 0);
    }
}

static void take_step(Metrics *metrics, const json_t *line) {
    const json_t *norms = json_object_get(line, "layer_grad_norm");
    if (json_is_array(norms)) {
        if (metrics->layer_steps.length == 0)
            put_names(&metrics->layer_names, json_object_get(line, "layers"));
        TextBuffer list = {0};
        put_value(&metrics->layer_steps, json_object_get(line, "step"));
        for (size_t i = 0; i < json_array_size(norms); i++)
            put_value(&list, json_array_get(norms, i));
        hone_text_printf(&metrics->layer_norms, "%s[%s]", metrics->layer_norms.length ? "," : "",
                         list.data ? list.data : "");
        hone_text_free(&list);
    }
    if (metrics->taken++ % metrics->stride != 0 && metrics->taken != metrics->steps) return;
    for (int i = 0; i < COLUMNS; i++)
        put_value(&metrics->column[i], json_object_get(line, columns[i]));
}

static void take_eval(Metrics *metrics, const json_t *line) {
    static const char *const names[] = {"step", "loss", "perplexity"};
    hone_text_puts(&metrics->evals, metrics->evals.length ? ",{" : "{");
    for (int i = 0; i < 3; i++) {
        TextBuffer value = {0};
        put_value(&value, json_object_get(line, names[i]));
        hone_text_printf(&metrics->evals, "%s\"%s\":%s", i ? "," : "", names[i],
                         value.data ? value.data : "null");
        hone_text_free(&value);
    }
    hone_text_puts(&metrics->evals, "}");
}

// What jansson could not read; lack of memory is no fault of the file.
static hone_status fail_json(HoneError *err, const char *path, int line, const char *what,
                             const json_error_t *why, bool lacked) {
    if (lacked) return hone_fail_memory(err, 0, "a report");
    return hone_fail(err, HONE_ERROR_INPUT, "%s:%d: is not %s%s%s", path, line, what,
                     why ? ": " : "", why ? why->text : "");
}

// Lines that are whole; a process that was killed may have left half a line at the end.
static hone_status read_lines(Metrics *metrics, const char *path, const char *text,
                              HoneError *err) {
    int number = 0;
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        json_error_t why = {0};
        number++;
        if (end == text) continue;
        hone_memory_watch();
        json_t *line = json_loadb(text, (size_t)(end - text), 0, &why);
        const bool lacked = !line && hone_memory_lacked();
        if (!json_is_object(line)) {
            const bool read = line != NULL;
            json_decref(line);
            return fail_json(err, path, number, "a line of JSON", read ? NULL : &why, lacked);
        }
        const char *event = json_string_value(json_object_get(line, "event"));
        if (event && strcmp(event, "step") == 0) take_step(metrics, line);
        if (event && strcmp(event, "eval") == 0) take_eval(metrics, line);
        json_decref(line);
    }
    return HONE_OK;
}

static int64_t count_steps(const char *text) {
    int64_t count = 0;
    for (; (text = strstr(text, "\"event\":\"step\"")); text++) count++;
    return count;
}

static void put_metrics(TextBuffer *json, const Metrics *metrics) {
    hone_text_puts(json, ",\"steps\":{");
    for (int i = 0; i < COLUMNS; i++)
        hone_text_printf(json, "%s\"%s\":[%s]", i ? "," : "", columns[i],
                         metrics->column[i].data ? metrics->column[i].data : "");
    hone_text_printf(json,
                     "},\"evals\":[%s],\"layers\":{\"names\":[%s],\"step\":[%s],\"norms\":[%s]}",
                     metrics->evals.data ? metrics->evals.data : "",
                     metrics->layer_names.data ? metrics->layer_names.data : "",
                     metrics->layer_steps.data ? metrics->layer_steps.data : "",
                     metrics->layer_norms.data ? metrics->layer_norms.data : "");
}

static hone_status add_metrics(TextBuffer *json, const char *path, HoneError *err) {
    Metrics metrics = {0};
    char *text;
    RETURN_IF_ERROR(hone_file_read(path, &text, NULL, err));
    metrics.steps = count_steps(text);
    metrics.stride = (metrics.steps + MOST_STEPS - 1) / MOST_STEPS;
    if (metrics.stride < 1) metrics.stride = 1;
    hone_status status = read_lines(&metrics, path, text, err);
    if (status == HONE_OK) put_metrics(json, &metrics);
    hone_free(text);
    for (int i = 0; i < COLUMNS; i++) {
        json->failed = json->failed || metrics.column[i].failed;
        hone_text_free(&metrics.column[i]);
    }
    json->failed = json->failed || metrics.evals.failed || metrics.layer_norms.failed;
    hone_text_free(&metrics.evals);
    hone_text_free(&metrics.layer_names);
    hone_text_free(&metrics.layer_steps);
    hone_text_free(&metrics.layer_norms);
    return status;
}

// The record as it stands, if it is JSON.
static hone_status add_record(TextBuffer *json, const char *path, HoneError *err) {
    json_error_t why = {0};
    char *text;
    size_t bytes;
    if (!hone_is_file(path)) {
        hone_text_puts(json, ",\"run\":null");
        return HONE_OK;
    }
    RETURN_IF_ERROR(hone_file_read(path, &text, &bytes, err));
    hone_memory_watch();
    json_t *record = json_loadb(text, bytes, 0, &why);
    const bool lacked = !record && hone_memory_lacked();
    const bool read = record != NULL;
    const bool fine = json_is_object(record) && json_is_object(json_object_get(record, "plan"));
    if (fine) {
        hone_text_puts(json, ",\"run\":");
        hone_text_append(json, text, bytes);
    }
    json_decref(record);
    hone_free(text);
    return fine ? HONE_OK
                : fail_json(err, path, read ? 1 : why.line, "the record of a run",
                            read ? NULL : &why, lacked);
}

static hone_status add_config(TextBuffer *json, const char *path, HoneError *err) {
    char *text;
    size_t bytes;
    hone_text_puts(json, ",\"config\":");
    if (!hone_is_file(path)) {
        hone_text_puts(json, "null");
        return HONE_OK;
    }
    RETURN_IF_ERROR(hone_file_read(path, &text, &bytes, err));
    hone_text_json(json, text, bytes);
    hone_free(text);
    return HONE_OK;
}

static hone_status not_a_run(const char *folder, HoneError *err) {
    char near[1024];
    if (!hone_is_directory(folder) && hone_nearest_file(folder, near, sizeof near))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: there is no such folder of a run; did you mean %s?", folder, near);
    return hone_fail(err, HONE_ERROR_INPUT,
                     "%s: is not the folder of a run: it has no metrics.jsonl", folder);
}

static hone_status add_run(TextBuffer *json, const char *folder, HoneError *err) {
    static const char *const names[] = {"metrics.jsonl", "run.json", "config.yaml"};
    static hone_status (*const adds[])(TextBuffer *, const char *,
                                       HoneError *) = {add_metrics, add_record, add_config};
    hone_text_puts(json, "{\"folder\":");
    hone_text_json(json, folder, strlen(folder));
    hone_status status = HONE_OK;
    for (int i = 0; i < 3 && status == HONE_OK; i++) {
        char *path = hone_path_join(folder, names[i]);
        if (!path)
            status = hone_fail_memory(err, 0, "a path");
        else if (i == 0 && !hone_is_file(path))
            status = not_a_run(folder, err);
        else
            status = adds[i](json, path, err);
        hone_free(path);
    }
    hone_text_puts(json, "}");
    return status;
}

hone_status hone_report(HoneContext *context, const char *const *folders, int count,
                        const char *out) {
    HoneError *err = hone_begin(context);
    TextBuffer json = {0};
    hone_status status = HONE_OK;
    hone_text_printf(&json, "{\"version\":\"%s\",\"runs\":[", HONE_VERSION);
    for (int i = 0; i < count && status == HONE_OK; i++) {
        if (i) hone_text_puts(&json, ",");
        status = add_run(&json, folders[i], err);
    }
    hone_text_puts(&json, "]}");
    if (status == HONE_OK) status = hone_page_write(out, hone_report_html, &json, err);
    hone_text_free(&json);
    return status;
}
