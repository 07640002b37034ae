/* bcrypt, one hash at a time, as in its paper (Provos and Mazieres, "A Future-Adaptable Password
   Scheme", USENIX 1999). Only the tests use this file: they compare the lanes with it. */
#include <string.h>

#include "bcrypt.h"
#include "common.h"

#include "initial.h"

struct blowfish {
    uint32_t subkey[SUBKEYS];
    uint32_t box[4][256];
};

static uint32_t feistel(const struct blowfish *state, uint32_t half)
{
    uint32_t sum = state->box[0][half >> 24] + state->box[1][half >> 16 & 255];
    return (sum ^ state->box[2][half >> 8 & 255]) + state->box[3][half & 255];
}

static void encipher(const struct blowfish *state, uint32_t block[2])
{
    uint32_t left = block[0], right = block[1];
    for (int round = 0; round < 16; round++) {
        left ^= state->subkey[round];
        right ^= feistel(state, left);
        uint32_t other = left;
        left = right;
        right = other;
    }
    block[0] = right ^ state->subkey[17];
    block[1] = left ^ state->subkey[16];
}

/* Blowfish's key schedule with a salt. Mixes the key into the subkeys. Then replaces the whole
   state, two words at a time, by a chain of encipherments, and mixes two words of the salt into
   each block. */
static void expand(struct blowfish *state, const uint32_t key[SUBKEYS], const uint32_t salt[4])
{
    uint32_t block[2] = {0, 0};
    int turn = 0;
    for (int i = 0; i < SUBKEYS; i++)
        state->subkey[i] ^= key[i];
    for (int i = 0; i < STATE_WORDS; i += 2, turn ^= 2) {
        block[0] ^= salt[turn];
        block[1] ^= salt[turn + 1];
        encipher(state, block);
        uint32_t *to =
            i < SUBKEYS ? &state->subkey[i] : &state->box[(i - SUBKEYS) / 256][(i - SUBKEYS) % 256];
        to[0] = block[0];
        to[1] = block[1];
    }
}

void bcrypt_reference(const struct bcrypt_job *job, unsigned cost)
{
    static const uint32_t no_salt[4] = {0};
    struct blowfish state;
    uint32_t key[SUBKEYS], salt[SUBKEYS], text[TEXT_WORDS];

    memcpy(state.subkey, bcrypt_initial, sizeof state.subkey);
    memcpy(state.box, bcrypt_initial + SUBKEYS, sizeof state.box);
    bcrypt_key(key, job->password, job->length);
    bcrypt_cycle(salt, job->salt, BCRYPT_SALT_BYTES);

    expand(&state, key, salt);
    for (uint64_t i = 0; i < UINT64_C(1) << cost; i++) {
        expand(&state, key, no_salt);
        expand(&state, salt, no_salt);
    }
    memcpy(text, bcrypt_text, sizeof text);
    for (int i = 0; i < TEXT_WORDS; i += 2)
        for (int j = 0; j < TEXT_TIMES; j++)
            encipher(&state, text + i);
    bcrypt_digest(job->digest, text);

    bcrypt_wipe(&state, sizeof state);
    bcrypt_wipe(key, sizeof key);
}
