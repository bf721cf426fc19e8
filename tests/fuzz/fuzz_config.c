// SPDX-License-Identifier: Apache-2.0
// A config file (YAML), read into one option of every kind.
#include "cli/options.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bool flag = false, on = false;
    const char *text = NULL;
    int64_t whole = 0, count = 0, bytes = 0;
    double real = 0, rate = 0;
    TextList list = {0};
    const Option options[] = {
        {"rslora", OPTION_FLAG, &flag, NULL, ""},  {"shuffle", OPTION_SWITCH, &on, "on|off", ""},
        {"model", OPTION_TEXT, &text, "FILE", ""}, {"seed", OPTION_INTEGER, &whole, "N", ""},
        {"steps", OPTION_COUNT, &count, "N", ""},  {"memory", OPTION_SIZE, &bytes, "SIZE", ""},
        {"warmup", OPTION_REAL, &real, "X", ""},   {"lr", OPTION_RATE, &rate, "X", ""},
        {"data", OPTION_LIST, &list, "FILE", ""},
    };
    const Command command = {
        .name = "fuzz", .options = options, .option_count = sizeof options / sizeof *options};
    if (!read_config(&command, fuzz_file("fuzz.yaml", data, size))) return 0;
    if (count < 0 || bytes < 0 || rate < 0 || list.count > LIST_LIMIT) __builtin_trap();
    for (int i = 0; i < list.count; i++) fuzz_touch(list.items[i], 1);
    return 0;
}
