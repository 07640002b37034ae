/* bcrypt for one to six passwords at once, on one core. See docs/explanation/lanes.md. */
#ifndef DEVNEST_BCRYPT_H
#define DEVNEST_BCRYPT_H

#include <stddef.h>
#include <stdint.h>

enum {
    BCRYPT_LANES_MAX = 6,
    BCRYPT_COST_MIN = 4,
    BCRYPT_COST_MAX = 31,
    BCRYPT_PASSWORD_MAX = 72,
    BCRYPT_SALT_BYTES = 16,
    BCRYPT_DIGEST_BYTES = 23,
    BCRYPT_SCRATCH_BYTES = BCRYPT_LANES_MAX * 4352 + 96 /* any group, and its alignment */
};

/* One hash to compute: a password without its closing NUL (added here; NUL bytes inside are allowed; only
   the first 72 bytes count, and a caller that means to refuse more does), salt and digest of the sizes above. */
struct bcrypt_job {
    const uint8_t *password;
    size_t length;
    const uint8_t *salt;
    uint8_t *digest;
};

/* The same lanes compiled for any CPU, and twice for an x86-64 with BMI2 (Intel since 2013, AMD since 2015): with its
   shifts alone, and with BEXTR besides. Macros, for the preprocessor compares them. */
#define BCRYPT_PLAIN 0
#define BCRYPT_BMI2 1
#define BCRYPT_BEXTR 2
#define BCRYPT_CODES 3
#define BCRYPT_CODE_NAMES {"plain", "bmi2", "bextr"}

/* How many of them this CPU runs, from the first on, and which of those is fastest on it. */
unsigned bcrypt_codes(void);
unsigned bcrypt_best_code(void);

/* Computes `lanes` jobs (1 to 6) of one cost (4 to 31) side by side. `scratch` has BCRYPT_SCRATCH_BYTES
   and any alignment; what was written to it is zero again on return. `code` is below bcrypt_codes(). */
void bcrypt_group(const struct bcrypt_job *jobs, unsigned lanes, unsigned cost, unsigned code,
                  void *scratch);

/* The same answer for one job, the plain way: reference.c, written to be read. */
void bcrypt_reference(const struct bcrypt_job *job, unsigned cost);

/* Zeroes memory in a way no compiler may leave out. */
void bcrypt_wipe(void *memory, size_t size);

#endif
