"""The C of modules of Diehl and Cook: one presentation after another, driven by events.

A module's whole presentation runs before the next begins, with everything but the weights in the first cache. One
pass over the neurons for each time step updates potentials, lets conductances decay, and compares with the thresholds;
all else happens only where something fired:

- An input spike that arrives at a group of neurons adds a vector of weights.
- Lateral inhibition is one number, the conductance that all inhibitory spikes of the module make, decaying, less what
  a neuron's own partner contributed; all inhibitory weights are equal, so that this is what the matrix does.
- An inhibitory neuron is updated from a spike of its partner until its conductance is gone; then its potential decays
  to rest by a power, which is taken when it is next needed.
- A neuron that must not spike yet has an infinite threshold. Those that spiked lie in a queue in the order of time.
- Plasticity: an arriving spike changes the weights of a group where a neuron's trace is left, a postsynaptic spike its
  own column. Traces are tables by the number of steps since the spike.
- In silence, once nothing can fire any more, potentials decay by a power.

Potentials are relative to the reversal potential of excitation. Within a time step the order is that of Brian 2: state
updates, thresholds, presynaptic, then postsynaptic events, resets.
"""

from __future__ import annotations

from neurons.diehl_cook.delays import GROUP
from neurons.diehl_cook.raster import LOG_SERIES
from neurons.diehl_cook.source_raster import DRAW
from neurons.diehl_cook.source_step import STATE, STEP

TOGETHER = 16
"""Images whose input spikes are kept at a time: some 2 MB each."""
REALS = (
    "rest_e", "reset_e", "base", "theta_plus", "keep_theta", "leak_e", "mean_ge", "keep_ge", "mean_gi", "keep_gi",
    "reversal_inhibition", "rest_i", "reset_i", "threshold_i", "leak_i", "excite", "inhibit", "rate_pre", "rate_post",
    "weight_most", "weight_sum", "least",
)  # fmt: skip
"""Real numbers of the call."""
WHOLE = (
    "inputs", "neurons", "padded", "image", "silence", "hold_e", "hold_i", "interval", "threads", "reach", "modules",
    "presentations", "jobs", "images",
)  # fmt: skip
"""Whole numbers of the call."""
ARRAYS: dict[str, str] = {
    "weights": "real", "theta": "real", "v": "real", "v_i": "real", "last_post": "int64_t", "last_pre": "int64_t",
    "clock": "int64_t", "later": "uint8_t", "trace_pre": "real", "trace_fast": "real", "trace_slow": "real",
    "chance": "double", "order": "int64_t", "keys": "uint64_t", "counts": "uint8_t", "job_module": "int64_t",
    "job_image": "int64_t", "events": "int64_t",
}  # fmt: skip
"""Arrays of the call and the types of their numbers."""

_HEAD = r"""
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#endif
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX2__) && defined(__FMA__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define INLINE static inline __attribute__((always_inline))
#ifdef DOUBLE
typedef double real;
typedef int64_t whole;
#else
typedef float real;
typedef int32_t whole;
#endif
typedef real vr __attribute__((vector_size(BYTES), may_alias));
typedef whole vi __attribute__((vector_size(BYTES), may_alias));
#define W ((int64_t)(BYTES / sizeof(real)))
#define SPLAT(x) ((real)(x) - (vr){0})
#define AHEAD 32 /* arrivals by which weights are asked for before they are needed */
#define REFRESH 128 /* steps after which traces get another origin */
#define NEVER (-((int64_t)1 << 40))

INLINE vr fma_(vr x, vr y, vr z) {
#if defined(__AVX512F__) && defined(DOUBLE)
  return (vr)_mm512_fmadd_pd((__m512d)x, (__m512d)y, (__m512d)z);
#elif defined(__AVX512F__)
  return (vr)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
#elif BYTES == 32 && defined(DOUBLE)
  return (vr)_mm256_fmadd_pd((__m256d)x, (__m256d)y, (__m256d)z);
#elif BYTES == 32
  return (vr)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
#else
  return x * y + z;
#endif
}
INLINE int any(vi hit) {
  int64_t all = 0, part[BYTES / 8];
  memcpy(part, &hit, BYTES);
  for (int i = 0; i < BYTES / 8; ++i) all |= part[i];
  return all != 0;
}
"""

