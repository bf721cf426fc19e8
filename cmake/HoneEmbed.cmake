# SPDX-License-Identifier: Apache-2.0
# A file as a C array: cmake -DFILE=… -DNAME=… -DOUT=… -P HoneEmbed.cmake
#   hone_embed(TARGET FILE NAME): NAME[] holds FILE's bytes and a NUL, in TARGET.
if(CMAKE_SCRIPT_MODE_FILE)
  file(READ ${FILE} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
  file(WRITE ${OUT} "extern const unsigned char ${NAME}[];\nconst unsigned char ${NAME}[] = {\n${bytes}0};\n")
  return()
endif()

function(hone_embed target file name)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${name}.c)
  set(script ${PROJECT_SOURCE_DIR}/cmake/HoneEmbed.cmake)
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DFILE=${CMAKE_CURRENT_SOURCE_DIR}/${file} -DNAME=${name} -DOUT=${out}
      -P ${script}
    DEPENDS ${file} ${script} VERBATIM)
  target_sources(${target} PRIVATE ${out})
endfunction()
