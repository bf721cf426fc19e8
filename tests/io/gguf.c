// SPDX-License-Identifier: Apache-2.0
// GGUF: a file of gguf-py's, round trips, copying metadata, and the real model where there is one.
#include <time.h>

#include "io/gguf.h"
#include "io_test.h"

static void reads_every_kind_of_key(void) {
    GgufFile file;
    HoneError err = {0};
    check_ok(hone_gguf_open(fixture("small.gguf"), &file, &err), &err);
    CHECK_INT(file.version, 3);
    CHECK_INT(file.alignment, 32);
    static const struct {
        const char *name;
        int64_t value;
    } integers[] = {{"t.u8", 200},           {"t.i8", -100},        {"t.u16", 60000},
                    {"t.i16", -30000},       {"t.u32", 4000000000}, {"t.i32", -2000000000},
                    {"t.i64", -(1LL << 62)}, {"t.bool", 1}};
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        int64_t value = 0;
        check_ok(hone_gguf_int(&file, integers[i].name, &value, &err), &err);
        CHECK_INT(value, integers[i].value);
    }
    int64_t integer;
    check_refused(hone_gguf_int(&file, "t.u64", &integer, &err), HONE_ERROR_INPUT, &err, "t.u64");
    double real = 0;
    check_ok(hone_gguf_float(&file, "t.f32", &real, &err), &err);
    CHECK(real == 0.25);
    check_ok(hone_gguf_float(&file, "t.f64", &real, &err), &err);
    CHECK(real == 1e-300);
    GgufString string = {0};
    check_ok(hone_gguf_string(&file, "t.string", &string, &err), &err);
    CHECK(string.length == 12 && memcmp(string.data, "h\xc3\xa9llo\nworld", 12) == 0);
    hone_gguf_close(&file);
}

static void reads_arrays(void) {
    GgufFile file;
    HoneError err = {0};
    check_ok(hone_gguf_open(fixture("small.gguf"), &file, &err), &err);
    GgufString *strings = NULL;
    int32_t *integers = NULL;
    float *reals = NULL;
    int64_t count = 0;
    check_ok(hone_gguf_strings(&file, "t.strings", &strings, &count, &err), &err);
    CHECK_INT(count, 4);
    CHECK(strings[1].length == 0 && strings[3].length == 3 &&
          memcmp(strings[3].data, "\xe5\xa5\xbd", 3) == 0);
    check_ok(hone_gguf_ints(&file, "t.ints", &integers, &count, &err), &err);
    CHECK(count == 3 && integers[0] == 1 && integers[1] == -2 && integers[2] == 3);
    hone_free(integers);
    check_ok(hone_gguf_ints(&file, "t.bools", &integers, &count, &err), &err);
    CHECK(count == 2 && integers[0] == 1 && integers[1] == 0);
    check_ok(hone_gguf_floats(&file, "t.floats", &reals, &count, &err), &err);
    CHECK(count == 2 && reals[0] == 0.5f && reals[1] == -1.5f);
    hone_free(strings);
    hone_free(integers);
    hone_free(reals);
    check_refused(hone_gguf_ints(&file, "t.floats", &integers, &count, &err), HONE_ERROR_INPUT,
                  &err, "t.floats is of type array of f32");
    check_refused(hone_gguf_strings(&file, "t.nothing", &strings, &count, &err), HONE_ERROR_INPUT,
                  &err, "t.nothing is missing");
    check_refused(hone_gguf_string(&file, "t.u8", strings, &err), HONE_ERROR_INPUT, &err,
                  "t.u8 is of type u8, string is wanted");
    hone_gguf_close(&file);
}

static void lists_tensors(void) {
    GgufFile file;
    HoneError err = {0};
    check_ok(hone_gguf_open(fixture("small.gguf"), &file, &err), &err);
    CHECK_INT(file.tensor_count, 7);
    const GgufTensor *cube = hone_gguf_tensor(&file, "cube");
    CHECK(cube && cube->rank == 3 && cube->shape[0] == 2 && cube->shape[1] == 3 &&
          cube->shape[2] == 5 && cube->bytes == 120 && cube->dtype == HONE_F32);
    const GgufTensor *q8_0 = hone_gguf_tensor(&file, "q8_0");
    CHECK(q8_0 && q8_0->dtype == HONE_Q8_0 && q8_0->bytes == 136);
    const GgufTensor *named = hone_gguf_tensor(&file, "nvfp4"); // known by name only
    CHECK(named && named->dtype == 40 && named->data == NULL && named->bytes == 0);
    CHECK(hone_gguf_tensor(&file, "nothing") == NULL);
    hone_gguf_close(&file);
}

