/* The tests of the kernel without Python: test VECTORS [MAX_COST].

   Every published vector up to MAX_COST goes through the reference, and through every number of
   lanes and every version of the code that this CPU can run, in every position, beside other
   passwords and salts. Random input is compared with the reference. Two known bugs of other
   bcrypts have tests. Every run checks that the scratch memory is zero again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bcrypt.h"

enum { VECTORS_MAX = 128, PASSWORD_ROOM = 300, GUARD = 0xa5 };

struct vector {
    uint8_t password[PASSWORD_ROOM], salt[BCRYPT_SALT_BYTES], digest[BCRYPT_DIGEST_BYTES];
    size_t length;
    unsigned cost;
};

static const char *const code_names[] = BCRYPT_CODE_NAMES;
static struct vector vectors[VECTORS_MAX];
static int vector_count, failures, checks;
static uint8_t scratch[BCRYPT_SCRATCH_BYTES + 1];

static void check(int right, const char *what, unsigned lanes, unsigned code, unsigned lane)
{
    checks++;
    if (right)
        return;
    failures++;
    fprintf(stderr, "wrong: %s, %u lanes, %s, lane %u\n", what, lanes, code_names[code], lane);
}

/* Decodes bcrypt's base64, which has its own alphabet and no padding. */
static void unbase64(uint8_t *to, size_t size, const char *text)
{
    static const char alphabet[] =
        "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    uint32_t bits = 0;
    int held = 0;
    while (size) {
        bits = bits << 6 | (uint32_t)(strchr(alphabet, *text++) - alphabet);
        held += 6;
        if (held >= 8) {
            held -= 8;
            *to++ = (uint8_t)(bits >> held);
            size--;
        }
    }
}

static void load(const char *path)
{
    char line[1024], hex[2 * PASSWORD_ROOM], hash[64];
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        exit(2);
    }
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#' || vector_count == VECTORS_MAX ||
            sscanf(line, "%*s %599s %63s", hex, hash) != 2)
            continue;
        struct vector *v = &vectors[vector_count++];
        for (const char *at = hex; *at != '-' && *at; at += 2) {
            unsigned byte = 0;
            sscanf(at, "%2x", &byte);
            v->password[v->length++] = (uint8_t)byte;
        }
        v->cost = (unsigned)strtoul(hash + 4, NULL, 10);
        unbase64(v->salt, sizeof v->salt, hash + 7);
        unbase64(v->digest, sizeof v->digest, hash + 29);
    }
    fclose(file);
}

/* Runs one group with the given vectors as its lanes. Checks every digest, the byte behind it,
   and the scratch memory, which starts at an odd address to test the alignment. */
static void run(struct vector *const *lane, unsigned lanes, unsigned code, const char *what)
{
    uint8_t digests[BCRYPT_LANES_MAX][BCRYPT_DIGEST_BYTES + 1];
    struct bcrypt_job jobs[BCRYPT_LANES_MAX] = {{0}};
    memset(digests, GUARD, sizeof digests);
    memset(scratch, 0, sizeof scratch);
    for (unsigned k = 0; k < lanes; k++)
        jobs[k] =
            (struct bcrypt_job){lane[k]->password, lane[k]->length, lane[k]->salt, digests[k]};
    bcrypt_group(jobs, lanes, lane[0]->cost, code, scratch + 1);
    for (unsigned k = 0; k < lanes; k++) {
        check(!memcmp(digests[k], lane[k]->digest, BCRYPT_DIGEST_BYTES), what, lanes, code, k);
        check(digests[k][BCRYPT_DIGEST_BYTES] == GUARD, "bytes behind the digest", lanes, code, k);
    }
    size_t left = 0;
    for (size_t i = 0; i < sizeof scratch; i++)
        left += scratch[i] != 0;
    check(left == 0, "scratch not wiped", lanes, code, 0);
}

static void run_every_shape(struct vector *const *lane, const char *what)
{
    for (unsigned lanes = 1; lanes <= BCRYPT_LANES_MAX; lanes++)
        for (unsigned code = 0; code < bcrypt_codes(); code++)
            run(lane, lanes, code, what);
}

