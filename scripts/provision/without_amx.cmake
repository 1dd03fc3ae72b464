# Read by CMake right after llama.cpp's own project() call. On a processor with AMX, a build for that processor uses AMX and
# dies of it: GCC 12 optimises the stores of the tile configuration away before it is loaded (a general protection fault at
# ldtilecfg, in the first batch of more than one token; ggml-org/llama.cpp issue 20824). AVX-512 is used instead.
include(CheckCXXCompilerFlag)
check_cxx_compiler_flag(-mno-amx-tile MESHNODE_COMPILER_KNOWS_AMX)
if(MESHNODE_COMPILER_KNOWS_AMX)
    add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-mno-amx-tile> $<$<COMPILE_LANGUAGE:C,CXX>:-mno-amx-int8>)
endif()
