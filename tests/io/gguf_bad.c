// SPDX-License-Identifier: Apache-2.0
// GGUF files that are wrong in one place each: refused with a line that names file and place.
#include "io/gguf.h"
#include "io_test.h"

// A file under construction: written by hand, so that every field can be wrong.
typedef struct Draft {
    TextBuffer text;
} Draft;

static void u32(Draft *draft, uint32_t value) {
    hone_text_append(&draft->text, &value, 4);
}
static void u64(Draft *draft, uint64_t value) {
    hone_text_append(&draft->text, &value, 8);
}

static void string(Draft *draft, const char *text) {
    u64(draft, strlen(text));
    hone_text_append(&draft->text, text, strlen(text));
}

static void start(Draft *draft, uint32_t version, uint64_t tensors, uint64_t keys) {
    hone_text_clear(&draft->text);
    hone_text_append(&draft->text, "GGUF", 4);
    u32(draft, version);
    u64(draft, tensors);
    u64(draft, keys);
}

static void key_u32(Draft *draft, const char *name, uint32_t value) {
    string(draft, name);
    u32(draft, GGUF_U32);
    u32(draft, value);
}

static void tensor(Draft *draft, const char *name, uint64_t size, uint32_t type, uint64_t offset) {
    string(draft, name);
    u32(draft, 1);
    u64(draft, size);
    u32(draft, type);
    u64(draft, offset);
}

static void data(Draft *draft, size_t bytes) {
    while (draft->text.length % 32) hone_text_append(&draft->text, "", 1);
    for (size_t i = 0; i < bytes; i++) hone_text_append(&draft->text, "\1", 1);
}

static void refused_as(const Draft *draft, hone_status status, const char *words) {
    GgufFile file;
    HoneError err = {0};
    const char *path = put_file("bad.gguf", draft->text.data, draft->text.length);
    hone_status got = hone_gguf_open(path, &file, &err);
    CHECK_CONTAINS(err.message, "bad.gguf: ");
    check_refused(got, status, &err, words);
    CHECK(file.map.data == NULL && file.keys == NULL);
}

static void refused(const Draft *draft, const char *words) {
    refused_as(draft, HONE_ERROR_INPUT, words);
}

static void accepted(const Draft *draft) {
    GgufFile file;
    HoneError err = {0};
    check_ok(
        hone_gguf_open(put_file("good.gguf", draft->text.data, draft->text.length), &file, &err),
        &err);
    hone_gguf_close(&file);
}

static void text_file(const char *content, size_t length, const char *words) {
    Draft draft = {0};
    hone_text_append(&draft.text, content, length);
    refused(&draft, words);
    hone_text_free(&draft.text);
}

static void other_files(void) {
    text_file("", 0, "the file is empty");
    text_file("GG", 2, "first bytes are 47 47 00 00");
    text_file("<!DOCTYPE html>\n<html>", 22, "HTML page");
    text_file("\n  <html lang=en>", 17, "HTML page");
    text_file("version https://git-lfs.github.com/spec/v1\n", 43, "git lfs pull");
    text_file("\x60\0\0\0\0\0\0\0{\"a\":{\"dtype\"", 20, "a safetensors file");
    text_file("PK\003\004zipzip", 10, "zip archive");
    text_file("tjgg\3\0\0\0", 8, "GGJT");
    text_file("\x7f"
              "ELF\2\1\1\0",
              8, "first bytes are 7f 45 4c 46");
    GgufFile file;
    HoneError err = {0};
    check_refused(hone_gguf_open(in_folder("absent.gguf"), &file, &err), HONE_ERROR_INPUT, &err,
                  "absent.gguf: cannot open");
    check_refused(hone_gguf_open(test_folder, &file, &err), HONE_ERROR_INPUT, &err, "is a folder");
}

static void versions(void) {
    Draft draft = {0};
    static const uint32_t wrong[] = {0, 1, 4, 0x03000000};
    for (int i = 0; i < 4; i++) {
        char words[40];
        snprintf(words, sizeof words, "GGUF version %u", wrong[i]);
        start(&draft, wrong[i], 0, 0);
        refused_as(&draft, HONE_ERROR_UNSUPPORTED, words);
    }
    for (uint32_t version = 2; version <= 3; version++) {
        start(&draft, version, 0, 0);
        accepted(&draft);
    }
    hone_text_free(&draft.text);
}

static void counts(void) {
    Draft draft = {0};
    static const uint64_t wrong[] = {1000, 1u << 31, UINT64_MAX, 1ULL << 63, UINT64_MAX / 120 + 2};
    for (int i = 0; i < 5; i++) {
        start(&draft, 3, wrong[i], 0);
        refused(&draft, "tensors, more than its");
        start(&draft, 3, 0, wrong[i]);
        refused(&draft, "keys, more than its");
    }
    hone_text_free(&draft.text);
}

