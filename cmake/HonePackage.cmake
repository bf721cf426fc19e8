# SPDX-License-Identifier: Apache-2.0
# `make deb`: a Debian package of what `cmake --install` installs, by CPack.

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME hone)
set(CPACK_PACKAGE_VENDOR "The Hone authors")
set(CPACK_PACKAGE_CONTACT "The Hone authors <hone@localhost>")
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "fine-tune and develop Transformer models on this computer")
set(CPACK_PACKAGE_DESCRIPTION
"Hone trains language models without Python and without a GPU: low-rank
adapters over GGUF files and Hugging Face folders as they are stored,
quantised, or every weight; and models of your own from random weights.
.
This package holds the hone command, its manual pages and completions, and
the C library with its headers.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON) # what it depends on is what it is linked with
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
include(CPack)
