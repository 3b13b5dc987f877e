"""The C of a population of ELM neurons: all steps, all neurons, forward and backward, a few samples side by side.

A block of samples lies in the lanes of one vector, so that every operation of the neuron is one of vectors: gathering
from sources needs no gather, and no sample's numbers depend on which others it runs with or on how many steps. Weights
of a neuron lie in one row; they are read once for all samples of a block. On the way back the gradients of a few
steps (``STEPS``) are kept and the weights' gradients of these steps summed up neuron by neuron.
"""

from __future__ import annotations

from neurons.elm.recurrence import SLOPE, SWING
from neurons.elm.source import VECTORS

STEPS = 16
"""Steps whose gradients are kept together on the way back."""

POINTERS = (
    "x", "index", "weights", "first", "live", "mask_x", "mask_a", "mask_z", "start_m", "start_a", "start_r", "start_b",
    "out", "potential", "last_m", "last_a", "last_r", "last_b", "effort", "kept_m", "kept_a", "kept_b", "kept_p",
    "kept_z", "scratch", "back", "back_m", "back_a", "back_r", "back_b", "back_effort", "slope", "to_x", "to_m",
    "to_a", "to_r", "to_b", "to_weights",
)  # fmt: skip
"""Arrays of the call, in the order of the C struct."""
SIZES = (
    "T", "B", "F", "N", "K", "S", "M", "H", "L", "P", "activation", "output", "high_pass", "filtered", "keep",
    "threads",
)  # fmt: skip
"""Whole numbers of the call: steps, samples, channels, neurons, branches, synapses, memory, hidden, its layers, numbers
of a row of weights; then choices."""
REALS = ("kappa_r", "kappa_b")
_WHOLE = ("index", "first", "live")

_STRUCT = (
    "typedef struct {\n"
    + "".join(f"  {'int32_t' if name in _WHOLE else 'float'} *{name};\n" for name in POINTERS)
    + "".join(f"  int64_t {name};\n" for name in SIZES)
    + "".join(f"  double {name};\n" for name in REALS)
    + "} population;\n"
)

_LANES = r"""
#define LANES W
int64_t step_lanes(void) { return LANES; }
INLINE vf magnitude(vf v) { return step_pick(v < (vf){0}, -v, v); }
/* Rows of samples [samples, size] to lanes [size] and back; lanes without a sample hold zero. */
static void enter(vf *to, const float *from, int64_t row, int64_t size, int64_t samples) {
  float *flat = (float *)to;
  if (samples < LANES || !from) memset(to, 0, (size_t)size * sizeof(vf));
  if (from)
    for (int64_t l = 0; l < samples; ++l)
      for (int64_t i = 0; i < size; ++i) flat[i * LANES + l] = from[l * row + i];
}
static void leave(float *to, const vf *from, int64_t row, int64_t size, int64_t samples) {
  const float *flat = (const float *)from;
  if (to)
    for (int64_t l = 0; l < samples; ++l)
      for (int64_t i = 0; i < size; ++i) to[l * row + i] = flat[i * LANES + l];
}
"""


def _rows(rows: int) -> str:
    """Return C that adds ``rows`` rows of a matrix times a vector."""
    each = range(rows)
    return (
        f"INLINE void rows_{rows}(vf *to, const vf *from, const float *w, int64_t n, int64_t ri, int64_t rj) {{\n"
        f"  vf {', '.join(f's{i} = to[{i}]' for i in each)};\n"
        "  for (int64_t j = 0; j < n; ++j, w += rj) {\n    const vf v = from[j];\n"
        f"    {' '.join(f's{i} = step_fma(v, SPLAT(w[{i} * ri]), s{i});' for i in each)}\n  }}\n"
        f"  {' '.join(f'to[{i}] = s{i};' for i in each)}\n}}\n"
    )


