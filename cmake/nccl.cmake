# NCCL, which carries communicators between CUDA devices. Found beside a libtorch that has CUDA; without
# libtorch only if it is asked for.

set(TRIREME_NCCL AUTO CACHE STRING
    "Communicators between CUDA devices: ON, OFF, or AUTO: if libtorch has CUDA and NCCL is found")
set_property(CACHE TRIREME_NCCL PROPERTY STRINGS AUTO ON OFF)

set(trireme_has_nccl OFF)
set(trireme_nccl_link)
set(nccl_wanted ${TRIREME_NCCL})
if(TRIREME_NCCL STREQUAL "AUTO")
  set(nccl_wanted OFF)
  if(TARGET torch_cuda)
    set(nccl_wanted ON)
  endif()
endif()
if(nccl_wanted)
  # The first whose nvcc knows C++20.
  find_package(CUDAToolkit 12)
  find_path(nccl_include nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(nccl_library nccl HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_ROOT}/lib)
  if(CUDAToolkit_FOUND AND nccl_include AND nccl_library)
    set(trireme_has_nccl ON)
    if(NOT DEFINED CMAKE_CUDA_COMPILER)
      set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    enable_language(CUDA)
    set(trireme_nccl_link $<LINK_ONLY:CUDA::cudart> ${nccl_library})
  elseif(TRIREME_NCCL STREQUAL "AUTO")
    message(STATUS "No NCCL beside this libtorch with CUDA: communicators carry host memory only")
  else()
    message(FATAL_ERROR "TRIREME_NCCL is ON: it takes CUDA 12 or later, nccl.h and libnccl")
  endif()
endif()

# Leaves one of world/cuda_stream.cpp and world/no_cuda_stream.cpp in the list `sources`.
function(trireme_choose_stream_source sources)
  if(TARGET torch_cuda)
    list(FILTER ${sources} EXCLUDE REGEX "world/no_cuda_stream\\.cpp$")
  else()
    list(FILTER ${sources} EXCLUDE REGEX "world/cuda_stream\\.cpp$")
  endif()
  set(${sources} ${${sources}} PARENT_SCOPE)
endfunction()

# Leaves comm/nccl/no_nccl.cpp in the list `sources`, or what it stands for. These alone are compiled
# with the headers of CUDA and NCCL.
function(trireme_choose_nccl_sources sources)
  set(with_nccl ${${sources}})
  list(FILTER with_nccl INCLUDE REGEX "comm/nccl/(cuda|handshake|lane|line|link|messages|moves|nccl|types)\\.cpp$")
  if(trireme_has_nccl)
    list(FILTER ${sources} EXCLUDE REGEX "comm/nccl/no_nccl\\.cpp$")
    set(kernels ${PROJECT_SOURCE_DIR}/trireme/comm/nccl/tree_sum.cu)
    list(APPEND ${sources} ${kernels})
    # CMake 3.25 has no option for nvcc's C++20.
    set_source_files_properties(${kernels} PROPERTIES COMPILE_OPTIONS -std=c++20)
    set_source_files_properties(${with_nccl} PROPERTIES
      INCLUDE_DIRECTORIES "${CUDAToolkit_INCLUDE_DIRS};${nccl_include}")
  else()
    list(REMOVE_ITEM ${sources} ${with_nccl})
  endif()
  set(${sources} ${${sources}} PARENT_SCOPE)
endfunction()
