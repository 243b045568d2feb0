/* One update of Adam with decoupled weight decay: see dhmd/training/optimiser.py. */

#include <math.h>

/* Computed in double precision: 1.0f - 0.999f has only four digits. */
static const float BETA_2 = 0.999f, REST_1 = 1 - 0.9, REST_2 = 1 - 0.999, EPSILON = 1e-8f;

/* Each array has an entry per parameter; decays: NULL if all have the same `decay`. */
void adam(
    float *restrict values, const float *restrict grads, float *restrict first,
    float *restrict second, const float *restrict rates, const float *restrict decays, float decay,
    float clip, float first_correction, float second_correction, long count) {
    for (long i = 0; i < count; i++) {
        const float low = grads[i] < -clip ? -clip : grads[i], grad = low > clip ? clip : low;
        first[i] += (grad - first[i]) * REST_1;
        second[i] = second[i] * BETA_2 + grad * grad * REST_2;
        const float spread = sqrtf(second[i]) / second_correction + EPSILON;
        const float kept = values[i] * (1.0f - rates[i] * (decays ? decays[i] : decay));
        values[i] = kept - first[i] / spread * rates[i] / first_correction;
    }
}
