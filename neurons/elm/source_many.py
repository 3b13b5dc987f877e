"""C of the recurrence for many neurons: each lane of a vector is another neuron, so that small ones waste nothing.

A job is W neurons and a group of samples, S at a time, through all time steps. What lies in rows by neuron is
transposed on the way in and out. The way back keeps nothing but the input and the memory, which are there anyway, and
works each step out anew; gradients of weights are summed up at once, for each group of samples by itself, in an order
that shapes alone decide.
"""

from __future__ import annotations

WIDTHS = {4: 6, 2: 8, 1: 8}
"""Outputs of a tile of sums by its samples, for vectors of 16; others take half."""

_ROWS = r"""
/* Rows of `size` numbers, one for each of `count` neurons, to vectors and back; lanes without a neuron hold zero. */
#if defined(__AVX512F__)
INLINE void step_turn(__m512 *r) {
  __m512 t[16];
  UNROLL for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  UNROLL for (int i = 0; i < 16; i += 4) UNROLL for (int j = 0; j < 2; ++j) {
    const __m512d a = _mm512_castps_pd(t[i + j]), b = _mm512_castps_pd(t[i + 2 + j]);
    r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
    r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
  }
  UNROLL for (int i = 0; i < 16; i += 8) UNROLL for (int j = 0; j < 4; ++j) {
    t[i + j] = _mm512_shuffle_f32x4(r[i + j], r[i + 4 + j], 0x88);
    t[i + 4 + j] = _mm512_shuffle_f32x4(r[i + j], r[i + 4 + j], 0xdd);
  }
  UNROLL for (int j = 0; j < 8; ++j) {
    r[j] = _mm512_shuffle_f32x4(t[j], t[8 + j], 0x88);
    r[8 + j] = _mm512_shuffle_f32x4(t[j], t[8 + j], 0xdd);
  }
}
static __attribute__((noinline)) void step_enter(vf *to, const float *from, int64_t size, int64_t count) {
  for (int64_t c = 0; c < size; c += 16) {
    const int64_t w = step_least(16, size - c);
    const __mmask16 some = (__mmask16)((1u << w) - 1);
    __m512 r[16];
    UNROLL for (int l = 0; l < 16; ++l)
      r[l] = _mm512_maskz_loadu_ps(l < count ? some : 0, from + (l < count ? l * size + c : 0));
    step_turn(r);
    if (w == 16) { UNROLL for (int j = 0; j < 16; ++j) to[c + j] = (vf)r[j]; }
    else for (int64_t j = 0; j < w; ++j) to[c + j] = (vf)r[j];
  }
}
static __attribute__((noinline)) void step_leave(float *to, const vf *from, int64_t size, int64_t count) {
  for (int64_t c = 0; c < size; c += 16) {
    const int64_t w = step_least(16, size - c);
    const __mmask16 some = (__mmask16)((1u << w) - 1);
    __m512 r[16];
    UNROLL for (int j = 0; j < 16; ++j) r[j] = j < w ? (__m512)from[c + j] : _mm512_setzero_ps();
    step_turn(r);
    UNROLL for (int l = 0; l < 16; ++l) if (l < count) _mm512_mask_storeu_ps(to + l * size + c, some, r[l]);
  }
}
#else
static void step_enter(vf *to, const float *from, int64_t size, int64_t count) {
  float *flat = (float *)to;
  for (int64_t i = 0; i < size; ++i)
    for (int64_t l = 0; l < W; ++l) flat[i * W + l] = l < count ? from[l * size + i] : 0.0f;
}
static void step_leave(float *to, const vf *from, int64_t size, int64_t count) {
  const float *flat = (const float *)from;
  for (int64_t l = 0; l < count; ++l)
    for (int64_t i = 0; i < size; ++i) to[l * size + i] = flat[i * W + l];
}
#endif
"""

