// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/nearest.h"

enum { BUFFER_BYTES = 1 << 20 };

static hone_status fail_path(HoneError *err, hone_status status, const char *path,
                             const char *doing) {
    return hone_fail(err, status, "%s: cannot %s: %s", path, doing, strerror(errno));
}

// A file that is not there is often one that is spelled otherwise.
static hone_status fail_open(HoneError *err, const char *path) {
    const int reason = errno;
    char near[1024];
    if (reason == ENOENT && hone_nearest_file(path, near, sizeof near))
        return hone_fail(err, HONE_ERROR_INPUT, "%s: cannot open: %s; did you mean %s?", path,
                         strerror(reason), near);
    errno = reason;
    return fail_path(err, HONE_ERROR_INPUT, path, "open");
}

// Open a regular file for reading; what is missing or unreadable is the user's input.
static hone_status open_input(const char *path, int *descriptor, size_t *bytes, HoneError *err) {
    // A pipe without a writer would be waited for.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail_open(err, path);
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        bool folder = S_ISDIR(info.st_mode);
        close(fd);
        return hone_fail(err, HONE_ERROR_INPUT, "%s: %s", path,
                         folder ? "is a folder, a file is wanted" : "is not a regular file");
    }
    *descriptor = fd;
    *bytes = (size_t)info.st_size;
    return HONE_OK;
}

hone_status hone_file_map(const char *path, FileMap *map, HoneError *err) {
    *map = (FileMap){0};
    int fd;
    size_t bytes;
    RETURN_IF_ERROR(open_input(path, &fd, &bytes, err));
    void *data = NULL;
    if (bytes > 0) data = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    int mapped_errno = errno;
    close(fd);
    if (data == MAP_FAILED) {
        errno = mapped_errno;
        return fail_path(err, HONE_ERROR_IO, path, "map");
    }
    char *copy = hone_strdup(path);
    if (!copy) {
        if (data) munmap(data, bytes);
        return hone_fail_memory(err, strlen(path) + 1, "a path");
    }
    *map = (FileMap){data, bytes, copy};
    return HONE_OK;
}

// Lay the files over an address range that is reserved already.
static hone_status map_into(const char *const *files, int count, char *range, const size_t *begin,
                            const size_t *bytes, HoneError *err) {
    for (int i = 0; i < count; i++) {
        int fd;
        size_t now;
        RETURN_IF_ERROR(open_input(files[i], &fd, &now, err));
        void *data = range;
        if (bytes[i] > 0 && now == bytes[i])
            data = mmap(range + begin[i], now, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
        int mapped_errno = errno;
        close(fd);
        if (now != bytes[i])
            return hone_fail(err, HONE_ERROR_IO, "%s: had %zu bytes and has %zu now", files[i],
                             bytes[i], now);
        if (data == MAP_FAILED) {
            errno = mapped_errno;
            return fail_path(err, HONE_ERROR_IO, files[i], "map");
        }
    }
    return HONE_OK;
}

hone_status hone_files_map(const char *path, const char *const *files, int count, FileMap *map,
                           size_t *begin, size_t *bytes, HoneError *err) {
    *map = (FileMap){0};
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        int fd;
        RETURN_IF_ERROR(open_input(files[i], &fd, &bytes[i], err));
        close(fd);
        begin[i] = total;
        total += (bytes[i] + page - 1) / page * page;
    }
    char *copy = hone_strdup(path);
    if (!copy) return hone_fail_memory(err, strlen(path) + 1, "a path");
    *map = (FileMap){NULL, total, copy};
    if (total == 0) return HONE_OK;
    char *range = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    hone_status status = HONE_OK;
    if (range == MAP_FAILED) {
        status = fail_path(err, HONE_ERROR_MEMORY, path, "reserve addresses for");
    } else {
        map->data = (const unsigned char *)range;
        status = map_into(files, count, range, begin, bytes, err);
    }
    if (status != HONE_OK) hone_file_unmap(map);
    return status;
}

