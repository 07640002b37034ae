/* Includes lanes.h once for each number of lanes. */
#define LANES 1
#define EACH EACH_1
#include "lanes.h"
#undef LANES
#undef EACH
#define LANES 2
#define EACH EACH_2
#include "lanes.h"
#undef LANES
#undef EACH
#define LANES 3
#define EACH EACH_3
#include "lanes.h"
#undef LANES
#undef EACH
#define LANES 4
#define EACH EACH_4
#include "lanes.h"
#undef LANES
#undef EACH
#define LANES 5
#define EACH EACH_5
#include "lanes.h"
#undef LANES
#undef EACH
#define LANES 6
#define EACH EACH_6
#include "lanes.h"
#undef LANES
#undef EACH
#define LANES 7
#define EACH EACH_7
#include "lanes.h"
#undef LANES
#undef EACH
#define LANES 8
#define EACH EACH_8
#include "lanes.h"
#undef LANES
#undef EACH