static void keys(void) {
    Draft draft = {0};
    start(&draft, 3, 0, 1);
    string(&draft, "t.bad");
    u32(&draft, 13);
    u64(&draft, 0);
    refused(&draft, "key t.bad: its value has type 13");
    start(&draft, 3, 0, 2);
    key_u32(&draft, "t.twice", 1);
    key_u32(&draft, "t.twice", 1);
    refused(&draft, "two keys have the name t.twice");
    start(&draft, 3, 0, 1);
    key_u32(&draft, "", 1);
    refused(&draft, "key 0 has an empty name");
    start(&draft, 3, 0, 1);
    u64(&draft, UINT64_MAX - 3); // a name's length
    u64(&draft, 0);
    refused(&draft, "key 0: 18446744073709551612 bytes are wanted at byte 32");
    start(&draft, 3, 0, 1);
    string(&draft, "t.text");
    u32(&draft, GGUF_STRING);
    u64(&draft, 1000);
    refused(&draft, "key t.text: 1000 bytes are wanted");
    hone_text_free(&draft.text);
}

static void array(Draft *draft, uint32_t element, uint64_t count) {
    start(draft, 3, 0, 1);
    string(draft, "t.array");
    u32(draft, GGUF_ARRAY);
    u32(draft, element);
    u64(draft, count);
}

static void arrays(void) {
    Draft draft = {0};
    array(&draft, GGUF_ARRAY, 1);
    refused_as(&draft, HONE_ERROR_UNSUPPORTED, "key t.array: an array of arrays");
    array(&draft, 77, 1);
    refused(&draft, "key t.array: its elements have type 77");
    static const uint64_t wrong[] = {1, 1ULL << 62, UINT64_MAX / 8 + 2, UINT64_MAX};
    for (int i = 0; i < 4; i++) {
        array(&draft, GGUF_F64, wrong[i]); // 8·(2^61 + 1) wraps to 8
        refused(&draft, "key t.array: ");
        array(&draft, GGUF_STRING, wrong[i]);
        refused(&draft, "key t.array: ");
    }
    array(&draft, GGUF_STRING, 0);
    accepted(&draft);
    hone_text_free(&draft.text);
}

static void alignments(void) {
    Draft draft = {0};
    static const uint32_t wrong[] = {0, 1, 4, 48};
    for (int i = 0; i < 4; i++) {
        start(&draft, 3, 0, 1);
        key_u32(&draft, "general.alignment", wrong[i]);
        refused(&draft, "general.alignment is ");
    }
    start(&draft, 3, 1, 1);
    key_u32(&draft, "general.alignment", 1u << 31);
    tensor(&draft, "x", 4, HONE_F32, 0);
    data(&draft, 16);
    refused(&draft, "lie past the end of the file");
    start(&draft, 3, 0, 1);
    string(&draft, "general.alignment");
    u32(&draft, GGUF_U64);
    u64(&draft, 32);
    refused(&draft, "general.alignment is of type u64");
    hone_text_free(&draft.text);
}

static void one_tensor(Draft *draft, uint64_t size, uint32_t type, uint64_t offset) {
    start(draft, 3, 1, 0);
    tensor(draft, "blk.3.attn_q.weight", size, type, offset);
    data(draft, 64);
}

static void tensors(void) {
    Draft draft = {0};
    one_tensor(&draft, 16, HONE_F32, 0);
    accepted(&draft);
    one_tensor(&draft, 17, HONE_F32, 0);
    refused(&draft, "tensor blk.3.attn_q.weight: bytes 96…164 lie past the end of the file (160 "
                    "bytes): the file is cut short, fetch it again");
    static const uint64_t offsets[] = {32, 1ULL << 40, UINT64_MAX - 31, 1ULL << 63};
    for (int i = 0; i < 4; i++) {
        one_tensor(&draft, 16, HONE_F32, offsets[i]);
        refused(&draft, "tensor blk.3.attn_q.weight: bytes ");
    }
    one_tensor(&draft, 4, HONE_F32, 4);
    refused(&draft, "its offset 4 is no multiple of the alignment 32");
    one_tensor(&draft, 33, HONE_Q8_0, 0);
    refused(&draft, "rows of 33 values are no multiple of Q8_0's block of 32");
    one_tensor(&draft, 1ULL << 62, HONE_F32, 0);
    refused(&draft, "holds more than 2^63 values");
    one_tensor(&draft, UINT64_MAX, HONE_F32, 0);
    refused(&draft, "dimension 0 is -1");
    one_tensor(&draft, 0, HONE_F32, 0);
    accepted(&draft);
    hone_text_free(&draft.text);
}

static void dimensions(void) {
    Draft draft = {0};
    start(&draft, 3, 1, 0);
    string(&draft, "x");
    u32(&draft, 5);
    data(&draft, 128);
    refused(&draft, "tensor x: it has 5 dimensions");
    start(&draft, 3, 1, 0);
    string(&draft, "x");
    u32(&draft, 4);
    for (int i = 0; i < 4; i++) u64(&draft, 1ULL << 16); // the product is 2^64
    u32(&draft, HONE_F32);
    u64(&draft, 0);
    data(&draft, 32);
    refused(&draft, "tensor x: its shape (65536,65536,65536,65536) holds more than");
    hone_text_free(&draft.text);
}