_TILE = r"""
/* out[s][r] += in[s][k] w[k][r] for S samples and R outputs, of W neurons each. */
#define STEP_SUM(S, R) \
static __attribute__((noinline)) void step_sum_##S##_##R(const vf *in, int64_t row, int64_t K, const vf *w, \
    int64_t by_k, int64_t by_o, vf *out, int64_t out_row) { \
  vf sum[S][R]; \
  UNROLL for (int s = 0; s < S; ++s) UNROLL for (int r = 0; r < R; ++r) sum[s][r] = out[s * out_row + r]; \
  for (int64_t k = 0; k < K; ++k, w += by_k) { \
    vf v[R]; \
    UNROLL for (int r = 0; r < R; ++r) v[r] = w[r * by_o]; \
    UNROLL for (int s = 0; s < S; ++s) { \
      const vf x = in[s * row + k]; \
      UNROLL for (int r = 0; r < R; ++r) sum[s][r] = step_fma(x, v[r], sum[s][r]); \
    } \
  } \
  UNROLL for (int s = 0; s < S; ++s) UNROLL for (int r = 0; r < R; ++r) out[s * out_row + r] = sum[s][r]; \
}
/* to[o][i] += sum over samples of d[s][o] x[s][i], R outputs by Q inputs. */
#define STEP_OUTER(R, Q) \
static __attribute__((noinline)) void step_outer_##R##_##Q(const vf *d, int64_t d_row, const vf *x, int64_t x_row, \
    int64_t S, vf *to, int64_t to_row) { \
  vf sum[R][Q]; \
  UNROLL for (int r = 0; r < R; ++r) UNROLL for (int q = 0; q < Q; ++q) sum[r][q] = to[r * to_row + q]; \
  for (int64_t s = 0; s < S; ++s, d += d_row, x += x_row) { \
    vf v[Q]; \
    UNROLL for (int q = 0; q < Q; ++q) v[q] = x[q]; \
    UNROLL for (int r = 0; r < R; ++r) { \
      const vf e = d[r]; \
      UNROLL for (int q = 0; q < Q; ++q) sum[r][q] = step_fma(e, v[q], sum[r][q]); \
    } \
  } \
  UNROLL for (int r = 0; r < R; ++r) UNROLL for (int q = 0; q < Q; ++q) to[r * to_row + q] = sum[r][q]; \
}
"""


def _tiles() -> str:
    lines = [_TILE]
    for samples, widest in WIDTHS.items():
        lines += [f"STEP_SUM({samples}, {width})" for width in range(1, widest + 1)]
    lines.append("typedef void (*step_sum)(const vf *, int64_t, int64_t, const vf *, int64_t, int64_t, vf *, int64_t);")
    lines.append("static const step_sum step_sums[3][8] = {")
    for samples in sorted(WIDTHS):
        lines.append("  {" + ", ".join(f"step_sum_{samples}_{i + 1}" for i in range(WIDTHS[samples])) + "},")
    lines.append("};")
    lines.append("#if W == 16")
    lines.append("static const int step_most[3] = {8, 8, 6};")
    lines.append("#else")
    lines.append("static const int step_most[3] = {8, 6, 3};")
    lines.append("#endif")
    sizes = (1, 2, 4)
    lines += [f"STEP_OUTER({rows}, {columns})" for rows in sizes for columns in sizes]
    lines.append("typedef void (*step_outer)(const vf *, int64_t, const vf *, int64_t, int64_t, vf *, int64_t);")
    lines.append("static const step_outer step_outers[3][3] = {")
    lines += ["  {" + ", ".join(f"step_outer_{rows}_{columns}" for columns in sizes) + "}," for rows in sizes]
    lines.append("};")
    return "\n".join(lines)


