# Read by ctest: a test for each suite of `program`, a GoogleTest program. suites.cmake sets the
# variables. Suites whose name begins with "Soak" train for minutes: they run where the environment
# has TRIREME_SOAK, as in `TRIREME_SOAK=1 ctest --preset release -R Soak`.
cmake_path(GET program FILENAME name)
if(NOT EXISTS "${program}")
  add_test("${name}.IsBuilt" "${program}")
  set_tests_properties("${name}.IsBuilt" PROPERTIES ${properties})
  return()
endif()
execute_process(COMMAND "${program}" "--gtest_filter=-${skip}" --gtest_list_tests
  OUTPUT_VARIABLE listed COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" lines "${listed}")
set(suites)
foreach(line IN LISTS lines)
  # "Suite." or "Instance/Suite." or "Instance/Suite/0.  # TypeParam = ..."; its tests are indented.
  if(line MATCHES "^([A-Za-z0-9_/]+)\\.( |$)")
    set(suite "${CMAKE_MATCH_1}")
    list(APPEND suites "${suite}")
    set(tests_of_${suite} 0)
  elseif(line MATCHES "^  ")
    math(EXPR tests_of_${suite} "${tests_of_${suite}} + 1")
  endif()
endforeach()
# Those with the most tests begin first: none is left to run alone at the end.
foreach(suite IN LISTS suites)
  if(suite MATCHES "(^|/)Soak" AND NOT DEFINED ENV{TRIREME_SOAK})
    continue()
  endif()
  add_test("${suite}" "${program}" "--gtest_filter=${suite}.*-${skip}")
  set_tests_properties("${suite}" PROPERTIES TIMEOUT 900 COST ${tests_of_${suite}} ${properties})
endforeach()
