/* Attention with dropout for sequences of one dropout rate, forward and backward: see native_layer.py.

   Compiled for one head width, -DHEAD=5, with the vector types of GCC and Clang. A vector holds
   consecutive keys of one head. The keys and values of a head stay in the first-level cache, and
   the backward pass computes the weights again instead of reading them from memory.

   query, mixed, dout, dquery: [sequences, steps, heads * HEAD]
   pairs, dpairs: [sequences, keys, 2, heads * HEAD], keys and values
   bias: [sequences, keys]
   bits: [sequences, heads, steps, keys], or NULL for no dropout; kept where bits >= limit
   stats: [sequences, heads, steps, 2], the maximum of the scores and 1 / the sum of exponentials */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define EACH _Pragma("GCC unroll 64") for (int e = 0; e < HEAD; e++)

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef int16_t Shorts __attribute__((vector_size(2 * LANES)));

static const float HIDDEN = -3e38f; /* the bias of the keys that fill the last vector */

static inline Floats where(Ints mask, Floats x) { return (Floats)((Ints)x & mask); }

/* e^x for x <= 0: 2^n times a polynomial (Cephes), relative error 1e-7; 0 below -87. */
static inline Floats exponential(Floats x) {
    const Ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, Ints);
    const Floats whole = __builtin_convertvector(n, Floats);
    const Floats r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Floats y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return where(x >= -87.0f, y * (Floats)((n + 127) << 23));
}

/* The larger of two vectors, entry by entry. */
static inline Floats larger(Floats a, Floats b) {
    const Ints mask = a > b;
    return (Floats)(((Ints)a & mask) | ((Ints)b & ~mask));
}

static inline Floats sum(Floats a, Floats b) { return a + b; }

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (Ints){__VA_ARGS__})
#endif
#define EVEN(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD(a, b) SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)

/* Reduce each of 16 vectors to an entry of one vector: pairs of neighbours, four times. */
#define REDUCE(name, combine)                                                          \
    static inline Floats name(Floats x[LANES]) {                                       \
        _Pragma("GCC unroll 4") for (int n = LANES / 2; n > 0; n /= 2)                 \
            _Pragma("GCC unroll 8") for (int i = 0; i < n; i++)                        \
                x[i] = combine(EVEN(x[2 * i], x[2 * i + 1]), ODD(x[2 * i], x[2 * i + 1])); \
        return x[0];                                                                   \
    }
REDUCE(totals, sum)
REDUCE(maxima, larger)

/* Read one head of [length, stride] into [HEAD][vectors]; the last vector ends in `fill`. */
static inline void read_head(
    const float *from, long length, long stride, long vectors, Floats to[HEAD][vectors]) {
    EACH to[e][vectors - 1] = (Floats){0};
    for (long u = 0; u < length; u++) EACH((float *)to[e])[u] = from[u * stride + e];
}

static inline void write_head(
    float *to, long length, long stride, long vectors, Floats from[HEAD][vectors]) {
    for (long u = 0; u < length; u++) EACH to[u * stride + e] = ((float *)from[e])[u];
}

static inline void read_bias(const float *from, long length, long vectors, Floats to[vectors]) {
    to[vectors - 1] = (Floats){0} + HIDDEN;
    memcpy(to, from, sizeof(float) * length);
}

/* Whether the keys of a vector are kept. Memory may end after the bits, and a row's last vector
   passes its end: the last vectors are read from a copy with room after it. */
static inline Ints kept(const int16_t *bits, long limit) {
    Shorts random;
    memcpy(&random, bits, sizeof random);
    return __builtin_convertvector(random, Ints) >= (int)limit;
}

void forward(
    const float *query, const float *pairs, const float *bias, const int16_t *bits, long limit,
    float scale, float *mixed, float *stats, long sequences, long heads, long steps, long keys) {
    const long width = heads * HEAD, vectors = (keys + LANES - 1) / LANES;
    const long entries = sequences * heads * steps * keys, span = vectors * LANES;
    const long copied = entries < span ? entries : span;
    const float root = 1.0f / sqrtf(HEAD);
    Floats k[HEAD][vectors], v[HEAD][vectors], hide[vectors], scores[LANES][vectors];
    Floats most[LANES] = {{0}}, sums[LANES] = {{0}}, out[HEAD][LANES] = {{{0}}};
    int16_t end[2 * span];
    if (bits) memcpy(end, bits + entries - copied, sizeof(int16_t) * copied);
    for (long s = 0; s < sequences; s++) {
        read_bias(bias + s * keys, keys, vectors, hide);
        for (long h = 0; h < heads; h++) {
            const float *pair = pairs + s * keys * 2 * width + h * HEAD;
            read_head(pair, keys, 2 * width, vectors, k);
            read_head(pair + width, keys, 2 * width, vectors, v);
            for (long t = 0; t < steps; t += LANES) {
                const long count = steps - t < LANES ? steps - t : LANES;
                const long row = (s * heads + h) * steps + t;
                const long at = (s * steps + t) * width + h * HEAD;
                for (long r = 0; r < count; r++) {
                    float q[HEAD];
                    EACH q[e] = query[at + r * width + e] * root;
                    most[r] = (Floats){0} + HIDDEN;
                    for (long u = 0; u < vectors; u++) {
                        Floats score = hide[u];
                        EACH score += q[e] * k[e][u];
                        scores[r][u] = score;
                        most[r] = larger(score, most[r]);
                    }
                }
                const Floats maximum = maxima(most);
                for (long r = 0; r < count; r++) {
                    const long place = (row + r) * keys;
                    const int16_t *random =
                        place + span <= entries ? bits + place : end + place - (entries - copied);
                    Floats total = {0}, mix[HEAD] = {{0}};
                    for (long u = 0; u < vectors; u++) {
                        Floats weight = exponential(scores[r][u] - maximum[r]);
                        total += weight;
                        if (bits) weight = where(kept(random + u * LANES, limit), weight);
                        EACH mix[e] += weight * v[e][u];
                    }
                    sums[r] = total;
                    EACH out[e][r] = mix[e];
                }
                const Floats inverse = 1.0f / totals(sums);
                EACH {
                    const Floats result = totals(out[e]) * inverse * scale;
                    for (long r = 0; r < count; r++) mixed[at + r * width + e] = result[r];
                }
                for (long r = 0; r < count; r++) {
                    stats[2 * (row + r)] = maximum[r];
                    stats[2 * (row + r) + 1] = inverse[r];
                }
            }
        }
    }
}

