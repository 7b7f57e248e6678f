# One line per kernel module: sluice_shader(module source [SOFTWARE] [DEFINES macro ...] [VARIANTS "id=value ..." ...]).
# The module's name is also the name of its C constant (SHADER_<MODULE>), of its timer and of its debug label.

sluice_shader(probe probe.comp)
sluice_shader(roof_read roof_read.comp VARIANTS "0=64" "0=256" "0=8 1=1")
sluice_shader(roof_fma roof_fma.comp VARIANTS "0=64" "0=256")
sluice_shader(roof_dot64 roof_dot64.comp SOFTWARE)
sluice_shader(roof_dot roof_dot.comp VARIANTS "0=64 1=1" "0=256 1=1" "0=64 1=0")

# Norms and mixture of experts
sluice_shader(norm_rms norm_rms.comp)
sluice_shader(norm_rms_q8 norm_rms.comp DEFINES QUANTISE)
sluice_shader(gated_add gated_add.comp)
sluice_shader(moe_route moe_route.comp)
sluice_shader(moe_combine moe_combine.comp)
sluice_shader(moe_combine_norm moe_combine_norm.comp)
sluice_shader(moe_combine_norm_q8 moe_combine_norm.comp DEFINES QUANTISE)

# Gated DeltaNet
sluice_shader(conv_seq conv_seq.comp VARIANTS "0=4")
sluice_shader(conv_state conv_state.comp VARIANTS "0=4")
sluice_shader(delta_scan delta_scan.comp
              VARIANTS "0=256 1=32 2=128 3=4 4=1 7=2" "0=256 1=16 2=64 3=4 4=1 7=2" "0=128 1=2 2=8 3=2 4=1 7=2")
sluice_shader(delta_norm delta_norm.comp)
sluice_shader(delta_norm_q8 delta_norm.comp DEFINES QUANTISE)

# Gated attention: dimensions of a head, rows, positions per lane, unrolled, -, lanes, rows of one token only
foreach(kv f16 f32 q8)
  string(TOUPPER KV_${kv} define)
  sluice_shader(rope_store_${kv} rope_store.comp DEFINES ${define})
  sluice_shader(attend_${kv} attend.comp DEFINES ${define}
                VARIANTS "0=256 1=1 2=2 3=2 5=64 6=1" "0=256 1=8 2=2 3=2 5=64 6=1" "0=256 1=8 2=2 3=1 5=64 6=0"
                         "0=128 1=8 2=2 3=2 5=32 6=1" "0=128 1=8 2=2 3=1 5=32 6=0" "0=64 1=8 2=2 3=2 5=32 6=1")
endforeach()
sluice_shader(attend_f16_wide attend.comp SOFTWARE DEFINES KV_F16 KV_WIDE)
sluice_shader(attend_q8_wide attend.comp SOFTWARE DEFINES KV_Q8 KV_WIDE)
# On matrix cores: shape, invocations, dimensions of a head, unrolled, subgroups along the columns.
sluice_shader(attend_coop attend_coop.comp COOP
              VARIANTS "0=16 1=16 2=16 3=128 4=256 5=1" "0=8 1=16 2=16 3=256 4=256 5=1 6=4")
sluice_shader(attend_merge attend_merge.comp)
sluice_shader(attend_merge_q8 attend_merge.comp DEFINES QUANTISE)

# Matrices. The variants are what runtime/ops chooses on a GPU: lanes, rows per lane, columns, matrices, row list, dot
# product, unrolled, slice lanes (for long rows), and (10) y rounded. 64 lanes are possible only where subgroups are that
# wide. Calibration also tries to do without the dot product instruction; of that the largest variants are listed. On a
# software driver one lane takes several rows and all slices.
set(matmul_f32_variants)
set(matmul_q8_variants)
foreach(kind "3=1 4=0" "3=2 4=0" "3=2 4=2" "3=1 4=1")
  foreach(lanes "0=32" "wide 0=64")
    foreach(columns 1 2 4)
      list(APPEND matmul_f32_variants "${lanes} 1=1 2=${columns} ${kind} 5=1 6=1 7=8")
    endforeach()
    if(kind MATCHES "3=1")
      list(APPEND matmul_q8_variants "${lanes} 1=1 2=8 ${kind} 5=1 6=1 7=1")
    endif()
  endforeach()
