"""C that the loops of the ELM neuron share: vectors, activations and their slopes, rows in and out, transposing.

A vector ``vf`` is as wide as a register. The hyperbolic tangent and the logistic function come from one exponential,
``exp(x) - 1`` by a Taylor series after the reduction by powers of two, with the exponent clamped: relative error below
1e-6 everywhere, near zero too, and NaN stays NaN.
"""

from __future__ import annotations

VECTORS = r"""
#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif
#if defined(_OPENMP)
int omp_get_thread_num(void);
#else
static inline int omp_get_thread_num(void) { return 0; }
#endif
#define INLINE static inline __attribute__((always_inline))
/* numbers of a vector, and vectors that one tile of sums may hold */
#if defined(__AVX512F__)
#define W 16
#define SUMS 24
#elif defined(__AVX2__) && defined(__FMA__)
#define W 8
#define SUMS 12
#else
#define W 4
#define SUMS 12
#endif
typedef float vf __attribute__((vector_size(4 * W), may_alias));
typedef float loose __attribute__((vector_size(4 * W), may_alias, aligned(4)));
typedef int32_t vi __attribute__((vector_size(4 * W), may_alias));
#define SPLAT(x) ((x) - (vf){0})
#define UP(n) (((n) + W - 1) / W * W)
#define UNROLL _Pragma("GCC unroll 24")

/* x * y + z, rounded once where the processor can: products here need not be those of an eager loop to the bit. */
INLINE vf step_fma(vf x, vf y, vf z) {
#if defined(__AVX512F__)
  return (vf)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
#elif defined(__AVX2__) && defined(__FMA__)
  return (vf)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
#elif defined(__ARM_NEON)
  return (vf)vfmaq_f32((float32x4_t)z, (float32x4_t)x, (float32x4_t)y);
#else
  return x * y + z;
#endif
}
INLINE vf step_pick(vi mask, vf x, vf y) { return (vf)((mask & (vi)x) | (~mask & (vi)y)); }
INLINE vf step_clamp(vf x, float most) {
  x = step_pick(x > SPLAT(most), SPLAT(most), x);
  return step_pick(x < SPLAT(-most), SPLAT(-most), x);
}
/* exp(x) - 1 for |x| < 87 */
INLINE vf step_expm1(vf x) {
  const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to whole numbers */
  const vf shifted = step_fma(x, SPLAT(1.44269504088896341f), SPLAT(magic));
  const vf n = shifted - SPLAT(magic);
  vf r = step_fma(n, SPLAT(-0.693145751953125f), x);
  r = step_fma(n, SPLAT(-1.428606820309417e-06f), r);
  vf p = SPLAT(1.0f / 5040);
  p = step_fma(p, r, SPLAT(1.0f / 720));
  p = step_fma(p, r, SPLAT(1.0f / 120));
  p = step_fma(p, r, SPLAT(1.0f / 24));
  p = step_fma(p, r, SPLAT(1.0f / 6));
  p = step_fma(p, r, SPLAT(0.5f));
  p = step_fma(p * r, r, r);
  const vf power = (vf)(((vi)shifted << 23) + (int32_t)0x3f800000);
  return step_fma(p, power, power - SPLAT(1.0f));
}
INLINE vf step_tanh(vf x) {
  const vf e = step_expm1(step_clamp(x + x, 19.0f));
  return e / (e + SPLAT(2.0f));
}
INLINE vf step_logistic(vf x) {
  return SPLAT(1.0f) / (step_expm1(step_clamp(-x, 86.0f)) + SPLAT(2.0f));
}
enum { RELU, SILU, SQUARED };
INLINE vf step_relu(vf x) { return step_pick(x < (vf){0}, (vf){0}, x); }
INLINE vf step_act(int kind, vf x) {
  if (kind == SILU) return x * step_logistic(x);
  x = step_relu(x);
  if (kind == SQUARED) x *= x;
  return x;
}
INLINE vf step_act_slope(int kind, vf x) {
  if (kind == SILU) {
    const vf s = step_logistic(x);
    return s * step_fma(x, SPLAT(1.0f) - s, SPLAT(1.0f));
  }
  if (kind == SQUARED) return step_relu(x) * SPLAT(2.0f);
  return step_pick(x > (vf){0}, SPLAT(1.0f), (vf){0});
}
/* n numbers, wherever they lie; what is copied last may be copied twice */
INLINE void step_copy(float *to, const float *from, int64_t n) {
  if (n < W) { for (int64_t i = 0; i < n; ++i) to[i] = from[i]; return; }
  int64_t i = 0;
  for (; i + W <= n; i += W) *(loose *)(to + i) = *(const loose *)(from + i);
  if (i < n) *(loose *)(to + n - W) = *(const loose *)(from + n - W);
}
INLINE int64_t step_least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE float *step_room(float **free, int64_t n) {
  float *found = *free;
  *free += (n + 15) / 16 * 16;
  memset(found, 0, (size_t)n * 4);
  return found;
}
"""

