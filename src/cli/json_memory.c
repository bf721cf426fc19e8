// SPDX-License-Identifier: Apache-2.0
// The JSON library drops a character of a text, and may read on behind it, when one block of memory
// is refused and the next one is given. So once a block is refused to a thread it is given no
// other: that is always noticed.
#include <jansson.h>
#include <stdlib.h>

#include "output.h"

static _Thread_local bool refused;

static void *give(size_t bytes) {
    void *block = refused ? NULL : malloc(bytes);
    refused = !block;
    return block;
}

void guard_json_memory(void) {
    json_set_alloc_funcs(give, free);
}

bool json_memory_refused(void) {
    const bool was = refused;
    refused = false;
    return was;
}