void hone_file_unmap(FileMap *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->bytes);
    hone_free(map->path);
    *map = (FileMap){0};
}

// Into a file that lies in memory: the kernel reads the pages, so one that is gone is an error
// number and no signal.
static int copy_into(int descriptor, const FileMap *map) {
    for (size_t done = 0; done < map->bytes;) {
        const ssize_t put = write(descriptor, map->data + done, map->bytes - done);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return put < 0 ? errno : ENOSPC;
        done += (size_t)put;
    }
    void *at = (void *)(uintptr_t)map->data;
    void *copy = mmap(at, map->bytes, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, 0);
    return copy == MAP_FAILED ? errno : 0;
}

hone_status hone_file_copy(FileMap *map, HoneError *err) {
    if (map->bytes == 0) return HONE_OK;
    const int descriptor = memfd_create("hone", MFD_CLOEXEC);
    const int failed = descriptor < 0 ? errno : copy_into(descriptor, map);
    if (descriptor >= 0) close(descriptor);
    if (failed == EFAULT)
        return hone_fail(err, HONE_ERROR_IO, "%s: became shorter while it was read", map->path);
    if (failed == ENOMEM || failed == ENOSPC) return hone_fail_memory(err, map->bytes, map->path);
    errno = failed;
    return failed ? fail_path(err, HONE_ERROR_IO, map->path, "copy") : HONE_OK;
}

void hone_file_drop(const FileMap *map, const void *data, size_t bytes) {
    static const uintptr_t window = 64 << 10; // the kernel maps so much at once around what is read
    uintptr_t begin = (uintptr_t)data, end = begin + bytes;
    uintptr_t base = (uintptr_t)map->data, limit = base + map->bytes;
    if (begin < base || end > limit || end <= begin) return;
    begin = begin / window * window;
    end = (end + window - 1) / window * window;
    if (begin < base) begin = base;
    if (end > limit) end = limit;
    madvise((void *)begin, end - begin, MADV_DONTNEED);
}