static void write_small(const char *path, HoneError *err) {
    GgufWriter *writer = NULL;
    static const float values[35] = {1, 2, 3};
    static const unsigned char blocks[68] = {9};
    check_ok(hone_gguf_writer_create(&writer, err), err);
    hone_gguf_put_string(writer, "general.architecture", "llama");
    hone_gguf_put_u32(writer, "general.alignment", 64);
    hone_gguf_put_f32(writer, "f", 0.1f);
    hone_gguf_put_bool(writer, "b", true);
    hone_gguf_add_tensor(writer, "odd", HONE_F32, 2, (const int64_t[]){5, 7});
    hone_gguf_add_tensor(writer, "q", HONE_Q8_0, 2, (const int64_t[]){2, 32});
    check_ok(hone_gguf_writer_begin(writer, path, err), err);
    check_ok(hone_gguf_write_tensor(writer, values, sizeof values, err), err);
    check_ok(hone_gguf_write_tensor(writer, blocks, sizeof blocks, err), err);
    check_ok(hone_gguf_writer_commit(writer, err), err);
    hone_gguf_writer_free(writer);
}

static void round_trip(void) {
    HoneError err = {0};
    GgufFile file;
    char path[192];
    snprintf(path, sizeof path, "%s", in_folder("round.gguf"));
    write_small(path, &err);
    check_ok(hone_gguf_open(path, &file, &err), &err);
    CHECK_INT(file.alignment, 64);
    CHECK_INT(file.map.bytes % 64, 0); // the last tensor is padded too
    const GgufTensor *odd = hone_gguf_tensor(&file, "odd"), *q = hone_gguf_tensor(&file, "q");
    CHECK(odd && odd->shape[0] == 5 && odd->shape[1] == 7 && ((const float *)odd->data)[1] == 2);
    CHECK(q && ((const unsigned char *)q->data)[0] == 9);
    CHECK_INT((const char *)q->data - (const char *)odd->data, 192);
    double real = 0;
    check_ok(hone_gguf_float(&file, "f", &real, &err), &err);
    CHECK(real == (double)0.1f);
    hone_gguf_close(&file);
    CHECK(!hone_is_file(in_folder("round.gguf.tmp")));
}

// All keys and readable tensors of a file of gguf-py's, copied: the same bytes in each.
static void copies_a_file(void) {
    HoneError err = {0};
    GgufFile from, to;
    GgufWriter *writer = NULL;
    check_ok(hone_gguf_open(fixture("small.gguf"), &from, &err), &err);
    check_ok(hone_gguf_writer_create(&writer, &err), &err);
    for (int64_t i = 0; i < from.key_count; i++) hone_gguf_put_raw(writer, &from.keys[i]);
    for (int64_t i = 0; i < from.tensor_count; i++)
        if (from.tensors[i].data)
            hone_gguf_add_tensor(writer, from.tensors[i].name, from.tensors[i].dtype,
                                 from.tensors[i].rank, from.tensors[i].shape);
    check_ok(hone_gguf_writer_begin(writer, in_folder("copy.gguf"), &err), &err);
    for (int64_t i = 0; i < from.tensor_count; i++)
        if (from.tensors[i].data)
            check_ok(
                hone_gguf_write_tensor(writer, from.tensors[i].data, from.tensors[i].bytes, &err),
                &err);
    check_ok(hone_gguf_writer_commit(writer, &err), &err);
    hone_gguf_writer_free(writer);
    check_ok(hone_gguf_open(in_folder("copy.gguf"), &to, &err), &err);
    CHECK_INT(to.key_count, from.key_count);
    CHECK_INT(to.tensor_count, from.tensor_count - 1);
    for (int64_t i = 0; i < from.key_count; i++)
        CHECK(to.keys[i].type == from.keys[i].type &&
              to.keys[i].raw_bytes == from.keys[i].raw_bytes &&
              memcmp(to.keys[i].raw, from.keys[i].raw, to.keys[i].raw_bytes) == 0);
    for (int64_t i = 0; i < to.tensor_count; i++) {
        const GgufTensor *tensor = &to.tensors[i];
        const GgufTensor *origin = hone_gguf_tensor(&from, tensor->name);
        CHECK(origin && origin->bytes == tensor->bytes &&
              memcmp(origin->data, tensor->data, tensor->bytes) == 0);
    }
    hone_gguf_close(&from);
    hone_gguf_close(&to);
}

