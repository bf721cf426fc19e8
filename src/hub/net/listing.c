// SPDX-License-Identifier: Apache-2.0
#include "hub/net/listing.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "hub/cache.h"

enum { FILES_LIMIT = 100000 };

// ---- reading -----------------------------------------------------------------------------------

static bool is_hex(const char *text, size_t least, size_t most) {
    size_t length = strlen(text);
    return length >= least && length <= most && strspn(text, "0123456789abcdef") == length;
}

static hone_status read_file(const json_t *entry, Arena *arena, HubFile *file, HoneError *err) {
    const char *name = json_string_value(json_object_get(entry, "rfilename"));
    const json_t *lfs = json_object_get(entry, "lfs");
    const json_t *bytes = json_object_get(json_is_object(lfs) ? lfs : entry, "size");
    const char *sum = json_string_value(json_object_get(lfs, "sha256"));
    if (!name) return hone_fail(err, HONE_ERROR_INPUT, "the hub's list has a file without a name");
    if (!hone_hub_is_file_name(name))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "the hub's list has a file \"%.*s\", which leads out of the repository",
                         hone_excerpt(name), name);
    file->name = hone_arena_strndup(arena, name, strlen(name));
    file->bytes = json_is_integer(bytes) && json_integer_value(bytes) >= 0
                      ? (int64_t)json_integer_value(bytes)
                      : -1;
    file->sha256 = sum && is_hex(sum, 64, 64) ? hone_arena_strndup(arena, sum, 64) : NULL;
    return file->name ? HONE_OK : hone_fail_memory(err, strlen(name), "a name");
}

static hone_status read_listing(const json_t *root, Arena *arena, Listing *listing,
                                HoneError *err) {
    const char *commit = json_string_value(json_object_get(root, "sha"));
    const json_t *files = json_object_get(root, "siblings");
    if (!commit || !is_hex(commit, 40, 64) || !json_is_array(files))
        return hone_fail(err, HONE_ERROR_INPUT,
                         "the hub's answer has no commit (\"sha\") or no files (\"siblings\")");
    size_t count = json_array_size(files);
    if (count > FILES_LIMIT)
        return hone_fail(err, HONE_ERROR_INPUT, "the hub lists %zu files, at most %d are read",
                         count, FILES_LIMIT);
    snprintf(listing->commit, sizeof listing->commit, "%s", commit);
    listing->files = hone_arena_calloc(arena, count ? count : 1, sizeof *listing->files);
    if (!listing->files) return hone_fail_memory(err, count * sizeof *listing->files, "a list");
    for (size_t i = 0; i < count; i++)
        RETURN_IF_ERROR(read_file(json_array_get(files, i), arena, &listing->files[i], err));
    listing->count = (int64_t)count;
    return HONE_OK;
}

hone_status hone_listing_read(const char *text, size_t length, Arena *arena, Listing *listing,
                              HoneError *err) {
    *listing = (Listing){0};
    json_error_t problem = {0};
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem);
    if (!root)
        return hone_fail(err, HONE_ERROR_INPUT, "the hub's answer is not JSON: %s", problem.text);
    hone_status status = read_listing(root, arena, listing, err);
    json_decref(root);
    return status;
}

// ---- choosing ----------------------------------------------------------------------------------

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static bool is_pickle(const char *name) {
    static const char *const ends[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(name, ends[i]) && strcmp(name, "training_args.bin") != 0) return true;
    return false;
}

static hone_status refuse_pickle(const char *repository, const char *name, HoneError *err) {
    return hone_fail(
        err, HONE_ERROR_UNSUPPORTED,
        "%s: %s is a Python pickle, which can run any program: it is not fetched. Where you trust "
        "it: python3 -c 'from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
        "M.from_pretrained(\"%s\").save_pretrained(\"DIR\"); "
        "T.from_pretrained(\"%s\").save_pretrained(\"DIR\")' makes a folder for --model DIR",
        repository, name, repository, repository);
}

static HubFile *find(Listing *listing, const char *name) {
    for (int64_t i = 0; i < listing->count; i++)
        if (strcmp(listing->files[i].name, name) == 0) return &listing->files[i];
    return NULL;
}

// "NAME-00002-of-00005.gguf": how long NAME is, and which part; 0: no part of a split file.
static size_t split_stem(const char *name, int *part) {
    size_t length = strlen(name);
    const size_t tail = strlen("-00001-of-00002.gguf");
    if (length <= tail || !ends_with(name, ".gguf")) return 0;
    const char *at = name + length - tail;
    int parts, used = 0;
    if (at[0] != '-' || sscanf(at, "-%5d-of-%5d%n", part, &parts, &used) != 2 || used != 15)
        return 0;
    return length - tail;
}

