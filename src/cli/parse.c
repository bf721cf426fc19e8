// SPDX-License-Identifier: Apache-2.0
// The command line, by a command's table.
#include <stdio.h>
#include <string.h>

#include "options.h"

static void mark_config_lists(const Command *command) {
    for (int i = 0; i < command->option_count; i++)
        if (command->options[i].kind == OPTION_LIST)
            ((TextList *)command->options[i].target)->from_config = true;
}

// Behind "--" stand no options.
static int end_of_options(int argc, char **argv) {
    int end = 1;
    while (end < argc && strcmp(argv[end], "--") != 0) end++;
    return end;
}

// The value of --NAME wherever it stands; NULL: not given.
static const char *value_of(const char *name, int argc, char **argv) {
    size_t length = strlen(name);
    const int end = end_of_options(argc, argv);
    for (int i = 1; i < end; i++) {
        if (strncmp(argv[i], "--", 2) != 0 || strncmp(argv[i] + 2, name, length) != 0) continue;
        const char *rest = argv[i] + 2 + length;
        if (*rest == '=') return rest + 1;
        if (*rest == '\0' && i + 1 < argc) return argv[i + 1]; // even "--"
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
    const int end = end_of_options(argc, argv);
    for (int i = 1; i < end; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return print_help(command, NULL);
        if (strncmp(argv[i], "--help=", 7) == 0) return print_help(command, argv[i] + 7);
    }
    int status = apply_config(command, argc, argv);
    if (status >= 0) return status;
    bool ended = false;
    for (int i = 1; i < argc; i++) {
        if (!ended && strcmp(argv[i], "--") == 0) {
            ended = true;
        } else if (!ended && strncmp(argv[i], "--", 2) == 0) {
            if (!parse_one(command, argc, argv, &i)) return EXIT_USAGE;
        } else if (command->position && !*command->position &&
                   word_fits(command->positional, argv[i])) {
            *command->position = argv[i];
        } else if (command->more && command->more->count < LIST_LIMIT) {
            command->more->items[command->more->count++] = argv[i];
        } else if (command->position && !*command->position) {
            unknown_word(command, argv[i]);
            return EXIT_USAGE;
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
    const int end = end_of_options(argc, argv);
    for (int i = 1; i < end; i++)
        if (strncmp(argv[i], "--", 2) == 0 && strncmp(argv[i] + 2, name, length) == 0 &&
            (argv[i][2 + length] == '\0' || argv[i][2 + length] == '='))
            return true;
    return false;
}

void note_without_effect(const Command *command, int argc, char **argv, const char *names,
                         const char *why) {
    const int end = end_of_options(argc, argv);
    for (int i = 1; i < end; i++) {
        if (strncmp(argv[i], "--", 2) != 0) continue;
        size_t length = strcspn(argv[i] + 2, "=");
        for (const char *name = names; *name; name += strcspn(name, " "), name += *name == ' ')
            if (strcspn(name, " ") == length && strncmp(name, argv[i] + 2, length) == 0)
                fprintf(stderr, "hone %s: note: --%.*s has no effect %s\n", command->name,
                        (int)length, name, why);
    }
}
