// SPDX-License-Identifier: Apache-2.0
// safetensors: a file of the library's, a round trip, and headers that are wrong in one place each.
#include "io/safetensors.h"
#include "io_test.h"

static void reads_the_librarys_file(void) {
    SafeTensorsFile file;
    HoneError err = {0};
    check_ok(hone_safetensors_open(fixture("small.safetensors"), &file, &err), &err);
    CHECK_INT(file.count, 9);
    static const struct {
        const char *name;
        int dtype, rank;
        size_t bytes;
        const char *type;
    } wanted[] = {{"f32", HONE_F32, 2, 24, "F32"},
                  {"f16", HONE_F16, 1, 6, "F16"},
                  {"bf16", HONE_BF16, 1, 8, "BF16"},
                  {"i64", HONE_I64, 1, 40, "I64"},
                  {"u8", -1, 1, 7, "U8"},
                  {"bool", -1, 1, 2, "BOOL"},
                  {"scalar", HONE_F32, 0, 4, "F32"},
                  {"empty", HONE_F32, 2, 0, "F32"},
                  {"f8", -1, 1, 4, "F8_E4M3"}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const SafeTensor *tensor = hone_safetensors_find(&file, wanted[i].name);
        if (!CHECK(tensor != NULL)) continue;
        CHECK_INT(tensor->dtype, wanted[i].dtype);
        CHECK_INT(tensor->rank, wanted[i].rank);
        CHECK_INT(tensor->bytes, wanted[i].bytes);
        CHECK_STRING(tensor->type_name, wanted[i].type);
    }
    const SafeTensor *f32 = hone_safetensors_find(&file, "f32");
    CHECK(f32 && f32->shape[0] == 2 && f32->shape[1] == 3);
    const SafeTensor *i64 = hone_safetensors_find(&file, "i64");
    for (int i = 0; i < 5 && i64; i++) {
        int64_t value;
        memcpy(&value, (const char *)i64->data + 8 * i, sizeof value);
        CHECK_INT(value, i);
    }
    CHECK(hone_safetensors_find(&file, "nothing") == NULL);
    hone_safetensors_close(&file);
}

static void round_trip(void) {
    static const float wide[6] = {1, -2, 3, 4, 5, 6};
    static const uint16_t narrow[3] = {0x3c00, 0x4000, 0x4200};
    static const SafeTensorEntry entries[] = {
        {"z\"\xc3\xa9\n", HONE_F16, 1, {3}, narrow},
        {"b", HONE_F32, 2, {2, 3}, wide},
        {"a", HONE_F32, 1, {6}, wide},
    };
    SafeTensorsFile file;
    HoneError err = {0};
    const char *path = in_folder("round.safetensors");
    check_ok(hone_safetensors_write(path, entries, 3, &err), &err);
    check_ok(hone_safetensors_open(path, &file, &err), &err);
    CHECK_INT(file.count, 3);
    for (int i = 0; i < 3; i++) {
        const SafeTensor *tensor = hone_safetensors_find(&file, entries[i].name);
        CHECK(tensor && tensor->dtype == entries[i].dtype &&
              memcmp(tensor->data, entries[i].data, tensor->bytes) == 0);
        CHECK(tensor && (uintptr_t)tensor->data % 2 == 0);
    }
    CHECK_INT((const unsigned char *)hone_safetensors_find(&file, "a")->data - file.map.data,
              (long long)(file.map.bytes - 54)); // the widest first, then by name
    CHECK_INT((file.map.bytes - 54) % 8, 0);
    hone_safetensors_close(&file);
    check_ok(hone_safetensors_write(path, NULL, 0, &err), &err);
    check_ok(hone_safetensors_open(path, &file, &err), &err);
    CHECK_INT(file.count, 0);
    hone_safetensors_close(&file);
}

static void writer_refuses(void) {
    HoneError err = {0};
    static const float value = 1;
    SafeTensorEntry entries[2] = {{"a", HONE_F32, 1, {1}, &value}, {"a", HONE_F32, 1, {1}, &value}};
    const char *path = in_folder("never.safetensors");
    check_refused(hone_safetensors_write(path, entries, 2, &err), HONE_ERROR_ARGUMENT, &err,
                  "tensor a is written twice");
    entries[0].dtype = HONE_Q4_1;
    check_refused(hone_safetensors_write(path, entries, 1, &err), HONE_ERROR_ARGUMENT, &err,
                  "type Q4_1");
    CHECK(!hone_is_file(path));
}

static hone_status open_header(const char *header, size_t data, HoneError *err) {
    TextBuffer text = {0};
    uint64_t length = strlen(header);
    SafeTensorsFile file;
    hone_text_append(&text, &length, 8);
    hone_text_puts(&text, header);
    for (size_t i = 0; i < data; i++) hone_text_append(&text, "", 1);
    const char *path = put_file("bad.safetensors", text.data, text.length);
    hone_text_free(&text);
    hone_status status = hone_safetensors_open(path, &file, err);
    if (status == HONE_OK) hone_safetensors_close(&file);
    return status;
}

#define F32_AT(name, count, begin, end)                                                            \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":[" count "],\"data_offsets\":[" begin "," end "]}"