// The file and what belongs to it.
static void want_gguf(Listing *listing, HubFile *file) {
    int part, other;
    size_t stem = split_stem(file->name, &part);
    file->wanted = true;
    for (int64_t i = 0; stem > 0 && i < listing->count; i++) {
        HubFile *found = &listing->files[i];
        if (split_stem(found->name, &other) == stem &&
            strncmp(found->name, file->name, stem) == 0 &&
            strcmp(found->name + stem + 6, file->name + stem + 6) == 0)
            found->wanted = true;
    }
}

static bool is_root(const char *name) {
    return !strchr(name, '/');
}

// Names that end so, as a list: "a.gguf, b.gguf and 3 more".
static void list_names(const Listing *listing, const char *end, char out[400]) {
    size_t used = 0;
    int64_t more = 0;
    out[0] = '\0';
    for (int64_t i = 0; i < listing->count; i++) {
        const char *name = listing->files[i].name;
        if (!ends_with(name, end)) continue;
        if (used + strlen(name) + 20 > 400) {
            more++;
            continue;
        }
        used += (size_t)snprintf(out + used, 400 - used, "%s%s", used ? ", " : "", name);
    }
    if (more > 0) snprintf(out + used, 400 - used, " and %lld more", (long long)more);
}

static hone_status choose_named(Listing *listing, const char *repository, const char *file,
                                HoneError *err) {
    HubFile *found = find(listing, file);
    char names[400];
    if (found && is_pickle(file)) return refuse_pickle(repository, file, err);
    if (found) {
        want_gguf(listing, found);
        return HONE_OK;
    }
    list_names(listing, ".gguf", names);
    if (!names[0]) list_names(listing, "", names);
    return hone_fail(err, HONE_ERROR_INPUT, "%s: holds no file %s; it has %s", repository, file,
                     names[0] ? names : "none");
}

// What a model or adapter needs beside its weights.
static void want_companions(Listing *listing) {
    static const char *const names[] = {"config.json",
                                        "generation_config.json",
                                        "tokenizer.json",
                                        "tokenizer.model",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "vocab.txt",
                                        "chat_template.jinja",
                                        "chat_template.json",
                                        "modules.json",
                                        "1_Pooling/config.json",
                                        "adapter_config.json",
                                        "spiece.model",
                                        "sentencepiece.bpe.model",
                                        "preprocessor_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        HubFile *file = find(listing, names[i]);
        if (file) file->wanted = true;
    }
}

// The weights as safetensors: one file, or the parts that the index is of. True if there are any.
static bool want_safetensors(Listing *listing) {
    static const char *const whole[] = {"model.safetensors", "adapter_model.safetensors",
                                        "adapters.safetensors"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        HubFile *file = find(listing, whole[i]);
        if (!file) continue;
        file->wanted = true;
        return true;
    }
    HubFile *index = find(listing, "model.safetensors.index.json");
    bool any = false;
    for (int64_t i = 0; i < listing->count; i++) {
        HubFile *file = &listing->files[i];
        if (!is_root(file->name) || !ends_with(file->name, ".safetensors")) continue;
        // Another form of the same weights lies beside them in some repositories.
        if (strncmp(file->name, "consolidated", 12) == 0) continue;
        if (index && !strstr(file->name, "-of-")) continue;
        file->wanted = any = true;
    }
    if (index && any) index->wanted = true;
    return any;
}

static hone_status choose_gguf(Listing *listing, const char *repository, HoneError *err) {
    HubFile *only = NULL, *pickle = NULL;
    int64_t count = 0;
    int part;
    char names[400];
    for (int64_t i = 0; i < listing->count; i++) {
        HubFile *file = &listing->files[i];
        if (is_pickle(file->name) && !pickle) pickle = file;
        if (!ends_with(file->name, ".gguf")) continue;
        if (split_stem(file->name, &part) > 0 && part != 1) continue;
        count++;
        only = file;
    }
    if (count == 1) {
        want_gguf(listing, only);
        return HONE_OK;
    }
    list_names(listing, ".gguf", names);
    if (count > 1)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: holds %lld GGUF models, name one with --file: %s", repository,
                         (long long)count, names);
    if (pickle) return refuse_pickle(repository, pickle->name, err);
    return hone_fail(err, HONE_ERROR_INPUT,
                     "%s: holds no model that Hone reads: none of its %lld files is .safetensors "
                     "or .gguf",
                     repository, (long long)listing->count);
}

hone_status hone_listing_choose(Listing *listing, const char *repository, const char *file,
                                HoneError *err) {
    if (file) return choose_named(listing, repository, file, err);
    if (!want_safetensors(listing)) return choose_gguf(listing, repository, err);
    want_companions(listing);
    return HONE_OK;
}
