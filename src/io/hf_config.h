// SPDX-License-Identifier: Apache-2.0
// Inside the reader of config.json: values of it, and keys that GGUF has for them.
#ifndef HONE_IO_HF_CONFIG_H
#define HONE_IO_HF_CONFIG_H

#include "io/hf_parts.h"

typedef struct ConfigReading {
    const char *folder;
    const json_t *root;
    HfKeys *keys;
    const HfFamily *family;
    HoneError *err;
} ConfigReading;

// "folder/config.json: "key" is VALUE: problem", HONE_ERROR_UNSUPPORTED.
hone_status hone_hf_refuse(const ConfigReading *reading, const char *key, const char *problem);
// A whole number in 1 … 2^31−1; missing or null: the given one, an error if that is below 0.
hone_status hone_hf_read_count(const ConfigReading *reading, const char *key, int64_t missing,
                               int64_t *value);
// A number above 0 of the object; missing or null: the given one, an error if that is not above 0.
hone_status hone_hf_read_real(const ConfigReading *reading, const json_t *object, const char *key,
                              double missing, double *value);
bool hone_hf_flag(const ConfigReading *reading, const char *key, bool missing);
// Is the text `wanted`, or not there?
bool hone_hf_text_is(const ConfigReading *reading, const char *key, const char *wanted);

// Under the architecture's name.
void hone_hf_put_count(const ConfigReading *reading, const char *suffix, int64_t value);
// What every family has: layers and heads of the config, and these.
void hone_hf_put_sizes(const ConfigReading *reading, const HfConfig *config, int64_t context,
                       int64_t width, int64_t feed_forward);
void hone_hf_put_real(const ConfigReading *reading, const char *suffix, double value);
void hone_hf_put_flags(const ConfigReading *reading, const char *suffix, const bool *flags,
                       int64_t count);
void hone_hf_put_flag(const ConfigReading *reading, const char *suffix, bool value);
void hone_hf_put_text(const ConfigReading *reading, const char *suffix, const char *value);

// hf_positions.c: rope_parameters, rope_scaling, rope_theta; and the keys.
hone_status hone_hf_read_positions(const ConfigReading *reading, int64_t context, HfConfig *config);
// hf_layers.c: which layers look through a window, and which have rotary positions; and the keys.
hone_status hone_hf_read_layers(const ConfigReading *reading, const HfConfig *config);
// hf_experts.c: which layers have experts, and how many; and the keys.
hone_status hone_hf_read_experts(const ConfigReading *reading, int64_t layers);
// hf_families.c
hone_status hone_hf_read_decoder(const ConfigReading *reading, HfConfig *config);
hone_status hone_hf_read_gpt2(const ConfigReading *reading, HfConfig *config);
// hf_t5.c
hone_status hone_hf_read_t5(const ConfigReading *reading, HfConfig *config);
// hf_encoder.c; beside the sizes, hone.head and the labels of a classifier.
hone_status hone_hf_read_encoder(const ConfigReading *reading, HfConfig *config);

#endif
