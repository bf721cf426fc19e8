// SPDX-License-Identifier: Apache-2.0
// The right spelling that is nearest to a wrong one; hone_nearest is in <hone/base.h>.
#ifndef HONE_BASE_NEAREST_H
#define HONE_BASE_NEAREST_H

#include <hone/base.h>

// The name in path's folder that is nearest to its last part, with the folder before it, into
// `found`. false: none is near.
bool hone_nearest_file(const char *path, char *found, size_t size);

#endif
