"""C of the event-driven products: lists of what is not zero, and sums of the rows that they name.

One loop does all the arithmetic (``step_sum``). A panel holds rows of 32 neighbouring outputs and lies in the first
cache; the sums of one output token stay in registers while the rows that its list names are added.

- Product with a layer's weights: the rows are weights by input channel, the lists name the channels that spike.
- Gradient of the weights: the rows are gradients by output token, the lists name the tokens at which a channel spikes.

Every number is summed by one thread in an order that the shapes alone decide.
"""

from __future__ import annotations

from neurons.products.source_gradient import GRADIENT
from neurons.products.source_product import PRODUCT

WIDE = 32
"""Outputs of one panel."""

ROWS = 192
"""Rows of one panel: 24 KiB, which leaves a first cache of 32 KiB room for lists and results."""

SUMS = r"""
#include <stdint.h>
#include <string.h>
#define WIDE 32
#define ROW (WIDE * 4)
#if defined(_OPENMP)
int omp_get_thread_num(void);
#else
static inline int omp_get_thread_num(void) { return 0; }
#endif
#define INLINE static inline __attribute__((always_inline))
typedef float vec __attribute__((vector_size(64), may_alias));
typedef float loose __attribute__((vector_size(64), may_alias, aligned(4)));
/* As wide as a register, so that sums stay in registers; PARTS make 16 numbers. */
#if defined(__AVX512F__)
#define PART 64
#elif defined(__AVX__)
#define PART 32
#else
#define PART 16
#endif
#define PARTS (64 / PART)
typedef float part __attribute__((vector_size(PART), may_alias));
typedef float loose_part __attribute__((vector_size(PART), may_alias, aligned(4)));
typedef int32_t whole __attribute__((vector_size(64), may_alias));
/* What is added up for one row of the result: list[start ... end), rows of the panel shifted by base bytes. */
typedef struct { uint32_t start, end; int32_t base; } job;

INLINE int64_t step_min(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t step_max(int64_t a, int64_t b) { return a > b ? a : b; }
#define SPLAT(v) ((v) - (vec){0})

/* to[i] = from[i] + the rows of job i; Z vectors of outputs, two sums each, so that additions overlap. Rows are met
   in no order that the hardware could foresee, so the panel after this one is fetched meanwhile, a row for a job. */
#define EACH(Z) _Pragma("GCC unroll 16") for (int z = 0; z < Z; ++z)
#define STEP_SUM(NAME, Z, TERM) \
static __attribute__((noinline)) void NAME(const char *panel, const char *next, const job *jobs, int64_t n, \
    const uint32_t *list, const float *value, const float *from, int64_t from_row, float *to, int64_t to_row) { \
  for (int64_t i = 0; i < n; ++i) { \
    const uint32_t *e = list + jobs[i].start, *end = list + jobs[i].end; \
    const float *x = value + jobs[i].start; \
    const char *rows = panel + jobs[i].base; \
    part a[Z], b[Z]; \
    for (int z = 0; z < Z; z += PARTS) { \
      __builtin_prefetch(next + i * ROW + PART * z, 0, 2); \
      __builtin_prefetch(to + (i + 4) * to_row + PART / 4 * z, 1, 3); \
    } \
    EACH(Z) a[z] = *(const loose_part *)(from + i * from_row + PART / 4 * z); \
    EACH(Z) b[z] = (part){0}; \
    for (; e + 2 <= end; e += 2, x += 2) { \
      const part *first = (const part *)(rows + e[0]), *second = (const part *)(rows + e[1]); \
      EACH(Z) a[z] += TERM(x[0], first[z]); \
      EACH(Z) b[z] += TERM(x[1], second[z]); \
    } \
    if (e < end) { \
      const part *first = (const part *)(rows + e[0]); \
      EACH(Z) a[z] += TERM(x[0], first[z]); \
    } \
    EACH(Z) *(loose_part *)(to + i * to_row + PART / 4 * z) = a[z] + b[z]; \
  } \
}
#define STEP_ONE(x, row) (row)
#define STEP_TIMES(x, row) (((x) - (part){0}) * (row))
STEP_SUM(step_sum_1, PARTS, STEP_ONE)
STEP_SUM(step_sum_2, 2 * PARTS, STEP_ONE)
STEP_SUM(step_sum_times_1, PARTS, STEP_TIMES)
STEP_SUM(step_sum_times_2, 2 * PARTS, STEP_TIMES)

INLINE void step_sum(int64_t width, const char *panel, const char *next, const job *jobs, int64_t n,
    const uint32_t *list, const float *value, const float *from, int64_t from_row, float *to, int64_t to_row) {
  const int wide = width > 16;
  if (value)
    (wide ? step_sum_times_2 : step_sum_times_1)(panel, next, jobs, n, list, value, from, from_row, to, to_row);
  else  /* nobody reads the values */
    (wide ? step_sum_2 : step_sum_1)(panel, next, jobs, n, list, (const float *)list, from, from_row, to, to_row);
}

/* 16 rows of 16 numbers become 16 columns. */
#define SWAP(S) for (int i = 0; i < 16; ++i) if (!(i & S)) { \
  const vec a = r[i], b = r[i + S]; \
  r[i] = PICK_LOW_##S(a, b); r[i + S] = PICK_HIGH_##S(a, b); }
#define PICK_LOW_8(a, b) SHUFFLE(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
#define PICK_HIGH_8(a, b) SHUFFLE(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
#define PICK_LOW_4(a, b) SHUFFLE(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
#define PICK_HIGH_4(a, b) SHUFFLE(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31)
#define PICK_LOW_2(a, b) SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define PICK_HIGH_2(a, b) SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define PICK_LOW_1(a, b) SHUFFLE(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
#define PICK_HIGH_1(a, b) SHUFFLE(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31)
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#if !defined(SHUFFLE)
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (whole){__VA_ARGS__})
#endif
INLINE void step_turn(vec *r) {
  _Pragma("GCC unroll 16") SWAP(8)
  _Pragma("GCC unroll 16") SWAP(4)
  _Pragma("GCC unroll 16") SWAP(2)
  _Pragma("GCC unroll 16") SWAP(1)
}
"""

