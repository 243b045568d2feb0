/* Random words of SFC64 (Doty-Humphrey, 2010), as numpy's generator computes them: see members.py. */

#include <stdint.h>

/* state: a, b, c and a counter; it is advanced. */
void fill(uint64_t *state, uint64_t *words, long count) {
    uint64_t a = state[0], b = state[1], c = state[2], counter = state[3];
    for (long i = 0; i < count; i++) {
        const uint64_t word = a + b + counter++;
        a = b ^ (b >> 11);
        b = c + (c << 3);
        c = (c << 24 | c >> 40) + word;
        words[i] = word;
    }
    state[0] = a, state[1] = b, state[2] = c, state[3] = counter;
}
