// SPDX-License-Identifier: Apache-2.0
// adapter_config.json of a PEFT LoRA: what Hone needs of it, and what it refuses by name.
#ifndef HONE_IO_PEFT_CONFIG_H
#define HONE_IO_PEFT_CONFIG_H

#include "base/error.h"

typedef struct PeftConfig {
    char *path;
    struct json_t *root;
    int64_t rank;
    double alpha;
    bool rslora, dora;
    bool biases; // "bias": trained biases of the base lie beside the pairs
} PeftConfig;

hone_status hone_peft_config_open(const char *path, PeftConfig *config, HoneError *err);
void hone_peft_config_close(PeftConfig *config);

// alpha/r or alpha/√r with the module's own alpha; its own rank must be the tensors' rank.
hone_status hone_peft_config_scale(const PeftConfig *config, const char *module, int rank,
                                   float *scale, HoneError *err);
// Refuse a module that target_modules does not name: PEFT would drop its tensors.
hone_status hone_peft_config_check_target(const PeftConfig *config, const char *module,
                                          HoneError *err);
// The same of a whole tensor's module and modules_to_save.
hone_status hone_peft_config_check_saved(const PeftConfig *config, const char *module,
                                         HoneError *err);

#endif
