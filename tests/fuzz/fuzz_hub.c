// SPDX-License-Identifier: Apache-2.0
// The hub's list of a repository's files, and what is chosen of it.
#include <string.h>

#include "fuzz.h"
#include "hub/cache.h"
#include "hub/net/listing.h"

// Something is wanted, or why not is said.
static void choose(Listing *listing, const char *file) {
    HoneError err = {0};
    int64_t wanted = 0;
    for (int64_t i = 0; i < listing->count; i++) listing->files[i].wanted = false;
    if (hone_listing_choose(listing, "some/model", file, &err) != HONE_OK) {
        if (!err.message[0]) __builtin_trap();
        return;
    }
    for (int64_t i = 0; i < listing->count; i++) wanted += listing->files[i].wanted;
    if (wanted == 0) __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    HoneError err = {0};
    Arena arena = {0};
    Listing listing;
    if (hone_listing_read((const char *)data, size, &arena, &listing, &err) == HONE_OK) {
        const size_t digits = strlen(listing.commit);
        if (digits < 40 || strspn(listing.commit, "0123456789abcdef") != digits) __builtin_trap();
        for (int64_t i = 0; i < listing.count; i++) {
            const HubFile *file = &listing.files[i];
            if (!hone_hub_is_file_name(file->name) || file->bytes < -1) __builtin_trap();
            if (file->sha256 && strlen(file->sha256) != 64) __builtin_trap();
        }
        choose(&listing, NULL);
        choose(&listing, "model-00001-of-00002.gguf");
        for (int64_t i = 0; i < listing.count && i < 4; i++)
            choose(&listing, listing.files[i].name);
    } else {
        if (!err.message[0]) __builtin_trap();
    }
    hone_arena_free(&arena);
    return 0;
}
