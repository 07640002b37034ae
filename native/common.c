#include "common.h"

#include <string.h>

#include "bcrypt.h"

/* "OrpheanBeholderScryDoubt" */
const uint32_t bcrypt_text[TEXT_WORDS] = {0x4f727068, 0x65616e42, 0x65686f6c,
                                          0x64657253, 0x63727944, 0x6f756274};

void bcrypt_cycle(uint32_t words[SUBKEYS], const uint8_t *bytes, size_t length)
{
    size_t next = 0;
    for (int i = 0; i < SUBKEYS; i++) {
        uint32_t word = 0;
        for (int j = 0; j < 4; j++) {
            word = word << 8 | bytes[next];
            next = next + 1 == length ? 0 : next + 1;
        }
        words[i] = word;
    }
}

void bcrypt_key(uint32_t words[SUBKEYS], const uint8_t *password, size_t length)
{
    uint8_t key[BCRYPT_PASSWORD_MAX] = {0};
    size_t used = length < BCRYPT_PASSWORD_MAX ? length : BCRYPT_PASSWORD_MAX;
    if (used) /* memcpy must not get a null pointer, even for no bytes */
        memcpy(key, password, used);
    bcrypt_cycle(words, key, used < BCRYPT_PASSWORD_MAX ? used + 1 : used);
    bcrypt_wipe(key, sizeof key);
}

void bcrypt_digest(uint8_t *digest, const uint32_t text[TEXT_WORDS])
{
    for (int i = 0; i < BCRYPT_DIGEST_BYTES; i++)
        digest[i] = (uint8_t)(text[i / 4] >> (24 - i % 4 * 8));
}

void bcrypt_wipe(void *memory, size_t size)
{
    /* The compiler cannot know what a volatile pointer points to, so it has to make the call. */
    static void *(*const volatile fill)(void *, int, size_t) = memset;
    fill(memory, 0, size);
}
