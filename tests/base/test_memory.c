// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/system.h"
#include "check.h"

// Under the sanitizers too, a block that cannot be had is NULL and no abort.
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "allocator_may_return_null=1";
}

static bool aligned(const void *address, size_t to) {
    return (uintptr_t)address % to == 0;
}

static void blocks_are_aligned(void) {
    for (size_t bytes = 0; bytes < 300; bytes++) {
        char *block = hone_alloc(bytes);
        if (!CHECK(block && aligned(block, 64))) continue;
        memset(block, 1, bytes);
        hone_free(block);
    }
    CHECK(hone_alloc(SIZE_MAX) == NULL);
    CHECK(hone_alloc(SIZE_MAX - 63) == NULL);
    hone_free(NULL);
}

static void products_do_not_wrap(void) {
    size_t product = 0;
    CHECK(hone_size_product(1 << 20, 1 << 20, &product) && product == (size_t)1 << 40);
    CHECK(hone_size_product(0, SIZE_MAX, &product) && product == 0);
    CHECK(!hone_size_product((size_t)1 << 33, (size_t)1 << 31, &product));
    CHECK(hone_calloc((size_t)1 << 33, (size_t)1 << 31) == NULL);
    CHECK(hone_calloc(SIZE_MAX, 2) == NULL);
    unsigned char *zeros = hone_calloc(100, 3);
    for (int i = 0; zeros && i < 300; i++) CHECK_INT(zeros[i], 0);
    hone_free(zeros);
}

static void realloc_keeps_the_smaller(void) {
    char *block = hone_realloc(NULL, 0, 10);
    memcpy(block, "123456789", 10);
    block = hone_realloc(block, 10, 1000);
    CHECK_STRING(block, "123456789");
    block = hone_realloc(block, 1000, 4);
    CHECK(memcmp(block, "1234", 4) == 0);
    CHECK(hone_realloc(block, 4, SIZE_MAX) == NULL);
    CHECK(memcmp(block, "1234", 4) == 0); // the old block stays
    hone_free(block);
}

static void strings_are_copied(void) {
    char *whole = hone_strdup("hello"), *part = hone_strndup("hello", 2);
    char *empty = hone_strndup("", 0);
    CHECK_STRING(whole, "hello");
    CHECK_STRING(part, "he");
    CHECK_STRING(empty, "");
    hone_free(whole);
    hone_free(part);
    hone_free(empty);
    CHECK(hone_strndup("x", SIZE_MAX) == NULL);
}

// ---- arena -------------------------------------------------------------------------------------

static void heap_blocks_move_down(void) {
    enum { BYTES = 640, HALF = 320 };
    for (int dry = 0; dry < 2; dry++) {
        Heap *heap = hone_heap_create(dry != 0);
        hone_heap_reserve(heap, (size_t)1 << 20);
        HeapBlock *low = hone_heap_take(heap, HALF), *wall = hone_heap_take(heap, HALF);
        HeapBlock *block = hone_heap_take(heap, BYTES);
        for (int i = 0; i < BYTES && !dry; i++) block->address[i] = (char)(i % 101);
        const size_t used = hone_heap_used(heap);
        char *const first = low->address, *const second = wall->address;
        block = hone_heap_move_down(heap, block); // nothing is free below
        CHECK(block->address == second + HALF);
        hone_heap_give(heap, low); // too small a hole
        block = hone_heap_move_down(heap, block);
        CHECK(block->address == second + HALF);
        hone_heap_give(heap, wall); // with the wall it is large enough, one half over itself
        block = hone_heap_move_down(heap, block);
        CHECK(block->address == first);
        CHECK_INT(hone_heap_used(heap), used - 2 * HALF);
        for (int i = 0; i < BYTES && !dry; i++) CHECK(block->address[i] == (char)(i % 101));
        hone_heap_free(heap);
    }
}

static void an_arena_is_released_to_its_mark(void) {
    Arena arena = {0};
    hone_arena_release(&arena, hone_arena_mark(&arena));
    const ArenaMark empty = hone_arena_mark(&arena);
    char *before = hone_arena_strndup(&arena, "before", 6);
    const ArenaMark mark = hone_arena_mark(&arena);
    char *first = hone_arena_alloc(&arena, 100);
    for (int i = 0; i < 100; i++) CHECK(hone_arena_calloc(&arena, 1, 1000) != NULL);
    hone_arena_release(&arena, mark);
    CHECK_STRING(before, "before");
    CHECK(hone_arena_alloc(&arena, 100) == (void *)first);
    hone_arena_release(&arena, empty);
    CHECK(hone_arena_alloc(&arena, 8) != NULL);
    hone_arena_free(&arena);
}

