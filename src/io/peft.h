// SPDX-License-Identifier: Apache-2.0
// Adapters on disk: PEFT folders (adapter_config.json + adapter_model.safetensors) and GGUF
// adapters, both ways, and MLX-LM's folders, read. In memory an adapter file is a list of pairs
// named as GGUF names the base weight, with rows in GGUF's order: Llama's permuted q and k are
// handled here and nowhere else. An embedding's pair is that of its table: A (rank, width), B
// (tokens, rank), PEFT's two matrices turned and exchanged.
#ifndef HONE_IO_PEFT_H
#define HONE_IO_PEFT_H

#include "base/file.h"
#include "base/memory.h"

typedef struct AdapterPair {
    char name[72]; // "blk.0.attn_q.weight"
    int rank;
    int64_t in, out;
    float scale;            // alpha/rank (or alpha/√rank), patterns applied
    const float *A;         // (rank, in)
    const float *B;         // (out, rank), rows as the GGUF base has them
    const float *magnitude; // (out), in the same order, of a DoRA; NULL: none
} AdapterPair;

// A tensor that was trained whole (PEFT's modules_to_save): it takes the place of the base's.
typedef struct AdapterWhole {
    char name[72];       // "output_norm.weight"
    int rank;            // 1 or 2
    int64_t shape[2];    // (n, 1) of a vector
    const float *values; // rows as the base has them
} AdapterWhole;

typedef struct AdapterFile {
    char *path;
    AdapterPair *pairs;
    int64_t count;
    AdapterWhole *whole;
    int64_t whole_count;
    Arena memory; // owns names and values
} AdapterFile;

// What the writers must know of the base model.
typedef struct AdapterBase {
    const char *architecture; // "llama"
    const char *path;         // of the base, for base_model_name_or_path and general.base_model
    int heads, kv_heads, head_size;
    bool rope_interleaved; // q and k rows are permuted in memory (GGUF's Llama)
    bool tied_head;        // the head is the embedding
    bool gated;            // of a T5: its feed-forward has a gate
    int experts;           // of a layer; 0: none
    bool bare;             // of an encoder: modules are named as of the model without a head
} AdapterBase;

typedef struct AdapterSettings {
    int rank;
    float alpha, dropout;
    bool rslora;
    const char *task;          // PEFT's word for what the model is for; NULL: CAUSAL_LM
    const AdapterWhole *whole; // borrowed
    int64_t whole_count;
} AdapterSettings;

// path: a PEFT or MLX-LM folder or a GGUF adapter file. Biases and a DoRA of the embedding are
// refused by name.
hone_status hone_adapter_read(const char *path, const AdapterBase *base, AdapterFile *file,
                              HoneError *err);
void hone_adapter_close(AdapterFile *file);
// The architectures whose modules have names here, one after the other; NULL behind the last.
const char *hone_adapter_architecture(int index);

// folder/adapter_model.safetensors and folder/adapter_config.json; f32.
hone_status hone_peft_write(const char *folder, const AdapterBase *base,
                            const AdapterSettings *settings, const AdapterPair *pairs,
                            int64_t count, HoneError *err);
// One GGUF adapter file, f32; adapter.lora.alpha is such that llama.cpp's alpha/rank gives the
// scale, pairs of another scale/rank ratio have the difference folded into B.
// HONE_ERROR_UNSUPPORTED where llama.cpp has no form for it, see below.
hone_status hone_adapter_gguf_write(const char *path, const AdapterBase *base,
                                    const AdapterSettings *settings, const AdapterPair *pairs,
                                    int64_t count, HoneError *err);

// Why llama.cpp cannot load such an adapter: it knows no DoRA and no whole tensors, and aborts on a
// pair of the embedding or of the head where these are one matrix. NULL: it can.
const char *hone_adapter_gguf_obstacle(const AdapterBase *base, const AdapterSettings *settings,
                                       const AdapterPair *pairs, int64_t count);

#endif
