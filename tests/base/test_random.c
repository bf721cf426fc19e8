// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"
#include <stdlib.h>

#include "check.h"

// The seed that, mixed with the purpose, gives this key: the cipher can be tested through its door.
static uint64_t seed_of_key(uint64_t key, RandomPurpose purpose) {
    return key ^ ((uint64_t)purpose * 0x9E3779B97F4A7C15u);
}

typedef struct Answer {
    uint64_t key, a, b;
    uint32_t want[4];
} Answer;

// Known answers of philox4x32-10 from the Random123 distribution (Salmon and others, 2011).
static void philox_gives_the_published_numbers(void) {
    static const Answer answers[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822,
         0x85a308d3243f6a88,
         0x0370734413198a2e,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        for (RandomPurpose purpose = RANDOM_INITIAL; purpose <= RANDOM_TEST; purpose++) {
            uint32_t out[4];
            hone_philox(seed_of_key(answers[i].key, purpose), purpose, answers[i].a, answers[i].b,
                        out);
            for (int word = 0; word < 4; word++) CHECK_INT(out[word], answers[i].want[word]);
        }
}

static void keys_and_counters_give_other_numbers(void) {
    uint32_t first[4], other[4];
    hone_philox(7, RANDOM_SHUFFLE, 1, 2, first);
    hone_philox(7, RANDOM_SHUFFLE, 1, 2, other);
    CHECK(memcmp(first, other, sizeof first) == 0);
    hone_philox(7, RANDOM_SPLIT, 1, 2, other);
    CHECK(memcmp(first, other, sizeof first) != 0);
    hone_philox(8, RANDOM_SHUFFLE, 1, 2, other);
    CHECK(memcmp(first, other, sizeof first) != 0);
    hone_philox(7, RANDOM_SHUFFLE, 2, 1, other);
    CHECK(memcmp(first, other, sizeof first) != 0);
}

static void streams_repeat_and_differ(void) {
    RandomStream a = hone_random_stream(5, RANDOM_TEST, 1);
    RandomStream b = hone_random_stream(5, RANDOM_TEST, 1);
    RandomStream c = hone_random_stream(5, RANDOM_TEST, 2);
    int equal = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t value = hone_random_u32(&a);
        CHECK_INT(hone_random_u32(&b), value);
        equal += hone_random_u32(&c) == value;
    }
    CHECK(equal <= 1);
}

static void uniform_is_in_range_and_even(void) {
    enum { N = 200000, CELLS = 20 };
    RandomStream stream = hone_random_stream(11, RANDOM_TEST, 0);
    int cells[CELLS] = {0};
    for (int i = 0; i < N; i++) {
        float u = hone_random_uniform(&stream);
        CHECK(u >= 0 && u < 1);
        cells[(int)(u * CELLS)]++;
    }
    // Five standard deviations of a cell's count: √(N/20·19/20) ≈ 97.5
    for (int i = 0; i < CELLS; i++) CHECK(abs(cells[i] - N / CELLS) < 488);
}

static void normal_has_its_moments(void) {
    enum { N = 200000 };
    RandomStream stream = hone_random_stream(12, RANDOM_TEST, 0);
    double mean = 0, square = 0, fourth = 0;
    for (int i = 0; i < N; i++) {
        double z = (double)hone_random_normal(&stream);
        CHECK(isfinite(z));
        mean += z / N, square += z * z / N, fourth += z * z * z * z / N;
    }
    CHECK_NEAR(mean, 0, 0, 0.012);   // five deviations of 1/√N
    CHECK_NEAR(square, 1, 0, 0.016); // of √(2/N)
    CHECK_NEAR(fourth, 3, 0, 0.11);  // of √(96/N)
}

static void below_stays_below(void) {
    static const uint64_t bounds[] = {
        1, 2, 3, 7, 1000, (uint64_t)1 << 40, UINT64_MAX, ((uint64_t)1 << 63) + 1};
    RandomStream stream = hone_random_stream(13, RANDOM_TEST, 0);
    for (size_t b = 0; b < sizeof bounds / sizeof *bounds; b++)
        for (int i = 0; i < 1000; i++) CHECK(hone_random_below(&stream, bounds[b]) < bounds[b]);
    CHECK_INT(hone_random_below(&stream, 0), 0);
    int counts[7] = {0};
    for (int i = 0; i < 70000; i++) counts[hone_random_below(&stream, 7)]++;
    for (int i = 0; i < 7; i++) CHECK(abs(counts[i] - 10000) < 463); // five deviations
}

static void shuffle_permutes(void) {
    enum { N = 100 };
    RandomStream stream = hone_random_stream(14, RANDOM_SHUFFLE, 0);
    int64_t items[N];
    bool seen[N] = {false};
    for (int i = 0; i < N; i++) items[i] = i;
    hone_random_shuffle(&stream, items, N);
    int moved = 0;
    for (int i = 0; i < N; i++) {
        if (!CHECK(items[i] >= 0 && items[i] < N && !seen[items[i]])) return;
        seen[items[i]] = true;
        moved += items[i] != i;
    }
    CHECK(moved > N / 2);
    hone_random_shuffle(&stream, items, 0);
    hone_random_shuffle(&stream, items, 1);

    // All six orders of three items come up alike.
    int orders[27] = {0};
    for (int i = 0; i < 60000; i++) {
        int64_t three[3] = {0, 1, 2};
        hone_random_shuffle(&stream, three, 3);
        orders[three[0] * 9 + three[1] * 3 + three[2]]++;
    }
    for (int i = 0; i < 27; i++) CHECK(orders[i] == 0 || abs(orders[i] - 10000) < 457);
}

int main(void) {
    RUN(philox_gives_the_published_numbers);
    RUN(keys_and_counters_give_other_numbers);
    RUN(streams_repeat_and_differ);
    RUN(uniform_is_in_range_and_even);
    RUN(normal_has_its_moments);
    RUN(below_stays_below);
    RUN(shuffle_permutes);
    return check_report();
}
