// SPDX-License-Identifier: Apache-2.0
#include "base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/system.h"

enum {
    ALIGNMENT = 64,
    // Blocks from this size on begin on a huge page: rows that lie far apart, as those of one head
    // among many, would else cost an address translation each.
    HUGE_PAGE = 1 << 21,
};

bool hone_size_product(size_t a, size_t b, size_t *product) {
    return !__builtin_mul_overflow(a, b, product);
}

void hone_memory_watch(void) {
    errno = 0;
}

bool hone_memory_lacked(void) {
    return errno == ENOMEM;
}

void *hone_alloc(size_t bytes) {
    size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
    if (bytes > SIZE_MAX - alignment) return NULL;
    size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    void *block = aligned_alloc(alignment, rounded ? rounded : alignment);
    if (block && alignment == HUGE_PAGE) hone_pages_advise(block, rounded);
    return block;
}

void *hone_calloc(size_t count, size_t size) {
    size_t bytes;
    if (!hone_size_product(count, size, &bytes)) return NULL;
    void *block = hone_alloc(bytes);
    if (block) memset(block, 0, bytes);
    return block;
}

void *hone_realloc(void *block, size_t old_bytes, size_t new_bytes) {
    void *grown = hone_alloc(new_bytes);
    if (!grown) return NULL;
    if (block) memcpy(grown, block, old_bytes < new_bytes ? old_bytes : new_bytes);
    hone_free(block);
    return grown;
}

void hone_free(void *memory) {
    free(memory);
}