void backward(
    const float *query, const float *pairs, const float *bias, const int16_t *bits, long limit,
    float scale, const float *mixed, const float *stats, const float *dout, float *dquery,
    float *dpairs, long sequences, long heads, long steps, long keys) {
    const long width = heads * HEAD, vectors = (keys + LANES - 1) / LANES;
    const long entries = sequences * heads * steps * keys, span = vectors * LANES;
    const long copied = entries < span ? entries : span;
    const float root = 1.0f / sqrtf(HEAD);
    Floats k[HEAD][vectors], v[HEAD][vectors], dk[HEAD][vectors], dv[HEAD][vectors], hide[vectors];
    Floats scores[LANES][vectors], weights[LANES][vectors], dq[HEAD][LANES] = {{{0}}};
    float q[LANES][HEAD], d[LANES][HEAD], inner[LANES];
    int16_t end[2 * span];
    if (bits) memcpy(end, bits + entries - copied, sizeof(int16_t) * copied);
    for (long s = 0; s < sequences; s++) {
        read_bias(bias + s * keys, keys, vectors, hide);
        for (long h = 0; h < heads; h++) {
            const long first = s * keys * 2 * width + h * HEAD;
            read_head(pairs + first, keys, 2 * width, vectors, k);
            read_head(pairs + first + width, keys, 2 * width, vectors, v);
            memset(dk, 0, sizeof dk);
            memset(dv, 0, sizeof dv);
            for (long t = 0; t < steps; t += LANES) {
                const long count = steps - t < LANES ? steps - t : LANES;
                const long row = (s * heads + h) * steps + t;
                const long at = (s * steps + t) * width + h * HEAD;
                for (long r = 0; r < count; r++) {
                    const long here = at + r * width;
                    inner[r] = 0.0f;
                    EACH q[r][e] = query[here + e] * root;
                    EACH d[r][e] = dout[here + e];
                    EACH inner[r] += d[r][e] * mixed[here + e];
                }
                for (long r = 0; r < count; r++)
                    for (long u = 0; u < vectors; u++) {
                        Floats score = hide[u], dweight = {0};
                        EACH score += q[r][e] * k[e][u];
                        EACH dweight += d[r][e] * v[e][u];
                        scores[r][u] = score;
                        weights[r][u] = dweight * scale;
                    }
                for (long r = 0; r < count; r++) {
                    const long place = (row + r) * keys;
                    const int16_t *random =
                        place + span <= entries ? bits + place : end + place - (entries - copied);
                    const float maximum = stats[2 * (row + r)], inverse = stats[2 * (row + r) + 1];
                    for (long u = 0; u < vectors; u++) {
                        const Floats weight = exponential(scores[r][u] - maximum) * inverse;
                        Floats after = weight * scale, dweight = weights[r][u];
                        if (bits) {
                            const Ints mask = kept(random + u * LANES, limit);
                            after = where(mask, after);
                            dweight = where(mask, dweight);
                        }
                        weights[r][u] = after;
                        scores[r][u] = weight * (dweight - inner[r]); /* their gradient */
                    }
                }
                for (long r = 0; r < count; r++) {
                    Floats sums[HEAD] = {{0}};
                    for (long u = 0; u < vectors; u++) EACH sums[e] += scores[r][u] * k[e][u];
                    EACH dq[e][r] = sums[e];
                }
                for (long u = 0; u < vectors; u++) {
                    Floats key[HEAD], value[HEAD];
                    EACH key[e] = dk[e][u], value[e] = dv[e][u];
                    for (long r = 0; r < count; r++) {
                        EACH key[e] += scores[r][u] * q[r][e];
                        EACH value[e] += weights[r][u] * d[r][e];
                    }
                    EACH dk[e][u] = key[e], dv[e][u] = value[e];
                }
                EACH {
                    const Floats result = totals(dq[e]) * root;
                    for (long r = 0; r < count; r++) dquery[at + r * width + e] = result[r];
                }
            }
            write_head(dpairs + first, keys, 2 * width, vectors, dk);
            write_head(dpairs + first + width, keys, 2 * width, vectors, dv);
        }
    }
}
