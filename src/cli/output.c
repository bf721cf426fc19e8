// SPDX-License-Identifier: Apache-2.0
#include "output.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int report_failure(const char *command, const HoneContext *context, hone_status status) {
    const char *message = hone_context_error(context);
    fprintf(stderr, "hone %s: %s\n", command, *message ? message : hone_status_name(status));
    switch (status) {
    case HONE_OK:
        return EXIT_DONE;
    case HONE_ERROR_ARGUMENT:
    case HONE_ERROR_INPUT:
    case HONE_ERROR_UNSUPPORTED:
        return EXIT_USAGE;
    case HONE_INTERRUPTED:
        return EXIT_INTERRUPTED;
    default:
        return EXIT_WORK;
    }
}

HoneContext *open_context(const char *command, const Common *common, int *status) {
    if (common->threads > 1024) {
        fprintf(stderr, "hone %s: --threads is %lld, want 1 to 1024\n", command,
                (long long)common->threads);
        *status = EXIT_USAGE;
        return NULL;
    }
    HoneContextOptions options = {.threads = (int)common->threads, .isa = common->isa};
    HoneContext *context = NULL;
    hone_status made = hone_context_create(&options, &context);
    const int threads = made == HONE_OK ? hone_context_threads(context) : 0;
    if (made == HONE_OK && common->threads > threads)
        fprintf(stderr,
                "hone %s: note: %d of %lld threads could be started; the result is the same\n",
                command, threads, (long long)common->threads);
    if (made == HONE_OK) watch_maps(command);
    if (made == HONE_OK) return context;
    *status = report_failure(command, context, made);
    hone_context_free(context);
    return NULL;
}

// ---- text --------------------------------------------------------------------------------------

// Length of the valid UTF-8 sequence at text, 0 if there is none.
static size_t sequence(const char *text, size_t length) {
    const unsigned char *p = (const unsigned char *)text;
    size_t bytes = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (bytes == 0 || p[0] > 0xf4 || bytes > length) return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool outside = (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
    return overlong || outside ? 0 : bytes;
}

void print_json_string(FILE *out, const char *text, size_t length) {
    fputc('"', out);
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)text[i];
        size_t bytes = sequence(text + i, length - i);
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else if (bytes)
            fwrite(text + i, 1, bytes, out);
        else
            fputs("\\ufffd", out);
        i += bytes ? bytes : 1;
    }
    fputc('"', out);
}

void print_json_text(FILE *out, const char *text) {
    if (text)
        print_json_string(out, text, strlen(text));
    else
        fputs("null", out);
}

void print_json_number(FILE *out, double value) {
    if (isfinite(value))
        fprintf(out, "%.9g", value);
    else
        fputs("null", out);
}

void plain_text(FILE *out, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        fputc(c < 0x20 || c == 0x7f ? ' ' : c, out);
    }
}

bool stdin_is_terminal(void) {
    return isatty(STDIN_FILENO) == 1;
}

bool stderr_is_terminal(void) {
    return isatty(STDERR_FILENO) == 1;
}

bool stdout_is_terminal(void) {
    return isatty(STDOUT_FILENO) == 1;
}

bool use_colour(FILE *out) {
    const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return isatty(fileno(out)) == 1 && !(no_colour && *no_colour) &&
           !(terminal && strcmp(terminal, "dumb") == 0);
}

const char *plural(int64_t count) {
    return count == 1 ? "" : "s";
}

const char *size_text(int64_t bytes, char text[32]) {
    double value = (double)bytes;
    if (bytes < 1000000)
        snprintf(text, 32, "%.0f kB", value / 1e3);
    else if (bytes < 1000000000)
        snprintf(text, 32, "%.0f MB", value / 1e6);
    else
        snprintf(text, 32, "%.2f GB", value / 1e9);
    return text;
}

const char *time_text(double seconds, char text[32]) {
    if (!(seconds < 1e8)) seconds = 1e8;
    long long whole = llround(seconds);
    if (whole < 60)
        snprintf(text, 32, "%lld s", whole);
    else if (whole < 3600)
        snprintf(text, 32, "%lld min %02lld s", whole / 60, whole % 60);
    else
        snprintf(text, 32, "%lld h %02lld min", whole / 3600, whole / 60 % 60);
    return text;
}

