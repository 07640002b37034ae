/* Twelve kernels out of lanes.h, one to six lanes in two layouts, and the choice between them. */
#include <string.h>

#include "bcrypt.h"
#include "common.h"

#include "initial.h"

#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)

#define EACH_1(M) M(0)
#define EACH_2(M) EACH_1(M) M(1)
#define EACH_3(M) EACH_2(M) M(2)
#define EACH_4(M) EACH_3(M) M(3)
#define EACH_5(M) EACH_4(M) M(4)
#define EACH_6(M) EACH_5(M) M(5)

#define WIDE 0
#define NAME(what) JOIN(what, _narrow_, LANES)
#include "widths.h"
#undef WIDE
#undef NAME

#define WIDE 1
#define NAME(what) JOIN(what, _wide_, LANES)
#include "widths.h"
#undef WIDE
#undef NAME

typedef void group_function(const struct bcrypt_job *, unsigned, void *);

static group_function *const groups[2][BCRYPT_LANES_MAX] = {
    {group_narrow_1, group_narrow_2, group_narrow_3, group_narrow_4, group_narrow_5, group_narrow_6},
    {group_wide_1, group_wide_2, group_wide_3, group_wide_4, group_wide_5, group_wide_6},
};

void bcrypt_group(const struct bcrypt_job *jobs, unsigned lanes, unsigned cost, enum bcrypt_layout layout,
                  void *scratch)
{
    /* To a cache line, so that a lane's tables touch no more lines than they must. */
    uintptr_t aligned = ((uintptr_t)scratch + 63) & ~(uintptr_t)63;
    groups[layout][lanes - 1](jobs, cost, (void *)aligned);
}
