"""C of the gradient of the weights: tiles of output gradients, lists of the places at which a channel spikes."""

from __future__ import annotations

GRADIENT = r"""
/* Gradient of the weights. The map of gradients is cut into tiles that fit in the first cache, with a margin as wide as
   the kernel reaches, in which zeros stand where there is no output; images lie below each other and share margins.
   With a stride, the input pixels of one kind lie on a grid like that of the outputs: the pixel at q meets output q - j
   with the tap stride * j + kind. */
typedef struct { int64_t rows, columns, across, tiles, high, wide, low_y, low_x, qy, qx, pitch, kinds; } grid;

static grid step_grid(const shape *s, int64_t rows, int64_t columns) {
  grid t;
  t.rows = rows; t.columns = columns;
  t.high = (s->kh - 1) / s->sy; t.wide = (s->kw - 1) / s->sx;
  t.low_y = s->py / s->sy; t.low_x = s->px / s->sx;
  t.qy = (s->H - 1 + s->py) / s->sy - t.low_y + 1; t.qx = (s->W - 1 + s->px) / s->sx - t.low_x + 1;
  t.pitch = t.qy + t.high;
  t.across = (t.qx + columns - 1) / columns;
  t.tiles = (s->B * t.pitch - t.high + rows - 1) / rows * t.across;
  t.kinds = s->sy * s->sx;
  return t;
}

/* Go through the spikes of one kind in one tile: count them by channel, or write down where they are. */
INLINE void step_walk(const shape *s, const grid *t, int64_t tile, int64_t kind, uint32_t *at, uint32_t *list,
                      float *value) {
  const int64_t v0 = tile / t->across * t->rows, x0 = tile % t->across * t->columns, width = t->columns + t->wide;
  for (int64_t v = v0; v < v0 + t->rows; ++v) {
    const int64_t b = v / t->pitch, u = v % t->pitch, iy = (u + t->low_y) * s->sy + kind / s->sx - s->py;
    if (b >= s->B || u >= t->qy || iy < 0 || iy >= s->H) continue;
    for (int64_t x = x0; x < step_min(x0 + t->columns, t->qx); ++x) {
      const int64_t ix = (x + t->low_x) * s->sx + kind % s->sx - s->px;
      if (ix < 0 || ix >= s->W) continue;
      const uint32_t place = (uint32_t)(((v - v0 + t->high) * width + x - x0 + t->wide) * ROW);
      const int64_t pixel = ((b * s->H + iy) * s->W + ix) * s->slices;
      for (int64_t k = 0; k < s->slices; ++k) {
        uint32_t *channel = at + (s->slices == 1 ? -(ix * s->C) : k * s->slice);
        for (uint32_t e = s->start[pixel + k]; e < s->start[pixel + k + 1]; ++e) {
          const uint32_t to = channel[s->list[e] / ROW]++;
          if (list) {
            list[to] = place;
            if (value) value[to] = s->value[e];
          }
        }
      }
    }
  }
}

static void step_tile(const shape *s, const grid *t, int64_t tile, const float *g, int64_t width, float *panel) {
  const int64_t v0 = tile / t->across * t->rows, x0 = tile % t->across * t->columns;
  for (int64_t v = v0; v < v0 + t->rows + t->high; ++v) {
    const int64_t b = v / t->pitch, oy = v % t->pitch - t->high + t->low_y;
    for (int64_t x = x0; x < x0 + t->columns + t->wide; ++x, panel += WIDE) {
      const int64_t ox = x - t->wide + t->low_x;
      if (b >= s->B || oy < 0 || oy >= s->Ho || ox < 0 || ox >= s->Wo) memset(panel, 0, ROW);
      else {
        const float *from = g + ((b * s->Ho + oy) * s->Wo + ox) * s->N;
        if (width == WIDE) memcpy(panel, from, ROW);
        else memcpy(panel, from, (size_t)width * 4);
      }
    }
  }
}

/* Columns of sums become rows of the gradient: `count` numbers of every output from f on. */
static void step_unpack(const float *sums, int64_t step, float *to, int64_t F, int64_t width, int64_t count) {
  for (int64_t h = 0; h < width; h += 16) for (int64_t f = 0; f < count; f += 16) {
    const int64_t m = step_min(16, count - f), n = step_min(16, width - h);
    vec r[16];
    for (int64_t i = 0; i < 16; ++i) r[i] = i < m ? *(const vec *)(sums + (f + i) * step + h) : (vec){0};
    step_turn(r);
    for (int64_t i = 0; i < n; ++i) memcpy(to + (h + i) * F + f, r + i, (size_t)m * 4);
  }
}

void step_gradient(const int64_t *a) {
  const shape s = step_shape(a);
  const float *gradient = (const float *)a[18];
  float *out = (float *)a[19];
  job *jobs = (job *)a[20];
  uint32_t *list = (uint32_t *)a[21], *state = (uint32_t *)a[23];
  float *value = (float *)a[22];
  float *panels_of = (float *)a[24], *sums_of = (float *)a[25];
  const int64_t groups = a[28], splits = a[29], channels_last = a[30];
  const grid t = step_grid(&s, a[26], a[27]);
  const int64_t taps = s.kh * s.kw, F = s.C * taps, panels = (s.N + WIDE - 1) / WIDE, all = t.tiles * t.kinds;
  const int64_t places = (t.rows + t.high) * (t.columns + t.wide), held = (s.C + groups - 1) / groups * taps * WIDE;
#pragma omp parallel num_threads(s.threads) if(s.threads > 1)
  {
    float *panel = panels_of + omp_get_thread_num() * (places * WIDE + (s.C + 15) / 16 * 16);
    uint32_t *at = (uint32_t *)(panel + places * WIDE);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < all; ++i) {
      memset(at, 0, (size_t)s.C * 4);
      step_walk(&s, &t, i / t.kinds, i % t.kinds, at, 0, 0);
      uint32_t total = 0;
      for (int64_t c = 0; c < s.C; ++c) total += at[c];
      /* where in memory a list lies may differ from run to run; what it holds may not */
      uint32_t place = __atomic_fetch_add(&state[0], total, __ATOMIC_RELAXED);
      for (int64_t c = 0; c < s.C; ++c) {
        jobs[i * s.C + c] = (job){place, place + at[c], 0};
        place += at[c];
        at[c] = jobs[i * s.C + c].start;
      }
      step_walk(&s, &t, i / t.kinds, i % t.kinds, at, list, value);
    }
#pragma omp for schedule(dynamic) nowait
    for (int64_t item = 0; item < panels * groups * splits; ++item) {
      const int64_t p = item / splits / groups, g = item / splits % groups, part = item % splits;
      const int64_t c0 = s.C * g / groups, n = s.C * (g + 1) / groups - c0, width = step_min(WIDE, s.N - p * WIDE);
      float *sums = sums_of + item * held;
      memset(sums, 0, (size_t)(n * taps * ROW));
      if (width < WIDE) memset(panel, 0, (size_t)(places * ROW));
      for (int64_t tile = t.tiles * part / splits; tile < t.tiles * (part + 1) / splits; ++tile) {
        step_tile(&s, &t, tile, gradient + p * WIDE, width, panel);
        for (int64_t kind = 0; kind < t.kinds; ++kind)
          for (int64_t ky = kind / s.sx; ky < s.kh; ky += s.sy)
            for (int64_t kx = kind % s.sx; kx < s.kw; kx += s.sx) {
              const char *rows = (const char *)(panel - (ky / s.sy * (t.columns + t.wide) + kx / s.sx) * WIDE);
              float *to = sums + (ky * s.kw + kx) * WIDE;
              step_sum(width, rows, rows, jobs + (tile * t.kinds + kind) * s.C + c0, n, list, value, to, taps * WIDE,
                       to, taps * WIDE);
            }
      }
      /* who finishes the last part of a sum adds all parts up, in their order */
      if (__atomic_add_fetch(&state[1 + item / splits], 1, __ATOMIC_ACQ_REL) < splits) continue;
      sums -= part * held;
      float *to = out + p * WIDE * F;
      for (int64_t k = 1; k < splits; ++k)
        for (int64_t i = 0; i < n * taps * WIDE; i += 16) *(vec *)(sums + i) += *(vec *)(sums + k * held + i);
      if (!channels_last) step_unpack(sums, WIDE, to + c0 * taps, F, width, n * taps);
      else for (int64_t k = 0; k < taps; ++k) step_unpack(sums + k * WIDE, taps * WIDE, to + k * s.C + c0, F, width, n);
    }
  }
}
"""
