/* Measures hashes per second of every lane count and version of the code on one core, in turn, and
   prints medians of five. The figures are for cost 5, as most published ones; each step of the cost
   halves them. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bcrypt.h"

enum { ROUNDS = 5, COST = 8 };

static double seconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void)
{
    static uint8_t scratch[BCRYPT_SCRATCH_BYTES], digests[BCRYPT_LANES_MAX][BCRYPT_DIGEST_BYTES];
    static const uint8_t salts[BCRYPT_LANES_MAX][BCRYPT_SALT_BYTES] = {"1", "2", "3", "4",
                                                                       "5", "6", "7", "8"};
    static double rates[BCRYPT_CODES][BCRYPT_LANES_MAX][ROUNDS];
    static const char *const names[] = BCRYPT_CODE_NAMES;
    struct bcrypt_job jobs[BCRYPT_LANES_MAX];
    for (int k = 0; k < BCRYPT_LANES_MAX; k++)
        jobs[k] = (struct bcrypt_job){(const uint8_t *)"correct horse", 13, salts[k], digests[k]};

    for (int round = 0; round < ROUNDS; round++)
        for (unsigned lanes = 1; lanes <= BCRYPT_LANES_MAX; lanes++)
            for (unsigned code = 0; code < bcrypt_codes(); code++) {
                double start = seconds();
                bcrypt_group(jobs, lanes, COST, code, scratch);
                rates[code][lanes - 1][round] = lanes / (seconds() - start) * (1 << (COST - 5));
            }
    printf("lanes");
    for (unsigned code = 0; code < bcrypt_codes(); code++)
        printf("%7s%s", names[code], code == bcrypt_best_code() ? "*" : " ");
    puts("  hashes per second, cost 5; * is used on this CPU");
    for (unsigned lanes = 1; lanes <= BCRYPT_LANES_MAX; lanes++) {
        printf("%5u", lanes);
        for (unsigned code = 0; code < bcrypt_codes(); code++) {
            qsort(rates[code][lanes - 1], ROUNDS, sizeof(double), by_size);
            printf("%7.0f ", rates[code][lanes - 1][ROUNDS / 2]);
        }
        puts("");
    }
    return 0;
}
