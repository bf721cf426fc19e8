# SPDX-License-Identifier: Apache-2.0
# Libraries that Hone does without: what is lost then is said, and HONE_OPTIONAL holds those found.

set(HONE_OPTIONAL "")
set(HONE_OPTIONAL_LINK "") # for hone.pc: the shared ones, for the static want dozens of others
set(HONE_OPTIONAL_FIND "") # the lines that find them, for honeConfig.cmake

# hone_optional(NAME MODULE): PkgConfig::NAME if there is MODULE.
function(hone_optional name module)
  pkg_check_modules(${name} QUIET IMPORTED_TARGET ${module})
  if(${name}_FOUND)
    list(APPEND HONE_OPTIONAL PkgConfig::${name})
    string(APPEND HONE_OPTIONAL_LINK " -l${${name}_LIBRARIES}")
    string(APPEND HONE_OPTIONAL_FIND
      "  pkg_check_modules(${name} QUIET IMPORTED_TARGET ${module})\n")
  endif()
  set(HONE_OPTIONAL ${HONE_OPTIONAL} PARENT_SCOPE)
  set(HONE_OPTIONAL_FIND "${HONE_OPTIONAL_FIND}" PARENT_SCOPE)
  set(HONE_OPTIONAL_LINK "${HONE_OPTIONAL_LINK}" PARENT_SCOPE)
endfunction()

if(NOT HONE_STATIC) # libcurl cannot be linked without libraries that there are only shared
  hone_optional(CURL libcurl)
  hone_optional(CRYPTO libcrypto)
endif()
hone_optional(PNG libpng) # before zlib, which it needs
hone_optional(ZLIB zlib)
hone_optional(ZSTD libzstd)
if(NOT HONE_STATIC) # as libcurl
  pkg_check_modules(MICROHTTPD QUIET IMPORTED_TARGET libmicrohttpd>=0.9.71) # the command's alone
endif()
if(NOT TARGET PkgConfig::MICROHTTPD)
  message(STATUS "without libmicrohttpd (libmicrohttpd-dev): hone serve serves nothing")
endif()
if(TARGET PkgConfig::CURL AND TARGET PkgConfig::CRYPTO)
  set(HONE_HAS_HUB ON)
else()
  set(HONE_HAS_HUB OFF)
  message(STATUS "without libcurl and libcrypto (libcurl4-openssl-dev, libssl-dev): "
                 "hone pull fetches nothing")
endif()
foreach(pair "ZLIB zlib1g-dev .gz" "ZSTD libzstd-dev .zst")
  separate_arguments(pair)
  list(GET pair 0 name)
  list(GET pair 1 package)
  list(GET pair 2 files)
  if(NOT TARGET PkgConfig::${name})
    message(STATUS "without ${package}: data files packed as ${files} are not read")
  endif()
endforeach()
if(NOT TARGET PkgConfig::PNG)
  message(STATUS "without libpng-dev: hone attention draws no .png")
endif()
