# trireme_test_suites(target [PROPERTIES name value ...])
#
# Makes each suite of the GoogleTest program `target` one test of ctest. A process runs a whole suite:
# to load libtorch takes longer than most tests do. Suites are found when ctest starts, by
# find_suites.cmake. What TRIREME_SKIP_TESTS names, patterns of --gtest_filter, is left out.
function(trireme_test_suites target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "PROPERTIES")
  set(file ${CMAKE_CURRENT_BINARY_DIR}/${target}_suites.cmake)
  file(GENERATE OUTPUT ${file} CONTENT "set(program [[$<TARGET_FILE:${target}>]])
set(skip [[${TRIREME_SKIP_TESTS}]])
set(properties [[${arg_PROPERTIES}]])
include([[${PROJECT_SOURCE_DIR}/tests/find_suites.cmake]])
")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${file})
endfunction()
