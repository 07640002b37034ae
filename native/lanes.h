/* bcrypt in LANES lanes. kernel.c includes this file once for every number of lanes and every
   version of the code, and defines LANES, CODE, NAME and EACH before. kernel.c calls only
   NAME(group).

   A round of one hash is a chain: take a byte of one half, load from an S-box, add, xor, add,
   xor. The bytes of the other half depend on the result. One hash takes as long as its chain, and
   most of the core waits. So every round is written for all lanes before the next round of any
   lane, and the processor overlaps the chains. With enough lanes the number of instructions
   counts too. Three things keep the compiler from adding any: all lanes are in one block behind
   one pointer, the halves are local variables, and one loop runs over P and S, because P is
   directly before S.

   The shifts and rotations of BMI2 write to another register than they read, so no copy is
   needed, and a round takes eleven instructions. docs/explanation/lanes.md says how the compiler
   is kept at them. BEXTR, of BMI1, takes a byte from anywhere in a register, in one step on AMD
   and in two on Intel. With it a round takes ten instructions. */

struct NAME(state) {
    union {
        uint32_t word[STATE_WORDS];
        struct {
            uint32_t subkey[SUBKEYS];
            uint32_t box[4][256];
        };
    } lane[LANES];
    uint32_t key[LANES][SUBKEYS];
    uint32_t salt[LANES][SUBKEYS];
    uint32_t text[LANES][TEXT_WORDS];
};
_Static_assert(sizeof(struct NAME(state)) + 64 + STATE_AT <= BCRYPT_SCRATCH_BYTES, "too small");

#define OF(k) (state->lane[k])

#if CODE != BCRYPT_PLAIN
#define TARGET __attribute__((target("bmi,bmi2")))
/* Keeps the compiler from merging x with other operations and from moving any across this. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x) : : "memory");
#endif

#if CODE == BCRYPT_BMI2
/* Mixes P and the sum into the other half, in this order. */
#define MIX(k, to, sum)                                                                            \
    to ^= OF(k).subkey[ROUND];                                                                     \
    OPAQUE(to)                                                                                     \
    to ^= sum;                                                                                     \
    OPAQUE(to)
/* SHRX takes its count from a register, so 24 is kept in one. x86 uses the low five bits of it. */
#define BEFORE                                                                                     \
    unsigned top = 24;                                                                             \
    OPAQUE(top)
/* The four bytes of `from`, the top one first: SHRX, MOVZX of the half rotated, SHRX of it,
   MOVZX. */
#define ROUND_OF(k, from, to)                                                                      \
    {                                                                                              \
        uint32_t rotated = from << 16 | from >> 16;                                                \
        OPAQUE(rotated)                                                                            \
        uint32_t sum = OF(k).box[0][from >> (top & 31)] + OF(k).box[1][(uint8_t)rotated];          \
        sum ^= OF(k).box[2][rotated >> (top & 31)];                                                \
        sum += OF(k).box[3][(uint8_t)from];                                                        \
        MIX(k, to, sum)                                                                            \
    }
#elif CODE == BCRYPT_BEXTR
/* BEXTR reads from a register which bits to take: the first bit in the low byte, their number in
   the next. SHRX reads its count from the low five bits of a register. No register is left for
   the number 24, but the address of the state ends in these bits: see STATE_AT. */
#define BEFORE                                                                                     \
    unsigned second = 8 << 8 | 16, third = 8 << 8 | 8;                                             \
    OPAQUE(second)                                                                                 \
    OPAQUE(third)
#define AT(k, member) offsetof(struct NAME(state), lane[k].member)
/* In assembly, because compilers add copies of the halves or of the address. */
#define ROUND_OF(k, from, to)                                                                      \
    {                                                                                              \
        uint32_t byte, sum;                                                                        \
        __asm__ volatile(                                                                          \
            "shrx %k[state], %[half], %[byte]\n\t"                                                 \
            "mov %c[box0](%[state], %q[byte], 4), %[sum]\n\t"                                      \
            "bextr %[second], %[half], %[byte]\n\t"                                                \
            "add %c[box1](%[state], %q[byte], 4), %[sum]\n\t"                                      \
            "bextr %[third], %[half], %[byte]\n\t"                                                 \
            "xor %c[box2](%[state], %q[byte], 4), %[sum]\n\t"                                      \
            "movzbl %b[half], %[byte]\n\t"                                                         \
            "add %c[box3](%[state], %q[byte], 4), %[sum]\n\t"                                      \
            "xor %c[subkey](%[state]), %[other]\n\t"                                               \
            "xor %[sum], %[other]"                                                                 \
            : [byte] "=&r"(byte), [sum] "=&r"(sum), [other] "+r"(to)                               \
            : [half] "r"(from), [state] "r"(state), [second] "r"(second), [third] "r"(third),      \
              [box0] "i"(AT(k, box[0])), [box1] "i"(AT(k, box[1])), [box2] "i"(AT(k, box[2])),     \
              [box3] "i"(AT(k, box[3])), [subkey] "i"(AT(k, subkey[ROUND]))                        \
            : "cc", "memory");                                                                     \
    }
