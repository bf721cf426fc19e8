// SPDX-License-Identifier: Apache-2.0
// Scalars of GGUF metadata, as they lie in the file (little-endian, unaligned).
#ifndef HONE_IO_GGUF_VALUE_H
#define HONE_IO_GGUF_VALUE_H

#include <string.h>

#include "io/gguf.h"

enum { GGUF_TYPE_COUNT = GGUF_F64 + 1 };

// Bytes of a scalar; 0 for strings and arrays, whose size varies.
static inline size_t gguf_type_bytes(GgufType type) {
    static const unsigned char bytes[GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return bytes[type];
}

static inline const char *gguf_type_name(GgufType type) {
    static const char *const names[GGUF_TYPE_COUNT] = {
        "u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
        "bool", "string", "array", "u64", "i64", "f64",
    };
    return names[type];
}

static inline uint32_t gguf_load_u32(const unsigned char *p) {
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static inline uint64_t gguf_load_u64(const unsigned char *p) {
    uint64_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static inline bool gguf_is_float(GgufType type) {
    return type == GGUF_F32 || type == GGUF_F64;
}

static inline bool gguf_is_integer(GgufType type) {
    return type != GGUF_STRING && type != GGUF_ARRAY && !gguf_is_float(type);
}

// An integer or bool. false: above the largest int64.
static inline bool gguf_load_integer(GgufType type, const unsigned char *p, int64_t *value) {
    uint64_t bits = 0;
    memcpy(&bits, p, gguf_type_bytes(type));
    switch (type) {
    case GGUF_I8:
        *value = (int8_t)bits;
        return true;
    case GGUF_I16:
        *value = (int16_t)bits;
        return true;
    case GGUF_I32:
        *value = (int32_t)bits;
        return true;
    case GGUF_I64:
        *value = (int64_t)bits;
        return true;
    case GGUF_BOOL:
        *value = bits != 0;
        return true;
    default:
        *value = (int64_t)bits;
        return bits <= INT64_MAX;
    }
}

static inline double gguf_load_float(GgufType type, const unsigned char *p) {
    if (type == GGUF_F32) {
        float value;
        memcpy(&value, p, sizeof value);
        return (double)value;
    }
    double value;
    memcpy(&value, p, sizeof value);
    return value;
}

// gguf_read.c: the file in file->map, everything else of which is zero.
hone_status hone_gguf_parse(GgufFile *file, HoneError *err);
// gguf_split.c: how many files the model is in, of which this must be the first; ≤ 1: it is whole.
hone_status hone_gguf_parts(const GgufFile *file, int64_t *parts, HoneError *err);
hone_status hone_gguf_open_parts(const char *path, int64_t parts, GgufFile *file, HoneError *err);

#endif
