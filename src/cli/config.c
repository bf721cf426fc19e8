// SPDX-License-Identifier: Apache-2.0
// A config file: YAML with the names of the options, one value each, or a list where an option may
// be repeated.
#include <stdio.h>
#include <yaml.h>

#include "options.h"

enum { MOST_OPTIONS = 128 };

typedef struct Reading {
    const Command *command;
    const char *path;
    yaml_parser_t parser;
    bool seen[MOST_OPTIONS]; // by the option's number
} Reading;

static bool complain(const Reading *reading, size_t line, const char *what, const char *value) {
    fprintf(stderr, "hone %s: %s:%zu: %s%s%s\n", reading->command->name, reading->path, line + 1,
            what, value ? ": " : "", value ? value : "");
    return false;
}

// The next event; on a syntax error prints it and returns false.
static bool next(Reading *reading, yaml_event_t *event) {
    if (yaml_parser_parse(&reading->parser, event)) return true;
    return complain(reading, reading->parser.problem_mark.line, "not valid YAML",
                    reading->parser.problem);
}

static bool set_from(Reading *reading, const Option *option, const yaml_event_t *event) {
    const char *value =
        keep_text((const char *)event->data.scalar.value, event->data.scalar.length);
    if (!value) return complain(reading, event->start_mark.line, "out of memory", NULL);
    char place[4200];
    snprintf(place, sizeof place, "%s:%zu", reading->path, event->start_mark.line + 1);
    set_place_of_values(place);
    bool fine = set_option(reading->command, option, value);
    set_place_of_values(NULL);
    return fine;
}

static bool read_list(Reading *reading, const Option *option) {
    for (;;) {
        yaml_event_t event;
        if (!next(reading, &event)) return false;
        yaml_event_type_t type = event.type;
        bool fine = type == YAML_SEQUENCE_END_EVENT;
        if (type == YAML_SCALAR_EVENT)
            fine = set_from(reading, option, &event);
        else if (!fine)
            complain(reading, event.start_mark.line, "a list of plain values is wanted",
                     option->name);
        yaml_event_delete(&event);
        if (!fine || type == YAML_SEQUENCE_END_EVENT) return fine;
    }
}

// One "name: value". *done is set at the end of the mapping.
static bool read_entry(Reading *reading, bool *done) {
    yaml_event_t name, value;
    if (!next(reading, &name)) return false;
    if (name.type == YAML_MAPPING_END_EVENT) {
        *done = true;
        yaml_event_delete(&name);
        return true;
    }
    bool fine = false;
    const Option *option = NULL;
    bool *seen = NULL;
    if (name.type == YAML_SCALAR_EVENT)
        option = find_option(reading->command, (const char *)name.data.scalar.value);
    if (option) seen = &reading->seen[(option - reading->command->options) % MOST_OPTIONS];
    if (seen && *seen) {
        complain(reading, name.start_mark.line, "this option was given before", option->name);
    } else if (!option) {
        complain(reading, name.start_mark.line, "no such option",
                 name.type == YAML_SCALAR_EVENT ? (const char *)name.data.scalar.value : NULL);
    } else if (next(reading, &value)) {
        if (value.type == YAML_SCALAR_EVENT)
            fine = set_from(reading, option, &value);
        else if (value.type == YAML_SEQUENCE_START_EVENT && option->kind == OPTION_LIST)
            fine = read_list(reading, option);
        else
            complain(reading, value.start_mark.line, "one plain value is wanted", option->name);
        yaml_event_delete(&value);
    }
    if (seen) *seen = true;
    yaml_event_delete(&name);
    return fine;
}

static bool read_document(Reading *reading) {
    // Stream start, document start, then one mapping; an empty file sets nothing.
    for (;;) {
        yaml_event_t event;
        if (!next(reading, &event)) return false;
        yaml_event_type_t type = event.type;
        size_t line = event.start_mark.line;
        yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT) return true;
        if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_START_EVENT) continue;
        if (type != YAML_MAPPING_START_EVENT)
            return complain(reading, line, "lines of the form \"option: value\" are wanted", NULL);
        break;
    }
    for (bool done = false; !done;)
        if (!read_entry(reading, &done)) return false;
    return true;
}

bool read_config(const Command *command, const char *path) {
    Reading reading = {.command = command, .path = path};
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "hone %s: %s: cannot open the config file\n", command->name, path);
        return false;
    }
    if (!yaml_parser_initialize(&reading.parser)) {
        fclose(file);
        return complain(&reading, 0, "out of memory", NULL);
    }
    yaml_parser_set_input_file(&reading.parser, file);
    bool fine = read_document(&reading);
    yaml_parser_delete(&reading.parser);
    fclose(file);
    return fine;
}
