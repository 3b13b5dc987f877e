"""The C of input spikes: draws the numbers of :func:`neurons.diehl_cook.raster.poisson`, and says when they arrive."""

from __future__ import annotations

DRAW = r"""
#define GOLDEN 0x9E3779B97F4A7C15u
#define LATEST 256 /* steps that a spike travels, and one more */
#define DRAWN 8 /* gaps of one input that are drawn together */
typedef struct {
  int32_t *first;            /* where the spikes of each step begin */
  uint16_t *inputs;          /* in the order of time */
  int32_t *times, *begin;    /* in the order of inputs, and where those of each input begin */
  int32_t *next;             /* scratch */
  uint16_t *sources;
  int32_t *arriving;         /* how many arrive at each step */
  uint32_t *arrivals;        /* a row for each step: vector of weights * 256 + group of neurons */
  int64_t room, row, failed;
} raster;

INLINE uint64_t mixed(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}
INLINE double log_(double x) {
  int64_t bits;
  memcpy(&bits, &x, 8);
  const int64_t exponent = (bits - 0x3FE6A09E667F3BCD) >> 52;
  bits -= (int64_t)((uint64_t)exponent << 52);
  double mantissa;
  memcpy(&mantissa, &bits, 8);
  const double s = (mantissa - 1.0) / (mantissa + 1.0), square = s * s;
  double total = 1.0 / (2 * LOG_SERIES + 1);
  for (int n = LOG_SERIES - 1; n >= 0; --n) total = total * square + 1.0 / (2 * n + 1);
  return (double)exponent * 0x1.62e42fefa39efp-1 + 2.0 * s * total;
}
static void raster_free(raster *r) {
  free(r->first), free(r->inputs), free(r->times), free(r->begin), free(r->sources), free(r->next);
  free(r->arriving), free(r->arrivals);
}
static int raster_room(raster *r, int64_t inputs, int64_t steps, int64_t room) {
  if (!r->first) {
    r->first = malloc((size_t)(steps + 1) * 4), r->next = malloc((size_t)(steps + 1) * 4);
    r->begin = malloc((size_t)(inputs + 1) * 4), r->arriving = malloc((size_t)(steps + LATEST + 1) * 4);
  }
  if (room > r->room) {
    r->room = room;
    r->inputs = realloc(r->inputs, (size_t)room * 2);
    r->sources = realloc(r->sources, (size_t)room * 2);
    r->times = realloc(r->times, (size_t)room * 4);
  }
  return !(r->first && r->next && r->begin && r->arriving && r->inputs && r->sources && r->times);
}
/* The spikes of one image; returns whether memory was lacking. */
static int draw(raster *r, const double *chance, int64_t inputs, int64_t steps, uint64_t key) {
  if (raster_room(r, inputs, steps, r->room ? r->room : 16384)) return 1;
  int64_t found = 0;
  memset(r->next, 0, (size_t)(steps + 1) * 4);
  for (int64_t i = 0; i < inputs; ++i) {
    r->begin[i] = (int32_t)found;
    if (!(chance[i] > 0)) continue;
    const double scale = 1.0 / log_(1.0 - chance[i]), most = (double)steps;
    const uint64_t stream = mixed(key ^ ((uint64_t)(i + 1) * GOLDEN));
    int64_t at = -1;
    for (uint64_t n = 1;; n += DRAWN) {
      int64_t gap[DRAWN];
      for (int l = 0; l < DRAWN; ++l) {
        const uint64_t word = mixed(stream + (n + (uint64_t)l) * GOLDEN);
        const double wait = log_(((double)(int64_t)(word >> 11) + 0.5) * 0x1p-53) * scale;
        gap[l] = (int64_t)(wait < most ? wait : most);
      }
      if (found + DRAWN > r->room && raster_room(r, inputs, steps, 2 * r->room)) return 1;
      int l = 0;
      for (; l < DRAWN; ++l) {
        at += 1 + gap[l];
        if (at >= steps) break;
        r->times[found] = (int32_t)at, r->sources[found++] = (uint16_t)i;
        ++r->next[at];
      }
      if (l < DRAWN) break;
    }
  }
  r->begin[inputs] = (int32_t)found;
  int32_t total = 0;
  for (int64_t t = 0; t < steps; ++t) {
    const int32_t here = r->next[t];
    r->first[t] = r->next[t] = total;
    total += here;
  }
  r->first[steps] = total;
  for (int64_t j = 0; j < found; ++j) r->inputs[r->next[r->times[j]]++] = r->sources[j];
  return 0;
}
/* When the spikes of an image arrive at each group; returns whether memory was lacking. */
static int arrive(raster *r, const uint8_t *later, int64_t groups, int64_t steps) {
  const int64_t end = steps + LATEST;
  const double mean = (double)(r->first[steps] * groups) / (double)steps;
  int64_t room = (int64_t)(mean + 5 * sqrt(mean)) + 8;
  for (room = room > r->row ? room : r->row;; room *= 2) {
    if (room > r->row || !r->arrivals) {
      free(r->arrivals);
      r->row = (room + 15) / 16 * 16;
      r->arrivals = calloc((size_t)(end * r->row + AHEAD), 4);
      if (!r->arrivals) return 1;
    }
    memset(r->arriving, 0, (size_t)end * 4);
    int full = 0;
    for (int64_t t = 0; t < steps && !full; ++t) {
      int32_t *count = r->arriving + t;
      uint32_t *row = r->arrivals + t * r->row;
      for (int64_t j = r->first[t]; j < r->first[t + 1]; ++j) {
        const uint8_t *own = later + r->inputs[j] * groups;
        const uint32_t code = (uint32_t)(r->inputs[j] * groups) << 8;
        for (int64_t b = 0; b < groups; ++b) {
          const int64_t d = own[b], n = count[d];
          if (n == r->row) { full = 1; continue; }
          row[d * r->row + n] = code + (uint32_t)b * 257;
          count[d] = (int32_t)n + 1;
        }
      }
    }
    if (!full) return 0;
  }
}
/* For tests: the spikes of one image; returns how many, or -1 where there is no room. */
int64_t step_draw(const double *chance, int64_t inputs, int64_t steps, uint64_t key, int32_t *first, uint16_t *to,
                  int64_t room) {
  raster r = {0};
  int64_t found = draw(&r, chance, inputs, steps, key) ? -1 : r.first[steps];
  if (found > room) found = -1;
  if (found >= 0) {
    memcpy(first, r.first, (size_t)(steps + 1) * 4);
    memcpy(to, r.inputs, (size_t)found * 2);
  }
  raster_free(&r);
  return found;
}
"""
