"""The C of one time step of a module, and of an image and the silence after it."""

from __future__ import annotations

STATE = r"""
typedef struct {
  real *v, *g, *bar, *theta, *own, *fast, *v_i, *g_i; /* one for each neuron */
  int64_t *post, *since_i, *spiked_i;                /* steps: of the last spikes, of v_i */
  int64_t *before;                                   /* last spikes of the inputs before the image */
  int32_t *emitted, *trails;                         /* input spikes so far; traces left in each group */
  int32_t *queue, *fired, *fired_i, *active, *owners, *traced;
  int64_t *at;                                       /* when those in the queue spiked */
  uint8_t *listed, *owning, *acting;
  uint8_t *counts;                                   /* of the image that is shown */
  int64_t N, held, clamped, end;                     /* the queue: those up to clamped are integrated again */
  int64_t n_fired, n_fired_i, n_active, n_owners, n_traced;
  int64_t t, origin, spikes, spikes_i;
  real G, decayed;                                   /* inhibition; what is left of the thresholds */
  void *memory;
} state;

static state *state_new(const call *c) {
  const int64_t N = c->padded;
  state *s = calloc(1, sizeof(state));
  if (!s) return 0;
  const size_t size = (size_t)N * (8 * sizeof(real) + 4 * 8 + 7 * 4 + 4) + (size_t)c->inputs * 12 + 64 * 32;
  char *free_ = s->memory = aligned_alloc(64, (size + 63) / 64 * 64);
  if (!free_) { free(s); return 0; }
#define TAKE(name, n) s->name = (void *)free_; free_ += ((size_t)(n) * sizeof *s->name + 63) / 64 * 64
  TAKE(v, N); TAKE(g, N); TAKE(bar, N); TAKE(theta, N); TAKE(own, N); TAKE(fast, N); TAKE(v_i, N); TAKE(g_i, N);
  TAKE(post, N); TAKE(since_i, N); TAKE(spiked_i, N); TAKE(at, N); TAKE(before, c->inputs);
  TAKE(emitted, c->inputs); TAKE(trails, N / GROUP);
  TAKE(queue, N); TAKE(fired, N); TAKE(fired_i, N); TAKE(active, N); TAKE(owners, N); TAKE(traced, N);
  TAKE(listed, N); TAKE(owning, N); TAKE(acting, N); TAKE(counts, N);
  s->N = N;
  return s;
}
static void state_free(state *s) { if (s) { free(s->memory); free(s); } }

/* Everything at rest; potentials and thresholds are set by who calls. */
static void state_rest(const call *c, state *s) {
  const int64_t N = s->N;
  for (int64_t k = 0; k < N; ++k) {
    s->g[k] = s->own[k] = s->fast[k] = s->g_i[k] = 0;
    s->v[k] = (real)c->rest_e, s->v_i[k] = (real)c->rest_i;
    s->post[k] = s->spiked_i[k] = NEVER, s->since_i[k] = 0;
    s->theta[k] = s->bar[k] = (real)INFINITY;
  }
  for (int64_t i = 0; i < c->inputs; ++i) s->before[i] = NEVER;
  memset(s->trails, 0, (size_t)(N / GROUP) * 4);
  memset(s->listed, 0, (size_t)N), memset(s->owning, 0, (size_t)N);
  memset(s->acting, 0, (size_t)N), memset(s->counts, 0, (size_t)N);
  s->held = s->clamped = s->end = s->n_fired = s->n_fired_i = s->n_active = s->n_owners = s->n_traced = 0;
  s->t = s->spikes = s->spikes_i = 0, s->origin = NEVER;
  s->G = 0, s->decayed = 1;
}
"""