_LOOPS = r"""
/* out[s] += in[s] times weights, which lie by_k and by_o vectors apart. */
INLINE void step_many_times(int way, const vf *in, int64_t K, int64_t O, const vf *w, int64_t by_k, int64_t by_o,
    vf *out) {
  const int64_t most = step_most[way], tiles = (O + most - 1) / most;
  for (int64_t i = 0, at = 0; i < tiles; ++i) {
    const int64_t width = (O - at + tiles - i - 1) / (tiles - i);
    step_sums[way][width - 1](in, K, K, w + at * by_o, by_k, by_o, out + at, O);
    at += width;
  }
}
INLINE int step_half(int64_t left) { return left >= 4 ? 2 : left >= 2 ? 1 : 0; }
INLINE void step_many_outer(const vf *d, int64_t O, const vf *x, int64_t K, int64_t S, vf *to) {
  for (int64_t o = 0; o < O;) {
    const int r = step_half(O - o);
    for (int64_t i = 0; i < K;) {
      const int q = step_half(K - i);
      step_outers[r][q](d + o, O, x + i, K, S, to + o * K + i, K);
      i += 1 << q;
    }
    o += 1 << r;
  }
}
/* Vectors of all weights and biases of a block of neurons, and where those of a layer start. */
INLINE int64_t step_many_at(int64_t M, int64_t H, int64_t layers, int64_t layer) {
  int64_t at = 0;
  for (int64_t l = 0; l < layer; ++l) {
    const int64_t in = l ? H : M, out = l == layers ? M : H;
    at += out * in + out;
  }
  return at;
}
/* By block of neurons: weights [out, in] and bias [out] of every layer, a neuron in each lane. */
static void step_many_pack(const int64_t *weights, const int64_t *biases, vf *packed, int64_t N, int64_t M, int64_t H,
    int64_t layers) {
  const int64_t all = step_many_at(M, H, layers, layers + 1);
  memset(packed, 0, (size_t)((N + W - 1) / W * all) * sizeof(vf));
  for (int64_t n = 0; n < N; ++n)
    for (int64_t l = 0; l <= layers; ++l) {
      const int64_t in = l ? H : M, out = l == layers ? M : H;
      float *to = (float *)(packed + n / W * all + step_many_at(M, H, layers, l)) + n % W;
      const float *from = (const float *)weights[l] + n * out * in;
      for (int64_t i = 0; i < out * in; ++i) to[i * W] = from[i];
      if (l) for (int64_t i = 0; i < out; ++i) to[(out * in + i) * W] = ((const float *)biases[l - 1])[n * out + i];
    }
}
INLINE vf *step_vectors(float **free, int64_t n) { return (vf *)step_room(free, n * W); }

/* One step of S samples: from k, what enters the first layer (in `a`) on to z; `a` holds every layer's, then `h` what
   leaves it. Both have a place for each hidden layer; z has one for itself. */
INLINE void step_many_step(int way, int kind, int64_t S, int64_t M, int64_t H, int64_t layers, const vf *w,
    const vf *k, vf *a, vf *h, vf *z) {
  step_many_times(way, k, M, layers ? H : M, w, 1, M, layers ? a : z);
  for (int64_t l = 1; l <= layers; ++l) {
    const int64_t O = l == layers ? M : H;
    const vf *weights = w + step_many_at(M, H, layers, l), *bias = weights + O * H;
    vf *in = a + (l - 1) * S * H, *act = h + (l - 1) * S * H, *out = l == layers ? z : in + S * H;
    for (int64_t i = 0; i < S * H; ++i) act[i] = step_act(kind, in[i]);
    for (int64_t s = 0; s < S; ++s) for (int64_t i = 0; i < O; ++i) out[s * O + i] = bias[i];
    step_many_times(way, act, H, O, weights, 1, H, out);
  }
}

/* a: u, first memory, decay, gain, scale, memory, z, packed, scratch, its numbers by thread, weights, biases, sizes. */
void step_many(const int64_t *a) {
  const float *u = (const float *)a[0], *m0 = (const float *)a[1], *decay = (const float *)a[2];
  const float *gain = (const float *)a[3], *scale = (const float *)a[4];
  float *mem = (float *)a[5], *zs = (float *)a[6], *scratch = (float *)a[8];
  vf *packed = (vf *)a[7];
  const int64_t room = a[9], *weights = a + 11, *biases = weights + a[10], *more = biases + a[10];
  const int64_t T = more[0], B = more[1], N = more[2], M = more[3], H = more[4], layers = more[5];
  const int kind = (int)more[6];
  const int64_t S = more[7], threads = more[8], mem_step = more[10];
  const int way = S == 4 ? 2 : S == 2 ? 1 : 0;
  const int64_t blocks = (B + S - 1) / S, all = step_many_at(M, H, layers, layers + 1);
  step_many_pack(weights, biases, packed, N, M, H, layers);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if(threads > 1)
  for (int64_t job = 0; job < (N + W - 1) / W * blocks; ++job) {
    const int64_t n = job / blocks * W, live = step_least(W, N - n);
    const int64_t b0 = job % blocks * S, count = step_least(S, B - b0);
    const vf *w = packed + job / blocks * all;
    float *free = scratch + omp_get_thread_num() * room;
    vf *m = step_vectors(&free, S * M), *k = step_vectors(&free, S * M), *z = step_vectors(&free, S * M);
    vf *c = step_vectors(&free, S * M), *d = step_vectors(&free, M), *p = step_vectors(&free, M);
    vf *x = step_vectors(&free, layers * S * H), *h = step_vectors(&free, layers * S * H);
    step_enter(d, decay + n * M, M, live);
    step_enter(p, gain + n * M, M, live);
    for (int64_t s = 0; s < count; ++s) {
      step_enter(m + s * M, m0 + ((b0 + s) * N + n) * M, M, live);
      if (scale) step_enter(c + s * M, scale + ((b0 + s) * N + n) * M, M, live);
    }
    for (int64_t t = 0; t < T; ++t) {
      const int64_t at = (t * B + b0) * N + n;
      for (int64_t s = 0; s < S; ++s) for (int64_t i = 0; i < M; ++i) k[s * M + i] = d[i] * m[s * M + i];
      vf *first = layers ? x : z;
      for (int64_t s = 0; s < count; ++s) step_enter(first + s * H, u + (at + s * N) * H, H, live);
      memset(first + count * H, 0, (size_t)((S - count) * H) * sizeof(vf));
      step_many_step(way, kind, S, M, H, layers, w, k, x, h, z);
      for (int64_t s = 0; s < S; ++s)
        for (int64_t i = 0; i < M; ++i) {
          vf v = z[s * M + i];
          if (scale) z[s * M + i] = v = v * c[s * M + i];
          m[s * M + i] = step_fma(p[i] * SPLAT(1.7159f), step_tanh(v * SPLAT(2.0f / 3)), k[s * M + i]);
        }
      for (int64_t s = 0; s < count; ++s) {
        step_leave(mem + t * mem_step + ((b0 + s) * N + n) * M, m + s * M, M, live);
        if (zs) step_leave(zs + (at + s * N) * M, z + s * M, M, live);
      }
    }
  }
}

/* a: gradients of the memory of every step, of the last, of z; u, memory with the first in front, decay, gain, scale;
   gradients of u, of the first memory, and by block of neurons and group of samples: of decay, of gain, of weights and
   biases; packed, scratch, its numbers by thread, weights, biases, sizes. */
void step_many_back(const int64_t *a) {
  const float *gm = (const float *)a[0], *glast = (const float *)a[1], *gz = (const float *)a[2];
  const float *u = (const float *)a[3], *mem = (const float *)a[4], *decay = (const float *)a[5];
  const float *gain = (const float *)a[6], *scale = (const float *)a[7];
  float *gu = (float *)a[8], *gfirst = (float *)a[9], *scratch = (float *)a[13];
  vf *gates = (vf *)a[10], *gweights = (vf *)a[11], *packed = (vf *)a[12];
  const int64_t room = a[14], *weights = a + 16, *biases = weights + a[15], *more = biases + a[15];
  const int64_t T = more[0], B = more[1], N = more[2], M = more[3], H = more[4], layers = more[5];
  const int kind = (int)more[6];
  const int64_t S = more[7], threads = more[8], groups = more[9];
  const int way = S == 4 ? 2 : S == 2 ? 1 : 0;
  const int64_t blocks = (B + S - 1) / S, all = step_many_at(M, H, layers, layers + 1);
  const int64_t HM = layers ? H : M;
  step_many_pack(weights, biases, packed, N, M, H, layers);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if(threads > 1)
  for (int64_t job = 0; job < (N + W - 1) / W * groups; ++job) {
    const int64_t n = job / groups * W, live = step_least(W, N - n), group = job % groups;
    const vf *w = packed + job / groups * all;
    float *free = scratch + omp_get_thread_num() * room;
    vf *dm = step_vectors(&free, S * M), *m = step_vectors(&free, S * M), *k = step_vectors(&free, S * M);
    vf *z = step_vectors(&free, S * M), *dz = step_vectors(&free, S * M), *e = step_vectors(&free, S * M);
    vf *c = step_vectors(&free, S * M), *d = step_vectors(&free, M), *p = step_vectors(&free, M);
    vf *x = step_vectors(&free, layers * S * H), *h = step_vectors(&free, layers * S * H);
    vf *da = step_vectors(&free, S * HM), *db = step_vectors(&free, S * HM);
    vf *sum_d = gates + job * 2 * M, *sum_p = sum_d + M, *sums = gweights ? gweights + job * all : 0;
    memset(sum_d, 0, (size_t)(2 * M) * sizeof(vf));
    if (sums) memset(sums, 0, (size_t)all * sizeof(vf));
    step_enter(d, decay + n * M, M, live);
    step_enter(p, gain + n * M, M, live);
    for (int64_t block = group; block < blocks; block += groups) {
      const int64_t b0 = block * S, count = step_least(S, B - b0);
      memset(dm, 0, (size_t)(S * M) * sizeof(vf));
      memset(m, 0, (size_t)(S * M) * sizeof(vf));
      memset(e, 0, (size_t)(S * M) * sizeof(vf));
      memset(dz, 0, (size_t)(S * M) * sizeof(vf));
      for (int64_t s = 0; s < count; ++s) {
        const int64_t at = ((b0 + s) * N + n) * M;
        if (glast) step_enter(dm + s * M, glast + at, M, live);
        if (scale) step_enter(c + s * M, scale + at, M, live);
      }
      for (int64_t t = T - 1; t >= 0; --t) {
        const int64_t at = (t * B + b0) * N + n;
        vf *first = layers ? x : z;
        for (int64_t s = 0; s < count; ++s) {
          step_enter(m + s * M, mem + (at + s * N) * M, M, live);
          step_enter(first + s * H, u + (at + s * N) * H, H, live);
          if (gm) step_enter(e + s * M, gm + (at + s * N) * M, M, live);
          if (gz) step_enter(dz + s * M, gz + (at + s * N) * M, M, live);
        }
        memset(first + count * H, 0, (size_t)((S - count) * H) * sizeof(vf));
        for (int64_t s = 0; s < S; ++s) for (int64_t i = 0; i < M; ++i) k[s * M + i] = d[i] * m[s * M + i];
        step_many_step(way, kind, S, M, H, layers, w, k, x, h, z);
        for (int64_t s = 0; s < S; ++s)
          for (int64_t i = 0; i < M; ++i) {
            const int64_t j = s * M + i;
            vf v = z[j] * SPLAT(2.0f / 3);
            if (scale) v *= c[j];
            const vf y = step_tanh(v);
            vf g = dm[j];
            if (gm) dm[j] = g = g + e[j];
            sum_p[i] += g * y;
            vf q = g * p[i] * (SPLAT(1.7159f * 2.0f / 3) * (SPLAT(1.0f) - y * y));
            if (gz) q += dz[j];
            if (scale) q *= c[j];
            z[j] = q;
          }
        const vf *out = z;
        int64_t O = M;
        for (int64_t l = layers; l >= 0; --l) {
          const int64_t K = l ? H : M;
          const int64_t start = step_many_at(M, H, layers, l);
          const vf *in = l ? h + (l - 1) * S * H : k;
          if (sums) {
            step_many_outer(out, O, in, K, S, sums + start);
            for (int64_t s = 0; s < S && l; ++s)
              for (int64_t i = 0; i < O; ++i) sums[start + O * K + i] += out[s * O + i];
          }
          if (!l) {
            for (int64_t s = 0; s < count; ++s) step_leave(gu + (at + s * N) * H, out + s * O, O, live);
            step_many_times(way, out, O, M, w, M, 1, dm);
            break;
          }
          vf *next = (layers - l) & 1 ? db : da;
          memset(next, 0, (size_t)(S * H) * sizeof(vf));
          step_many_times(way, out, O, H, w + start, H, 1, next);
          const vf *before = x + (l - 1) * S * H;
          for (int64_t i = 0; i < S * H; ++i) next[i] *= step_act_slope(kind, before[i]);
          out = next;
          O = H;
        }
        for (int64_t s = 0; s < S; ++s)
          for (int64_t i = 0; i < M; ++i) {
            sum_d[i] += dm[s * M + i] * m[s * M + i];
            dm[s * M + i] *= d[i];
          }
      }
      for (int64_t s = 0; s < count; ++s) step_leave(gfirst + ((b0 + s) * N + n) * M, dm + s * M, M, live);
    }
    for (int64_t i = 0; i < M; ++i) sum_p[i] *= SPLAT(1.7159f);
  }
}
"""

MANY = _ROWS + _tiles() + _LOOPS + "\nint64_t step_width(void) { return W; }\n"
"""The loops for many neurons; they stand behind ``source.VECTORS`` and ``source_one.ONE``."""
