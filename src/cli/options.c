// SPDX-License-Identifier: Apache-2.0
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        if (strcmp(command->options[i].name, name) == 0) return &command->options[i];
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

static int smallest(int a, int b, int c) {
    int least = a < b ? a : b;
    return least < c ? least : c;
}

// Edits between two short words; long ones are simply far apart.
static int edit_distance(const char *a, const char *b) {
    enum { LONGEST = 40 };
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

const char *nearest(const char *name, const char *const *known, int count) {
    const char *best = NULL;
    // Farther words are no help: three changes at most, and half of what was written stands.
    int least = (int)strlen(name) / 2 + 1;
    if (least > 4) least = 4;
    for (int i = 0; i < count; i++) {
        int distance = edit_distance(name, known[i]);
        if (distance < least) {
            least = distance;
            best = known[i];
        }
    }
    return best;
}

void unknown_option(const Command *command, const char *name) {
    const char *names[128];
    int count = 0;
    for (; count < command->option_count && count < 128; count++)
        names[count] = command->options[count].name;
    const char *close = nearest(name, names, count);
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

bool set_option(const Command *command, const Option *option, const char *value) {
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
    case OPTION_LIST: {
        TextList *list = option->target;
        if (list->count == LIST_LIMIT) {
            fprintf(stderr, "hone %s: --%s is given more than %d times\n", command->name,
                    option->name, LIST_LIMIT);
            return false;
        }
        list->items[list->count++] = value;
        return true;
    }
    }
    return false;
}

// ---- the command line --------------------------------------------------------------------------

static void mark_config_lists(const Command *command) {
    for (int i = 0; i < command->option_count; i++)
        if (command->options[i].kind == OPTION_LIST)
            ((TextList *)command->options[i].target)->from_config = true;
}

// The value of --NAME wherever it stands; NULL: not given.
static const char *value_of(const char *name, int argc, char **argv) {
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0 || strncmp(argv[i] + 2, name, length) != 0) continue;
        const char *rest = argv[i] + 2 + length;
        if (*rest == '=') return rest + 1;
        if (*rest == '\0' && i + 1 < argc) return argv[i + 1];
    }
    return NULL;
}

// --config is read first, wherever it stands, so that the command line wins. A run that is resumed
// brings its own.
static int apply_config(const Command *command, int argc, char **argv) {
    if (!find_option(command, "config")) return -1;
    const char *path = value_of("config", argc, argv);
    const char *resumed = value_of("resume", argc, argv);
    char own[4096];
    if (!path && resumed) {
        snprintf(own, sizeof own, "%s/config.yaml", resumed);
        FILE *file = fopen(own, "rb"); // without one the options must all be given again
        if (!file) return -1;
        fclose(file);
        path = own;
    }
    if (!path) return -1;
    if (!read_config(command, path)) return EXIT_USAGE;
    mark_config_lists(command);
    return -1;
}

// One "--name", "--name=value" or "--name value" at argv[*at].
static bool parse_one(const Command *command, int argc, char **argv, int *at) {
    char name[64];
    const char *text = argv[*at] + 2, *equals = strchr(text, '=');
    size_t length = equals ? (size_t)(equals - text) : strlen(text);
    if (length >= sizeof name) length = sizeof name - 1;
    memcpy(name, text, length);
    name[length] = '\0';
    const Option *option = find_option(command, name);
    if (!option) {
        unknown_option(command, name);
        return false;
    }
    if (option->kind == OPTION_FLAG && !equals) {
        *(bool *)option->target = true;
        return true;
    }
    const char *value = equals ? equals + 1 : *at + 1 < argc ? argv[++*at] : NULL;
    if (!value) {
        fprintf(stderr, "hone %s: --%s wants %s\n", command->name, name,
                option->argument ? option->argument : "on or off");
        return false;
    }
    if (option->kind == OPTION_LIST) {
        TextList *list = option->target;
        if (list->from_config) list->count = 0;
        list->from_config = false;
    }
    return set_option(command, option, value);
}

int parse_options(const Command *command, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(command);
            return EXIT_DONE;
        }
    int status = apply_config(command, argc, argv);
    if (status >= 0) return status;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0 && argv[i][2]) {
            if (!parse_one(command, argc, argv, &i)) return EXIT_USAGE;
        } else if (command->position && !*command->position) {
            *command->position = argv[i];
        } else {
            fprintf(stderr, "hone %s: \"%s\" was not expected (usage: %s)\n", command->name,
                    argv[i], command->usage);
            return EXIT_USAGE;
        }
    }
    return -1;
}

bool is_given(int argc, char **argv, const char *name) {
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "--", 2) == 0 && strncmp(argv[i] + 2, name, length) == 0 &&
            (argv[i][2 + length] == '\0' || argv[i][2 + length] == '='))
            return true;
    return false;
}

void note_without_effect(const Command *command, int argc, char **argv, const char *names,
                         const char *why) {
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) continue;
        size_t length = strcspn(argv[i] + 2, "=");
        for (const char *name = names; *name; name += strcspn(name, " "), name += *name == ' ')
            if (strcspn(name, " ") == length && strncmp(name, argv[i] + 2, length) == 0)
                fprintf(stderr, "hone %s: note: --%.*s has no effect %s\n", command->name,
                        (int)length, name, why);
    }
}

void print_help(const Command *command) {
    printf("%s\n\nusage: %s\n\n", command->summary, command->usage);
    for (int i = 0; i < command->option_count; i++) {
        const Option *option = &command->options[i];
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", option->name, option->argument ? " " : "",
                 option->argument ? option->argument : "");
        printf("  %-26s %s\n", left, option->help);
    }
}
