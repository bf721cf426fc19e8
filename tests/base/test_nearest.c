// SPDX-License-Identifier: Apache-2.0
#include "base/nearest.h"
#include "check.h"

static const char *const words[] = {"lora", "full", "cosine", "constant"};

static void a_near_word_is_found(void) {
    CHECK_STRING(hone_nearest("lroa", words, 4), "lora");
    CHECK_STRING(hone_nearest("lora", words, 4), "lora");
    CHECK_STRING(hone_nearest("cosin", words, 4), "cosine");
    CHECK_STRING(hone_nearest("konstnt", words, 4), "constant");
}

static void a_far_word_is_none(void) {
    CHECK(hone_nearest("adamw", words, 4) == NULL);
    CHECK(hone_nearest("", words, 4) == NULL);
    CHECK(hone_nearest("l", words, 4) == NULL);
    CHECK(hone_nearest("lora", words, 0) == NULL);
    char longer[200];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    CHECK(hone_nearest(longer, words, 4) == NULL);
}

static void a_near_file_is_found(void) {
    char found[1024];
    CHECK(hone_nearest_file(HONE_FIXTURES "/tinny.gguf", found, sizeof found));
    CHECK_STRING(found, HONE_FIXTURES "/tiny.gguf");
    CHECK(!hone_nearest_file(HONE_FIXTURES "/", found, sizeof found));
    CHECK(!hone_nearest_file(HONE_FIXTURES "/nothing-of-the-kind", found, sizeof found));
    CHECK(!hone_nearest_file("/no/such/folder/tiny.gguf", found, sizeof found));
}

int main(void) {
    RUN(a_near_word_is_found);
    RUN(a_far_word_is_none);
    RUN(a_near_file_is_found);
    return check_report();
}
