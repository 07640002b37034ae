/* bcrypt for one to eight passwords at once, on one core. See docs/explanation/lanes.md. */
#ifndef DEVNEST_BCRYPT_H
#define DEVNEST_BCRYPT_H

#include <stddef.h>
#include <stdint.h>

enum {
    BCRYPT_LANES_MAX = 8,
    BCRYPT_COST_MIN = 4,
    BCRYPT_COST_MAX = 31,
    BCRYPT_PASSWORD_MAX = 72,
    BCRYPT_SALT_BYTES = 16,
    BCRYPT_DIGEST_BYTES = 23,
    BCRYPT_SCRATCH_BYTES = BCRYPT_LANES_MAX * 4352 + 96 /* any group, and its alignment */
};

/* One hash to compute. The password comes without its closing NUL, which the kernel adds; it may
   have NUL bytes inside. Only its first 72 bytes count: a caller that refuses longer ones checks
   first. Salt and digest have the sizes above. */
struct bcrypt_job {
    const uint8_t *password;
    size_t length;
    const uint8_t *salt;
    uint8_t *digest;
};

/* The versions of the code: for any CPU, for x86-64 with BMI2 (Intel since 2013, AMD since 2015),
   and for the same CPUs with BEXTR as well. They are macros because the preprocessor compares
   them. */
#define BCRYPT_PLAIN 0
#define BCRYPT_BMI2 1
#define BCRYPT_BEXTR 2
#define BCRYPT_CODES 3
#define BCRYPT_CODE_NAMES {"plain", "bmi2", "bextr"}

/* How many of these versions this CPU can run, counted from the first, and which one is fastest. */
unsigned bcrypt_codes(void);
unsigned bcrypt_best_code(void);

/* Computes `lanes` jobs (1 to 8) of one cost (4 to 31) side by side. `scratch` has
   BCRYPT_SCRATCH_BYTES at any alignment; the kernel zeroes all that it wrote there before it
   returns. `code` is below bcrypt_codes(). */
void bcrypt_group(const struct bcrypt_job *jobs, unsigned lanes, unsigned cost, unsigned code,
                  void *scratch);

/* Computes one job with the simple code of reference.c. */
void bcrypt_reference(const struct bcrypt_job *job, unsigned cost);

/* Zeroes memory. A compiler cannot remove this call. */
void bcrypt_wipe(void *memory, size_t size);

#endif