// ---- signals -----------------------------------------------------------------------------------

static volatile sig_atomic_t interrupted;
static volatile sig_atomic_t first_signal; // in seconds

// The second one ends the process, unless it comes with the first: a program that stops another may
// signal the process and its group at once.
static void on_signal(int number) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!interrupted) first_signal = (sig_atomic_t)now.tv_sec;
    if (interrupted && (sig_atomic_t)now.tv_sec - first_signal > 1) {
        static const char line[] =
            "\nhone: stopped at once; what was saved before, if anything, stays\n";
        ssize_t told = write(STDERR_FILENO, line, sizeof line - 1);
        (void)told; // there may be nobody to tell
        signal(number, SIG_DFL);
        raise(number);
    }
    interrupted = 1;
}

void watch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL); // the terminal is gone
}

bool was_interrupted(void) {
    return interrupted != 0;
}

// ---- options that several commands share -------------------------------------------------------

const char *split_weight(const char *text, double *weight) {
    *weight = 1;
    const char *colon = strrchr(text, ':');
    struct stat info;
    if (!colon || colon == text || stat(text, &info) == 0) return text;
    char *end;
    double value = strtod(colon + 1, &end);
    if (end == colon + 1 || *end) return text;
    const char *path = keep_text(text, (size_t)(colon - text));
    if (!path) return text;
    *weight = value;
    return path;
}

hone_status add_adapters(HoneModel *model, const TextList *adapters) {
    for (int i = 0; i < adapters->count; i++) {
        double weight;
        const char *path = split_weight(adapters->items[i], &weight);
        hone_status status = hone_model_add_adapter(model, path, (float)weight);
        if (status != HONE_OK) return status;
    }
    return HONE_OK;
}

int choose(const char *command, const char *option, const char *word, const char *const *known,
           int count) {
    for (int i = 0; i < count; i++)
        if (strcmp(word, known[i]) == 0) return i;
    fprintf(stderr, "hone %s: --%s is \"%s\", want ", command, option, word);
    for (int i = 0; i < count; i++) fprintf(stderr, "%s%s", i ? ", " : "", known[i]);
    const char *close = hone_nearest(word, known, count);
    if (close) fprintf(stderr, "; did you mean %s?", close);
    fputc('\n', stderr);
    return -1;
}

bool parse_optimizer(const char *command, const char *word, HoneOptimizer *optimizer) {
    static const char *const known[] = {"adamw", "adamw8bit", "adafactor", "sgd", "muon"};
    int index = choose(command, "optimizer", word, known, 5);
    if (index >= 0) *optimizer = (HoneOptimizer)index;
    return index >= 0;
}

bool parse_loss_on(const char *command, const char *word, HoneLossOn *loss_on) {
    static const char *const known[] = {"auto", "assistant", "completion", "all"};
    int index = choose(command, "loss-on", word, known, 4);
    if (index >= 0) *loss_on = (HoneLossOn)index;
    return index >= 0;
}

bool parse_date(const char *command, const char *text, int64_t *seconds) {
    struct tm date = {.tm_hour = 12}, again;
    int end = 0;
    *seconds = 0;
    if (!text) return true;
    if (sscanf(text, "%4d-%2d-%2d%n", &date.tm_year, &date.tm_mon, &date.tm_mday, &end) == 3 &&
        end == 10 && text[end] == '\0') {
        date.tm_year -= 1900;
        date.tm_mon -= 1;
        const time_t made = timegm(&date);
        char spelled[16] = "";
        if (gmtime_r(&made, &again)) strftime(spelled, sizeof spelled, "%Y-%m-%d", &again);
        *seconds = (int64_t)made;
        if (made != 0 && strcmp(spelled, text) == 0) return true; // no 31 February
    }
    fprintf(stderr, "hone %s: --date is \"%s\", want a day as 2026-11-24\n", command, text);
    return false;
}

bool parse_on_bad(const char *command, const char *word, bool *skip) {
    static const char *const known[] = {"stop", "skip"};
    int index = choose(command, "on-bad-example", word, known, 2);
    *skip = index == 1;
    return index >= 0;
}
