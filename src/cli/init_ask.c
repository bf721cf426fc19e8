// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "init.h"
#include "output.h"

enum { ANSWER = 4096, SHOWN = 5 };

static const char *const model_ends[] = {".gguf"};
static const char *const data_ends[] = {".jsonl", ".json", ".csv", ".tsv", ".txt"};

static bool ends_with(const char *text, size_t length, const char *end) {
    const size_t size = strlen(end);
    return length > size && strncmp(text + length - size, end, size) == 0;
}

// Has the file, packed or not, one of these ends?
static bool is_one_of(const char *name, const char *const *ends, int count) {
    size_t length = strlen(name);
    if (ends_with(name, length, ".gz")) length -= 3;
    if (ends_with(name, length, ".zst")) length -= 4;
    for (int i = 0; i < count; i++)
        if (ends_with(name, length, ends[i])) return true;
    return false;
}

// Files of the current folder, in the order of their names; the first is the likely answer, where
// it is the only one or `sure` (a file for training is no file to choose a model by).
typedef struct Found {
    const char *names[SHOWN];
    int count;
} Found;

static Found find_files(const char *const *ends, int end_count) {
    Found found = {0};
    struct dirent **entries = NULL;
    const int count = scandir(".", &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        if (found.count < SHOWN && name[0] != '.' && is_one_of(name, ends, end_count))
            found.names[found.count++] = keep_text(name, strlen(name));
        free(entries[i]);
    }
    free(entries);
    return found;
}

// "~/x" as a shell would have read it, were this its line.
static const char *without_tilde(const char *answer) {
    const char *home = getenv("HOME");
    char path[2 * ANSWER];
    if (strncmp(answer, "~/", 2) != 0 || !home) return keep_text(answer, strlen(answer));
    const int length = snprintf(path, sizeof path, "%s%s", home, answer + 1);
    return length < (int)sizeof path ? keep_text(path, (size_t)length) : NULL;
}

// One line of stdin without what surrounds it; false: there is none.
static bool read_answer(char answer[ANSWER]) {
    if (!fgets(answer, ANSWER, stdin)) {
        fputc('\n', stderr);
        return false;
    }
    if (!strchr(answer, '\n')) // the rest of a line that is too long is no answer to what follows
        for (int c; (c = getchar()) != EOF && c != '\n';) continue;
    char *begin = answer + strspn(answer, " \t");
    size_t length = strcspn(begin, "\r\n");
    while (length && (begin[length - 1] == ' ' || begin[length - 1] == '\t')) length--;
    memmove(answer, begin, length);
    answer[length] = '\0';
    return true;
}

// Ask until the answer fits; an empty one is `likely`. NULL: there is no answer.
static const char *ask(const Init *init, const char *question, const char *likely,
                       bool (*fits)(const char *answer)) {
    char answer[ANSWER];
    while (!init->yes) {
        fprintf(stderr, likely ? "%s [%s]: " : "%s: ", question, likely ? likely : "");
        fflush(stderr);
        if (!read_answer(answer)) break;
        const char *given = *answer ? without_tilde(answer) : likely;
        if (given && fits(given)) return given;
    }
    return likely;
}

static bool is_there(const char *path) {
    struct stat info;
    double weight;
    if (stat(path, &info) == 0 || stat(split_weight(path, &weight), &info) == 0) return true;
    fprintf(stderr, "  %s is not there\n", path);
    return false;
}

// What --model takes; whether it can be read is seen when it is.
static bool is_model(const char *answer) {
    return (strchr(answer, '/') && strchr(answer, '/') == strrchr(answer, '/')) || is_there(answer);
}

static bool is_folder_name(const char *answer) {
    struct stat info;
    if (stat(answer, &info) != 0 || S_ISDIR(info.st_mode)) return true;
    fprintf(stderr, "  %s is a file\n", answer);
    return false;
}

static bool is_purpose(const char *answer) {
    char *end;
    const double minutes = strtod(answer, &end);
    if (strcmp(answer, "try") == 0 || strcmp(answer, "good") == 0 || strcmp(answer, "best") == 0)
        return true;
    if (end != answer && !*end && minutes > 0 && minutes < 1e6) return true;
    fprintf(stderr, "  \"%s\" is none of try, good, best, nor a number of minutes\n", answer);
    return false;
}

static void show_found(const Init *init, const char *what, const Found *found) {
    if (init->yes || found->count < 2) return;
    fprintf(stderr, "%s here:", what);
    for (int i = 0; i < found->count; i++) fprintf(stderr, " %s", found->names[i]);
    fputc('\n', stderr);
}

// Of several files none is likelier than the others.
static const char *only(const Found *found) {
    return found->count == 1 ? found->names[0] : NULL;
}

// "my-adapter", or with a number the first that is not there.
static const char *free_name(void) {
    char name[64] = "my-adapter";
    struct stat info;
    for (int i = 2; i < 1000 && stat(name, &info) == 0; i++)
        snprintf(name, sizeof name, "my-adapter-%d", i);
    return keep_text(name, strlen(name));
}

static int lacks(const char *what, const char *option) {
    fprintf(stderr, "hone init: which %s? --%s says (several or none are in this folder)\n", what,
            option);
    return EXIT_USAGE;
}

int ask_what_is_missing(Init *init) {
    if (!init->model) {
        const Found found = find_files(model_ends, 1);
        show_found(init, "models", &found);
        init->model = ask(init,
                          "1. Which model? A .gguf file, a Hugging Face folder, or OWNER/NAME "
                          "that was pulled",
                          only(&found), is_model);
    }
    if (!init->model) return lacks("model", "model");
    if (init->data.count == 0) {
        const Found found = find_files(data_ends, sizeof data_ends / sizeof *data_ends);
        show_found(init, "data", &found);
        const char *data = ask(init, "2. Which data? A .jsonl, .json, .csv, .tsv or .txt file",
                               only(&found), is_there);
        if (data) init->data.items[init->data.count++] = data;
    }
    if (init->data.count == 0) return lacks("data", "data");
    if (!init->out)
        init->out = ask(init, "3. Which folder for the result?", free_name(), is_folder_name);
    if (!init->purpose)
        init->purpose = ask(init,
                            "4. What for? try (3 minutes), good, best (takes longer), or how many "
                            "minutes it may take",
                            "good", is_purpose);
    else if (!is_purpose(init->purpose))
        return EXIT_USAGE;
    return -1;
}
