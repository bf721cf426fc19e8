// SPDX-License-Identifier: Apache-2.0
// Files in a folder of their own, which the test removes again.
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "check.h"

typedef struct Folder {
    char path[256];
} Folder;

static Folder folder_make(void) {
    Folder folder;
    const char *base = getenv("TMPDIR");
    snprintf(folder.path, sizeof folder.path, "%s/hone_file_XXXXXX", base ? base : "/tmp");
    CHECK(mkdtemp(folder.path) != NULL);
    return folder;
}

static const char *in_folder(const Folder *folder, const char *name, char path[512]) {
    snprintf(path, 512, "%s/%s", folder->path, name);
    return path;
}

static void folder_remove(const Folder *folder) {
    CHECK(rmdir(folder->path) == 0); // fails if a temporary was left behind
}

static void check_content(const char *path, const char *want) {
    HoneError err = {0};
    char *text = NULL;
    size_t bytes = 0;
    if (CHECK(hone_file_read(path, &text, &bytes, &err) == HONE_OK)) {
        CHECK_STRING(text, want);
        CHECK_INT(bytes, strlen(want));
    }
    hone_free(text);
}

static void check_nearest(const char *path, const char *want) {
    char *found = hone_directory_nearest(path);
    CHECK_STRING(found, want);
    hone_free(found);
}

static void the_nearest_folder_is_found(void) {
    Folder folder = folder_make();
    char path[512];
    check_nearest(folder.path, folder.path);
    check_nearest(in_folder(&folder, "not", path), folder.path);
    check_nearest(in_folder(&folder, "not/there/yet", path), folder.path);
    check_nearest("/hone-is-not-there/x", "/");
    check_nearest("hone-is-not-there/x", ".");
    check_nearest("", ".");
    folder_remove(&folder);
}

static void a_file_appears_when_committed(void) {
    Folder folder = folder_make();
    char path[512], temporary[512];
    in_folder(&folder, "a", path);
    in_folder(&folder, "a.tmp", temporary);
    HoneError err = {0};
    FileWriter writer;
    CHECK(hone_writer_open(&writer, path, &err) == HONE_OK);
    hone_writer_put(&writer, "abc", 3);
    hone_writer_pad(&writer, 8);
    CHECK_INT(hone_writer_offset(&writer), 8);
    hone_writer_pad(&writer, 8);
    hone_writer_put(&writer, "", 0);
    CHECK_INT(hone_writer_offset(&writer), 8);
    CHECK(hone_is_file(temporary) && !hone_is_file(path));
    CHECK(hone_writer_commit(&writer, &err) == HONE_OK);
    CHECK(!hone_is_file(temporary) && hone_is_file(path));
    FileMap map;
    CHECK(hone_file_map(path, &map, &err) == HONE_OK);
    CHECK(map.bytes == 8 && memcmp(map.data, "abc\0\0\0\0", 8) == 0);
    CHECK_STRING(map.path, path);
    hone_file_drop(&map, map.data, map.bytes);
    CHECK(map.data[0] == 'a');
    hone_file_unmap(&map);
    hone_file_unmap(&map);
    unlink(path);
    folder_remove(&folder);
}

static void an_aborted_file_leaves_the_old_one(void) {
    Folder folder = folder_make();
    char path[512];
    HoneError err = {0};
    FileWriter writer;
    CHECK(hone_file_write(in_folder(&folder, "a", path), "old", 3, &err) == HONE_OK);
    CHECK(hone_writer_open(&writer, path, &err) == HONE_OK);
    hone_writer_put(&writer, "new", 3);
    check_content(path, "old");
    hone_writer_abort(&writer);
    check_content(path, "old");
    CHECK(hone_file_write(path, "newer", 5, &err) == HONE_OK);
    check_content(path, "newer");
    unlink(path);
    folder_remove(&folder);
}

