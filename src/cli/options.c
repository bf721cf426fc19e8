// SPDX-License-Identifier: Apache-2.0
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int common_options(Common *common, Option *options) {
    const Option all[] = {
        {"threads", OPTION_COUNT, &common->threads, "N",
         "threads (default: the physical cores this process may use)"},
        {"isa", OPTION_TEXT, &common->isa, "LEVEL",
         "force a kernel level: generic, avx2, avx512, avx512bf16, neon"},
        {"seed", OPTION_INTEGER, &common->seed, "N", "seed of everything random (default 0)"},
        {"json", OPTION_FLAG, &common->json, NULL, "results as JSON, one object a line"},
        {"help", OPTION_FLAG, &common->help, NULL, "this page"},
    };
    int count = (int)(sizeof all / sizeof *all);
    for (int i = 0; i < count; i++) options[i] = all[i];
    return count;
}

const Option *find_option(const Command *command, const char *name) {
    for (int i = 0; i < command->option_count; i++)
        if (command->options[i].kind != OPTION_HEADING &&
            strcmp(command->options[i].name, name) == 0)
            return &command->options[i];
    return NULL;
}

typedef struct KeptText {
    struct KeptText *next;
    char text[];
} KeptText;

const char *keep_text(const char *text, size_t length) {
    static KeptText *all; // so that a leak checker sees them held
    KeptText *kept = malloc(sizeof *kept + length + 1);
    if (!kept) return NULL;
    memcpy(kept->text, text, length);
    kept->text[length] = '\0';
    kept->next = all;
    all = kept;
    return kept->text;
}

// ---- the nearest right spelling ----------------------------------------------------------------

void unknown_option(const Command *command, const char *name) {
    const char *names[128];
    int count = 0;
    for (int i = 0; i < command->option_count && count < 128; i++)
        if (command->options[i].kind != OPTION_HEADING) names[count++] = command->options[i].name;
    const char *close = hone_nearest(name, names, count);
    fprintf(stderr, "hone %s: no option --%s", command->name, name);
    if (close) fprintf(stderr, "; did you mean --%s?", close);
    fprintf(stderr, " (hone %s --help lists them)\n", command->name);
}

// ---- values ------------------------------------------------------------------------------------

// "FILE:LINE" while a config file is read, NULL for the command line.
static const char *place_of_values;

void set_place_of_values(const char *place) {
    place_of_values = place;
}

static bool wrong_value(const Command *command, const Option *option, const char *value,
                        const char *want) {
    fprintf(stderr, "hone %s: %s%s%s is \"%s\", want %s\n", command->name,
            place_of_values ? place_of_values : "", place_of_values ? ": " : "--", option->name,
            value, want);
    return false;
}

static bool set_integer(const Command *command, const Option *option, const char *value) {
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    long long unit = 1;
    if (option->kind == OPTION_SIZE && *end) {
        unit = *end == 'K' || *end == 'k'   ? 1LL << 10
               : *end == 'M' || *end == 'm' ? 1LL << 20
               : *end == 'G' || *end == 'g' ? 1LL << 30
                                            : 0;
        end++;
    }
    const char *want = option->kind == OPTION_SIZE    ? "a size such as 4096, 512M or 4G"
                       : option->kind == OPTION_COUNT ? "a whole number, 1 or more"
                                                      : "a whole number";
    bool fits = end != value && !*end && !errno && unit && number <= INT64_MAX / unit &&
                number >= -(INT64_MAX / unit);
    if (!fits || (option->kind != OPTION_INTEGER && number < 1))
        return wrong_value(command, option, value, want);
    *(int64_t *)option->target = number * unit;
    return true;
}

static bool set_real(const Command *command, const Option *option, const char *value) {
    char *end;
    double number = strtod(value, &end);
    bool fits = end != value && !*end && isfinite(number);
    if (!fits || (option->kind == OPTION_RATE && number <= 0))
        return wrong_value(command, option, value,
                           option->kind == OPTION_RATE ? "a number above 0" : "a number");
    *(double *)option->target = number;
    return true;
}