static void arena_blocks_do_not_overlap(void) {
    enum { BLOCKS = 3000 };
    static unsigned char *blocks[BLOCKS];
    static size_t sizes[BLOCKS];
    RandomStream random = hone_random_stream(1, RANDOM_TEST, 0);
    Arena arena = {0};
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < BLOCKS; i++) {
            sizes[i] = hone_random_below(&random, i % 100 == 0 ? 100000 : 200);
            blocks[i] = hone_arena_alloc(&arena, sizes[i]);
            if (!CHECK(blocks[i] && aligned(blocks[i], 16))) return;
            memset(blocks[i], i % 251, sizes[i]);
        }
        for (int i = 0; i < BLOCKS; i++) {
            size_t wrong = 0;
            for (size_t b = 0; b < sizes[i]; b++) wrong += blocks[i][b] != i % 251;
            CHECK_INT(wrong, 0);
        }
        hone_arena_reset(&arena);
    }
    unsigned char *zeros = hone_arena_calloc(&arena, 1000, 7);
    size_t wrong = 0;
    for (int i = 0; i < 7000; i++) wrong += zeros[i] != 0;
    CHECK_INT(wrong, 0); // though the chunk was used before
    CHECK_STRING(hone_arena_strndup(&arena, "hello", 4), "hell");
    CHECK(hone_arena_alloc(&arena, SIZE_MAX) == NULL);
    CHECK(hone_arena_alloc(&arena, SIZE_MAX / 2) == NULL);
    CHECK(hone_arena_calloc(&arena, SIZE_MAX / 2, 3) == NULL);
    CHECK(hone_arena_alloc(&arena, 8) != NULL);
    hone_arena_free(&arena);
    hone_arena_free(&arena);
    hone_arena_reset(&arena);
}

// ---- heap --------------------------------------------------------------------------------------

enum { MOST = 200 };

typedef struct Model {
    Heap *heap;
    HeapBlock *block[MOST];
    size_t asked[MOST], used;
    bool dry;
} Model;

static void model_take(Model *model, int i, size_t bytes) {
    HeapBlock *block = hone_heap_take(model->heap, bytes);
    if (!CHECK(block != NULL)) return;
    CHECK(block->bytes >= bytes && block->bytes < bytes + 128 && aligned(block->address, 64));
    for (int other = 0; other < MOST; other++) {
        HeapBlock *b = model->block[other];
        if (b)
            CHECK(block->address + block->bytes <= b->address ||
                  b->address + b->bytes <= block->address);
    }
    model->block[i] = block;
    model->asked[i] = bytes;
    model->used += block->bytes;
    if (!model->dry) memset(block->address, i, bytes);
}

static void model_give(Model *model, int i) {
    HeapBlock *block = model->block[i];
    size_t wrong = 0;
    for (size_t b = 0; !model->dry && b < model->asked[i]; b++)
        wrong += (unsigned char)block->address[b] != i;
    CHECK_INT(wrong, 0);
    model->used -= block->bytes;
    model->block[i] = NULL;
    hone_heap_give(model->heap, block);
}

static void step(Model *model, RandomStream *random) {
    int i = (int)hone_random_below(random, MOST);
    size_t limit = hone_random_below(random, 50) == 0 ? (size_t)4 << 20 : 5000;
    size_t bytes = hone_random_below(random, limit);
    if (model->block[i])
        model_give(model, i);
    else
        model_take(model, i, bytes);
    CHECK_INT(hone_heap_used(model->heap), model->used);
    CHECK(hone_heap_peak(model->heap) >= model->used);
}

// The same takes and gives on a heap with memory and on a dry one: the plan's peak is the run's.
static void heap_follows_its_model(void) {
    Model wet = {.heap = hone_heap_create(false)};
    Model dry = {.heap = hone_heap_create(true), .dry = true};
    RandomStream random = hone_random_stream(2, RANDOM_TEST, 0), same = random;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3000; i++) {
            step(&wet, &random);
            step(&dry, &same);
        }
        CHECK_INT(hone_heap_peak(wet.heap), hone_heap_peak(dry.heap));
        CHECK(hone_heap_peak(wet.heap) > 0);
        for (int i = 0; i < MOST; i++) {
            if (wet.block[i]) model_give(&wet, i);
            if (dry.block[i]) model_give(&dry, i);
        }
        CHECK_INT(hone_heap_used(wet.heap), 0);
    }
    hone_heap_free(wet.heap);
    hone_heap_free(dry.heap);
}

