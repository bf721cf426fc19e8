// SPDX-License-Identifier: Apache-2.0
// One file of a repository: where the hub has it, what came of it before, the rest, the proof.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "hub/net/digest.h"
#include "hub/net/transfer.h"

enum { CHUNK = 1 << 20, TRIES = 5 };

typedef struct Blob {
    Puller *puller;
    const HubFile *file;
    char *url, *path, *part; // blobs/ETAG, and what there is of it
    char etag[160];
    bool strong;    // the server that sends the file knows the ETag
    int64_t bytes;  // of the whole
    int descriptor; // of the part
    int64_t at;     // bytes in it
    bool resumed;   // of these some were there before
    bool started;   // a body of the request under way has begun
    Digest *digest;
} Blob;

static hone_status fail_at(HoneError *err, const char *path, const char *doing) {
    return hone_fail(err, HONE_ERROR_IO, "%s: cannot %s: %s", path, doing, strerror(errno));
}

// ---- where it is -------------------------------------------------------------------------------

static bool blob_goes_on(void *user) {
    Blob *blob = user;
    blob->puller->step.bytes = blob->at;
    return hone_puller_tell(blob->puller, NULL) == HONE_OK;
}

// Checksum and size, from the answer's headers and the hub's list, which must agree.
static hone_status look_up(Blob *blob) {
    HttpAnswer answer;
    HttpRequest request = {.head = true, .go_on = blob_goes_on, .user = blob};
    HoneError *err = blob->puller->err;
    const char *commit = blob->puller->listing.commit;
    RETURN_IF_ERROR(hone_puller_ask(blob->puller, &request, blob->url, true, &answer));
    const bool here = answer.status == 200, linked = answer.linked_etag[0] != '\0';
    if (!here && !linked)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: the server sends on to another host and names no checksum "
                         "(X-Linked-ETag)",
                         blob->url);
    if (answer.commit[0] && strcmp(answer.commit, commit) != 0)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: the server answers for commit %.*s", blob->url,
                         hone_excerpt(answer.commit), answer.commit);
    memcpy(blob->etag, linked ? answer.linked_etag : answer.etag, sizeof blob->etag);
    blob->strong = here && !linked && !answer.weak;
    blob->bytes = answer.linked_size >= 0 ? answer.linked_size : here ? answer.length : -1;
    if (blob->bytes < 0) blob->bytes = blob->file->bytes;
    if (blob->bytes < 0)
        return hone_fail(err, HONE_ERROR_INPUT, "%s: the server does not say how large it is",
                         blob->url);
    if (blob->file->bytes >= 0 && blob->file->bytes != blob->bytes)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: the server says %lld bytes, the hub's list %lld", blob->url,
                         (long long)blob->bytes, (long long)blob->file->bytes);
    if (blob->file->sha256 && strcmp(blob->file->sha256, blob->etag) != 0)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: the server names the checksum %.*s, the hub's list %s", blob->url,
                         hone_excerpt(blob->etag), blob->etag, blob->file->sha256);
    return HONE_OK;
}

// ---- the part ----------------------------------------------------------------------------------

static hone_status restart(Blob *blob) {
    blob->at = 0;
    blob->resumed = false;
    if (ftruncate(blob->descriptor, 0) != 0 || lseek(blob->descriptor, 0, SEEK_SET) != 0)
        return fail_at(blob->puller->err, blob->part, "empty");
    hone_digest_free(blob->digest);
    return hone_digest_start(blob->etag, blob->bytes, &blob->digest, blob->puller->err);
}

// Read what came before into the checksum.
static hone_status recall(Blob *blob, int64_t bytes) {
    HoneError *err = blob->puller->err;
    char *chunk = hone_alloc(CHUNK);
    if (!chunk) return hone_fail_memory(err, CHUNK, "a buffer");
    hone_status status = HONE_OK;
    while (status == HONE_OK && blob->at < bytes) {
        ssize_t got = read(blob->descriptor, chunk, CHUNK);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            status = fail_at(err, blob->part, "read");
            break;
        }
        status = hone_digest_add(blob->digest, chunk, (size_t)got, err);
        blob->at += got;
        if (status == HONE_OK && !blob_goes_on(blob)) status = err->status;
    }
    hone_free(chunk);
    return status;
}

static hone_status check_space(const Blob *blob) {
    struct statvfs disk;
    if (fstatvfs(blob->descriptor, &disk) != 0 || disk.f_blocks == 0) return HONE_OK;
    double room = (double)disk.f_bavail * (double)disk.f_frsize;
    double wanted = (double)(blob->bytes - blob->at);
    if (wanted <= room) return HONE_OK;
    return hone_fail(blob->puller->err, HONE_ERROR_IO,
                     "%s: needs %.1f MB more, the disk has %.1f MB free", blob->part, wanted / 1e6,
                     room / 1e6);
}

