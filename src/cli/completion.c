// SPDX-License-Identifier: Apache-2.0
// hone completion: a script for bash, zsh or fish, made of every command's table.
#include <string.h>

#include "output.h"

// How a value is completed.
typedef enum Completes { NOTHING, WORDS, FILES, FOLDERS } Completes;

static bool names_a_file(const char *argument) {
    return strncmp(argument, "FILE", 4) == 0 || strncmp(argument, "PATH", 4) == 0 ||
           strcmp(argument, "A") == 0 || strncmp(argument, "A[", 2) == 0 ||
           strncmp(argument, "F[", 2) == 0 || strncmp(argument, "RUN", 3) == 0;
}

// words: into buffer, separated by blanks.
static Completes completion_of(const char *argument, char *buffer, size_t size) {
    const char *words[WORD_LIMIT];
    char copy[256];
    bool open;
    *buffer = '\0';
    if (!argument || strlen(argument) >= sizeof copy || strlen(argument) >= size) return NOTHING;
    int count = argument_words(argument, copy, words, &open);
    for (int i = 0; i < count; i++) {
        if (i) strcat(buffer, " ");
        strcat(buffer, words[i]);
    }
    if (names_a_file(argument)) return FILES; // and its words
    if (strncmp(argument, "DIR", 3) == 0) return FOLDERS;
    return count ? WORDS : NOTHING;
}

// ---- bash --------------------------------------------------------------------------------------

static void bash_case(const char *pattern, const char *argument) {
    char words[256];
    Completes how = completion_of(argument, words, sizeof words);
    printf("        %s)", pattern);
    if (*words) printf(" words=\"%s\"", words);
    printf("%s kind=%s ;;\n", *words ? ";" : "",
           how == FILES     ? "file"
           : how == FOLDERS ? "folder"
           : how == WORDS   ? "word"
                            : "none");
}

static void bash_command(const Command *command) {
    printf("    %s)\n        options=\"", command->name);
    for (int i = 0; i < command->option_count; i++)
        if (command->options[i].kind != OPTION_HEADING)
            printf("%s--%s", i ? " " : "", command->options[i].name);
    printf("\"\n        case $prev in\n");
    for (int i = 0; i < command->option_count; i++) {
        const Option *option = &command->options[i];
        char pattern[64];
        if (!option->argument || option->kind == OPTION_HEADING) continue;
        snprintf(pattern, sizeof pattern, "--%s", option->name);
        bash_case(pattern, option->argument);
    }
    if (command->positional) bash_case("*", command->positional);
    printf("        esac ;;\n");
}

static const char bash_begin[] =
    "# Completion of hone for bash, by `hone completion bash`.\n"
    "_hone() {\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
    "    local options= words= kind=\n"
    "    COMPREPLY=()\n"
    "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
    "        COMPREPLY=($(compgen -W \"$hone_commands --help --version\" -- \"$cur\"))\n"
    "        return\n"
    "    fi\n"
    "    case ${COMP_WORDS[1]} in\n";
static const char bash_end[] =
    "    esac\n"
    "    case $cur in -*) kind= words= ;; *) [ -n \"$kind\" ] || words=$options ;; esac\n"
    "    [ \"${cur:0:1}\" != - ] || words=$options\n"
    "    if [ -n \"$words\" ]; then COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")); fi\n"
    "    case $kind in\n"
    "    file) compopt -o filenames 2>/dev/null\n"
    "        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- \"$cur\") ;;\n"
    "    folder) compopt -o filenames 2>/dev/null\n"
    "        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -d -- \"$cur\") ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _hone hone\n";

// ---- zsh ---------------------------------------------------------------------------------------

// Inside single quotes and _arguments' brackets.
static void zsh_text(const char *text) {
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else {
            if (strchr("[]:\\", *text)) putchar('\\');
            putchar(*text);
        }
    }
}

static void zsh_value(const char *argument) {
    char words[256];
    Completes how = completion_of(argument, words, sizeof words);
    putchar(':');
    zsh_text(argument);
    putchar(':');
    if (how == FILES)
        printf("_files");
    else if (how == FOLDERS)
        printf("_files -/");
    else if (how == WORDS)
        printf("(%s)", words);
}

static void zsh_command(const Command *command) {
    printf("    %s)\n        _arguments -S", command->name);
    for (int i = 0; i < command->option_count; i++) {
        const Option *option = &command->options[i];
        if (option->kind == OPTION_HEADING) continue;
        printf(" \\\n            '%s--%s%s[", option->kind == OPTION_LIST ? "*" : "", option->name,
               option->argument ? "=" : "");
        zsh_text(option->help);
        printf("]");
        if (option->argument) zsh_value(option->argument);
        printf("'");
    }
    if (command->positional) {
        printf(" \\\n            '1");
        zsh_value(command->positional);
        printf("'");
    }
    printf(" ;;\n");
}

