// SPDX-License-Identifier: Apache-2.0
// GGUF v2 and v3, read by mapping and written under a temporary name. Facts: docs/formats.md.
#ifndef HONE_IO_GGUF_H
#define HONE_IO_GGUF_H

#include "base/dtype.h"
#include "base/file.h"

typedef enum GgufType {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
} GgufType;

// Bytes in the map, not NUL-terminated.
typedef struct GgufString {
    const char *data;
    size_t length;
} GgufString;

typedef struct GgufKey {
    GgufString name;
    GgufType type;
    union {
        uint64_t u; // unsigned integers and bool
        int64_t i;  // signed integers
        double f;
        GgufString string;
    } value;
    // Arrays: element type, count, and where the elements lie in the map (strings length-prefixed).
    GgufType element;
    uint64_t count;
    const unsigned char *elements;
    size_t element_bytes;
    const unsigned char *raw; // the value as stored, for copying a file's metadata
    size_t raw_bytes;
} GgufKey;

enum { GGUF_NAME = 72, GGUF_EXPERTS = 1024 };
typedef struct GgufTensor {
    char name[GGUF_NAME]; // NUL-terminated
    int dtype;            // ggml's number; hone_dtype_is_weight says whether Hone can read it
    int rank;
    int64_t shape[4]; // outermost first (GGUF's order reversed)
    const void *data; // in the map, inside it, checked
    size_t bytes;
} GgufTensor;

typedef struct GgufFile {
    FileMap map;
    uint32_t version;
    uint64_t alignment;
    GgufKey *keys;
    int64_t key_count;
    GgufTensor *tensors;
    int64_t tensor_count;
    struct StringMap *key_index, *tensor_index;
    int64_t parts; // files that it is in; 0: one
    // Of a Hugging Face folder (io/hf.h): what does not lie in the map.
    bool hugging_face; // rows of q and k are as transformers has them
    void *metadata;
    struct Arena *made;
} GgufFile;

// Everything is checked against the file's size before use; messages name file, place and values.
// A tensor of a type known by name only is listed (data NULL, bytes 0): the model loader refuses it
// if needed. The first of a split model's files, as llama.cpp names them, opens all of them as one.
hone_status hone_gguf_open(const char *path, GgufFile *file, HoneError *err);
void hone_gguf_close(GgufFile *file);
// The file of a split model's part, from 0. Caller frees with hone_free; NULL: out of memory.
char *hone_gguf_part_path(const GgufFile *file, int64_t part);
// An empty file, to be given `tensors` tensors and these keys, as a file stores them; borrowed.
// On failure the caller closes.
hone_status hone_gguf_from_keys(const unsigned char *data, size_t bytes, int64_t keys,
                                int64_t tensors, GgufFile *file, HoneError *err);
// Room for so many more tensors than there are.
hone_status hone_gguf_make_room(GgufFile *file, int64_t more, HoneError *err);
// Enter file->tensors[tensor_count], whose other fields are set, under its name.
hone_status hone_gguf_enter_tensor(GgufFile *file, HoneError *err);

const GgufKey *hone_gguf_key(const GgufFile *file, const char *name);       // NULL: absent
const GgufTensor *hone_gguf_tensor(const GgufFile *file, const char *name); // NULL: absent
int64_t hone_gguf_tensor_values(const GgufTensor *tensor);                  // how many it holds

// gguf_experts.c: GGUF stacks the matrices of a layer's experts, "blk.3.ffn_gate_exps.weight"
// (experts, out, in). Part all such tensors of up to GGUF_EXPERTS into views, a matrix each:
// "blk.3.ffn_gate.7.weight".
hone_status hone_gguf_part_experts(GgufFile *file, HoneError *err);
// Is it the name of such a matrix? Then of what stack it is a part, and which.
bool hone_gguf_expert(const char *name, char stacked[GGUF_NAME], int *expert);
// The part's name; false: `stacked` is no stack's.
bool hone_gguf_expert_name(const char *stacked, int expert, char name[GGUF_NAME]);

// Typed reads: absent or of another kind → HONE_ERROR_INPUT naming key and what was found.
hone_status hone_gguf_int(const GgufFile *file, const char *name, int64_t *value, HoneError *err);
hone_status hone_gguf_float(const GgufFile *file, const char *name, double *value, HoneError *err);
hone_status hone_gguf_string(const GgufFile *file, const char *name, GgufString *value,
                             HoneError *err);
// Caller frees *items with hone_free; the strings lie in the map.
hone_status hone_gguf_strings(const GgufFile *file, const char *name, GgufString **items,
                              int64_t *count, HoneError *err);
hone_status hone_gguf_ints(const GgufFile *file, const char *name, int32_t **items, int64_t *count,
                           HoneError *err);
hone_status hone_gguf_floats(const GgufFile *file, const char *name, float **items, int64_t *count,
                             HoneError *err);

// ---- writing -----------------------------------------------------------------------------------

// Collect keys and tensor descriptions, then stream the data in the order the tensors were added.
typedef struct GgufWriter GgufWriter;
hone_status hone_gguf_writer_create(GgufWriter **writer, HoneError *err);
void hone_gguf_writer_free(GgufWriter *writer);
// Errors of the put calls are sticky and come out of hone_gguf_writer_begin.
void hone_gguf_put_u32(GgufWriter *writer, const char *name, uint32_t value);
void hone_gguf_put_f32(GgufWriter *writer, const char *name, float value);
void hone_gguf_put_bool(GgufWriter *writer, const char *name, bool value);
void hone_gguf_put_string(GgufWriter *writer, const char *name, const char *value);
void hone_gguf_put_raw(GgufWriter *writer, const GgufKey *key); // as it was in another file
void hone_gguf_add_tensor(GgufWriter *writer, const char *name, int dtype, int rank,
                          const int64_t *shape); // outermost first
// Write header and infos to PATH.tmp; then one hone_gguf_write_tensor a tensor, in order; then
// commit.
hone_status hone_gguf_writer_begin(GgufWriter *writer, const char *path, HoneError *err);
hone_status hone_gguf_write_tensor(GgufWriter *writer, const void *data, size_t bytes,
                                   HoneError *err);
// The same of a part of a tensor's data; the next one begins when the last byte is there.
hone_status hone_gguf_write_part(GgufWriter *writer, const void *data, size_t bytes,
                                 HoneError *err);
hone_status hone_gguf_writer_commit(GgufWriter *writer, HoneError *err);
// A file that only this process sees, of which nothing stays however it ends (path: where it has
// room, and for messages): begun by the first, and in place of a commit opened by the second.
hone_status hone_gguf_writer_begin_unnamed(GgufWriter *writer, const char *path, HoneError *err);
hone_status hone_gguf_writer_open(GgufWriter *writer, GgufFile *file, HoneError *err);

#endif
