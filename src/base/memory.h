// SPDX-License-Identifier: Apache-2.0
// The only place memory comes from: plain blocks, arenas (freed together) and a heap of tensors
// (freed one by one, pages kept for the next step).
#ifndef HONE_BASE_MEMORY_H
#define HONE_BASE_MEMORY_H

#include "base/error.h"

// Blocks aligned to 64 bytes. Uninitialised; NULL when out of memory. Free with hone_free.
void *hone_alloc(size_t bytes);
// Zeroed; the product is checked for overflow.
void *hone_calloc(size_t count, size_t size);
// Copies min(old_bytes, new_bytes); on failure NULL, and the old block stays.
void *hone_realloc(void *block, size_t old_bytes, size_t new_bytes);
// A NUL-terminated copy of `length` bytes. Caller frees with hone_free.
char *hone_strndup(const char *text, size_t length);
char *hone_strdup(const char *text);

// For libraries that take memory themselves and may report its lack as another fault: watch before
// the call, ask after it failed. Of this thread, by the system's own error number.
void hone_memory_watch(void);
bool hone_memory_lacked(void);

// ok = false on overflow of a*b; otherwise *product.
bool hone_size_product(size_t a, size_t b, size_t *product);

// Arena: allocations live until hone_arena_reset or _free. Zero-initialise to create.
typedef struct Arena {
    struct ArenaChunk *chunks;
} Arena;

void *hone_arena_alloc(Arena *arena, size_t bytes); // 16-byte aligned, uninitialised, NULL if none
void *hone_arena_calloc(Arena *arena, size_t count, size_t size);
char *hone_arena_strndup(Arena *arena, const char *text, size_t length);
// What is allocated after a mark can be freed without the rest.
typedef struct ArenaMark {
    struct ArenaChunk *chunk;
    size_t used;
} ArenaMark;
ArenaMark hone_arena_mark(const Arena *arena);
void hone_arena_release(Arena *arena, ArenaMark mark);
void hone_arena_reset(Arena *arena); // keeps the newest chunk for reuse
void hone_arena_free(Arena *arena);

// Heap: large blocks, 64-byte aligned, first fit by address. Bookkeeping lies outside the blocks,
// so a *dry* heap hands out addresses that must never be touched: the plan runs the same code over
// it to learn the peak before any memory is taken.
typedef struct Heap Heap;

typedef struct HeapBlock {
    char *address;
    size_t bytes; // as rounded up
    bool is_free;
    struct HeapBlock *previous, *next; // neighbours in the same chunk, by address
} HeapBlock;

Heap *hone_heap_create(bool dry);
void hone_heap_free(Heap *heap);
// Room for `bytes` in one piece, before the first block is taken; nothing where there is none.
void hone_heap_reserve(Heap *heap, size_t bytes);
HeapBlock *hone_heap_take(Heap *heap, size_t bytes); // NULL: out of memory
void hone_heap_give(Heap *heap, HeapBlock *block);   // NULL allowed
// Its content at the lowest place that holds it, perhaps where it was. NULL: out of memory, and the
// content is lost.
HeapBlock *hone_heap_move_down(Heap *heap, HeapBlock *block);
size_t hone_heap_used(const Heap *heap); // bytes in taken blocks now
size_t hone_heap_peak(const Heap *heap); // bytes of the chunks' touched extent, at most
void hone_heap_reset(Heap *heap);        // gives all blocks back, keeps the pages

#endif
