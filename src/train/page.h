// SPDX-License-Identifier: Apache-2.0
// Pages as the build has compiled them in (cmake/HoneEmbed.cmake), and what fills them.
#ifndef HONE_TRAIN_PAGE_H
#define HONE_TRAIN_PAGE_H

#include "base/text.h"

extern const unsigned char hone_report_html[], hone_attention_html[]; // NUL-terminated

// Write file `path`: the template with the styles and scripts that all pages share at @STYLE@ and
// @SCRIPT@, and json at @DATA@, where no text of it can end the element that holds it.
hone_status hone_page_write(const char *path, const unsigned char *template, const TextBuffer *json,
                            HoneError *err);

#endif
