// SPDX-License-Identifier: Apache-2.0
// hone chat: a conversation, with or without the adapter, or both beside each other.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "columns.h"
#include "generate.h"
#include "texts.h"

// Two generators over one model: what the cache of each holds was computed with the adapters on, or
// with them off, and both stay good while the model is switched to and fro.
typedef struct Chat {
    HoneContext *context;
    GenerateOptions *given;
    LoadedModel loaded;
    HoneGenerator *plain; // for answers without adapters; NULL until there is one
    bool adapted, compare;
    HoneMessage *messages; // a system message first, if there is one
    int64_t count, capacity;
    bool ask;       // somebody sits at a terminal
    Column *column; // where the answer goes; NULL: where the cursor is
} Chat;

static bool has_system(const Chat *chat) {
    return chat->count > 0 && strcmp(chat->messages[0].role, "system") == 0;
}

static bool say(Chat *chat, const char *role, const char *content) {
    if (chat->count == chat->capacity) {
        int64_t capacity = chat->capacity ? chat->capacity * 2 : 16;
        HoneMessage *grown = realloc(chat->messages, (size_t)capacity * sizeof *chat->messages);
        if (!grown) return false;
        chat->messages = grown;
        chat->capacity = capacity;
    }
    char *copy = strdup(content);
    if (!copy) return false;
    chat->messages[chat->count++] = (HoneMessage){role, copy};
    return true;
}

static void forget(Chat *chat, int64_t keep) {
    while (chat->count > keep) free((void *)(uintptr_t)chat->messages[--chat->count].content);
}

// ---- answers -----------------------------------------------------------------------------------

// While somebody at a terminal is answered, Ctrl-C ends the answer; a second one, when the first
// has not been heeded yet, and one at the prompt end the program.
static volatile sig_atomic_t answer_stopped;

static void stop_answer(int number) {
    if (answer_stopped) {
        signal(number, SIG_DFL);
        raise(number);
    }
    answer_stopped = 1;
}

static void heed_signals(const Chat *chat, bool answering) {
    struct sigaction action = {.sa_handler = answering ? stop_answer : SIG_DFL,
                               .sa_flags = SA_RESTART};
    if (!chat->ask) return;
    if (answering) answer_stopped = 0;
    sigaction(SIGINT, &action, NULL);
}

// The answer as it comes: into a column, in a line, or nowhere.
static bool take_piece(void *user, int32_t token, const char *bytes, size_t length) {
    Chat *chat = user;
    if (chat->column)
        column_put(chat->column, bytes, length);
    else if (!chat->given->common.json)
        print_piece(NULL, token, bytes, length);
    return !answer_stopped;
}

static hone_status answer(Chat *chat, bool adapted, HoneGenerated *result) {
    HoneSampling sampling = chat->given->sampling;
    sampling.seed += (uint64_t)chat->count - 1; // each turn draws anew
    hone_model_enable_adapters(chat->loaded.model, adapted);
    if (!adapted && !chat->plain) {
        hone_status made = hone_generator_create(chat->loaded.model, &chat->plain);
        if (made != HONE_OK) return made;
    }
    return hone_generate_chat(adapted ? chat->loaded.generator : chat->plain, chat->messages,
                              chat->count, &sampling, take_piece, chat, result);
}

// Without the adapter on the left, with it on the right. Where the left one is longer than the
// terminal is high, the right one stands below it.
static hone_status answer_in_columns(Chat *chat, int columns, int rows, HoneGenerated *base,
                                     HoneGenerated *result) {
    enum { GAP = 3 };
    const int width = (columns - GAP) / 2;
    Column left, right;
    column_begin(&left, 0, width, 1);
    column_put(&left, "[without]\n", 10);
    chat->column = &left;
    hone_status status = answer(chat, false, base);
    column_end(&left);
    const bool beside = left.line < rows - 1;
    if (beside)
        column_up(&left);
    else
        printf("\n\n");
    column_begin(&right, beside ? width + GAP : 0, beside ? width : columns - 1,
                 beside ? left.there : 1);
    column_put(&right, "[with]\n", 7);
    chat->column = &right;
    if (status == HONE_OK && !answer_stopped) status = answer(chat, true, result);
    column_end(&right);
    chat->column = NULL;
    columns_below(&right, beside ? &left : &right);
    return status;
}

