/* Matrix products of a batch, c = bias + a b, for matrices of a model's layers: see kernels.py.

   a: [m, k] with any strides, so that it may be transposed; b: [k, n], likewise; c: [m, n].
   bias: [n] per matrix of the batch, or NULL. sums: [n] likewise, the sums of the rows of b. Two vectors of columns of b are copied next to each
   other, and eight rows of c are computed at a time, in registers. */

#include <string.h>

#define LANES 16
#define ROWS 8
#define AHEAD 16 /* columns of a that are requested early: transposed, they are far apart */
#define INNER 200 /* rows of b that are copied at a time */
#define EACH_ROW _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)

typedef float Floats __attribute__((vector_size(4 * LANES)));

/* memcpy of at most two vectors; of two, without a call. */
static inline void copy(void *to, const void *from, size_t bytes) {
    if (bytes == 2 * sizeof(Floats))
        memcpy(to, from, 2 * sizeof(Floats));
    else
        memcpy(to, from, bytes);
}

/* Add the product of at most INNER columns of a to c, or to the bias if `first`. */
static void add_product(
    const float *a, long a_row, long a_column, const float *b, long b_row, long b_column,
    const float *bias, float *c, float *sums, long m, long k, long n, int first) {
    Floats panel[INNER][2];
    for (long j = 0; j < n; j += 2 * LANES) {
        const long wide = n - j < 2 * LANES ? n - j : 2 * LANES;
        const size_t bytes = sizeof(float) * wide;
        if (wide < 2 * LANES) memset(panel, 0, sizeof panel[0] * k);
        if (b_column == 1)
            for (long u = 0; u < k; u++) copy(panel[u], b + u * b_row + j, bytes);
        else
            for (long i = 0; i < wide; i++)
                for (long u = 0; u < k; u++)
                    ((float *)panel[u])[i] = b[u * b_row + (j + i) * b_column];
        if (sums) {
            Floats sum[2] = {{0}};
            if (!first) copy(sum, sums + j, bytes);
            for (long u = 0; u < k; u++) sum[0] += panel[u][0], sum[1] += panel[u][1];
            copy(sums + j, sum, bytes);
        }
        Floats start[2] = {{0}};
        if (first && bias) copy(start, bias + j, bytes);
        for (long i = 0; i < m; i += ROWS) {
            const long count = m - i < ROWS ? m - i : ROWS;
            const float *rows[ROWS];
            Floats sums[ROWS][2];
            EACH_ROW rows[r] = a + (r < count ? i + r : i) * a_row;
            EACH_ROW sums[r][0] = start[0], sums[r][1] = start[1];
            if (!first)
                for (long r = 0; r < count; r++) copy(sums[r], c + (i + r) * n + j, bytes);
            if (wide > LANES)
                for (long u = 0; u < k; u++) {
                    __builtin_prefetch(rows[0] + (u + AHEAD) * a_column);
                    const Floats left = panel[u][0], right = panel[u][1];
                    EACH_ROW {
                        const float value = rows[r][u * a_column];
                        sums[r][0] += value * left;
                        sums[r][1] += value * right;
                    }
                }
            else
                for (long u = 0; u < k; u++) {
                    const Floats left = panel[u][0];
                    EACH_ROW sums[r][0] += rows[r][u * a_column] * left;
                }
            for (long r = 0; r < count; r++) copy(c + (i + r) * n + j, sums[r], bytes);
        }
    }
}

void products(
    const float *a, long a_row, long a_column, const float *b, long b_row, long b_column,
    const float *bias, float *c, float *sums, long batch, long m, long k, long n) {
    for (long s = 0; s < batch; s++)
        for (long u = 0; u == 0 || u < k; u += INNER)
            add_product(
                a + s * m * k + u * a_column, a_row, a_column, b + s * k * n + u * b_row, b_row,
                b_column, bias ? bias + s * n : NULL, c + s * m * n,
                sums ? sums + s * n : NULL, m, k - u < INNER ? k - u : INNER, n, u == 0);
}
