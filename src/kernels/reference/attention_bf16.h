// SPDX-License-Identifier: Apache-2.0
// The micro-kernels on bf16 operands in plain C, for tests of what uses them on processors that
// have no such instructions. No level has them: f32 is faster.
#ifndef HONE_KERNELS_REFERENCE_ATTENTION_BF16_H
#define HONE_KERNELS_REFERENCE_ATTENTION_BF16_H

#include "kernels/attention_table.h"

void hone_reference_bf16_kernels(AttentionTable *table);

#endif
