// SPDX-License-Identifier: Apache-2.0
// The table of options as a page: for the terminal, as man page, as markdown, as JSON schema.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "output.h"

static const char *const forms[] = {"man", "markdown", "schema", "bash", "zsh", "fish"};
enum { FORMS = sizeof forms / sizeof *forms };

// "--rank N" into left; returns its length.
static int spelled(const Option *option, char *left, size_t size) {
    return snprintf(left, size, "--%s%s%s", option->name, option->argument ? " " : "",
                    option->argument ? option->argument : "");
}

// ---- the terminal ------------------------------------------------------------------------------

static int page_width(void) {
    struct winsize window;
    if (!stdout_is_terminal() || ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0) return 100;
    return window.ws_col < 50 ? 50 : window.ws_col > 100 ? 100 : window.ws_col;
}

// Characters, not bytes.
static int columns(const char *text, size_t length) {
    int count = 0;
    for (size_t i = 0; i < length; i++) count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

// Words of text from column `at` on, the lines after the first from `indent` on.
static void wrapped(const char *text, int at, int indent, int width) {
    for (bool first = true; *text; first = false) {
        text += strspn(text, " ");
        size_t length = strcspn(text, " ");
        int wide = columns(text, length);
        if (!first && at + 1 + wide > width) {
            printf("\n%*s", indent, "");
            at = indent;
        } else if (!first) {
            putchar(' ');
            at++;
        }
        printf("%.*s", (int)length, text);
        at += wide;
        text += length;
    }
    putchar('\n');
}

static int help_text(const Command *command) {
    enum { INDENT = 29 };
    const int width = page_width();
    const bool colour = use_colour(stdout);
    wrapped(command->summary, 0, 0, width);
    printf("\nusage: ");
    wrapped(command->usage, 7, 7, width);
    printf("\n");
    for (int i = 0; i < command->option_count; i++) {
        const Option *option = &command->options[i];
        char left[128];
        if (option->kind == OPTION_HEADING) {
            printf("%s%s%s%s\n", i ? "\n" : "", colour ? "\033[1m" : "", option->name,
                   colour ? "\033[0m" : "");
            continue;
        }
        int used = spelled(option, left, sizeof left) + 2;
        printf("  %s", left);
        if (used + 1 > INDENT)
            printf("\n%*s", INDENT, "");
        else
            printf("%*s", INDENT - used, "");
        wrapped(option->help, INDENT, INDENT, width);
    }
    return EXIT_DONE;
}

// ---- man page ----------------------------------------------------------------------------------

// Text that roff takes as it stands.
static void roff(const char *text) {
    bool begins = true;
    for (; *text; text++) {
        if (begins && (*text == '.' || *text == '\'')) fputs("\\&", stdout);
        begins = *text == '\n';
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else if (strncmp(text, "\xe2\x80\xa6", 3) == 0)
            fputs("...", stdout), text += 2;
        else
            putchar(*text);
    }
}

static void man_title(const char *name) {
    char capital[64];
    size_t i = 0;
    for (; name[i] && i < sizeof capital - 1; i++)
        capital[i] = (char)toupper((unsigned char)name[i]);
    capital[i] = '\0';
    printf(".TH %s 1 \"\" \"hone %s\" \"Hone\"\n.SH NAME\n", capital, HONE_VERSION);
}

static int help_man(const Command *command) {
    char name[64];
    snprintf(name, sizeof name, "hone-%s", command->name);
    man_title(name);
    roff(name);
    printf(" \\- ");
    int count;
    const CommandEntry *entries = all_commands(&count);
    for (int i = 0; i < count; i++)
        if (strcmp(entries[i].name, command->name) == 0) roff(entries[i].summary);
    printf("\n.SH SYNOPSIS\n");
    roff(command->usage);
    printf("\n.SH DESCRIPTION\n");
    roff(command->summary);
    printf("\n.SH OPTIONS\n");
    for (int i = 0; i < command->option_count; i++) {
        const Option *option = &command->options[i];
        if (option->kind == OPTION_HEADING) {
            printf(".SS \"%c%s\"\n", toupper((unsigned char)option->name[0]), option->name + 1);
            continue;
        }
        printf(".TP\n\\fB");
        printf("\\-\\-");
        roff(option->name);
        printf("\\fR");
        if (option->argument) {
            printf(" \\fI");
            roff(option->argument);
            printf("\\fR");
        }
        printf("\n");
        roff(option->help);
        printf("\n");
    }
    printf(".SH EXIT STATUS\n0 done; 1 the work failed; 2 wrong usage or unreadable input; 130 "
           "interrupted.\n.SH SEE ALSO\n.BR hone (1)\n");
    return EXIT_DONE;
}

static void overview_man(const CommandEntry *entries, int count) {
    man_title("hone");
    printf("hone \\- fine\\-tune Transformer models on the machine you have\n.SH SYNOPSIS\n"
           "hone COMMAND [options]\n.SH COMMANDS\n");
    for (int i = 0; i < count; i++) {
        printf(".TP\n.BR hone\\-%s (1)\n", entries[i].name);
        roff(entries[i].summary);
        printf("\n");
    }
    printf(".SH ENVIRONMENT\n.TP\n\\fBHONE_ISA\\fR\nthe kernel level, as \\-\\-isa\n.TP\n"
           "\\fBNO_COLOR\\fR\nno colours on the terminal\n.SH EXIT STATUS\n0 done; 1 the work "
           "failed; 2 wrong usage or unreadable input; 130 interrupted.\n");
}

// ---- markdown ----------------------------------------------------------------------------------

// In a cell of a table; options and file names in `…` may hold no bar that is not escaped.
static void cell(const char *text) {
    for (; *text; text++) {
        if (strchr("|<>*_", *text)) putchar('\\');
        putchar(*text);
    }
}

static int help_markdown(const Command *command) {
    printf("## hone %s\n\n%s\n\n```\n%s\n```\n", command->name, command->summary, command->usage);
    bool open = false;
    for (int i = 0; i < command->option_count; i++) {
        const Option *option = &command->options[i];
        if (option->kind == OPTION_HEADING) {
            printf("\n### %c%s\n", toupper((unsigned char)option->name[0]), option->name + 1);
            open = false;
            continue;
        }
        if (!open) printf("\n| option | |\n|---|---|\n");
        open = true;
        printf("| `--%s`", option->name);
        if (option->argument) {
            putchar(' ');
            cell(option->argument);
        }
        printf(" | ");
        cell(option->help);
        printf(" |\n");
    }
    printf("\n");
    return EXIT_DONE;
}

static void overview_markdown(const CommandEntry *entries, int count) {
    printf("# Options\n\nWritten by `make docs` from the tables in `src/cli/`; change it there "
           "([how](add-an-option.md)).\n\n| command | |\n|---|---|\n");
    for (int i = 0; i < count; i++) {
        printf("| [hone %s](#hone-%s) | ", entries[i].name, entries[i].name);
        cell(entries[i].summary);
        printf(" |\n");
    }
    printf("\n");
}

// ---- JSON schema of a config file --------------------------------------------------------------

static void schema_type(const Option *option) {
    char buffer[256];
    const char *words[WORD_LIMIT];
    bool open = true;
    int count = 0;
    switch (option->kind) {
    case OPTION_FLAG:
    case OPTION_SWITCH:
        printf("\"type\":[\"boolean\",\"string\"],\"enum\":[true,false,\"on\",\"off\"]");
        return;
    case OPTION_INTEGER:
        printf("\"type\":\"integer\"");
        return;
    case OPTION_COUNT:
        printf("\"type\":\"integer\",\"minimum\":1");
        return;
    case OPTION_SIZE:
        printf("\"type\":[\"integer\",\"string\"],\"minimum\":1,\"pattern\":\"^[0-9]+[KMGkmg]?$\"");
        return;
    case OPTION_REAL:
        printf("\"type\":\"number\"");
        return;
    case OPTION_RATE:
        printf("\"type\":\"number\",\"exclusiveMinimum\":0");
        return;
    case OPTION_LIST:
        printf("\"type\":[\"string\",\"array\"],\"items\":{\"type\":\"string\"}");
        return;
    case OPTION_TEXT:
        if (strlen(option->argument) < sizeof buffer)
            count = argument_words(option->argument, buffer, words, &open);
        printf("\"type\":[\"string\",\"number\"]");
        for (int i = 0; i < count && !open; i++)
            printf("%s\"%s\"%s", i ? "," : ",\"enum\":[", words[i], i + 1 == count ? "]" : "");
        return;
    case OPTION_HEADING:
        return;
    }
}

static int help_schema(const Command *command) {
    if (!find_option(command, "config")) {
        fprintf(stderr, "hone %s: takes no config file, so there is no schema of one\n",
                command->name);
        return EXIT_USAGE;
    }
    printf("{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\n"
           "\"title\":\"hone %s --config\",\"type\":\"object\",\"additionalProperties\":false,\n"
           "\"properties\":{",
           command->name);
    const char *comma = "\n";
    for (int i = 0; i < command->option_count; i++) {
        const Option *option = &command->options[i];
        if (option->kind == OPTION_HEADING) continue;
        printf("%s\"%s\":{", comma, option->name);
        schema_type(option);
        printf(",\"description\":");
        print_json_text(stdout, option->help);
        printf("}");
        comma = ",\n";
    }
    printf("\n}}\n");
    return EXIT_DONE;
}

// ---- which -------------------------------------------------------------------------------------

static int no_form(const char *form) {
    const char *close = hone_nearest(form, forms, FORMS);
    fprintf(stderr, "hone: no form --help=%s%s%s%s (man, markdown, schema)\n", form,
            close ? "; did you mean " : "", close ? close : "", close ? "?" : "");
    return EXIT_USAGE;
}

int print_help(const Command *command, const char *form) {
    if (!form) return help_text(command);
    if (strcmp(form, "man") == 0) return help_man(command);
    if (strcmp(form, "markdown") == 0) return help_markdown(command);
    if (strcmp(form, "schema") == 0) return help_schema(command);
    for (int i = 3; i < FORMS; i++) {
        if (strcmp(form, forms[i]) != 0) continue;
        complete_command(command, form);
        return EXIT_DONE;
    }
    return no_form(form);
}

int print_overview_as(const char *form) {
    int count;
    const CommandEntry *entries = all_commands(&count);
    if (strcmp(form, "man") == 0) {
        overview_man(entries, count);
        return EXIT_DONE;
    }
    if (strcmp(form, "markdown") != 0) return no_form(form);
    overview_markdown(entries, count);
    for (int i = 0; i < count; i++) {
        char name[32], option[] = "--help=markdown";
        snprintf(name, sizeof name, "%s", entries[i].name);
        int status = entries[i].run(2, (char *[]){name, option, NULL});
        if (status != EXIT_DONE) return status;
    }
    return EXIT_DONE;
}