static void bad_headers(void) {
    static const struct {
        const char *header;
        size_t data;
        const char *words;
    } cases[] = {
        {"{" F32_AT("a", "2", "0", "8"), 8, "not JSON"},
        {"[]", 0, "no JSON object"},
        {"{\"a\":3}", 0, "tensor a: it is not an object"},
        {"{\"a\":{}}", 0, "tensor a: it has no \"dtype\""},
        {"{\"a\":{\"dtype\":\"F32\"}}", 0, "tensor a: it has no \"shape\""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "\"data_offsets\" are not"},
        {"{" F32_AT("a", "2", "8", "0") "}", 8, "\"data_offsets\" are not"},
        {"{" F32_AT("a", "2", "0", "8,9") "}", 8, "\"data_offsets\" are not"},
        {"{" F32_AT("a", "1.5", "0", "8") "}", 8, "not of whole numbers"},
        {"{" F32_AT("a", "-2", "0", "8") "}", 8, "not of whole numbers"},
        {"{" F32_AT("a", "2", "0", "8") "}", 4, "tensor a: bytes 0…8 of the data lie past the end"},
        {"{" F32_AT("a", "3", "0", "8") "}", 8,
         "its range has 8 bytes, its shape and type F32 ask for 12"},
        {"{" F32_AT("a", "4611686018427387904,16", "0", "8") "}", 8,
         "more values than can be counted"},
        {"{" F32_AT("a", "99999999999999999999", "0", "8") "}", 8, "not JSON"},
        {"{" F32_AT("a", "1", "0", "4") "," F32_AT("b", "1", "8", "12") "}", 12,
         "tensor b begins at byte 8 of the data, after byte 4"},
        {"{" F32_AT("a", "2", "0", "8") "," F32_AT("b", "2", "4", "12") "}", 12,
         "tensor b begins at byte 4 of the data, before byte 8"},
        {"{" F32_AT("a", "1", "0", "4") "}", 12, "8 bytes of data follow the last tensor"},
        {"{" F32_AT("a", "1", "0", "4") "," F32_AT("a", "1", "0", "4") "}", 4, "duplicate"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__ is not an object of strings"},
        {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object of strings"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "whole bytes"},
    };
    HoneError err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hone_status status = open_header(cases[i].header, cases[i].data, &err);
        CHECK_CONTAINS(err.message, "bad.safetensors: ");
        check_refused(status, HONE_ERROR_INPUT, &err, cases[i].words);
    }
    check_refused(
        open_header("{\"a\":{\"dtype\":\"X9\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, &err),
        HONE_ERROR_UNSUPPORTED, &err, "tensor a: the type X9 is not known");
    check_refused(open_header("{" F32_AT("a", "1,1,1,1,1,1,1,1,1", "0", "4") "}", 4, &err),
                  HONE_ERROR_UNSUPPORTED, &err, "9 dimensions");
}

static void good_headers(void) {
    HoneError err = {0};
    check_ok(open_header("{}", 0, &err), &err);
    check_ok(open_header(" {" F32_AT("a", "", "0", "4") "}  ", 4, &err), &err);
    check_ok(
        open_header("{" F32_AT("b", "1", "4", "8") "," F32_AT("a", "1", "0", "4") "}", 8, &err),
        &err);
    check_ok(
        open_header("{" F32_AT("a", "0", "4", "4") "," F32_AT("b", "1", "0", "4") "}", 4, &err),
        &err);
    check_ok(open_header("{\"__metadata__\":{\"a\":null,\"b\":\"c\"}}", 0, &err), &err);
    check_ok(open_header("{\"__metadata__\":null}", 0, &err), &err);
    check_ok(open_header("{\"a\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2],\"x\":1}}",
                         2, &err),
             &err);
}

static void other_files(void) {
    static const struct {
        const char *bytes;
        size_t length;
        const char *words;
    } cases[] = {
        {"", 0, "the file is empty"},
        {"abc", 3, "does not fit into the file (3 bytes)"},
        {"\377\377\377\377\377\377\377\377{}", 10, "18446744073709551615 bytes does not fit"},
        {"GGUF\3\0\0\0\0\0\0\0", 12, "it is a GGUF file"},
        {"<html><body>nothing", 19, "HTML page"},
        {"PK\003\004torch checkpoint", 20, "zip archive"},
        {"\3\0\0\0\0\0\0\0{}\0", 11, "not JSON"}, // padded with NUL
    };
    HoneError err = {0};
    SafeTensorsFile file;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = put_file("other.safetensors", cases[i].bytes, cases[i].length);
        check_refused(hone_safetensors_open(path, &file, &err), HONE_ERROR_INPUT, &err,
                      cases[i].words);
        CHECK(file.map.data == NULL);
    }
    check_refused(hone_safetensors_open(in_folder("absent.safetensors"), &file, &err),
                  HONE_ERROR_INPUT, &err, "absent.safetensors: cannot open");
}

static void cut_anywhere(void) {
    char *whole = NULL;
    size_t bytes = 0;
    HoneError err = {0};
    check_ok(hone_file_read(fixture("small.safetensors"), &whole, &bytes, &err), &err);
    for (size_t length = 0; length < bytes; length++) {
        SafeTensorsFile file;
        const char *path = put_file("cut.safetensors", whole, length);
        CHECK_INT(hone_safetensors_open(path, &file, &err), HONE_ERROR_INPUT);
        CHECK_CONTAINS(err.message, "cut.safetensors: ");
        hone_error_clear(&err);
    }
    hone_free(whole);
}

int main(void) {
    make_test_folder();
    RUN(reads_the_librarys_file);
    RUN(round_trip);
    RUN(writer_refuses);
    RUN(bad_headers);
    RUN(good_headers);
    RUN(other_files);
    RUN(cut_anywhere);
    remove_test_folder();
    return check_report();
}
