/* bcrypt in LANES lanes. kernel.c includes this file once for every lane count (1 to 6), on x86-64 for every
   code; it defines LANES, CODE, NAME and EACH. The only output is NAME(group).

   A round of one hash is a chain: take a byte of one half, load from an S-box, add, xor, add, xor, and the
   other half's bytes depend on it. The chain, not the arithmetic, is the time of one hash. So every round is
   written for all lanes before the next round of any; the processor overlaps the chains. Four lanes on, the
   time is the number of instructions. Three things keep the compiler from adding any: all lanes lie in one
   block behind one pointer, the halves are plain locals, and the loop over P and S is one loop because P
   lies directly before S.

   BMI2 has shifts and rotations that write another register than they read, so no copy is needed before
   one. Eleven instructions are left for a round, and the compiler has to be kept at them: docs/explanation/lanes.md.
   BMI1's BEXTR takes a byte from anywhere, in one step on AMD and in two on Intel: ten are left. */

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
/* A value the compiler must take as it comes: nothing is folded into it, nothing moved across. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x) : : "memory");
#endif

#if CODE == BCRYPT_BMI2
/* Into the other half, in this order. */
#define MIX(k, to, sum)                                                                            \
    to ^= OF(k).subkey[ROUND];                                                                     \
    OPAQUE(to)                                                                                     \
    to ^= sum;                                                                                     \
    OPAQUE(to)
/* 24 in a register, since SHRX takes no constant, and a number only x86 masks to its low five bits. */
#define BEFORE                                                                                     \
    unsigned top = 24;                                                                             \
    OPAQUE(top)
/* Its bytes from the top: by SHRX; by MOVZX of the rotated half; by SHRX of it; by MOVZX. */
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
/* What BEXTR takes out, in a register: the first bit, and how many in the second byte. SHRX too has its count in a
   register, of which it reads five bits, and none is left for a 24. But the state's own address ends in those bits:
   STATE_AT. */
#define BEFORE                                                                                     \
    unsigned second = 8 << 8 | 16, third = 8 << 8 | 8;                                             \
    OPAQUE(second)                                                                                 \
    OPAQUE(third)
#define AT(k, member) offsetof(struct NAME(state), lane[k].member)
/* Written out: left to choose, a compiler copies the halves or the address. */
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

/* The loop all the time goes to: replaces the state of every lane by the chain of its encipherments. */
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

/* Two words of every lane's text from `at` on, enciphered in place. */
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

/* The first expansion, the only one to take in the salt while it runs. Text is zero before. */
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