// Neighbours that are free become one block again, in whatever order they are given back.
static void heap_joins_free_blocks(void) {
    static const int orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {0, 2, 1, 3}, {1, 3, 0, 2}};
    for (size_t o = 0; o < sizeof orders / sizeof *orders; o++) {
        Heap *heap = hone_heap_create(false);
        HeapBlock *blocks[4];
        for (int i = 0; i < 4; i++) blocks[i] = hone_heap_take(heap, 1 << 20);
        char *first = blocks[0]->address;
        CHECK(blocks[3]->address == first + (3 << 20));
        for (int i = 0; i < 4; i++) hone_heap_give(heap, blocks[orders[o][i]]);
        HeapBlock *whole = hone_heap_take(heap, 4 << 20);
        CHECK(whole && whole->address == first);
        CHECK_INT(hone_heap_peak(heap), 4 << 20);
        hone_heap_give(heap, whole);
        hone_heap_give(heap, NULL);
        hone_heap_free(heap);
    }
}

static void heap_reset_gives_all_back(void) {
    Heap *heap = hone_heap_create(false);
    HeapBlock *blocks[50];
    for (int i = 0; i < 50; i++) blocks[i] = hone_heap_take(heap, 3 << 20); // several chunks
    char *first = blocks[0]->address;
    for (int i = 0; i < 50; i += 3) hone_heap_give(heap, blocks[i]);
    size_t peak = hone_heap_peak(heap);
    hone_heap_reset(heap);
    CHECK_INT(hone_heap_used(heap), 0);
    CHECK_INT(hone_heap_peak(heap), peak);
    HeapBlock *large = hone_heap_take(heap, 60 << 20);
    CHECK(large && large->address == first); // the pages were kept and are one block again
    memset(large->address, 1, 60 << 20);
    CHECK_INT(hone_heap_used(heap), 60 << 20);
    hone_heap_reset(heap);
    hone_heap_free(heap);
}

static void heap_says_no(void) {
    Heap *heap = hone_heap_create(false);
    CHECK(hone_heap_take(heap, SIZE_MAX) == NULL);
    CHECK(hone_heap_take(heap, (size_t)1 << 60) == NULL);
    CHECK_INT(hone_heap_used(heap), 0);
    CHECK_INT(hone_heap_peak(heap), 0);
    HeapBlock *block = hone_heap_take(heap, 0);
    CHECK(block != NULL);
    hone_heap_give(heap, block);
    hone_heap_free(heap);
    hone_heap_free(NULL);
}

// A dry heap plans for more than the machine has, and nobody can touch what it hands out: the
// system refuses to read a byte from there.
static void a_dry_heap_takes_no_memory(void) {
    int64_t before = hone_resident_bytes();
    Heap *heap = hone_heap_create(true);
    HeapBlock *block = hone_heap_take(heap, (size_t)2 << 30);
    if (CHECK(block != NULL)) {
        CHECK_INT(hone_heap_peak(heap), (size_t)2 << 30);
        int pipe_ends[2];
        if (CHECK(pipe(pipe_ends) == 0)) {
            CHECK(write(pipe_ends[1], block->address, 1) == -1);
            CHECK(write(pipe_ends[1], block->address + block->bytes - 1, 1) == -1);
            close(pipe_ends[0]);
            close(pipe_ends[1]);
        }
        CHECK(hone_resident_bytes() - before < 64 << 20);
        hone_heap_give(heap, block);
    }
    hone_heap_free(heap);
}

int main(void) {
    RUN(blocks_are_aligned);
    RUN(products_do_not_wrap);
    RUN(realloc_keeps_the_smaller);
    RUN(strings_are_copied);
    RUN(arena_blocks_do_not_overlap);
    RUN(an_arena_is_released_to_its_mark);
    RUN(heap_blocks_move_down);
    RUN(heap_follows_its_model);
    RUN(heap_joins_free_blocks);
    RUN(heap_reset_gives_all_back);
    RUN(heap_says_no);
    RUN(a_dry_heap_takes_no_memory);
    return check_report();
}