static void writer_refuses(void) {
    HoneError err = {0};
    GgufWriter *writer = NULL;
    const char *path = in_folder("never.gguf");
    float value = 1;
    check_ok(hone_gguf_writer_create(&writer, &err), &err);
    hone_gguf_put_u32(writer, "a", 1);
    hone_gguf_put_u32(writer, "a", 2);
    hone_gguf_put_u32(writer, "later", 3); // sticky: the first failure stays
    check_refused(hone_gguf_writer_begin(writer, path, &err), HONE_ERROR_ARGUMENT, &err,
                  "key \"a\" is written twice");
    hone_gguf_writer_free(writer);
    check_ok(hone_gguf_writer_create(&writer, &err), &err);
    hone_gguf_add_tensor(writer, "q", HONE_Q8_0, 1, (const int64_t[]){33});
    check_refused(hone_gguf_writer_begin(writer, path, &err), HONE_ERROR_ARGUMENT, &err,
                  "tensor q: type Q8_0");
    hone_gguf_writer_free(writer);
    check_ok(hone_gguf_writer_create(&writer, &err), &err);
    hone_gguf_add_tensor(writer, "x", HONE_F32, 1, (const int64_t[]){1});
    hone_gguf_add_tensor(writer, "y", HONE_F32, 1, (const int64_t[]){1});
    check_ok(hone_gguf_writer_begin(writer, path, &err), &err);
    check_ok(hone_gguf_write_tensor(writer, &value, 4, &err), &err);
    check_refused(hone_gguf_write_tensor(writer, &value, 3, &err), HONE_ERROR_ARGUMENT, &err,
                  "3 bytes given, 4 planned");
    check_refused(hone_gguf_writer_commit(writer, &err), HONE_ERROR_ARGUMENT, &err,
                  "1 of 2 tensors written");
    hone_gguf_writer_free(writer); // removes the temporary
    CHECK(!hone_is_file(path) && !hone_is_file(in_folder("never.gguf.tmp")));
    check_ok(hone_gguf_writer_create(&writer, &err), &err);
    check_refused(hone_gguf_writer_begin(writer, in_folder("no/such/folder.gguf"), &err),
                  HONE_ERROR_IO, &err, "no/such/folder.gguf");
    hone_gguf_writer_free(writer);
}

// /dev/full takes no byte: the failure comes with the tensor or at the commit, and nothing is left.
static void disk_full(void) {
    HoneError err = {0};
    GgufWriter *writer = NULL;
    char path[192];
    snprintf(path, sizeof path, "%s", in_folder("full.gguf"));
    CHECK(symlink("/dev/full", in_folder("full.gguf.tmp")) == 0);
    size_t bytes = 4 << 20;
    float *data = hone_calloc(1, bytes);
    int64_t shape = (int64_t)(bytes / 4);
    check_ok(hone_gguf_writer_create(&writer, &err), &err);
    hone_gguf_add_tensor(writer, "x", HONE_F32, 1, &shape);
    check_ok(hone_gguf_writer_begin(writer, path, &err), &err);
    check_refused(hone_gguf_write_tensor(writer, data, bytes, &err), HONE_ERROR_IO, &err,
                  "No space left on device");
    hone_gguf_writer_free(writer);
    hone_free(data);
    CHECK(!hone_is_file(path));
}

// Parsing must cost no more than the metadata: milliseconds for 49k tokens and 49k merges.
static void opens_the_real_model(void) {
    const char *path = getenv("HONE_MODEL");
    if (!path || !hone_is_file(path)) {
        printf("     (no $HONE_MODEL: skipped)\n");
        return;
    }
    GgufFile file;
    HoneError err = {0};
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        check_ok(hone_gguf_open(path, &file, &err), &err);
        clock_gettime(CLOCK_MONOTONIC, &end);
        double ms = (double)(end.tv_sec - begin.tv_sec) * 1e3 +
                    (double)(end.tv_nsec - begin.tv_nsec) * 1e-6;
        if (ms < best) best = ms;
        if (i < 4) hone_gguf_close(&file);
    }
    printf("     opened in %.2f ms, %lld tensors, %lld keys\n", best, (long long)file.tensor_count,
           (long long)file.key_count);
    CHECK(best < 100);
    GgufString *tokens = NULL, architecture = {0};
    int64_t count = 0;
    check_ok(hone_gguf_string(&file, "general.architecture", &architecture, &err), &err);
    CHECK(architecture.length == 5 && memcmp(architecture.data, "llama", 5) == 0);
    check_ok(hone_gguf_strings(&file, "tokenizer.ggml.tokens", &tokens, &count, &err), &err);
    CHECK(count > 0 && hone_gguf_tensor(&file, "token_embd.weight")->shape[0] == count);
    hone_free(tokens);
    hone_gguf_close(&file);
}

int main(void) {
    make_test_folder();
    RUN(reads_every_kind_of_key);
    RUN(reads_arrays);
    RUN(lists_tensors);
    RUN(round_trip);
    RUN(copies_a_file);
    RUN(writer_refuses);
    RUN(disk_full);
    RUN(opens_the_real_model);
    remove_test_folder();
    return check_report();
}