#else
#define TARGET
#define BEFORE
#define ROUND_OF(k, from, to)                                                                      \
    to ^=                                                                                          \
        OF(k).subkey[ROUND] ^ (((OF(k).box[0][from >> 24] + OF(k).box[1][(uint8_t)(from >> 16)]) ^ \
                                OF(k).box[2][(uint8_t)(from >> 8)]) +                              \
                               OF(k).box[3][(uint8_t)from]);
#endif

#define HALVES(k) uint32_t left##k = 0, right##k = 0;
#define BEGIN(k) left##k ^= OF(k).subkey[0];
#define ODD(k) ROUND_OF(k, left##k, right##k)
#define EVEN(k) ROUND_OF(k, right##k, left##k)
#define PAIR(n)                                                                                    \
    {                                                                                              \
        enum { ROUND = n };                                                                        \
        EACH(ODD)                                                                                  \
    }                                                                                              \
    {                                                                                              \
        enum { ROUND = n + 1 };                                                                    \
        EACH(EVEN)                                                                                 \
    }
#define FINISH(k)                                                                                  \
    {                                                                                              \
        uint32_t last = right##k ^ OF(k).subkey[17];                                               \
        right##k = left##k;                                                                        \
        left##k = last;                                                                            \
    }
#define ENCIPHER                                                                                   \
    EACH(BEGIN) PAIR(1) PAIR(3) PAIR(5) PAIR(7) PAIR(9) PAIR(11) PAIR(13) PAIR(15) EACH(FINISH)

/* Replaces the state of every lane by the chain of its encipherments. Nearly all time is spent
   here. */
TARGET static void NAME(expand)(struct NAME(state) *state, uint32_t key[LANES][SUBKEYS])
{
    BEFORE
    EACH(HALVES)
    for (int k = 0; k < LANES; k++)
        for (int i = 0; i < SUBKEYS; i++)
            OF(k).subkey[i] ^= key[k][i];
    for (size_t i = 0; i < STATE_WORDS; i += 2) {
        ENCIPHER
#define STORE(k)                                                                                   \
    OF(k).word[i] = left##k;                                                                       \
    OF(k).word[i + 1] = right##k;
        EACH(STORE)
    }
}

/* Enciphers two words of every lane's text, from `at` on, in place. */
TARGET static void NAME(encipher)(struct NAME(state) *state, size_t at)
{
    BEFORE
    EACH(HALVES)
#define TAKE(k)                                                                                    \
    left##k = state->text[k][at];                                                                  \
    right##k = state->text[k][at + 1];
#define GIVE(k)                                                                                    \
    state->text[k][at] = left##k;                                                                  \
    state->text[k][at + 1] = right##k;
    EACH(TAKE)
    ENCIPHER
    EACH(GIVE)
}

/* The first expansion. Only this one mixes in the salt as it runs. The text is zero before. */
static void NAME(expand_salted)(struct NAME(state) *state)
{
    for (int k = 0; k < LANES; k++)
        for (int i = 0; i < SUBKEYS; i++)
            OF(k).subkey[i] ^= state->key[k][i];
    for (size_t i = 0; i < STATE_WORDS; i += 2) {
        for (int k = 0; k < LANES; k++) {
            state->text[k][0] ^= state->salt[k][i & 2];
            state->text[k][1] ^= state->salt[k][(i & 2) + 1];
        }
        NAME(encipher)(state, 0);
        for (int k = 0; k < LANES; k++) {
            OF(k).word[i] = state->text[k][0];
            OF(k).word[i + 1] = state->text[k][1];
        }
    }
}

static void NAME(group)(const struct bcrypt_job *jobs, unsigned cost, void *scratch)
{
    struct NAME(state) *state = scratch;
    for (int k = 0; k < LANES; k++) {
        memcpy(OF(k).word, bcrypt_initial, sizeof OF(k).word);
        bcrypt_key(state->key[k], jobs[k].password, jobs[k].length);
        bcrypt_cycle(state->salt[k], jobs[k].salt, BCRYPT_SALT_BYTES);
        memset(state->text[k], 0, sizeof state->text[k]);
    }
    NAME(expand_salted)(state);
    for (uint64_t i = 0; i < UINT64_C(1) << cost; i++) {
        NAME(expand)(state, state->key);
        NAME(expand)(state, state->salt);
    }
    for (int k = 0; k < LANES; k++)
        memcpy(state->text[k], bcrypt_text, sizeof state->text[k]);
    for (size_t i = 0; i < TEXT_WORDS; i += 2)
        for (int j = 0; j < TEXT_TIMES; j++)
            NAME(encipher)(state, i);
    for (int k = 0; k < LANES; k++)
        bcrypt_digest(jobs[k].digest, state->text[k]);
    bcrypt_wipe(state, sizeof *state);
}

#undef OF
#undef TARGET
#undef OPAQUE
#undef MIX
#undef AT
#undef BEFORE
#undef ROUND_OF
#undef HALVES
#undef BEGIN
#undef ODD
#undef EVEN
#undef PAIR
#undef FINISH
#undef ENCIPHER
#undef STORE
#undef TAKE
#undef GIVE