// One answer, or two one below the other.
static hone_status answer_in_lines(Chat *chat, HoneGenerated *base, HoneGenerated *result) {
    const bool label = chat->compare && !chat->given->common.json;
    hone_status status = HONE_OK;
    if (label) printf("[without] ");
    if (chat->compare) status = answer(chat, false, base);
    if (label) printf("\n[with]    ");
    if (status == HONE_OK && !(chat->compare && answer_stopped))
        status = answer(chat, chat->adapted || chat->compare, result);
    return status;
}

static void print_answers(const Chat *chat, const char *text, const char *base) {
    printf("{\"text\":");
    print_json_text(stdout, text);
    if (chat->compare) {
        printf(",\"base\":");
        print_json_text(stdout, base);
    }
    printf("}\n");
}

// One question and its answer; a failure leaves the conversation as it was. What is compared with
// it is not part of the conversation.
static int turn(Chat *chat, const char *line) {
    enum { WIDE = 80 };
    const int64_t before = chat->count;
    int columns = 0, rows = 0;
    const bool json = chat->given->common.json;
    const bool beside =
        chat->compare && !json && terminal_size(&columns, &rows) && columns >= WIDE && rows > 4;
    HoneGenerated base = {0}, result = {0};
    if (!say(chat, "user", line)) return EXIT_WORK;
    heed_signals(chat, true);
    hone_status done = beside ? answer_in_columns(chat, columns, rows, &base, &result)
                              : answer_in_lines(chat, &base, &result);
    heed_signals(chat, false);
    int status = EXIT_DONE;
    if (done == HONE_OK && json) print_answers(chat, result.text, base.text);
    if (!json && !beside) printf("\n");
    fflush(stdout);
    if (done != HONE_OK) {
        forget(chat, before);
        status = report_failure("chat", chat->context, done);
    } else if (!result.text || !*result.text) { // stopped before it said anything, or it said that
        if (answer_stopped)
            forget(chat, before);
        else if (!say(chat, "assistant", ""))
            status = EXIT_WORK;
    } else if (!say(chat, "assistant", result.text)) {
        status = EXIT_WORK;
    }
    if (answer_stopped && chat->ask)
        fprintf(stderr, "stopped; %s\n",
                chat->count > before ? "what was said of it stays" : "the question is forgotten");
    HoneGenerated *both[] = {&base, &result};
    for (int i = 0; i < 2; i++) {
        hone_free(both[i]->text);
        hone_free(both[i]->tokens);
    }
    return status;
}

// ---- commands ----------------------------------------------------------------------------------

// What follows a command, "" if nothing does. Each returns false after saying what is wrong.
typedef bool ChatCommand(Chat *chat, const char *rest);

static bool reset(Chat *chat, const char *rest) {
    (void)rest;
    forget(chat, has_system(chat) ? 1 : 0);
    return true;
}

static bool set_system(Chat *chat, const char *rest) {
    forget(chat, 0);
    return !*rest || say(chat, "system", rest);
}

static bool need_adapter(const Chat *chat, const char *command) {
    if (chat->given->adapters.count) return true;
    fprintf(stderr, "hone chat: %s: there is no adapter (/adapter PATH)\n", command);
    return false;
}

static bool use_base(Chat *chat, const char *rest) {
    (void)rest;
    chat->adapted = chat->compare = false;
    forget(chat, has_system(chat) ? 1 : 0);
    return true;
}

