// SPDX-License-Identifier: Apache-2.0
// What this machine and this build can do.
#ifndef HONE_SYSTEM_H
#define HONE_SYSTEM_H

#include <hone/base.h>

#ifdef __cplusplus
extern "C" {
#endif

// The library's own version, "0.1.0"; a program compiled with other headers sees another
// HONE_VERSION.
const char *hone_version(void);

typedef struct HoneMachine {
    char processor[96];      // "AMD EPYC 9575F 64-Core Processor"; "" where the system has no name
    char system[96];         // "Linux 6.1.0 x86_64"
    char compiler[64];       // of this build
    bool optimised;          // false: a debug build, or one with a sanitizer, which is slow
    int cores;               // physical ones that this process may use
    int64_t memory_bytes;    // of the machine
    int64_t available_bytes; // that it and the cgroup can still give; 0 if unknown
} HoneMachine;
void hone_machine(HoneMachine *machine);

// The kernel levels that this processor has, best last, into names; how many.
int hone_levels(const char *names[8]);
// All levels that this build has code for, best last; those above hone_levels want a newer
// processor.
int hone_levels_built(const char *names[8]);

typedef struct HoneLibrary {
    const char *name, *version; // version NULL: not in this build
    const char *gives;          // what is lost without it
    const char *package;        // of Debian
} HoneLibrary;
// The outside libraries that this build uses or could use, into list (of room for 16); how many.
int hone_libraries(HoneLibrary list[16]);

#ifdef __cplusplus
}
#endif
#endif