def _tile(rows: int, columns: int) -> str:
    """Return C that adds the product of two columns, summed over steps, to a tile of a matrix."""
    both = [(i, j) for i in range(rows) for j in range(columns)]
    return (
        f"INLINE void tile_{rows}_{columns}(vf *to, int64_t row, const vf *a, int64_t ra, const vf *b, "
        "int64_t rb, int64_t n) {\n"
        f"  vf {', '.join(f's{i}{j} = to[{i} * row + {j}]' for i, j in both)};\n"
        "  for (int64_t t = 0; t < n; ++t, a += ra, b += rb) {\n"
        f"    const vf {', '.join(f'v{j} = b[{j}]' for j in range(columns))};\n"
        f"    {' '.join(f's{i}{j} = step_fma(a[{i}], v{j}, s{i}{j});' for i, j in both)}\n  }}\n"
        f"  {' '.join(f'to[{i} * row + {j}] = s{i}{j};' for i, j in both)}\n}}\n"
    )


_PRODUCTS = (
    "".join(_rows(rows) for rows in (8, 4, 2, 1))
    + "".join(_tile(rows, columns) for rows in (4, 1) for columns in (3, 1))
    + r"""
/* to[i] += sum over j of w[i ri + j rj] from[j] */
static void product(vf *to, const vf *from, const float *w, int64_t rows, int64_t n, int64_t ri, int64_t rj) {
  int64_t i = 0;
  for (; i + 8 <= rows; i += 8) rows_8(to + i, from, w + i * ri, n, ri, rj);
  if (i + 4 <= rows) { rows_4(to + i, from, w + i * ri, n, ri, rj); i += 4; }
  if (i + 2 <= rows) { rows_2(to + i, from, w + i * ri, n, ri, rj); i += 2; }
  if (i < rows) rows_1(to + i, from, w + i * ri, n, ri, rj);
}
/* to[i, j] += sum over steps t of a[t ra + i] b[t rb + j] */
static void outer(vf *to, const vf *a, int64_t ra, const vf *b, int64_t rb, int64_t rows, int64_t columns, int64_t n) {
  int64_t i = 0;
  for (; i < rows; i += i + 4 <= rows ? 4 : 1) {
    const int wide = i + 4 <= rows;
    int64_t j = 0;
    for (; j + 3 <= columns; j += 3) {
      if (wide) tile_4_3(to + i * columns + j, columns, a + i, ra, b + j, rb, n);
      else tile_1_3(to + i * columns + j, columns, a + i, ra, b + j, rb, n);
    }
    for (; j < columns; ++j) {
      if (wide) tile_4_1(to + i * columns + j, columns, a + i, ra, b + j, rb, n);
      else tile_1_1(to + i * columns + j, columns, a + i, ra, b + j, rb, n);
    }
  }
}
/* Where things lie in the row of weights of a neuron, in the order in which the gradients are summed up too. */
typedef struct {
  int64_t branch, memory, bias, hidden, last, last_bias, decay, gain, read, rest, first, deep;
} places;
static places where(const population *a) {
  places p;
  p.first = a->L ? a->H : a->M;
  p.deep = a->H * (a->H + 1);
  p.branch = a->K * a->S;
  p.memory = p.branch + p.first * a->K;
  p.bias = p.memory + p.first * a->M;
  p.hidden = p.bias + p.first;
  p.last = p.hidden + (a->L > 1 ? (a->L - 1) * p.deep : 0);
  p.last_bias = p.last + (a->L ? a->M * a->H : 0);
  p.decay = p.last_bias + (a->L ? a->M : 0);
  p.gain = p.decay + a->M;
  p.read = p.gain + a->M;
  p.rest = p.read + a->M;
  return p;
}
/* Loops with many addresses are functions of their own: elsewhere they find no registers left. */
static __attribute__((noinline)) void gather(vf *restrict to, const vf *restrict from, const int32_t *restrict index,
                                             const float *restrict w, int64_t K, int64_t S) {
  for (int64_t c = 0; c < K; ++c, index += S, w += S) {
    vf sum = from[index[0]] * w[0];
    for (int64_t s = 1; s < S; ++s) sum = step_fma(from[index[s]], SPLAT(w[s]), sum);
    to[c] = sum;
  }
}
static __attribute__((noinline)) void scatter(vf *restrict to, const vf *restrict branch, const float *restrict w,
                                              const int32_t *restrict live, int64_t count) {
  for (int64_t i = 0; i < count; ++i, live += 3)
    to[live[1]] = step_fma(branch[live[2]], SPLAT(w[live[0]]), to[live[1]]);
}
static __attribute__((noinline)) void correlate(vf *restrict to, const vf *restrict branch, const vf *restrict from,
                                                const int32_t *restrict index, int64_t K, int64_t S) {
  for (int64_t c = 0; c < K; ++c, index += S, to += S) {
    const vf g = branch[c];
    for (int64_t s = 0; s < S; ++s) to[s] = step_fma(g, from[index[s]], to[s]);
  }
}
/* What the neurons hear in step t: channels of the input, and activities of the step before. */
static void hear(const population *a, vf *heard, const vf *mask_x, const vf *mask_a, const vf *before, int64_t t,
                 int64_t lo, int64_t samples) {
  enter(heard, a->x + (t * a->B + lo) * a->F, a->F, a->F, samples);
  if (a->mask_x) for (int64_t i = 0; i < a->F; ++i) heard[i] *= mask_x[i];
  memcpy(heard + a->F, before, (size_t)a->N * sizeof(vf));
  if (a->mask_a) for (int64_t i = 0; i < a->N; ++i) heard[a->F + i] *= mask_a[i];
}
"""
)

