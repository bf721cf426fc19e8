// SPDX-License-Identifier: Apache-2.0
// One table of options a command: parsing, --help, config files, the nearest right spelling, man
// pages, completion and docs/options.md all come from it. docs/add-an-option.md tells how.
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
    OPTION_HEADING, // no option: `name` stands above those that follow
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
    // "N"; NULL for flags. Words in small letters between bars, "lora|full", are what it can be,
    // and all that it can be unless a word in capitals stands beside them, "N|all". FILE, PATH and
    // A are completed as files, DIR as folders; brackets hold what may be left out.
    const char *argument;
    const char *help;
} Option;

typedef struct Command {
    const char *name, *summary, *usage;
    const Option *options;
    int option_count;
    const char *positional; // the one positional argument, as in `argument`; NULL: none
    const char **position;  // where it goes
    TextList *more;         // further ones; NULL: there is only one
} Command;

typedef struct CommandEntry {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} CommandEntry;
const CommandEntry *all_commands(int *count); // main.c

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
// --help=FORM prints the table as man page, markdown, JSON schema or completion.
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
// Is one of argument's words in small letters `value`? true as well where others are allowed.
bool word_fits(const char *argument, const char *value);
enum { WORD_LIMIT = 16 };
// Split "lora|full" into its words in small letters, into `words` of room for WORD_LIMIT; *open: it
// can be something else too. `buffer` (at least as long as argument) holds them.
int argument_words(const char *argument, char *buffer, const char **words, bool *open);

// help.c: print the table. NULL: as text for the terminal; else a FORM. Returns the exit status.
int print_help(const Command *command, const char *form);
int print_overview_as(const char *form); // of all commands
// completion.c: one command's part of a shell's script.
void complete_command(const Command *command, const char *shell);
// Print the usage error for an unknown name, with the nearest known one.
void unknown_option(const Command *command, const char *name);
// The same for a positional argument that is none of the command's words.
void unknown_word(const Command *command, const char *value);

// Read a YAML file of option names into the targets. Returns false after printing what is wrong.
bool read_config(const Command *command, const char *path);

#endif