STEP = r"""
/* One pass over the neurons: potentials, decaying conductances, thresholds. */
INLINE vi pass(state *s, const int learn, const vr P, const vr A, const vr Q, const vr D, const vr C) {
  vi hit = {0};
  const vr decayed = SPLAT(s->decayed);
  real *restrict v_ = s->v, *restrict g_ = s->g;
  const real *restrict bar_ = s->bar;
  for (int64_t k = 0; k < s->N; k += W) {
    vr v = *(vr *)(v_ + k), g = *(vr *)(g_ + k), bar = *(const vr *)(bar_ + k);
    if (learn) bar = fma_(bar, decayed, C);
    v = fma_(v, fma_(A, g, P), Q);
    *(vr *)(v_ + k) = v;
    *(vr *)(g_ + k) = g * D;
    hit |= v > bar;
  }
  return hit;
}

/* The inhibitory neurons that are not at rest; those that fire are listed. */
static void inhibitory(const call *c, state *s) {
  const real leak = (real)c->leak_i, rest = (real)c->rest_i, mean = (real)c->mean_ge, keep = (real)c->keep_ge;
  int64_t left = 0;
  s->n_fired_i = 0;
  for (int64_t j = 0; j < s->n_active; ++j) {
    const int32_t k = s->active[j];
    const int free_ = s->t - s->spiked_i[k] >= c->hold_i;
    if (free_) s->v_i[k] += leak * ((rest - s->v_i[k]) - mean * s->g_i[k] * s->v_i[k]);
    s->g_i[k] *= keep;
    if (free_ && s->v_i[k] > (real)c->threshold_i) s->fired_i[s->n_fired_i++] = k;
    else if (free_ && s->g_i[k] < (real)c->least) {
      s->g_i[k] = 0, s->since_i[k] = s->t, s->acting[k] = 0;
      continue;
    }
    s->active[left++] = k;
  }
  s->n_active = left;
}
/* What the potential of an inhibitory neuron without input has become. */
static real resting(const call *c, const state *s, int32_t k) {
  const double kept = pow(1.0 - c->leak_i, (double)(s->t - s->since_i[k]));
  return (real)(c->rest_i + (s->v_i[k] - c->rest_i) * kept);
}
static void excite(const call *c, state *s, int32_t k) {
  if (!s->acting[k]) {
    s->v_i[k] = resting(c, s, k);
    s->acting[k] = 1, s->active[s->n_active++] = k;
  }
  s->g_i[k] += (real)c->excite;
}
INLINE real clip(real w, real most) { w = w < 0 ? 0 : w; return w > most ? most : w; }

static void trace(state *s, int32_t k) {
  if (!s->listed[k]) s->listed[k] = 1, s->traced[s->n_traced++] = k, ++s->trails[k / GROUP];
}
/* Fast traces as they were at the origin, so that one factor for all of them makes them those of now. */
static void refresh(const call *c, state *s) {
  int64_t left = 0;
  s->origin = s->t;
  for (int64_t j = 0; j < s->n_traced; ++j) {
    const int32_t k = s->traced[j];
    const int64_t age = s->t - s->post[k];
    if (age < c->reach) s->fast[k] = c->trace_fast[age], s->traced[left++] = k;
    else s->fast[k] = 0, s->listed[k] = 0, --s->trails[k / GROUP];
  }
  s->n_traced = left;
}
/* Input spikes that arrive: conductances first, then weights. */
INLINE void arriving(const call *c, state *s, real *restrict w, const uint32_t *which, int64_t n, const int change) {
  const vr most = SPLAT(c->weight_most);
  const vr now = SPLAT(change ? (real)c->rate_pre * c->trace_fast[s->t - s->origin] : 0);
  for (int64_t j = 0; j < n; ++j) {
    const int64_t b = which[j] & 0xFF;
    __builtin_prefetch(w + (int64_t)(which[j + AHEAD] >> 8) * GROUP, change);
    real *restrict g = s->g + b * GROUP, *restrict row = w + (int64_t)(which[j] >> 8) * GROUP;
    const int trails = change && s->trails[b];
    for (int64_t l = 0; l < GROUP; l += W) {
      vr x = *(vr *)(row + l);
      *(vr *)(g + l) += x;
      if (!trails) continue;
      x += now * *(const vr *)(s->fast + b * GROUP + l);
      const vi low = x < (vr){0}, high = x > most;
      x = (vr)(~low & (vi)x);
      *(vr *)(row + l) = (vr)((high & (vi)most) | (~high & (vi)x));
    }
  }
}
/* Weights of a neuron that spiked, before its traces are set. */
static void postsynaptic(const call *c, state *s, real *restrict w, const raster *r, int64_t shown, int32_t k) {
  const int64_t age = s->t - s->post[k], groups = s->N / GROUP, start = s->t - shown;
  const real slow = age < c->reach ? c->trace_slow[age] : 0, most = (real)c->weight_most;
  trace(s, k);
  if (!(slow > 0)) return;
  const real rate = (real)c->rate_post * slow;
  const uint8_t *later = c->later + k / GROUP;
  for (int64_t i = 0; i < c->inputs; ++i) {
    const int64_t delay = later[i * groups];
    int32_t p = s->emitted[i];
    while (p > r->begin[i] && r->times[p - 1] + delay > shown) --p; /* still on their way */
    const int64_t last = (p > r->begin[i] ? start + r->times[p - 1] : s->before[i]) + delay, since = s->t - last;
    if (since < c->reach) w[i * s->N + k] = clip(w[i * s->N + k] + rate * c->trace_pre[since], most);
  }
}

/* One time step, so many after the image began. */
INLINE void step(const call *c, state *s, real *restrict w, const raster *r, int64_t shown, const int learn) {
  const real leak = (real)c->leak_e, G = s->G * (real)c->mean_gi, reversal = (real)c->reversal_inhibition;
  const int64_t N = s->N;
  while (s->held < s->end && s->t - s->at[s->held % N] >= c->interval) {
    const int32_t k = s->queue[s->held++ % N];
    s->bar[k] = s->theta[k];
  }
  real before[s->n_owners + 1];
  for (int64_t j = 0; j < s->n_owners; ++j) before[j] = s->v[s->owners[j]];
  const vr P = SPLAT(1 - leak - leak * G), A = SPLAT(-leak * (real)c->mean_ge), D = SPLAT(c->keep_ge);
  const vr Q = SPLAT(leak * ((real)c->rest_e + G * reversal)), C = SPLAT(c->base);
  const vi hit = pass(s, learn, P, A, Q, D, C);
  int fires = any(hit);
  /* less the inhibition by the own partner */
  int64_t left = 0;
  for (int64_t j = 0; j < s->n_owners; ++j) {
    const int32_t k = s->owners[j];
    s->v[k] -= leak * (real)c->mean_gi * s->own[k] * (reversal - before[j]);
    if (s->v[k] > (learn ? s->bar[k] * s->decayed + (real)c->base : s->bar[k])) fires = 1;
    s->own[k] *= (real)c->keep_gi;
    if (s->own[k] < (real)c->least) { s->own[k] = 0, s->owning[k] = 0; continue; }
    s->owners[left++] = k;
  }
  s->n_owners = left;
  s->G *= (real)c->keep_gi;
  if (s->G < (real)c->least) s->G = 0;
  if (learn) s->decayed *= (real)c->keep_theta;
  while (s->clamped < s->end && s->t - s->at[s->clamped % N] >= c->hold_e) ++s->clamped;
  for (int64_t j = s->clamped; j < s->end; ++j) s->v[s->queue[j % N]] = (real)c->reset_e;
  if (s->n_active) inhibitory(c, s);
  s->n_fired = 0;
  if (fires)
    for (int32_t k = 0; k < c->neurons; ++k) {
      const real bar = learn ? s->bar[k] * s->decayed + (real)c->base : s->bar[k];
      if (s->v[k] > bar) s->fired[s->n_fired++] = k;
    }
  if (learn && shown < c->image)
    for (int64_t j = r->first[shown]; j < r->first[shown + 1]; ++j) ++s->emitted[r->inputs[j]];
  if (shown < c->image + LATEST) {
    const uint32_t *which = r->arrivals + shown * r->row;
    const int64_t n = r->arriving[shown];
    if (learn && s->n_traced && s->t - s->origin >= REFRESH) refresh(c, s);
    if (learn && s->n_traced) arriving(c, s, w, which, n, 1);
    else arriving(c, s, w, which, n, 0);
  }
  for (int64_t j = 0; j < s->n_fired_i; ++j) {
    const int32_t k = s->fired_i[j];
    s->G += (real)c->inhibit, s->own[k] += (real)c->inhibit;
    if (!s->owning[k]) s->owning[k] = 1, s->owners[s->n_owners++] = k;
    s->v_i[k] = (real)c->reset_i, s->spiked_i[k] = s->t;
  }
  s->spikes_i += s->n_fired_i, s->n_fired_i = 0;
  for (int64_t j = 0; j < s->n_fired; ++j) {
    const int32_t k = s->fired[j];
    excite(c, s, k);
    if (learn) {
      postsynaptic(c, s, w, r, shown, k);
      s->theta[k] += (real)c->theta_plus / s->decayed;
    }
    s->post[k] = s->t;
    if (learn) {
      if (s->t - s->origin >= REFRESH) refresh(c, s);
      s->fast[k] = 1 / c->trace_fast[s->t - s->origin];
    }
    s->v[k] = (real)c->reset_e, s->bar[k] = (real)INFINITY;
    s->queue[s->end % N] = k, s->at[s->end++ % N] = s->t;
    s->counts[k] += s->counts[k] < 255;
  }
  s->spikes += s->n_fired;
  ++s->t;
}
/* Whether nothing can fire any more without input. */
static int quiet(const call *c, const state *s) {
  if (s->n_active || s->n_owners || s->clamped < s->end || s->G > (real)c->least) return 0;
  vr most = {0};
  for (int64_t k = 0; k < s->N; k += W) {
    const vr g = *(const vr *)(s->g + k);
    const vi more = g > most;
    most = (vr)((more & (vi)g) | (~more & (vi)most));
  }
  for (int64_t l = 0; l < W; ++l)
    if (most[l] > (real)c->least) return 0;
  for (int64_t j = s->held; j < s->end; ++j) {
    const int32_t k = s->queue[j % s->N];
    if (s->v[k] > s->theta[k] * s->decayed + (real)c->base) return 0;
  }
  return 1;
}
INLINE void present(const call *c, state *s, real *w, const raster *r, const int learn) {
  for (int64_t i = 0; learn && i < c->inputs; ++i) s->emitted[i] = r->begin[i];
  for (int64_t t = 0; t < c->image; ++t) step(c, s, w, r, t, learn);
}
/* Silence, as far as something can fire in it; then potentials decay by a power. Spikes count to no image. */
static void silence(const call *c, state *s, real *w, const raster *r) {
  const int64_t N = s->N, start = s->t - c->image;
  int64_t left = c->silence;
  for (; left > 0; --left) {
    const int64_t shown = c->image + c->silence - left;
    if (left % 16 == 0 && shown >= c->image + LATEST && quiet(c, s)) break;
    step(c, s, w, r, shown, 1);
  }
  for (int64_t i = 0; i < c->inputs; ++i)
    if (r->begin[i + 1] > r->begin[i]) s->before[i] = start + r->times[r->begin[i + 1] - 1];
  const real kept = (real)pow(1.0 - c->leak_e, (double)left);
  const real theta = (real)pow(c->keep_theta, (double)(c->image + c->silence));
  s->t += left, s->G = 0, s->decayed = 1;
  while (s->held < s->end && s->t - s->at[s->held % N] >= c->interval) ++s->held;
  for (int64_t k = 0; k < c->neurons; ++k) {
    s->v[k] = (real)c->rest_e + (s->v[k] - (real)c->rest_e) * kept;
    s->theta[k] *= theta, s->bar[k] = s->theta[k];
  }
  for (int64_t j = s->held; j < s->end; ++j) s->bar[s->queue[j % N]] = (real)INFINITY;
}
"""
