/* bcrypt in LANES lanes of one layout. kernel.c includes this file once for every lane count (1 to 6)
   and layout; it defines LANES, WIDE, NAME and EACH. The only output is NAME(group).

   A round of one hash is a chain: take a byte of one half, load from an S-box, add, xor, add, xor, and the
   other half's bytes depend on it. The chain, not the arithmetic, is the time. So every round is written for
   all lanes before the next round of any; the processor overlaps the chains. Three things keep the
   compiler from spilling: all lanes lie in one block behind one pointer, the halves are plain locals, and the
   loop over P and S is one loop because P lies directly before S.

   Narrow: a state word is 32 bits, a lane 4 KiB. Wide: a word v is kept as v + (v << 40), a lane 8 KiB.
   The upper copy goes through the same additions and xors, for nothing; carries out of the lower copy stay
   in the eight bits between (two additions carry at most once each). Its use is the second byte, which
   in one narrow word takes a shift and a mask: here it is the top byte, one shift. It is on the chain. */

#if WIDE
#define WORD uint64_t
#define SPREAD(v) ((uint64_t)(v) | (uint64_t)(v) << 40)
#define SETTLE(x) ((x) & ~(UINT64_C(255) << 32)) /* drop the carries */
#define BYTE_1(x) ((size_t)((x) >> 56))
#else
#define WORD uint32_t
#define SPREAD(v) (v)
#define SETTLE(x) (x)
#define BYTE_1(x) ((size_t)(uint8_t)((x) >> 16))
#endif
#define BYTE_0(x) ((size_t)((uint32_t)(x) >> 24))
#define BYTE_2(x) ((size_t)(uint8_t)((x) >> 8))
#define BYTE_3(x) ((size_t)(uint8_t)(x))

struct NAME(state) {
    union {
        WORD word[STATE_WORDS];
        struct {
            WORD subkey[SUBKEYS];
            WORD box[4][256];
        };
    } lane[LANES];
    uint32_t key[LANES][SUBKEYS];
    uint32_t salt[LANES][SUBKEYS];
    uint32_t text[LANES][TEXT_WORDS];
};
_Static_assert(sizeof(struct NAME(state)) + 64 <= BCRYPT_SCRATCH_BYTES, "scratch too small");

#define OF(k) (state->lane[k])
#define FEISTEL(k, x)                                                                                             \
    (((OF(k).box[0][BYTE_0(x)] + OF(k).box[1][BYTE_1(x)]) ^ OF(k).box[2][BYTE_2(x)]) + OF(k).box[3][BYTE_3(x)])

#define HALVES(k) WORD left##k = 0, right##k = 0;
#define BEGIN(k) left##k ^= OF(k).subkey[0];
#define ODD(k) right##k ^= OF(k).subkey[ROUND] ^ FEISTEL(k, left##k);
#define EVEN(k) left##k ^= OF(k).subkey[ROUND] ^ FEISTEL(k, right##k);
#define PAIR(n)                                                                                                   \
    {                                                                                                             \
        enum { ROUND = n };                                                                                       \
        EACH(ODD)                                                                                                 \
    }                                                                                                             \
    {                                                                                                             \
        enum { ROUND = n + 1 };                                                                                   \
        EACH(EVEN)                                                                                                \
    }
#define FINISH(k)                                                                                                 \
    {                                                                                                             \
        WORD last = right##k ^ OF(k).subkey[17];                                                                  \
        right##k = left##k;                                                                                       \
        left##k = last;                                                                                           \
    }
#define ENCIPHER EACH(BEGIN) PAIR(1) PAIR(3) PAIR(5) PAIR(7) PAIR(9) PAIR(11) PAIR(13) PAIR(15) EACH(FINISH)

/* The loop all the time goes to: replaces the state of every lane by the chain of its encipherments. */
static void NAME(expand)(struct NAME(state) *state, uint32_t key[LANES][SUBKEYS])
{
    EACH(HALVES)
    for (int k = 0; k < LANES; k++)
        for (int i = 0; i < SUBKEYS; i++)
            OF(k).subkey[i] ^= SPREAD(key[k][i]);
    for (size_t i = 0; i < STATE_WORDS; i += 2) {
        ENCIPHER
#define STORE(k)                                                                                                  \
    OF(k).word[i] = SETTLE(left##k);                                                                              \
    OF(k).word[i + 1] = SETTLE(right##k);
        EACH(STORE)
    }
}

/* Two words of every lane's text from `at` on, enciphered in place. */
static void NAME(encipher)(struct NAME(state) *state, size_t at)
{
    EACH(HALVES)
#define TAKE(k)                                                                                                   \
    left##k = SPREAD(state->text[k][at]);                                                                         \
    right##k = SPREAD(state->text[k][at + 1]);
#define GIVE(k)                                                                                                   \
    state->text[k][at] = (uint32_t)left##k;                                                                       \
    state->text[k][at + 1] = (uint32_t)right##k;
    EACH(TAKE)
    ENCIPHER
    EACH(GIVE)
}

/* The first expansion, the only one to take in the salt while it runs. Text is zero before. */
static void NAME(expand_salted)(struct NAME(state) *state)
{
    for (int k = 0; k < LANES; k++)
        for (int i = 0; i < SUBKEYS; i++)
            OF(k).subkey[i] ^= SPREAD(state->key[k][i]);
    for (size_t i = 0; i < STATE_WORDS; i += 2) {
        for (int k = 0; k < LANES; k++) {
            state->text[k][0] ^= state->salt[k][i & 2];
            state->text[k][1] ^= state->salt[k][(i & 2) + 1];
        }
        NAME(encipher)(state, 0);
        for (int k = 0; k < LANES; k++) {
            OF(k).word[i] = SPREAD(state->text[k][0]);
            OF(k).word[i + 1] = SPREAD(state->text[k][1]);
        }
    }
}

static void NAME(group)(const struct bcrypt_job *jobs, unsigned cost, void *scratch)
{
    struct NAME(state) *state = scratch;
    for (int k = 0; k < LANES; k++) {
        for (int i = 0; i < STATE_WORDS; i++)
            OF(k).word[i] = SPREAD(bcrypt_initial[i]);
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

#undef WORD
#undef SPREAD
#undef SETTLE
#undef BYTE_0
#undef BYTE_1
#undef BYTE_2
#undef BYTE_3
#undef OF
#undef FEISTEL
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
