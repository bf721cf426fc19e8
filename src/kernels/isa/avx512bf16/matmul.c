// SPDX-License-Identifier: Apache-2.0
// Matrix products stay those of AVX-512; the peak on bf16 operands is this level's own.
#include "kernels/peak_work.h"
#include "kernels/table.h"

HONE_PEAK_WORK(peak_work, "vdpbf16ps", "zmm", 32)

void hone_avx512bf16_matmul(MatmulTable *table) {
    table->peak_work_bf16 = peak_work;
}
