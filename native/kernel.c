/* Compiles lanes.h for every number of lanes, in plain C and, on x86-64, with BMI2 and with
   BEXTR, and chooses between them. */
#include <string.h>

#include "bcrypt.h"
#include "common.h"

#include "initial.h"

/* Where the state begins in a cache line. BEXTR's rounds shift by the last five bits of its
   address. */
enum { STATE_AT = 24 };

#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)

#define EACH_1(M) M(0)
#define EACH_2(M) EACH_1(M) M(1)
#define EACH_3(M) EACH_2(M) M(2)
#define EACH_4(M) EACH_3(M) M(3)
#define EACH_5(M) EACH_4(M) M(4)
#define EACH_6(M) EACH_5(M) M(5)
#define EACH_7(M) EACH_6(M) M(6)
#define EACH_8(M) EACH_7(M) M(7)

#define CODE BCRYPT_PLAIN
#define NAME(what) JOIN(what, _plain_, LANES)
#include "counts.h"
#undef CODE
#undef NAME

#if defined __x86_64__ && defined __GNUC__
#define X86 1
#define CODE BCRYPT_BMI2
#define NAME(what) JOIN(what, _bmi2_, LANES)
#include "counts.h"
#undef CODE
#undef NAME
#define CODE BCRYPT_BEXTR
#define NAME(what) JOIN(what, _bextr_, LANES)
#include "counts.h"
#undef CODE
#undef NAME
#else
#define X86 0
#endif

typedef void group_function(const struct bcrypt_job *, unsigned, void *);

static group_function *const groups[][BCRYPT_LANES_MAX] = {
    {group_plain_1, group_plain_2, group_plain_3, group_plain_4, group_plain_5, group_plain_6,
     group_plain_7, group_plain_8},
#if X86
    {group_bmi2_1, group_bmi2_2, group_bmi2_3, group_bmi2_4, group_bmi2_5, group_bmi2_6,
     group_bmi2_7, group_bmi2_8},
    {group_bextr_1, group_bextr_2, group_bextr_3, group_bextr_4, group_bextr_5, group_bextr_6,
     group_bextr_7, group_bextr_8},
#endif
};

unsigned bcrypt_codes(void)
{
#if X86
    if (__builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
        return BCRYPT_CODES;
#endif
    return BCRYPT_PLAIN + 1;
}

unsigned bcrypt_best_code(void)
{
#if X86
    if (bcrypt_codes() == BCRYPT_CODES)
        return __builtin_cpu_is("amd") ? BCRYPT_BEXTR : BCRYPT_BMI2;
#endif
    return BCRYPT_PLAIN;
}

void bcrypt_group(const struct bcrypt_job *jobs, unsigned lanes, unsigned cost, unsigned code,
                  void *scratch)
{
    uintptr_t line = ((uintptr_t)scratch + 63) & ~(uintptr_t)63;
    groups[code][lanes - 1](jobs, cost, (void *)(line + STATE_AT));
}
