// SPDX-License-Identifier: Apache-2.0
// What this machine and this build can do: <hone/system.h>.
#include <hone/system.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <utf8proc.h>
#include <yaml.h>

#include "base/system.h"
#include "kernels/kernels.h"

// Optional libraries, where they were found: src/train/CMakeLists.txt.
#ifndef HONE_CURL_VERSION
#define HONE_CURL_VERSION NULL
#endif
#ifndef HONE_CRYPTO_VERSION
#define HONE_CRYPTO_VERSION NULL
#endif
#ifndef HONE_ZLIB_VERSION
#define HONE_ZLIB_VERSION NULL
#endif
#ifndef HONE_MICROHTTPD_VERSION
#define HONE_MICROHTTPD_VERSION NULL
#endif
#ifndef HONE_ZSTD_VERSION
#define HONE_ZSTD_VERSION NULL
#endif
#ifndef HONE_PNG_VERSION
#define HONE_PNG_VERSION NULL
#endif

#define SPELLED_AS(text) #text
#define SPELLED(text) SPELLED_AS(text)

const char *hone_version(void) {
    return HONE_VERSION;
}

void hone_machine(HoneMachine *machine) {
    *machine = (HoneMachine){.cores = hone_physical_cores(),
                             .memory_bytes = hone_memory_total(),
                             .available_bytes = hone_memory_available()};
    hone_processor_name(machine->processor, sizeof machine->processor);
    struct utsname system;
    if (uname(&system) == 0)
        snprintf(machine->system, sizeof machine->system, "%.24s %.40s %.24s", system.sysname,
                 system.release, system.machine);
#if defined(__clang__)
    snprintf(machine->compiler, sizeof machine->compiler, "clang %d.%d.%d", __clang_major__,
             __clang_minor__, __clang_patchlevel__);
#elif defined(__GNUC__)
    snprintf(machine->compiler, sizeof machine->compiler, "gcc %d.%d.%d", __GNUC__, __GNUC_MINOR__,
             __GNUC_PATCHLEVEL__);
#endif
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    machine->optimised = true;
#endif
}

int hone_levels(const char *names[8]) {
    return hone_kernel_levels(names);
}

int hone_levels_built(const char *names[8]) {
    return hone_kernel_levels_built(names);
}

int hone_libraries(HoneLibrary list[16]) {
    // That of the headers; the library tells its own only into memory that somebody owns.
    static const char pcre2[] = SPELLED(PCRE2_MAJOR) "." SPELLED(PCRE2_MINOR);
    int count = 0;
    list[count++] = (HoneLibrary){"PCRE2", pcre2, "tokenisers", "libpcre2-dev"};
    list[count++] = (HoneLibrary){"jansson", JANSSON_VERSION, "JSON", "libjansson-dev"};
    list[count++] =
        (HoneLibrary){"utf8proc", utf8proc_version(), "Unicode forms", "libutf8proc-dev"};
    list[count++] =
        (HoneLibrary){"libyaml", yaml_get_version_string(), "config files", "libyaml-dev"};
    list[count++] =
        (HoneLibrary){"libcurl", HONE_CURL_VERSION, "hone pull", "libcurl4-openssl-dev"};
    list[count++] = (HoneLibrary){"libcrypto", HONE_CRYPTO_VERSION, "hone pull", "libssl-dev"};
    list[count++] = (HoneLibrary){"zlib", HONE_ZLIB_VERSION, "data in .gz files", "zlib1g-dev"};
    list[count++] =
        (HoneLibrary){"libzstd", HONE_ZSTD_VERSION, "data in .zst files", "libzstd-dev"};
    list[count++] =
        (HoneLibrary){"libpng", HONE_PNG_VERSION, "pictures of attention", "libpng-dev"};
    list[count++] =
        (HoneLibrary){"libmicrohttpd", HONE_MICROHTTPD_VERSION, "hone serve", "libmicrohttpd-dev"};
    return count;
}
