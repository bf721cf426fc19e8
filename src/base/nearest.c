// SPDX-License-Identifier: Apache-2.0
// The right spelling that is nearest to a wrong one (Levenshtein 1966).
#include "base/nearest.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST = 64 };

static int smallest(int a, int b, int c) {
    int least = a < b ? a : b;
    return least < c ? least : c;
}

// Insertions, deletions and exchanges between two short words; long ones are simply far apart.
static int edit_distance(const char *a, const char *b) {
    size_t a_length = strlen(a), b_length = strlen(b);
    if (a_length >= LONGEST || b_length >= LONGEST) return LONGEST;
    int row[LONGEST];
    for (size_t j = 0; j <= b_length; j++) row[j] = (int)j;
    for (size_t i = 1; i <= a_length; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= b_length; j++) {
            int above = row[j];
            row[j] = smallest(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[b_length];
}

// Farther words are no help: three changes at most, and half of what was written stands.
static int too_far(const char *word) {
    int least = (int)strlen(word) / 2 + 1;
    return least > 4 ? 4 : least;
}

const char *hone_nearest(const char *word, const char *const *known, int count) {
    const char *best = NULL;
    int least = too_far(word);
    for (int i = 0; i < count; i++) {
        int distance = edit_distance(word, known[i]);
        if (distance < least) {
            least = distance;
            best = known[i];
        }
    }
    return best;
}

bool hone_nearest_file(const char *path, char *found, size_t size) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    int folder_length = (int)(name - path), least = too_far(name);
    char folder[1024];
    snprintf(folder, sizeof folder, "%.*s", folder_length, path);
    DIR *entries = *name ? opendir(folder_length ? folder : ".") : NULL;
    if (!entries) return false;
    char best[LONGEST] = "";
    for (const struct dirent *entry; (entry = readdir(entries));) {
        int distance = edit_distance(name, entry->d_name);
        // Of two as near the first by name, whatever order the folder has.
        bool nearer =
            distance < least || (distance == least && *best && strcmp(entry->d_name, best) < 0);
        if (!nearer || strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        least = distance;
        memcpy(best, entry->d_name, strlen(entry->d_name) + 1); // shorter than LONGEST: it is near
    }
    closedir(entries);
    if (!*best) return false;
    snprintf(found, size, "%s%s", folder, best);
    return true;
}
