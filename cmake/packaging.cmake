# What `cmake --install` lays out, for find_package(trireme CONFIG) and pkg-config alike.
#
#   trireme::core      communicators, launcher, formats; no libtorch
#   trireme::trireme   all of it, on libtorch
#
# Without COMPONENTS a consumer gets whatever is installed; COMPONENTS core asks for no libtorch.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/trireme)

function(trireme_install_component component target)
  install(TARGETS ${target} EXPORT trireme_${component} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT trireme_${component} NAMESPACE trireme:: DESTINATION ${package_dir}
    FILE trireme-${component}-targets.cmake)
endfunction()

# Installs name.pc from cmake/name.pc.in, usable wherever the prefix is moved to.
function(trireme_install_pkg_config name)
  file(RELATIVE_PATH pc_to_prefix
    ${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
  configure_file(${PROJECT_SOURCE_DIR}/cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()

set(installed_folders base kernels cost formats comm launch optim config plan server bench)
trireme_install_component(core trireme_core)
set(mpi_libs)
if(trireme_has_mpi)
  list(JOIN MPI_CXX_LIBRARIES " " mpi_libs)
endif()
set(nccl_libs)
if(trireme_has_nccl)
  set(nccl_libs "-L${CUDAToolkit_LIBRARY_DIR} -lcudart ${nccl_library}")
endif()
trireme_install_pkg_config(trireme_core)
if(TRIREME_TORCH)
  list(APPEND installed_folders tensor world data checkpoint parallel model train)
  trireme_install_component(trireme trireme_torch)
  # The compiler's own folders must not be named again: <cstdlib> would no longer find <stdlib.h>.
  set(torch_cflags ${TORCH_INCLUDE_DIRS})
  list(REMOVE_ITEM torch_cflags ${CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES})
  list(TRANSFORM torch_cflags PREPEND "-isystem ")
  list(JOIN torch_cflags " " torch_cflags)
  string(APPEND torch_cflags " ${TORCH_CXX_FLAGS}")
  get_filename_component(torch_library_dir ${TORCH_LIBRARY} DIRECTORY)
  trireme_install_pkg_config(trireme)
  install(TARGETS trireme_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(FILES trireme/trireme.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/trireme OPTIONAL)
endif()
foreach(folder IN LISTS installed_folders)
  if(IS_DIRECTORY ${PROJECT_SOURCE_DIR}/trireme/${folder})
    install(DIRECTORY trireme/${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/trireme
      FILES_MATCHING PATTERN "*.h" PATTERN "*-inl.h" EXCLUDE)
  endif()
endforeach()

configure_package_config_file(cmake/triremeConfig.cmake.in ${PROJECT_BINARY_DIR}/triremeConfig.cmake
  INSTALL_DESTINATION ${package_dir})
# Before 1.0 every minor version may break its users.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/triremeConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/triremeConfig.cmake ${PROJECT_BINARY_DIR}/triremeConfigVersion.cmake
  DESTINATION ${package_dir})
