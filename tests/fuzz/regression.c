// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target over every file of the folders named: the corpus as an ordinary test.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

static int run_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    int failed = !data || size < 0 || fread(data, 1, (size_t)size, file) != (size_t)size;
    fclose(file);
    if (!failed) LLVMFuzzerTestOneInput(data, (size_t)size);
    if (failed) fprintf(stderr, "%s: cannot read\n", path);
    free(data);
    return failed;
}

static int run_folder(const char *folder, int *count) {
    DIR *entries = opendir(folder);
    if (!entries) {
        perror(folder);
        return 1;
    }
    int failed = 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        char path[1024];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        failed += run_file(path);
        ++*count;
    }
    closedir(entries);
    return failed;
}

int main(int count, char **arguments) {
    int failed = 0, files = 0;
    for (int i = 1; i < count; i++) failed += run_folder(arguments[i], &files);
    printf("%d files, %d could not be read\n", files, failed);
    return failed || files == 0;
}