int argument_words(const char *argument, char *buffer, const char **words, bool *open) {
    int count = 0;
    *open = false;
    strcpy(buffer, argument);
    for (char *word = buffer; word && count < WORD_LIMIT;) {
        char *bar = strchr(word, '|');
        if (bar) *bar = '\0';
        const bool small =
            *word && word[strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789_-")] == 0;
        if (small)
            words[count++] = word;
        else
            *open = true;
        word = bar ? bar + 1 : NULL;
    }
    return count;
}

bool word_fits(const char *argument, const char *value) {
    char buffer[256];
    const char *words[WORD_LIMIT];
    bool open;
    if (!argument || strlen(argument) >= sizeof buffer) return true;
    int count = argument_words(argument, buffer, words, &open);
    for (int i = 0; i < count; i++)
        if (strcmp(words[i], value) == 0) return true;
    return open;
}

// "lora or full; did you mean lora?" for what is none of argument's words.
static void wanted_words(const char *argument, const char *value, char *list, size_t size) {
    char buffer[256];
    const char *words[WORD_LIMIT];
    bool open;
    int count = argument_words(argument, buffer, words, &open);
    size_t used = 0;
    for (int i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(list + used, size - used, "%s%s",
                                 i == 0          ? ""
                                 : i + 1 < count ? ", "
                                                 : " or ",
                                 words[i]);
    const char *close = hone_nearest(value, words, count);
    if (close && used < size) snprintf(list + used, size - used, "; did you mean %s?", close);
}

static bool wrong_word(const Command *command, const Option *option, const char *value) {
    char list[512];
    wanted_words(option->argument, value, list, sizeof list);
    return wrong_value(command, option, value, list);
}

void unknown_word(const Command *command, const char *value) {
    char list[512];
    wanted_words(command->positional, value, list, sizeof list);
    fprintf(stderr, "hone %s: \"%s\" is not %s\n", command->name, value, list);
}

// "A[:WEIGHT]": what follows the colon of a path that is there must be a number, unless a path of
// the whole name is there.
static bool check_weight(const Command *command, const Option *option, const char *value) {
    const char *colon = strrchr(value, ':');
    struct stat info;
    if (!strstr(option->argument, "[:WEIGHT]") || !colon || colon == value ||
        stat(value, &info) == 0)
        return true;
    char *end;
    const double weight = strtod(colon + 1, &end);
    if (end != colon + 1 && !*end && isfinite(weight)) return true;
    char *path = strndup(value, (size_t)(colon - value));
    const bool there = path && stat(path, &info) == 0;
    free(path);
    return !there ||
           wrong_value(command, option, value,
                       "a number behind the colon (a path of that whole name is not there)");
}

static bool add_item(const Command *command, const Option *option, const char *value) {
    TextList *list = option->target;
    if (list->count == LIST_LIMIT) {
        fprintf(stderr, "hone %s: --%s is given more than %d times\n", command->name, option->name,
                LIST_LIMIT);
        return false;
    }
    if (!check_weight(command, option, value)) return false;
    list->items[list->count++] = value;
    return true;
}

bool set_option(const Command *command, const Option *option, const char *value) {
    if (option->kind == OPTION_TEXT && !word_fits(option->argument, value))
        return wrong_word(command, option, value);
    switch (option->kind) {
    case OPTION_FLAG:
    case OPTION_SWITCH:
        if (strcmp(value, "on") == 0 || strcmp(value, "true") == 0)
            *(bool *)option->target = true;
        else if (strcmp(value, "off") == 0 || strcmp(value, "false") == 0)
            *(bool *)option->target = false;
        else
            return wrong_value(command, option, value, "on or off");
        return true;
    case OPTION_TEXT:
        *(const char **)option->target = value;
        return true;
    case OPTION_INTEGER:
    case OPTION_COUNT:
    case OPTION_SIZE:
        return set_integer(command, option, value);
    case OPTION_REAL:
    case OPTION_RATE:
        return set_real(command, option, value);
    case OPTION_LIST:
        return add_item(command, option, value);
    case OPTION_HEADING:
        break;
    }
    return false;
}