static void names_and_places(void) {
    Draft draft = {0};
    char name[80];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    start(&draft, 3, 1, 0);
    tensor(&draft, name, 8, HONE_F32, 0);
    data(&draft, 32);
    refused(&draft, "tensor 0: its name is of 79 bytes");
    start(&draft, 3, 1, 0);
    u64(&draft, 3);
    hone_text_append(&draft.text, "a\0b", 3);
    u32(&draft, 0);
    u32(&draft, 0);
    u64(&draft, 0);
    data(&draft, 32);
    refused(&draft, "tensor 0: its name");
    start(&draft, 3, 2, 0);
    tensor(&draft, "x", 8, HONE_F32, 0);
    tensor(&draft, "x", 8, HONE_F32, 32);
    data(&draft, 64);
    refused(&draft, "two tensors have the name x");
    start(&draft, 3, 2, 0);
    tensor(&draft, "x", 16, HONE_F32, 0);
    tensor(&draft, "y", 8, HONE_F32, 32);
    data(&draft, 64);
    refused(&draft, "tensors x and y lie over each other");
    start(&draft, 3, 2, 0); // another order than that of the infos, and a gap: gguf-py reads it too
    tensor(&draft, "x", 8, HONE_F32, 64);
    tensor(&draft, "y", 8, HONE_F32, 0);
    data(&draft, 96);
    accepted(&draft);
    hone_text_free(&draft.text);
}

// A type that Hone only names, or not even that: listed without data, for the loader to refuse.
static void unknown_types(void) {
    Draft draft = {0};
    HoneError err = {0};
    static const uint32_t types[] = {4, 19, 34, 42, 47, 48, 1000, 0x80000000u, UINT32_MAX};
    for (int i = 0; i < 9; i++) {
        GgufFile file;
        one_tensor(&draft, 256, types[i], 0);
        check_ok(
            hone_gguf_open(put_file("t.gguf", draft.text.data, draft.text.length), &file, &err),
            &err);
        CHECK(file.tensor_count == 1 && !file.tensors[0].data && file.tensors[0].bytes == 0);
        CHECK(!hone_dtype_is_weight(file.tensors[0].dtype));
        hone_gguf_close(&file);
    }
    hone_text_free(&draft.text);
}

// Whatever length a file is cut to, it is refused (or, where only padding is lost, read).
static void truncated(const char *name, size_t step, size_t padding) {
    char *whole = NULL;
    size_t bytes = 0;
    HoneError err = {0};
    check_ok(hone_file_read(fixture(name), &whole, &bytes, &err), &err);
    for (size_t length = 0; length < bytes; length += step) {
        GgufFile file;
        hone_status status = hone_gguf_open(put_file("cut.gguf", whole, length), &file, &err);
        if (status == HONE_OK) {
            CHECK(bytes - length <= padding);
            hone_gguf_close(&file);
            continue;
        }
        CHECK_INT(status, HONE_ERROR_INPUT);
        CHECK_CONTAINS(err.message, "cut.gguf: ");
        if (length >= 32) // long enough for the header: from there on it is known to be cut short
            CHECK(strstr(err.message, "the file is cut short") || strstr(err.message, "can hold"));
        hone_error_clear(&err);
    }
    hone_free(whole);
}

static void cut_anywhere(void) {
    truncated("small.gguf", 1, 31);
    truncated("adapter.gguf", 64, 31);
}

// Each byte of the metadata changed in turn: never a crash, and a file that opens can be walked.
static void damaged_anywhere(void) {
    char *whole = NULL;
    size_t bytes = 0;
    HoneError err = {0};
    check_ok(hone_file_read(fixture("small.gguf"), &whole, &bytes, &err), &err);
    for (size_t i = 0; i < bytes; i++) {
        GgufFile file;
        char kept = whole[i];
        whole[i] = (char)(kept ^ (i % 2 ? 0xff : 0x01));
        if (hone_gguf_open(put_file("damaged.gguf", whole, bytes), &file, &err) == HONE_OK) {
            volatile unsigned char byte = 0; // every byte it claims can be read
            for (int64_t t = 0; t < file.tensor_count; t++)
                for (size_t b = 0; b < file.tensors[t].bytes; b++)
                    byte = ((const unsigned char *)file.tensors[t].data)[b];
            (void)byte;
            hone_gguf_close(&file);
        } else {
            CHECK_CONTAINS(err.message, "damaged.gguf: ");
        }
        hone_error_clear(&err);
        whole[i] = kept;
    }
    hone_free(whole);
}

int main(void) {
    make_test_folder();
    RUN(other_files);
    RUN(versions);
    RUN(counts);
    RUN(keys);
    RUN(arrays);
    RUN(alignments);
    RUN(tensors);
    RUN(dimensions);
    RUN(names_and_places);
    RUN(unknown_types);
    RUN(cut_anywhere);
    RUN(damaged_anywhere);
    remove_test_folder();
    return check_report();
}
