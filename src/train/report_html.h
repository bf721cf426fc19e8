// SPDX-License-Identifier: Apache-2.0
// report.html as the build has compiled it in (cmake/HoneEmbed.cmake).
#ifndef HONE_TRAIN_REPORT_HTML_H
#define HONE_TRAIN_REPORT_HTML_H

extern const unsigned char hone_report_html[]; // NUL-terminated

#endif
