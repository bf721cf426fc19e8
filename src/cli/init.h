// SPDX-License-Identifier: Apache-2.0
// hone init: what is asked, what is chosen and why, and the config file that says so.
#ifndef HONE_CLI_INIT_H
#define HONE_CLI_INIT_H

#include <stdio.h>

#include "run_options.h"

enum { CHOICE_LIMIT = 32 };

// A line of the config. Texts live as long as the process.
typedef struct Choice {
    const char *name, *value, *why;
} Choice;

typedef struct Init {
    Common common;
    const char *model, *out, *purpose, *file;
    TextList data;
    int64_t memory; // that the run may take; 0: most of what is free
    bool yes;
    RunOptions run; // what hone finetune would read out of the config, option by option
    Option options[96];
    Command finetune; // its table
    Choice choices[CHOICE_LIMIT];
    int choice_count;
    HoneContext *context;
    HonePlan plan; // of the last dry run; its texts are gone
    int64_t model_context, model_channels;
    HoneMachine machine;
} Init;

// init_ask.c. Ask for what no option says, one line of stdin an answer, the questions on stderr;
// with --yes, and where stdin ends, what is likely is taken. Returns -1, or the exit status after
// printing what is missing.
int ask_what_is_missing(Init *init);

// init_choose.c. Choose the values by dry runs over the data. Returns -1, or the exit status after
// printing why not.
int choose_values(Init *init);
// The choice of an option; NULL: its default does.
const Choice *find_choice(const Init *init, const char *name);

// init_write.c. All options of hone finetune with their help: the chosen ones with value and
// reason, the others to uncomment.
void write_init_config(const Init *init, FILE *out);

#endif
