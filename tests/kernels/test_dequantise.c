// SPDX-License-Identifier: Apache-2.0
// Stored types: every level's unpacker against the reference bit by bit, both against values that
// another program unpacked, and rounding to 16 bits.
#include "check.h"

#include "base/file.h"
#include "base/memory.h"
#include "kernels/kernels.h"
#include "kernels/matmul_reference.h"
#include "kernels/table.h"
#include "quant_support.h"

static bool same_bits(float got, float want) {
    if (isnan(want)) return isnan(got);
    return hone_f32_to_bits(got) == hone_f32_to_bits(want);
}

static void check_unpacked(int dtype, const void *stored, const float *got, int64_t count,
                           const char *who) {
    for (int64_t i = 0; i < count; i++) {
        float want = (float)hone_reference_element(dtype, stored, i);
        if (!CHECK(same_bits(got[i], want))) {
            printf("  %s %s: element %lld is %.9g, want %.9g\n", who, hone_dtype_name(dtype),
                   (long long)i, (double)got[i], (double)want);
            return;
        }
    }
}

static void unpack_everywhere(int dtype, const void *stored, int64_t count) {
    float *x = hone_alloc((size_t)count * sizeof *x);
    hone_dequantise(dtype, stored, x, count);
    check_unpacked(dtype, stored, x, count, "hone_dequantise");
    const char *names[8];
    int levels = hone_kernel_levels(names);
    for (int level = 0; level < levels; level++) {
        const KernelTable *table;
        hone_kernel_table(names[level], &table, NULL);
        memset(x, 0xff, (size_t)count * sizeof *x);
        table->matmul.unpack[dtype](stored, x, count);
        check_unpacked(dtype, stored, x, count, names[level]);
    }
    hone_free(x);
}

static void every_level_unpacks_the_same_bits(void) {
    static const float scales[] = {1, 1e-3f, 1e-6f, 1e5f}; // 1e-6: subnormal halves
    RandomStream random = hone_random_stream(7, RANDOM_TEST, 1);
    for (int type = 0; type < WEIGHT_TYPES; type++) {
        const DtypeInfo *info = hone_dtype_info(weight_types[type]);
        for (int scale = 0; scale < 4; scale++) {
            for (int blocks = 1; blocks <= 21; blocks += 4) {
                uint8_t *stored = hone_alloc((size_t)(blocks * info->block_bytes));
                for (int i = 0; i < blocks; i++)
                    fill_block(&random, weight_types[type], scales[scale],
                               stored + i * info->block_bytes);
                unpack_everywhere(weight_types[type], stored, (int64_t)blocks * info->block);
                hone_free(stored);
            }
        }
    }
}

static void every_half_is_unpacked(void) {
    uint16_t *bits = hone_alloc(65536 * sizeof *bits);
    for (int i = 0; i < 65536; i++) bits[i] = (uint16_t)i;
    unpack_everywhere(HONE_F16, bits, 65536);
    unpack_everywhere(HONE_BF16, bits, 65536);
    hone_free(bits);
}

// tests/fixtures/quant.bin (make_quant.py): for each type its number, blocks and block bytes as
// int32, the stored blocks, then the values that the gguf package gives.
static void values_of_the_gguf_package(void) {
    FileMap map;
    HoneError err = {0};
    if (!CHECK(hone_file_map(HONE_FIXTURES "/quant.bin", &map, &err) == HONE_OK)) return;
    size_t at = 0;
    int types = 0;
    while (at + 12 <= map.bytes) {
        int32_t head[3];
        memcpy(head, map.data + at, sizeof head);
        const DtypeInfo *info = hone_dtype_info(head[0]);
        CHECK_INT(head[2], info->block_bytes);
        size_t count = (size_t)head[1] * (size_t)info->block;
        const unsigned char *stored = map.data + at + sizeof head;
        const unsigned char *values = stored + (size_t)head[1] * (size_t)head[2];
        float *x = hone_alloc(count * sizeof *x);
        hone_dequantise(head[0], stored, x, (int64_t)count);
        CHECK(memcmp(x, values, count * sizeof *x) == 0);
        unpack_everywhere(head[0], stored, (int64_t)count);
        hone_free(x);
        at += sizeof head + (size_t)head[1] * (size_t)head[2] + count * sizeof *x;
        types++;
    }
    CHECK_INT(types, WEIGHT_TYPES);
    CHECK_INT(at, map.bytes);
    hone_file_unmap(&map);
}

static void plain_types_are_written(void) {
    static const float x[5] = {1.0f, -2.5f, 65504.0f, 1.00390625f, 1e-7f};
    unsigned char stored[20];
    float back[5];
    HoneError err = {0};
    CHECK_INT(hone_quantise(HONE_F32, x, stored, 5, &err), HONE_OK);
    CHECK(memcmp(stored, x, sizeof x) == 0);
    CHECK_INT(hone_quantise(HONE_F16, x, stored, 5, &err), HONE_OK);
    hone_dequantise(HONE_F16, stored, back, 5);
    for (int i = 0; i < 5; i++) CHECK(back[i] == hone_f16_to_f32(hone_f32_to_f16(x[i])));
    CHECK_INT(hone_quantise(HONE_BF16, x, stored, 5, &err), HONE_OK);
    hone_dequantise(HONE_BF16, stored, back, 5);
    CHECK(back[0] == 1.0f && back[1] == -2.5f && back[2] == 65536.0f && back[3] == 1.0f);
}