static void large_files_are_whole(void) {
    enum { BYTES = 5 * 1000 * 1000 };
    Folder folder = folder_make();
    char path[512];
    HoneError err = {0};
    FileWriter writer;
    unsigned char *bytes = hone_alloc(BYTES);
    for (int i = 0; i < BYTES; i++) bytes[i] = (unsigned char)(i * 31 + i / 1000);
    CHECK(hone_writer_open(&writer, in_folder(&folder, "a", path), &err) == HONE_OK);
    size_t done = 0; // pieces below, at and beyond the buffer's megabyte
    static const size_t pieces[] = {1, 1 << 20, 3, (1 << 20) + 1, (1 << 20) - 4, 777};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; done += pieces[i++]) {
        hone_writer_put(&writer, bytes + done, pieces[i]);
        CHECK_INT(hone_writer_offset(&writer), done + pieces[i]);
    }
    hone_writer_put(&writer, bytes + done, BYTES - done);
    CHECK(hone_writer_commit(&writer, &err) == HONE_OK);
    FileMap map;
    CHECK(hone_file_map(path, &map, &err) == HONE_OK);
    CHECK(map.bytes == BYTES && memcmp(map.data, bytes, BYTES) == 0);
    hone_file_unmap(&map);
    hone_free(bytes);
    unlink(path);
    folder_remove(&folder);
}