static hone_status open_part(Blob *blob) {
    HoneError *err = blob->puller->err;
    blob->descriptor = open(blob->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    struct stat info;
    if (blob->descriptor < 0 || fstat(blob->descriptor, &info) != 0)
        return fail_at(err, blob->part, "write");
    RETURN_IF_ERROR(hone_digest_start(blob->etag, blob->bytes, &blob->digest, err));
    if (info.st_size > blob->bytes) return restart(blob);
    blob->resumed = info.st_size > 0;
    RETURN_IF_ERROR(recall(blob, info.st_size));
    return check_space(blob);
}

// ---- the rest ----------------------------------------------------------------------------------

static hone_status begin_body(Blob *blob, const HttpAnswer *answer, HoneError *err) {
    blob->started = true;
    if (answer->coding[0] && strcasecmp(answer->coding, "identity") != 0)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: the server sends it as %s, and was asked for it as it is", blob->url,
                         answer->coding);
    if (answer->status == 200) return blob->at > 0 ? restart(blob) : HONE_OK; // from its beginning
    if (answer->range_begin == blob->at &&
        (answer->range_total == blob->bytes || answer->range_total < 0))
        return HONE_OK;
    return hone_fail(err, HONE_ERROR_INPUT,
                     "%s: the server sends bytes from %lld of %lld, asked for from %lld of %lld",
                     blob->url, (long long)answer->range_begin, (long long)answer->range_total,
                     (long long)blob->at, (long long)blob->bytes);
}

static hone_status take_bytes(void *user, const HttpAnswer *answer, const void *bytes,
                              size_t length, HoneError *err) {
    Blob *blob = user;
    if (!blob->started) RETURN_IF_ERROR(begin_body(blob, answer, err));
    if ((int64_t)length > blob->bytes - blob->at)
        return hone_fail(err, HONE_ERROR_INPUT,
                         "%s: the server sends more than the %lld bytes that it announced",
                         blob->url, (long long)blob->bytes);
    for (const char *from = bytes, *end = from + length; from < end;) {
        ssize_t put = write(blob->descriptor, from, (size_t)(end - from));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return fail_at(err, blob->part, "write");
        from += put;
    }
    blob->at += (int64_t)length;
    blob->puller->received += (int64_t)length;
    return hone_digest_add(blob->digest, bytes, length, err);
}

static hone_status fetch_rest(Blob *blob) {
    Puller *puller = blob->puller;
    for (int tries = 0; blob->at < blob->bytes; tries++) {
        HttpAnswer answer;
        HttpRequest request = {.from = blob->at,
                               .if_range = blob->strong ? blob->etag : NULL,
                               .body = take_bytes,
                               .go_on = blob_goes_on,
                               .user = blob};
        int64_t before = blob->at;
        blob->started = false;
        RETURN_IF_ERROR(hone_puller_ask(puller, &request, blob->url, false, &answer));
        if (answer.status == 416) RETURN_IF_ERROR(restart(blob));
        if (blob->at == blob->bytes) break;
        if (blob->at > before) tries = 0;
        if (tries == TRIES)
            return hone_fail(puller->err, HONE_ERROR_IO, "%s: ends after %lld of %lld bytes%s%s",
                             blob->url, (long long)blob->at, (long long)blob->bytes,
                             answer.problem[0] ? ": " : "", answer.problem);
        char note[300];
        snprintf(note, sizeof note, "broke off after %lld of %lld bytes, going on from there",
                 (long long)blob->at, (long long)blob->bytes);
        RETURN_IF_ERROR(hone_puller_tell(puller, note));
    }
    return HONE_OK;
}

// The part becomes the blob if it is what its name says.
static hone_status prove(Blob *blob, bool *again) {
    HoneError *err = blob->puller->err;
    char sum[65];
    *again = false;
    RETURN_IF_ERROR(hone_digest_end(blob->digest, sum, err));
    if (strcmp(sum, blob->etag) != 0) {
        *again = blob->resumed;
        if (*again) return restart(blob);
        unlink(blob->part);
        return hone_fail(err, HONE_ERROR_IO,
                         "%s: what came has the checksum %s, the hub names %s: it was thrown away",
                         blob->url, sum, blob->etag);
    }
    if (fsync(blob->descriptor) != 0 || rename(blob->part, blob->path) != 0)
        return fail_at(err, blob->path, "write");
    return HONE_OK;
}

static hone_status complete(Blob *blob) {
    bool again = true;
    RETURN_IF_ERROR(open_part(blob));
    while (again) {
        RETURN_IF_ERROR(fetch_rest(blob));
        RETURN_IF_ERROR(prove(blob, &again));
        if (again)
            RETURN_IF_ERROR(hone_puller_tell(
                blob->puller, "what was there before is not of this file, fetching it anew"));
    }
    return HONE_OK;
}

// ---- the lock, the link ------------------------------------------------------------------------

