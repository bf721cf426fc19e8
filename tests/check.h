// SPDX-License-Identifier: Apache-2.0
// The test header: checks that print what disagreed and go on; a program's status is its failures.
//
//     static void half_rounds_to_even(void) { CHECK_INT(hone_f32_to_f16(1.0f), 0x3c00); }
//     int main(void) { RUN(half_rounds_to_even); return check_report(); }
#ifndef HONE_TESTS_CHECK_H
#define HONE_TESTS_CHECK_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_count, check_failures;
static const char *check_test = "main";

#define RUN(test)                                                                                  \
    do {                                                                                           \
        int before_ = check_failures;                                                              \
        check_test = #test;                                                                        \
        test();                                                                                    \
        printf("%s %s\n", check_failures == before_ ? "ok  " : "FAIL", #test);                     \
    } while (0)

#define CHECK(condition) check_true((condition), #condition, __FILE__, __LINE__)
#define CHECK_INT(got, want)                                                                       \
    check_int((long long)(got), (long long)(want), #got, __FILE__, __LINE__)
#define CHECK_STRING(got, want) check_string((got), (want), #got, __FILE__, __LINE__)
// got contains part
#define CHECK_CONTAINS(got, part) check_contains((got), (part), __FILE__, __LINE__)
// |got - want| ≤ atol + rtol·|want|; NaN equals nothing
#define CHECK_NEAR(got, want, rtol, atol)                                                          \
    check_near((double)(got), (double)(want), (rtol), (atol), #got, __FILE__, __LINE__)
// arrays of float: prints the worst index
#define CHECK_CLOSE(got, want, count, rtol, atol)                                                  \
    check_close((got), (want), (count), (rtol), (atol), #got, __FILE__, __LINE__)

// With HONE_TESTS=some (under an emulator) tests of very many cases run one in `of` of them, by
// turns: whether this one runs.
static inline bool check_runs(int of) {
    static int turn;
    const char *tests = getenv("HONE_TESTS");
    return !tests || strcmp(tests, "some") != 0 || turn++ % of == 0;
}

static inline bool check_true(bool ok, const char *text, const char *file, int line) {
    check_count++;
    if (!ok) {
        check_failures++;
        printf("%s:%d: in %s: not true: %s\n", file, line, check_test, text);
    }
    return ok;
}

static inline bool check_int(long long got, long long want, const char *text, const char *file,
                             int line) {
    check_count++;
    if (got == want) return true;
    check_failures++;
    printf("%s:%d: in %s: %s is %lld, want %lld\n", file, line, check_test, text, got, want);
    return false;
}

static inline bool check_string(const char *got, const char *want, const char *text,
                                const char *file, int line) {
    check_count++;
    if (got && want && strcmp(got, want) == 0) return true;
    check_failures++;
    printf("%s:%d: in %s: %s is \"%s\", want \"%s\"\n", file, line, check_test, text,
           got ? got : "(null)", want ? want : "(null)");
    return false;
}

static inline bool check_contains(const char *got, const char *part, const char *file, int line) {
    check_count++;
    if (got && strstr(got, part)) return true;
    check_failures++;
    printf("%s:%d: in %s: \"%s\" does not contain \"%s\"\n", file, line, check_test,
           got ? got : "(null)", part);
    return false;
}

static inline bool check_near(double got, double want, double rtol, double atol, const char *text,
                              const char *file, int line) {
    check_count++;
    if (fabs(got - want) <= atol + rtol * fabs(want)) return true;
    check_failures++;
    printf("%s:%d: in %s: %s is %.9g, want %.9g (off by %.3g)\n", file, line, check_test, text, got,
           want, fabs(got - want));
    return false;
}

static inline bool check_close(const float *got, const float *want, int64_t count, double rtol,
                               double atol, const char *text, const char *file, int line) {
    check_count++;
    int64_t worst = -1;
    double excess = 0;
    for (int64_t i = 0; i < count; i++) {
        double over =
            fabs((double)got[i] - (double)want[i]) - (atol + rtol * fabs((double)want[i]));
        if (!(over <= excess)) { // NaN lands here too
            worst = i;
            if (over != over) break;
            excess = over;
        }
    }
    if (worst < 0) return true;
    check_failures++;
    printf("%s:%d: in %s: %s[%lld] is %.9g, want %.9g (of %lld values)\n", file, line, check_test,
           text, (long long)worst, (double)got[worst], (double)want[worst], (long long)count);
    return false;
}

static inline int check_report(void) {
    printf("%d checks, %d failed\n", check_count, check_failures);
    return check_failures ? 1 : 0;
}

#endif
