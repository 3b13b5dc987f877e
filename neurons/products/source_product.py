"""C of the product of spikes with weights: panels of weights, windows of the lists, all outputs."""

from __future__ import annotations

PRODUCT = r"""
typedef struct {
  const uint32_t *start, *list;
  const float *value;
  int64_t B, H, W, C, slice, slices, N, kh, kw, sy, sx, py, px, Ho, Wo, threads;
} shape;

static shape step_shape(const int64_t *a) {
  shape s = {(const uint32_t *)a[0], (const uint32_t *)a[1], (const float *)a[2], a[3], a[4], a[5], a[6], a[7],
             (a[6] + a[7] - 1) / a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15], a[16], a[17]};
  return s;
}

/* Weights [N, F] become panels: row[f] is the place of the f-th number of every output. */
static void step_pack(const float *w, const int32_t *row, float *panel, int64_t N, int64_t F) {
  for (int64_t h = 0; h < step_min(WIDE, N); h += 16) {
    const int64_t n = step_min(16, N - h);
    for (int64_t f = 0; f < F; f += 16) {
      const int64_t m = step_min(16, F - f);
      vec r[16];
      if (n == 16 && m == 16) for (int i = 0; i < 16; ++i) r[i] = *(const loose *)(w + (h + i) * F + f);
      else {
        memset(r, 0, sizeof r);
        for (int64_t i = 0; i < n; ++i) memcpy(r + i, w + (h + i) * F + f, (size_t)m * 4);
      }
      step_turn(r);
      for (int64_t i = 0; i < m; ++i) *(vec *)(panel + (int64_t)row[f + i] * WIDE + h) = r[i];
    }
  }
}

/* The first thread that needs a panel packs it; others wait. */
static void step_ready(const float *w, const int32_t *row, float *panel, int64_t N, int64_t F, int32_t *state) {
  int32_t none = 0;
  if (__atomic_load_n(state, __ATOMIC_ACQUIRE) == 2) return;
  if (__atomic_compare_exchange_n(state, &none, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) {
    step_pack(w, row, panel, N, F);
    __atomic_store_n(state, 2, __ATOMIC_RELEASE);
  } else while (__atomic_load_n(state, __ATOMIC_ACQUIRE) != 2) {}
}

/* The jobs of the outputs lo ... lo + n for the window of `span` pixels (or one slice of one) at ky, kx. */
static void step_windows(const shape *s, job *jobs, int64_t lo, int64_t n, int64_t ky, int64_t kx, int64_t span,
                         int64_t slice) {
  int64_t ox = lo % s->Wo, oy = lo / s->Wo % s->Ho, b = lo / s->Wo / s->Ho;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t iy = oy * s->sy - s->py + ky, x = ox * s->sx - s->px + kx;
    const int64_t left = step_max(x, 0), right = step_min(x + span, s->W);
    job j = {0, 0, 0};
    if (iy >= 0 && iy < s->H && left < right) {
      const int64_t row = (b * s->H + iy) * s->W;
      if (s->slices == 1) j = (job){s->start[row + left], s->start[row + right], (int32_t)(-x * s->C * ROW)};
      else {
        const int64_t at = (row + x) * s->slices + slice;
        j = (job){s->start[at], s->start[at + 1], 0};
      }
    }
    jobs[i] = j;
    if (++ox == s->Wo) {
      ox = 0;
      if (++oy == s->Ho) { oy = 0; ++b; }
    }
  }
}

void step_product(const int64_t *a) {
  const shape s = step_shape(a);
  const float *w = (const float *)a[18], *bias = (const float *)a[19];
  float *out = (float *)a[20];
  const int32_t *row = (const int32_t *)a[21];
  float *packed = (float *)a[22];
  char *scratch = (char *)a[23];
  const int64_t room = a[24], span = a[25], blocks = a[26], height = a[27], chunk = a[28], groups = a[29];
  int32_t *state = (int32_t *)a[30];
  const int64_t F = s.C * s.kh * s.kw, panels = (s.N + WIDE - 1) / WIDE, outputs = s.B * s.Ho * s.Wo;
  const int64_t across = s.slices == 1 ? (s.kw + span - 1) / span : s.kw * s.slices;
  const int64_t chunks = (outputs + chunk - 1) / chunk;
#pragma omp parallel num_threads(s.threads) if(s.threads > 1)
  {
    job *jobs = (job *)(scratch + omp_get_thread_num() * room);
    float *sums = (float *)(scratch + omp_get_thread_num() * room + (blocks * chunk * sizeof(job) + 63) / 64 * 64);
#pragma omp for schedule(dynamic) nowait
    for (int64_t item = 0; item < chunks * groups; ++item) {
      const int64_t lo = item / groups * chunk, n = step_min(chunk, outputs - lo), g = item % groups;
      for (int64_t k = 0; k < blocks; ++k) {
        const int64_t ky = k / across, at = k % across;
        job *to = jobs + k * chunk;
        if (s.slices == 1) step_windows(&s, to, lo, n, ky, at * span, step_min(span, s.kw - at * span), 0);
        else step_windows(&s, to, lo, n, ky, at / s.slices, 1, at % s.slices);
      }
      const int64_t p0 = panels * g / groups, own = panels * (g + 1) / groups - p0;
      for (int64_t i = 0; i < own; ++i) {
        /* threads start at different panels, so that each packs others */
        const int64_t p = p0 + (i + lo / chunk * ((own + 1) / 2)) % own;
        step_ready(w + p * WIDE * F, row, packed + p * blocks * height * WIDE, s.N - p * WIDE, F, state + p);
        const int64_t width = step_min(WIDE, s.N - p * WIDE);
        const int whole_panel = width == 16 || width == WIDE;
        float rest[WIDE] = {0};
        if (bias) memcpy(rest, bias + p * WIDE, (size_t)width * 4);
        float *to = out + lo * s.N + p * WIDE;
        for (int64_t k = 0; k < blocks; ++k) {
          const int last = k == blocks - 1 && whole_panel;
          const char *panel = (const char *)(packed + (p * blocks + k) * height * WIDE);
          step_sum(width, panel, panel + height * ROW, jobs + k * chunk, n, s.list, s.value, k ? sums : rest,
                   k ? WIDE : 0, last ? to : sums, last ? s.N : WIDE);
        }
        if (!whole_panel) for (int64_t k = 0; k < n; ++k) memcpy(to + k * s.N, sums + k * WIDE, (size_t)width * 4);
      }
    }
  }
}
"""
