# How every target is compiled: warnings, sanitizers, ccache, mold.

set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

# Libraries and programs alike, where CMake would give programs -fPIE: a precompiled header serves
# only those that were compiled with its own flags.
add_compile_options(-fPIC)

if(PROJECT_IS_TOP_LEVEL)
  # -ffp-contract=off: a*b+c must not become a fused multiply-add on one machine and not on another.
  add_compile_options(-Wall -Wextra -Wno-missing-field-initializers -ffp-contract=off)
  find_program(ccache ccache)
  if(ccache)
    set(CMAKE_CXX_COMPILER_LAUNCHER
        ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
        CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${ccache})
  endif()
  find_program(mold mold)
  if(mold)
    add_link_options(-fuse-ld=mold)
  endif()
endif()
# g++ 12 reports false positives of these through inlined strings and libtorch headers.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-Wno-maybe-uninitialized -Wno-restrict -Wno-stringop-overflow)
endif()

if(TRIREME_SANITIZE)
  add_compile_options(-fsanitize=${TRIREME_SANITIZE} -fno-sanitize-recover=all
    -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${TRIREME_SANITIZE})
endif()
if(TRIREME_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