// Another adapter, in place of those there are: the model is loaded again, and kept as it was when
// that fails.
static bool use_adapter(Chat *chat, const char *rest) {
    if (*rest) {
        TextList list = {{keep_text(rest, strlen(rest))}, 1, false};
        LoadedModel loaded;
        const GenerateOptions *given = chat->given;
        hone_status status = list.items[0] ? load_model(chat->context, given->model,
                                                        given->template_path, &list, &loaded)
                                           : HONE_ERROR_MEMORY;
        if (status != HONE_OK) {
            report_failure("chat", chat->context, status);
            if (list.items[0]) unload_model(&loaded);
            return false;
        }
        hone_generator_free(chat->plain);
        chat->plain = NULL;
        unload_model(&chat->loaded);
        chat->loaded = loaded;
        chat->given->adapters = list;
    }
    if (!need_adapter(chat, "/adapter")) return false;
    chat->adapted = true;
    chat->compare = false;
    forget(chat, has_system(chat) ? 1 : 0);
    return true;
}

static bool compare(Chat *chat, const char *rest) {
    (void)rest;
    if (!need_adapter(chat, "/compare")) return false;
    chat->compare = !chat->compare;
    if (chat->ask)
        fprintf(stderr, chat->compare ? "both answer; the conversation goes on with the adapter's\n"
                                      : "one answers\n");
    return true;
}

// Append the conversation as one record that hone finetune --data takes.
static bool save(Chat *chat, const char *rest) {
    const int64_t first = has_system(chat) ? 1 : 0;
    if (!*rest || chat->count <= first) {
        fprintf(stderr, *rest ? "hone chat: /save: nothing has been said yet\n"
                              : "hone chat: /save wants a file: /save talks.jsonl\n");
        return false;
    }
    FILE *file = fopen(rest, "ab");
    if (file) {
        fprintf(file, "{\"messages\":[");
        for (int64_t i = 0; i < chat->count; i++) {
            fprintf(file, "%s{\"role\":\"%s\",\"content\":", i ? "," : "", chat->messages[i].role);
            print_json_text(file, chat->messages[i].content);
            fputc('}', file);
        }
        fprintf(file, "]}\n");
    }
    const bool failed = !file || ferror(file);
    if ((file && fclose(file) != 0) || failed) {
        fprintf(stderr, "hone chat: /save %s: %s\n", rest, strerror(errno));
        return false;
    }
    fprintf(stderr, "saved to %s, which hone finetune --data takes\n", rest);
    return true;
}

static bool help(Chat *chat, const char *rest);

