// SPDX-License-Identifier: Apache-2.0
// The command with faults in its system calls: linked with --wrap, so that what Hone asks of the
// system comes here first. HONE_FAULT=KIND:N lets the N-th call of a kind fail (counted from 0, in
// the order they come), HONE_FAULT_COUNTS=FILE writes how many calls of each kind there were.
//
//     write    the disk is full from the N-th write on, in the middle of it
//     sync, rename, folder    the N-th such call fails (EIO, EIO, ENOSPC)
//     open     no more files can be made from the N-th on
//     read     the N-th read fails (EIO)
//     map      the N-th mapping of a file fails
//     memory   the N-th block of memory is not there, and no later one, also for the JSON library
//     block    the N-th block is not there, later ones are
//     thread   no thread starts from the N-th on
//     signal   SIGTERM comes in the middle of the N-th write
//     kill     SIGKILL comes before the N-th change to a disk
//     cut      the power goes before the N-th change: what was not synced is lost
//     torn     the same, but new names are there and the last bytes written are not
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef enum Kind {
    WRITE,
    SYNC,
    RENAME,
    FOLDER,
    OPEN,
    READ,
    MAP,
    MEMORY,
    BLOCK,
    THREAD,
    SIGNAL,
    KILL,
    CUT,
    TORN,
    KINDS
} Kind;

static const char *const names[KINDS] = {"write",  "sync", "rename", "folder", "open",
                                         "read",   "map",  "memory", "block",  "thread",
                                         "signal", "kill", "cut",    "torn"};
static _Atomic long counts[KINDS];
static Kind wanted = KINDS;
static long wanted_at;

static void write_counts(void) {
    FILE *file = fopen(getenv("HONE_FAULT_COUNTS"), "w");
    for (int kind = 0; file && kind < KINDS; kind++)
        fprintf(file, "%s %ld\n", names[kind], counts[kind]);
    if (file) fclose(file);
}

__attribute__((constructor)) static void read_plan(void) {
    const char *plan = getenv("HONE_FAULT");
    for (int kind = 0; plan && kind < KINDS; kind++) {
        const size_t length = strlen(names[kind]);
        if (strncmp(plan, names[kind], length) != 0 || plan[length] != ':') continue;
        wanted = (Kind)kind;
        wanted_at = strtol(plan + length + 1, NULL, 10);
    }
    if (getenv("HONE_FAULT_COUNTS")) atexit(write_counts);
}

static bool fails_once(Kind kind) {
    return atomic_fetch_add(&counts[kind], 1) == wanted_at && kind == wanted;
}

static bool fails_from_then_on(Kind kind) {
    return atomic_fetch_add(&counts[kind], 1) >= wanted_at && kind == wanted;
}

// ---- what a disk holds after the power went ----------------------------------------------------

typedef struct Change { // of a folder: what undoes it
    enum { MADE, MOVED } kind;
    char path[PATH_MAX], from[PATH_MAX], old[PATH_MAX]; // old: what a rename replaced
    bool synced, replaced;
} Change;

typedef struct Content {
    char path[PATH_MAX];
    off_t synced, length;
} Content;

enum { MOST = 4096 };
static Change *changes;
static Content *contents;
static int change_count, content_count;

static void path_of(int descriptor, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = '\0';
}

static bool tracks(void) {
    if (wanted != CUT && wanted != TORN) return false;
    if (!changes) changes = calloc(MOST, sizeof *changes);
    if (!contents) contents = calloc(MOST, sizeof *contents);
    return changes && contents && change_count < MOST - 1 && content_count < MOST - 1;
}

static Content *content_of(const char *path) {
    for (int i = 0; i < content_count; i++)
        if (strcmp(contents[i].path, path) == 0) return &contents[i];
    Content *made = &contents[content_count++];
    *made = (Content){0};
    snprintf(made->path, sizeof made->path, "%s", path);
    return made;
}

static Change *add_change(int kind, const char *path) {
    Change *change = &changes[change_count++];
    *change = (Change){.kind = kind};
    if (!realpath(path, change->path)) snprintf(change->path, PATH_MAX, "%s", path);
    return change;
}

static void sync_folder(const char *folder) {
    const size_t length = strlen(folder);
    for (int i = 0; i < change_count; i++) {
        const char *slash = strrchr(changes[i].path, '/');
        if (slash && (size_t)(slash - changes[i].path) == length &&
            strncmp(changes[i].path, folder, length) == 0)
            changes[i].synced = true;
    }
}

static int remove_entry(const char *path, const struct stat *info, int flag, struct FTW *place) {
    (void)info, (void)flag, (void)place;
    return remove(path);
}

