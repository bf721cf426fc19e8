# SPDX-License-Identifier: Apache-2.0
# `cmake --install`: the library (static and shared), its headers, the command, a pkg-config file and
# a CMake package. The component `command` is what a release tarball has of it.

include(CMakePackageConfigHelpers)

# The shared library shows what the public headers declare, and nothing else.
function(hone_shared_library)
  get_property(floors GLOBAL PROPERTY HONE_FLOORS)
  add_library(hone_shared SHARED)
  foreach(floor ${floors})
    target_sources(hone_shared PRIVATE $<TARGET_OBJECTS:${floor}>)
  endforeach()
  file(GLOB headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/hone/*.h)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${headers})
  set(names "")
  foreach(header ${headers})
    file(READ ${header} text)
    string(REGEX MATCHALL "hone_[a-z0-9_]+[(]" found "${text}")
    list(APPEND names ${found})
  endforeach()
  list(REMOVE_DUPLICATES names)
  list(SORT names)
  string(REPLACE "(" "" names "${names}")
  list(JOIN names ";\n    " names)
  set(script ${CMAKE_CURRENT_BINARY_DIR}/hone.map)
  file(GENERATE OUTPUT ${script} CONTENT "{\n  global:\n    ${names};\n  local: *;\n};\n")
  target_link_options(hone_shared PRIVATE -Wl,--version-script=${script})
  set_target_properties(hone_shared PROPERTIES OUTPUT_NAME hone LINKER_LANGUAGE C
    EXPORT_NAME shared VERSION ${PROJECT_VERSION} SOVERSION 0 LINK_DEPENDS ${script})
  target_include_directories(hone_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(hone_shared PRIVATE m Threads::Threads
    PkgConfig::PCRE2 PkgConfig::JANSSON PkgConfig::UTF8PROC PkgConfig::YAML ${HONE_OPTIONAL})
  install(TARGETS hone_shared EXPORT hone LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

function(hone_install)
  set(package ${CMAKE_INSTALL_LIBDIR}/cmake/hone)
  if(NOT HONE_SANITIZE AND NOT HONE_FUZZ AND NOT HONE_STATIC)
    hone_shared_library()
  endif()
  set_target_properties(hone PROPERTIES EXPORT_NAME hone)
  install(TARGETS hone EXPORT hone ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(TARGETS hone_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT command)
  install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/CHANGELOG.md
    DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT command)
  install(FILES ${PROJECT_SOURCE_DIR}/LICENSE RENAME copyright
    DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT command)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/hone DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT hone NAMESPACE hone:: FILE honeTargets.cmake DESTINATION ${package})
  configure_file(${PROJECT_SOURCE_DIR}/cmake/hone.pc.in hone.pc @ONLY)
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/honeConfig.cmake.in honeConfig.cmake
    INSTALL_DESTINATION ${package})
  write_basic_package_version_file(honeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/hone.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/honeConfig.cmake
    ${CMAKE_CURRENT_BINARY_DIR}/honeConfigVersion.cmake DESTINATION ${package})
endfunction()
