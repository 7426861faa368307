# Read by ctest: a test for each suite of `program`, a GoogleTest program. suites.cmake sets the
# variables.
cmake_path(GET program FILENAME name)
if(NOT EXISTS "${program}")
  add_test("${name}.IsBuilt" "${program}")
  set_tests_properties("${name}.IsBuilt" PROPERTIES ${properties})
  return()
endif()
execute_process(COMMAND "${program}" "--gtest_filter=-${skip}" --gtest_list_tests
  OUTPUT_VARIABLE listed COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" lines "${listed}")
foreach(line IN LISTS lines)
  # "Suite." or "Instance/Suite." or "Instance/Suite/0.  # TypeParam = ..."; tests are indented.
  if(line MATCHES "^([A-Za-z0-9_/]+)\\.( |$)")
    set(suite "${CMAKE_MATCH_1}")
    add_test("${suite}" "${program}" "--gtest_filter=${suite}.*-${skip}")
    set_tests_properties("${suite}" PROPERTIES TIMEOUT 900 ${properties})
  endif()
endforeach()