_FORWARD = r"""
static void forward_block(const population *a, int64_t block) {
  const int64_t N = a->N, K = a->K, S = a->S, M = a->M, H = a->H, L = a->L, F = a->F, B = a->B, T = a->T;
  const places p = where(a);
  const int64_t lo = block * LANES, samples = B - lo < LANES ? B - lo : LANES, steps = a->keep ? T : 0;
  vf *heard = (vf *)a->scratch + block * SCRATCH(F, N, M, H, K);
  vf *mask_x = heard + F + N, *mask_a = mask_x + F, *mask_z = mask_a + N, *r = mask_z + N * M, *effort = r + N;
  vf *k = effort + N, *h = k + M, *sums = h + H;
  /* with keep every step has a place of its own, else all share one */
  vf *m = (vf *)a->kept_m + block * (steps + 1) * N * M, *act = (vf *)a->kept_a + block * (steps + 1) * N;
  vf *b = (vf *)a->kept_b + block * (steps + 1) * N * K;
  const int64_t own = a->keep ? T : 1;
  vf *pre = (vf *)a->kept_p + block * own * N * L * H, *z = (vf *)a->kept_z + block * own * N * M;
  if (a->mask_x) enter(mask_x, a->mask_x + lo * F, F, F, samples);
  if (a->mask_a) enter(mask_a, a->mask_a + lo * N, N, N, samples);
  if (a->mask_z) enter(mask_z, a->mask_z + lo * N * M, N * M, N * M, samples);
  enter(m, a->start_m ? a->start_m + lo * N * M : 0, N * M, N * M, samples);
  enter(act, a->start_a ? a->start_a + lo * N : 0, N, N, samples);
  enter(r, a->start_r ? a->start_r + lo * N : 0, N, N, samples);
  enter(b, a->start_b ? a->start_b + lo * N * K : 0, N * K, N * K, samples);
  memset(effort, 0, (size_t)N * sizeof(vf));
  const float kr = (float)a->kappa_r, kb = (float)a->kappa_b, kr1 = (float)(1.0 - a->kappa_r);
  for (int64_t t = 0; t < T; ++t) {
    vf *m1 = m + (a->keep ? N * M : 0), *act1 = act + (a->keep ? N : 0), *b1 = b + (a->keep ? N * K : 0);
    hear(a, heard, mask_x, mask_a, act, t, lo, samples);
    for (int64_t n = 0; n < N; ++n) {
      const float *w = a->weights + n * a->P;
      if (a->filtered) {
        gather(sums, heard, a->index + n * K * S, w, K, S);
        for (int64_t c = 0; c < K; ++c) b1[n * K + c] = step_fma(b[n * K + c], SPLAT(kb), sums[c]);
      } else {
        gather(b1 + n * K, heard, a->index + n * K * S, w, K, S);
      }
      for (int64_t j = 0; j < M; ++j) k[j] = m[n * M + j] * w[p.decay + j];
      vf *first = L ? pre + n * L * H : z + n * M;
      for (int64_t i = 0; i < p.first; ++i) first[i] = SPLAT(w[p.bias + i]);
      product(first, b1 + n * K, w + p.branch, p.first, K, K, 1);
      product(first, k, w + p.memory, p.first, M, M, 1);
      for (int64_t layer = 0; layer < L; ++layer) {
        const vf *from = pre + (n * L + layer) * H;
        const int final = layer == L - 1;
        const float *matrix = w + (final ? p.last : p.hidden + layer * p.deep);
        const float *bias = w + (final ? p.last_bias : p.hidden + layer * p.deep + H * H);
        vf *to = final ? z + n * M : pre + (n * L + layer + 1) * H;
        const int64_t size = final ? M : H;
        for (int64_t i = 0; i < H; ++i) h[i] = step_act((int)a->activation, from[i]);
        for (int64_t i = 0; i < size; ++i) to[i] = SPLAT(bias[i]);
        product(to, h, matrix, size, H, H, 1);
      }
      vf y = {0}, strain = {0};
      for (int64_t j = 0; j < M; ++j) {
        vf out = z[n * M + j];
        if (a->mask_z) z[n * M + j] = out = out * mask_z[n * M + j];
        strain += magnitude(out);
        const vf now = step_tanh(out * THIRD) * SCALE * w[p.gain + j] + k[j];
        m1[n * M + j] = now;
        y += now * w[p.read + j];
      }
      effort[n] += strain;
      vf v = y + w[p.rest];
      if (a->high_pass) {
        r[n] = r[n] * kr + y * kr1;
        v = y - r[n] + w[p.rest];
      }
      vf active = v;
      if (a->output == 1) active = step_relu(v);
      if (a->output == 2) active = step_pick(v >= (vf){0}, SPLAT(1.0f), (vf){0});
      if (a->potential) leave(a->potential + (t * B + lo) * N + n, &v, N, 1, samples);
      act1[n] = active;
    }
    leave(a->out + (t * B + lo) * N, act1, N, N, samples);
    m = m1, act = act1, b = b1;
    if (a->keep) pre += N * L * H, z += N * M;
  }
  leave(a->last_m ? a->last_m + lo * N * M : 0, m, N * M, N * M, samples);
  leave(a->last_a ? a->last_a + lo * N : 0, act, N, N, samples);
  leave(a->last_r ? a->last_r + lo * N : 0, r, N, N, samples);
  leave(a->last_b ? a->last_b + lo * N * K : 0, b, N * K, N * K, samples);
  leave(a->effort ? a->effort + lo * N : 0, effort, N, N, samples);
}
void step_population(const population *a) {
  const int64_t blocks = (a->B + LANES - 1) / LANES;
#pragma omp parallel for schedule(static) num_threads(a->threads) if(a->threads > 1)
  for (int64_t block = 0; block < blocks; ++block) forward_block(a, block);
}
"""