char *hone_strndup(const char *text, size_t length) {
    char *copy = length < SIZE_MAX ? hone_alloc(length + 1) : NULL;
    if (!copy) return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *hone_strdup(const char *text) {
    return hone_strndup(text, strlen(text));
}

// ---- arena -------------------------------------------------------------------------------------

typedef struct ArenaChunk {
    struct ArenaChunk *next;
    size_t used, capacity;
    _Alignas(16) char data[];
} ArenaChunk;

void *hone_arena_alloc(Arena *arena, size_t bytes) {
    if (bytes > SIZE_MAX / 2) return NULL;
    size_t rounded = (bytes + 15) / 16 * 16;
    ArenaChunk *chunk = arena->chunks;
    if (!chunk || chunk->capacity - chunk->used < rounded) {
        size_t capacity = chunk ? chunk->capacity * 2 : 4096;
        if (capacity > (size_t)1 << 22) capacity = (size_t)1 << 22;
        if (capacity < rounded) capacity = rounded;
        chunk = hone_alloc(sizeof *chunk + capacity);
        if (!chunk) return NULL;
        *chunk = (ArenaChunk){.next = arena->chunks, .capacity = capacity};
        arena->chunks = chunk;
    }
    void *block = chunk->data + chunk->used;
    chunk->used += rounded;
    return block;
}

void *hone_arena_calloc(Arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (!hone_size_product(count, size, &bytes)) return NULL;
    void *block = hone_arena_alloc(arena, bytes);
    if (block) memset(block, 0, bytes);
    return block;
}

char *hone_arena_strndup(Arena *arena, const char *text, size_t length) {
    char *copy = length < SIZE_MAX / 2 ? hone_arena_alloc(arena, length + 1) : NULL;
    if (!copy) return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

ArenaMark hone_arena_mark(const Arena *arena) {
    return (ArenaMark){arena->chunks, arena->chunks ? arena->chunks->used : 0};
}

void hone_arena_release(Arena *arena, ArenaMark mark) {
    while (arena->chunks != mark.chunk) {
        ArenaChunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        hone_free(chunk);
    }
    if (mark.chunk) mark.chunk->used = mark.used;
}

void hone_arena_reset(Arena *arena) {
    ArenaChunk *keep = arena->chunks;
    if (!keep) return;
    for (ArenaChunk *chunk = keep->next, *next; chunk; chunk = next) {
        next = chunk->next;
        hone_free(chunk);
    }
    keep->next = NULL;
    keep->used = 0;
}

void hone_arena_free(Arena *arena) {
    for (ArenaChunk *chunk = arena->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        hone_free(chunk);
    }
    arena->chunks = NULL;
}

// ---- heap --------------------------------------------------------------------------------------

typedef struct HeapChunk {
    struct HeapChunk *next;
    char *base;
    size_t capacity, touched; // touched: end of the highest block ever taken
    HeapBlock *first;
} HeapChunk;

struct Heap {
    bool dry;
    size_t used;
    HeapChunk *chunks; // in order of creation
    HeapBlock *unused; // spare bookkeeping records, linked by next
    Arena records;
};

static const size_t chunk_bytes = (size_t)64 << 20;

Heap *hone_heap_create(bool dry) {
    Heap *heap = hone_calloc(1, sizeof *heap);
    if (heap) heap->dry = dry;
    return heap;
}

void hone_heap_free(Heap *heap) {
    if (!heap) return;
    for (HeapChunk *chunk = heap->chunks; chunk; chunk = chunk->next)
        hone_pages_free(chunk->base, chunk->capacity, heap->dry);
    hone_arena_free(&heap->records);
    hone_free(heap);
}

static HeapBlock *new_record(Heap *heap) {
    HeapBlock *record = heap->unused;
    if (record)
        heap->unused = record->next;
    else
        record = hone_arena_alloc(&heap->records, sizeof *record);
    return record;
}

static HeapChunk *add_chunk(Heap *heap, size_t bytes) {
    size_t capacity = bytes > chunk_bytes ? bytes : chunk_bytes;
    HeapChunk *chunk = hone_arena_calloc(&heap->records, 1, sizeof *chunk);
    HeapBlock *block = new_record(heap);
    if (!chunk || !block) return NULL;
    chunk->base = hone_pages_alloc(capacity, heap->dry);
    if (!chunk->base) return NULL;
    chunk->capacity = capacity;
    *block = (HeapBlock){.address = chunk->base, .bytes = capacity, .is_free = true};
    chunk->first = block;
    HeapChunk **end = &heap->chunks;
    while (*end) end = &(*end)->next;
    *end = chunk;
    return chunk;
}

void hone_heap_reserve(Heap *heap, size_t bytes) {
    if (!heap->chunks && bytes < SIZE_MAX / 2) add_chunk(heap, bytes);
}

static HeapBlock *take_from(Heap *heap, HeapChunk *chunk, size_t bytes) {
    for (HeapBlock *block = chunk->first; block; block = block->next) {
        if (!block->is_free || block->bytes < bytes) continue;
        if (block->bytes > bytes) {
            HeapBlock *rest = new_record(heap);
            if (!rest) return NULL;
            *rest = (HeapBlock){.address = block->address + bytes,
                                .bytes = block->bytes - bytes,
                                .is_free = true,
                                .previous = block,
                                .next = block->next};
            if (rest->next) rest->next->previous = rest;
            block->next = rest;
            block->bytes = bytes;
        }
        block->is_free = false;
        size_t end = (size_t)(block->address - chunk->base) + bytes;
        if (end > chunk->touched) chunk->touched = end;
        heap->used += bytes;
        if (!heap->dry) hone_unpoison(block->address, bytes);
        return block;
    }
    return NULL;
}

HeapBlock *hone_heap_take(Heap *heap, size_t bytes) {
    if (bytes > SIZE_MAX / 2) return NULL;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (bytes == 0) bytes = ALIGNMENT;
    for (HeapChunk *chunk = heap->chunks; chunk; chunk = chunk->next) {
        HeapBlock *block = take_from(heap, chunk, bytes);
        if (block) return block;
    }
    HeapChunk *chunk = add_chunk(heap, bytes);
    return chunk ? take_from(heap, chunk, bytes) : NULL;
}

// Join a free block with the free block after it; the second record is spare from then on.
static void join_next(Heap *heap, HeapBlock *block) {
    HeapBlock *gone = block->next;
    block->bytes += gone->bytes;
    block->next = gone->next;
    if (gone->next) gone->next->previous = block;
    gone->next = heap->unused;
    heap->unused = gone;
}

void hone_heap_give(Heap *heap, HeapBlock *block) {
    if (!block) return;
    heap->used -= block->bytes;
    block->is_free = true;
    if (!heap->dry) hone_poison(block->address, block->bytes);
    if (block->next && block->next->is_free) join_next(heap, block);
    if (block->previous && block->previous->is_free) join_next(heap, block->previous);
}

HeapBlock *hone_heap_move_down(Heap *heap, HeapBlock *block) {
    char *from = block->address;
    const size_t bytes = block->bytes;
    hone_heap_give(heap, block);
    HeapBlock *to = hone_heap_take(heap, bytes);
    if (!to || heap->dry || to->address == from) return to;
    hone_unpoison(from, bytes);
    memmove(to->address, from, bytes);
    const size_t moved = (size_t)(from - to->address); // huge where `to` lies in a chunk above
    const size_t kept = moved < bytes ? bytes - moved : 0;
    hone_poison(from + kept, bytes - kept);
    return to;
}

size_t hone_heap_used(const Heap *heap) {
    return heap->used;
}

size_t hone_heap_peak(const Heap *heap) {
    size_t total = 0;
    for (const HeapChunk *chunk = heap->chunks; chunk; chunk = chunk->next) total += chunk->touched;
    return total;
}

void hone_heap_reset(Heap *heap) {
    for (HeapChunk *chunk = heap->chunks; chunk; chunk = chunk->next)
        for (HeapBlock *block = chunk->first; block; block = block->next) {
            if (!block->is_free) {
                hone_heap_give(heap, block);
                block = chunk->first; // records were joined: begin again
            }
        }
}
