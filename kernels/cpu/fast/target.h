/* target.h - compile what stands between TARGET_BEGIN and TARGET_END for an instruction set.
 *
 * The program is built for any x86-64 and chooses at run time; only the functions between these
 * marks may use the instructions. Included headers must stand before TARGET_BEGIN, except those
 * whose functions belong to the instruction set.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_TARGET_H
#define TANDEM_KERNELS_CPU_FAST_TARGET_H

#define TARGET_PRAGMA(text) _Pragma(#text)

#ifdef __clang__
#define TARGET_BEGIN(features)                                                                     \
    TARGET_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define TARGET_END TARGET_PRAGMA(clang attribute pop)
#else
#define TARGET_BEGIN(features)                                                                     \
    TARGET_PRAGMA(GCC push_options)                                                                \
    TARGET_PRAGMA(GCC target(features))
#define TARGET_END TARGET_PRAGMA(GCC pop_options)
#endif

#define TARGET_AVX512 "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx512bf16"
#define TARGET_AVX2   "avx2,fma,f16c"

#define INLINE static inline __attribute__((always_inline))

#endif
