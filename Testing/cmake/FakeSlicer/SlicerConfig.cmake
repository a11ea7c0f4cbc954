# Stands in for Slicer, so that CMake configures the extension on a machine without it (-DSlicer_DIR=<this folder>).
# Nothing is built: each macro only checks that what it is given exists where Slicer would look for it.

# The extension includes this file again under the names of Slicer's own, which then does nothing.
include_guard(GLOBAL)
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_FILE}")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_FILE}")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_FILE}")

function(fake_slicer_check caller unknown)
  if(unknown)
    message(FATAL_ERROR "${caller} does not know: ${unknown}")
  endif()
  foreach(path IN LISTS ARGN)
    # Slicer puts absolute paths and those with ".." in the wrong place.
    if(IS_ABSOLUTE "${path}" OR path MATCHES "\\.\\.")
      message(FATAL_ERROR "${caller} was given ${path}, which is not a path below ${CMAKE_CURRENT_SOURCE_DIR}")
    endif()
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${path}")
      message(FATAL_ERROR "${caller} was given ${path}, which does not exist in ${CMAKE_CURRENT_SOURCE_DIR}")
    endif()
  endforeach()
endfunction()

function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(NOT MODULE_NAME OR NOT MODULE_SCRIPTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule needs NAME and SCRIPTS")
  endif()
  fake_slicer_check(slicerMacroBuildScriptedModule "${MODULE_UNPARSED_ARGUMENTS}" ${MODULE_SCRIPTS} ${MODULE_RESOURCES})
endfunction()

function(slicer_add_python_unittest)
  cmake_parse_arguments(TEST "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  fake_slicer_check(slicer_add_python_unittest "${TEST_UNPARSED_ARGUMENTS}" ${TEST_SCRIPT})
endfunction()
