// SPDX-License-Identifier: Apache-2.0
// Results on stdout (text, or JSON one object a line), progress and messages on stderr.
#ifndef HONE_CLI_OUTPUT_H
#define HONE_CLI_OUTPUT_H

#include <stdio.h>

#include "options.h"

// Print the context's message as "hone COMMAND: …" and give the exit status for it.
int report_failure(const char *command, const HoneContext *context, hone_status status);

// Make a context from the common options; on failure prints why and returns NULL with *status set.
HoneContext *open_context(const char *command, const Common *common, int *status);

// A JSON string literal; invalid UTF-8 becomes U+FFFD.
void print_json_string(FILE *out, const char *text, size_t length);
void print_json_text(FILE *out, const char *text); // NUL-terminated; NULL gives null
void print_json_number(FILE *out, double value);   // null when not finite

// Text for a terminal line: control characters become spaces.
void plain_text(FILE *out, const char *text, size_t length);

bool stdin_is_terminal(void);
bool stderr_is_terminal(void);
bool stdout_is_terminal(void);
bool use_colour(FILE *out); // a terminal, and NO_COLOR is not set

const char *plural(int64_t count); // "s", or "" for 1
// "1.2 GB", "3 min 20 s" into text; return text.
const char *size_text(int64_t bytes, char text[32]);
const char *time_text(double seconds, char text[32]);

// Set by SIGINT and SIGTERM once watch_signals was called; a second signal ends the process at
// once.
void watch_signals(void);
bool was_interrupted(void);
// Answer SIGBUS, a mapped file that was cut short, with one line and status 1; open_context does.
void watch_maps(const char *command); // mapped.c

// json_memory.c: let no text of JSON be read wrong for lack of memory, from now on.
void guard_json_memory(void);
// Whether this thread was refused some; it is given again afterwards.
bool json_memory_refused(void);

// Add the adapters of --adapter A[:WEIGHT] to the model.
hone_status add_adapters(HoneModel *model, const TextList *adapters);
// Split "PATH:NUMBER"; without a number, or when a file of the whole name exists, the weight is 1.
// The path lives as long as the process.
const char *split_weight(const char *text, double *weight);
// The index of the option's word among the known ones; -1 after printing the error.
int choose(const char *command, const char *option, const char *word, const char *const *known,
           int count);
// --loss-on; prints the error and returns false for another word.
bool parse_optimizer(const char *command, const char *word, HoneOptimizer *optimizer);
bool parse_loss_on(const char *command, const char *word, HoneLossOn *loss_on);
// --on-bad-example.
// --date, as YYYY-MM-DD: noon of that day in UTC; NULL: 0.
bool parse_date(const char *command, const char *text, int64_t *seconds);
bool parse_on_bad(const char *command, const char *word, bool *skip);

int command_init(int argc, char **argv);
int command_finetune(int argc, char **argv);
int command_train(int argc, char **argv);
int command_eval(int argc, char **argv);
int command_embed(int argc, char **argv);
int command_classify(int argc, char **argv);
int command_generate(int argc, char **argv);
int command_chat(int argc, char **argv);
int command_attention(int argc, char **argv);
int command_serve(int argc, char **argv);
int command_translate(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_template(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_merge(int argc, char **argv);
int command_convert(int argc, char **argv);
int command_pull(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_report(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_completion(int argc, char **argv);

#endif
