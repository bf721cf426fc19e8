// SPDX-License-Identifier: Apache-2.0
// Every operating-system call that is not a file or a thread.
#ifndef HONE_BASE_SYSTEM_H
#define HONE_BASE_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Pages from the kernel, zeroed, huge pages asked for. reserve: address space only, never touched.
void *hone_pages_alloc(size_t bytes, bool reserve);
// Ask for huge pages in a block that begins on a page; a system without them does nothing.
void hone_pages_advise(void *pages, size_t bytes);
void hone_pages_free(void *pages, size_t bytes, bool reserve);

// Tell AddressSanitizer that memory may not (or may) be touched; nothing in other builds.
void hone_poison(void *memory, size_t bytes);
void hone_unpoison(void *memory, size_t bytes);

// Physical cores inside this process's affinity mask and cgroup quota; at least 1.
int hone_physical_cores(void);

double hone_seconds(void);         // monotonic clock
int64_t hone_resident_bytes(void); // resident set now: anonymous + mapped; 0 if unknown
// The same, and its parts: private memory, and pages of files.
int64_t hone_resident_parts(int64_t *anonymous, int64_t *mapped);
int64_t hone_resident_peak(void);    // its highest value so far
int64_t hone_memory_available(void); // what the machine and the cgroup can still give; 0 if unknown

int64_t hone_memory_total(void);                   // of the machine; 0 if unknown
void hone_processor_name(char *text, size_t size); // "" if unknown

// What this processor can run, read once from CPUID and XCR0.
typedef struct CpuFeatures {
    bool avx2, avx512, avx512_vnni, avx512_bf16, amx_bf16, neon; // avx2 includes FMA and F16C
} CpuFeatures;
CpuFeatures hone_cpu_features(void);

#endif