static char *formatted(const char *a, const char *b, const char *c, const char *d) {
    TextBuffer text = {0};
    hone_text_printf(&text, "%s%s%s%s", a, b, c, d);
    return text.failed ? NULL : text.data;
}

// The lock that Hugging Face's own library takes, so that two programs do not write one part.
static hone_status take_lock(Blob *blob, int *lock) {
    Puller *puller = blob->puller;
    const char *name = strrchr(puller->folder, '/');
    char *folder = formatted(puller->hub, "/.locks", name, "");
    char *path = folder ? formatted(folder, "/", blob->etag, ".lock") : NULL;
    hone_status status = path ? hone_directory_make(folder, puller->err)
                              : hone_fail_memory(puller->err, 0, "a path");
    *lock = -1;
    if (status == HONE_OK) {
        *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (*lock < 0) status = fail_at(puller->err, path, "write");
    }
    const char *note = "another program fetches it, waiting";
    while (status == HONE_OK && flock(*lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) break; // a file system without locks
        status = hone_puller_tell(puller, note);
        note = NULL;
        usleep(100000);
    }
    hone_free(folder);
    hone_free(path);
    return status;
}

// snapshots/COMMIT/NAME → ../../blobs/ETAG, one more ".." for each folder in NAME.
static hone_status make_link(Blob *blob, const char *path) {
    HoneError *err = blob->puller->err;
    TextBuffer target = {0};
    hone_text_puts(&target, "../../");
    for (const char *slash = blob->file->name; (slash = strchr(slash, '/')); slash++)
        hone_text_puts(&target, "../");
    hone_text_printf(&target, "blobs/%s", blob->etag);
    char *folder = hone_strndup(path, (size_t)(strrchr(path, '/') - path));
    char *temporary = formatted(path, ".tmp", "", "");
    hone_status status = HONE_OK;
    if (target.failed || !folder || !temporary) status = hone_fail_memory(err, 0, "a path");
    if (status == HONE_OK) status = hone_directory_make(folder, err);
    if (status == HONE_OK) {
        unlink(temporary);
        if (symlink(target.data, temporary) != 0 || rename(temporary, path) != 0)
            status = fail_at(err, path, "link");
    }
    hone_text_free(&target);
    hone_free(folder);
    hone_free(temporary);
    return status;
}

static bool is_whole(const char *path, int64_t bytes) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && (bytes < 0 || info.st_size == bytes);
}

static hone_status get(Blob *blob, const char *snapshot) {
    Puller *puller = blob->puller;
    int lock;
    RETURN_IF_ERROR(look_up(blob));
    puller->step.total = blob->bytes;
    // A name that is no checksum is found out here, before it becomes a path.
    RETURN_IF_ERROR(hone_digest_start(blob->etag, blob->bytes, &blob->digest, puller->err));
    hone_digest_free(blob->digest);
    blob->digest = NULL;
    blob->path = formatted(puller->folder, "/blobs/", blob->etag, "");
    blob->part = formatted(puller->folder, "/blobs/", blob->etag, ".incomplete");
    if (!blob->path || !blob->part) return hone_fail_memory(puller->err, 0, "a path");
    hone_status status = take_lock(blob, &lock);
    if (status == HONE_OK && !is_whole(blob->path, blob->bytes)) status = complete(blob);
    if (status == HONE_OK) status = make_link(blob, snapshot);
    if (lock >= 0) close(lock);
    return status;
}

hone_status hone_puller_file(Puller *puller, const HubFile *file) {
    Blob blob = {.puller = puller, .file = file, .descriptor = -1};
    HoneError *err = puller->err;
    puller->step.file = file->name;
    puller->step.bytes = 0;
    puller->step.total = file->bytes;
    char *escaped = hone_http_escape(file->name, "/");
    TextBuffer url = {0}, snapshot = {0};
    hone_text_printf(&url, "%s/%s/resolve/%s/%s", puller->endpoint, puller->request->repository,
                     puller->listing.commit, escaped ? escaped : "");
    hone_text_printf(&snapshot, "%s/snapshots/%s/%s", puller->folder, puller->listing.commit,
                     file->name);
    blob.url = url.data;
    hone_status status = HONE_OK;
    if (!escaped || url.failed || snapshot.failed)
        status = hone_fail_memory(err, 0, "a path");
    else if (is_whole(snapshot.data, file->bytes))
        puller->step.total = blob.bytes = file->bytes;
    else
        status = get(&blob, snapshot.data);
    struct stat info;
    if (status == HONE_OK && stat(snapshot.data, &info) == 0)
        puller->step.bytes = puller->step.total = info.st_size;
    if (blob.descriptor >= 0) close(blob.descriptor);
    hone_digest_free(blob.digest);
    hone_free(blob.path);
    hone_free(blob.part);
    hone_free(escaped);
    hone_text_free(&url);
    hone_text_free(&snapshot);
    return status;
}