static void undo(const Change *change) {
    if (change->kind == MADE) {
        nftw(change->path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
        return;
    }
    if (rename(change->path, change->from) == 0 && change->replaced)
        (void)!rename(change->old, change->path);
}

static void lose(void) {
    for (int i = 0; i < content_count; i++)
        if (contents[i].length > contents[i].synced)
            (void)!truncate(contents[i].path, contents[i].synced);
    for (int i = change_count - 1; wanted == CUT && i >= 0; i--)
        if (!changes[i].synced) undo(&changes[i]);
    for (int i = 0; i < change_count; i++)
        if (changes[i].replaced) remove(changes[i].old);
}

// Before every change to a disk.
static void before_change(void) {
    if (fails_once(KILL)) raise(SIGKILL);
    const bool cut = fails_once(CUT), torn = fails_once(TORN);
    if (!cut && !torn) return;
    if (tracks()) lose();
    raise(SIGKILL);
}

// ---- files -------------------------------------------------------------------------------------

int __real_open(const char *path, int flags, ...);
ssize_t __real_write(int descriptor, const void *bytes, size_t length);
ssize_t __real_read(int descriptor, void *bytes, size_t length);
int __real_fsync(int descriptor);
int __real_ftruncate(int descriptor, off_t length);
int __real_rename(const char *from, const char *to);
int __real_mkdir(const char *path, mode_t mode);
int __real_unlink(const char *path);
int __wrap_open(const char *path, int flags, ...);
ssize_t __wrap_write(int descriptor, const void *bytes, size_t length);
ssize_t __wrap_read(int descriptor, void *bytes, size_t length);
int __wrap_fsync(int descriptor);
int __wrap_ftruncate(int descriptor, off_t length);
int __wrap_rename(const char *from, const char *to);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_unlink(const char *path);

int __wrap_open(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (!(flags & O_CREAT)) return __real_open(path, flags);
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
    before_change();
    if (fails_from_then_on(OPEN)) {
        errno = EMFILE;
        return -1;
    }
    const bool there = access(path, F_OK) == 0;
    const int descriptor = __real_open(path, flags, mode);
    if (descriptor < 0 || !tracks()) return descriptor;
    char resolved[PATH_MAX];
    struct stat info;
    path_of(descriptor, resolved);
    if (!there) add_change(MADE, resolved);
    if (fstat(descriptor, &info) == 0) {
        Content *content = content_of(resolved);
        content->length = info.st_size;
        if (content->synced > info.st_size || there) content->synced = info.st_size;
    }
    return descriptor;
}

ssize_t __wrap_write(int descriptor, const void *bytes, size_t length) {
    char path[PATH_MAX];
    if (descriptor <= STDERR_FILENO) return __real_write(descriptor, bytes, length);
    before_change();
    if (fails_from_then_on(WRITE)) {
        if (counts[WRITE] - 1 == wanted_at && length > 1)
            return __real_write(descriptor, bytes, length / 2);
        errno = ENOSPC;
        return -1;
    }
    if (fails_once(SIGNAL)) {
        raise(SIGTERM);
        if (length > 1) length /= 2;
    }
    const ssize_t put = __real_write(descriptor, bytes, length);
    if (put > 0 && tracks()) {
        path_of(descriptor, path);
        content_of(path)->length += put;
    }
    return put;
}

ssize_t __wrap_read(int descriptor, void *bytes, size_t length) {
    if (fails_once(READ)) {
        errno = EIO;
        return -1;
    }
    return __real_read(descriptor, bytes, length);
}

int __wrap_fsync(int descriptor) {
    before_change();
    if (fails_once(SYNC)) {
        errno = EIO;
        return -1;
    }
    if (tracks()) {
        char path[PATH_MAX];
        struct stat info;
        path_of(descriptor, path);
        if (fstat(descriptor, &info) == 0 && S_ISDIR(info.st_mode))
            sync_folder(path);
        else
            content_of(path)->synced = content_of(path)->length;
    }
    return __real_fsync(descriptor);
}

int __wrap_ftruncate(int descriptor, off_t length) {
    before_change();
    if (tracks()) {
        char path[PATH_MAX];
        path_of(descriptor, path);
        Content *content = content_of(path);
        content->length = length;
        if (content->synced > length) content->synced = length;
    }
    return __real_ftruncate(descriptor, length);
}

int __wrap_rename(const char *from, const char *to) {
    before_change();
    if (fails_once(RENAME)) {
        errno = EIO;
        return -1;
    }
    if (!tracks()) return __real_rename(from, to);
    Change *change = add_change(MOVED, from); // resolves the folder while `from` is there
    snprintf(change->from, PATH_MAX, "%s", change->path);
    char *slash = strrchr(change->path, '/');
    const char *name = strrchr(to, '/');
    snprintf(slash + 1, (size_t)(change->path + PATH_MAX - slash - 1), "%s", name ? name + 1 : to);
    snprintf(change->old, PATH_MAX, "%.*s.was%d", PATH_MAX - 16, change->path, change_count);
    change->replaced = link(change->path, change->old) == 0;
    Content *moved = content_of(change->from), *kept = content_of(change->path);
    kept->synced = moved->synced;
    kept->length = moved->length;
    *moved = (Content){0};
    return __real_rename(from, to);
}

int __wrap_mkdir(const char *path, mode_t mode) {
    if (access(path, F_OK) == 0) return __real_mkdir(path, mode);
    before_change();
    if (fails_once(FOLDER)) {
        errno = ENOSPC;
        return -1;
    }
    const int result = __real_mkdir(path, mode);
    if (result == 0 && tracks()) add_change(MADE, path);
    return result;
}

int __wrap_unlink(const char *path) {
    before_change();
    return __real_unlink(path);
}

// ---- memory and threads ------------------------------------------------------------------------

void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__real_mmap(void *at, size_t bytes, int protection, int flags, int descriptor, off_t offset);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
void *__real_malloc(size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int descriptor, off_t offset);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);

static bool no_memory(void) {
    const bool one = fails_once(BLOCK), all = fails_from_then_on(MEMORY);
    if (one || all) errno = ENOMEM;
    return one || all;
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    return no_memory() ? NULL : __real_aligned_alloc(alignment, bytes);
}

// The command's own, and what the command lends to the JSON library.
void *__wrap_malloc(size_t bytes) {
    return no_memory() ? NULL : __real_malloc(bytes);
}

void *__wrap_realloc(void *block, size_t bytes) {
    return no_memory() ? NULL : __real_realloc(block, bytes);
}

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int descriptor, off_t offset) {
    const bool file = descriptor >= 0;
    if (file && fails_once(MAP)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    if (!file && no_memory()) return MAP_FAILED;
    return __real_mmap(at, bytes, protection, flags, descriptor, offset);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument) {
    if (fails_from_then_on(THREAD)) return EAGAIN;
    return __real_pthread_create(thread, attributes, start, argument);
}
