// SPDX-License-Identifier: Apache-2.0
// One table of options a command: parsing, --help, config files and the nearest right spelling all
// come from it.
#ifndef HONE_CLI_OPTIONS_H
#define HONE_CLI_OPTIONS_H

#include <hone/hone.h>

enum { EXIT_DONE = 0, EXIT_WORK = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130, LIST_LIMIT = 64 };

typedef enum OptionKind {
    OPTION_FLAG,    // bool *: present or not
    OPTION_SWITCH,  // bool *: on or off
    OPTION_TEXT,    // const char **
    OPTION_INTEGER, // int64_t *
    OPTION_COUNT,   // int64_t *: 1 or more, so that 0 can mean "not given"
    OPTION_SIZE,    // int64_t *: 1 or more; K, M, G allowed (1024s)
    OPTION_REAL,    // double *
    OPTION_RATE,    // double *: above 0
    OPTION_LIST,    // TextList *: may be repeated
} OptionKind;

typedef struct TextList {
    const char *items[LIST_LIMIT];
    int count;
    bool from_config; // the command line's first one replaces what a config file gave
} TextList;

typedef struct Option {
    const char *name; // without the dashes
    OptionKind kind;
    void *target;
    const char *argument; // "FILE"; NULL for flags
    const char *help;
} Option;

typedef struct Command {
    const char *name, *summary, *usage;
    const Option *options;
    int option_count;
    const char *positional; // name of the one positional argument, NULL: none
    const char **position;  // where it goes
} Command;

// Options that every command takes.
typedef struct Common {
    int64_t threads;
    const char *isa;
    int64_t seed;
    bool json, help;
} Common;

// Fill options[at…] with the common ones; returns how many.
int common_options(Common *common, Option *options);

// A copy that lives as long as the process, as what an option points to must. NULL: out of memory.
const char *keep_text(const char *text, size_t length);

// Parse argv[1…]. Returns -1 to go on, else the exit status (help was printed, or an error).
int parse_options(const Command *command, int argc, char **argv);
// Where the values that set_option gets stand ("FILE:LINE"), for its errors. NULL: the command
// line.
void set_place_of_values(const char *place);
// Set one option from text; prints the error and returns false when it does not fit.
bool set_option(const Command *command, const Option *option, const char *value);
const Option *find_option(const Command *command, const char *name);
// Is --name on the command line?
bool is_given(int argc, char **argv, const char *name);
// Say which of the options `names` ("rank alpha") are on the command line though they change
// nothing, and why.
void note_without_effect(const Command *command, int argc, char **argv, const char *names,
                         const char *why);
void print_help(const Command *command);
// Print the usage error for an unknown name, with the nearest known one.
void unknown_option(const Command *command, const char *name);
const char *nearest(const char *name, const char *const *known, int count);

// Read a YAML file of option names into the targets. Returns false after printing what is wrong.
bool read_config(const Command *command, const char *path);

#endif