_BACKWARD = r"""
/* The gradients of the weights of neuron n from the steps first ... first + count. */
static void weigh(const population *a, const places p, vf *to, int64_t n, const vf *heard, const vf *m, const vf *b,
                  const vf *pre, const vf *rows, int64_t row, vf *room, int64_t count) {
  const int64_t N = a->N, K = a->K, S = a->S, M = a->M, H = a->H, L = a->L;
  const float *decay = a->weights + n * a->P + p.decay;
  for (int64_t t = 0; t < count; ++t)
    correlate(to, rows + t * N * row + L * H + M, heard + t * (a->F + N), a->index + n * K * S, K, S);
  for (int64_t t = 0; t < count; ++t)
    for (int64_t j = 0; j < M; ++j) room[t * M + j] = m[t * N * M + n * M + j] * decay[j];
  outer(to + p.branch, rows, N * row, b + n * K, N * K, p.first, K, count);
  outer(to + p.memory, rows, N * row, room, M, p.first, M, count);
  for (int64_t t = 0; t < count; ++t)
    for (int64_t i = 0; i < p.first; ++i) to[p.bias + i] += rows[t * N * row + i];
  for (int64_t layer = 0; layer < L; ++layer) {
    const int final = layer == L - 1;
    const int64_t size = final ? M : H, at = final ? p.last : p.hidden + layer * p.deep;
    const vf *back = rows + (layer + 1) * H;
    vf *bias = to + (final ? p.last_bias : at + H * H);
    for (int64_t t = 0; t < count; ++t)
      for (int64_t i = 0; i < H; ++i)
        room[t * H + i] = step_act((int)a->activation, pre[((t * N + n) * L + layer) * H + i]);
    outer(to + at, back, N * row, room, H, size, H, count);
    for (int64_t t = 0; t < count; ++t)
      for (int64_t i = 0; i < size; ++i) bias[i] += back[t * N * row + i];
  }
}
static void backward_block(const population *a, int64_t block) {
  const int64_t N = a->N, K = a->K, S = a->S, M = a->M, H = a->H, L = a->L, F = a->F, B = a->B, T = a->T;
  const places p = where(a);
  const int64_t lo = block * LANES, samples = B - lo < LANES ? B - lo : LANES, row = L * H + M + K;
  vf *heard = (vf *)a->scratch + block * BACK_SCRATCH(F, N, M, H, K, L);
  vf *sources = heard + STEPS * (F + N), *rows = sources + F + N, *room = rows + STEPS * N * row;
  vf *mask_x = room + STEPS * (H > M ? H : M), *mask_a = mask_x + F, *mask_z = mask_a + N;
  vf *gm = mask_z + N * M, *ga = gm + N * M, *gr = ga + N, *gb = gr + N, *ge = gb + N * K, *gh = ge + N;
  vf *out = gh + H, *slope = out + N;
  const vf *m = (const vf *)a->kept_m + block * (T + 1) * N * M, *act = (const vf *)a->kept_a + block * (T + 1) * N;
  const vf *b = (const vf *)a->kept_b + block * (T + 1) * N * K;
  const vf *pre = (const vf *)a->kept_p + block * T * N * L * H, *z = (const vf *)a->kept_z + block * T * N * M;
  vf *sums = (vf *)a->to_weights + block * N * a->P;
  if (a->mask_x) enter(mask_x, a->mask_x + lo * F, F, F, samples);
  if (a->mask_a) enter(mask_a, a->mask_a + lo * N, N, N, samples);
  if (a->mask_z) enter(mask_z, a->mask_z + lo * N * M, N * M, N * M, samples);
  enter(gm, a->back_m ? a->back_m + lo * N * M : 0, N * M, N * M, samples);
  enter(ga, a->back_a ? a->back_a + lo * N : 0, N, N, samples);
  enter(gr, a->back_r ? a->back_r + lo * N : 0, N, N, samples);
  enter(gb, a->back_b ? a->back_b + lo * N * K : 0, N * K, N * K, samples);
  enter(ge, a->back_effort ? a->back_effort + lo * N : 0, N, N, samples);
  const float kr = (float)a->kappa_r, kb = (float)a->kappa_b, kr1 = (float)(1.0 - a->kappa_r);
  for (int64_t end = T; end > 0; end -= STEPS) {
    const int64_t begin = end > STEPS ? end - STEPS : 0;
    for (int64_t t = end - 1; t >= begin; --t) {
      hear(a, heard + (t - begin) * (F + N), mask_x, mask_a, act + t * N, t, lo, samples);
      enter(out, a->back ? a->back + (t * B + lo) * N : 0, N, N, samples);
      if (a->slope) enter(slope, a->slope + (t * B + lo) * N, N, N, samples);
      memset(a->to_x ? sources : sources + F, 0, (size_t)(a->to_x ? F + N : N) * sizeof(vf));
      for (int64_t n = 0; n < N; ++n) {
        const float *w = a->weights + n * a->P;
        vf *sum = sums + n * a->P, *rise = rows + ((t - begin) * N + n) * row, *last = rise + L * H, *branch = last + M;
        vf g = out[n] + ga[n];
        if (a->slope) g *= slope[n];
        else if (a->output == 1) g = step_pick(act[(t + 1) * N + n] > (vf){0}, g, (vf){0});
        sum[p.rest] += g;
        if (a->high_pass) {
          const vf low = gr[n] - g;
          g += low * kr1;
          gr[n] = low * kr;
        }
        for (int64_t j = 0; j < M; ++j) {
          const vf strain = z[(t * N + n) * M + j], bend = step_tanh(strain * THIRD);
          const vf now = gm[n * M + j] + g * w[p.read + j];
          sum[p.read + j] += g * m[((t + 1) * N + n) * M + j];
          sum[p.gain + j] += now * bend * SCALE;
          vf back = now * w[p.gain + j] * (SCALE * THIRD) * (1.0f - bend * bend);
          if (a->back_effort) back += step_pick(strain > (vf){0}, ge[n], step_pick(strain < (vf){0}, -ge[n], (vf){0}));
          if (a->mask_z) back *= mask_z[n * M + j];
          last[j] = back;
          gm[n * M + j] = now;
        }
        for (int64_t layer = L - 1; layer >= 0; --layer) {
          const int final = layer == L - 1;
          const float *matrix = w + (final ? p.last : p.hidden + layer * p.deep);
          vf *to = rise + layer * H;
          memset(gh, 0, (size_t)H * sizeof(vf));
          product(gh, rise + (layer + 1) * H, matrix, H, final ? M : H, 1, H);
          for (int64_t i = 0; i < H; ++i)
            to[i] = gh[i] * step_act_slope((int)a->activation, pre[((t * N + n) * L + layer) * H + i]);
        }
        product(gm + n * M, rise, w + p.memory, M, p.first, 1, M);
        for (int64_t j = 0; j < M; ++j) {
          sum[p.decay + j] += gm[n * M + j] * m[(t * N + n) * M + j];
          gm[n * M + j] *= w[p.decay + j];
        }
        memcpy(branch, gb + n * K, (size_t)K * sizeof(vf));
        product(branch, rise, w + p.branch, K, p.first, 1, K);
        if (a->filtered) for (int64_t c = 0; c < K; ++c) gb[n * K + c] = branch[c] * kb;
        scatter(sources, branch, w, a->live + 3 * a->first[n], a->first[n + 1] - a->first[n]);
      }
      memcpy(ga, sources + F, (size_t)N * sizeof(vf));
      if (a->mask_a) for (int64_t n = 0; n < N; ++n) ga[n] *= mask_a[n];
      if (a->to_x) {
        if (a->mask_x) for (int64_t i = 0; i < F; ++i) sources[i] *= mask_x[i];
        leave(a->to_x + (t * B + lo) * F, sources, F, F, samples);
      }
    }
    for (int64_t n = 0; n < N; ++n)
      weigh(a, p, sums + n * a->P, n, heard, m + begin * N * M, b + (begin + 1) * N * K, pre + begin * N * L * H,
            rows + n * row, row, room, end - begin);
  }
  leave(a->to_m ? a->to_m + lo * N * M : 0, gm, N * M, N * M, samples);
  leave(a->to_a ? a->to_a + lo * N : 0, ga, N, N, samples);
  leave(a->to_r ? a->to_r + lo * N : 0, gr, N, N, samples);
  leave(a->to_b ? a->to_b + lo * N * K : 0, gb, N * K, N * K, samples);
}
void step_population_backward(const population *a) {
  const int64_t blocks = (a->B + LANES - 1) / LANES;
#pragma omp parallel for schedule(static) num_threads(a->threads) if(a->threads > 1)
  for (int64_t block = 0; block < blocks; ++block) backward_block(a, block);
}
"""


