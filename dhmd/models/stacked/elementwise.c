/* What a transformer layer computes entry by entry or row by row: see native_layer.py.

   Rows are contiguous. Dropout keeps an entry where bits >= limit, and scales it; without bits it
   keeps all entries. */

#include <math.h>
#include <stdint.h>

/* The mean of a row, and 1 / its standard deviation. */
static inline float statistics(const float *x, long width, float *mean) {
    float sum = 0.0f, squares = 0.0f;
    _Pragma("omp simd reduction(+ : sum)") for (long i = 0; i < width; i++) sum += x[i];
    *mean = sum / width;
    const float m = *mean;
    _Pragma("omp simd reduction(+ : squares)") for (long i = 0; i < width; i++)
        squares += (x[i] - m) * (x[i] - m);
    return 1.0f / sqrtf(squares / width + 1e-5f);
}

/* y = (x - mean) / deviation * scale + shift; x, y: [groups, rows, width], others [groups, width] */
void norm(
    const float *x, const float *scale, const float *shift, float *restrict y, long groups,
    long rows, long width) {
    for (long g = 0; g < groups; g++, scale += width, shift += width)
        for (long r = 0; r < rows; r++, x += width, y += width) {
            float mean;
            const float inverse = statistics(x, width, &mean);
            for (long i = 0; i < width; i++) y[i] = (x[i] - mean) * inverse * scale[i] + shift[i];
        }
}

/* dx += the gradient of x; dscale and dshift, likewise. */
void norm_backward(
    const float *dy, const float *x, const float *scale, float *restrict dx,
    float *restrict dscale, float *restrict dshift, long groups, long rows, long width) {
    for (long g = 0; g < groups; g++, scale += width, dscale += width, dshift += width)
        for (long r = 0; r < rows; r++, x += width, dy += width, dx += width) {
            float mean, sum = 0.0f, inner = 0.0f;
            const float inverse = statistics(x, width, &mean);
            _Pragma("omp simd reduction(+ : sum, inner)") for (long i = 0; i < width; i++) {
                const float normal = (x[i] - mean) * inverse, dnormal = dy[i] * scale[i];
                dscale[i] += dy[i] * normal;
                dshift[i] += dy[i];
                sum += dnormal;
                inner += dnormal * normal;
            }
            sum /= width;
            inner /= width;
            for (long i = 0; i < width; i++) {
                const float normal = (x[i] - mean) * inverse;
                dx[i] += inverse * (dy[i] * scale[i] - sum - normal * inner);
            }
        }
}

/* x = dropout(x), or base + dropout(x) */
void drop(
    float *restrict x, const float *restrict base, const int16_t *restrict bits, long limit,
    float scale, long count) {
    const int least = (int)limit;
    for (long i = 0; i < count; i++) {
        const float scaled = x[i] * scale, kept = !bits || bits[i] >= least ? scaled : 0.0f;
        x[i] = base ? base[i] + kept : kept;
    }
}

/* x = dropout(max(x, 0)); a comparison that keeps NaN */
void rectify(float *restrict x, const int16_t *restrict bits, long limit, float scale, long count) {
    const int least = (int)limit;
    for (long i = 0; i < count; i++) {
        const float scaled = x[i] < 0.0f ? 0.0f : x[i] * scale;
        x[i] = !bits || bits[i] >= least ? scaled : 0.0f;
    }
}

/* dy = the gradient of the input of `rectify`; y: its result */
void rectify_backward(const float *restrict y, float *restrict dy, float scale, long count) {
    for (long i = 0; i < count; i++) {
        const float scaled = dy[i] * scale;
        dy[i] = y[i] <= 0.0f ? 0.0f : scaled;
    }
}