// A limit on the file's size stands for a full disk: write fails in the same way, with EFBIG.
static void a_full_disk_is_reported(void) {
    Folder folder = folder_make();
    char path[512];
    HoneError err = {0};
    CHECK(hone_file_write(in_folder(&folder, "a", path), "old", 3, &err) == HONE_OK);
    struct rlimit kept, small;
    CHECK(getrlimit(RLIMIT_FSIZE, &kept) == 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    small = kept;
    small.rlim_cur = 100000;
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    char *bytes = hone_calloc(1, 300000);
    hone_status status = hone_file_write(path, bytes, 300000, &err);
    FileWriter writer;
    CHECK(hone_writer_open(&writer, path, NULL) == HONE_OK);
    for (int i = 0; i < 100; i++) hone_writer_put(&writer, bytes, 300000);
    hone_writer_pad(&writer, 4096); // ends though nothing can be written
    hone_writer_abort(&writer);
    setrlimit(RLIMIT_FSIZE, &kept);
    signal(SIGXFSZ, handler);
    CHECK_INT(status, HONE_ERROR_IO);
    CHECK_CONTAINS(err.message, path);
    CHECK_CONTAINS(err.message, "after 100000 bytes");
    check_content(path, "old");
    hone_free(bytes);
    unlink(path);
    folder_remove(&folder); // no temporary
}

static void what_cannot_be_opened_is_said(void) {
    Folder folder = folder_make();
    char path[512];
    HoneError err = {0};
    FileMap map;
    char *text;
    in_folder(&folder, "missing", path);
    CHECK_INT(hone_file_map(path, &map, &err), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, path);
    CHECK(!map.data && !map.path);
    hone_error_clear(&err);
    CHECK_INT(hone_file_read(path, &text, NULL, &err), HONE_ERROR_INPUT);
    CHECK(text == NULL);
    hone_error_clear(&err);
    CHECK_INT(hone_file_read(folder.path, &text, NULL, &err), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "is a folder");
    hone_error_clear(&err);
    CHECK_INT(hone_file_map("/dev/null", &map, &err), HONE_ERROR_INPUT);
    CHECK_CONTAINS(err.message, "not a regular file");
    hone_error_clear(&err);
    CHECK_INT(hone_file_write(in_folder(&folder, "no/such/folder", path), "x", 1, &err),
              HONE_ERROR_IO);
    CHECK_CONTAINS(err.message, path);
    folder_remove(&folder);
}

static void an_empty_file_is_a_file(void) {
    Folder folder = folder_make();
    char path[512];
    HoneError err = {0};
    FileMap map;
    CHECK(hone_file_write(in_folder(&folder, "a", path), NULL, 0, &err) == HONE_OK);
    CHECK(hone_file_map(path, &map, &err) == HONE_OK);
    CHECK(map.data == NULL && map.bytes == 0);
    hone_file_unmap(&map);
    check_content(path, "");
    unlink(path);
    folder_remove(&folder);
}

static void a_log_is_appended_to(void) {
    Folder folder = folder_make();
    char path[512];
    HoneError err = {0};
    LogFile log;
    in_folder(&folder, "log", path);
    for (int round = 0; round < 2; round++) {
        CHECK(hone_log_open(&log, path, INT64_MAX, &err) == HONE_OK);
        CHECK(hone_log_line(&log, "{}", &err) == HONE_OK);
        CHECK(hone_log_line(&log, "", &err) == HONE_OK);
        hone_log_close(&log);
    }
    check_content(path, "{}\n\n{}\n\n");
    CHECK(hone_log_open(&log, path, 4, &err) == HONE_OK);
    CHECK(hone_log_line(&log, "[]", &err) == HONE_OK);
    hone_log_close(&log);
    check_content(path, "{}\n\n[]\n");
    CHECK(hone_log_open(&log, path, 0, &err) == HONE_OK);
    hone_log_close(&log);
    hone_log_close(&log);
    check_content(path, "");
    unlink(path);
    CHECK_INT(hone_log_open(&log, in_folder(&folder, "no/log", path), 0, &err), HONE_ERROR_IO);
    folder_remove(&folder);
}

static void a_full_device_fails_the_log(void) {
    if (access("/dev/full", W_OK) != 0) return;
    HoneError err = {0};
    LogFile log;
    CHECK(hone_log_open(&log, "/dev/full", INT64_MAX, &err) == HONE_OK);
    CHECK_INT(hone_log_line(&log, "{}", &err), HONE_ERROR_IO);
    CHECK_CONTAINS(err.message, "/dev/full: cannot write");
    hone_log_close(&log);
}

static void folders_are_made_with_parents(void) {
    Folder folder = folder_make();
    char path[512];
    HoneError err = {0};
    in_folder(&folder, "a/b//c/", path);
    CHECK(hone_directory_make(path, &err) == HONE_OK);
    CHECK(hone_directory_make(path, &err) == HONE_OK);
    CHECK(hone_is_directory(path) && !hone_is_file(path));
    CHECK(hone_directory_check(path, &err) == HONE_OK);
    CHECK(hone_directory_check("no/such//folder/", &err) == HONE_OK && !hone_is_directory("no"));
    CHECK(hone_directory_check("/no-such-folder", &err) == HONE_OK);
    in_folder(&folder, "a/b/c/file", path);
    CHECK(hone_file_write(path, "x", 1, &err) == HONE_OK);
    CHECK_INT(hone_directory_make(path, &err), HONE_ERROR_IO);
    CHECK_CONTAINS(err.message, "file: is a file, a folder is wanted");
    CHECK_CONTAINS(err.message, path);
    char below[512];
    CHECK_INT(hone_directory_check(in_folder(&folder, "a/b/c/file/x/y", below), &err),
              HONE_ERROR_IO);
    CHECK_CONTAINS(err.message, path);
    CHECK_CONTAINS(err.message, "file: is a file, a folder is wanted");
    unlink(path);
    rmdir(in_folder(&folder, "a/b/c", path));
    rmdir(in_folder(&folder, "a/b", path));
    rmdir(in_folder(&folder, "a", path));
    folder_remove(&folder);
}

static void paths_are_joined(void) {
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}, {"a", "", "a/"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = hone_path_join(cases[i][0], cases[i][1]);
        CHECK_STRING(path, cases[i][2]);
        hone_free(path);
    }
}

int main(void) {
    RUN(the_nearest_folder_is_found);
    RUN(a_file_appears_when_committed);
    RUN(an_aborted_file_leaves_the_old_one);
    RUN(large_files_are_whole);
    RUN(a_full_disk_is_reported);
    RUN(what_cannot_be_opened_is_said);
    RUN(an_empty_file_is_a_file);
    RUN(a_log_is_appended_to);
    RUN(a_full_device_fails_the_log);
    RUN(folders_are_made_with_parents);
    RUN(paths_are_joined);
    return check_report();
}
