/* What the lanes and the reference share: words out of bytes, and the two constants of bcrypt. */
#ifndef DEVNEST_BCRYPT_COMMON_H
#define DEVNEST_BCRYPT_COMMON_H

#include <stddef.h>
#include <stdint.h>

enum { SUBKEYS = 18, STATE_WORDS = SUBKEYS + 4 * 256, TEXT_WORDS = 6, TEXT_TIMES = 64 };

extern const uint32_t bcrypt_text[TEXT_WORDS];

/* Words 0 to 17 of a cycle of bytes, big end first. Bytes are unsigned: with a signed char here,
   crypt_blowfish's 2x hashes lost up to three characters before one above 127. */
void bcrypt_cycle(uint32_t words[SUBKEYS], const uint8_t *bytes, size_t length);

/* The password as Blowfish's key: its bytes and one NUL, cut at 72. The length is a size_t: an 8-bit
   one made OpenBSD's 2a hash a password of 255 bytes like an empty one. */
void bcrypt_key(uint32_t words[SUBKEYS], const uint8_t *password, size_t length);

/* Six words to the digest's 23 bytes: the 24th was never part of a bcrypt hash. */
void bcrypt_digest(uint8_t *digest, const uint32_t text[TEXT_WORDS]);

#endif
