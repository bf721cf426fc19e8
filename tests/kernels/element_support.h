// SPDX-License-Identifier: Apache-2.0
// Arrays for kernel tests: random, unaligned, with poison before and behind that must stay as it
// is.
#ifndef HONE_TESTS_KERNELS_ELEMENT_SUPPORT_H
#define HONE_TESTS_KERNELS_ELEMENT_SUPPORT_H

#include "base/half.h"
#include "base/memory.h"
#include "base/random.h"
#include "check.h"
#include "kernels/kernels.h"
#include "kernels/table.h"

// The poison is a NaN, so that a kernel that reads it shows it in its result.
enum { POISON = 0x7fc0beef, MARGIN = 32, MOST_ARRAYS = 16 };

// `wide` holds the same numbers in double, for the reference.
typedef struct Array {
    float *data, *block;
    double *wide;
    int64_t count;
} Array;

typedef struct Arrays {
    Array array[MOST_ARRAYS];
    int used;
    RandomStream random;
} Arrays;

static inline Arrays arrays_begin(uint64_t seed) {
    return (Arrays){.random = hone_random_stream(seed, RANDOM_TEST, 0)};
}

// count values, normal times scale; the address is 4·(number of the array) bytes off alignment.
static inline Array *array_new(Arrays *arrays, int64_t count, float scale) {
    Array *array = &arrays->array[arrays->used];
    int64_t offset = MARGIN + arrays->used % 8 + 1, total = count + offset + MARGIN;
    arrays->used++;
    array->count = count;
    array->block = hone_alloc((size_t)total * sizeof(float));
    array->wide = hone_alloc((size_t)count * sizeof(double));
    for (int64_t i = 0; i < total; i++) array->block[i] = hone_bits_to_f32(POISON);
    array->data = array->block + offset;
    for (int64_t i = 0; i < count; i++) {
        array->data[i] = scale * hone_random_normal(&arrays->random);
        array->wide[i] = (double)array->data[i];
    }
    return array;
}

static inline void array_set(Array *array, int64_t i, float value) {
    array->data[i] = value;
    array->wide[i] = (double)value;
}

// A copy of `from`, as unaligned as the next new array.
static inline Array *array_copy(Arrays *arrays, const Array *from) {
    Array *copy = array_new(arrays, from->count, 0);
    memcpy(copy->data, from->data, (size_t)from->count * sizeof(float));
    memcpy(copy->wide, from->wide, (size_t)from->count * sizeof(double));
    return copy;
}

static inline bool array_margins_stand(const Array *array) {
    for (const float *p = array->block; p < array->data; p++)
        if (hone_f32_to_bits(*p) != POISON) return false;
    for (int64_t i = 0; i < MARGIN; i++)
        if (hone_f32_to_bits(array->data[array->count + i]) != POISON) return false;
    return true;
}

static inline bool array_equal(const Array *a, const Array *b) {
    return a->count == b->count && memcmp(a->data, b->data, (size_t)a->count * sizeof(float)) == 0;
}

// data against wide: |difference| ≤ atol + rtol·|wide|; NaN and infinities must agree.
static inline bool array_matches(const Array *array, double rtol, double atol, const char *what) {
    check_count++;
    for (int64_t i = 0; i < array->count; i++) {
        double got = (double)array->data[i], want = array->wide[i];
        if ((isnan(got) && isnan(want)) || got == want) continue;
        if (fabs(got - want) <= atol + rtol * fabs(want)) continue;
        check_failures++;
        printf("%s: %s[%lld of %lld] is %.9g, want %.9g\n", check_test, what, (long long)i,
               (long long)array->count, got, want);
        return false;
    }
    return true;
}

// Also checks that no array's margins were touched.
static inline void arrays_end(Arrays *arrays) {
    for (int i = 0; i < arrays->used; i++) {
        CHECK(array_margins_stand(&arrays->array[i]));
        hone_free(arrays->array[i].block);
        hone_free(arrays->array[i].wide);
    }
    arrays->used = 0;
}

// Runs `check` at every level of this processor, on one thread.
static inline void at_every_level(void (*check)(const KernelContext *kc)) {
    const char *names[8];
    int levels = hone_kernel_levels(names);
    CHECK(levels >= 1);
    for (int i = 0; i < levels; i++) {
        KernelContext kc = {0};
        HoneError err = {0};
        if (!CHECK(hone_kernel_table(names[i], &kc.table, &err) == HONE_OK)) continue;
        int before = check_failures;
        check(&kc);
        if (check_failures != before) printf("%s: failed at level %s\n", check_test, names[i]);
    }
}

static inline void say_levels(void) {
    const char *names[8];
    int levels = hone_kernel_levels(names);
    printf("levels:");
    for (int i = 0; i < levels; i++) printf(" %s", names[i]);
    printf("\n");
}

#endif
