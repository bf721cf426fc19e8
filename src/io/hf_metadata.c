// SPDX-License-Identifier: Apache-2.0
// What a GGUF file says of a model and no other file of a Hugging Face folder has a place for, its
// licence, its languages, its author's name for it: gguf_metadata.json, an object of GGUF's keys,
// {"general.license": {"type": "string", "value": "apache-2.0"}, …}. Whoever edits config.json or
// the tokeniser's files is obeyed: of what they say nothing is kept here, and what is here is read
// where they say nothing.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "io/hf_parts.h"
#include "io/hf_write_parts.h"

static const char file_name[] = "gguf_metadata.json";

// Of the file that has been read alone: how it stores its tensors.
static bool of_the_file(GgufString name) {
    static const char *const names[] = {"general.file_type", "general.quantization_version",
                                        "general.alignment"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (name.length == strlen(names[i]) && memcmp(name.data, names[i], name.length) == 0)
            return true;
    return name.length > 6 && memcmp(name.data, "split.", 6) == 0;
}

// ---- reading -----------------------------------------------------------------------------------

typedef struct MetadataReading {
    const char *folder, *name; // of the key
    HfKeys *keys;
    HoneError *err;
} MetadataReading;

static hone_status refuse(const MetadataReading *reading, const char *problem) {
    return hone_fail(reading->err, HONE_ERROR_INPUT, "%s/%s: key \"%.100s\" %s", reading->folder,
                     file_name, reading->name, problem);
}

static bool type_of(const char *name, size_t length, GgufType *type) {
    for (int t = 0; t < GGUF_TYPE_COUNT; t++) {
        const char *known = gguf_type_name((GgufType)t);
        if (t == GGUF_ARRAY || strlen(known) != length || memcmp(known, name, length) != 0)
            continue;
        *type = (GgufType)t;
        return true;
    }
    return false;
}

// Does a whole number fit the type?
static bool fits(GgufType type, int64_t value) {
    const int bits = 8 * (int)gguf_type_bytes(type);
    if (bits == 64) return type == GGUF_I64 || value >= 0;
    const bool has_sign = type == GGUF_I8 || type == GGUF_I16 || type == GGUF_I32;
    const int64_t low = has_sign ? -((int64_t)1 << (bits - 1)) : 0;
    const int64_t high = ((int64_t)1 << (has_sign ? bits - 1 : bits)) - 1;
    return value >= low && value <= high;
}

static hone_status append_value(const MetadataReading *reading, GgufType type,
                                const json_t *value) {
    TextBuffer *bytes = &reading->keys->bytes;
    if (type == GGUF_STRING) {
        if (!json_is_string(value)) return refuse(reading, "has a value that is no text");
        hone_hf_append_string(reading->keys, json_string_value(value), json_string_length(value));
    } else if (type == GGUF_BOOL) {
        if (!json_is_boolean(value))
            return refuse(reading, "has a value that is neither true nor false");
        const uint8_t stored = json_is_true(value);
        hone_text_append(bytes, &stored, sizeof stored);
    } else if (gguf_is_float(type)) {
        if (!json_is_number(value)) return refuse(reading, "has a value that is no number");
        const double number = json_number_value(value);
        const float single = (float)number;
        if (type == GGUF_F32)
            hone_text_append(bytes, &single, sizeof single);
        else
            hone_text_append(bytes, &number, sizeof number);
    } else {
        const int64_t number = json_integer_value(value);
        if (!json_is_integer(value) || !fits(type, number))
            return refuse(reading, "has a value that is no whole number of its type");
        hone_text_append(bytes, &number, gguf_type_bytes(type)); // little-endian
    }
    return HONE_OK;
}

static hone_status add_key(const MetadataReading *reading, const json_t *entry) {
    const char *type = json_string_value(json_object_get(entry, "type"));
    const json_t *value = json_object_get(entry, "value");
    const size_t length = type ? strlen(type) : 0;
    GgufType element;
    if (!type || !value) return refuse(reading, "has no \"type\" and \"value\"");
    if (length > 2 && type[0] == '[' && type[length - 1] == ']') {
        if (!type_of(type + 1, length - 2, &element) || !json_is_array(value))
            return refuse(reading, "is no array of the type that it names");
        const int64_t count = (int64_t)json_array_size(value);
        hone_hf_begin_array(reading->keys, reading->name, element, count);
        for (int64_t i = 0; i < count; i++)
            RETURN_IF_ERROR(append_value(reading, element, json_array_get(value, (size_t)i)));
        return HONE_OK;
    }
    if (!type_of(type, length, &element)) return refuse(reading, "has a type that GGUF lacks");
    hone_hf_put_head(reading->keys, reading->name, element);
    return append_value(reading, element, value);
}

// A vocabulary's size that is no longer the model's would keep other programs from loading it.
static bool outdated(const char *name, const json_t *entry, int64_t vocabulary) {
    static const char suffix[] = ".vocab_size";
    const size_t length = strlen(name), end = sizeof suffix - 1;
    return length > end && strcmp(name + length - end, suffix) == 0 &&
           json_integer_value(json_object_get(entry, "value")) != vocabulary;
}

// What the folder's other files say, as a file of keys alone. It borrows them.
static hone_status index_keys(const HfKeys *keys, GgufFile *said, HoneError *err) {
    *said = (GgufFile){0};
    if (keys->bytes.failed) return hone_fail_memory(err, keys->bytes.length, "metadata");
    return hone_gguf_from_keys((const unsigned char *)keys->bytes.data, keys->bytes.length,
                               keys->count, 0, said, err);
}

// Of the entries of root, those that `keys` does not have, to `more`.
static hone_status read_entries(MetadataReading *reading, json_t *root, int64_t vocabulary,
                                const HfKeys *keys) {
    json_t *entry;
    const char *name;
    GgufFile said;
    hone_status status = index_keys(keys, &said, reading->err);
    json_object_foreach(root, name, entry) {
        if (status != HONE_OK) break;
        if (hone_gguf_key(&said, name) || of_the_file((GgufString){name, strlen(name)}) ||
            outdated(name, entry, vocabulary))
            continue;
        reading->name = name;
        status = *name ? add_key(reading, entry) : refuse(reading, "has no name");
    }
    hone_gguf_close(&said);
    return status;
}

static void put_folder_name(const char *folder, HfKeys *keys) {
    size_t end = strlen(folder);
    while (end > 1 && folder[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && folder[begin - 1] != '/') begin--;
    hone_hf_put_string(keys, "general.name", folder + begin, end - begin);
}

hone_status hone_hf_metadata(const char *folder, int64_t vocabulary, HfKeys *keys, HoneError *err) {
    json_t *root;
    RETURN_IF_ERROR(hone_hf_json(folder, file_name, false, 0, &root, err));
    HfKeys more = {0};
    MetadataReading reading = {folder, NULL, &more, err};
    hone_status status = root ? read_entries(&reading, root, vocabulary, keys) : HONE_OK;
    if (!json_object_get(root, "general.name")) put_folder_name(folder, &more);
    if (status == HONE_OK) {
        hone_text_append(&keys->bytes, more.bytes.data, more.bytes.length);
        keys->bytes.failed = keys->bytes.failed || more.bytes.failed;
        keys->count += more.count;
    }
    hone_text_free(&more.bytes);
    json_decref(root);
    return status;
}

// ---- writing -----------------------------------------------------------------------------------

// NULL: JSON has no such value, or there is no memory.
static json_t *element_of(GgufType type, const unsigned char **at) {
    if (type == GGUF_STRING) {
        uint64_t length;
        memcpy(&length, *at, sizeof length);
        const char *text = (const char *)*at + sizeof length;
        *at += sizeof length + length;
        return memchr(text, 0, (size_t)length) ? NULL : json_stringn(text, (size_t)length);
    }
    const unsigned char *value = *at;
    *at += gguf_type_bytes(type);
    if (gguf_is_float(type)) return json_real(gguf_load_float(type, value));
    int64_t number;
    if (!gguf_load_integer(type, value, &number)) return NULL;
    return type == GGUF_BOOL ? json_boolean(number) : json_integer(number);
}

static json_t *entry_of(const GgufKey *key) {
    char type[16];
    json_t *value;
    if (key->type == GGUF_ARRAY) {
        const unsigned char *at = key->elements;
        if (key->element == GGUF_ARRAY) return NULL;
        snprintf(type, sizeof type, "[%s]", gguf_type_name(key->element));
        value = json_array();
        for (uint64_t i = 0; i < key->count && value; i++)
            if (json_array_append_new(value, element_of(key->element, &at)) != 0) {
                json_decref(value);
                value = NULL;
            }
    } else {
        const unsigned char *at = key->raw;
        snprintf(type, sizeof type, "%s", gguf_type_name(key->type));
        value = element_of(key->type, &at);
    }
    return value ? json_pack("{s:s, s:o}", "type", type, "value", value) : NULL;
}

// What the files of the folder say once they are written; config: the text of config.json.
static hone_status say_again(const char *folder, const TextBuffer *config, HfKeys *keys,
                             HoneError *err) {
    HfConfig read;
    if (config->failed) return hone_fail_memory(err, config->length, "config.json");
    json_t *root = json_loadb(config->data, config->length, 0, NULL);
    if (!root) return hone_fail_memory(err, config->length, "config.json");
    hone_status status = hone_hf_config(folder, root, &read, keys, err);
    if (status == HONE_OK) status = hone_hf_tokenizer(folder, root, read.vocabulary, keys, err);
    if (status == HONE_OK) status = hone_hf_generation(folder, root, read.vocabulary, keys, err);
    json_decref(root);
    return status;
}

static hone_status collect(const GgufFile *file, const GgufFile *said, json_t *root,
                           HoneError *err) {
    hone_memory_watch();
    for (int64_t i = 0; i < file->key_count; i++) {
        const GgufKey *key = &file->keys[i];
        char name[256];
        if (of_the_file(key->name) || key->name.length >= sizeof name) continue;
        snprintf(name, sizeof name, "%.*s", (int)key->name.length, key->name.data);
        if (hone_gguf_key(said, name)) continue;
        json_t *entry = entry_of(key); // NULL: not in UTF-8, infinite
        if (entry) json_object_set_new(root, name, entry);
    }
    return hone_memory_lacked() ? hone_fail_memory(err, 0, file_name) : HONE_OK;
}

hone_status hone_hf_write_metadata(const char *folder, const GgufFile *file,
                                   const TextBuffer *config, HoneError *err) {
    HfKeys keys = {0};
    GgufFile said = {0};
    TextBuffer text = {0};
    json_t *root = json_object();
    hone_status status = say_again(folder, config, &keys, err);
    if (status == HONE_OK && !root) status = hone_fail_memory(err, 0, file_name);
    if (status == HONE_OK) status = index_keys(&keys, &said, err);
    if (status == HONE_OK) status = collect(file, &said, root, err);
    if (status == HONE_OK && json_object_size(root) > 0) {
        hone_hf_dump(root, &text);
        status = hone_hf_write_text(folder, file_name, &text, err);
    }
    hone_gguf_close(&said);
    hone_text_free(&keys.bytes);
    hone_text_free(&text);
    json_decref(root);
    return status;
}
