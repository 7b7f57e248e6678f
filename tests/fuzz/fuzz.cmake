# sluice_fuzz(area SOURCES fuzz_area.c LINK targets): a fuzz target for the inputs in tests/data/fuzz/<area>.
#
# The test replay_<area> runs it over these inputs in every build. With -DSLUICE_FUZZ=ON, clang and
# -DSLUICE_SANITIZE=address,undefined,fuzzer-no-link there is a libFuzzer program fuzz_<area> too:
#   fuzz_safetensors -max_total_time=600 NEW_INPUTS tests/data/fuzz/safetensors
include_guard(GLOBAL)
option(SLUICE_FUZZ "build libFuzzer programs (clang)" OFF)

function(sluice_fuzz area)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK")
  add_executable(replay_${area} ${arg_SOURCES} ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_replay.c)
  target_link_libraries(replay_${area} PRIVATE sluice_flags ${arg_LINK})
  add_test(NAME replay_${area} COMMAND replay_${area} ${PROJECT_SOURCE_DIR}/tests/data/fuzz/${area})
  if(SLUICE_FUZZ)
    add_executable(fuzz_${area} ${arg_SOURCES})
    target_link_libraries(fuzz_${area} PRIVATE sluice_flags ${arg_LINK})
    target_link_options(fuzz_${area} PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()