LISTS = r"""
/* The non-zero numbers among 16 as bits; `other` collects those that are not one either. */
INLINE uint32_t step_bits(const float *x, uint32_t *other) {
#if defined(__AVX512F__)
  const vec v = *(const loose *)x;
  unsigned short some, odd;
  __asm__("vcmpneqps %2, %1, %0" : "=k"(some) : "v"(v), "v"((vec){0}));
  __asm__("vcmpneqps %2, %1, %0" : "=k"(odd) : "v"(v), "v"(SPLAT(1.0f)));
  *other |= some & odd;
  return some;
#else
  uint32_t some = 0, odd = 0;
  for (int i = 0; i < 16; ++i) {
    some |= (uint32_t)(x[i] != 0.0f) << i;
    odd |= (uint32_t)(x[i] != 1.0f) << i;
  }
  *other |= some & odd;
  return some;
#endif
}
/* Write first + i * ROW for every bit i to `to`; where there is room, 16 numbers of which the last mean nothing. */
INLINE void step_names(uint32_t bits, uint32_t first, uint32_t *to, int room) {
#if defined(__AVX512F__)
  if (room) {
    const whole i = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const whole names = i * ROW + (int32_t)first;
    whole some;
    __asm__("vpcompressd %1, %0%{%2%}%{z%}" : "=v"(some) : "v"(names), "Yk"((unsigned short)bits));
    memcpy(to, &some, 64);
    return;
  }
#endif
  (void)room;
  for (; bits; bits &= bits - 1) *to++ = first + (uint32_t)__builtin_ctz(bits) * ROW;
}

/* How many of `n` numbers, taken in runs of 64 with `skip` between, are not zero. */
int64_t step_sample(const float *x, int64_t n, int64_t skip) {
  int64_t found = 0;
  for (int64_t at = 0; at + 64 <= n; at += skip) {
    int32_t some = 0;
    for (int i = 0; i < 64; ++i) some += x[at + i] != 0.0f;
    found += some;
  }
  return found;
}

/* First look: bits of every pixel, and how many there are in every slice of its channels. */
void step_count(const int64_t *a) {
  const float *x = (const float *)a[0];
  uint16_t *bits = (uint16_t *)a[1];
  uint32_t *start = (uint32_t *)a[2];
  int64_t *totals = (int64_t *)a[3], *others = (int64_t *)a[4];
  const int64_t pixels = a[5], C = a[6], slice = a[7], part = a[8], threads = a[9];
  const int64_t slices = (C + slice - 1) / slice, words = (C + 15) / 16;
#pragma omp parallel for schedule(static) num_threads(threads) if(threads > 1)
  for (int64_t lo = 0; lo < pixels; lo += part) {
    int64_t total = 0;
    uint32_t other = 0;
    for (int64_t i = lo; i < step_min(lo + part, pixels); ++i) {
      const float *row = x + i * C;
      uint16_t *to = bits + i * words;
      for (int64_t s = 0; s < slices; ++s) {
        const int64_t last = step_min((s + 1) * slice, C);
        int64_t found = 0;
        for (int64_t c = s * slice; c < last; c += 16) {
          uint32_t some;
          if (c + 16 <= last) some = step_bits(row + c, &other);
          else {
            float tail[16] = {0};
            memcpy(tail, row + c, (size_t)(last - c) * 4);
            some = step_bits(tail, &other);
          }
          to[c / 16] = (uint16_t)some;
          found += __builtin_popcount(some);
        }
        start[i * slices + s] = (uint32_t)found;
        total += found;
      }
    }
    totals[lo / part] = total;
    others[lo / part] = other != 0;
  }
}

/* Second look: counts become places, bits become names (and values, where they are not all one). */
void step_list(const int64_t *a) {
  const float *x = (const float *)a[0];
  const uint16_t *bits = (const uint16_t *)a[1];
  uint32_t *start = (uint32_t *)a[2], *list = (uint32_t *)a[10];
  const int64_t *firsts = (const int64_t *)a[3];
  const int64_t pixels = a[5], C = a[6], slice = a[7], part = a[8], threads = a[9], W = a[12];
  float *value = (float *)a[11];
  const int64_t slices = (C + slice - 1) / slice, words = (C + 15) / 16;
#pragma omp parallel for schedule(static) num_threads(threads) if(threads > 1)
  for (int64_t lo = 0; lo < pixels; lo += part) {
    const int64_t hi = step_min(lo + part, pixels), end = firsts[lo / part + 1];
    int64_t at = firsts[lo / part];
    for (int64_t i = lo; i < hi; ++i) {
      /* one slice: names count through the row of the image, so that a window of pixels is one piece of the list */
      const int64_t shift = slices == 1 ? i % W * C : 0;
      for (int64_t s = 0; s < slices; ++s) {
        const int64_t last = step_min((s + 1) * slice, C);
        start[i * slices + s] = (uint32_t)at;
        for (int64_t c = s * slice; c < last; c += 16) {
          const uint32_t some = bits[i * words + c / 16];
          step_names(some, (uint32_t)((shift + c - s * slice) * ROW), list + at, at + 16 <= end);
          const int64_t next = at + __builtin_popcount(some);
          if (value) {
            uint32_t left = some;
            for (; at < next; ++at, left &= left - 1) value[at] = x[i * C + c + __builtin_ctz(left)];
          }
          at = next;
        }
      }
    }
    if (hi == pixels) start[pixels * slices] = (uint32_t)at;
  }
}
"""

TEXT = SUMS + LISTS + PRODUCT + GRADIENT
"""All of it, for one library."""
