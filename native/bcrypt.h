/* bcrypt for one to six passwords at once, on one core. See docs/lanes.md. */
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
    BCRYPT_SCRATCH_BYTES = BCRYPT_LANES_MAX * 4352 + 64 /* any group, and its alignment */
};

/* One hash to compute: a password without its closing NUL (added here; NUL bytes inside are allowed; only
   the first 72 bytes count, and a caller that means to refuse more does), salt and digest of the sizes above. */
struct bcrypt_job {
    const uint8_t *password;
    size_t length;
    const uint8_t *salt;
    uint8_t *digest;
};

/* The same lanes compiled for any CPU, and for an x86-64 with BMI2 (Intel since 2013, AMD since 2015). */
enum bcrypt_code { BCRYPT_PLAIN, BCRYPT_BMI2 };

/* The faster code among those that this CPU runs. */
enum bcrypt_code bcrypt_best_code(void);

/* Computes `lanes` jobs (1 to 6) of one cost (4 to 31) side by side. `scratch` has BCRYPT_SCRATCH_BYTES
   and any alignment; what was written to it is zero again on return. `code` is not above bcrypt_best_code(). */
void bcrypt_group(const struct bcrypt_job *jobs, unsigned lanes, unsigned cost, enum bcrypt_code code, void *scratch);

/* The same answer for one job, the plain way: reference.c, written to be read. */
void bcrypt_reference(const struct bcrypt_job *job, unsigned cost);

/* Zeroes memory in a way no compiler may leave out. */
void bcrypt_wipe(void *memory, size_t size);

#endif
