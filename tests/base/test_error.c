// SPDX-License-Identifier: Apache-2.0
// Errors are one line; element types have the sizes of the file formats; the machine answers.
#include "base/dtype.h"
#include "base/error.h"
#include "base/system.h"
#include "check.h"

static void a_message_is_one_line(void) {
    HoneError err = {0};
    CHECK_INT(hone_fail(&err, HONE_ERROR_INPUT, "%s: %d is not %d", "a\nb\r\t\x1b[2J\x7f", 3, 4),
              HONE_ERROR_INPUT);
    CHECK_STRING(err.message, "a b   [2J : 3 is not 4");
    CHECK_INT(err.status, HONE_ERROR_INPUT);
}

static void the_first_failure_wins(void) {
    HoneError err = {0};
    hone_fail(&err, HONE_ERROR_IO, "first");
    CHECK_INT(hone_fail(&err, HONE_ERROR_INPUT, "second"), HONE_ERROR_INPUT);
    CHECK_STRING(err.message, "first");
    CHECK_INT(err.status, HONE_ERROR_IO);
    hone_error_clear(&err);
    CHECK(err.status == HONE_OK && err.message[0] == '\0');
    hone_fail(&err, HONE_ERROR_INPUT, "third");
    CHECK_STRING(err.message, "third");
    CHECK_INT(hone_fail(NULL, HONE_ERROR_MEMORY, "nobody reads this"), HONE_ERROR_MEMORY);
    hone_error_clear(NULL);
}

static void a_prefix_says_where(void) {
    HoneError err = {0};
    hone_fail(&err, HONE_ERROR_INPUT, "line %d", 3);
    CHECK_INT(hone_fail_in(&err, "%s", "data\n.jsonl"), HONE_ERROR_INPUT);
    CHECK_STRING(err.message, "data .jsonl: line 3");
    CHECK_INT(hone_fail_in(NULL, "x"), HONE_ERROR_INPUT);
}

static void long_messages_are_cut(void) {
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (size_t length = 1000; length < 1040; length++) {
        HoneError err = {0};
        hone_fail(&err, HONE_ERROR_INPUT, "%.*s", (int)length, text);
        CHECK_INT(strlen(err.message), length < 1023 ? length : 1023);
        hone_fail_in(&err, "file");
        CHECK_INT(strlen(err.message), length + 6 < 1023 ? length + 6 : 1023);
        CHECK(strncmp(err.message, "file: xxx", 9) == 0);
        // A prefix that leaves no room: the message may be cut, never overrun.
        hone_fail_in(&err, "%.*s", (int)length, text);
        CHECK(strlen(err.message) <= 1023);
    }
}

static void memory_errors_name_the_bytes(void) {
    HoneError err = {0};
    CHECK_INT(hone_fail_memory(&err, 12345, "a thing"), HONE_ERROR_MEMORY);
    CHECK_STRING(err.message, "out of memory: 12345 bytes for a thing");
}

static void types_have_their_sizes(void) {
    CHECK_INT(hone_dtype_bytes(HONE_F32, 5), 20);
    CHECK_INT(hone_dtype_bytes(HONE_BF16, 5), 10);
    CHECK_INT(hone_dtype_bytes(HONE_Q4_0, 64), 36);
    CHECK_INT(hone_dtype_bytes(HONE_Q4_1, 64), 40);
    CHECK_INT(hone_dtype_bytes(HONE_Q5_0, 64), 44);
    CHECK_INT(hone_dtype_bytes(HONE_Q5_1, 64), 48);
    CHECK_INT(hone_dtype_bytes(HONE_Q8_0, 64), 68);
    CHECK_INT(hone_dtype_bytes(HONE_Q4_K, 512), 288);
    CHECK_INT(hone_dtype_bytes(HONE_Q5_K, 512), 352);
    CHECK_INT(hone_dtype_bytes(HONE_Q6_K, 512), 420);
    CHECK_INT(hone_dtype_bytes(-1, 512), 0);
}

static void types_have_names(void) {
    for (int dtype = -2; dtype < 1000; dtype++) {
        const DtypeInfo *info = hone_dtype_info(dtype);
        if (!CHECK(info != NULL)) continue;
        if (!info->name) {
            CHECK_STRING(hone_dtype_name(dtype), "unknown");
            CHECK(!hone_dtype_is_weight(dtype));
            continue;
        }
        CHECK_INT(hone_dtype_from_name(info->name), dtype);
        CHECK(info->block > 0);
    }
    CHECK_INT(hone_dtype_from_name("q4_k"), HONE_Q4_K);
    CHECK_INT(hone_dtype_from_name("Q4"), -1);
    CHECK_INT(hone_dtype_from_name(""), -1);
    CHECK(hone_dtype_is_weight(HONE_Q6_K) && hone_dtype_is_weight(HONE_F16));
    CHECK(!hone_dtype_is_weight(HONE_I32) && !hone_dtype_is_weight(HONE_F64));
}

static void the_machine_answers(void) {
    CHECK(hone_physical_cores() >= 1);
    double before = hone_seconds();
    CHECK(hone_seconds() >= before);
    CHECK(hone_resident_bytes() > 0 && hone_resident_peak() > 0);
    CHECK(hone_memory_available() > 0);
    CpuFeatures cpu = hone_cpu_features();
    CHECK(!cpu.avx512 || cpu.avx2);
}

int main(void) {
    RUN(a_message_is_one_line);
    RUN(the_first_failure_wins);
    RUN(a_prefix_says_where);
    RUN(long_messages_are_cut);
    RUN(memory_errors_name_the_bytes);
    RUN(types_have_their_sizes);
    RUN(types_have_names);
    RUN(the_machine_answers);
    return check_report();
}
