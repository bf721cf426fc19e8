// SPDX-License-Identifier: Apache-2.0
// What a repository holds, and which of it a person wants who names the repository alone.
#ifndef HONE_HUB_NET_LISTING_H
#define HONE_HUB_NET_LISTING_H

#include "base/memory.h"

typedef struct HubFile {
    const char *name;
    int64_t bytes;      // −1: not said
    const char *sha256; // of an LFS file; NULL: not said
    bool wanted;
} HubFile;

typedef struct Listing {
    char commit[65];
    HubFile *files;
    int64_t count;
} Listing;

// The answer of api/models/OWNER/NAME/revision/…, by way of the arena. HONE_ERROR_INPUT: it is not
// that, or a name in it leads out of the repository.
hone_status hone_listing_read(const char *text, size_t length, Arena *arena, Listing *listing,
                              HoneError *err);
// Mark what is wanted: `file` and the other parts of a GGUF file that is split; or with NULL the
// weights as safetensors, configuration, tokeniser and template; of an adapter its weights and
// configuration; of a repository with one GGUF file that. HONE_ERROR_INPUT names what could be
// meant; HONE_ERROR_UNSUPPORTED: pickles, with the line that converts them.
hone_status hone_listing_choose(Listing *listing, const char *repository, const char *file,
                                HoneError *err);

#endif