def scratch(F: int, N: int, M: int, H: int, K: int) -> int:
    """Return how many vectors of working memory a block needs on the way forward."""
    return 2 * F + 4 * N + N * M + M + H + K


def back_scratch(F: int, N: int, M: int, H: int, K: int, L: int) -> int:
    """Return how many vectors of working memory a block needs on the way back."""
    kept = STEPS * (F + N + N * (L * H + M + K) + max(H, M))
    return kept + 2 * F + N + N * M + N + (N * M + N + N + N * K + N) + H + 2 * N


def text(narrow: bool) -> str:
    """Return all of the C; ``narrow`` for vectors of at most 8 samples where the processor has wider ones."""
    # the header first: while it is read, it defines the macro anew
    head = "#if defined(__AVX512F__)\n#include <immintrin.h>\n#undef __AVX512F__\n#endif\n" if narrow else ""
    sizes = (
        f"#define STEPS {STEPS}\n#define SCALE {SWING}f\n#define THIRD {SLOPE}f\n"
        "#define SCRATCH(F, N, M, H, K) (2 * F + 4 * N + N * M + M + H + K)\n"
        "#define BACK_SCRATCH(F, N, M, H, K, L) (STEPS * (F + N + N * (L * H + M + K) + (H > M ? H : M)) \\\n"
        "  + 2 * F + N + N * M + N + (N * M + N + N + N * K + N) + H + 2 * N)\n"
    )
    return head + VECTORS + sizes + _STRUCT + _LANES + _PRODUCTS + _FORWARD + _BACKWARD
