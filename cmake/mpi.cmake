# The MPI that carries communicators between hosts. Of several, -DMPI_CXX_COMPILER=mpicxx.mpich
# chooses.

set(TRIREME_MPI AUTO CACHE STRING "Communicators over MPI: ON, OFF, or AUTO: if it is found")
set_property(CACHE TRIREME_MPI PROPERTY STRINGS AUTO ON OFF)

if(TRIREME_MPI)
  # Debian has mpiexec.mpich beside mpicxx.mpich; each starts its own programs only.
  if(MPI_CXX_COMPILER MATCHES "mpicxx(\\.[a-z]+)$")
    find_program(MPIEXEC_EXECUTABLE mpiexec${CMAKE_MATCH_1})
  endif()
  # Only the C interface is used.
  set(MPI_CXX_SKIP_MPICXX TRUE)
  if(TRIREME_MPI STREQUAL "AUTO")
    find_package(MPI COMPONENTS CXX)
  else()
    find_package(MPI REQUIRED COMPONENTS CXX)
  endif()
endif()

set(trireme_has_mpi OFF)
set(trireme_mpi_link)
if(TRIREME_MPI AND MPI_CXX_FOUND)
  set(trireme_has_mpi ON)
  set(trireme_mpi_link $<LINK_ONLY:MPI::MPI_CXX>)
endif()

# Leaves comm/mpi/no_mpi.cpp in the list `sources`, or what it stands for. These alone are compiled
# with MPI's headers: the objects of all others serve every MPI.
function(trireme_choose_mpi_sources sources)
  set(with_mpi ${${sources}})
  list(FILTER with_mpi INCLUDE REGEX "comm/mpi/(chunks|engine|mpi|native|transfer)\\.cpp$")
  if(trireme_has_mpi)
    list(FILTER ${sources} EXCLUDE REGEX "comm/mpi/no_mpi\\.cpp$")
    set_source_files_properties(${with_mpi} PROPERTIES
      INCLUDE_DIRECTORIES "${MPI_CXX_INCLUDE_DIRS}" COMPILE_DEFINITIONS "${MPI_CXX_COMPILE_DEFINITIONS}")
  else()
    list(REMOVE_ITEM ${sources} ${with_mpi})
  endif()
  set(${sources} ${${sources}} PARENT_SCOPE)
endfunction()
