"""C that is the same in every kernel: reading and writing rows, fetching ahead, spreading parameters over neurons."""

PRELUDE = r"""
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(_OPENMP)
int omp_get_thread_num(void);
#else
static inline int omp_get_thread_num(void) { return 0; }
#endif
"""

BFLOAT16 = r"""
static inline float step_load(uint16_t v) { union { uint32_t i; float f; } u; u.i = (uint32_t)v << 16; return u.f; }
static inline uint16_t step_store(float v) {
  union { uint32_t i; float f; } u; u.f = v;
  return v != v ? 0x7fc0 : (uint16_t)((u.i + 0x7fff + ((u.i >> 16) & 1)) >> 16);
}
static inline real step_round(real v) { return step_load(step_store(v)); }
"""
PLAIN = r"""
static inline real step_load(store v) { return v; }
static inline store step_store(real v) { return v; }
static inline real step_round(real v) { return v; }
"""

BLOCKS = r"""
#if defined(__AVX512F__)
#define STEP_WIDE 64
#define STEP_WRITE "vmovntps %1, %0"
#elif defined(__AVX__)
#define STEP_WIDE 32
#define STEP_WRITE "vmovntps %1, %0"
#elif defined(__SSE__)
#define STEP_WIDE 16
#define STEP_WRITE "movntps %1, %0"
#endif
#if defined(STEP_WIDE)
/* in assembler, because the header of the intrinsics takes longer to read than all of this to compile */
typedef float step_wide __attribute__((vector_size(STEP_WIDE), may_alias));
#endif
/* Write a finished row past the cache: it is not read again before it would have been evicted. */
static inline void step_stream(store *to, const store *from, int64_t w) {
  int64_t done = 0;
#if defined(STEP_WIDE)
  if (((uintptr_t)to & (STEP_WIDE - 1)) == 0) {
    for (; done + STEP_WIDE / (int64_t)sizeof(store) <= w; done += STEP_WIDE / (int64_t)sizeof(store))
      __asm__ volatile(STEP_WRITE : "=m"(*(step_wide *)(to + done)) : "v"(*(const step_wide *)(from + done)));
  }
#endif
  memcpy(to + done, from + done, (size_t)(w - done) * sizeof(store));
}
static inline void step_fence(void) {
#if defined(STEP_WIDE)
  __asm__ volatile("sfence" ::: "memory");
#endif
}
/* Rows lie far apart in memory, where the hardware does not foresee the next one: that of the step AHEAD of this one,
   at the end of a block the first of the next. With many steps the rows compete for the few places of the first cache
   that their addresses allow, and are better fetched into the second. */
static inline void step_fetch(const store *row, int64_t w, int64_t T) {
  if (T > FEW) for (int64_t i = 0; i < w; i += 64 / (int64_t)sizeof(store)) __builtin_prefetch(row + i, 0, 2);
  else for (int64_t i = 0; i < w; i += 64 / (int64_t)sizeof(store)) __builtin_prefetch(row + i, 0, 3);
}
/* The values of a parameter of `size` channels, `inner` neurons each, for the neurons lo ... lo + w. */
static inline void step_gather(real *to, const real *from, int64_t lo, int64_t w, int64_t size, int64_t inner) {
  int64_t k = (lo / inner) % size, r = lo % inner;
  for (int64_t i = 0; i < w;) {
    if (inner == 1) {
      const int64_t run = size - k < w - i ? size - k : w - i;
      memcpy(to + i, from + k, (size_t)run * sizeof(real));
      i += run;
      k = 0;
    } else {
      const int64_t run = inner - r < w - i ? inner - r : w - i;
      for (int64_t j = 0; j < run; ++j) to[i + j] = from[k];
      i += run;
      r = 0;
      k = k + 1 == size ? 0 : k + 1;
    }
  }
}
"""