EXPORTED = r"""
/* For tests: the functions above, n a multiple of 16. */
void step_functions(const int64_t *a) {
  const float *x = (const float *)a[0];
  float *to = (float *)a[1];
  const int64_t n = a[2], which = a[3];
  for (int64_t i = 0; i < n; i += W) {
    const vf v = *(const loose *)(x + i);
    *(loose *)(to + i) = which == 0 ? step_tanh(v) : which == 1 ? step_logistic(v) : step_expm1(v);
  }
}
"""

PIECE = 512
"""Numbers of a step that one piece of the filter holds at most."""

FILTER = r"""
/* y_t = decay y_{t-1} + x_t; out is y plus a bias. Places of a step (rows of D numbers) side by side, in pieces. */
void step_filter(const int64_t *a) {
  const float *x = (const float *)a[0], *decay = (const float *)a[1], *start = (const float *)a[2];
  const float *bias = (const float *)a[3];
  float *out = (float *)a[4];
  const int64_t T = a[5], rows = a[6], D = a[7], one = a[8], threads = a[9], piece = a[10];
  const int64_t n = rows * D;
#pragma omp parallel for schedule(static) num_threads(threads) if(threads > 1)
  for (int64_t lo = 0; lo < n; lo += piece) {
    const int64_t w = step_least(piece, n - lo);
    float y[PIECE] __attribute__((aligned(64))), d[PIECE] __attribute__((aligned(64)));
    float c[PIECE] __attribute__((aligned(64)));
    for (int64_t i = 0; i < w; ++i) {
      y[i] = start ? start[lo + i] : 0.0f;
      d[i] = decay[one ? 0 : (lo + i) % D];
      c[i] = bias ? bias[(lo + i) % D] : 0.0f;
    }
    for (int64_t t = 0; t < T; ++t) {
      const float *xt = x + t * n + lo;
      float *ot = out + t * n + lo;
#pragma omp simd
      for (int64_t i = 0; i < w; ++i) {
        y[i] = d[i] * y[i] + xt[i];
        ot[i] = y[i] + c[i];
      }
    }
  }
}
/* The way back: the same filter from the last step to the first, and the products that sum to the gradient of decay,
   which meets y of the step before: out without its bias. */
void step_filter_back(const int64_t *a) {
  const float *g = (const float *)a[0], *decay = (const float *)a[1], *start = (const float *)a[2];
  const float *bias = (const float *)a[3], *out = (const float *)a[4];
  float *back = (float *)a[5], *first = (float *)a[6], *sums = (float *)a[7];
  const int64_t T = a[8], rows = a[9], D = a[10], one = a[11], threads = a[12], piece = a[13];
  const int64_t n = rows * D;
#pragma omp parallel for schedule(static) num_threads(threads) if(threads > 1)
  for (int64_t lo = 0; lo < n; lo += piece) {
    const int64_t w = step_least(piece, n - lo);
    float y[PIECE] __attribute__((aligned(64))), d[PIECE] __attribute__((aligned(64)));
    float c[PIECE] __attribute__((aligned(64))), s[PIECE] __attribute__((aligned(64)));
    for (int64_t i = 0; i < w; ++i) {
      y[i] = s[i] = 0.0f;
      d[i] = decay[one ? 0 : (lo + i) % D];
      c[i] = bias ? bias[(lo + i) % D] : 0.0f;
    }
    for (int64_t t = T - 1; t >= 0; --t) {
      const float *gt = g + t * n + lo;
      float *bt = back + t * n + lo;
#pragma omp simd
      for (int64_t i = 0; i < w; ++i) bt[i] = y[i] = d[i] * y[i] + gt[i];
      if (sums && t) {
        const float *before = out + (t - 1) * n + lo;
#pragma omp simd
        for (int64_t i = 0; i < w; ++i) s[i] += y[i] * (before[i] - c[i]);
      } else if (sums && start) {
        for (int64_t i = 0; i < w; ++i) s[i] += y[i] * start[lo + i];
      }
    }
    for (int64_t i = 0; i < w; ++i) {
      if (first) first[lo + i] = d[i] * y[i];
      if (sums) sums[lo + i] = s[i];
    }
  }
}
"""
