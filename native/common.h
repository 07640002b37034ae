/* What the lanes and the reference share: bytes to words and back, and bcrypt's text. */
#ifndef DEVNEST_BCRYPT_COMMON_H
#define DEVNEST_BCRYPT_COMMON_H

#include <stddef.h>
#include <stdint.h>

enum { SUBKEYS = 18, STATE_WORDS = SUBKEYS + 4 * 256, TEXT_WORDS = 6, TEXT_TIMES = 64 };

extern const uint32_t bcrypt_text[TEXT_WORDS];

/* Fills 18 words from the bytes, big end first, and starts again at the first byte after the
   last. The bytes are unsigned: with a signed char, a byte above 127 overwrites up to three
   before it, as in crypt_blowfish's 2x hashes. */
void bcrypt_cycle(uint32_t words[SUBKEYS], const uint8_t *bytes, size_t length);

/* Makes Blowfish's key from the password: its bytes and one NUL, at most 72 bytes in all. The
   length is a size_t: with 8 bits, as in OpenBSD's 2a, a password of 255 bytes gets the hash of
   an empty one. */
void bcrypt_key(uint32_t words[SUBKEYS], const uint8_t *password, size_t length);

/* Writes the six words as 23 bytes. The 24th byte is not part of a bcrypt hash. */
void bcrypt_digest(uint8_t *digest, const uint32_t text[TEXT_WORDS]);

#endif
