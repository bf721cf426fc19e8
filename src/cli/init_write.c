// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "init.h"
#include "output.h"

enum { WIDTH = 98 };

// Text in lines of comment, the first after `begin`, the others after "#     ".
static void comment(FILE *out, const char *begin, const char *text) {
    size_t column = strlen(begin);
    fputs(begin, out);
    for (bool first = true; *text; first = false) {
        const size_t length = strcspn(text, " ");
        if (!first && column + 1 + length > WIDTH) {
            fputs("\n#    ", out);
            column = 5;
        }
        if (!first) fputc(' ', out), column++;
        fprintf(out, "%.*s", (int)length, text);
        column += length;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

// Numbers and words stand as they are; JSON strings are YAML strings.
static void put_value(FILE *out, const Option *option, const char *value) {
    if (option->kind == OPTION_TEXT || option->kind == OPTION_LIST)
        print_json_text(out, value);
    else
        fputs(value, out);
    fputc('\n', out);
}

static void put_chosen(FILE *out, const Option *option, const Choice *choice) {
    fputc('\n', out);
    comment(out, "# ", option->help);
    comment(out, "# Chosen: ", choice->why);
    fprintf(out, "%s:%s", option->name, option->kind == OPTION_LIST ? "\n" : " ");
    if (option->kind != OPTION_LIST) {
        put_value(out, option, choice->value);
    } else {
        const TextList *list = option->target;
        for (int i = 0; i < list->count; i++) {
            fputs("  - ", out);
            put_value(out, option, list->items[i]);
        }
    }
}

// A line to uncomment and to give a value.
static void put_other(FILE *out, const Option *option, bool after_chosen) {
    char begin[128];
    if (after_chosen) fputc('\n', out);
    snprintf(begin, sizeof begin, "#%s: %s   # ", option->name,
             option->argument ? option->argument : "on");
    comment(out, begin, option->help);
}

// What says nothing about a run, or cannot stand in a file that is read for a new one.
static bool belongs(const char *name) {
    static const char *const apart[] = {"config",         "dry-run", "resume",
                                        "resume-changed", "json",    "help"};
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++)
        if (strcmp(name, apart[i]) == 0) return false;
    return true;
}

void write_init_config(const Init *init, FILE *out) {
    const HonePlan *plan = &init->plan;
    char memory[32], time[32], text[256];
    fprintf(out,
            "# For hone finetune --config, by hone init %s. A line that begins with # is what "
            "would hold\n# without it: take the # away and give a value to change it.\n",
            hone_version());
    snprintf(text, sizeof text,
             "The plan on this machine: %lld steps (%.3g epochs) in about %s, with about %s of "
             "memory.",
             (long long)plan->steps, plan->epochs, time_text(plan->minutes * 60, time),
             size_text(plan->memory_bytes, memory));
    comment(out, "# ", text);
    for (int i = 0, chosen = 0; i < init->finetune.option_count; i++) {
        const Option *option = &init->options[i];
        const Choice *choice = find_choice(init, option->name);
        if (option->kind == OPTION_HEADING)
            fprintf(out, "\n# ---- %s ----\n", option->name);
        else if (choice)
            put_chosen(out, option, choice);
        else if (belongs(option->name))
            put_other(out, option, chosen);
        chosen = choice != NULL;
    }
}