// No value is further from what is stored than half a step of its block, but for the rounding of
// the scale to f16; and the highest value of Q4_0 and Q5_0, which may lack its step.
static void blocks_are_the_nearest(void) {
    static const struct {
        HoneDtype type;
        int steps; // from the lowest to the highest value
        bool around;
    } types[] = {{HONE_Q4_0, 16, true},
                 {HONE_Q4_1, 15, false},
                 {HONE_Q5_0, 32, true},
                 {HONE_Q5_1, 31, false},
                 {HONE_Q8_0, 254, false}};
    RandomStream random = hone_random_stream(4, RANDOM_TEST, 0);
    for (int t = 0; t < 5; t++)
        for (int repeat = 0; repeat < 200; repeat++) {
            float x[64], back[64], low = 0, high = 0;
            unsigned char stored[2 * 34];
            const float size = powf(10, 3 - (float)hone_random_below(&random, 7));
            for (int i = 0; i < 64; i++) x[i] = size * hone_random_normal(&random);
            CHECK_INT(hone_quantise(types[t].type, x, stored, 64, NULL), HONE_OK);
            hone_dequantise(types[t].type, stored, back, 64);
            for (int i = 0; i < 32; i++) {
                low = x[i] < low ? x[i] : low;
                high = x[i] > high ? x[i] : high;
            }
            const float most = high > -low ? high : -low;
            const float step = types[t].type == HONE_Q4_1 || types[t].type == HONE_Q5_1
                                   ? (high - low) / (float)types[t].steps
                                   : 2 * most / (float)types[t].steps;
            const float allowed = (types[t].around ? 1.0f : 0.5f) * step + 2e-3f * most;
            for (int i = 0; i < 32; i++) CHECK(fabsf(x[i] - back[i]) <= allowed);
        }
    static const float zeros[32] = {0};
    for (int t = 0; t < 5; t++) {
        unsigned char stored[34];
        float back[32];
        hone_quantise(types[t].type, zeros, stored, 32, NULL);
        hone_dequantise(types[t].type, stored, back, 32);
        for (int i = 0; i < 32; i++) CHECK(back[i] == 0);
    }
}

static double squared_error(int type, const float *x, int64_t count) {
    static unsigned char stored[4 * 210];
    static float back[4 * 256];
    double error = 0;
    CHECK_INT(hone_quantise(type, x, stored, count, NULL), HONE_OK);
    hone_dequantise(type, stored, back, count);
    for (int64_t i = 0; i < count; i++)
        error += (double)(x[i] - back[i]) * (double)(x[i] - back[i]);
    return error;
}

// What is stored of a normal value has an error near that of the best uniform steps over the range
// that 32 (Q6_K: 16) of them span; of what lies on whole steps less is lost than the 0.29 of a step
// that values between them lose.
static void k_blocks_are_near(void) {
    static const struct {
        HoneDtype type;
        double deviation; // of the error, in parts of the values' own
        float steps;
    } types[] = {{HONE_Q4_K, 0.080, 15}, {HONE_Q5_K, 0.040, 31}, {HONE_Q6_K, 0.020, 31}};
    RandomStream random = hone_random_stream(5, RANDOM_TEST, 0);
    static float x[4 * 256];
    for (int t = 0; t < 3; t++)
        for (int exponent = -3; exponent <= 3; exponent++) {
            const float size = powf(10, (float)exponent);
            for (int i = 0; i < 1024; i++) x[i] = size * hone_random_normal(&random);
            const double all = 1024 * (double)size * (double)size;
            const double error = sqrt(squared_error(types[t].type, x, 1024) / all);
            CHECK(error < types[t].deviation && error > types[t].deviation / 2);
            for (int i = 0; i < 1024; i++)
                x[i] = size * (float)(hone_random_below(&random, (uint32_t)types[t].steps + 1));
            const double squares = squared_error(types[t].type, x, 1024) / all;
            CHECK(sqrt(squares) < 0.2);
        }
}

static void constant_k_blocks(void) {
    static const float values[] = {0, 1, -1, 65504, -65504, 1e-4f, -1e-4f, 1e-38f, 1e-44f};
    static float x[256], back[256];
    static unsigned char stored[210];
    for (int type = HONE_Q4_K; type <= HONE_Q6_K; type++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            for (int i = 0; i < 256; i++) x[i] = i < 32 && v % 2 ? 0 : values[v];
            CHECK_INT(hone_quantise(type, x, stored, 256, NULL), HONE_OK);
            hone_dequantise(type, stored, back, 256);
            for (int i = 0; i < 256; i++)
                CHECK(fabsf(back[i] - x[i]) <= 2e-3f * fabsf(values[v]) + 6e-8f);
        }
}

static void other_types_are_refused(void) {
    static const float x[32] = {0};
    unsigned char stored[64];
    HoneError err = {0};
    CHECK_INT(hone_quantise(HONE_Q2_K, x, stored, 32, &err), HONE_ERROR_UNSUPPORTED);
    CHECK_CONTAINS(err.message, "Q4_1");
    CHECK(!hone_can_quantise(HONE_Q2_K) && hone_can_quantise(HONE_Q6_K));
}

int main(void) {
    RUN(every_level_unpacks_the_same_bits);
    RUN(every_half_is_unpacked);
    RUN(values_of_the_gguf_package);
    RUN(plain_types_are_written);
    RUN(blocks_are_the_nearest);
    RUN(k_blocks_are_near);
    RUN(constant_k_blocks);
    RUN(other_types_are_refused);
    return check_report();
}
