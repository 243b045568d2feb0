/* The maximum over real steps, and the step that has it: see layers.py. */

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* x: [rows, steps, codes], mask: [rows, steps], highest and index: [rows, codes]; 0 and -1 where no
   step is real; the first of equal steps, and NaN if there is one */
void masked_max(
    const float *restrict x, const bool *mask, float *restrict highest, int32_t *restrict index,
    long rows, long steps, long codes) {
    for (long r = 0; r < rows; r++, highest += codes, index += codes) {
        for (long k = 0; k < codes; k++) highest[k] = -INFINITY, index[k] = -1;
        for (long t = 0; t < steps; t++, x += codes, mask++) {
            if (!*mask) continue;
            for (long k = 0; k < codes; k++) {
                const bool higher = x[k] > highest[k] || x[k] != x[k];
                highest[k] = higher ? x[k] : highest[k];
                index[k] = higher ? (int32_t)t : index[k];
            }
        }
        for (long k = 0; k < codes; k++) highest[k] = index[k] < 0 ? 0.0f : highest[k];
    }
}

void masked_max_backward(
    const float *restrict dhighest, const int32_t *restrict index, float *restrict dx, long rows,
    long steps, long codes) {
    for (long r = 0; r < rows; r++, dhighest += codes, index += codes)
        for (long t = 0; t < steps; t++, dx += codes)
            for (long k = 0; k < codes; k++) dx[k] = index[k] == (int32_t)t ? dhighest[k] : 0.0f;
}
