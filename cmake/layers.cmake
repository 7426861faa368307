# One folder of trireme/ is one layer (layers.txt); a source is in the build by lying in its folder.

function(trireme_layer_sources out)
  set(sources)
  foreach(layer IN LISTS ARGN)
    file(GLOB found CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/trireme/${layer}/*.cpp
                                      ${PROJECT_SOURCE_DIR}/trireme/${layer}/*/*.cpp)
    list(APPEND sources ${found})
  endforeach()
  set(${out} ${sources} PARENT_SCOPE)
endfunction()
