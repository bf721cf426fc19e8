// SPDX-License-Identifier: Apache-2.0
#include "train/page.h"

#include <string.h>

#include "base/file.h"

extern const unsigned char hone_page_css[], hone_page_js[];

// "<" inside the data would end the element that holds it; in JSON it stands in strings only.
static void put_escaped(TextBuffer *page, const TextBuffer *json) {
    size_t from = 0;
    for (size_t i = 0; i < json->length; i++) {
        if (json->data[i] != '<') continue;
        hone_text_append(page, json->data + from, i - from);
        hone_text_puts(page, "\\u003c");
        from = i + 1;
    }
    hone_text_append(page, json->data + from, json->length - from);
}

hone_status hone_page_write(const char *path, const unsigned char *template, const TextBuffer *json,
                            HoneError *err) {
    static const char *const marks[] = {"@STYLE@", "@SCRIPT@", "@DATA@"};
    const char *at = (const char *)template;
    TextBuffer page = {0};
    for (const char *sign; (sign = strchr(at, '@'));) {
        int which = 0;
        while (which < 3 && strncmp(sign, marks[which], strlen(marks[which])) != 0) which++;
        const size_t mark = which < 3 ? strlen(marks[which]) : 1;
        hone_text_append(&page, at, (size_t)(sign - at) + (which < 3 ? 0 : mark));
        if (which == 0) hone_text_puts(&page, (const char *)hone_page_css);
        if (which == 1) hone_text_puts(&page, (const char *)hone_page_js);
        if (which == 2) put_escaped(&page, json);
        at = sign + mark;
    }
    hone_text_puts(&page, at);
    hone_status status = json->failed || page.failed
                             ? hone_fail_memory(err, json->length, "a page")
                             : hone_file_write(path, page.data, page.length, err);
    hone_text_free(&page);
    return status;
}
