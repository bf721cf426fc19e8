// SPDX-License-Identifier: Apache-2.0
// Inside the adapter readers and writers: names, the order of rows, and pairs being collected.
#ifndef HONE_IO_ADAPTER_H
#define HONE_IO_ADAPTER_H

#include "base/text.h"
#include "io/peft.h"
#include "io/safetensors.h"

enum { ADAPTER_NAME = sizeof((AdapterPair *)0)->name, ADAPTER_MODULE = 96, ADAPTER_KNOWN = 160 };

// "model.layers.3.self_attn.q_proj" → "blk.3.attn_q.weight", and back, as the base's architecture
// names them. false: not adaptable.
bool hone_adapter_name(const AdapterBase *base, const char *module, size_t length,
                       char name[ADAPTER_NAME]);
bool hone_adapter_module(const AdapterBase *base, const char *name, char module[ADAPTER_MODULE]);
bool hone_adapter_is_embedding(const char *name);
// The end of the module's path that names its kind, within it: "q_proj"; "attn.c_proj" where the
// last part alone names two kinds.
const char *hone_adapter_leaf(const AdapterBase *base, const char *module);
// "q_proj, k_proj, … and lm_head", for a message.
void hone_adapter_known_modules(const AdapterBase *base, char list[ADAPTER_KNOWN]);
// Are the architecture's weights stored (in,out) in transformers (its Conv1D)? PEFT calls it
// fan_in_fan_out.
bool hone_adapter_in_out(const AdapterBase *base);
// The embedding; layers in order, within a layer q, k, v, qkv, o, gate, up, down; the head; others.
void hone_adapter_sort(AdapterPair *pairs, int64_t count);

// Heads whose rows of B are permuted in memory; 0: the rows are as PEFT has them.
int hone_adapter_permuted_heads(const AdapterBase *base, const char *name);
// Heads whose rows are in another order in a GGUF file than they are in memory.
int hone_adapter_gguf_heads(const AdapterBase *base, const char *name);
// GGUF row h·d + 2j + t = PEFT row h·d + t·d/2 + j, for rows (out, rank), d the head size.
void hone_adapter_rows_to_gguf(float *gguf, const float *peft, int heads, int head_size, int rank);
void hone_adapter_rows_to_peft(float *peft, const float *gguf, int heads, int head_size, int rank);

// One matrix as a file has it, borrowed from the file.
typedef struct AdapterHalf {
    const char *label; // its name in the file; NULL: not seen yet
    int dtype, rank;
    const int64_t *shape; // A (r, in), B (out, r)
    const void *data;     // may be unaligned
    bool transposed;      // the file has it the other way round
} AdapterHalf;

// values (count) = stored F32, F16, BF16 or Q8_0, at any address.
void hone_adapter_unpack(int dtype, const unsigned char *data, int64_t count, float *values);

typedef struct AdapterDraft {
    char name[ADAPTER_NAME];
    AdapterHalf half[3]; // A, B, DoRA's magnitude
} AdapterDraft;

// Pairs being collected while a file's tensors are walked.
typedef struct AdapterDrafts {
    const char *path;
    AdapterDraft *items;
    int64_t count;
    StringMap index;
} AdapterDrafts;

hone_status hone_drafts_create(AdapterDrafts *drafts, const char *path, int64_t tensors,
                               HoneError *err);
void hone_drafts_free(AdapterDrafts *drafts);
// which: 0 for A, 1 for B, 2 for a magnitude
hone_status hone_drafts_add(AdapterDrafts *drafts, const char *name, int which,
                            const AdapterHalf *half, HoneError *err);
// Check partners and shapes, copy the values as f32 into file->pairs; scale stays 0.
// peft_rows: rows of B come as PEFT has them, else as GGUF has them; they go into the base's order.
hone_status hone_drafts_finish(const AdapterDrafts *drafts, const AdapterBase *base, bool peft_rows,
                               AdapterFile *file, HoneError *err);

// The matrix's values as f32, checked to be finite.
hone_status hone_half_values(const char *path, const AdapterHalf *half, Arena *memory,
                             float **values, HoneError *err);

// peft_whole.c: a tensor of modules_to_save, `stored` transformers' name of it, appended to
// file->whole, which has room. HONE_ERROR_UNSUPPORTED: not of the architecture.
hone_status hone_whole_add(const char *path, const SafeTensor *tensor, const char *stored,
                           const AdapterBase *base, AdapterFile *file, HoneError *err);
// transformers' name of it: "model.norm.weight".
hone_status hone_whole_module(const AdapterWhole *whole, const AdapterBase *base,
                              char name[ADAPTER_MODULE], HoneError *err);
// The other way: PEFT's name of it, and the values as PEFT has them, in `memory` where they differ.
// adapted: a bias whose module has a pair.
hone_status hone_whole_entry(const AdapterWhole *whole, const AdapterBase *base, bool adapted,
                             Arena *memory, SafeTensorEntry *entry, HoneError *err);

bool hone_adapter_folder_holds(const char *folder, const char *name);
hone_status hone_adapter_read_peft(const char *folder, const AdapterBase *base, AdapterFile *file,
                                   HoneError *err);
hone_status hone_adapter_read_mlx(const char *folder, const AdapterBase *base, AdapterFile *file,
                                  HoneError *err);
hone_status hone_adapter_read_gguf(const char *path, const AdapterBase *base, AdapterFile *file,
                                   HoneError *err);

// What both writers ask of their input; messages begin with path.
hone_status hone_adapter_check(const char *path, const AdapterBase *base,
                               const AdapterSettings *settings, const AdapterPair *pairs,
                               int64_t count, HoneError *err);

#endif
