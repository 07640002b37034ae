"""The file of signing keys: made, rotated, and refused where it is damaged."""

import asyncio
import json
import os
import stat
import threading
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from devnest.cluster.keywatch import KeyWatch
from devnest.keys import (
    KEYS_FILE,
    MAX_KEYS,
    VERIFY_OVERLAP_S,
    Algorithm,
    KeySet,
    KeysUnusable,
    ensure_keys,
    load_keys,
    rotate_keys,
)

NOW = time.time


def test_it_is_made_once_and_private(tmp_path: Path) -> None:
    """The same key for ever, readable by the owner only, whatever the umask."""
    umask = os.umask(0)
    try:
        path = ensure_keys(tmp_path)
    finally:
        os.umask(umask)
    content = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ensure_keys(tmp_path).read_bytes() == content
    rotate_keys(tmp_path, delay_s=0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == [KEYS_FILE]


def test_an_old_key_file_is_taken_over(tmp_path: Path) -> None:
    """Its key goes on, byte for byte, for tokens that name no key too."""
    secret = b" \n" + b"k" * 44 + b" \n"
    (tmp_path / "signing.key").write_bytes(secret)
    keys = load_keys(ensure_keys(tmp_path))
    unnamed = keys.verifier(None, NOW())
    assert unnamed is keys.signer(NOW())
    assert unnamed.verifying == secret
    assert not (tmp_path / "signing.key").exists()
    rotate_keys(tmp_path, delay_s=0)
    rotated = load_keys(tmp_path / KEYS_FILE)
    still = rotated.verifier(None, NOW())
    assert still is not None
    assert still.verifying == secret
    assert rotated.verifier(None, NOW() + VERIFY_OVERLAP_S + 1) is None


def test_a_given_key_has_one_name_everywhere(tmp_path: Path) -> None:
    """Machines that share the bytes share the name; it is no part of the key."""
    (tmp_path / "a").write_bytes(b"{" + b"k" * 40 + b"\n")
    (tmp_path / "b").write_bytes(b"{" + b"k" * 40)
    one, two = (load_keys(tmp_path / name).signer(NOW()) for name in "ab")
    assert one.key == two.key
    assert one.key.algorithm is Algorithm.HS256
    assert "kkk" not in repr(one) + repr(one.key)


def test_a_new_key_signs_after_its_delay_and_the_old_one_verifies_on(tmp_path: Path) -> None:
    """So every server knows a key before it sees a token of it."""
    first = load_keys(ensure_keys(tmp_path)).signer(NOW()).key
    new = rotate_keys(tmp_path, delay_s=60)
    keys, now = load_keys(tmp_path / KEYS_FILE), NOW()
    assert keys.signer(now).key == first
    assert keys.verifier(new.kid, now) is not None
    assert keys.signer(now + 61).key == new
    assert keys.verifier(first.kid, now + 61 + VERIFY_OVERLAP_S - 5) is not None
    assert keys.verifier(first.kid, now + 61 + VERIFY_OVERLAP_S) is None
    assert [ready.key for ready in keys.alive(now + 61 + VERIFY_OVERLAP_S)] == [new]


def test_a_rotation_drops_what_has_expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And never more; there is a bound to how many are kept."""
    ensure_keys(tmp_path)
    for _ in range(MAX_KEYS - 1):
        rotate_keys(tmp_path, delay_s=0)
    before = (tmp_path / KEYS_FILE).read_bytes()
    with pytest.raises(KeysUnusable, match="16 keys are in use"):
        rotate_keys(tmp_path, delay_s=0)
    assert (tmp_path / KEYS_FILE).read_bytes() == before
    later = time.time() + VERIFY_OVERLAP_S + 1
    monkeypatch.setattr("devnest.keys.time.time", lambda: later)
    rotate_keys(tmp_path, delay_s=0)
    assert len(load_keys(tmp_path / KEYS_FILE).alive(later)) == 2
    rotate_keys(tmp_path, delay_s=3600, discard_old=True)
    (only,) = load_keys(tmp_path / KEYS_FILE).alive(later)
    assert load_keys(tmp_path / KEYS_FILE).signer(later).key == only.key


def test_rotations_at_once_lose_no_key(tmp_path: Path) -> None:
    """One writer at a time."""
    ensure_keys(tmp_path)
    threads = [
        threading.Thread(target=rotate_keys, args=(tmp_path,), kwargs={"delay_s": 0})
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(load_keys(tmp_path / KEYS_FILE).alive(NOW())) == 9


def test_public_keys_are_public(tmp_path: Path) -> None:
    """Ed25519 alone, and no secret in any form; the algorithm stays at the next rotation."""
    ensure_keys(tmp_path)
    assert load_keys(tmp_path / KEYS_FILE).public(NOW()) == []
    for algorithm in (Algorithm.EDDSA, None):
        rotate_keys(tmp_path, algorithm, delay_s=0)
    public = load_keys(tmp_path / KEYS_FILE).public(NOW())
    assert [set(key) for key in public] == [{"kty", "crv", "use", "alg", "kid", "x"}] * 2
    stored = json.loads((tmp_path / KEYS_FILE).read_bytes())["keys"]
    assert [key["algorithm"] for key in stored] == ["HS256", "EdDSA", "EdDSA"]
    for key in stored:
        assert key["secret"].rstrip("=") not in json.dumps(public).replace("-", "+").replace(
            "_", "/"
        )


def test_keys_that_this_process_cannot_sign_with_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyJWT looks for cryptography when it is loaded: what is installed later is there after a
    restart.
    """
    rotate_keys(tmp_path, Algorithm.EDDSA, delay_s=0)
    monkeypatch.setattr(jwt.algorithms, "has_crypto", False)
    with pytest.raises(KeysUnusable, match="HUP"):
        load_keys(tmp_path / KEYS_FILE)


GOOD = {
    "kid": "a",
    "algorithm": "HS256",
    "secret": "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=",
    "signs_from": 0,
}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"),
        (b"\0" * 4096, "damaged"),
        (b"k" * 48, "damaged"),
        (b'{"keys":', "damaged"),
        (b'{"keys":[]}', "damaged"),
        (b'{"keys":[\xff]}', "damaged"),
        (json.dumps({"keys": [{**GOOD, "secret": "a2s="}]}), "damaged"),
        (json.dumps({"keys": [{**GOOD, "kid": "../x"}]}), "damaged"),
        (json.dumps({"keys": [{**GOOD, "algorithm": "none"}]}), "damaged"),
        (json.dumps({"keys": [GOOD, GOOD]}), "the same name"),
        (json.dumps({"keys": [{**GOOD, "algorithm": "EdDSA", "secret": "a" * 64}]}), "32 bytes"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes | str, reason: str) -> None:
    """With the reason, and nothing of what is in it."""
    text = content.encode() if isinstance(content, str) else content
    (tmp_path / KEYS_FILE).write_bytes(text)
    with pytest.raises(KeysUnusable, match=reason) as caught:
        ensure_keys(tmp_path)
    assert "a2" not in str(caught.value)
    assert (tmp_path / KEYS_FILE).read_bytes() == text


@pytest.mark.parametrize(
    ("content", "reason"), [(b"short\n", "has 5 bytes"), (b'{"keys":[', "damaged")]
)
def test_a_given_file_that_was_cut_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """A short key could be guessed."""
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(KeysUnusable, match=reason):
        load_keys(tmp_path / "key")


@pytest.mark.parametrize("kind", ["PEM", "DER", "OpenSSH", "JWK"])
def test_a_given_key_pair_is_refused(tmp_path: Path, kind: str) -> None:
    """What is meant for others to read signs no tokens.

    Who takes it for a secret learns it at the start.
    """
    public = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    content = {
        "PEM": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "OpenSSH": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "JWK": json.dumps(
            {"kty": "oct", "k": "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA"}
        ).encode(),
    }
    (tmp_path / "key").write_bytes(content[kind])
    with pytest.raises(KeysUnusable, match="a secret is needed"):
        load_keys(tmp_path / "key")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """One error with the path."""
    with pytest.raises(KeysUnusable, match="nowhere"):
        rotate_keys(tmp_path / "nowhere", delay_s=0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others")
def test_the_file_s_owner_stays(tmp_path: Path) -> None:
    """An operator who is root does not take the keys from the servers."""
    path = ensure_keys(tmp_path)
    os.chown(path, 12345, 12345)
    rotate_keys(tmp_path, delay_s=0)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)


async def test_a_changed_file_is_taken_up_and_a_damaged_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """While a server runs; one line in the log for each change, none of which holds a key."""
    monkeypatch.setattr("devnest.cluster.keywatch.POLL_INTERVAL_S", 0.001)
    path = ensure_keys(tmp_path)
    taken: asyncio.Queue[KeySet] = asyncio.Queue()
    async with KeyWatch(path, taken.put_nowait):
        assert (await taken.get()).signer(NOW())
        new = rotate_keys(tmp_path, delay_s=0)
        assert (await taken.get()).verifier(new.kid, NOW())
        good = path.read_bytes()
        path.write_bytes(b"damaged")
        seen = ""
        while "signing keys not read" not in seen:
            await asyncio.sleep(0.001)
            told = capfd.readouterr()
            seen += told.out + told.err
        path.unlink()
        path.write_bytes(good)
        assert (await taken.get()).verifier(new.kid, NOW())
        assert taken.empty()