_CALLS = r"""
/* Frozen weights and thresholds. A job is a module and an image; jobs come by TOGETHER images, then by modules, so
   that the input spikes of some images are kept and the weights of a module serve all of them. */
int64_t step_respond(const call *c) {
  raster rasters[TOGETHER] = {0};
  int64_t failed = 0;
#pragma omp parallel num_threads((int)c->threads) reduction(| : failed)
  {
    state *s = state_new(c);
    failed = !s;
    int64_t end = 0;
    for (int64_t start = 0; start < c->images; start += TOGETHER) {
      const int64_t stop = start + TOGETHER < c->images ? start + TOGETHER : c->images, begin = end;
      while (end < c->jobs && c->job_image[end] < stop) ++end;
#pragma omp for schedule(dynamic)
      for (int64_t b = start; b < stop; ++b) {
        raster *r = &rasters[b - start];
        r->failed = draw(r, c->chance + b * c->inputs, c->inputs, c->image, c->keys[b]) ||
                    arrive(r, c->later, c->padded / GROUP, c->image);
      }
#pragma omp for schedule(dynamic)
      for (int64_t j = begin; j < end; ++j) {
        const int64_t m = c->job_module[j], b = c->job_image[j], at = b * c->modules + m;
        const raster *r = &rasters[b - start];
        failed |= r->failed;
        if (failed) continue;
        state_rest(c, s);
        for (int64_t k = 0; k < c->neurons; ++k) s->theta[k] = s->bar[k] = c->theta[m * c->padded + k] + (real)c->base;
        present(c, s, c->weights + m * c->inputs * c->padded, r, 0);
        memcpy(c->counts + at * c->neurons, s->counts, (size_t)c->neurons);
        c->events[at * 3] = r->first[c->image], c->events[at * 3 + 1] = s->spikes, c->events[at * 3 + 2] = s->spikes_i;
      }
    }
    state_free(s);
  }
  for (int64_t b = 0; b < TOGETHER; ++b) raster_free(&rasters[b]);
  return failed;
}

static void normalise(const call *c, real *w, real *scale) {
  const int64_t N = c->padded;
  memset(scale, 0, (size_t)N * sizeof(real));
  for (int64_t i = 0; i < c->inputs; ++i)
    for (int64_t k = 0; k < N; k += W) *(vr *)(scale + k) += *(const vr *)(w + i * N + k);
  for (int64_t k = 0; k < N; ++k) scale[k] = scale[k] > 0 ? (real)c->weight_sum / scale[k] : 1;
  for (int64_t i = 0; i < c->inputs; ++i)
    for (int64_t k = 0; k < N; k += W) *(vr *)(w + i * N + k) *= *(const vr *)(scale + k);
}
/* Learning: presentations of each module one after another. */
int64_t step_train(const call *c) {
  int64_t failed = 0;
#pragma omp parallel num_threads((int)c->threads) reduction(| : failed)
  {
    state *s = state_new(c);
    raster r = {0};
    failed = !s;
#pragma omp for schedule(dynamic)
    for (int64_t m = 0; m < c->modules; ++m) {
      if (failed) continue;
      const int64_t N = c->padded;
      real *w = c->weights + m * c->inputs * N;
      state_rest(c, s);
      s->t = c->clock[m];
      memcpy(s->before, c->last_pre + m * c->inputs, (size_t)c->inputs * 8);
      for (int64_t k = 0; k < c->neurons; ++k) {
        s->v[k] = c->v[m * N + k], s->v_i[k] = c->v_i[m * N + k], s->since_i[k] = s->t;
        s->theta[k] = s->bar[k] = c->theta[m * N + k], s->post[k] = c->last_post[m * N + k];
        if (s->t - s->post[k] < c->reach) trace(s, (int32_t)k);
      }
      for (int64_t p = 0; p < c->presentations && !failed; ++p) {
        const int64_t which = m * c->presentations + p;
        failed |= draw(&r, c->chance + c->order[which] * c->inputs, c->inputs, c->image, c->keys[which]) ||
                  arrive(&r, c->later, N / GROUP, c->image);
        if (failed) break;
        normalise(c, w, s->g);
        memset(s->g, 0, (size_t)N * sizeof(real)), memset(s->counts, 0, (size_t)N);
        present(c, s, w, &r, 1);
        if (c->counts) memcpy(c->counts + (p * c->modules + m) * c->neurons, s->counts, (size_t)c->neurons);
        silence(c, s, w, &r);
      }
      memcpy(c->last_pre + m * c->inputs, s->before, (size_t)c->inputs * 8);
      c->clock[m] = s->t;
      for (int64_t k = 0; k < c->neurons; ++k) {
        c->v[m * N + k] = s->v[k], c->theta[m * N + k] = s->theta[k], c->last_post[m * N + k] = s->post[k];
        c->v_i[m * N + k] = resting(c, s, (int32_t)k);
      }
    }
    raster_free(&r), state_free(s);
  }
  return failed;
}
"""


def text(double: bool) -> str:
    """Return the C for float32, or for float64 that a test compares with the reference."""
    struct = (
        "typedef struct {\n"
        + "".join(f"  {kind} *{name};\n" for name, kind in ARRAYS.items())
        + "".join(f"  int64_t {name};\n" for name in WHOLE)
        + "".join(f"  double {name};\n" for name in REALS)
        + "} call;\n"
    )
    head = (
        "#define DOUBLE\n" if double else ""
    ) + f"#define LOG_SERIES {LOG_SERIES}\n#define GROUP {GROUP}\n#define TOGETHER {TOGETHER}\n"
    return head + _HEAD + struct + DRAW + STATE + STEP + _CALLS