static const struct {
    const char *name, *argument, *help;
    ChatCommand *run; // NULL: ends the chat
} commands[] = {
    {"/help", "", "this list", help},
    {"/reset", "", "begin anew, with the same system message", reset},
    {"/system", " TEXT", "begin anew with this system message, or without one", set_system},
    {"/adapter", " PATH", "begin anew with this adapter, or with the one there was", use_adapter},
    {"/base", "", "begin anew without the adapter", use_base},
    {"/compare", "", "answer with and without the adapter, from now on or no longer", compare},
    {"/save", " FILE", "append the conversation to a file of training data", save},
    {"/quit", "", "end, as the end of input does", NULL},
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static bool help(Chat *chat, const char *rest) {
    (void)chat, (void)rest;
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(stderr, "%8s%-6s %s\n", commands[i].name, commands[i].argument, commands[i].help);
    fprintf(
        stderr,
        "A line that ends in \\ goes on in the next one; \"\"\" alone begins and ends "
        "several lines;\n// at the beginning is a / that is meant. Ctrl-C ends an answer; at the "
        "prompt it ends the chat.\n");
    return true;
}

// 0 or 1 as the command did or did not do its work, -1 to end.
static int obey(Chat *chat, const char *line) {
    const char *names[COMMAND_COUNT];
    const size_t length = strcspn(line, " \t\n");
    const char *rest = line + length + strspn(line + length, " \t\n");
    for (int i = 0; i < COMMAND_COUNT; i++) {
        names[i] = commands[i].name;
        if (strlen(names[i]) != length || strncmp(line, names[i], length) != 0) continue;
        if (!commands[i].run) return -1;
        return commands[i].run(chat, rest) ? 0 : 1;
    }
    const char *word = keep_text(line, length);
    const char *close = word ? hone_nearest(word, names, COMMAND_COUNT) : NULL;
    fprintf(stderr, "hone chat: there is no %s%s%s%s\n", word ? word : "such command",
            close ? "; did you mean " : " (/help lists what there is)", close ? close : "",
            close ? "?" : "");
    return 1;
}

// ---- what is typed -----------------------------------------------------------------------------

typedef struct Typed {
    char *text;
    size_t length, room;
    Line line;
} Typed;

// Append the line that was read; false: no memory.
static bool keep_line(Typed *typed, const char *line, size_t length) {
    if (typed->length + length + 2 > typed->room) {
        const size_t room = (typed->length + length + 2) * 2;
        char *grown = realloc(typed->text, room);
        if (!grown) return false;
        typed->text = grown;
        typed->room = room;
    }
    memcpy(typed->text + typed->length, line, length);
    typed->length += length;
    typed->text[typed->length] = '\0';
    return true;
}

// One message of one or more lines into typed->text; false at the end of input.
static bool read_message(const Chat *chat, Typed *typed) {
    bool block = false, more = false;
    typed->length = 0;
    for (int lines = 0;; lines++) {
        const char *prompt = lines ? "… " : "> ";
        const ssize_t length = read_line(&typed->line, chat->ask ? prompt : NULL);
        if (length < 0) return lines > 0 && typed->length > 0;
        const char *line = typed->line.text;
        const bool mark = strcmp(line, "\"\"\"") == 0;
        if (mark && (block || lines == 0)) {
            if (block) return keep_line(typed, "", 0);
            block = true;
            continue;
        }
        if ((more || (block && lines > 1)) && !keep_line(typed, "\n", 1)) return false;
        more = !block && length > 0 && line[length - 1] == '\\';
        if (!keep_line(typed, line, (size_t)(more ? length - 1 : length))) return false;
        if (!block && !more) return true;
    }
}

static int converse(Chat *chat) {
    Typed typed = {0};
    int status = EXIT_DONE;
    if (chat->given->system && !say(chat, "system", chat->given->system)) return EXIT_WORK;
    if (chat->ask) fprintf(stderr, "/help lists what can be done besides\n");
    while (read_message(chat, &typed)) {
        int done = 0;
        if (typed.text[0] == '\0') continue;
        if (typed.text[0] == '/' && typed.text[1] != '/') {
            done = obey(chat, typed.text);
            if (done < 0) break;
        } else {
            done = turn(chat, typed.text + (typed.text[0] == '/'));
        }
        if (done != 0 && !chat->ask) status = done;
    }
    free(typed.line.text);
    free(typed.text);
    forget(chat, 0);
    free(chat->messages);
    return status;
}

int command_chat(int argc, char **argv) {
    GenerateOptions given = {0};
    Option options[32];
    Command command = {.name = "chat",
                       .summary = "Talk with a model, with or without an adapter; /help there "
                                  "lists its commands.",
                       .usage = "hone chat --model M [--adapter A] [options]",
                       .options = options,
                       .option_count = generate_options(&given, options)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    if (!given.model) {
        fprintf(stderr, "hone chat: --model is needed (usage: %s)\n", command.usage);
        return EXIT_USAGE;
    }
    given.own_sampling = !is_sampling_given(argc, argv);
    HoneContext *context = open_context("chat", &given.common, &status);
    if (!context) return status;
    Chat chat = {.context = context, .given = &given, .adapted = true, .ask = stderr_is_terminal()};
    hone_status result = load_generator(context, &given, &chat.loaded);
    status = result == HONE_OK ? converse(&chat) : report_failure("chat", context, result);
    hone_generator_free(chat.plain);
    unload_model(&chat.loaded);
    hone_context_free(context);
    return status;
}
