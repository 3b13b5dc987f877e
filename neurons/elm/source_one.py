"""C of the recurrence for few neurons: the numbers of one neuron side by side in a vector.

A job is one neuron and S samples, through all time steps. A tile of sums, S samples by a few vectors of outputs, stays
in registers while the rows of the weights pass by once for all S samples; weights are packed so that a tile reads them
in one piece. Both directions use the same loop: forward it meets the transposed weights, backward the weights.
"""

from __future__ import annotations

_TILE = r"""
#define STEP_TILE(S, R) \
static __attribute__((noinline)) void step_tile_##S##_##R(const float *in, int64_t row, int64_t K, const float *w, \
    const float *from, int64_t from_row, float *out, int64_t out_row) { \
  vf sum[S][R]; \
  UNROLL for (int s = 0; s < S; ++s) UNROLL for (int r = 0; r < R; ++r) \
    sum[s][r] = *(const vf *)(from + s * from_row + r * W); \
  for (int64_t k = 0; k < K; ++k, w += R * W) { \
    vf v[R]; \
    UNROLL for (int r = 0; r < R; ++r) v[r] = *(const vf *)(w + r * W); \
    UNROLL for (int s = 0; s < S; ++s) { \
      const vf x = SPLAT(in[s * row + k]); \
      UNROLL for (int r = 0; r < R; ++r) sum[s][r] = step_fma(x, v[r], sum[s][r]); \
    } \
  } \
  UNROLL for (int s = 0; s < S; ++s) UNROLL for (int r = 0; r < R; ++r) \
    *(vf *)(out + s * out_row + r * W) = sum[s][r]; \
}
"""

_WIDTHS = {8: 3, 4: 6, 2: 8, 1: 8}
"""Vectors of outputs of a tile by its samples, for vectors of 16; others take half."""


def _tiles() -> str:
    lines = [_TILE]
    for samples, widest in _WIDTHS.items():
        lines += [f"STEP_TILE({samples}, {width})" for width in range(1, widest + 1)]
    lines.append("typedef void (*step_tile)(const float *, int64_t, int64_t, const float *, const float *, int64_t,")
    lines.append("    float *, int64_t);")
    lines.append("static const step_tile step_tiles[4][8] = {")
    for samples in (1, 2, 4, 8):
        lines.append("  {" + ", ".join(f"step_tile_{samples}_{i + 1}" for i in range(_WIDTHS[samples])) + "},")
    lines.append("};")
    lines.append("#if W == 16")
    lines.append("static const int step_widest[4] = {8, 8, 6, 3};")
    lines.append("#else")
    lines.append("static const int step_widest[4] = {8, 6, 3, 1};")
    lines.append("#endif")
    return "\n".join(lines)


