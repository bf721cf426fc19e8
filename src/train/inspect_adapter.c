// SPDX-License-Identifier: Apache-2.0
// What an adapter is, of any kind that is read, told without its base: read as that of each
// architecture in turn, for only module names depend on it.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/gguf.h"
#include "io/peft.h"
#include "train/inspect.h"

// A GGUF adapter says whose it is; a folder's fits the first architecture whose modules it has.
static hone_status read_adapter(const char *path, const char *architecture, AdapterFile *file,
                                HoneError *err) {
    // Rows stay as they lie: the order of q and k is the base's affair.
    AdapterBase base = {.architecture = architecture, .rope_interleaved = true};
    if (architecture) return hone_adapter_read(path, &base, file, err);
    base.rope_interleaved = false;
    for (int i = 0; (base.architecture = hone_adapter_architecture(i)); i++) {
        HoneError problem = {0};
        for (int gated = 0; gated < 2; gated++) {
            base.gated = gated;
            if (hone_adapter_read(path, &base, file, gated ? NULL : &problem) == HONE_OK)
                return HONE_OK;
        }
        if (i == 0) hone_fail(err, problem.status, "%s", problem.message);
    }
    return err->status;
}

// "blk.3.attn_q.weight": its kind is attn_q, its layer 3; −1 outside the layers.
static size_t split_name(const char *name, const char **kind, int *layer) {
    int end = 0;
    *layer = -1;
    if (sscanf(name, "blk.%6d.%n", layer, &end) != 1 || end == 0) *layer = -1, end = 0;
    *kind = name + end;
    const char *dot = strrchr(*kind, '.');
    return dot ? (size_t)(dot - *kind) : strlen(*kind);
}

typedef struct Summary {
    int64_t values;
    int lowest_rank, highest_rank, first_layer, last_layer; // −1: none
    float lowest_scale, highest_scale;
} Summary;

static Summary summarise(const AdapterFile *file) {
    Summary summary = {.lowest_rank = INT32_MAX, .first_layer = -1, .last_layer = -1};
    for (int64_t i = 0; i < file->count; i++) {
        const AdapterPair *pair = &file->pairs[i];
        const char *kind;
        int layer;
        split_name(pair->name, &kind, &layer);
        summary.values += pair->rank * (pair->in + pair->out) + (pair->magnitude ? pair->out : 0);
        if (pair->rank < summary.lowest_rank) summary.lowest_rank = pair->rank;
        if (pair->rank > summary.highest_rank) summary.highest_rank = pair->rank;
        if (i == 0 || pair->scale < summary.lowest_scale) summary.lowest_scale = pair->scale;
        if (i == 0 || pair->scale > summary.highest_scale) summary.highest_scale = pair->scale;
        if (layer >= 0 && (summary.first_layer < 0 || layer < summary.first_layer))
            summary.first_layer = layer;
        if (layer > summary.last_layer) summary.last_layer = layer;
    }
    for (int64_t i = 0; i < file->whole_count; i++)
        summary.values += file->whole[i].shape[0] * file->whole[i].shape[1];
    return summary;
}

// Each kind of matrix once, with how many of them there are.
static void put_targets(const AdapterFile *file, bool json, TextBuffer *text) {
    StringMap counts = {0};
    const char *kind;
    int layer;
    for (int64_t i = 0; i < file->count; i++) {
        const size_t length = split_name(file->pairs[i].name, &kind, &layer);
        if (!hone_map_put(&counts, kind, length, hone_map_get(&counts, kind, length, 0) + 1))
            text->failed = true;
    }
    bool first = true;
    for (int64_t i = 0; i < file->count; i++) {
        const size_t length = split_name(file->pairs[i].name, &kind, &layer);
        const int64_t alike = hone_map_get(&counts, kind, length, 0);
        if (alike == 0) continue; // said already
        hone_map_put(&counts, kind, length, 0);
        hone_text_puts(text, first ? "" : json ? "," : ", ");
        if (json)
            hone_text_json(text, kind, length);
        else
            hone_text_printf(text, "%" PRId64 " %.*s", alike, (int)length, kind);
        if (json) hone_text_printf(text, ":%" PRId64, alike);
        first = false;
    }
    hone_map_free(&counts);
}

static void put_whole(const AdapterFile *file, bool json, TextBuffer *text) {
    for (int64_t i = 0; i < file->whole_count; i++) {
        hone_text_puts(text, i == 0 ? "" : json ? "," : ", ");
        if (json)
            hone_text_json(text, file->whole[i].name, strlen(file->whole[i].name));
        else
            hone_text_puts(text, file->whole[i].name);
    }
}

static void put_json(const AdapterFile *file, const Summary *summary, bool dora, TextBuffer *text) {
    hone_text_printf(text,
                     ",\"adapter\":{\"kind\":\"%s\",\"parameters\":%" PRId64 ",\"rank\":[%d,%d],"
                     "\"scale\":[%.9g,%.9g],\"layers\":[%d,%d],\"targets\":{",
                     dora ? "dora" : "lora", summary->values, summary->lowest_rank,
                     summary->highest_rank, (double)summary->lowest_scale,
                     (double)summary->highest_scale, summary->first_layer, summary->last_layer);
    put_targets(file, true, text);
    hone_text_puts(text, "},\"whole\":[");
    put_whole(file, true, text);
    hone_text_puts(text, "]}");
}

static void put_words(const AdapterFile *file, const Summary *summary, bool dora,
                      TextBuffer *text) {
    hone_text_printf(text, "  %s of rank %d", dora ? "DoRA" : "LoRA", summary->lowest_rank);
    if (summary->highest_rank != summary->lowest_rank)
        hone_text_printf(text, " to %d", summary->highest_rank);
    hone_text_printf(text, ", scale %g", (double)summary->lowest_scale);
    if (summary->highest_scale > summary->lowest_scale)
        hone_text_printf(text, " to %g", (double)summary->highest_scale);
    hone_text_printf(text, ", %" PRId64 " parameters", summary->values);
    if (summary->last_layer >= 0)
        hone_text_printf(text, ", layers %d to %d", summary->first_layer, summary->last_layer);
    hone_text_puts(text, "\n  on ");
    put_targets(file, false, text);
    if (file->whole_count > 0) hone_text_puts(text, "\n  trained whole: ");
    put_whole(file, false, text);
    hone_text_puts(text, "\n");
}

void hone_inspect_adapter(const char *path, const char *architecture, const char *able, bool json,
                          TextBuffer *can, TextBuffer *about, HoneError *fault) {
    AdapterFile file;
    if (read_adapter(path, architecture, &file, fault) != HONE_OK) {
        hone_text_printf(can, "not usable: %s", fault->message);
        return;
    }
    hone_text_puts(can, able);
    const Summary summary = summarise(&file);
    const bool dora = file.pairs[0].magnitude != NULL;
    if (json)
        put_json(&file, &summary, dora, about);
    else
        put_words(&file, &summary, dora, about);
    hone_adapter_close(&file);
}
