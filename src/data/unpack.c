// SPDX-License-Identifier: Apache-2.0
#include "data/unpack.h"

#include <string.h>

#include "base/memory.h"

#ifdef HONE_HAS_ZLIB
#include <zlib.h>
#endif
#ifdef HONE_HAS_ZSTD
#include <zstd.h>
#endif

enum { CHUNK = 1 << 20 };

typedef struct Packed {
    const char *path, *bytes;
    size_t length;
    TextBuffer *text;
    char *chunk; // CHUNK bytes
    HoneError *err;
} Packed;

struct Unpacker {
    const char *name, *mark, *missing;
    size_t mark_length;
    hone_status (*run)(Packed *packed); // NULL: built without
};

#if defined(HONE_HAS_ZLIB) || defined(HONE_HAS_ZSTD)
static hone_status take(Packed *packed, size_t length) {
    const uint64_t most = (uint64_t)4 << 30, free_of_ratio = (uint64_t)64 << 20;
    TextBuffer *text = packed->text;
    uint64_t whole = (uint64_t)text->length + length;
    if (whole > most || (whole > free_of_ratio && whole / 1000 > packed->length))
        return hone_fail(packed->err, HONE_ERROR_INPUT,
                         "%s: %zu bytes unpack to more than %llu MiB, the most that is read here: "
                         "unpack it first",
                         packed->path, packed->length, (unsigned long long)(whole >> 20));
    hone_text_append(text, packed->chunk, length);
    return text->failed ? hone_fail_memory(packed->err, (size_t)whole, "an unpacked file")
                        : HONE_OK;
}

static hone_status damaged(const Packed *packed, const char *why) {
    return hone_fail(packed->err, HONE_ERROR_INPUT,
                     "%s: cannot be unpacked after %zu bytes of text: %s", packed->path,
                     packed->text->length, why);
}
#endif

#ifdef HONE_HAS_ZLIB
// One member after the other, as gzip has them.
static hone_status inflate_all(Packed *packed, z_stream *stream) {
    size_t given = 0;
    for (;;) {
        if (stream->avail_in == 0 && given < packed->length) {
            size_t more = packed->length - given < CHUNK ? packed->length - given : CHUNK;
            stream->next_in = (Bytef *)(uintptr_t)(packed->bytes + given);
            stream->avail_in = (uInt)more;
            given += more;
        }
        stream->next_out = (Bytef *)packed->chunk;
        stream->avail_out = CHUNK;
        int result = inflate(stream, Z_NO_FLUSH);
        RETURN_IF_ERROR(take(packed, CHUNK - stream->avail_out));
        const bool all_given = stream->avail_in == 0 && given == packed->length;
        if (result == Z_STREAM_END) {
            // Zeros may follow the last member.
            while (stream->avail_in > 0 && *stream->next_in == 0) {
                stream->avail_in--;
                stream->next_in++;
            }
            if (stream->avail_in == 0 && given == packed->length) return HONE_OK;
            if (inflateReset(stream) != Z_OK) return damaged(packed, "zlib cannot go on");
        } else if (result == Z_BUF_ERROR || (result == Z_OK && all_given && stream->avail_out)) {
            return damaged(packed, "the file is cut off");
        } else if (result == Z_MEM_ERROR) {
            return hone_fail_memory(packed->err, CHUNK, "zlib");
        } else if (result != Z_OK) {
            return damaged(packed, stream->msg ? stream->msg : "it is damaged");
        }
    }
}

static hone_status unpack_gzip(Packed *packed) {
    z_stream stream = {0};
    if (inflateInit2(&stream, 15 + 16) != Z_OK) // 16: a gzip header
        return hone_fail_memory(packed->err, CHUNK, "zlib");
    hone_status status = inflate_all(packed, &stream);
    inflateEnd(&stream);
    return status;
}
#endif

#ifdef HONE_HAS_ZSTD
static hone_status unpack_zstd(Packed *packed) {
    ZSTD_DCtx *context = ZSTD_createDCtx();
    if (!context) return hone_fail_memory(packed->err, CHUNK, "libzstd");
    ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, 27); // 128 MiB
    ZSTD_inBuffer in = {packed->bytes, packed->length, 0};
    hone_status status = HONE_OK;
    size_t left = 1; // of the frame; 0: it is whole
    while (status == HONE_OK) {
        ZSTD_outBuffer out = {packed->chunk, CHUNK, 0};
        size_t before = in.pos;
        left = ZSTD_decompressStream(context, &out, &in);
        if (ZSTD_isError(left)) {
            status = damaged(packed, ZSTD_getErrorName(left));
            break;
        }
        status = take(packed, out.pos);
        if (in.pos == in.size && (left == 0 || out.pos < out.size)) break;
        if (in.pos == before && out.pos == 0) break;
    }
    if (status == HONE_OK && left != 0) status = damaged(packed, "the file is cut off");
    ZSTD_freeDCtx(context);
    return status;
}
#endif

static const Unpacker unpackers[] = {
    {"gzip", "\x1f\x8b", "zlib (zlib1g-dev)", 2,
#ifdef HONE_HAS_ZLIB
     unpack_gzip
#else
     NULL
#endif
    },
    {"zstd", "\x28\xb5\x2f\xfd", "libzstd (libzstd-dev)", 4,
#ifdef HONE_HAS_ZSTD
     unpack_zstd
#else
     NULL
#endif
    },
};

const Unpacker *hone_unpacker(const char *packed, size_t bytes) {
    for (size_t i = 0; i < sizeof unpackers / sizeof *unpackers; i++)
        if (bytes >= unpackers[i].mark_length &&
            memcmp(packed, unpackers[i].mark, unpackers[i].mark_length) == 0)
            return &unpackers[i];
    return NULL;
}

hone_status hone_unpack(const Unpacker *unpacker, const char *path, const char *packed,
                        size_t bytes, TextBuffer *text, HoneError *err) {
    if (!unpacker->run)
        return hone_fail(err, HONE_ERROR_UNSUPPORTED,
                         "%s: is packed with %s, and this Hone was built without %s: unpack it "
                         "first",
                         path, unpacker->name, unpacker->missing);
    Packed all = {path, packed, bytes, text, hone_alloc(CHUNK), err};
    if (!all.chunk) return hone_fail_memory(err, CHUNK, "a buffer");
    hone_status status = unpacker->run(&all);
    hone_free(all.chunk);
    return status;
}
