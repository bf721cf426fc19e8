# SPDX-License-Identifier: Apache-2.0
# Every folder of src/ is a floor: one object library hone_<floor> that may use the floors below it.

include(GNUInstallDirs)

add_library(hone_flags INTERFACE)
target_compile_options(hone_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wdouble-promotion -Wstrict-prototypes
  -Wmissing-prototypes -Wformat=2 -Wcast-qual -Wundef
  -ffp-contract=fast -fno-math-errno -fno-trapping-math
  $<$<CONFIG:Release>:-O3>)
target_compile_definitions(hone_flags INTERFACE _GNU_SOURCE)
if(HONE_WERROR)
  target_compile_options(hone_flags INTERFACE -Werror)
endif()
if(HONE_SANITIZE)
  target_compile_options(hone_flags INTERFACE
    -fsanitize=${HONE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(hone_flags INTERFACE -fsanitize=${HONE_SANITIZE})
endif()
if(HONE_FUZZ)
  target_compile_options(hone_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
target_include_directories(hone_flags INTERFACE
  ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)

set_property(GLOBAL PROPERTY HONE_FLOORS "")

# hone_floor(NAME [LIBRARIES lib...]): every *.c of the current folder and its named subfolders
# becomes the floor NAME. LIBRARIES: outside libraries only; floors see each other's headers through src/.
function(hone_floor name)
  cmake_parse_arguments(ARG "" "" "LIBRARIES;FOLDERS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.c)
  foreach(folder ${ARG_FOLDERS})
    file(GLOB more CONFIGURE_DEPENDS ${folder}/*.c)
    list(APPEND sources ${more})
  endforeach()
  if(NOT sources)
    return()
  endif()
  add_library(hone_${name} OBJECT ${sources})
  target_link_libraries(hone_${name} PUBLIC hone_flags ${ARG_LIBRARIES})
  set_property(GLOBAL APPEND PROPERTY HONE_FLOORS hone_${name})
endfunction()

# hone_floor_isa(NAME FLAGS...): isa/NAME/*.c compiled with the level's own flags, part of kernels.
function(hone_floor_isa name)
  file(GLOB sources CONFIGURE_DEPENDS isa/${name}/*.c)
  add_library(hone_kernels_${name} OBJECT ${sources})
  target_link_libraries(hone_kernels_${name} PUBLIC hone_flags)
  target_compile_options(hone_kernels_${name} PRIVATE ${ARGN})
  set_property(GLOBAL APPEND PROPERTY HONE_FLOORS hone_kernels_${name})
endfunction()

# The library: all floors that exist, as libhone.a.
function(hone_library)
  get_property(floors GLOBAL PROPERTY HONE_FLOORS)
  add_library(hone STATIC)
  foreach(floor ${floors})
    target_sources(hone PRIVATE $<TARGET_OBJECTS:${floor}>)
  endforeach()
  target_include_directories(hone PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
  target_link_libraries(hone PUBLIC Threads::Threads
    PkgConfig::PCRE2 PkgConfig::JANSSON PkgConfig::UTF8PROC PkgConfig::YAML ${HONE_OPTIONAL} m)
  if(HONE_SANITIZE)
    target_link_options(hone PUBLIC -fsanitize=${HONE_SANITIZE})
  endif()
  set_target_properties(hone PROPERTIES LINKER_LANGUAGE C)
endfunction()

# hone_test(NAME SOURCE FLOORS floor... [ARGUMENTS ...]): a ctest of one program, linked with just
# the floors it needs, so that a broken upper floor never hides a lower floor's tests.
function(hone_test name source)
  cmake_parse_arguments(ARG "" "" "FLOORS;ARGUMENTS" ${ARGN})
  add_executable(test_${name} ${source})
  foreach(floor ${ARG_FLOORS})
    target_link_libraries(test_${name} PRIVATE hone_${floor})
    if(floor STREQUAL kernels)
      get_property(floors GLOBAL PROPERTY HONE_FLOORS)
      foreach(part ${floors})
        if(part MATCHES "^hone_kernels_")
          target_link_libraries(test_${name} PRIVATE ${part})
        endif()
      endforeach()
    endif()
  endforeach()
  target_link_libraries(test_${name} PRIVATE hone_flags m Threads::Threads
    PkgConfig::PCRE2 PkgConfig::JANSSON PkgConfig::UTF8PROC PkgConfig::YAML ${HONE_OPTIONAL})
  target_include_directories(test_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(test_${name} PRIVATE
    HONE_FIXTURES="${PROJECT_SOURCE_DIR}/tests/fixtures")
  add_test(NAME ${name} COMMAND test_${name} ${ARG_ARGUMENTS})
  set_tests_properties(${name} PROPERTIES TIMEOUT 600)
endfunction()
