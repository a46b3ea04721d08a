"""Frames: an answer comes through whatever noise, or is called garbled; a cut request does nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cluster import agent, frames
from reconciler.cluster.observe import agent_source

NONCE = "0f" * 16
PAYLOAD = json.dumps({"answer": {"text": "é\n=cpt-end= "}}).encode()


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.booleans())), st.binary(), st.binary())
def test_an_answer_survives_noise_before_and_after(value: dict[str, object], before: bytes, after: bytes) -> None:
    payload = json.dumps(value).encode()
    assert frames.decode(before + frames.answer(payload, NONCE) + after, NONCE) == value


def test_an_answer_cut_at_any_byte_is_garbled() -> None:
    whole = frames.answer(PAYLOAD, NONCE)
    for at in range(len(whole)):
        with pytest.raises(frames.Garbled):
            frames.decode(b"banner" + whole[:at], NONCE)


def test_any_changed_byte_is_garbled() -> None:
    whole = bytearray(frames.answer(PAYLOAD, NONCE))
    for at in range(1, len(whole) - 1):  # the line ends around it belong to the noise
        damaged = bytearray(whole)
        damaged[at] ^= 1
        with pytest.raises(frames.Garbled):
            frames.decode(bytes(damaged), NONCE)


@pytest.mark.parametrize(
    "decoy",
    [
        pytest.param(frames.answer(b"{}", "00" * 16), id="another nonce"),
        pytest.param(f"\n=cpt-answer= {NONCE} 999999999 {'0' * 64}\n".encode(), id="a mark with nothing behind it"),
        pytest.param(frames.answer(b"[", NONCE)[:-5], id="a cut answer before the whole one"),
        pytest.param(f"\n=cpt-answer= {NONCE} 2 {'0' * 64}\n{{}}\n=cpt-end= {NONCE}\n".encode(), id="a wrong digest"),
    ],
)
def test_a_decoy_does_not_hide_the_answer(decoy: bytes) -> None:
    assert frames.decode(decoy + frames.answer(b'{"a":1}', NONCE), NONCE) == {"a": 1}


@pytest.mark.parametrize("payload", [b"", b"[1]", b"{", b"null", b"[" * 100_000], ids=repr)
def test_what_is_not_an_object_is_garbled(payload: bytes) -> None:
    with pytest.raises(frames.Garbled):
        frames.decode(frames.answer(payload, NONCE), NONCE)


@given(st.binary(max_size=200))
def test_the_agent_frames_as_frames_does(payload: bytes) -> None:
    assert agent.framed(payload, NONCE) == frames.answer(payload, NONCE)


@pytest.mark.parametrize("cut", [1, 10, 200, len(agent_source()) + 10, -1])
def test_a_request_that_did_not_arrive_whole_is_not_acted_on(cut: int) -> None:
    sent = frames.request(agent_source(), {"operation": "observe", "workspace": "/", "lists": ["x" * 300]}, NONCE)
    stdin = sent.stdin[:cut]
    run = subprocess.run([sys.executable, *sent.argv[1:]], input=stdin, capture_output=True, check=False, timeout=30)
    assert (run.returncode, run.stdout) == (71, b"")


def test_the_boot_text_holds_nothing_that_a_login_shell_expands() -> None:
    assert not set(frames.BOOT) & set("!$`'\"\\\n*?~{}#&|")