static const char zsh_begin[] = "# Completion of hone for zsh, by `hone completion zsh`.\n"
                                "_hone() {\n"
                                "    if (( CURRENT == 2 )); then\n"
                                "        _describe command hone_commands\n"
                                "        return\n"
                                "    fi\n"
                                "    local command=$words[2]\n"
                                "    shift words\n"
                                "    (( CURRENT-- ))\n"
                                "    case $command in\n";
static const char zsh_end[] = "    esac\n"
                              "}\n"
                              "if [ \"$funcstack[1]\" = _hone ]; then _hone \"$@\"\n"
                              "else compdef _hone hone; fi\n";

// ---- fish --------------------------------------------------------------------------------------

static void fish_text(const char *text) {
    putchar('\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\') putchar('\\');
        putchar(*text);
    }
    putchar('\'');
}

static void fish_value(const char *argument) {
    char words[256];
    Completes how = completion_of(argument, words, sizeof words);
    printf(" %s", how == FILES ? "-r -F" : "-x");
    if (how == FOLDERS) printf(" -a '(__fish_complete_directories)'");
    if (*words) printf(" -a '%s'", words);
}

static void fish_command(const Command *command) {
    for (int i = 0; i < command->option_count; i++) {
        const Option *option = &command->options[i];
        if (option->kind == OPTION_HEADING) continue;
        printf("complete -c hone -n '__fish_seen_subcommand_from %s' -l %s", command->name,
               option->name);
        if (option->argument) fish_value(option->argument);
        printf(" -d ");
        fish_text(option->help);
        printf("\n");
    }
    if (command->positional) {
        printf("complete -c hone -n '__fish_seen_subcommand_from %s'", command->name);
        fish_value(command->positional);
        printf("\n");
    }
}

// ---- the command -------------------------------------------------------------------------------

void complete_command(const Command *command, const char *shell) {
    if (strcmp(shell, "bash") == 0)
        bash_command(command);
    else if (strcmp(shell, "zsh") == 0)
        zsh_command(command);
    else
        fish_command(command);
}

// Every command's part, in the order of the overview.
static int parts(const char *shell) {
    int count;
    const CommandEntry *entries = all_commands(&count);
    for (int i = 0; i < count; i++) {
        char name[32], form[32];
        snprintf(name, sizeof name, "%s", entries[i].name);
        snprintf(form, sizeof form, "--help=%s", shell);
        int status = entries[i].run(2, (char *[]){name, form, NULL});
        if (status != EXIT_DONE) return status;
    }
    return EXIT_DONE;
}

static int script(const char *shell) {
    int count, status;
    const CommandEntry *entries = all_commands(&count);
    if (strcmp(shell, "bash") == 0) {
        printf("hone_commands=\"");
        for (int i = 0; i < count; i++) printf("%s%s", i ? " " : "", entries[i].name);
        printf("\"\n%s", bash_begin);
        status = parts(shell);
        fputs(bash_end, stdout);
        return status;
    }
    if (strcmp(shell, "zsh") == 0) {
        fputs("#compdef hone\ntypeset -ga hone_commands=(", stdout);
        for (int i = 0; i < count; i++) {
            printf("\n    '%s:", entries[i].name);
            zsh_text(entries[i].summary);
            putchar('\'');
        }
        printf(")\n%s", zsh_begin);
        status = parts(shell);
        fputs(zsh_end, stdout);
        return status;
    }
    printf("# Completion of hone for fish, by `hone completion fish`.\ncomplete -c hone -f\n");
    for (int i = 0; i < count; i++) {
        printf("complete -c hone -n __fish_use_subcommand -a %s -d ", entries[i].name);
        fish_text(entries[i].summary);
        printf("\n");
    }
    return parts(shell);
}

int command_completion(int argc, char **argv) {
    const char *shell = NULL;
    bool help = false;
    const Option options[] = {{"help", OPTION_FLAG, &help, NULL, "this page"}};
    Command command = {.name = "completion",
                       .summary = "Print a script that completes hone's commands, options and "
                                  "their values in a shell: source <(hone completion bash).",
                       .usage = "hone completion bash|zsh|fish",
                       .options = options,
                       .option_count = 1,
                       .positional = "bash|zsh|fish",
                       .position = &shell};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!shell) {
        fprintf(stderr, "hone completion: for which shell? (usage: %s)\n", command.usage);
        return EXIT_USAGE;
    }
    return script(shell);
}
