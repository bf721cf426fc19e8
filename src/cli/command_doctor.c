// SPDX-License-Identifier: Apache-2.0
// hone doctor: what this processor and this build can do, and what is missing.
#include <stdlib.h>
#include <string.h>

#include "output.h"

typedef struct Doctor {
    Common common;
    double seconds;
    HoneMachine machine;
    const char *levels[8], *built[8];
    int level_count, built_count;
    HoneLibrary libraries[16];
    int library_count;
    HoneSpeed f32, q4;
    char advice[8][256];
    int advice_count;
} Doctor;

static void advise(Doctor *doctor, const char *text) {
    if (doctor->advice_count < 8)
        snprintf(doctor->advice[doctor->advice_count++], sizeof doctor->advice[0], "%s", text);
}

static void find_advice(Doctor *doctor, const HoneContext *context) {
    char text[256];
    const char *used = hone_context_isa(context);
    if (!doctor->machine.optimised)
        advise(doctor, "this is a debug or sanitizer build, many times slower: make");
    if (strcmp(used, doctor->levels[doctor->level_count - 1]) != 0) {
        const char *forced = getenv("HONE_ISA");
        snprintf(text, sizeof text, "the level %s is forced by %s; this processor has %s", used,
                 doctor->common.isa  ? "--isa"
                 : forced && *forced ? "HONE_ISA"
                                     : "the build",
                 doctor->levels[doctor->level_count - 1]);
        advise(doctor, text);
    }
    if (hone_context_threads(context) < doctor->machine.cores) {
        snprintf(text, sizeof text, "%d of %d cores are used (--threads)",
                 hone_context_threads(context), doctor->machine.cores);
        advise(doctor, text);
    }
    const int64_t gigabyte = 1 << 30;
    if (doctor->machine.available_bytes > 0 && doctor->machine.available_bytes < gigabyte)
        advise(doctor, "less than 1 GB of memory is free: hone finetune --memory SIZE stays within "
                       "what there is, or says what would do");
    for (int i = 0; i < doctor->library_count; i++) {
        const HoneLibrary *library = &doctor->libraries[i];
        if (library->version) continue;
        snprintf(text, sizeof text, "without %s no %s: install %s and build again", library->name,
                 library->gives, library->package);
        advise(doctor, text);
    }
}

static int print_doctor_json(const Doctor *doctor, const HoneContext *context) {
    const HoneMachine *machine = &doctor->machine;
    printf("{\"version\":");
    print_json_text(stdout, hone_version());
    printf(",\"compiler\":");
    print_json_text(stdout, machine->compiler);
    printf(",\"system\":");
    print_json_text(stdout, machine->system);
    printf(",\"processor\":");
    print_json_text(stdout, machine->processor);
    printf(",\"cores\":%d,\"threads\":%d,\"memory_bytes\":%lld,\"available_bytes\":%lld,"
           "\"isa\":\"%s\",\"levels\":[",
           machine->cores, hone_context_threads(context), (long long)machine->memory_bytes,
           (long long)machine->available_bytes, hone_context_isa(context));
    for (int i = 0; i < doctor->level_count; i++)
        printf("%s\"%s\"", i ? "," : "", doctor->levels[i]);
    printf("],\"levels_built\":[");
    for (int i = 0; i < doctor->built_count; i++)
        printf("%s\"%s\"", i ? "," : "", doctor->built[i]);
    printf("],\"peak_gflops\":%.6g,\"matmul_gflops\":{\"f32\":%.6g,\"q4_1\":%.6g},\"libraries\":{",
           doctor->f32.peak_flops * 1e-9, doctor->f32.forward_flops * 1e-9,
           doctor->q4.forward_flops * 1e-9);
    for (int i = 0; i < doctor->library_count; i++) {
        printf("%s\"%s\":", i ? "," : "", doctor->libraries[i].name);
        print_json_text(stdout, doctor->libraries[i].version);
    }
    printf("},\"advice\":[");
    for (int i = 0; i < doctor->advice_count; i++) {
        if (i) putchar(',');
        print_json_text(stdout, doctor->advice[i]);
    }
    printf("]}\n");
    return EXIT_DONE;
}

static int print_doctor_lines(const Doctor *doctor, const HoneContext *context) {
    const HoneMachine *machine = &doctor->machine;
    char total[32], available[32];
    printf("hone       %s, by %s, on %s\n", hone_version(), machine->compiler, machine->system);
    printf("processor  %s, %d cores that this process may use\n",
           *machine->processor ? machine->processor : "unknown", machine->cores);
    printf("kernels    %s (of", hone_context_isa(context));
    for (int i = 0; i < doctor->built_count; i++)
        printf("%s %s%s", i ? "," : "", doctor->built[i],
               i < doctor->level_count ? "" : " (not this processor)");
    printf(")\nmemory     %s, %s free\n", size_text(machine->memory_bytes, total),
           size_text(machine->available_bytes, available));
    printf("speed      %.0f GF/s on %d threads at most; matrix products reach %.0f with f32 "
           "weights, %.0f with q4_1\n",
           doctor->f32.peak_flops * 1e-9, hone_context_threads(context),
           doctor->f32.forward_flops * 1e-9, doctor->q4.forward_flops * 1e-9);
    printf("libraries  ");
    for (int i = 0; i < doctor->library_count; i++)
        printf("%s%s %s", i ? ", " : "", doctor->libraries[i].name,
               doctor->libraries[i].version ? doctor->libraries[i].version : "(missing)");
    printf("\n");
    for (int i = 0; i < doctor->advice_count; i++) printf("note       %s\n", doctor->advice[i]);
    if (doctor->advice_count == 0) printf("nothing is missing\n");
    return EXIT_DONE;
}

static int examine(HoneContext *context, Doctor *doctor) {
    enum { M = 512, N = 1536, K = 576 };
    hone_machine(&doctor->machine);
    doctor->level_count = hone_levels(doctor->levels);
    doctor->built_count = hone_levels_built(doctor->built);
    doctor->library_count = hone_libraries(doctor->libraries);
    hone_status status =
        hone_bench_matmul(context, M, N, K, "f32", doctor->seconds / 2, &doctor->f32);
    if (status == HONE_OK)
        status = hone_bench_matmul(context, M, N, K, "q4_1", doctor->seconds / 2, &doctor->q4);
    if (status != HONE_OK) return report_failure("doctor", context, status);
    find_advice(doctor, context);
    return doctor->common.json ? print_doctor_json(doctor, context)
                               : print_doctor_lines(doctor, context);
}

int command_doctor(int argc, char **argv) {
    Doctor doctor = {.seconds = 0.5};
    Option options[8] = {
        {"seconds", OPTION_RATE, &doctor.seconds, "S", "for measuring the speed (0.5)"},
    };
    Command command = {.name = "doctor",
                       .summary = "What this processor and this build can do, and what is missing.",
                       .usage = "hone doctor [--json]",
                       .options = options,
                       .option_count = 1 + common_options(&doctor.common, options + 1)};
    int status = parse_options(&command, argc, argv);
    if (status >= 0) return status;
    HoneContext *context = open_context("doctor", &doctor.common, &status);
    if (!context) return status;
    status = examine(context, &doctor);
    hone_context_free(context);
    return status;
}
