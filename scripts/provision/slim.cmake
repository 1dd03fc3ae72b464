# Read by CMake right after llama.cpp's own project() call: its command line tools' common library is built and installed
# by default, is a third of the compile time, and nothing of it is used from Python.
set(LLAMA_BUILD_COMMON OFF)
include("${CMAKE_CURRENT_LIST_DIR}/without_amx.cmake")
