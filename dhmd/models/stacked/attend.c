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
typedef float Half __attribute__((vector_size(2 * LANES)));
typedef float Quarter __attribute__((vector_size(LANES)));

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

/* A vector as a union of its parts, of half its width each. */
typedef union { Floats all; Half parts[2]; } Halves;
typedef union { Half all; Quarter parts[2]; } Quarters;

static inline float total(Floats x) {
    const Halves a = {x};
    const Quarters b = {a.parts[0] + a.parts[1]};
    const Quarter y = b.parts[0] + b.parts[1];
    return (y[0] + y[1]) + (y[2] + y[3]);
}

/* The larger of two vectors, entry by entry. */
#define MASK(a, b) ((__typeof__((a) > (b)))(a))
#define LARGER(a, b) \
    ((__typeof__(a))((MASK(a, b) & ((a) > (b))) | (MASK(b, a) & ~((a) > (b)))))

static inline float highest(Floats x) {
    const Halves a = {x};
    const Quarters b = {LARGER(a.parts[0], a.parts[1])};
    const Quarter y = LARGER(b.parts[0], b.parts[1]);
    const float left = y[0] > y[1] ? y[0] : y[1], right = y[2] > y[3] ? y[2] : y[3];
    return left > right ? left : right;
}

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

static inline Ints kept(Shorts bits, long limit) {
    return __builtin_convertvector(bits, Ints) >= (int)limit;
}

void forward(
    const float *query, const float *pairs, const float *bias, const int16_t *bits, long limit,
    float scale, float *mixed, float *stats, long sequences, long heads, long steps, long keys) {
    const long width = heads * HEAD, vectors = (keys + LANES - 1) / LANES;
    const float root = 1.0f / sqrtf(HEAD);
    Floats k[HEAD][vectors], v[HEAD][vectors], hide[vectors], scores[vectors];
    Shorts random[vectors];
    random[vectors - 1] = (Shorts){0};
    for (long s = 0; s < sequences; s++) {
        read_bias(bias + s * keys, keys, vectors, hide);
        for (long h = 0; h < heads; h++) {
            const float *pair = pairs + s * keys * 2 * width + h * HEAD;
            read_head(pair, keys, 2 * width, vectors, k);
            read_head(pair + width, keys, 2 * width, vectors, v);
            for (long t = 0; t < steps; t++) {
                const long row = (s * heads + h) * steps + t;
                const long at = (s * steps + t) * width + h * HEAD;
                float q[HEAD];
                EACH q[e] = query[at + e] * root;
                Floats most = (Floats){0} + HIDDEN;
                for (long u = 0; u < vectors; u++) {
                    Floats score = hide[u];
                    EACH score += q[e] * k[e][u];
                    scores[u] = score;
                    most = LARGER(score, most);
                }
                const float maximum = highest(most);
                Floats sum = {0}, out[HEAD] = {{0}};
                if (bits) memcpy(random, bits + row * keys, sizeof(int16_t) * keys);
                for (long u = 0; u < vectors; u++) {
                    Floats weight = exponential(scores[u] - maximum);
                    sum += weight;
                    if (bits) weight = where(kept(random[u], limit), weight);
                    EACH out[e] += weight * v[e][u];
                }
                const float inverse = 1.0f / total(sum);
                EACH mixed[at + e] = total(out[e]) * inverse * scale;
                stats[2 * row] = maximum;
                stats[2 * row + 1] = inverse;
            }
        }
    }
}

void backward(
    const float *query, const float *pairs, const float *bias, const int16_t *bits, long limit,
    float scale, const float *mixed, const float *stats, const float *dout, float *dquery,
    float *dpairs, long sequences, long heads, long steps, long keys) {
    const long width = heads * HEAD, vectors = (keys + LANES - 1) / LANES;
    const float root = 1.0f / sqrtf(HEAD);
    Floats k[HEAD][vectors], v[HEAD][vectors], dk[HEAD][vectors], dv[HEAD][vectors], hide[vectors];
    Shorts random[vectors];
    random[vectors - 1] = (Shorts){0};
    for (long s = 0; s < sequences; s++) {
        read_bias(bias + s * keys, keys, vectors, hide);
        for (long h = 0; h < heads; h++) {
            const long first = s * keys * 2 * width + h * HEAD;
            read_head(pairs + first, keys, 2 * width, vectors, k);
            read_head(pairs + first + width, keys, 2 * width, vectors, v);
            memset(dk, 0, sizeof dk);
            memset(dv, 0, sizeof dv);
            for (long t = 0; t < steps; t++) {
                const long row = (s * heads + h) * steps + t;
                const long at = (s * steps + t) * width + h * HEAD;
                const float maximum = stats[2 * row], inverse = stats[2 * row + 1];
                float q[HEAD], d[HEAD], inner = 0.0f;
                EACH q[e] = query[at + e] * root;
                EACH d[e] = dout[at + e];
                EACH inner += d[e] * mixed[at + e];
                Floats dq[HEAD] = {{0}};
                if (bits) memcpy(random, bits + row * keys, sizeof(int16_t) * keys);
                for (long u = 0; u < vectors; u++) {
                    Floats score = hide[u], dweight = {0};
                    EACH score += q[e] * k[e][u];
                    EACH dweight += d[e] * v[e][u];
                    const Floats weight = exponential(score - maximum) * inverse;
                    Floats after = weight * scale;
                    dweight *= scale;
                    if (bits) {
                        const Ints mask = kept(random[u], limit);
                        after = where(mask, after);
                        dweight = where(mask, dweight);
                    }
                    const Floats dscore = weight * (dweight - inner);
                    EACH dq[e] += dscore * k[e][u];
                    EACH dk[e][u] += dscore * q[e];
                    EACH dv[e][u] += after * d[e];
                }
                EACH dquery[at + e] = total(dq[e]) * root;
            }
            write_head(dpairs + first, keys, 2 * width, vectors, dk);
            write_head(dpairs + first + width, keys, 2 * width, vectors, dv);
        }
    }
}