/* Moves a window over the vectors of one cost, so each is in every position of every width once. */
static void test_published(unsigned max_cost)
{
    for (unsigned cost = BCRYPT_COST_MIN; cost <= max_cost; cost++) {
        struct vector *same[VECTORS_MAX], *lane[BCRYPT_LANES_MAX];
        int count = 0;
        for (int i = 0; i < vector_count; i++)
            if (vectors[i].cost == cost)
                same[count++] = &vectors[i];
        for (int i = 0; i < count; i++) {
            uint8_t digest[BCRYPT_DIGEST_BYTES];
            struct bcrypt_job job = {same[i]->password, same[i]->length, same[i]->salt, digest};
            bcrypt_reference(&job, cost);
            check(!memcmp(digest, same[i]->digest, sizeof digest), "reference", 1, BCRYPT_PLAIN, 0);
            for (int k = 0; k < BCRYPT_LANES_MAX; k++)
                lane[k] = same[(i + k) % count];
            run_every_shape(lane, "published vector");
        }
    }
}

static uint32_t random_word(void)
{
    static uint32_t state = 2463534242u; /* xorshift32: every run gets the same input */
    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
}

static void answer(struct vector *v)
{
    struct bcrypt_job job = {v->password, v->length, v->salt, v->digest};
    bcrypt_reference(&job, v->cost);
}

static void test_random(int groups)
{
    static struct vector made[BCRYPT_LANES_MAX];
    struct vector *lane[BCRYPT_LANES_MAX];
    while (groups--) {
        unsigned cost = BCRYPT_COST_MIN + random_word() % 2;
        for (int k = 0; k < BCRYPT_LANES_MAX; k++) {
            struct vector *v = lane[k] = &made[k];
            v->cost = cost;
            v->length = random_word() % 80;
            for (size_t i = 0; i < v->length; i++)
                v->password[i] = (uint8_t)random_word();
            for (int i = 0; i < BCRYPT_SALT_BYTES; i++)
                v->salt[i] = (uint8_t)random_word();
            answer(v);
        }
        run_every_shape(lane, "random input");
    }
}

/* OpenBSD counted a password's bytes in 8 bits until 2014: one of 255 and its NUL counted as
   empty. */
static void test_length_does_not_wrap_around(void)
{
    static struct vector made[BCRYPT_LANES_MAX];
    static const size_t lengths[BCRYPT_LANES_MAX] = {72, 255, 256, 257, 73, 0, 74, 128};
    struct vector *lane[BCRYPT_LANES_MAX];
    for (int k = 0; k < BCRYPT_LANES_MAX; k++) {
        lane[k] = &made[k];
        made[k].cost = BCRYPT_COST_MIN;
        made[k].length = lengths[k];
        memset(made[k].password, 'x', lengths[k]);
        answer(&made[k]);
        int same = !memcmp(made[k].digest, made[0].digest, BCRYPT_DIGEST_BYTES);
        check(same == (lengths[k] != 0), "only the first 72 bytes count", 1, BCRYPT_PLAIN, 0);
    }
    run_every_shape(lane, "long password");
}

/* crypt_blowfish read the password through a signed char until 2011: a byte above 127 overwrote
   up to three before it. Its 2x vector for "\xa3" is the right answer for "\xff\xff\xa3", and
   wrong for "\xa3". */
static void test_bytes_are_not_sign_extended(void)
{
    static struct vector made[2] = {{.password = "\xa3", .length = 1, .cost = 5},
                                    {.password = "\xff\xff\xa3", .length = 3, .cost = 5}};
    struct vector *lane[BCRYPT_LANES_MAX] = {&made[0], &made[1], &made[0], &made[1],
                                             &made[1], &made[0], &made[1], &made[0]};
    uint8_t buggy[BCRYPT_DIGEST_BYTES];
    unbase64(buggy, sizeof buggy, "CE5elHaaO4EbggVDjb8P19RukzXSM3e");
    for (int i = 0; i < 2; i++) {
        unbase64(made[i].salt, BCRYPT_SALT_BYTES, "/OK.fbVrR/bpIqNJ5ianF.");
        answer(&made[i]);
        check((memcmp(made[i].digest, buggy, sizeof buggy) == 0) == i, "sign extension", 1,
              BCRYPT_PLAIN, 0);
    }
    run_every_shape(lane, "sign extension");
}

int main(int count, char **arguments)
{
    if (count < 2) {
        fputs("usage: test VECTORS [MAX_COST]\n", stderr);
        return 2;
    }
    load(arguments[1]);
    test_published(count > 2 ? (unsigned)atoi(arguments[2]) : 10);
    test_random(8);
    test_length_does_not_wrap_around();
    test_bytes_are_not_sign_extended();
    printf("%d vectors, %d checks, %d wrong\n", vector_count, checks, failures);
    return failures || !vector_count;
}