_LOOPS = r"""
/* ways: log2 of S. Vectors of outputs fall to tiles as evenly as can be. */
INLINE int64_t step_tiles_of(int64_t vectors, int way) { return (vectors + step_widest[way] - 1) / step_widest[way]; }
INLINE int step_way(int64_t S) { return S == 8 ? 3 : S == 4 ? 2 : S == 2 ? 1 : 0; }

/* Element (k, o) of the source lies at k * by_k + o * by_o. */
static void step_pack(float *to, const float *from, int64_t K, int64_t O, int64_t by_k, int64_t by_o, int way) {
  const int64_t vectors = UP(O) / W, tiles = step_tiles_of(vectors, way);
  for (int64_t i = 0, at = 0; i < tiles; ++i) {
    const int64_t width = (vectors - at + tiles - i - 1) / (tiles - i);
    for (int64_t k = 0; k < K; ++k)
      for (int64_t o = at * W; o < (at + width) * W; ++o) *to++ = o < O ? from[k * by_k + o * by_o] : 0.0f;
    at += width;
  }
}
/* out[s] = from[s] + in[s] times the packed weights [K, O], for S samples. */
INLINE void step_times(int way, const float *in, int64_t row, int64_t K, int64_t O, const float *w,
    const float *from, int64_t from_row, float *out, int64_t out_row) {
  const int64_t vectors = UP(O) / W, tiles = step_tiles_of(vectors, way);
  for (int64_t i = 0, at = 0; i < tiles; ++i) {
    const int64_t width = (vectors - at + tiles - i - 1) / (tiles - i);
    step_tiles[way][width - 1](in, row, K, w, from + at * W, from_row, out + at * W, out_row);
    w += K * width * W;
    at += width;
  }
}
/* Where the weights of a layer start among the packed ones of a neuron, and how many numbers there are. */
INLINE int64_t step_packed(int64_t M, int64_t H, int64_t layers, int64_t layer, int back) {
  int64_t at = 0;
  for (int64_t l = 0; l < layer; ++l) {
    const int64_t in = l ? H : M, out = l == layers ? M : H;
    at += back ? out * UP(in) : in * UP(out);
  }
  return at;
}
static void step_pack_all(const int64_t *weights, float *packed, int64_t N, int64_t M, int64_t H, int64_t layers,
    int way, int back) {
  const int64_t all = step_packed(M, H, layers, layers + 1, back);
  for (int64_t n = 0; n < N; ++n)
    for (int64_t l = 0; l <= layers; ++l) {
      const int64_t in = l ? H : M, out = l == layers ? M : H;
      const float *from = (const float *)weights[l] + n * in * out;
      float *to = packed + n * all + step_packed(M, H, layers, l, back);
      if (back) step_pack(to, from, out, in, in, 1, way);
      else step_pack(to, from, in, out, 1, in, way);
    }
}

/* a: u, first memory, decay, gain, scale, memory, z, hidden, tanh, packed, scratch, its numbers by thread, weights,
   biases, then sizes. hidden holds, for every hidden layer, what the way back needs of it: what comes out where
   that is relu, else what goes in. */
void step_one(const int64_t *a) {
  const float *u = (const float *)a[0], *m0 = (const float *)a[1], *decay = (const float *)a[2];
  const float *gain = (const float *)a[3], *scale = (const float *)a[4];
  float *mem = (float *)a[5], *zs = (float *)a[6], *hidden = (float *)a[7], *tanhs = (float *)a[8];
  float *packed = (float *)a[9], *scratch = (float *)a[10];
  const int64_t room = a[11], *weights = a + 13, *biases = weights + a[12];
  const int64_t *more = biases + a[12];
  const int64_t T = more[0], B = more[1], N = more[2], M = more[3], H = more[4], layers = more[5];
  const int kind = (int)more[6];
  const int64_t S = more[7], threads = more[8], mem_step = more[9];
  const int way = step_way(S);
  const int64_t Mp = UP(M), Hp = UP(H), blocks = (B + S - 1) / S, all = step_packed(M, H, layers, layers + 1, 0);
  step_pack_all(weights, packed, N, M, H, layers, way, 0);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if(threads > 1)
  for (int64_t job = 0; job < N * blocks; ++job) {
    const int64_t n = job / blocks, b0 = job % blocks * S, count = step_least(S, B - b0);
    const float *w = packed + n * all;
    float *free = scratch + omp_get_thread_num() * room;
    float *m = step_room(&free, S * Mp), *k = step_room(&free, S * Mp), *q = step_room(&free, S * Mp);
    float *h = step_room(&free, S * Hp), *g = step_room(&free, S * Hp);
    float *d = step_room(&free, Mp), *p = step_room(&free, Mp), *c = step_room(&free, S * Mp);
    float *bias = step_room(&free, (layers + 1) * (Hp > Mp ? Hp : Mp));
    const int64_t bias_row = Hp > Mp ? Hp : Mp;
    step_copy(d, decay + n * M, M);
    for (int64_t i = 0; i < M; ++i) p[i] = gain[n * M + i] * 1.7159f;
    for (int64_t l = 1; l <= layers; ++l) {
      const int64_t out = l == layers ? M : H;
      step_copy(bias + l * bias_row, (const float *)biases[l - 1] + n * out, out);
    }
    for (int64_t s = 0; s < count; ++s) {
      step_copy(m + s * Mp, m0 + ((b0 + s) * N + n) * M, M);
      if (scale) step_copy(c + s * Mp, scale + ((b0 + s) * N + n) * M, M);
    }
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t s = 0; s < S; ++s)
        for (int64_t i = 0; i < Mp; i += W) *(vf *)(k + s * Mp + i) = *(vf *)(d + i) * *(vf *)(m + s * Mp + i);
      float *first = layers ? h : q;
      const int64_t first_row = layers ? Hp : Mp;
      const int64_t at = (t * B + b0) * N + n;
      for (int64_t s = 0; s < count; ++s) step_copy(first + s * first_row, u + (at + s * N) * H, H);
      memset(first + count * first_row, 0, (size_t)((S - count) * first_row) * 4);
      step_times(way, k, Mp, M, layers ? H : M, w, first, first_row, first, first_row);
      for (int64_t l = 1; l <= layers; ++l) {
        float *in = l & 1 ? h : g, *out = l == layers ? q : l & 1 ? g : h;
        const int64_t O = l == layers ? M : H, row = l == layers ? Mp : Hp;
        float *keep = hidden ? hidden + (l - 1) * T * B * N * H : 0;
        if (keep && kind != RELU)
          for (int64_t s = 0; s < count; ++s) step_copy(keep + (at + s * N) * H, in + s * Hp, H);
        for (int64_t i = 0; i < S * Hp; i += W) *(vf *)(in + i) = step_act(kind, *(vf *)(in + i));
        if (keep && kind == RELU)
          for (int64_t s = 0; s < count; ++s) step_copy(keep + (at + s * N) * H, in + s * Hp, H);
        step_times(way, in, Hp, H, O, w + step_packed(M, H, layers, l, 0), bias + l * bias_row, 0, out, row);
      }
      for (int64_t s = 0; s < S; ++s)
        for (int64_t i = 0; i < Mp; i += W) {
          vf z = *(vf *)(q + s * Mp + i);
          if (scale) *(vf *)(q + s * Mp + i) = z = z * *(vf *)(c + s * Mp + i);
          const vf y = step_tanh(z * SPLAT(2.0f / 3));
          *(vf *)(m + s * Mp + i) = step_fma(*(vf *)(p + i), y, *(vf *)(k + s * Mp + i));
          *(vf *)(k + s * Mp + i) = y;
        }
      for (int64_t s = 0; s < count; ++s) {
        step_copy(mem + t * mem_step + ((b0 + s) * N + n) * M, m + s * Mp, M);
        if (zs) step_copy(zs + (at + s * N) * M, q + s * Mp, M);
        if (tanhs) step_copy(tanhs + (at + s * N) * M, k + s * Mp, M);
      }
    }
  }
}

/* a: gradients of the memory of every step, of the last step, of z; memory with the first in front, decay, gain,
   scale, hidden, tanh; gradients of u, of what enters every further layer, of the first memory, of decay and of gain
   by block; hidden layers anew; packed, scratch, its numbers by thread, weights, sizes. */
void step_one_back(const int64_t *a) {
  const float *gm = (const float *)a[0], *glast = (const float *)a[1], *gz = (const float *)a[2];
  const float *mem = (const float *)a[3], *decay = (const float *)a[4], *gain = (const float *)a[5];
  const float *scale = (const float *)a[6], *hidden = (const float *)a[7], *tanhs = (const float *)a[8];
  float *gu = (float *)a[9], *gin = (float *)a[10], *gout = (float *)a[11], *gfirst = (float *)a[12];
  float *gdecay = (float *)a[13], *ggain = (float *)a[14], *again = (float *)a[15];
  float *packed = (float *)a[16], *scratch = (float *)a[17];
  const int64_t room = a[18], *weights = a + 20, *more = weights + a[19];
  const int64_t T = more[0], B = more[1], N = more[2], M = more[3], H = more[4], layers = more[5];
  const int kind = (int)more[6];
  const int64_t S = more[7], threads = more[8];
  const int way = step_way(S);
  const int64_t Mp = UP(M), Hp = UP(H), blocks = (B + S - 1) / S, all = step_packed(M, H, layers, layers + 1, 1);
  step_pack_all(weights, packed, N, M, H, layers, way, 1);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if(threads > 1)
  for (int64_t job = 0; job < N * blocks; ++job) {
    const int64_t n = job / blocks, b0 = job % blocks * S, count = step_least(S, B - b0);
    const float *w = packed + n * all;
    float *free = scratch + omp_get_thread_num() * room;
    float *dm = step_room(&free, S * Mp), *dq = step_room(&free, S * Mp), *y = step_room(&free, S * Mp);
    float *c = step_room(&free, S * Mp), *e = step_room(&free, S * Mp);
    float *da = step_room(&free, S * Hp), *db = step_room(&free, S * Hp), *h = step_room(&free, S * Hp);
    float *none = step_room(&free, Hp > Mp ? Hp : Mp);
    float *d = step_room(&free, Mp), *p = step_room(&free, Mp);
    float *sum_d = step_room(&free, Mp), *sum_p = step_room(&free, Mp);
    step_copy(d, decay + n * M, M);
    for (int64_t i = 0; i < M; ++i) p[i] = gain[n * M + i] * 1.7159f;
    for (int64_t s = 0; s < count; ++s) {
      const int64_t at = ((b0 + s) * N + n) * M;
      if (glast) step_copy(dm + s * Mp, glast + at, M);
      if (scale) step_copy(c + s * Mp, scale + at, M);
    }
    for (int64_t t = T - 1; t >= 0; --t) {
      const int64_t at = (t * B + b0) * N + n;
      for (int64_t s = 0; s < count; ++s) {
        step_copy(y + s * Mp, tanhs + (at + s * N) * M, M);
        if (gm) step_copy(e + s * Mp, gm + (at + s * N) * M, M);
        if (gz) step_copy(dq + s * Mp, gz + (at + s * N) * M, M);
      }
      for (int64_t s = 0; s < S; ++s)
        for (int64_t i = 0; i < Mp; i += W) {
          vf g = *(vf *)(dm + s * Mp + i);
          const vf v = *(vf *)(y + s * Mp + i);
          if (gm) *(vf *)(dm + s * Mp + i) = g = g + *(vf *)(e + s * Mp + i);
          if (ggain) *(vf *)(sum_p + i) += g * v;
          vf z = g * *(vf *)(p + i) * (SPLAT(2.0f / 3) * (SPLAT(1.0f) - v * v));
          if (gz) z += *(vf *)(dq + s * Mp + i);
          if (scale) z *= *(vf *)(c + s * Mp + i);
          *(vf *)(dq + s * Mp + i) = z;
        }
      float *to = layers ? gout : gu;
      for (int64_t s = 0; s < count; ++s) step_copy(to + (at + s * N) * M, dq + s * Mp, M);
      const float *in = dq;
      int64_t in_row = Mp, K = M;
      for (int64_t l = layers; l >= 1; --l) {
        float *out = (layers - l) & 1 ? db : da;
        const int64_t layer = (l - 1) * T * B * N * H;
        step_times(way, in, in_row, K, H, w + step_packed(M, H, layers, l, 1), none, 0, out, Hp);
        for (int64_t s = 0; s < count; ++s) step_copy(h + s * Hp, hidden + layer + (at + s * N) * H, H);
        for (int64_t i = 0; i < S * Hp; i += W) {
          const vf x = *(vf *)(h + i);
          *(vf *)(out + i) *= step_act_slope(kind, x);
          if (again) *(vf *)(h + i) = step_act(kind, x);
        }
        float *where = l == 1 ? gu : gin + layer - T * B * N * H;
        for (int64_t s = 0; s < count; ++s) {
          step_copy(where + (at + s * N) * H, out + s * Hp, H);
          if (again) step_copy(again + layer + (at + s * N) * H, h + s * Hp, H);
        }
        in = out;
        in_row = Hp;
        K = H;
      }
      step_times(way, in, in_row, K, M, w, dm, Mp, dm, Mp);
      if (gdecay) {
        for (int64_t s = 0; s < count; ++s) step_copy(e + s * Mp, mem + (at + s * N) * M, M);
        for (int64_t s = 0; s < count; ++s)
          for (int64_t i = 0; i < Mp; i += W) *(vf *)(sum_d + i) += *(vf *)(dm + s * Mp + i) * *(vf *)(e + s * Mp + i);
      }
      for (int64_t s = 0; s < S; ++s)
        for (int64_t i = 0; i < Mp; i += W) *(vf *)(dm + s * Mp + i) *= *(vf *)(d + i);
    }
    for (int64_t s = 0; s < count; ++s) if (gfirst) step_copy(gfirst + ((b0 + s) * N + n) * M, dm + s * Mp, M);
    if (gdecay) step_copy(gdecay + (job % blocks * N + n) * M, sum_d, M);
    for (int64_t i = 0; i < M && ggain; ++i) ggain[(job % blocks * N + n) * M + i] = sum_p[i] * 1.7159f;
  }
}
"""

ONE = _tiles() + _LOOPS
"""The loops for few neurons; they stand behind ``source.VECTORS``."""