hone_status hone_file_read(const char *path, char **text, size_t *bytes, HoneError *err) {
    *text = NULL;
    int fd;
    size_t size;
    RETURN_IF_ERROR(open_input(path, &fd, &size, err));
    char *data = hone_alloc(size + 1);
    if (!data) {
        close(fd);
        return hone_fail_memory(err, size + 1, path);
    }
    size_t done = 0;
    while (done < size) {
        ssize_t got = read(fd, data + done, size - done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        done += (size_t)got;
    }
    close(fd);
    if (done < size) {
        hone_free(data);
        return hone_fail(err, HONE_ERROR_IO, "%s: read %zu of %zu bytes", path, done, size);
    }
    data[size] = '\0';
    *text = data;
    if (bytes) *bytes = size;
    return HONE_OK;
}

// ---- writing -----------------------------------------------------------------------------------

static void writer_release(FileWriter *writer) {
    hone_free(writer->path);
    hone_free(writer->temporary);
    hone_free(writer->buffer);
    *writer = (FileWriter){.descriptor = -1};
}

hone_status hone_writer_open(FileWriter *writer, const char *path, HoneError *err) {
    struct stat existing;
    *writer = (FileWriter){.descriptor = -1};
    if (!*path) return hone_fail(err, HONE_ERROR_ARGUMENT, "the name of a file to write is empty");
    // The rename at the end would put a file in the place of a device or a folder, or of a link to
    // them.
    if (stat(path, &existing) == 0 && !S_ISREG(existing.st_mode))
        return hone_fail(err, HONE_ERROR_IO, "%s: cannot write: it is not a regular file", path);
    char target[PATH_MAX];
    if (lstat(path, &existing) == 0 && S_ISLNK(existing.st_mode)) {
        if (!realpath(path, target)) return fail_path(err, HONE_ERROR_IO, path, "write");
        path = target;
    }
    size_t length = strlen(path);
    *writer = (FileWriter){.descriptor = -1,
                           .path = hone_strdup(path),
                           .temporary = hone_alloc(length + 5),
                           .buffer = hone_alloc(BUFFER_BYTES)};
    if (!writer->path || !writer->temporary || !writer->buffer) {
        writer_release(writer);
        return hone_fail_memory(err, BUFFER_BYTES, "a write buffer");
    }
    snprintf(writer->temporary, length + 5, "%s.tmp", path);
    writer->descriptor = open(writer->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (writer->descriptor < 0) {
        const char *slash = strrchr(path, '/');
        hone_status status =
            errno == ENOENT && slash
                ? hone_fail(err, HONE_ERROR_IO, "%s: cannot write: there is no folder %.*s", path,
                            (int)(slash - path), path)
                : fail_path(err, HONE_ERROR_IO, path, "write");
        writer_release(writer);
        return status;
    }
    return HONE_OK;
}

static void write_all(FileWriter *writer, const char *bytes, size_t length) {
    while (length > 0 && writer->error_number == 0) {
        ssize_t put = write(writer->descriptor, bytes, length);
        if (put < 0) {
            if (errno != EINTR) writer->error_number = errno;
            continue;
        }
        bytes += put;
        length -= (size_t)put;
        writer->written += put;
    }
}

static void flush(FileWriter *writer) {
    write_all(writer, writer->buffer, writer->used);
    writer->used = 0;
}

void hone_writer_put(FileWriter *writer, const void *bytes, size_t length) {
    if (writer->error_number || length == 0) return;
    if (writer->used + length > BUFFER_BYTES) flush(writer);
    if (length > BUFFER_BYTES) {
        write_all(writer, bytes, length);
        return;
    }
    memcpy(writer->buffer + writer->used, bytes, length);
    writer->used += length;
}

int64_t hone_writer_offset(const FileWriter *writer) {
    return writer->written + (int64_t)writer->used;
}

void hone_writer_pad(FileWriter *writer, size_t alignment) {
    static const char zeros[64];
    while (writer->error_number == 0) {
        size_t over = (size_t)hone_writer_offset(writer) % alignment;
        if (over == 0) return;
        size_t need = alignment - over;
        hone_writer_put(writer, zeros, need < sizeof zeros ? need : sizeof zeros);
    }
}

// A new name in a folder is on the disk once the folder is. A file system that cannot sync folders
// keeps them in another way.
static int sync_folder_of(const char *path) {
    char *folder = hone_strdup(path);
    if (!folder) return ENOMEM;
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = '\0';
    const int descriptor = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = 0;
    if (descriptor >= 0 && fsync(descriptor) != 0 && (errno == EIO || errno == ENOSPC))
        failed = errno;
    if (descriptor >= 0) close(descriptor);
    hone_free(folder);
    return failed;
}

static hone_status fail_written(const FileWriter *writer, HoneError *err) {
    return hone_fail(err, HONE_ERROR_IO, "%s: cannot write: %s (after %lld bytes)", writer->path,
                     strerror(writer->error_number), (long long)writer->written);
}

hone_status hone_writer_commit(FileWriter *writer, HoneError *err) {
    flush(writer);
    if (!writer->error_number && fsync(writer->descriptor) != 0 && errno != EINVAL)
        writer->error_number = errno;
    if (close(writer->descriptor) != 0 && !writer->error_number) writer->error_number = errno;
    writer->descriptor = -1;
    if (!writer->error_number && rename(writer->temporary, writer->path) != 0)
        writer->error_number = errno;
    if (!writer->error_number) writer->error_number = sync_folder_of(writer->path);
    hone_status status = HONE_OK;
    if (writer->error_number) {
        unlink(writer->temporary);
        status = fail_written(writer, err);
    }
    writer_release(writer);
    return status;
}

void hone_writer_abort(FileWriter *writer) {
    if (writer->descriptor >= 0) {
        close(writer->descriptor);
        if (writer->temporary) unlink(writer->temporary);
    }
    writer_release(writer);
}

hone_status hone_writer_open_unnamed(FileWriter *writer, const char *path, HoneError *err) {
    *writer = (FileWriter){
        .descriptor = -1, .path = hone_strdup(path), .buffer = hone_alloc(BUFFER_BYTES)};
    hone_status status = HONE_OK;
    if (!writer->path || !writer->buffer)
        status = hone_fail_memory(err, BUFFER_BYTES, "a write buffer");
    if (status == HONE_OK) {
        writer->descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (writer->descriptor < 0 || unlink(path) != 0)
            status = fail_path(err, HONE_ERROR_IO, path, "write");
    }
    if (status != HONE_OK) hone_writer_abort(writer);
    return status;
}

hone_status hone_writer_map(FileWriter *writer, FileMap *map, HoneError *err) {
    *map = (FileMap){.path = hone_strdup(writer->path)};
    flush(writer);
    hone_status status = HONE_OK;
    if (!map->path) status = hone_fail_memory(err, 0, "a path");
    if (writer->error_number) status = fail_written(writer, err);
    if (status == HONE_OK && writer->written > 0) {
        const size_t bytes = (size_t)writer->written;
        void *data = mmap(NULL, bytes, PROT_READ, MAP_SHARED, writer->descriptor, 0);
        if (data == MAP_FAILED)
            status = fail_path(err, HONE_ERROR_IO, writer->path, "map");
        else
            map->data = data, map->bytes = bytes;
    }
    hone_writer_abort(writer);
    if (status != HONE_OK) hone_file_unmap(map);
    return status;
}

hone_status hone_file_write(const char *path, const void *bytes, size_t length, HoneError *err) {
    FileWriter writer;
    RETURN_IF_ERROR(hone_writer_open(&writer, path, err));
    hone_writer_put(&writer, bytes, length);
    return hone_writer_commit(&writer, err);
}

// ---- logs and folders --------------------------------------------------------------------------

hone_status hone_log_open(LogFile *log, const char *path, int64_t keep, HoneError *err) {
    *log = (LogFile){.descriptor = -1, .path = hone_strdup(path)};
    if (!log->path) return hone_fail_memory(err, strlen(path) + 1, "a path");
    log->descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    struct stat info;
    bool fine = log->descriptor >= 0 && fstat(log->descriptor, &info) == 0;
    if (fine && info.st_size > keep) fine = ftruncate(log->descriptor, keep) == 0;
    if (fine && (errno = sync_folder_of(path))) fine = false;
    if (!fine) {
        hone_status status = fail_path(err, HONE_ERROR_IO, path, "write");
        hone_log_close(log);
        return status;
    }
    return HONE_OK;
}

hone_status hone_log_line(LogFile *log, const char *line, HoneError *err) {
    size_t length = strlen(line);
    char *text = hone_alloc(length + 1);
    if (!text) return hone_fail_memory(err, length + 1, log->path);
    memcpy(text, line, length);
    text[length] = '\n';
    size_t done = 0;
    hone_status status = HONE_OK;
    while (done <= length && status == HONE_OK) {
        ssize_t put = write(log->descriptor, text + done, length + 1 - done);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) status = fail_path(err, HONE_ERROR_IO, log->path, "write");
        if (put > 0) done += (size_t)put;
    }
    hone_free(text);
    return status;
}

hone_status hone_log_sync(LogFile *log, HoneError *err) {
    if (fsync(log->descriptor) == 0 || errno == EINVAL) return HONE_OK;
    return fail_path(err, HONE_ERROR_IO, log->path, "write");
}

void hone_log_close(LogFile *log) {
    if (log->descriptor >= 0) close(log->descriptor);
    hone_free(log->path);
    *log = (LogFile){.descriptor = -1};
}

static hone_status not_a_folder(HoneError *err, const char *path) {
    return hone_fail(err, HONE_ERROR_IO, "%s: is a file, a folder is wanted", path);
}

hone_status hone_directory_check(const char *path, HoneError *err) {
    char *copy = hone_strdup(*path ? path : ".");
    if (!copy) return hone_fail_memory(err, strlen(path) + 1, "a path");
    struct stat info;
    int failed = stat(copy, &info); // the folder, or the nearest one above it that exists
    while (failed && (errno == ENOENT || errno == ENOTDIR)) {
        char *slash = strrchr(copy, '/');
        if (!slash && strcmp(copy, ".") == 0) break;
        if (slash > copy)
            *slash = '\0';
        else
            snprintf(copy, 2, slash ? "/" : "."); // a path has one character at least
        failed = stat(copy, &info);
    }
    hone_status status = HONE_OK;
    if (!failed && !S_ISDIR(info.st_mode))
        status = not_a_folder(err, copy);
    else if (failed || access(copy, W_OK | X_OK) != 0)
        status = fail_path(err, HONE_ERROR_IO, copy, "write into the folder");
    hone_free(copy);
    return status;
}

hone_status hone_directory_make(const char *path, HoneError *err) {
    char *copy = hone_strdup(path);
    if (!copy) return hone_fail_memory(err, strlen(path) + 1, "a path");
    hone_status status = HONE_OK;
    for (char *end = copy + 1; status == HONE_OK; end++) {
        if (*end != '/' && *end != '\0') continue;
        char kept = *end;
        *end = '\0';
        const bool made = mkdir(copy, 0777) == 0;
        const int number = errno;
        const bool fine = made || hone_is_directory(copy);
        errno = number;
        if (!fine)
            status = errno == EEXIST ? not_a_folder(err, copy)
                                     : fail_path(err, HONE_ERROR_IO, copy, "make the folder");
        if (made && (errno = sync_folder_of(copy)))
            status = fail_path(err, HONE_ERROR_IO, copy, "make the folder");
        *end = kept;
        if (kept == '\0') break;
    }
    hone_free(copy);
    return status;
}

hone_status hone_directory_lock(const char *path, int *lock, HoneError *err) {
    const int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return fail_path(err, HONE_ERROR_IO, path, "open the folder");
    if (flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(descriptor);
        return hone_fail(err, HONE_ERROR_IO, "%s: another run is writing into it", path);
    }
    *lock = descriptor + 1;
    return HONE_OK;
}

void hone_directory_unlock(int lock) {
    if (lock > 0) close(lock - 1);
}

void hone_directory_each(const char *path, void (*visit)(void *user, const char *name),
                         void *user) {
    DIR *directory = opendir(path);
    if (!directory) return;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            visit(user, entry->d_name);
    closedir(directory);
}

void hone_file_remove(const char *path) {
    unlink(path);
}

void hone_directory_remove(const char *path) {
    rmdir(path);
}

char *hone_directory_nearest(const char *path) {
    char *folder = hone_strdup(path);
    while (folder && *folder && !hone_is_directory(folder)) {
        char *slash = strrchr(folder, '/');
        if (slash == folder) slash++; // "/" stays
        if (slash && *slash)
            *slash = '\0';
        else
            *folder = '\0';
    }
    if (!folder || *folder) return folder;
    hone_free(folder);
    return hone_strdup(".");
}

bool hone_is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool hone_is_file(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool hone_same_file(const char *a, const char *b) {
    struct stat a_info, b_info;
    return stat(a, &a_info) == 0 && stat(b, &b_info) == 0 && a_info.st_dev == b_info.st_dev &&
           a_info.st_ino == b_info.st_ino;
}

char *hone_path_join(const char *folder, const char *name) {
    size_t length = strlen(folder);
    bool slash = length > 0 && folder[length - 1] == '/';
    char *path = hone_alloc(length + strlen(name) + 2);
    if (path)
        snprintf(path, length + strlen(name) + 2, "%s%s%s", folder, slash || !length ? "" : "/",
                 name);
    return path;
}