endforeach()
foreach(variant IN LISTS matmul_f32_variants) # a pair's results are rounded for the matrix that follows
  string(REGEX REPLACE "3=2.*" "\\0 10=1" variant "${variant}")
  list(APPEND matmul_q8_variants "${variant}")
endforeach()
foreach(kind "2=4 3=1 4=0 5=0 6=1 7=8" "2=4 3=1 4=1 5=0 6=1 7=8"
             "2=2 3=2 4=0 5=0 6=1 7=8 10=1" "2=2 3=2 4=2 5=0 6=1 7=8 10=1")
  list(APPEND matmul_q8_variants "0=32 1=1 ${kind}" "wide 0=64 1=1 ${kind}")
endforeach()
foreach(x f32 q8)
  set(slabs_${x}_variants ${matmul_${x}_variants})
  list(FILTER slabs_${x}_variants EXCLUDE REGEX "4=0")
  list(FILTER matmul_${x}_variants INCLUDE REGEX "4=0")
endforeach()
foreach(format f32 f16 bf16 q8_0 q4_k q5_k q6_k)
  string(TOUPPER FORMAT_${format} define)
  sluice_shader(matmul_${format} matmul.comp DEFINES ${define} VARIANTS ${matmul_f32_variants})
  sluice_shader(embed_rows_${format} embed_rows.comp DEFINES ${define} VARIANTS "0=64")
endforeach()
foreach(format q8_0 q4_k q5_k q6_k)
  string(TOUPPER FORMAT_${format} define)
  sluice_shader(matmul_${format}_q8 matmul.comp DEFINES ${define} ACTIVATIONS_Q8 VARIANTS ${matmul_q8_variants})
endforeach()
# Lists of tiles whose experts lie in several buffers.
foreach(format f32 f16 bf16 q8_0 q4_k q5_k q6_k)
  string(TOUPPER FORMAT_${format} define)
  sluice_shader(matmul_${format}_slabs matmul.comp DEFINES ${define} WEIGHT_SLABS VARIANTS ${slabs_f32_variants})
endforeach()
foreach(format q8_0 q4_k q5_k q6_k)
  string(TOUPPER FORMAT_${format} define)
  sluice_shader(matmul_${format}_q8_slabs matmul.comp DEFINES ${define} WEIGHT_SLABS ACTIVATIONS_Q8
                VARIANTS ${slabs_q8_variants})
endforeach()
foreach(format q4_k q5_k q6_k)
  string(TOUPPER FORMAT_${format} define)
  set(quads SOFTWARE DEFINES ${define} ACTIVATIONS_Q8 ACTIVATIONS_QUADS)
  sluice_shader(matmul_${format}_quads matmul.comp ${quads})
  sluice_shader(matmul_${format}_quads_slabs matmul.comp ${quads} WEIGHT_SLABS)
endforeach()
# The same on matrix cores, as runtime/ops/coop_matmul.c chooses them. Constants: the shape, invocations, subgroups along
# rows and columns, columns, matrices, row list, 8-bit x, row tiles, unrolled. Shapes: RDNA and NVIDIA, Intel B580, Intel A770; the
# compiler check skips those that a device does not report.
set(matmul_coop_variants)
foreach(block
    "0=16 1=16 2=16 3=128 4=2 5=2 6=64 11=1" "0=16 1=16 2=16 3=128 4=4 5=1 6=16 11=1"
    "0=8 1=16 2=16 3=256 4=8 5=2 6=64 11=0" "0=8 1=16 2=16 3=128 4=8 5=1 6=16 11=0"
    "0=8 1=8 2=16 3=256 4=8 5=4 6=64 11=0" "0=8 1=8 2=16 3=128 4=8 5=2 6=16 11=0")
  foreach(kind "7=1 8=0" "7=2 8=2")
    list(APPEND matmul_coop_variants "${block} ${kind} 9=0 10=2" "${block} ${kind} 9=1 10=2")
  endforeach()
endforeach()
foreach(format f16 bf16 q8_0 q4_k q5_k q6_k)
  string(TOUPPER FORMAT_${format} define)
  sluice_shader(matmul_coop_${format} matmul_coop.comp COOP DEFINES ${define} VARIANTS ${matmul_coop_variants})
endforeach()
sluice_shader(quantize_q8 quantize_q8.comp VARIANTS "0=64")
