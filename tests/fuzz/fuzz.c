// SPDX-License-Identifier: Apache-2.0
#include "fuzz.h"

#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char folder[64];

static int remove_entry(const char *path, const struct stat *info, int flag, struct FTW *place) {
    (void)info, (void)flag, (void)place;
    return remove(path);
}

static void remove_folder(void) {
    nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void) {
    if (folder[0]) return folder;
    struct stat info; // memory, where there is such a place: hundreds of files a second
    bool shared = stat("/dev/shm", &info) == 0;
    snprintf(folder, sizeof folder, "%s/hone-fuzz-XXXXXX", shared ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        exit(1);
    }
    atexit(remove_folder);
    return folder;
}

const char *fuzz_file(const char *name, const uint8_t *data, size_t size) {
    static char path[192];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
    return path;
}

void fuzz_touch(const void *data, size_t size) {
    volatile unsigned char sink = 0;
    for (size_t i = 0; i < size; i++) sink = ((const unsigned char *)data)[i];
    (void)sink;
}
