// SPDX-License-Identifier: Apache-2.0
// The sources of a file, for hone_translate.
#include <hone/translate.h>

#include <string.h>

#include "train/session.h"

struct HoneSources {
    const char **texts;
    int *lines;
    int64_t count, capacity;
    Arena memory;
};

static hone_status add(void *user, const char *path, int line, const char *source,
                       const char *target, HoneError *err) {
    (void)path, (void)target; // the reader says the place
    HoneSources *sources = user;
    if (!*source) return hone_fail(err, HONE_ERROR_INPUT, "the source is empty");
    if (sources->count == sources->capacity) {
        const int64_t larger = sources->capacity ? 2 * sources->capacity : 1024;
        const size_t before = (size_t)sources->count, after = (size_t)larger;
        const char **texts =
            hone_realloc((void *)sources->texts, before * sizeof *texts, after * sizeof *texts);
        if (texts) sources->texts = texts;
        int *lines = hone_realloc(sources->lines, before * sizeof *lines, after * sizeof *lines);
        if (lines) sources->lines = lines;
        if (!texts || !lines) return hone_fail_memory(err, after * sizeof *texts, "sources");
        sources->capacity = larger;
    }
    const char *copy = hone_arena_strndup(&sources->memory, source, strlen(source));
    if (!copy) return hone_fail_memory(err, strlen(source), "a source");
    sources->texts[sources->count] = copy;
    sources->lines[sources->count++] = line;
    return HONE_OK;
}

hone_status hone_sources_read(HoneContext *context, const char *path, HoneSources **sources) {
    HoneError *err = hone_begin(context);
    *sources = NULL;
    HoneSources *made = hone_calloc(1, sizeof *made);
    if (!made) return hone_fail_memory(err, sizeof *made, "sources");
    hone_status status = hone_translations_each(path, true, add, made, err);
    if (status != HONE_OK) {
        hone_sources_free(made);
        return status;
    }
    *sources = made;
    return HONE_OK;
}

void hone_sources_free(HoneSources *sources) {
    if (!sources) return;
    hone_free((void *)sources->texts);
    hone_free(sources->lines);
    hone_arena_free(&sources->memory);
    hone_free(sources);
}

int64_t hone_sources_count(const HoneSources *sources) {
    return sources->count;
}

const char *const *hone_sources_texts(const HoneSources *sources) {
    return sources->texts;
}

int hone_sources_line(const HoneSources *sources, int64_t index) {
    return sources->lines[index];
}
