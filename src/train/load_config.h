// SPDX-License-Identifier: Apache-2.0
#ifndef HONE_TRAIN_LOAD_CONFIG_H
#define HONE_TRAIN_LOAD_CONFIG_H

#include "train/session.h"

// model->config from the keys and tensors of model->file. HONE_ERROR_UNSUPPORTED names what Hone
// does not compute, HONE_ERROR_INPUT what is missing or cannot be.
hone_status hone_load_config(HoneModel *model, HoneError *err);

#endif
