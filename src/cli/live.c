// SPDX-License-Identifier: Apache-2.0
#include "live.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "output.h"

enum { NARROWEST = 20, WIDEST = 240 };

typedef struct Line {
    char text[2048];
    size_t used;
    int columns, width;
} Line;

bool live_possible(void) {
    const char *terminal = getenv("TERM");
    return stderr_is_terminal() && terminal && strcmp(terminal, "dumb") != 0;
}

static int terminal_width(void) {
    struct winsize window;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0) return 80;
    return window.ws_col < NARROWEST ? NARROWEST : window.ws_col > WIDEST ? WIDEST : window.ws_col;
}

// Characters of UTF-8; each takes one column here.
static int columns_of(const char *text) {
    int count = 0;
    for (; *text; text++) count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

// ---- a line that fits --------------------------------------------------------------------------

static void append(Line *line, const char *colour, const char *text) {
    const bool coloured = colour && use_colour(stderr);
    int wrote = snprintf(line->text + line->used, sizeof line->text - line->used, "%s%s%s",
                         coloured ? colour : "", text, coloured ? "\033[0m" : "");
    line->used += (size_t)wrote;
    line->columns += columns_of(text);
}

// Two blanks and the text, if the line has room for them.
__attribute__((format(printf, 3, 4))) static bool add(Line *line, const char *colour,
                                                      const char *format, ...) {
    char text[128];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    const int gap = line->columns ? 2 : 0;
    if (line->columns + gap + columns_of(text) > line->width) return false;
    if (gap) append(line, NULL, "  ");
    append(line, colour, text);
    return true;
}

static void add_bar(Line *line, int64_t done, int64_t total) {
    const int wide = line->width >= 160 ? 40 : line->width >= 110 ? 24 : 12;
    const int full = total > 0 ? (int)(wide * done / total) : 0;
    char text[3 * 40 + 1] = "";
    for (int i = 0; i < full; i++) strcat(text, "━");
    append(line, "\033[36m", text);
    *text = '\0';
    for (int i = full; i < wide; i++) strcat(text, "─");
    append(line, "\033[2m", text);
}

void sparkline(const double *values, int count, double low, double high, char *text) {
    static const char *const heights[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    *text = '\0';
    for (int i = 0; i < count; i++) {
        const double share = high > low ? (values[i] - low) / (high - low) : 0;
        int height = isfinite(values[i]) ? (int)(share * 8) : 7;
        text = strcpy(text, heights[height < 0 ? 0 : height > 7 ? 7 : height]) + 3;
    }
}

// The last losses, in what room is left.
static void add_sparkline(Line *line, const Live *live) {
    double values[LIVE_RECENT], low = (double)INFINITY, high = -(double)INFINITY;
    int room = line->width - line->columns - 2;
    int count = (int)(live->steps_seen < LIVE_RECENT ? live->steps_seen : LIVE_RECENT);
    if (count > room) count = room;
    if (room < 8 || count < 2) return;
    for (int i = 0; i < count; i++) {
        values[i] = live->recent[(live->steps_seen - count + i) % LIVE_RECENT];
        if (values[i] < low) low = values[i];
        if (values[i] > high) high = values[i];
    }
    char text[3 * LIVE_RECENT + 1];
    sparkline(values, count, low, high, text);
    append(line, NULL, "  ");
    append(line, "\033[33m", text);
}

// ---- the terminal ------------------------------------------------------------------------------

void live_clear(Live *live) {
    if (live->columns == 0) return;
    // A terminal that became narrower has broken the line into several.
    const int rows = (live->columns - 1) / terminal_width();
    if (rows > 0) fprintf(stderr, "\033[%dA", rows);
    fputs("\r\033[J", stderr);
    live->columns = 0;
}

void live_end(Live *live) {
    if (live->columns > 0) fputc('\n', stderr);
    live->columns = 0;
}

static void show(Live *live, const Line *line) {
    live_clear(live);
    // Never broken into two when it is written: a terminal may be narrower already than it says.
    fprintf(stderr, "\033[?7l%s\033[?7h", line->text);
    fflush(stderr);
    live->columns = line->columns;
}

void live_text(Live *live, const char *text) {
    Line line = {.width = terminal_width() - 1};
    add(&line, NULL, "%s", text);
    show(live, &line);
}

void live_note_step(Live *live, const HoneStep *step) {
    live->recent[live->steps_seen++ % LIVE_RECENT] = step->loss;
    live->mean_loss = 0.95 * live->mean_loss + 0.05 * step->loss;
}

double live_mean(const Live *live) {
    return live->mean_loss / (1 - pow(0.95, (double)live->steps_seen));
}

void live_draw(Live *live, const HoneStep *step) {
    char size[32], left[32];
    Line line = {.width = terminal_width() - 1}; // the last column makes some terminals wrap
    add_bar(&line, step->step, step->steps);
    add(&line, NULL, "%lld/%lld", (long long)step->step, (long long)step->steps);
    add(&line, "\033[1m", "loss %.4f", step->loss);
    add(&line, NULL, "mean %.4f", live_mean(live));
    add(&line, NULL, "%s left", time_text(step->seconds_left, left));
    add(&line, NULL, "%.0f tokens/s", step->tokens_per_s);
    if (live->held_out > 0) add(&line, "\033[32m", "held out %.4f", live->held_out);
    add(&line, NULL, "norm %.3g", step->grad_norm);
    add(&line, NULL, "%s", size_text(step->rss_bytes, size));
    add_sparkline(&line, live);
    show(live, &line);
}
