// SPDX-License-Identifier: Apache-2.0
// What the tests of the file formats share: a folder of their own, files with given bytes in it,
// and a check that a refusal is what it should be.
#ifndef HONE_TESTS_IO_TEST_H
#define HONE_TESTS_IO_TEST_H

#include <ftw.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "check.h"

static char test_folder[64];
static char test_path[192];

static inline int remove_entry(const char *path, const struct stat *info, int flag,
                               struct FTW *place) {
    (void)info, (void)flag, (void)place;
    return remove(path);
}

static inline void make_test_folder(void) {
    snprintf(test_folder, sizeof test_folder, "/dev/shm/hone-io-XXXXXX"); // thousands of files
    if (mkdtemp(test_folder)) return;
    snprintf(test_folder, sizeof test_folder, "/tmp/hone-io-XXXXXX");
    CHECK(mkdtemp(test_folder) != NULL);
}

static inline void remove_test_folder(void) {
    nftw(test_folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static inline const char *in_folder(const char *name) {
    snprintf(test_path, sizeof test_path, "%s/%s", test_folder, name);
    return test_path;
}

static inline const char *put_file(const char *name, const void *bytes, size_t length) {
    const char *path = in_folder(name);
    FILE *file = fopen(path, "wb");
    if (!CHECK(file != NULL)) return path;
    CHECK(fwrite(bytes, 1, length, file) == length);
    fclose(file);
    return path;
}

static inline const char *fixture(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/io/%s", HONE_FIXTURES, name);
    return path;
}

// A refusal: the status, one line, and these words in it.
static inline void check_refused(hone_status got, hone_status want, HoneError *err,
                                 const char *words) {
    CHECK_INT(got, want);
    CHECK_INT(err->status, want);
    CHECK_CONTAINS(err->message, words);
    CHECK(strchr(err->message, '\n') == NULL);
    hone_error_clear(err);
}

static inline void check_ok(hone_status got, HoneError *err) {
    if (!CHECK(got == HONE_OK)) printf("    %s\n", err->message);
    hone_error_clear(err);
}

#endif
